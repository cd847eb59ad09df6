//! Messages, as they are written.
//!
//! Deliberately not here: reading them for people, and what an event does to one. `apply` decides that on rows in memory
//! and writes them back whole.

use super::bulk::{self, Bulk};
use super::ledger::Account;
use super::{Result, Run, Time, Tx, on};
use std::sync::LazyLock;
use uuid::Uuid;

/// One message, or one part of it, as it is stored. JSON columns are text.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
#[expect(missing_docs, reason = "the columns are explained in the migration")]
pub struct MessageRow {
    pub id: Uuid,
    pub chat_id: Uuid,
    pub external_id: Option<String>,
    pub part: String,
    pub client_id: Option<String>,
    pub source: String,
    pub sender_person_id: Option<Uuid>,
    pub sender_platform_identity_id: Option<Uuid>,
    pub sender_platform_user_id: Option<String>,
    pub sender_display_name: Option<String>,
    pub is_from_me: bool,
    pub message_type: String,
    pub text_content: Option<String>,
    pub content: String,
    pub has_media: bool,
    pub media_mime_type: Option<String>,
    pub media_url: Option<String>,
    pub media_metadata: Option<String>,
    pub reply_to_message_id: Option<Uuid>,
    pub reply_to_external_id: Option<String>,
    pub quoted_text: Option<String>,
    pub quoted_sender_name: Option<String>,
    pub forwarded_from_external_id: Option<String>,
    pub forward_count: i64,
    pub is_forwarded: bool,
    pub album: Option<String>,
    pub mentions: Option<String>,
    pub status: String,
    pub delivery_status: Option<String>,
    pub error: Option<String>,
    pub edit_count: i64,
    pub original_text: Option<String>,
    pub edit_history: Option<String>,
    pub revision: i64,
    pub edited_at: Option<Time>,
    pub deleted_at: Option<Time>,
    pub reactions: Option<String>,
    pub reaction_counts: Option<String>,
    pub reaction_revisions: Option<String>,
    pub poll_id: Option<String>,
    pub poll_votes: Option<String>,
    pub original_event_id: Option<Uuid>,
    pub latest_event_id: Option<Uuid>,
    pub platform_timestamp: Time,
    pub received_at: Time,
}

/// The columns of [`MessageRow`], of `messages m`: JSON is read as it was written.
macro_rules! columns {
    () => {
        "m.id, m.chat_id, m.external_id, m.part, m.client_id, m.source, m.sender_person_id,  \
         m.sender_platform_identity_id, m.sender_platform_user_id, m.sender_display_name, m.is_from_me,  \
         m.message_type, m.text_content, cast(m.content as text) as content, m.has_media, m.media_mime_type,  \
         m.media_url, cast(m.media_metadata as text) as media_metadata, m.reply_to_message_id,  \
         m.reply_to_external_id, m.quoted_text, m.quoted_sender_name, m.forwarded_from_external_id, m.forward_count,  \
         m.is_forwarded, m.album, cast(m.mentions as text) as mentions, m.status, m.delivery_status, m.error,  \
         m.edit_count, m.original_text, cast(m.edit_history as text) as edit_history, m.revision, m.edited_at,  \
         m.deleted_at, cast(m.reactions as text) as reactions, cast(m.reaction_counts as text) as reaction_counts,  \
         cast(m.reaction_revisions as text) as reaction_revisions, m.poll_id,  \
         cast(m.poll_votes as text) as poll_votes, m.original_event_id, m.latest_event_id, m.platform_timestamp,  \
         m.received_at"
    };
}
pub(super) use columns;

static LOAD: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        concat!("select ", columns!(), " from ("),
        "uuid text",
        ") v cross join messages m where m.chat_id = v.column1 and m.external_id = v.column2",
    )
});

/// All parts of the messages with these ids, given as (chat, the network's id).
pub async fn load(tx: &mut Tx, keys: &[(Uuid, &str)]) -> Result<Vec<MessageRow>> {
    bulk::fetch(tx, &LOAD, keys, |row, (chat, message)| {
        row.bind(*chat).bind(*message);
    })
    .await
}

/// Messages by our ids.
pub async fn load_by_id(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<MessageRow>> {
    const SQL: &str = concat!(
        "select ",
        columns!(),
        " from messages m where m.id in (select unhex(value) from json_each($1)) order by m.id"
    );
    Ok(on!(tx, conn => sqlx::query_as(SQL).bind(super::page::hex_list(ids)).fetch_all(conn).await)?)
}

static LOAD_SENT: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        concat!("select ", columns!(), " from ("),
        "uuid text",
        ") v cross join messages m cross join chats c
           where m.client_id = v.column2 and c.id = m.chat_id and c.instance_id = v.column1",
    )
});

