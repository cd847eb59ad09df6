//! Chats, the other ids by which they are known, and who is in them.

use super::bulk::{self, Bulk};
use super::ledger::Account;
use super::{Result, Run, Time, Tx, on};
use std::sync::{Arc, LazyLock};
use uuid::Uuid;

/// A chat that is stored, by one of its ids.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Known {
    /// Of which instance.
    pub instance_id: Uuid,
    /// The network's id by which it was asked for.
    pub external_id: String,
    /// Our id of it.
    pub id: Uuid,
    /// How far our messages in it have come.
    #[sqlx(flatten)]
    pub marks: Marks,
}

/// Up to when our messages of a chat were delivered and read, as far as that was said of times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Marks {
    /// Delivered, or more.
    pub delivered_up_to: Option<Time>,
    /// Read.
    pub read_up_to: Option<Time>,
}

impl Marks {
    /// Moves the mark for a status on; never back.
    pub fn move_on(&mut self, status: &str, up_to: Time) {
        let mark = if status == "read" { &mut self.read_up_to } else { &mut self.delivered_up_to };
        *mark = (*mark).max(Some(up_to));
    }

    /// What they say of a message that was written then: its status, and the mark.
    pub fn status_of(&self, written: Time) -> Option<(&'static str, Time)> {
        let reaches = |mark: Option<Time>| mark.filter(|mark| written <= *mark);
        let read = reaches(self.read_up_to).map(|mark| ("read", mark));
        read.or_else(|| reaches(self.delivered_up_to).map(|mark| ("delivered", mark)))
    }
}

static FIND: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "with v (instance_id, external_id) as (",
        "uuid text",
        ") select v.instance_id, v.external_id, c.id, c.delivered_up_to, c.read_up_to from v cross join chats c
           where c.instance_id = v.instance_id and c.external_id = v.external_id
           union all
           select v.instance_id, v.external_id, c.id, c.delivered_up_to, c.read_up_to
           from v cross join chat_id_mappings m cross join chats c
           where m.instance_id = v.instance_id and m.external_id = v.external_id and c.id = m.chat_id",
    )
});

/// The chats among these that are stored, by any id that they have or had.
pub async fn find(tx: &mut Tx, keys: &[(Uuid, &str)]) -> Result<Vec<Known>> {
    bulk::fetch(tx, &FIND, keys, |row, (instance, chat)| {
        row.bind(*instance).bind(*chat);
    })
    .await
}

/// A chat that was not known.
#[derive(Clone, Debug)]
pub struct NewChat<'a> {
    /// Its id.
    pub id: Uuid,
    /// Of which instance.
    pub instance_id: Uuid,
    /// The network's id of it.
    pub external_id: &'a str,
    /// `dm`, `group`, `channel` or `thread`.
    pub chat_type: &'static str,
    /// The instance's channel.
    pub channel: Arc<str>,
}

static INSERT: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "insert into chats (id, instance_id, external_id, chat_type, channel, created_at, updated_at)",
        "uuid uuid text text text timestamptz timestamptz",
        "",
    )
});

/// Stores chats.
pub async fn insert(tx: &mut Tx, chats: &[NewChat<'_>], now: Time) -> Result<()> {
    bulk::execute(tx, &INSERT, chats, |row, chat| {
        row.bind(chat.id)
            .bind(chat.instance_id)
            .bind(chat.external_id)
            .word(chat.chat_type)
            .bind(Arc::clone(&chat.channel))
            .bind(now)
            .bind(now);
    })
    .await?;
    Ok(())
}

/// What is new about a chat. `None` is no news.
#[derive(Clone, Debug, Default)]
pub struct ChatChange<'a> {
    /// Which.
    pub id: Uuid,
    /// Its title.
    pub name: Option<&'a str>,
    /// What it says about itself.
    pub description: Option<&'a str>,
    /// The chat that it belongs to.
    pub parent: Option<Uuid>,
    /// How many people are in it.
    pub participants: Option<i64>,
    /// Its type, when it is not what it was taken for.
    pub chat_type: Option<&'static str>,
    /// New messages.
    pub messages: i64,
    /// New messages that nobody here has read; beside `own_read_up_to` only those of that very time that came behind it.
    pub unread: i64,
    /// When the oldest of the messages was written that `unread` was changed for.
    pub oldest: Option<Time>,
    /// Up to when we have read what others wrote.
    pub own_read_up_to: Option<Time>,
    /// How far our messages have come.
    pub marks: Marks,
    /// When the newest of the new messages was written, and its preview.
    pub last: Option<(Time, String)>,
    /// Whether it is gone, or here again.
    pub deleted: Option<bool>,
}

