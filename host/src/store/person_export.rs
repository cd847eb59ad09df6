//! Everything that is stored about a person, a page at a time: lines of JSON, each with its `kind`.
//!
//! `person`, `identity`, `seat` (in a chat), `message` (that they wrote), `media` (of these), `reaction` and `vote` (on
//! messages of whomever), `event` (that they caused, with the network's own words), and `end` with the number of lines before
//! it: an export without it is not whole.
//!
//! Deliberately not here: what others wrote, and the bytes of files, which the API gives by the id of `media`.

use super::erasures::Subject;
use super::erasures::messages::{Found, Look, look};
use super::page::{InstanceSet, hex_list};
use super::person_list::{self, Identity, Person};
use super::{Result, Store, Time, Tx, message_list, on};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sqlx::FromRow;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Rows of one page.
const PAGE: i64 = 200;

/// Where an export is.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Person,
    Seats,
    Messages,
    Events,
    End,
    Over,
}

/// An export under way. It holds no transaction between two pages: what is written meanwhile may be in it or not.
#[derive(Debug)]
pub struct Export {
    store: Store,
    subject: Subject,
    person: Person,
    identities: Vec<Identity>,
    stage: Stage,
    after_id: Uuid,
    after_seq: i64,
    until: Uuid,
    lines: u64,
}

#[derive(FromRow, Serialize)]
#[serde(rename_all = "camelCase")]
struct Seat {
    #[serde(skip)]
    id: Uuid,
    chat_id: Uuid,
    platform_user_id: String,
    display_name: Option<String>,
    role: Option<String>,
    is_active: bool,
    joined_at: Option<Time>,
    left_at: Option<Time>,
    last_seen_at: Option<Time>,
    message_count: i64,
}

#[derive(FromRow, Serialize)]
#[serde(rename_all = "camelCase")]
struct Media {
    id: Uuid,
    message_id: Uuid,
    mime_type: Option<String>,
    file_name: Option<String>,
    size: Option<i64>,
    sha256: Option<String>,
    status: String,
    created_at: Time,
}

#[derive(FromRow, Serialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    seq: i64,
    id: Uuid,
    event_type: String,
    channel: String,
    instance_id: Uuid,
    chat_id: Option<String>,
    message_id: Option<Uuid>,
    #[sqlx(json)]
    payload: Box<RawValue>,
    #[sqlx(json(nullable))]
    raw_payload: Option<Box<RawValue>>,
    received_at: Time,
}

/// What they did to a message, as it is kept with it.
#[derive(FromRow)]
struct Said {
    id: Uuid,
    reactions: Option<String>,
    poll_votes: Option<String>,
}

/// A line: what it is, and the row.
#[derive(Serialize)]
struct Line<'a, T> {
    kind: &'static str,
    #[serde(flatten)]
    row: &'a T,
}

/// Begins one; `None` when there is no such person.
pub async fn begin(store: &Store, person: Uuid, now: Time) -> Result<Option<Export>> {
    let Some((found, identities)) = person_list::get(store, person, &InstanceSet::All).await? else { return Ok(None) };
    let subject = Subject::load(&mut store.read().await?, person).await?;
    Ok(Some(Export {
        store: store.clone(),
        subject,
        person: found,
        identities,
        stage: Stage::Person,
        after_id: Uuid::nil(),
        after_seq: 0,
        until: store.new_id(now),
        lines: 0,
    }))
}