/// Messages that we sent under these ids, given as (instance, our id).
pub async fn load_sent(tx: &mut Tx, keys: &[(Uuid, &str)]) -> Result<Vec<MessageRow>> {
    bulk::fetch(tx, &LOAD_SENT, keys, |row, (instance, client)| {
        row.bind(*instance).bind(*client);
    })
    .await
}

static LOAD_POLLS: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        concat!("select ", columns!(), " from ("),
        "uuid text",
        ") v cross join messages m cross join chats c
           where m.poll_id = v.column2 and c.id = m.chat_id and c.instance_id = v.column1",
    )
});

/// Messages with these polls, given as (instance, the network's id of the poll).
pub async fn load_polls(tx: &mut Tx, keys: &[(Uuid, &str)]) -> Result<Vec<MessageRow>> {
    bulk::fetch(tx, &LOAD_POLLS, keys, |row, (instance, poll)| {
        row.bind(*instance).bind(*poll);
    })
    .await
}

static INSERT: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "insert into messages (id, chat_id, external_id, part, client_id, source, sender_person_id, \
         sender_platform_identity_id, sender_platform_user_id, sender_display_name, is_from_me, message_type, \
         text_content, content, has_media, media_mime_type, media_url, media_metadata, reply_to_message_id, \
         reply_to_external_id, quoted_text, quoted_sender_name, forwarded_from_external_id, forward_count, \
         is_forwarded, album, mentions, status, delivery_status, error, edit_count, original_text, edit_history, \
         revision, edited_at, deleted_at, reactions, reaction_counts, reaction_revisions, poll_id, poll_votes, \
         original_event_id, latest_event_id, platform_timestamp, received_at, created_at, updated_at)",
        "uuid uuid text text text text uuid uuid text text boolean text text json boolean text text json \
         uuid text text text text bigint boolean text json text text text bigint text json bigint \
         timestamptz timestamptz json json json text json uuid uuid timestamptz timestamptz timestamptz \
         timestamptz",
        "",
    )
});

/// What most new messages need; the other columns keep their defaults.
static INSERT_PLAIN: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "insert into messages (id, chat_id, external_id, sender_person_id, sender_platform_identity_id, \
         sender_platform_user_id, sender_display_name, text_content, content, original_event_id, latest_event_id, \
         platform_timestamp, received_at, created_at, updated_at)",
        "uuid uuid text uuid uuid text text text json uuid uuid timestamptz timestamptz timestamptz \
         timestamptz",
        "",
    )
});

impl MessageRow {
    /// Whether it has nothing but what `INSERT_PLAIN` writes.
    fn is_plain(&self) -> bool {
        self.message_type == "text"
            && self.source == "realtime"
            && self.part.is_empty()
            && !self.is_from_me
            && self.delivery_status.is_none()
            && self.client_id.is_none()
            && self.reply_to_external_id.is_none()
            && !self.is_forwarded
            && self.album.is_none()
            && self.mentions.is_none()
            && self.status == "active"
            && self.error.is_none()
            && self.edit_count == 0
            && self.revision == 0
            && self.reactions.is_none()
            && self.reaction_counts.is_none()
            && self.reaction_revisions.is_none()
            && self.poll_votes.is_none()
            && self.poll_id.is_none()
            && self.deleted_at.is_none()
    }
}

/// Stores new messages.
pub async fn insert(tx: &mut Tx, rows: &[&MessageRow], now: Time) -> Result<()> {
    let (plain, full): (Vec<&MessageRow>, Vec<&MessageRow>) = rows.iter().partition(|row| row.is_plain());
    bulk::execute(tx, &INSERT_PLAIN, &plain, |row, message| {
        row.bind(message.id)
            .bind(message.chat_id)
            .bind(message.external_id.as_deref())
            .bind(message.sender_person_id)
            .bind(message.sender_platform_identity_id)
            .bind(message.sender_platform_user_id.as_deref())
            .bind(message.sender_display_name.as_deref())
            .bind(message.text_content.as_deref())
            .bind(message.content.as_str())
            .bind(message.original_event_id)
            .bind(message.latest_event_id)
            .bind(message.platform_timestamp)
            .bind(message.received_at)
            .bind(now)
            .bind(now);
    })
    .await?;
    bulk::execute(tx, &INSERT, &full, |row, message| bind_all(row, message, now)).await?;
    Ok(())
}

