-- Files are fetched a few per instance at a time, so what is due is looked up by instance.
drop index media_due;
create index media_due on media (instance_id, next_attempt_at) where status = 'pending' and next_attempt_at is not null;
