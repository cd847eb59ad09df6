-- Up to when the messages of a chat were delivered and read, where a network says it so: that holds for a message as well
-- that comes later and is older.

alter table chats add column delivered_up_to timestamptz; -- ours, to others
alter table chats add column read_up_to timestamptz;      -- ours, by others
alter table chats add column own_read_up_to timestamptz;  -- those of others, by us
