-- A proxy of an instance's own, for whatever the host connects to on behalf of it.

alter table instances add column proxy bytea;                                  -- sealed: its address may hold a password
alter table instances add column proxy_granted boolean not null default false; -- the operator pointed it at a private address
