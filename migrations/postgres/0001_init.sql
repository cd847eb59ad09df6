-- The first schema. Table and column names are Omni v2's where it has them.
--
-- The same tables as on SQLite, with Postgres's own types. Ids are UUIDv7 (time-ordered, so an index grows at its end).
-- JSON is `json` and not `jsonb`: what was written is compared as it was written, and `jsonb` would write it anew. Ids,
-- keys and words of ours sort by their bytes, whatever the locale of the database; what people write sorts as they
-- expect. The raw payload of an event is stored once, in omni_events.

-- What SQLite has built in, for statements that are written once for both: a list that was handed over as JSON, and an
-- id that was written in hex.
create function json_each(list text) returns table (value text)
  language sql immutable strict parallel safe rows 10
  as $$ select json_array_elements_text(list::json) $$;
create function unhex(digits text) returns uuid
  language sql immutable strict parallel safe
  as $$ select digits::uuid $$;

-- The newest numbers that were given, where they must be without holes that fill later: whoever takes one holds the row
-- until the commit. SQLite has its own table for that.
create table sequences (
  name text collate "C" primary key,
  seq  bigint not null
);
insert into sequences (name, seq) values ('omni_events', 0);

create table instances (
  id               uuid primary key,
  name             text collate "C" not null unique,
  channel          text collate "C" not null,
  config           json not null default '{}',
  private_fields   json not null default '[]',     -- of config: the operator pointed them at private addresses
  secrets          bytea,                          -- sealed JSON object: field → value
  is_active        boolean not null default false,  -- whether a person wants it connected
  is_default       boolean not null default false,
  isolation        text collate "C",               -- process | in-process; the configuration's when null
  state            json not null default '{"state":"disconnected","reason":"never connected","transient":false}',
  state_since      timestamptz not null,
  profile_name     text,
  profile_pic_url  text,
  owner_identifier text,
  state_version    bigint not null default 0,      -- of what the channel keeps in plugin_storage
  last_message_at  timestamptz,
  created_at       timestamptz not null,
  updated_at       timestamptz not null
);

create table persons (
  id            uuid primary key,
  display_name  text,
  primary_phone text unique,                       -- E.164 with +
  primary_email text,
  avatar_url    text,
  metadata      json,
  created_at    timestamptz not null,
  updated_at    timestamptz not null
);
create index persons_email on persons (primary_email) where primary_email is not null;

create table platform_identities (
  id                uuid primary key,
  person_id         uuid references persons (id) on delete cascade,
  channel           text collate "C" not null,
  instance_id       uuid not null references instances (id) on delete cascade,
  platform_user_id  text collate "C" not null,
  platform_username text,
  display_name      text,
  profile_pic_url   text,
  profile_data      json,
  message_count     bigint not null default 0,
  first_seen_at     timestamptz not null,
  last_seen_at      timestamptz,
  linked_by         text collate "C",              -- initial | phone_match | email_match | manual
  confidence        bigint not null default 100,
  link_reason       text,
  created_at        timestamptz not null,
  updated_at        timestamptz not null,
  unique (instance_id, platform_user_id)
);
create index platform_identities_person on platform_identities (person_id);

create table chats (
  id                   uuid primary key,
  instance_id          uuid not null references instances (id) on delete cascade,
  external_id          text collate "C" not null,
  canonical_id         text collate "C",           -- the id it had before the network moved it
  chat_type            text collate "C" not null,  -- dm | group | channel | thread
  channel              text collate "C" not null,
  name                 text,
  description          text,
  avatar_url           text,
  parent_chat_id       uuid,
  participant_count    bigint not null default 0,
  message_count        bigint not null default 0,
  unread_count         bigint not null default 0,
  last_message_at      timestamptz,
  last_message_preview text,
  settings             json,
  platform_metadata    json,
  created_at           timestamptz not null,
  updated_at           timestamptz not null,
  archived_at          timestamptz,
  deleted_at           timestamptz,
  unique (instance_id, external_id)
);
create index chats_activity on chats (coalesce(last_message_at, created_at), id);
create index chats_parent on chats (parent_chat_id) where parent_chat_id is not null;

-- Other ids by which a chat is or was known; the network may still use them.
create table chat_id_mappings (
  instance_id   uuid not null references instances (id) on delete cascade,
  external_id   text collate "C" not null,
  chat_id       uuid not null references chats (id) on delete cascade,
  discovered_at timestamptz not null,
  moved         boolean not null default false,    -- whether the network moved the chat away from it and counts anew
  primary key (instance_id, external_id)
);
create index chat_id_mappings_moved on chat_id_mappings (instance_id, external_id) where moved;

