-- Older or missed messages that are fetched from a network: what was asked for, and how far it is. It goes on after a death.

create table sync_jobs (
  id            uuid primary key,
  instance_id   uuid not null references instances (id) on delete cascade,
  channel       text collate "C" not null,
  type          text collate "C" not null,         -- messages: older ones; missed: those behind the newest that is stored
  status        text collate "C" not null default 'pending',  -- pending | running | completed | failed | cancelled
  config        json not null default '{}',        -- what was asked for, and once it runs, in which chats and from where
  progress      json not null default '{}',        -- up to where it has come, and what it counted
  error_message text,
  created_at    timestamptz not null,
  started_at    timestamptz,
  completed_at  timestamptz
);
create index sync_jobs_instance on sync_jobs (instance_id, created_at);
create index sync_jobs_status on sync_jobs (status);
