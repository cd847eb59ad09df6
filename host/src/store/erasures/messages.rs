//! The messages that somebody wrote, answered to or was answered in: found by a walk through all of them, in the order of
//! their ids, so that nothing hangs on an index that only this would need.

use super::{Erasure, File, Step, Subject, begin_thorough, save};
use crate::store::apply::content::preview_of_text;
use crate::store::apply::reaction;
use crate::store::messages::{self, MessageRow};
use crate::store::page::hex_list;
use crate::store::{Result, Run, Store, Time, Tx, on};
use omni_channel_sdk::content::Content;
use sqlx::FromRow;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Messages that are looked at in one step.
const PAGE: i64 = 1_000;
/// Messages that are written in one step at most.
const WRITES: i64 = 200;

/// One that has something of theirs in it.
#[derive(Debug, FromRow)]
pub(in crate::store) struct Found {
    pub id: Uuid,
    pub instance_id: Uuid,
    /// Whether they wrote it.
    pub theirs: bool,
    /// Whether it quotes what they wrote.
    pub quotes: bool,
}

/// What is found in one look.
pub(in crate::store) struct Look {
    /// In the order of their ids.
    pub found: Vec<Found>,
    /// Where to look on.
    pub after: Uuid,
    /// Whether there is nothing more.
    pub ended: bool,
}

pub(super) async fn step(store: &Store, erasure: &mut Erasure, now: Time) -> Result<Step> {
    let subject = erasure.subject();
    let mut tx = store.read().await?;
    let Look { found, after, ended } = look(&mut tx, &subject, erasure.after_id, erasure.until_id).await?;
    drop(tx);
    erasure.after_id = after;
    let mut step = Step { ended, ..Step::default() };
    if !found.is_empty() {
        let mut tx = begin_thorough(store).await?;
        step.files = write(&mut tx, &subject, erasure, &found, now).await?;
        save(&mut tx, erasure).await?;
        tx.commit().await?;
    }
    Ok(step)
}

/// Looks at the next messages.
pub(in crate::store) async fn look(tx: &mut Tx, subject: &Subject, after: Uuid, until: Uuid) -> Result<Look> {
    let full: Option<Uuid> = on!(tx, conn => sqlx::query_scalar(
        "select id from messages where id > $1 and id <= $2 order by id limit 1 offset $3")
        .bind(after).bind(until).bind(PAGE - 1).fetch_optional(conn).await)?;
    let end = full.unwrap_or(until);
    let found = find(tx, subject, after, end).await?;
    // What did not fit is looked for again.
    let cut = i64::try_from(found.len()).unwrap_or(i64::MAX) >= WRITES;
    let after = found.last().filter(|_| cut).map_or(end, |last| last.id);
    Ok(Look { found, after, ended: full.is_none() && !cut })
}

async fn find(tx: &mut Tx, subject: &Subject, after: Uuid, end: Uuid) -> Result<Vec<Found>> {
    const SQL: &str = "select id, instance_id, theirs, quotes from (
        select m.id, c.instance_id,
          coalesce(m.sender_person_id = $4, false)
            or coalesce(m.sender_platform_identity_id in (select unhex(value) from json_each($5)), false) as theirs,
          (m.quoted_text is not null or m.quoted_sender_name is not null) and exists (
            select 1 from messages t where t.id = m.reply_to_message_id and (t.status = 'erased'
              or t.sender_person_id = $4 or t.sender_platform_identity_id in (select unhex(value) from json_each($5))))
            as quotes,
          coalesce(cast(m.reactions as text), '') || coalesce(cast(m.reaction_revisions as text), '')
            || coalesce(cast(m.poll_votes as text), '') as said
        from messages m join chats c on c.id = m.chat_id
        where m.id > $1 and m.id <= $2 and c.instance_id in (select unhex(value) from json_each($3))) seen
        where theirs or quotes
          or (said <> '' and exists (select 1 from json_each($6) as wanted where said like wanted.value escape '\\'))
        order by id limit $7";
    Ok(on!(tx, conn => sqlx::query_as(SQL)
        .bind(after)
        .bind(end)
        .bind(hex_list(&subject.instances()))
        .bind(subject.person_id)
        .bind(hex_list(&subject.account_ids()))
        .bind(subject.patterns())
        .bind(WRITES)
        .fetch_all(conn)
        .await)?)
}

