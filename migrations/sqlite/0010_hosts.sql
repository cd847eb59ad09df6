-- Hosts that share a database, and what each of them has taken over. A file has one host, so here they are empty.

create table hosts (
  id         blob primary key not null,
  session_id blob not null,
  name       text not null,
  version    text not null,
  channels   text not null default '[]',
  started_at integer not null,
  seen_at    integer not null,
  is_leaving integer not null default 0
);

create table leases (
  name     text primary key not null,
  host_id  blob not null references hosts (id) on delete cascade,
  taken_at integer not null
) without rowid;
create index leases_host on leases (host_id);
