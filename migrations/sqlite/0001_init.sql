-- The first schema. Table and column names are Omni v2's where it has them.
--
-- Ids are UUIDv7 as 16 bytes (time-ordered, so an index grows at its end), times are microseconds since 1970, booleans
-- are 0 and 1, JSON is text. The raw payload of an event is stored once, in omni_events.

create table instances (
  id               blob primary key not null,
  name             text not null unique,
  channel          text not null,
  config           text not null default '{}',
  private_fields   text not null default '[]',     -- of config: the operator pointed them at private addresses
  secrets          blob,                           -- sealed JSON object: field → value
  is_active        integer not null default 0,     -- whether a person wants it connected
  is_default       integer not null default 0,
  isolation        text,                           -- process | in-process; the configuration's when null
  state            text not null default '{"state":"disconnected","reason":"never connected","transient":false}',
  state_since      integer not null,
  profile_name     text,
  profile_pic_url  text,
  owner_identifier text,
  state_version    integer not null default 0,     -- of what the channel keeps in plugin_storage
  last_message_at  integer,
  created_at       integer not null,
  updated_at       integer not null
);

create table persons (
  id            blob primary key not null,
  display_name  text,
  primary_phone text unique,                       -- E.164 with +
  primary_email text,
  avatar_url    text,
  metadata      text,
  created_at    integer not null,
  updated_at    integer not null
);
create index persons_email on persons (primary_email) where primary_email is not null;

create table platform_identities (
  id                blob primary key not null,
  person_id         blob references persons (id) on delete cascade,
  channel           text not null,
  instance_id       blob not null references instances (id) on delete cascade,
  platform_user_id  text not null,
  platform_username text,
  display_name      text,
  profile_pic_url   text,
  profile_data      text,
  message_count     integer not null default 0,
  first_seen_at     integer not null,
  last_seen_at      integer,
  linked_by         text,                          -- initial | phone_match | email_match | manual
  confidence        integer not null default 100,
  link_reason       text,
  created_at        integer not null,
  updated_at        integer not null,
  unique (instance_id, platform_user_id)
);
create index platform_identities_person on platform_identities (person_id);

create table chats (
  id                   blob primary key not null,
  instance_id          blob not null references instances (id) on delete cascade,
  external_id          text not null,
  canonical_id         text,                       -- the id it had before the network moved it
  chat_type            text not null,              -- dm | group | channel | thread
  channel              text not null,
  name                 text,
  description          text,
  avatar_url           text,
  parent_chat_id       blob,
  participant_count    integer not null default 0,
  message_count        integer not null default 0,
  unread_count         integer not null default 0,
  last_message_at      integer,
  last_message_preview text,
  settings             text,
  platform_metadata    text,
  created_at           integer not null,
  updated_at           integer not null,
  archived_at          integer,
  deleted_at           integer,
  unique (instance_id, external_id)
);
create index chats_activity on chats (coalesce(last_message_at, created_at), id);
create index chats_parent on chats (parent_chat_id) where parent_chat_id is not null;

-- Other ids by which a chat is or was known; the network may still use them.
create table chat_id_mappings (
  instance_id   blob not null references instances (id) on delete cascade,
  external_id   text not null,
  chat_id       blob not null references chats (id) on delete cascade,
  discovered_at integer not null,
  moved         integer not null default 0,        -- whether the network moved the chat away from it and counts anew
  primary key (instance_id, external_id)
) without rowid;
create index chat_id_mappings_moved on chat_id_mappings (instance_id, external_id) where moved;

create table chat_participants (
  id                   blob primary key not null,
  chat_id              blob not null references chats (id) on delete cascade,
  person_id            blob,                       -- no foreign key: it would be looked for in every row
  platform_identity_id blob,
  platform_user_id     text not null,
  display_name         text,
  avatar_url           text,
  role                 text,
  is_active            integer not null default 1,
  joined_at            integer,
  left_at              integer,
  last_seen_at         integer,
  message_count        integer not null default 0,
  platform_metadata    text,
  created_at           integer not null,
  updated_at           integer not null,
  unique (chat_id, platform_user_id)
);
create index chat_participants_person on chat_participants (person_id) where person_id is not null;

