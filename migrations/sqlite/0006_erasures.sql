-- People who are or were erased, and how far that is: it goes on after a death.

create table erasures (
  id           blob primary key not null,
  person_id    blob not null unique,
  accounts     text not null,                      -- theirs, as JSON; empty again once nothing is left to look for
  stage        text not null,
  after_id     blob not null,                      -- up to where the stage has looked, by id or by number
  after_seq    integer not null,
  until_id     blob not null,                      -- what is newer is not theirs
  until_seq    integer not null,
  until_log    integer not null,
  messages     integer not null default 0,         -- emptied
  events       integer not null default 0,
  files        integer not null default 0,
  requested_by text,
  requested_at integer not null,
  completed_at integer
);
create index erasures_running on erasures (id) where completed_at is null;
