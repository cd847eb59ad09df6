//! How what is larger than one message of NATS goes from one host to another: whoever has it says so and waits on a subject
//! of its own; whoever wants it asks there for one part after another, a few ahead, each asked for and answered once.
//!
//! So nobody is sent what it has not asked for, and NATS never holds more for a host than [`AT_ONCE`] times [`AHEAD`]
//! bytes of it, however slow the host is: far from where a server drops a connection (`max_pending`, 64 MiB). A part that
//! does not come, is not the one that was asked for or has the wrong size ends the whole of it: nothing is asked for twice,
//! and nothing comes out that is not all of it. Memory is taken for the whole before its first part is asked for, and kept
//! for as long as its bytes are used.
//!
//! Deliberately not here: how a thing is cut (`parts`), and what is said of it to whom (`peers`).

use super::parts::{Broken, Giving, Offer, Taking};
use async_nats::{Client, HeaderMap, Message, RequestErrorKind, Subscriber};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Says which part a message is.
const NUMBER: &str = "Omni-Part";
/// How many things may be coming at the same time.
const AT_ONCE: usize = 8;
/// How many bytes of one of them are asked for ahead.
const AHEAD: usize = 2 << 20;
/// How long one part may take.
const PART_WITHIN: Duration = Duration::from_secs(5);
/// How long room for a thing is waited for.
const ROOM_WITHIN: Duration = Duration::from_secs(10);
/// How long all of it may take.
const WITHIN: Duration = Duration::from_secs(60);
/// How long whoever has a thing waits for the next question about it: longer than for room and a part.
const ASKED_WITHIN: Duration = Duration::from_secs(20);

/// How large what goes from host to host may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// One thing, in bytes.
    pub largest: usize,
    /// The bytes of all questions that may be in memory at the same time because they came in parts; as many again of
    /// answers that come, and of those that wait to be fetched.
    pub memory: usize,
}

/// Memory for things of one kind, in KiB.
#[derive(Clone, Debug)]
pub(super) struct Memory(Arc<Semaphore>);

impl Memory {
    fn new(sizes: Sizes) -> Self {
        Self(Arc::new(Semaphore::new(kib(sizes.memory.max(sizes.largest)).min(Semaphore::MAX_PERMITS))))
    }

    /// Takes room at once, if there is some.
    fn take_now(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_many_owned(u32::try_from(kib(bytes)).ok()?).ok()
    }

    async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).acquire_many_owned(u32::try_from(kib(bytes)).ok()?).await.ok()
    }
}

fn kib(bytes: usize) -> usize {
    bytes.div_ceil(1 << 10)
}

/// Why something did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failed {
    #[error("it is larger than hosts hand on")]
    TooLarge,
    #[error("there was no room for it")]
    NoRoom,
    #[error("a part of it did not come")]
    Missing,
    #[error(transparent)]
    Broken(#[from] Broken),
}

/// Carries things in parts. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Carrier {
    client: Client,
    /// What begins the subjects on which parts are asked for.
    prefix: String,
    sizes: Sizes,
    turns: Arc<Semaphore>,
    /// For questions that come.
    pub questions: Memory,
    /// For answers that come.
    pub answers: Memory,
    given: Memory,
}

/// What is offered, on the subject where it is asked for.
#[derive(Debug)]
pub(super) struct Offered {
    giving: Giving,
    asked: Subscriber,
    client: Client,
    _room: Option<OwnedSemaphorePermit>,
}

impl Carrier {
    pub fn new(client: Client, prefix: &str, sizes: Sizes) -> Self {
        let memory = || Memory::new(sizes);
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let (questions, answers, given) = (memory(), memory(), memory());
        Self { client, prefix: format!("{prefix}.hosts.parts"), sizes, turns, questions, answers, given }
    }

    /// The most bytes that one thing may have.
    pub fn largest(&self) -> usize {
        self.sizes.largest
    }

    /// Offers a question, whose bytes whoever asks has counted already.
    pub async fn offer_question(&self, bytes: Bytes, most: usize) -> Result<Offered, Failed> {
        self.offer(bytes, most, None).await
    }