impl ChatChange<'_> {
    /// The number of unread messages changes by a message that was written then.
    pub fn unread_changes(&mut self, by: i64, written: Time) {
        self.oldest = Some(self.oldest.map_or(written, |oldest| oldest.min(written)));
        if self.own_read_up_to.is_none_or(|mark| mark == written) {
            self.unread += by;
        }
    }

    /// We have read what others wrote until then.
    pub fn read_by_us(&mut self, up_to: Time) {
        if self.own_read_up_to <= Some(up_to) {
            self.own_read_up_to = Some(up_to);
            self.unread = 0;
        }
    }
}

// What is unread is counted up, and counted anew only when we have read something, or when a message comes that is older
// than what we have read.
static UPDATE: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "update chats set
           name = coalesce(v.column2, name), description = coalesce(v.column3, description),
           parent_chat_id = coalesce(v.column4, parent_chat_id),
           participant_count = coalesce(v.column5, participant_count),
           chat_type = coalesce(v.column6, chat_type),
           message_count = message_count + v.column7,
           unread_count = case
             when v.column9 is null and (v.column14 is null or v.column14 >= coalesce(own_read_up_to, v.column14))
             then case when unread_count + v.column8 > 0 then unread_count + v.column8 else 0 end
             else (select case when count(*) + case when v.column9 is null then 0 else v.column8 end > 0 then count(*) + case when v.column9 is null then 0 else v.column8 end else 0 end from messages m
                   where m.chat_id = v.column1 and not m.is_from_me
                     and (own_read_up_to is null or m.platform_timestamp > own_read_up_to)
                     and (v.column9 is null or m.platform_timestamp > v.column9)) end,
           own_read_up_to = case when v.column9 >= coalesce(own_read_up_to, v.column9) then v.column9 else own_read_up_to end,
           delivered_up_to = case when v.column15 >= coalesce(delivered_up_to, v.column15) then v.column15 else delivered_up_to end,
           read_up_to = case when v.column16 >= coalesce(read_up_to, v.column16) then v.column16 else read_up_to end,
           last_message_preview =
             case when v.column10 >= coalesce(last_message_at, v.column10) then v.column11 else last_message_preview end,
           last_message_at =
             case when v.column10 >= coalesce(last_message_at, v.column10) then v.column10 else last_message_at end,
           deleted_at = case when v.column12 is null then deleted_at when v.column12 then v.column13 else null end,
           updated_at = v.column13
         from (",
        "uuid text text uuid bigint text bigint bigint timestamptz timestamptz text boolean timestamptz timestamptz \
         timestamptz timestamptz",
        ") v where chats.id = v.column1",
    )
});