create table messages (
  id                          blob primary key not null,
  chat_id                     blob not null references chats (id) on delete cascade,
  external_id                 text,                -- null until the network has taken a message of ours
  part                        text not null default '',
  client_id                   text,                -- under which we sent it
  source                      text not null default 'realtime', -- realtime | sync | api | import
  sender_person_id            blob,
  sender_platform_identity_id blob,
  sender_platform_user_id     text,
  sender_display_name         text,
  is_from_me                  integer not null default 0,
  message_type                text not null default 'text',
  text_content                text,
  content                     text not null,       -- the wire content, whole
  has_media                   integer not null default 0,
  media_mime_type             text,
  media_url                   text,
  media_local_path            text,
  media_metadata              text,
  reply_to_message_id         blob,
  reply_to_external_id        text,
  quoted_text                 text,
  quoted_sender_name          text,
  forwarded_from_external_id  text,
  forward_count               integer not null default 0,
  is_forwarded                integer not null default 0,
  album                       text,
  mentions                    text,
  status                      text not null default 'active',  -- active | edited | deleted | expired
  delivery_status             text,                -- pending | sent | delivered | read | failed
  error                       text,
  edit_count                  integer not null default 0,
  original_text               text,
  edit_history                text,
  revision                    integer not null default 0,
  edited_at                   integer,
  deleted_at                  integer,
  reactions                   text,
  reaction_counts             text,
  reaction_revisions          text,                -- who → the revision that was last heard of them
  poll_id                     text,                -- the network's id of the poll in it, where votes name that
  poll_votes                  text,                -- who → ids of the options
  original_event_id           blob,
  latest_event_id             blob,
  platform_timestamp          integer not null,
  received_at                 integer not null,
  created_at                  integer not null,
  updated_at                  integer not null,
  unique (chat_id, external_id, part)
);
create index messages_page on messages (chat_id, platform_timestamp, id);
create index messages_client on messages (client_id) where client_id is not null;
create index messages_poll on messages (poll_id) where poll_id is not null;
-- What a receipt that says "everything up to" moves on.
create index messages_unread on messages (chat_id, platform_timestamp)
  where is_from_me = 1 and delivery_status in ('sent', 'delivered');

-- What was said about messages before they came: it waits here, and is folded in when they do.
create table early_events (
  seq                         integer primary key not null,
  chat_id                     blob not null references chats (id) on delete cascade,
  external_id                 text not null,       -- of the message
  person_id                   blob,                -- who said it
  said                        text not null,
  at                          integer not null,
  received_at                 integer not null
);
create index early_events_message on early_events (chat_id, external_id);
create index early_events_age on early_events (received_at);

-- What happened, in order: the source of every other consumer. `seq` is taken by the one writer, so it has no holes
-- that fill later.
create table omni_events (
  seq                  integer primary key autoincrement,
  id                   blob not null,
  event_type           text not null,              -- message.received …
  external_id          text,
  channel              text not null,
  instance_id          blob not null,
  person_id            blob,
  platform_identity_id blob,
  direction            text not null default 'inbound',
  content_type         text,
  text_content         text,
  chat_id              text,                       -- the network's id
  chat_uuid            blob,
  message_id           blob,
  status               text not null default 'received',
  payload              text not null,              -- the domain event's payload, Omni v2's shape
  raw_payload          text,                       -- the network's own words, NUL escaped
  metadata             text,
  received_at          integer not null,
  processed_at         integer not null,
  created_at           integer generated always as (processed_at) virtual
);
create unique index omni_events_id on omni_events (id);
create index omni_events_person on omni_events (person_id, seq) where person_id is not null;

-- The embedded bus: what a network was told that we have. The writer counts `seq`, and goes on where it or the furthest
-- consumer was.
create table inbound_log (
  seq         integer primary key not null,
  lane        integer not null,
  instance_id blob not null,
  event_id    blob not null,
  accepted_at integer not null,
  payload     blob not null                        -- an event, as JSON, as it crossed the boundary
);

-- What was accepted, so that it is accepted once. Outlives the log.
create table delivery_keys (
  instance_id blob not null,
  key         text not null,
  seen_at     integer not null,
  primary key (instance_id, key)
) without rowid;
create index delivery_keys_age on delivery_keys (seen_at);

