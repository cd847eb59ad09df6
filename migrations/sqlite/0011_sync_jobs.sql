-- Older or missed messages that are fetched from a network: what was asked for, and how far it is. It goes on after a death.

create table sync_jobs (
  id            blob primary key not null,
  instance_id   blob not null references instances (id) on delete cascade,
  channel       text not null,
  type          text not null,                     -- messages: older ones; missed: those behind the newest that is stored
  status        text not null default 'pending',   -- pending | running | completed | failed | cancelled
  config        text not null default '{}',        -- what was asked for, and once it runs, in which chats and from where
  progress      text not null default '{}',        -- up to where it has come, and what it counted
  error_message text,
  created_at    integer not null,
  started_at    integer,
  completed_at  integer
);
create index sync_jobs_instance on sync_jobs (instance_id, created_at);
create index sync_jobs_status on sync_jobs (status);