fn bind_all(row: &mut bulk::Binder, message: &MessageRow, now: Time) {
    row.bind(message.id)
        .bind(message.chat_id)
        .bind(message.external_id.as_deref())
        .bind(message.part.as_str())
        .bind(message.client_id.as_deref())
        .bind(message.source.as_str())
        .bind(message.sender_person_id)
        .bind(message.sender_platform_identity_id)
        .bind(message.sender_platform_user_id.as_deref())
        .bind(message.sender_display_name.as_deref())
        .bind(message.is_from_me)
        .bind(message.message_type.as_str())
        .bind(message.text_content.as_deref())
        .bind(message.content.as_str())
        .bind(message.has_media)
        .bind(message.media_mime_type.as_deref())
        .bind(message.media_url.as_deref())
        .bind(message.media_metadata.as_deref())
        .bind(message.reply_to_message_id)
        .bind(message.reply_to_external_id.as_deref())
        .bind(message.quoted_text.as_deref())
        .bind(message.quoted_sender_name.as_deref())
        .bind(message.forwarded_from_external_id.as_deref())
        .bind(message.forward_count)
        .bind(message.is_forwarded)
        .bind(message.album.as_deref())
        .bind(message.mentions.as_deref())
        .bind(message.status.as_str())
        .bind(message.delivery_status.as_deref())
        .bind(message.error.as_deref())
        .bind(message.edit_count)
        .bind(message.original_text.as_deref())
        .bind(message.edit_history.as_deref())
        .bind(message.revision)
        .bind(message.edited_at)
        .bind(message.deleted_at)
        .bind(message.reactions.as_deref())
        .bind(message.reaction_counts.as_deref())
        .bind(message.reaction_revisions.as_deref())
        .bind(message.poll_id.as_deref())
        .bind(message.poll_votes.as_deref())
        .bind(message.original_event_id)
        .bind(message.latest_event_id)
        .bind(message.platform_timestamp)
        .bind(message.received_at)
        .bind(now)
        .bind(now);
}

static UPDATE: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "update messages set
           external_id = v.column2, part = v.column3, message_type = v.column4, text_content = v.column5,
           content = v.column6, has_media = v.column7, media_mime_type = v.column8, media_metadata = v.column9,
           mentions = v.column10, status = v.column11, delivery_status = v.column12, error = v.column13,
           edit_count = v.column14, original_text = v.column15, edit_history = v.column16, revision = v.column17,
           edited_at = v.column18, deleted_at = v.column19, reactions = v.column20, reaction_counts = v.column21,
           reaction_revisions = v.column22, poll_id = v.column23, poll_votes = v.column24,
           latest_event_id = v.column25, updated_at = v.column26
         from (",
        "uuid text text text text json boolean text json json text text text bigint text json bigint \
         timestamptz timestamptz json json json text json uuid timestamptz",
        ") v where messages.id = v.column1",
    )
});

/// Writes messages back whose content, state or reactions changed; each is named once.
pub async fn update(tx: &mut Tx, rows: &[&MessageRow], now: Time) -> Result<()> {
    bulk::execute(tx, &UPDATE, rows, |row, message| {
        row.bind(message.id)
            .bind(message.external_id.as_deref())
            .bind(message.part.as_str())
            .bind(message.message_type.as_str())
            .bind(message.text_content.as_deref())
            .bind(message.content.as_str())
            .bind(message.has_media)
            .bind(message.media_mime_type.as_deref())
            .bind(message.media_metadata.as_deref())
            .bind(message.mentions.as_deref())
            .bind(message.status.as_str())
            .bind(message.delivery_status.as_deref())
            .bind(message.error.as_deref())
            .bind(message.edit_count)
            .bind(message.original_text.as_deref())
            .bind(message.edit_history.as_deref())
            .bind(message.revision)
            .bind(message.edited_at)
            .bind(message.deleted_at)
            .bind(message.reactions.as_deref())
            .bind(message.reaction_counts.as_deref())
            .bind(message.reaction_revisions.as_deref())
            .bind(message.poll_id.as_deref())
            .bind(message.poll_votes.as_deref())
            .bind(message.latest_event_id)
            .bind(now);
    })
    .await?;
    Ok(())
}

static COMPLETE: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "update messages set
           sender_person_id = v.column2, sender_platform_identity_id = v.column3, sender_platform_user_id = v.column4,
           sender_display_name = v.column5, is_from_me = v.column6, reply_to_message_id = v.column7,
           reply_to_external_id = v.column8, quoted_text = v.column9, quoted_sender_name = v.column10,
           forwarded_from_external_id = v.column11, forward_count = v.column12, is_forwarded = v.column13,
           album = v.column14, platform_timestamp = v.column15
         from (",
        "uuid uuid uuid text text boolean uuid text text text text bigint boolean text timestamptz",
        ") v where messages.id = v.column1",
    )
});

