//! One job, from where it is: asks for the next page, hands over what is in it, writes down how far that was.

use super::Inner;
use super::gaps::GATHER;
use super::job::{self, Failure, Plan, Position, Progress};
use super::rules::{self, MOST_OF_CHAT, PAGE, TRIES, Verdict};
use crate::bus::{Accept, AcceptError, AcceptEvent};
use crate::instances::InstanceError;
use crate::store::entry::Origin;
use crate::store::events::{self, NewDomainEvent};
use crate::store::sync_jobs::{self as rows, Behind, MISSED, Place, SyncJobRow};
use crate::store::{Result, Time};
use omni_channel_sdk::chat::MessageRef;
use omni_channel_sdk::ids::ChatId;
use omni_channel_sdk::request::{History as Ask, HistoryPage, Reply, Request};
use omni_channel_sdk::{SendError, outcome::ErrorCode};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// In how many chats one job looks, those with the newest activity first: as many questions to the network, one after
/// another.
pub(super) const MOST_CHATS: u32 = 500;
/// In chats that nothing was written in for so long nothing was missed, most likely; and each costs a question.
const ACTIVE_MS: i64 = 30 * 24 * 3_600 * 1_000;
/// How long the bus or the database is left alone that took nothing.
const PAUSE: Duration = Duration::from_secs(1);

/// A job at work.
pub(super) struct Fetch {
    inner: Arc<Inner>,
    row: SyncJobRow,
    plan: Plan,
    progress: Progress,
    /// It was cancelled, or the host stops.
    ends: CancellationToken,
}

/// What a step leads to.
enum Step {
    /// The next one.
    On,
    /// Nothing more from this task: it has ended, or it is somebody else's turn.
    Out,
    /// Nothing for so long, or until an instance begins to run.
    Rest(Duration),
}

impl Fetch {
    /// A job that has not ended. Nothing when there is none, or none that can be done.
    pub async fn load(inner: &Arc<Inner>, id: Uuid, stop: &CancellationToken) -> Result<Option<Self>> {
        let Some(row) = rows::get(&inner.store, id).await? else { return Ok(None) };
        let read = job::read(&row, "config", &row.config.0)
            .and_then(|plan| Ok((plan, job::read(&row, "progress", &row.progress.0)?)));
        match read {
            Ok((plan, progress)) => {
                let (inner, ends) = (Arc::clone(inner), stop.child_token());
                Ok(Some(Self { inner, row, plan, progress, ends }))
            }
            Err(error) => {
                let mut tx = inner.store.begin().await?;
                rows::end(&mut tx, id, "failed", Some(&error.explain()), inner.clock.now()).await?;
                tx.commit().await?;
                Ok(None)
            }
        }
    }

    /// When its channel said that something was missed, while it waits.
    pub fn missed_at(&self) -> Option<Time> {
        self.plan.wanted.missed_at.filter(|_| self.row.status == "pending")
    }

    /// What ends it.
    pub fn ends(&self) -> CancellationToken {
        self.ends.clone()
    }

    fn is_missed(&self) -> bool {
        self.row.kind == MISSED
    }

    /// Works until it has ended or cannot go on now. Before it gives up for now it rests, so that whoever begins it again may
    /// do so at once.
    pub async fn run(mut self) {
        let mut started = self.inner.instances.started();
        loop {
            started.borrow_and_update();
            let rest = match self.step().await {
                Ok(Step::On) => continue,
                Ok(Step::Out) => return,
                Ok(Step::Rest(pause)) => pause,
                Err(error) => {
                    tracing::warn!(
                        job.id = %self.row.id, error = error.explain(),
                        "a job that fetches history failed to use the store; trying again"
                    );
                    PAUSE
                }
            };
            tokio::select! {
                () = self.ends.cancelled() => {}
                () = self.inner.clock.sleep(rest) => {}
                _ = started.changed() => {}
            }
            // By whoever has the instance then, from where the row says.
            return;
        }
    }

    async fn step(&mut self) -> Result<Step> {
        if self.ends.is_cancelled() {
            return Ok(Step::Out);
        }
        if self.row.status == "pending" {
            return self.begin().await;
        }
        let done = usize::try_from(self.progress.chats_done).unwrap_or(usize::MAX);
        let Some(place) = self.plan.plan.get(done).cloned() else { return self.finish().await };
        if !self.is_missed() && self.makes_way().await? {
            return Ok(Step::Out);
        }
        let ends = self.ends.clone();
        let Some(answer) = ends.run_until_cancelled(self.ask(&place)).await else { return Ok(Step::Out) };
        match answer {
            Ok(page) => self.take(page, &place).await,
            Err(error) => self.failed(error, place).await,
        }
    }