create table consumer_offsets (
  consumer_name text not null,
  stream_name   text not null,                     -- inbound | events
  lane          integer not null default -1,       -- −1: all lanes
  last_sequence integer not null default 0,
  fence         integer not null default 0,
  updated_at    integer not null,
  primary key (consumer_name, stream_name, lane)
) without rowid;

create table dead_letter_events (
  id                blob primary key not null,
  event_id          blob not null,
  event_type        text not null,
  subject           text not null,
  consumer          text not null,
  instance_id       blob,
  accepted_at       integer not null,
  payload           blob not null,                 -- whole, as it was
  error             text not null,
  stack             text,
  auto_retry_count  integer not null default 0,
  manual_retry_count integer not null default 0,
  next_auto_retry_at integer,
  status            text not null default 'pending', -- pending | retrying | resolved | abandoned
  created_at        integer not null,
  last_retry_at     integer,
  resolved_at       integer,
  resolved_by       text,
  resolution_note   text,
  unique (event_id, consumer)
);
create index dead_letter_events_status on dead_letter_events (status, created_at);
create index dead_letter_events_due on dead_letter_events (next_auto_retry_at)
  where status = 'pending' and next_auto_retry_at is not null;

-- A channel's memory: per instance, sealed.
create table plugin_storage (
  instance_id blob not null references instances (id) on delete cascade,
  key         text not null,
  plugin_id   text not null,
  value       blob not null,                       -- sealed
  updated_at  integer not null,
  primary key (instance_id, key)
) without rowid;

-- What an instance kept before a newer version of its plugin changed it.
create table plugin_state_snapshots (
  instance_id   blob not null references instances (id) on delete cascade,
  state_version integer not null,
  taken_at      integer not null,
  primary key (instance_id, state_version)
) without rowid;

create table plugin_state_snapshot_entries (
  instance_id   blob not null,
  state_version integer not null,
  key           text not null,
  plugin_id     text not null,
  value         blob not null,                     -- sealed
  primary key (instance_id, state_version, key),
  foreign key (instance_id, state_version)
    references plugin_state_snapshots (instance_id, state_version) on delete cascade
) without rowid;

-- What is to be asked of a network: one row a part, settled singly, in order within a chat.
create table outbox (
  seq          integer primary key autoincrement,
  id           blob not null unique,
  instance_id  blob not null references instances (id) on delete cascade,
  chat_key     text not null,                      -- the network's id of the chat: order is kept within it
  message_id   blob,
  send_id      blob not null,                      -- the API call that it belongs to
  part         integer not null default 0,
  kind         text not null,                      -- send | edit | delete | react
  request      text not null,                      -- the wire request
  client_id    text not null,
  status       text not null default 'pending',    -- pending | sending | unknown | reconciling | delivered | failed
  attempts     integer not null default 0,
  available_at integer not null,
  claimed_at   integer,
  unknown_since integer,                           -- since when the outcome is not known
  fence        integer not null default 0,
  receipt      text,
  error        text,
  created_at   integer not null,
  updated_at   integer not null
);
create index outbox_open on outbox (instance_id, chat_key, seq) where status in ('pending', 'sending', 'unknown', 'reconciling');
create index outbox_send on outbox (send_id, part);

create table idempotency_keys (
  api_key_id  blob not null,
  key         text not null,
  body_hash   blob not null,
  status_code integer,                             -- null while the first call is under way
  response    text,
  created_at  integer not null,
  primary key (api_key_id, key)
) without rowid;

create table media (
  id              blob primary key not null,
  instance_id     blob not null references instances (id) on delete cascade,
  message_id      blob,
  reference       text,                            -- the channel's, for inbound media
  mime_type       text,
  file_name       text,
  size            integer,
  sha256          text,
  path            text,                            -- within the media folder, once it is stored
  status          text not null default 'pending', -- pending | stored | failed | expired
  attempts        integer not null default 0,
  next_attempt_at integer,
  error           text,
  created_at      integer not null,
  updated_at      integer not null
);
create index media_message on media (message_id) where message_id is not null;
create index media_due on media (next_attempt_at) where status = 'pending' and next_attempt_at is not null;