/// Writes what only a message itself says into rows that an edit of it had made; each is named once.
pub async fn complete(tx: &mut Tx, rows: &[&MessageRow]) -> Result<()> {
    bulk::execute(tx, &COMPLETE, rows, |row, message| {
        row.bind(message.id)
            .bind(message.sender_person_id)
            .bind(message.sender_platform_identity_id)
            .bind(message.sender_platform_user_id.as_deref())
            .bind(message.sender_display_name.as_deref())
            .bind(message.is_from_me)
            .bind(message.reply_to_message_id)
            .bind(message.reply_to_external_id.as_deref())
            .bind(message.quoted_text.as_deref())
            .bind(message.quoted_sender_name.as_deref())
            .bind(message.forwarded_from_external_id.as_deref())
            .bind(message.forward_count)
            .bind(message.is_forwarded)
            .bind(message.album.as_deref())
            .bind(message.platform_timestamp);
    })
    .await?;
    Ok(())
}

/// A message that was stored before the one that it answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// It.
    pub by: Uuid,
    /// What it answers.
    pub message: Uuid,
    /// The words of that, for an answer that does not quote them.
    pub text: Option<String>,
    /// Who wrote that.
    pub sender: Option<String>,
}

static LINK: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "update messages set reply_to_message_id = v.column2, quoted_text = coalesce(quoted_text, v.column3),
           quoted_sender_name = coalesce(quoted_sender_name, v.column4)
         from (",
        "uuid uuid text text",
        ") v where messages.id = v.column1",
    )
});

/// Leads answers to what they answer; each is named once.
pub async fn link_answers(tx: &mut Tx, answers: &[Answer]) -> Result<()> {
    bulk::execute(tx, &LINK, answers, |row, answer| {
        row.bind(answer.by).bind(answer.message).bind(answer.text.as_deref()).bind(answer.sender.as_deref());
    })
    .await?;
    Ok(())
}

/// Moves the delivery of our own messages of a chat on, up to a time: `sent` → `delivered` → `read`, never back. Says
/// which: our id and the network's.
pub async fn deliver_up_to(
    tx: &mut Tx,
    chat_id: Uuid,
    up_to: Time,
    status: &str,
    now: Time,
) -> Result<Vec<(Uuid, Option<String>)>> {
    // As the index says it, which is only used so.
    macro_rules! text {
        ($mine:literal) => {
            concat!(
                "update messages set delivery_status = $3, updated_at = $4 where chat_id = $1 and ",
                $mine,
                " and delivery_status in ('sent', 'delivered') and platform_timestamp <= $2 and delivery_status <> $3 \
                 returning id, external_id"
            )
        };
    }
    let text = tx.pick(text!("is_from_me = 1"), text!("is_from_me"));
    Ok(on!(tx, conn => sqlx::query_as(text)
    .bind(chat_id)
    .bind(up_to)
    .bind(status)
    .bind(now)
    .fetch_all(conn)
    .await)?)
}

/// Gives a message of ours the id that the network gave it, and marks it as sent. When our own echo was stored under
/// that id before, that row goes, and this says so: one message stays one row.
pub async fn settle_sent(
    tx: &mut Tx,
    id: Uuid,
    external_id: &str,
    part: &str,
    at: Option<Time>,
    now: Time,
) -> Result<bool> {
    let chat_id: Uuid = on!(tx, conn => sqlx::query_scalar(
        "update messages set error = null where id = $1 returning chat_id",
    )
    .bind(id)
    .fetch_one(conn)
    .await)?;
    let echoes = on!(tx, conn => sqlx::query(
        "delete from messages where chat_id = $1 and external_id = $2 and part = $3 and id <> $4 and is_from_me",
    )
    .bind(chat_id)
    .bind(external_id)
    .bind(part)
    .bind(id)
    .run(conn)
    .await)?;
    if echoes > 0 {
        let echoes = i64::try_from(echoes).unwrap_or(0);
        let query = "update chats set message_count = message_count - $2 where id = $1 returning instance_id";
        let instance: Uuid = on!(tx, conn => sqlx::query_scalar(query)
            .bind(chat_id)
            .bind(echoes)
            .fetch_one(conn)
            .await)?;
        tx.count(instance, Account::Messages, -echoes);
    }
    on!(tx, conn => sqlx::query(
        "update messages set external_id = $2, part = $3, platform_timestamp = coalesce($4, platform_timestamp),
           delivery_status = case when delivery_status in ('delivered', 'read') then delivery_status else 'sent' end,
           updated_at = $5
         where id = $1",
    )
    .bind(id)
    .bind(external_id)
    .bind(part)
    .bind(at)
    .bind(now)
    .run(conn)
    .await)?;
    Ok(echoes > 0)
}