    /// Settles where it is looked.
    async fn begin(&mut self) -> Result<Step> {
        let inner = Arc::clone(&self.inner);
        let (instance, now) = (self.row.instance_id, inner.clock.now());
        let manifest = inner.instances.manifest(&self.row.channel);
        if !manifest.is_ok_and(|manifest| manifest.capabilities.can("history")) {
            if self.plan.wanted.missed_at.is_some() {
                // A channel may say that it missed something without knowing whether anybody can ask for it.
                let mut tx = inner.store.begin().await?;
                rows::delete(&mut tx, self.row.id).await?;
                tx.commit().await?;
                return Ok(Step::Out);
            }
            return self.end("failed", Some("the channel has no history any more".to_owned())).await;
        }
        let wanted = &self.plan.wanted;
        let chat = wanted.chat_id.as_deref();
        self.plan.plan = if !wanted.places.is_empty() {
            wanted.places.clone()
        } else if self.is_missed() {
            // What comes from now on is newer than the gap: it must not be taken for the place behind which the gap begins.
            let behind = Behind {
                active_since: wanted.since.unwrap_or(now).plus_millis(-ACTIVE_MS),
                received_before: wanted.missed_at.unwrap_or(Time::from_millis(i64::MAX)),
                written_before: wanted.since.unwrap_or(Time::from_millis(i64::MAX)),
            };
            rows::newest_known(&inner.store, instance, behind, MOST_CHATS).await?
        } else {
            rows::oldest_known(&inner.store, instance, chat, MOST_CHATS).await?
        };
        if let (true, Some(chat)) = (self.plan.plan.is_empty(), chat) {
            // Nothing of it is stored, so it begins with its newest message.
            self.plan.plan.push(Place { chat: chat.to_owned(), anchor: None });
        }
        self.progress.chats = self.plan.plan.len() as u64;
        let mut tx = inner.store.begin().await?;
        if !rows::start(&mut tx, self.row.id, &job::write(&self.plan), &job::write(&self.progress), now).await? {
            tx.rollback().await?;
            return Ok(Step::Out);
        }
        let told = self.event("sync.started", "config", job::write(&self.plan.wanted), now);
        events::append(&mut tx, &[told], now).await?;
        tx.commit().await?;
        self.row.status = "running".to_owned();
        Ok(Step::On)
    }

    /// Whether something was missed meanwhile: that is news, and goes first.
    async fn makes_way(&self) -> Result<bool> {
        let missed = rows::missed_since(&self.inner.store, self.row.instance_id).await?;
        Ok(missed.is_some_and(|since| since.plus(GATHER) <= self.inner.clock.now()))
    }

    async fn ask(&self, place: &Place) -> Result<HistoryPage, InstanceError> {
        let cursor = self.progress.position.as_ref().and_then(|position| position.cursor.clone());
        let anchor = place.anchor.as_ref().filter(|_| cursor.is_none());
        let ask = Ask {
            chat: ChatId::new(&place.chat),
            anchor: anchor.map(|id| MessageRef::from(id.as_str())),
            cursor,
            forward: self.is_missed(),
            limit: PAGE,
        };
        match self.inner.instances.request_here(self.row.instance_id, Request::History(ask)).await? {
            Reply::History(page) => Ok(page),
            _ => Err(SendError::internal("the channel answered something other than history").into()),
        }
    }

    /// Hands over what is in a page, and writes down how far that was.
    async fn take(&mut self, page: HistoryPage, place: &Place) -> Result<Step> {
        let HistoryPage { events, cursor } = page;
        let fetched = events.len() as u64;
        let kept = rules::keep(events, &self.plan.wanted, self.is_missed());
        let events = kept.events.iter().map(|event| to_raw_value(event).expect("events have string keys")).collect();
        for portion in rules::portions(events) {
            if !self.hand_over(portion).await {
                return Ok(Step::Out);
            }
        }
        let before = self.progress.position.take().unwrap_or_default();
        let stands = cursor.is_some() && cursor == before.cursor;
        // A page without anything counts, too, or there would be no end to them.
        let position =
            Position { chat: place.chat.clone(), cursor, fetched: before.fetched + fetched.max(1), tries: 0 };
        self.progress.pages += 1;
        self.progress.fetched += fetched;
        self.progress.skipped += kept.skipped;
        if position.cursor.is_none() || kept.is_end {
            self.progress.next_chat();
        } else if stands {
            let error = SendError::internal("the channel gives the same place again, so that there is no end");
            self.progress.refused_chat(failure(&error.into(), place));
        } else if position.fetched >= MOST_OF_CHAT {
            self.progress.chats_cut += 1;
            self.progress.next_chat();
        } else {
            self.progress.position = Some(position);
        }
        self.write_down().await
    }