/// Notes what is new about chats; each is named once. What is new of their messages is written before.
pub async fn update(tx: &mut Tx, changes: &[ChatChange<'_>], now: Time) -> Result<()> {
    bulk::execute(tx, &UPDATE, changes, |row, change| {
        let (at, preview) = change.last.as_ref().map_or((None, None), |(at, text)| (Some(*at), Some(text.as_str())));
        row.bind(change.id)
            .bind(change.name)
            .bind(change.description)
            .bind(change.parent)
            .bind(change.participants)
            .bind(change.chat_type)
            .bind(change.messages)
            .bind(change.unread)
            .bind(change.own_read_up_to)
            .bind(at)
            .bind(preview)
            .bind(change.deleted)
            .bind(now)
            .bind(change.oldest)
            .bind(change.marks.delivered_up_to)
            .bind(change.marks.read_up_to);
    })
    .await?;
    Ok(())
}

/// What is new about one who is in a chat. `None` is no news.
#[derive(Clone, Debug)]
pub struct Participation<'a> {
    /// Which chat.
    pub chat_id: Uuid,
    /// The network's id of the account.
    pub platform_user_id: &'a str,
    /// Our id of the account.
    pub platform_identity_id: Option<Uuid>,
    /// Whose it is.
    pub person_id: Option<Uuid>,
    /// Its name.
    pub display_name: Option<&'a str>,
    /// What they are, in the network's word.
    pub role: Option<&'a str>,
    /// Whether they are in it.
    pub active: bool,
    /// When they came.
    pub joined_at: Option<Time>,
    /// When they went.
    pub left_at: Option<Time>,
    /// When they were last heard of.
    pub seen_at: Option<Time>,
    /// New messages from them.
    pub messages: i64,
}

static PARTICIPATE: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "insert into chat_participants (id, chat_id, platform_user_id, platform_identity_id, person_id, display_name, \
         role, is_active, joined_at, left_at, last_seen_at, message_count, created_at, updated_at)",
        "uuid uuid text uuid uuid text text boolean timestamptz timestamptz timestamptz bigint \
         timestamptz timestamptz",
        "on conflict (chat_id, platform_user_id) do update set
           platform_identity_id = coalesce(excluded.platform_identity_id, chat_participants.platform_identity_id),
           person_id = coalesce(excluded.person_id, chat_participants.person_id),
           display_name = coalesce(excluded.display_name, chat_participants.display_name),
           role = coalesce(excluded.role, chat_participants.role),
           is_active = excluded.is_active,
           joined_at = coalesce(excluded.joined_at, chat_participants.joined_at),
           left_at = coalesce(excluded.left_at, case when excluded.is_active then null else chat_participants.left_at end),
           last_seen_at = case
             when chat_participants.last_seen_at is null or excluded.last_seen_at > chat_participants.last_seen_at
             then excluded.last_seen_at else chat_participants.last_seen_at end,
           message_count = chat_participants.message_count + excluded.message_count,
           updated_at = excluded.updated_at",
    )
});