create table chat_participants (
  id                   uuid primary key,
  chat_id              uuid not null references chats (id) on delete cascade,
  person_id            uuid,                       -- no foreign key: it would be looked for in every row
  platform_identity_id uuid,
  platform_user_id     text collate "C" not null,
  display_name         text,
  avatar_url           text,
  role                 text,
  is_active            boolean not null default true,
  joined_at            timestamptz,
  left_at              timestamptz,
  last_seen_at         timestamptz,
  message_count        bigint not null default 0,
  platform_metadata    json,
  created_at           timestamptz not null,
  updated_at           timestamptz not null,
  unique (chat_id, platform_user_id)
);
create index chat_participants_person on chat_participants (person_id) where person_id is not null;

create table messages (
  id                          uuid primary key,
  chat_id                     uuid not null references chats (id) on delete cascade,
  external_id                 text collate "C",    -- null until the network has taken a message of ours
  part                        text collate "C" not null default '',
  client_id                   text collate "C",    -- under which we sent it
  source                      text collate "C" not null default 'realtime',  -- realtime | sync | api | import
  sender_person_id            uuid,
  sender_platform_identity_id uuid,
  sender_platform_user_id     text collate "C",
  sender_display_name         text,
  is_from_me                  boolean not null default false,
  message_type                text collate "C" not null default 'text',
  text_content                text,
  content                     json not null,       -- the wire content, whole
  has_media                   boolean not null default false,
  media_mime_type             text,
  media_url                   text,
  media_local_path            text,
  media_metadata              json,
  reply_to_message_id         uuid,
  reply_to_external_id        text collate "C",
  quoted_text                 text,
  quoted_sender_name          text,
  forwarded_from_external_id  text collate "C",
  forward_count               bigint not null default 0,
  is_forwarded                boolean not null default false,
  album                       text,
  mentions                    json,
  status                      text collate "C" not null default 'active',  -- active | edited | deleted | expired
  delivery_status             text collate "C",    -- pending | sent | delivered | read | failed
  error                       text,
  edit_count                  bigint not null default 0,
  original_text               text,
  edit_history                json,
  revision                    bigint not null default 0,
  edited_at                   timestamptz,
  deleted_at                  timestamptz,
  reactions                   json,
  reaction_counts             json,
  reaction_revisions          json,                -- who → the revision that was last heard of them
  poll_id                     text collate "C",    -- the network's id of the poll in it, where votes name that
  poll_votes                  json,                -- who → ids of the options
  original_event_id           uuid,
  latest_event_id             uuid,
  platform_timestamp          timestamptz not null,
  received_at                 timestamptz not null,
  created_at                  timestamptz not null,
  updated_at                  timestamptz not null,
  unique (chat_id, external_id, part)
);
create index messages_page on messages (chat_id, platform_timestamp, id);
create index messages_client on messages (client_id) where client_id is not null;
create index messages_poll on messages (poll_id) where poll_id is not null;
-- What a receipt that says "everything up to" moves on.
create index messages_unread on messages (chat_id, platform_timestamp)
  where is_from_me and delivery_status in ('sent', 'delivered');

-- What was said about messages before they came: it waits here, and is folded in when they do.
create table early_events (
  seq                         bigint generated by default as identity primary key,
  chat_id                     uuid not null references chats (id) on delete cascade,
  external_id                 text collate "C" not null,  -- of the message
  person_id                   uuid,                -- who said it
  said                        json not null,
  at                          timestamptz not null,
  received_at                 timestamptz not null
);
create index early_events_message on early_events (chat_id, external_id);
create index early_events_age on early_events (received_at);

-- What happened, in order: the source of every other consumer. `seq` comes from `sequences`.
create table omni_events (
  seq                  bigint primary key,
  id                   uuid not null,
  event_type           text collate "C" not null,  -- message.received …
  external_id          text collate "C",
  channel              text collate "C" not null,
  instance_id          uuid not null,
  person_id            uuid,
  platform_identity_id uuid,
  direction            text collate "C" not null default 'inbound',
  content_type         text collate "C",
  text_content         text,
  chat_id              text collate "C",           -- the network's id
  chat_uuid            uuid,
  message_id           uuid,
  status               text collate "C" not null default 'received',
  payload              json not null,              -- the domain event's payload, Omni v2's shape
  raw_payload          json,                       -- the network's own words, NUL escaped
  metadata             json,
  received_at          timestamptz not null,
  processed_at         timestamptz not null,
  created_at           timestamptz generated always as (processed_at) stored
);
create unique index omni_events_id on omni_events (id);
create index omni_events_person on omni_events (person_id, seq) where person_id is not null;

-- The embedded bus: what a network was told that we have. The writer counts `seq`, and goes on where it or the furthest
-- consumer was.
create table inbound_log (
  seq         bigint primary key,
  lane        bigint not null,
  instance_id uuid not null,
  event_id    uuid not null,
  accepted_at timestamptz not null,
  payload     bytea not null                       -- an event, as JSON, as it crossed the boundary
);

