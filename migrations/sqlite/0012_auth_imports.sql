-- Auth state that was taken over from other programs: what came, from where, and the way back.

create table auth_imports (
  id                   blob primary key not null,
  instance_id          blob not null references instances (id) on delete cascade,
  snapshot             text not null,              -- SHA-256 of what was handed in: the same twice changes nothing
  source               text not null,              -- which program it came from
  used                 text not null default '[]', -- which of its stores, and what for
  report               text not null,              -- what the channel said of it
  snapshot_key         blob,                       -- sealed: the key of the copy in auth-snapshots/; null once that is deleted
  snapshot_bytes       integer not null,
  state_version_before integer not null,           -- of what the instance kept before
  created_at           integer not null,
  cutover_at           integer,                    -- when it first connected with it
  undone_at            integer
);
create index auth_imports_instance on auth_imports (instance_id, created_at);

-- What an instance kept before the newest of its imports, usually nothing.
create table auth_import_entries (
  instance_id blob not null references instances (id) on delete cascade,
  key         text not null,
  plugin_id   text not null,
  value       blob not null,                       -- sealed
  primary key (instance_id, key)
) without rowid;