    /// Offers an answer, when there is room to keep it for as long as it is fetched.
    pub async fn offer_answer(&self, bytes: Bytes, most: usize) -> Result<Offered, Failed> {
        if bytes.len() > self.sizes.largest {
            return Err(Failed::TooLarge);
        }
        let room = self.given.take_now(bytes.len()).ok_or(Failed::NoRoom)?;
        self.offer(bytes, most, Some(room)).await
    }

    async fn offer(&self, bytes: Bytes, most: usize, room: Option<OwnedSemaphorePermit>) -> Result<Offered, Failed> {
        let offer = Offer::of(bytes.len(), most).filter(|offer| offer.size <= self.sizes.largest);
        let offer = offer.ok_or(Failed::TooLarge)?;
        let asked = self.client.subscribe(self.subject(&offer)).await.map_err(|_| Failed::Missing)?;
        Ok(Offered { giving: Giving::new(offer, bytes), asked, client: self.client.clone(), _room: room })
    }

    fn subject(&self, offer: &Offer) -> String {
        // Of an id that was read as one: whatever a peer says, it leads to no other subject.
        format!("{}.{}", self.prefix, offer.id.simple())
    }

    /// Fetches what a peer offers. Its room is free again once the bytes are dropped.
    pub async fn fetch(&self, offer: Offer, memory: &Memory) -> Result<Bytes, Failed> {
        if offer.size > self.sizes.largest {
            return Err(Failed::TooLarge);
        }
        let room =
            async { Some((memory.take(offer.size).await?, Arc::clone(&self.turns).acquire_owned().await.ok()?)) };
        let (room, turn) = timeout(ROOM_WITHIN, room).await.ok().flatten().ok_or(Failed::NoRoom)?;
        let bytes = timeout(WITHIN, self.all_parts(offer)).await.map_err(|_| Failed::Missing)??;
        drop(turn);
        Ok(Bytes::from_owner(Counted { bytes, _room: room }))
    }

    async fn all_parts(&self, offer: Offer) -> Result<Bytes, Failed> {
        let subject = self.subject(&offer);
        let part = |number| self.part(&subject, number);
        // Answered in any order, they come in this one.
        let mut parts = stream::iter((0..offer.count()).map(part)).buffered(offer.parts_in(AHEAD));
        let mut taking = Taking::new(offer);
        while let Some(part) = parts.next().await {
            let part = part?;
            let number = part.headers.as_ref().and_then(|headers| headers.get(NUMBER)?.as_str().parse().ok());
            taking.take(number.ok_or(Broken::Order)?, &part.payload)?;
        }
        taking.whole().ok_or(Failed::Missing)
    }

    async fn part(&self, subject: &str, number: usize) -> Result<Message, Failed> {
        let request = async_nats::Request::new().payload(number.to_string().into()).timeout(Some(PART_WITHIN));
        self.client.send_request(subject.to_owned(), request).await.map_err(|error| {
            let reason: RequestErrorKind = error.kind();
            tracing::debug!(%reason, number, "a part of what another host offers did not come");
            Failed::Missing
        })
    }
}

impl Offered {
    /// What is said of it.
    pub fn offer(&self) -> &Offer {
        &self.giving.offer
    }

    /// Gives its parts away, until all of them were given; an error when nobody asks for more.
    pub async fn give(mut self) -> Result<(), Failed> {
        let giving = async {
            while !self.giving.is_over() {
                let asked = timeout(ASKED_WITHIN, self.asked.next()).await.ok().flatten().ok_or(Failed::Missing)?;
                let number = std::str::from_utf8(&asked.payload).ok().and_then(|number| number.parse().ok());
                let Some((number, reply)) = number.zip(asked.reply) else { continue };
                let Some(part) = self.giving.give(number) else { continue };
                let mut headers = HeaderMap::new();
                headers.insert(NUMBER, number.to_string());
                let given = self.client.publish_with_headers(reply, headers, part).await;
                given.map_err(|_| Failed::Missing)?;
            }
            Ok(())
        };
        timeout(ROOM_WITHIN + WITHIN, giving).await.unwrap_or(Err(Failed::Missing))
    }
}

/// Bytes, and the room that they take.
struct Counted {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