/// Notes what is new about those who are in chats; each is named once a chat.
pub async fn participate(tx: &mut Tx, participations: &[Participation<'_>], now: Time) -> Result<()> {
    let mut ids: Vec<(Uuid, &Participation<'_>)> = participations.iter().map(|one| (tx.new_id(now), one)).collect();
    // Whoever locks several rows does so in the order of their keys.
    ids.sort_unstable_by_key(|(_, one)| (one.chat_id, one.platform_user_id));
    bulk::execute(tx, &PARTICIPATE, &ids, |row, (id, one)| {
        row.bind(*id)
            .bind(one.chat_id)
            .bind(one.platform_user_id)
            .bind(one.platform_identity_id)
            .bind(one.person_id)
            .bind(one.display_name)
            .bind(one.role)
            .bind(one.active)
            .bind(one.joined_at)
            .bind(one.left_at)
            .bind(one.seen_at)
            .bind(one.messages)
            .bind(now)
            .bind(now);
    })
    .await?;
    Ok(())
}

/// Notes another id by which a chat is known.
pub async fn map(tx: &mut Tx, instance_id: Uuid, external_id: &str, chat_id: Uuid, now: Time) -> Result<()> {
    on!(tx, conn => sqlx::query(
        "insert into chat_id_mappings (instance_id, external_id, chat_id, discovered_at) values ($1, $2, $3, $4)
         on conflict (instance_id, external_id) do update set chat_id = excluded.chat_id",
    )
    .bind(instance_id)
    .bind(external_id)
    .bind(chat_id)
    .bind(now)
    .run(conn)
    .await)?;
    Ok(())
}

/// Notes an id that a chat had until its network moved it: what is still told under it counts by the old numbers.
pub async fn map_moved(tx: &mut Tx, instance_id: Uuid, external_id: &str, chat_id: Uuid, now: Time) -> Result<()> {
    map(tx, instance_id, external_id, chat_id, now).await?;
    on!(tx, conn => sqlx::query(
        "update chat_id_mappings set moved = true where instance_id = $1 and external_id = $2",
    )
    .bind(instance_id)
    .bind(external_id)
    .run(conn)
    .await)?;
    Ok(())
}

/// The ids that chats had until their networks moved them, each with its instance. They are few.
pub async fn moved_ids(tx: &mut Tx) -> Result<Vec<(Uuid, String)>> {
    Ok(on!(tx, conn => sqlx::query_as("select instance_id, external_id from chat_id_mappings where moved")
        .fetch_all(conn)
        .await)?)
}

/// Gives a chat the id that it has from now on; the one that it had stays known.
pub async fn rename(tx: &mut Tx, instance_id: Uuid, chat_id: Uuid, external_id: &str, now: Time) -> Result<()> {
    let before: String = on!(tx, conn => sqlx::query_scalar("select external_id from chats where id = $1")
        .bind(chat_id)
        .fetch_one(conn)
        .await)?;
    if before == external_id {
        return Ok(());
    }
    on!(tx, conn => sqlx::query("delete from chat_id_mappings where instance_id = $1 and external_id = $2")
        .bind(instance_id)
        .bind(external_id)
        .run(conn)
        .await)?;
    on!(tx, conn => sqlx::query(
        "update chats set external_id = $2, canonical_id = $3, updated_at = $4 where id = $1",
    )
    .bind(chat_id)
    .bind(external_id)
    .bind(&before)
    .bind(now)
    .run(conn)
    .await)?;
    map(tx, instance_id, &before, chat_id, now).await
}

/// Makes two chats one: everything of `gone` becomes `kept`'s, and its ids lead there. Where both have the same message
/// or the same participant, `kept`'s stays.
pub async fn merge(tx: &mut Tx, instance_id: Uuid, kept: Uuid, gone: Uuid, now: Time) -> Result<()> {
    for text in [
        "update messages set chat_id = $1 where chat_id = $2 and not exists (select 1 from messages kept
           where kept.chat_id = $1 and kept.external_id = messages.external_id and kept.part = messages.part)",
        "update early_events set chat_id = $1 where chat_id = $2",
        "update chat_participants set chat_id = $1 where chat_id = $2 and not exists (select 1 from chat_participants kept
           where kept.chat_id = $1 and kept.platform_user_id = chat_participants.platform_user_id)",
        "update chat_id_mappings set chat_id = $1 where chat_id = $2",
        "update chats set parent_chat_id = $1 where parent_chat_id = $2",
        "update chats set unread_count = unread_count + (select unread_count from chats gone where gone.id = $2),
           name = coalesce(name, (select name from chats gone where gone.id = $2)),
           last_message_preview = (select last_message_preview from chats newest where newest.id in ($1, $2)
             order by newest.last_message_at desc nulls last, newest.id = $2 limit 1),
           last_message_at = (select max(either.last_message_at) from chats either where either.id in ($1, $2)),
           delivered_up_to = (select max(either.delivered_up_to) from chats either where either.id in ($1, $2)),
           read_up_to = (select max(either.read_up_to) from chats either where either.id in ($1, $2)),
           own_read_up_to = (select max(either.own_read_up_to) from chats either where either.id in ($1, $2)),
           message_count = (select count(*) from messages where chat_id = $1)
         where id = $1 and $2 is not null",
    ] {
        on!(tx, conn => sqlx::query(text).bind(kept).bind(gone).run(conn).await)?;
    }
    let twice: i64 = on!(tx, conn => sqlx::query_scalar("select count(*) from messages where chat_id = $1")
        .bind(gone)
        .fetch_one(conn)
        .await)?;
    tx.count(instance_id, Account::Messages, -twice);
    let external_id: String = on!(tx, conn => sqlx::query_scalar("delete from chats where id = $1 returning external_id")
        .bind(gone)
        .fetch_one(conn)
        .await)?;
    map(tx, instance_id, &external_id, kept, now).await
}