-- What was accepted, so that it is accepted once. Outlives the log.
create table delivery_keys (
  instance_id uuid not null,
  key         text collate "C" not null,
  seen_at     timestamptz not null,
  primary key (instance_id, key)
);
create index delivery_keys_age on delivery_keys (seen_at);

create table consumer_offsets (
  consumer_name text collate "C" not null,
  stream_name   text collate "C" not null,         -- inbound | events
  lane          bigint not null default -1,        -- −1: all lanes
  last_sequence bigint not null default 0,
  fence         bigint not null default 0,
  updated_at    timestamptz not null,
  primary key (consumer_name, stream_name, lane)
);

create table dead_letter_events (
  id                uuid primary key,
  event_id          uuid not null,
  event_type        text collate "C" not null,
  subject           text collate "C" not null,
  consumer          text collate "C" not null,
  instance_id       uuid,
  accepted_at       timestamptz not null,
  payload           bytea not null,                -- whole, as it was
  error             text not null,
  stack             text,
  auto_retry_count  bigint not null default 0,
  manual_retry_count bigint not null default 0,
  next_auto_retry_at timestamptz,
  status            text collate "C" not null default 'pending',  -- pending | retrying | resolved | abandoned
  created_at        timestamptz not null,
  last_retry_at     timestamptz,
  resolved_at       timestamptz,
  resolved_by       text,
  resolution_note   text,
  unique (event_id, consumer)
);
create index dead_letter_events_status on dead_letter_events (status, created_at);
create index dead_letter_events_due on dead_letter_events (next_auto_retry_at)
  where status = 'pending' and next_auto_retry_at is not null;

-- A channel's memory: per instance, sealed.
create table plugin_storage (
  instance_id uuid not null references instances (id) on delete cascade,
  key         text collate "C" not null,
  plugin_id   text collate "C" not null,
  value       bytea not null,                      -- sealed
  updated_at  timestamptz not null,
  primary key (instance_id, key)
);

-- What an instance kept before a newer version of its plugin changed it.
create table plugin_state_snapshots (
  instance_id   uuid not null references instances (id) on delete cascade,
  state_version bigint not null,
  taken_at      timestamptz not null,
  primary key (instance_id, state_version)
);

create table plugin_state_snapshot_entries (
  instance_id   uuid not null,
  state_version bigint not null,
  key           text collate "C" not null,
  plugin_id     text collate "C" not null,
  value         bytea not null,                    -- sealed
  primary key (instance_id, state_version, key),
  foreign key (instance_id, state_version)
    references plugin_state_snapshots (instance_id, state_version) on delete cascade
);

-- What is to be asked of a network: one row a part, settled singly, in order within a chat.
create table outbox (
  seq          bigint generated by default as identity primary key,
  id           uuid not null unique,
  instance_id  uuid not null references instances (id) on delete cascade,
  chat_key     text collate "C" not null,          -- the network's id of the chat: order is kept within it
  message_id   uuid,
  send_id      uuid not null,                      -- the API call that it belongs to
  part         bigint not null default 0,
  kind         text collate "C" not null,          -- send | edit | delete | react
  request      json not null,                      -- the wire request
  client_id    text collate "C" not null,
  status       text collate "C" not null default 'pending',  -- pending | sending | unknown | reconciling | delivered | failed
  attempts     bigint not null default 0,
  available_at timestamptz not null,
  claimed_at   timestamptz,
  unknown_since timestamptz,                       -- since when the outcome is not known
  fence        bigint not null default 0,
  receipt      json,
  error        json,
  created_at   timestamptz not null,
  updated_at   timestamptz not null
);
create index outbox_open on outbox (instance_id, chat_key, seq) where status in ('pending', 'sending', 'unknown', 'reconciling');
create index outbox_send on outbox (send_id, part);

create table idempotency_keys (
  api_key_id  uuid not null,
  key         text collate "C" not null,
  body_hash   bytea not null,
  status_code bigint,                              -- null while the first call is under way
  response    text,
  created_at  timestamptz not null,
  primary key (api_key_id, key)
);

create table media (
  id              uuid primary key,
  instance_id     uuid not null references instances (id) on delete cascade,
  message_id      uuid,
  reference       text,                            -- the channel's, for inbound media
  mime_type       text,
  file_name       text,
  size            bigint,
  sha256          text collate "C",
  path            text,                            -- within the media folder, once it is stored
  status          text collate "C" not null default 'pending',  -- pending | stored | failed | expired
  attempts        bigint not null default 0,
  next_attempt_at timestamptz,
  error           text,
  created_at      timestamptz not null,
  updated_at      timestamptz not null
);
create index media_message on media (message_id) where message_id is not null;
create index media_due on media (next_attempt_at) where status = 'pending' and next_attempt_at is not null;