    /// Makes events durable. `false` when it was ended before.
    async fn hand_over(&mut self, mut events: Vec<Box<RawValue>>) -> bool {
        let origin = if self.is_missed() { Origin::Missed } else { Origin::History };
        let instance_id = self.row.instance_id;
        let settled = self.inner.echoes.settled(instance_id, &events);
        if self.ends.run_until_cancelled(settled).await.is_none() {
            return false;
        }
        while !events.is_empty() {
            let accept = Accept {
                instance_id,
                channel: self.row.channel.clone(),
                events: events.iter().map(|event| AcceptEvent(origin.mark(event.get().as_bytes()))).collect(),
                writes: Vec::new(),
                plugin_id: self.row.channel.clone(),
            };
            match self.inner.bus.accept(accept).await {
                Ok(accepted) => {
                    self.progress.stored += accepted.appended as u64;
                    self.progress.duplicates += accepted.duplicates as u64;
                    return true;
                }
                // One that cannot be taken does not take the others along.
                Err(AcceptError::Refused { index, reason }) => {
                    tracing::warn!(job.id = %self.row.id, instance.id = %instance_id, "an event of history was refused: {reason}");
                    events.remove(index.min(events.len() - 1));
                    self.progress.refused += 1;
                }
                Err(AcceptError::Closed) => return false,
                Err(error) => {
                    tracing::debug!(job.id = %self.row.id, "{error}");
                    let pause = self.inner.clock.sleep(PAUSE);
                    if self.ends.run_until_cancelled(pause).await.is_none() {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Decides what becomes of the job when a page was not given.
    async fn failed(&mut self, error: InstanceError, place: Place) -> Result<Step> {
        let tries = self.progress.position.as_ref().map_or(0, |position| position.tries);
        match rules::verdict(&error, tries) {
            Verdict::Slower(pause) => Ok(self.pause(pause).await),
            Verdict::Rest(pause) => Ok(Step::Rest(pause)),
            Verdict::Again(_) if tries + 1 >= TRIES => {
                let why = format!("{} was tried {TRIES} times: {error}", place.chat);
                self.end("failed", Some(why)).await
            }
            Verdict::Again(pause) => {
                let position = self.progress.position.get_or_insert_default();
                position.chat = place.chat;
                position.tries += 1;
                // Written down: a page at which the plugin dies is not asked for without end.
                match self.write_down().await? {
                    Step::On => Ok(self.pause(pause).await),
                    other => Ok(other),
                }
            }
            Verdict::NextChat => {
                tracing::info!(
                    job.id = %self.row.id, instance.id = %self.row.instance_id,
                    "the history of a chat cannot be had: {error}"
                );
                self.progress.refused_chat(failure(&error, &place));
                self.write_down().await
            }
        }
    }

    async fn pause(&self, pause: Duration) -> Step {
        match self.ends.run_until_cancelled(self.inner.clock.sleep(pause)).await {
            Some(()) => Step::On,
            None => Step::Out,
        }
    }

    async fn write_down(&mut self) -> Result<Step> {
        let mut tx = self.inner.store.begin().await?;
        if rows::advance(&mut tx, self.row.id, &job::write(&self.progress)).await? {
            tx.commit().await?;
            return Ok(Step::On);
        }
        tx.rollback().await?;
        Ok(Step::Out)
    }

    async fn finish(&mut self) -> Result<Step> {
        let Progress { chats, chats_failed, failures, .. } = &self.progress;
        match failures.first() {
            Some(first) if chats == chats_failed => {
                let why = first.message.clone();
                self.end("failed", Some(why)).await
            }
            _ => self.end("completed", None).await,
        }
    }

    async fn end(&mut self, status: &str, why: Option<String>) -> Result<Step> {
        let now = self.inner.clock.now();
        let mut tx = self.inner.store.begin().await?;
        if rows::end(&mut tx, self.row.id, status, why.as_deref(), now).await? {
            let told = match &why {
                Some(why) => self.event("sync.failed", "error", json!(why), now),
                None => self.event("sync.completed", "progress", job::write(&self.progress), now),
            };
            events::append(&mut tx, &[told], now).await?;
            tx.commit().await?;
            let Progress { stored, chats, .. } = self.progress;
            tracing::info!(
                job.id = %self.row.id, instance.id = %self.row.instance_id,
                "fetching history is {status}: {stored} events of {chats} chats were new"
            );
        } else {
            tx.rollback().await?;
        }
        Ok(Step::Out)
    }

    /// Omni v2's event, with what this one tells.
    fn event(&self, name: &'static str, field: &str, what: Value, now: Time) -> NewDomainEvent<'static> {
        let mut payload = json!({"jobId": self.row.id, "instanceId": self.row.instance_id, "type": self.row.kind});
        payload[field] = what;
        NewDomainEvent {
            channel: self.row.channel.as_str().into(),
            instance_id: self.row.instance_id,
            ..NewDomainEvent::new(self.inner.store.new_id(now), name, "outbound", payload.to_string(), now)
        }
    }
}

fn failure(error: &InstanceError, place: &Place) -> Failure {
    let code = match error {
        InstanceError::Channel(error) => error.code.clone(),
        _ => ErrorCode::Internal,
    };
    Failure { chat_id: place.chat.clone(), code: code.as_str().to_owned(), message: error.to_string() }
}
