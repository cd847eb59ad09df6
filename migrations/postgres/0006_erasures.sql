-- People who are or were erased, and how far that is: it goes on after a death.

create table erasures (
  id           uuid primary key,
  person_id    uuid not null unique,
  accounts     json not null,                      -- theirs, as JSON; empty again once nothing is left to look for
  stage        text collate "C" not null,
  after_id     uuid not null,                      -- up to where the stage has looked, by id or by number
  after_seq    bigint not null,
  until_id     uuid not null,                      -- what is newer is not theirs
  until_seq    bigint not null,
  until_log    bigint not null,
  messages     bigint not null default 0,         -- emptied
  events       bigint not null default 0,
  files        bigint not null default 0,
  requested_by text,
  requested_at timestamptz not null,
  completed_at timestamptz
);
create index erasures_running on erasures (id) where completed_at is null;