create table api_keys (
  id            blob primary key not null,
  name          text not null,
  description   text,
  key_prefix    text not null,
  key_hash      text not null unique,              -- SHA-256 of the whole key, hex
  scopes        text not null,
  instance_ids  text,
  status        text not null default 'active',    -- active | revoked | expired
  rate_limit    integer,
  expires_at    integer,
  last_used_at  integer,
  last_used_ip  text,
  usage_count   integer not null default 0,
  revoked_at    integer,
  revoked_by    text,
  revoke_reason text,
  created_at    integer not null,
  created_by    text,
  updated_at    integer not null
);

create table global_settings (
  id         blob primary key not null,
  key        text not null unique,
  value      text,
  value_type text not null default 'string',
  category   text,
  is_secret  integer not null default 0,
  created_at integer not null,
  updated_at integer not null
);

-- Webhooks out: where events are sent, what is queued for each, and how each attempt went.

create table webhooks (
  id              blob primary key not null,
  name            text not null unique,
  url             text not null,
  description     text,
  event_types     text not null default '[]',      -- names and patterns; empty: all
  instance_ids    text,                            -- the only ones; all when null
  chat_ids        text not null default '[]',      -- ours or the network's; empty: all
  secrets         blob not null,                   -- sealed JSON list: the newest first, each with its end
  headers         blob,                            -- sealed JSON object: sent along
  private_granted integer not null default 0,      -- the operator pointed it at a private address
  enabled         integer not null default 1,
  disabled_reason text,
  disabled_at     integer,
  failures        integer not null default 0,      -- in a row
  failing_since   integer,
  resting_until   integer,                         -- it is left alone until then
  last_success_at integer,
  last_failure_at integer,
  last_error      text,
  created_by      text,
  created_at      integer not null,
  updated_at      integer not null
);

create table webhook_deliveries (
  seq              integer primary key autoincrement,
  id               blob not null unique,
  webhook_id       blob not null references webhooks (id) on delete cascade,
  event_seq        integer not null,
  event_id         blob not null,
  event_type       text not null,
  instance_id      blob not null,                  -- nil: of none
  chat_key         text not null,                  -- order is kept within it
  payload          blob,                           -- whole, where the event may be gone; else it is read from omni_events
  status           text not null default 'pending', -- pending | delivered | failed | expired
  attempts         integer not null default 0,
  next_attempt_at  integer,                        -- null behind an earlier one of its chat, and when it is settled
  last_attempt_at  integer,
  last_status_code integer,
  last_error       text,
  created_at       integer not null,
  settled_at       integer
);
create index webhook_deliveries_due on webhook_deliveries (webhook_id, next_attempt_at, seq) where next_attempt_at is not null;
create index webhook_deliveries_queue on webhook_deliveries (webhook_id, chat_key, seq) where status = 'pending';
create index webhook_deliveries_event on webhook_deliveries (webhook_id, event_seq);
create index webhook_deliveries_age on webhook_deliveries (settled_at) where settled_at is not null;

create table webhook_attempts (
  delivery_seq integer not null references webhook_deliveries (seq) on delete cascade,
  attempt      integer not null,
  at           integer not null,
  duration_ms  integer not null,
  status_code  integer,
  error        text,
  answer       text,                               -- its first bytes
  primary key (delivery_seq, attempt)
) without rowid;

-- Events that are read from the store once more, for one consumer.
create table event_replays (
  id           blob primary key not null,
  consumer     text not null,
  options      text not null,
  instance_ids text,                               -- the only ones whose events the one who asked may see
  status       text not null default 'running',    -- running | completed | cancelled | failed
  position     integer not null,                   -- up to where was looked
  end_seq      integer not null,
  total        integer not null,                   -- places to be looked at
  matched      integer not null default 0,
  replayed     integer not null default 0,
  skipped      integer not null default 0,
  error        text,
  created_by   text,
  started_at   integer not null,
  completed_at integer
);
create index event_replays_running on event_replays (id) where status = 'running';

-- Who asked what of the API, and what came of it. Outlives the key.
create table api_key_audit_logs (
  id               blob primary key not null,
  api_key_id       blob,
  key_name         text,
  method           text not null,
  path             text not null,                  -- without the query
  status_code      integer not null,
  ip_address       text,
  user_agent       text,
  response_time_ms integer not null,
  timestamp        integer not null
);
create index api_key_audit_logs_key on api_key_audit_logs (api_key_id, id) where api_key_id is not null;
