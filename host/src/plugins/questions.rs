//! What a channel asks the host: so much of it at a time, and answers that are not read take room until they are.
//!
//! Deliberately not here: the answers themselves. That is `host_api`.

use super::line::Room;
use super::session::{Session, refuse};
use omni_channel_sdk::frame::{HostRequest, Tails};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Questions of one instance that are worked on at the same time; more wait.
const QUESTIONS_AT_ONCE: usize = 64;
/// Questions of one instance that were asked and whose answer it has not read; more wait a moment and are refused then.
const QUESTIONS: usize = 1_024;
/// That moment: a flood slows down to what is answered. Short, for what else the channel says waits as long.
const ROOM_WITHIN: Duration = Duration::from_millis(10);
/// How many KiB these questions may have together, and the answers that it has not read.
const QUESTIONS_KIB: u32 = 128 << 10;
/// Refusals that it has not read. A channel that goes on asking then never listens, and is ended.
const REFUSALS: usize = 4_096;

/// Something that a channel asks.
pub(super) struct Question {
    /// In which call; 0 outside of any.
    pub call: u64,
    /// Its number in the call.
    pub id: u32,
    /// What.
    pub request: HostRequest,
}

/// What a question takes while it is answered.
struct Asked {
    /// Where turns to be worked on come from.
    at_once: Arc<Semaphore>,
    /// Where room for the answer comes from.
    kib: Arc<Semaphore>,
    /// Its place among those that were asked, until the answer is read.
    place: OwnedSemaphorePermit,
    /// What it has in bytes, until it is answered.
    bytes: OwnedSemaphorePermit,
}

impl Asked {
    async fn answer(self, session: &Session, question: Question, tails: Tails) {
        let Question { call, id, request } = question;
        let services = session.services();
        // What a send brings in itself must not wait for that send; nor may others wait behind it.
        if let (0, HostRequest::Commit { commit }) = (call, &request) {
            services.echoes().settled(services.instance_id(), &commit.events).await;
        }
        let Self { at_once, kib, place, bytes } = self;
        // These are never closed. A turn is over when there is room for the answer: what is worked on is all that may
        // come on top of it.
        let _turn = at_once.acquire_owned().await;
        let (answer, tails) = services.answer(request, tails).await;
        drop(bytes);
        let mut ended = session.ended();
        let bytes = tokio::select! {
            bytes = kib.acquire_many_owned(in_kib(tails.iter().map(Vec::len).sum())) => bytes.ok(),
            _ = ended.wait_for(Option::is_some) => return,
        };
        session.reply(call, id, answer, &tails, Room { place, bytes });
    }
}

/// The questions of one instance. Whoever asks too many is refused: to wait for room for long would be to hear nothing
/// else, neither the end of a call nor that the channel is alive.
pub(super) struct Questions {
    at_once: Arc<Semaphore>,
    places: Arc<Semaphore>,
    kib: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

impl Questions {
    pub fn new() -> Self {
        let of = |permits| Arc::new(Semaphore::new(permits));
        let (places, kib) = (of(QUESTIONS), of(QUESTIONS_KIB as usize));
        Self { at_once: of(QUESTIONS_AT_ONCE), places, kib, refusals: of(REFUSALS) }
    }

    async fn room(&self, bytes: usize) -> Option<Asked> {
        let place = Arc::clone(&self.places).acquire_owned();
        let bytes = Arc::clone(&self.kib).acquire_many_owned(in_kib(bytes));
        let (place, bytes) = timeout(ROOM_WITHIN, async { tokio::join!(place, bytes) }).await.ok()?;
        Some(Asked {
            place: place.ok()?,
            bytes: bytes.ok()?,
            at_once: Arc::clone(&self.at_once),
            kib: Arc::clone(&self.kib),
        })
    }

    /// Has a question answered, or refuses it. The error is why the instance has to end.
    pub async fn take(&self, session: &Session, question: Question, tails: Tails, bytes: usize) -> Result<(), String> {
        if let Some(asked) = self.room(bytes).await {
            let session = session.clone();
            tokio::spawn(async move { asked.answer(&session, question, tails).await });
            return Ok(());
        }
        let Ok(place) = Arc::clone(&self.refusals).try_acquire_owned() else {
            return Err(format!("the channel asks and asks, and has not read {REFUSALS} answers"));
        };
        let (answer, tails) = refuse("too many questions of this instance wait for an answer; ask again later");
        session.reply(question.call, question.id, answer, &tails, Room { place, bytes: None });
        Ok(())
    }
}

/// What so many bytes take of [`QUESTIONS_KIB`].
fn in_kib(bytes: usize) -> u32 {
    u32::try_from(bytes >> 10).unwrap_or(u32::MAX).saturating_add(1).min(QUESTIONS_KIB)
}
