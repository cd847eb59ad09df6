-- A copy of another installation: which one, and how far it is. Copies are made in Postgres only, so here it is empty.

create table store_moves (
  id          blob primary key not null,
  key_check   text not null,                       -- the check value of the key of the installation that is copied
  fingerprint text not null,                       -- of its file: it may not change while it is copied
  started_at  integer not null,
  finished_at integer
);

create table store_move_tables (
  table_name text primary key not null,
  last_key   text,                                 -- of the last row that is here; null before the first
  copied     integer not null default 0,           -- rows
  is_whole   integer not null default 0
) without rowid;

-- Which trace an event or a send belongs to (W3C traceparent), when somebody looks at it.

alter table inbound_log add column trace text;
alter table outbox add column trace text;