impl Export {
    /// The next lines; `None` behind the last.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let mut page = Vec::new();
        match self.stage {
            Stage::Person => {
                self.write(&mut page, "person", &self.person.clone());
                for identity in std::mem::take(&mut self.identities) {
                    self.write(&mut page, "identity", &identity);
                }
                self.stage = Stage::Seats;
            }
            Stage::Seats => {
                let seats = self.seats().await?;
                seats.iter().for_each(|seat| self.write(&mut page, "seat", seat));
                match seats.last() {
                    Some(last) => self.after_id = last.id,
                    None => (self.stage, self.after_id) = (Stage::Messages, Uuid::nil()),
                }
            }
            Stage::Messages => {
                let mut tx = self.store.read().await?;
                let Look { found, after, ended } = look(&mut tx, &self.subject, self.after_id, self.until).await?;
                self.messages(&mut tx, &mut page, &found).await?;
                self.after_id = after;
                if ended {
                    self.stage = Stage::Events;
                }
            }
            Stage::Events => {
                let events = self.events().await?;
                events.iter().for_each(|event| self.write(&mut page, "event", event));
                match events.last() {
                    Some(last) => self.after_seq = last.seq,
                    None => self.stage = Stage::End,
                }
            }
            Stage::End => {
                let lines = self.lines;
                self.write(&mut page, "end", &json!({ "lines": lines }));
                self.stage = Stage::Over;
            }
            Stage::Over => return Ok(None),
        }
        Ok(Some(page))
    }

    fn write<T: Serialize>(&mut self, page: &mut Vec<u8>, kind: &'static str, row: &T) {
        serde_json::to_writer(&mut *page, &Line { kind, row }).expect("rows are plain JSON");
        page.push(b'\n');
        self.lines += 1;
    }

    async fn seats(&self) -> Result<Vec<Seat>> {
        let mut tx = self.store.read().await?;
        Ok(on!(&mut tx, conn => sqlx::query_as(
            "select id, chat_id, platform_user_id, display_name, role, is_active, joined_at, left_at, last_seen_at,
               message_count from chat_participants where person_id = $1 and id > $2 order by id limit $3")
            .bind(self.subject.person_id).bind(self.after_id).bind(PAGE).fetch_all(conn).await)?)
    }

    async fn messages(&mut self, tx: &mut Tx, page: &mut Vec<u8>, found: &[Found]) -> Result<()> {
        let theirs: Vec<Uuid> = found.iter().filter(|found| found.theirs).map(|found| found.id).collect();
        for message in message_list::of_ids(tx, &theirs).await? {
            self.write(page, "message", &message);
        }
        let media: Vec<Media> = on!(tx, conn => sqlx::query_as(
            "select id, message_id, mime_type, file_name, size, sha256, status, created_at from media
             where message_id in (select unhex(value) from json_each($1)) order by id")
            .bind(hex_list(&theirs)).fetch_all(conn).await)?;
        media.iter().for_each(|media| self.write(page, "media", media));
        let ids: Vec<Uuid> = found.iter().map(|found| found.id).collect();
        let said: Vec<Said> = on!(tx, conn => sqlx::query_as(
            "select id, cast(reactions as text) as reactions, cast(poll_votes as text) as poll_votes from messages
             where id in (select unhex(value) from json_each($1)) order by id")
            .bind(hex_list(&ids)).fetch_all(conn).await)?;
        for said in said {
            let Some(found) = found.iter().find(|found| found.id == said.id) else { continue };
            let users: Vec<String> = self.subject.users(found.instance_id).into_iter().map(str::to_owned).collect();
            let is_theirs = |user: &str| users.iter().any(|known| known == user);
            let reactions: Vec<Value> = read(said.reactions.as_deref());
            for reaction in reactions.iter().filter(|one| one["platformUserId"].as_str().is_some_and(is_theirs)) {
                self.write(page, "reaction", &json!({"messageId": said.id, "reaction": reaction}));
            }
            let votes: BTreeMap<String, Value> = read(said.poll_votes.as_deref());
            for (user, options) in votes.iter().filter(|(user, _)| is_theirs(user)) {
                self.write(page, "vote", &json!({"messageId": said.id, "platformUserId": user, "optionIds": options}));
            }
        }
        Ok(())
    }

    async fn events(&self) -> Result<Vec<Event>> {
        let mut tx = self.store.read().await?;
        Ok(on!(&mut tx, conn => sqlx::query_as(
            "select seq, id, event_type, channel, instance_id, chat_id, message_id, payload, raw_payload, received_at
             from omni_events where person_id = $1 and seq > $2 order by seq limit $3")
            .bind(self.subject.person_id).bind(self.after_seq).bind(PAGE).fetch_all(conn).await)?)
    }
}

fn read<T: for<'de> serde::Deserialize<'de> + Default>(text: Option<&str>) -> T {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}