/// The network gave a chat another id, under which messages are counted anew: both ids are one chat from now on, and what
/// was stored under the old one is told apart from what comes (see `keep_apart`). Moving again changes nothing. Says
/// whether one of the two was known.
pub async fn moved(tx: &mut Tx, instance_id: Uuid, from: &str, to: &str, now: Time) -> Result<bool> {
    let known = find(tx, &[(instance_id, from), (instance_id, to)]).await?;
    let find = |wanted: &str| known.iter().find(|known| known.external_id == wanted).map(|known| known.id);
    let chat = match (find(from), find(to)) {
        (Some(old), Some(new)) if old == new => return Ok(true),
        (Some(old), Some(new)) => {
            keep_apart(tx, instance_id, old, from, to, now).await?;
            // The one that was made first is kept: ids rise with time.
            let kept = old.min(new);
            merge(tx, instance_id, kept, old.max(new), now).await?;
            rename(tx, instance_id, kept, to, now).await?;
            kept
        }
        (Some(old), None) => {
            keep_apart(tx, instance_id, old, from, to, now).await?;
            rename(tx, instance_id, old, to, now).await?;
            old
        }
        (None, Some(new)) => new,
        (None, None) => return Ok(false),
    };
    map_moved(tx, instance_id, from, chat, now).await?;
    Ok(true)
}

/// Messages of a chat that is about to move get ids of their own, `<old chat>/<message>`: the new chat has other messages
/// under the same numbers. What has such an id from an earlier move keeps it. What still waits to be sent there queues up
/// with what is sent to the new id.
async fn keep_apart(tx: &mut Tx, instance_id: Uuid, chat: Uuid, from: &str, to: &str, now: Time) -> Result<()> {
    on!(tx, conn => sqlx::query(
        "update messages set external_id = $2 || '/' || external_id,
           reply_to_external_id = $2 || '/' || reply_to_external_id, updated_at = $3
         where chat_id = $1 and (external_id is not null or reply_to_external_id is not null)
           and not exists (select 1 from chat_id_mappings m where m.chat_id = $1 and m.moved
             and substr(coalesce(messages.external_id, messages.reply_to_external_id), 1, length(m.external_id) + 1)
               = m.external_id || '/')",
    )
    .bind(chat)
    .bind(from)
    .bind(now)
    .run(conn)
    .await)?;
    on!(tx, conn => sqlx::query("update early_events set external_id = $2 || '/' || external_id where chat_id = $1")
        .bind(chat)
        .bind(from)
        .run(conn)
        .await)?;
    on!(tx, conn => sqlx::query(
        "update outbox set chat_key = $3 where instance_id = $1 and chat_key = $2
           and status in ('pending', 'sending', 'unknown', 'reconciling')",
    )
    .bind(instance_id)
    .bind(from)
    .bind(to)
    .run(conn)
    .await)?;
    Ok(())
}

static FIND_IN_THREADS: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "select v.column1, t.id, m.external_id from (",
        "uuid text",
        ") v cross join chats t cross join messages m
           where t.parent_chat_id = v.column1 and m.chat_id = t.id and m.external_id = v.column2",
    )
});

/// Where messages are that were looked for in a chat, given as (chat, the network's id), and lie in one of its threads:
/// the chat, the thread, the network's id.
pub async fn find_in_threads(tx: &mut Tx, keys: &[(Uuid, &str)]) -> Result<Vec<(Uuid, Uuid, String)>> {
    bulk::fetch(tx, &FIND_IN_THREADS, keys, |row, (chat, message)| {
        row.bind(*chat).bind(*message);
    })
    .await
}

/// Counts a message that the host itself has stored in a chat, and shows it there.
pub async fn count_own(tx: &mut Tx, chat_id: Uuid, at: Time, preview: &str, now: Time) -> Result<()> {
    let change = ChatChange { id: chat_id, messages: 1, last: Some((at, preview.to_owned())), ..ChatChange::default() };
    update(tx, &[change], now).await
}
