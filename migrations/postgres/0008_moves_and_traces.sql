-- A copy of another installation that is made in this database, or was: which one, and how far each table is. No host
-- starts before it is finished.

create table store_moves (
  id          uuid primary key,
  key_check   text not null,                       -- the check value of the key of the installation that is copied
  fingerprint text collate "C" not null,           -- of its file: it may not change while it is copied
  started_at  timestamptz not null,
  finished_at timestamptz
);

create table store_move_tables (
  table_name text collate "C" primary key,
  last_key   json,                                 -- of the last row that is here; null before the first
  copied     bigint not null default 0,            -- rows
  is_whole   boolean not null default false
);

-- Which trace an event or a send belongs to (W3C traceparent), when somebody looks at it.

alter table inbound_log add column trace text collate "C";
alter table outbox add column trace text collate "C";