create table api_keys (
  id            uuid primary key,
  name          text collate "C" not null,
  description   text,
  key_prefix    text collate "C" not null,
  key_hash      text collate "C" not null unique,  -- SHA-256 of the whole key, hex
  scopes        json not null,
  instance_ids  json,
  status        text collate "C" not null default 'active',  -- active | revoked | expired
  rate_limit    bigint,
  expires_at    timestamptz,
  last_used_at  timestamptz,
  last_used_ip  text,
  usage_count   bigint not null default 0,
  revoked_at    timestamptz,
  revoked_by    text,
  revoke_reason text,
  created_at    timestamptz not null,
  created_by    text,
  updated_at    timestamptz not null
);

create table global_settings (
  id         uuid primary key,
  key        text collate "C" not null unique,
  value      text,
  value_type text collate "C" not null default 'string',
  category   text collate "C",
  is_secret  boolean not null default false,
  created_at timestamptz not null,
  updated_at timestamptz not null
);

-- Webhooks out: where events are sent, what is queued for each, and how each attempt went.

create table webhooks (
  id              uuid primary key,
  name            text collate "C" not null unique,
  url             text not null,
  description     text,
  event_types     json not null default '[]',      -- names and patterns; empty: all
  instance_ids    json,                            -- the only ones; all when null
  chat_ids        json not null default '[]',      -- ours or the network's; empty: all
  secrets         bytea not null,                  -- sealed JSON list: the newest first, each with its end
  headers         bytea,                           -- sealed JSON object: sent along
  private_granted boolean not null default false,  -- the operator pointed it at a private address
  enabled         boolean not null default true,
  disabled_reason text,
  disabled_at     timestamptz,
  failures        bigint not null default 0,       -- in a row
  failing_since   timestamptz,
  resting_until   timestamptz,                     -- it is left alone until then
  last_success_at timestamptz,
  last_failure_at timestamptz,
  last_error      text,
  created_by      text,
  created_at      timestamptz not null,
  updated_at      timestamptz not null
);

create table webhook_deliveries (
  seq              bigint generated by default as identity primary key,
  id               uuid not null unique,
  webhook_id       uuid not null references webhooks (id) on delete cascade,
  event_seq        bigint not null,
  event_id         uuid not null,
  event_type       text collate "C" not null,
  instance_id      uuid not null,                  -- nil: of none
  chat_key         text collate "C" not null,      -- order is kept within it
  payload          bytea,                          -- whole, where the event may be gone; else it is read from omni_events
  status           text collate "C" not null default 'pending',  -- pending | delivered | failed | expired
  attempts         bigint not null default 0,
  next_attempt_at  timestamptz,                    -- null behind an earlier one of its chat, and when it is settled
  last_attempt_at  timestamptz,
  last_status_code bigint,
  last_error       text,
  created_at       timestamptz not null,
  settled_at       timestamptz
);
create index webhook_deliveries_due on webhook_deliveries (webhook_id, next_attempt_at, seq) where next_attempt_at is not null;
create index webhook_deliveries_queue on webhook_deliveries (webhook_id, chat_key, seq) where status = 'pending';
create index webhook_deliveries_event on webhook_deliveries (webhook_id, event_seq);
create index webhook_deliveries_age on webhook_deliveries (settled_at) where settled_at is not null;

create table webhook_attempts (
  delivery_seq bigint not null references webhook_deliveries (seq) on delete cascade,
  attempt      bigint not null,
  at           timestamptz not null,
  duration_ms  bigint not null,
  status_code  bigint,
  error        text,
  answer       text,                               -- its first bytes
  primary key (delivery_seq, attempt)
);

-- Events that are read from the store once more, for one consumer.
create table event_replays (
  id           uuid primary key,
  consumer     text collate "C" not null,
  options      json not null,
  instance_ids json,                               -- the only ones whose events the one who asked may see
  status       text collate "C" not null default 'running',  -- running | completed | cancelled | failed
  position     bigint not null,                    -- up to where was looked
  end_seq      bigint not null,
  total        bigint not null,                    -- places to be looked at
  matched      bigint not null default 0,
  replayed     bigint not null default 0,
  skipped      bigint not null default 0,
  error        text,
  created_by   text,
  started_at   timestamptz not null,
  completed_at timestamptz
);
create index event_replays_running on event_replays (id) where status = 'running';

-- Who asked what of the API, and what came of it. Outlives the key.
create table api_key_audit_logs (
  id               uuid primary key,
  api_key_id       uuid,
  key_name         text collate "C",
  method           text collate "C" not null,
  path             text not null,                  -- without the query
  status_code      bigint not null,
  ip_address       text,
  user_agent       text,
  response_time_ms bigint not null,
  timestamp        timestamptz not null
);
create index api_key_audit_logs_key on api_key_audit_logs (api_key_id, id) where api_key_id is not null;
