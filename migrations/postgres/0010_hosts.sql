-- Hosts that share this database, and what each of them has taken over: an instance, or the work that one of them does
-- for all. Times are the server's, so that no host's clock matters.

create table hosts (
  id         uuid primary key,
  session_id uuid not null,                        -- of this run of it: another one is another host
  name       text collate "C" not null,
  version    text collate "C" not null,
  channels   json not null default '[]',           -- the ids of those that it has plugins for
  started_at timestamptz not null,
  seen_at    timestamptz not null,
  is_leaving boolean not null default false
);

create table leases (
  name     text collate "C" primary key,           -- 'work', or 'instance:' and its id
  host_id  uuid not null references hosts (id) on delete cascade,
  taken_at timestamptz not null
);
create index leases_host on leases (host_id);

-- Rises whenever accounts get other persons, so that whoever remembers which person an account has looks again.
create sequence people_moved;

-- How every transaction of a host begins that writes: it waits for its turn, so that hosts write one after another, and
-- is refused when the host was taken over in the meantime.
create function omni_turn(host uuid, run uuid) returns void language plpgsql as $$
begin
  perform pg_advisory_xact_lock(1869442665, 2);
  if not exists (select from hosts where id = host and session_id = run) then
    raise exception 'host % was taken over', host using errcode = 'OM001';
  end if;
end $$;

-- The same for what one host alone writes and reads, beside which others may write: only a takeover waits for it.
create function omni_own(host uuid, run uuid) returns void language plpgsql as $$
begin
  perform pg_advisory_xact_lock_shared(1869442665, 3);
  if not exists (select from hosts where id = host and session_id = run) then
    raise exception 'host % was taken over', host using errcode = 'OM001';
  end if;
end $$;
