-- A send whose outcome nobody could tell: a message of ours with the same words that the network shows later is it.

alter table outbox add column by_content boolean not null default false;