async fn write(tx: &mut Tx, subject: &Subject, erasure: &mut Erasure, found: &[Found], now: Time) -> Result<Vec<File>> {
    let ids: Vec<Uuid> = found.iter().map(|found| found.id).collect();
    let mut changed: Vec<MessageRow> = Vec::new();
    let mut emptied: Vec<Uuid> = Vec::new();
    let mut previews: BTreeMap<Uuid, Vec<String>> = BTreeMap::new();
    for mut row in messages::load_by_id(tx, &ids).await? {
        let Some(found) = found.iter().find(|found| found.id == row.id) else { continue };
        let mut touched = reaction::forget(&mut row, &subject.users(found.instance_id));
        if found.theirs {
            let words = [&row.text_content, &row.original_text];
            previews
                .entry(row.chat_id)
                .or_default()
                .extend(words.into_iter().flatten().map(|text| preview_of_text(text)));
            empty(&mut row, now);
            emptied.push(row.id);
            touched = true;
        }
        if found.quotes {
            (row.quoted_text, row.quoted_sender_name) = (None, None);
            touched = true;
        }
        if touched {
            changed.push(row);
        }
    }
    let rows: Vec<&MessageRow> = changed.iter().collect();
    messages::update(tx, &rows, now).await?;
    messages::complete(tx, &rows).await?;
    for (chat, previews) in previews {
        let previews = serde_json::to_string(&previews).expect("strings are JSON");
        on!(tx, conn => sqlx::query(
            "update chats set last_message_preview = null where id = $1
               and last_message_preview in (select value from json_each($2))")
            .bind(chat).bind(previews).run(conn).await)?;
    }
    let list = hex_list(&emptied);
    on!(tx, conn => sqlx::query(
        "update messages set media_url = null, media_local_path = null
         where id in (select unhex(value) from json_each($1))").bind(&list).run(conn).await)?;
    let files: Vec<File> = on!(tx, conn => sqlx::query_as(
        "delete from media where message_id in (select unhex(value) from json_each($1))
         returning path, coalesce(size, 0) as size").bind(&list).fetch_all(conn).await)?;
    erasure.messages += i64::try_from(emptied.len()).unwrap_or(0);
    erasure.files += i64::try_from(files.iter().filter(|file| file.path.is_some()).count()).unwrap_or(0);
    Ok(files)
}

/// Leaves the place of a message and nothing of it.
fn empty(row: &mut MessageRow, now: Time) {
    let nothing = Content::text("");
    *row = MessageRow {
        id: row.id,
        chat_id: row.chat_id,
        external_id: row.external_id.take(),
        part: std::mem::take(&mut row.part),
        client_id: row.client_id.take(),
        source: std::mem::take(&mut row.source),
        sender_person_id: None,
        sender_platform_identity_id: None,
        sender_platform_user_id: None,
        sender_display_name: None,
        is_from_me: row.is_from_me,
        message_type: "text".to_owned(),
        text_content: None,
        content: serde_json::to_string(&nothing).expect("wire types are plain JSON"),
        has_media: false,
        media_mime_type: None,
        media_url: None,
        media_metadata: None,
        reply_to_message_id: row.reply_to_message_id,
        reply_to_external_id: row.reply_to_external_id.take(),
        quoted_text: None,
        quoted_sender_name: None,
        forwarded_from_external_id: None,
        forward_count: 0,
        is_forwarded: false,
        album: None,
        mentions: None,
        status: "erased".to_owned(),
        delivery_status: row.delivery_status.take(),
        error: None,
        edit_count: 0,
        original_text: None,
        edit_history: None,
        revision: row.revision,
        edited_at: None,
        // Whoever takes it back says nothing new.
        deleted_at: row.deleted_at.or(Some(now)),
        // What others said about it is theirs.
        reactions: row.reactions.take(),
        reaction_counts: row.reaction_counts.take(),
        reaction_revisions: row.reaction_revisions.take(),
        poll_id: None,
        poll_votes: None,
        original_event_id: row.original_event_id,
        latest_event_id: row.latest_event_id,
        platform_timestamp: row.platform_timestamp,
        received_at: row.received_at,
    };
}
