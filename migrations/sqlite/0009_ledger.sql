-- What was counted of every instance, in the transactions in which it happened: what came in must be somewhere, and what
-- was to go out must have an end. What was there before is counted here.

create table ledger (
  instance_id blob not null,
  account     text not null,                       -- accepted | retried | stored | repeated | buried
                                                   -- queued | delivered | failed | messages | letters
  amount      integer not null,
  primary key (instance_id, account)
) without rowid;

insert into ledger (instance_id, account, amount)
  select instance_id, 'accepted', count(*) from inbound_log
  where seq > coalesce((select max(last_sequence) from consumer_offsets
      where consumer_name = 'storage' and stream_name = 'inbound'), 0)
    and instance_id in (select id from instances) group by instance_id;
insert into ledger (instance_id, account, amount)
  select instance_id, 'queued', count(*) from outbox group by instance_id;
insert into ledger (instance_id, account, amount)
  select instance_id, status, count(*) from outbox where status in ('delivered', 'failed') group by instance_id, status;
insert into ledger (instance_id, account, amount)
  select c.instance_id, 'messages', sum(m.amount) from (select chat_id, count(*) as amount from messages group by chat_id) m
  join chats c on c.id = m.chat_id group by c.instance_id;
insert into ledger (instance_id, account, amount)
  select instance_id, 'letters', count(*) from dead_letter_events
  where instance_id in (select id from instances) group by instance_id;
