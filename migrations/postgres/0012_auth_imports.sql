-- Auth state that was taken over from other programs: what came, from where, and the way back.

create table auth_imports (
  id                   uuid primary key,
  instance_id          uuid not null references instances (id) on delete cascade,
  snapshot             text collate "C" not null,  -- SHA-256 of what was handed in: the same twice changes nothing
  source               text collate "C" not null,  -- which program it came from
  used                 json not null default '[]', -- which of its stores, and what for
  report               json not null,              -- what the channel said of it
  snapshot_key         bytea,                      -- sealed: the key of the copy in auth-snapshots/; null once that is deleted
  snapshot_bytes       bigint not null,
  state_version_before bigint not null,            -- of what the instance kept before
  created_at           timestamptz not null,
  cutover_at           timestamptz,                -- when it first connected with it
  undone_at            timestamptz
);
create index auth_imports_instance on auth_imports (instance_id, created_at);

-- What an instance kept before the newest of its imports, usually nothing.
create table auth_import_entries (
  instance_id uuid not null references instances (id) on delete cascade,
  key         text collate "C" not null,
  plugin_id   text collate "C" not null,
  value       bytea not null,                      -- sealed
  primary key (instance_id, key)
);
