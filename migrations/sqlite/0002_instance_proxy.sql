-- A proxy of an instance's own, for whatever the host connects to on behalf of it.

alter table instances add column proxy blob;                              -- sealed: its address may hold a password
alter table instances add column proxy_granted integer not null default 0; -- the operator pointed it at a private address
