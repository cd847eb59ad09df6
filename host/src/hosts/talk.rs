//! What hosts tell each other, and ask each other, by way of NATS: a line of JSON, and behind it what a request carries.
//!
//! News may be lost: whoever hears none finds out by looking, a second later. A question that is not answered is an error
//! for whoever asked here.

use super::{Elsewhere, Hosts};
use crate::bus::{AskError, Peers, Question};
use crate::inbound::Reached;
use crate::instances::Instances;
use crate::outbound::Outbound;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use omni_channel_sdk::SendError;
use omni_channel_sdk::outcome::{ErrorCode, NextActor};
use omni_channel_sdk::request::{Reply, Request};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Questions of others that are worked on at the same time.
const AT_ONCE: usize = 256;

/// What hosts tell each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum News {
    /// There are domain events up to this one.
    Events {
        /// Its number.
        seq: i64,
    },
    /// Everything in the log is stored up to here.
    Stored {
        /// The place.
        place: i64,
    },
    /// Somebody else's instance has something to send.
    Outbox,
    /// A part of a call was settled.
    Settled {
        /// The call.
        send: Uuid,
    },
    /// Something was taken or given away.
    Leases,
}

#[derive(Serialize, Deserialize)]
struct Told {
    from: Uuid,
    #[serde(flatten)]
    news: News,
}

/// A request of the API that another host is to answer.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Its head.
    pub head: AskedHead,
    /// Its body.
    pub body: Bytes,
}

/// The head of a request, or of its answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AskedHead {
    /// Of a request.
    pub method: String,
    /// Of a request: the path, with the query.
    pub target: String,
    /// Of a request: the address of whoever asks.
    pub client: Option<std::net::IpAddr>,
    /// Of an answer.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(String, String)>,
}

/// What became of a request that was handed on.
#[derive(Debug)]
pub(crate) enum AskedOf {
    /// It was answered.
    Answered(Asked),
    /// The host does not answer.
    NotThere,
    /// It has not answered so far.
    TooLate,
    /// It is too large to be handed on: the sentence.
    TooLarge(String),
    /// The host has not got it, and has done nothing: the sentence.
    NotTaken(String),
    /// The host has done it, and the answer is lost: the sentence.
    Lost(String),
}

/// Answers requests of the API that come from other hosts.
pub(crate) type Answers = Arc<dyn Fn(Asked) -> BoxFuture<'static, Asked> + Send + Sync>;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Head {
    /// For a channel.
    Request(Uuid),
    /// For the API.
    Http(AskedHead),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Reply(Box<Reply>),
    Failed(SendError),
}

fn framed(head: &impl Serialize, body: &[u8]) -> Bytes {
    let mut bytes = serde_json::to_vec(head).expect("heads are plain JSON");
    bytes.push(b'\n');
    bytes.extend_from_slice(body);
    bytes.into()
}

fn unframed<T: for<'a> Deserialize<'a>>(bytes: &Bytes) -> Option<(T, Bytes)> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((serde_json::from_slice(&bytes[..end]).ok()?, bytes.slice(end + 1..)))
}

fn written(answer: &Answer) -> Bytes {
    serde_json::to_vec(answer).expect("answers are plain JSON").into()
}

pub(super) async fn tell(peers: &Peers, from: Uuid, news: &News) {
    let told = Told { from, news: news.clone() };
    peers.tell(serde_json::to_vec(&told).expect("news are plain JSON")).await;
}

pub(super) async fn request(
    peers: &Peers,
    owner: &Elsewhere,
    instance: Uuid,
    request: &Request,
    within: Duration,
) -> Result<Reply, SendError> {
    let body = serde_json::to_vec(request).map_err(|error| SendError::internal(error.to_string()))?;
    let name = &owner.name;
    let answer = peers.ask(owner.host, framed(&Head::Request(instance), &body), within).await;
    let answer = answer.map_err(|error| {
        let message = format!("the instance runs on another host ({name}): {error}");
        let code = match error {
            AskError::NotThere => ErrorCode::NotConnected,
            AskError::TooLate | AskError::NotTaken(_) | AskError::Lost(_) => ErrorCode::Unreachable,
            AskError::TooLarge { .. } => ErrorCode::TooLarge,
        };
        let certain = !matches!(error, AskError::TooLate | AskError::Lost(_));
        SendError { certain, ..SendError::new(code, NextActor::Retry, message) }
    })?;
    match serde_json::from_slice(&answer) {
        Ok(Answer::Reply(reply)) => Ok(*reply),
        Ok(Answer::Failed(error)) => Err(error),
        Err(error) => {
            Err(SendError::internal(format!("the host {name} answered what this one does not know: {error}")))
        }
    }
}

pub(super) async fn hand_on(peers: &Peers, owner: &Elsewhere, http: Asked, within: Duration) -> AskedOf {
    match peers.ask(owner.host, framed(&Head::Http(http.head), &http.body), within).await {
        Ok(answer) => match unframed(&answer) {
            Some((head, body)) => AskedOf::Answered(Asked { head, body }),
            None => AskedOf::NotThere,
        },
        Err(AskError::NotThere) => AskedOf::NotThere,
        Err(AskError::TooLate) => AskedOf::TooLate,
        Err(error @ AskError::TooLarge { .. }) => AskedOf::TooLarge(error.to_string()),
        Err(error @ AskError::NotTaken(_)) => AskedOf::NotTaken(error.to_string()),
        Err(error @ AskError::Lost(_)) => AskedOf::Lost(error.to_string()),
    }
}

/// What hearing needs.
pub(super) struct Ears {
    pub hosts: Hosts,
    pub instances: Instances,
    pub outbound: Outbound,
    pub reached: Reached,
    pub answers: Answers,
}

/// Hears news and answers questions until it is told to stop.
pub(super) async fn listen(ears: Arc<Ears>, stop: CancellationToken) -> Result<(), String> {
    let Some(inner) = ears.hosts.0.clone() else { return Ok(()) };
    let mut news = inner.peers.hear().await?;
    let mut questions = inner.peers.questions(inner.me).await?;
    let room = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            told = news.news() => match told {
                Some(told) => heard(&ears, &told),
                None => return Err("NATS brings no news any more".into()),
            },
            question = questions.next() => match question {
                Some(question) => {
                    // Whoever asks waits for no longer than it would for a host that is gone.
                    let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
                    let ears = Arc::clone(&ears);
                    tokio::spawn(async move {
                        answer(&ears, question).await;
                        drop(permit);
                    });
                }
                None => return Err("NATS brings no questions any more".into()),
            },
        }
    }
}

fn heard(ears: &Ears, told: &[u8]) {
    let Some(inner) = &ears.hosts.0 else { return };
    // What a newer host tells may be unknown here.
    let Ok(Told { from, news }) = serde_json::from_slice(told) else { return };
    if from == inner.me {
        return;
    }
    match news {
        News::Events { seq } => inner.store.feed().advance(seq),
        News::Stored { place } => ears.reached.advance(place),
        News::Outbox => ears.outbound.look(),
        News::Settled { send } => ears.outbound.moved(send),
        News::Leases => inner.look.notify_one(),
    }
}

async fn answer(ears: &Ears, question: Question) {
    let Some(asked) = question.read().await else { return };
    let Some((head, body)) = unframed::<Head>(&asked) else { return };
    let bytes = match head {
        Head::Request(instance) => {
            let answer = match serde_json::from_slice::<Request>(&body) {
                Ok(request) => match ears.instances.request_here(instance, request).await {
                    Ok(reply) => Answer::Reply(Box::new(reply)),
                    Err(error) => Answer::Failed(error.into_send_error()),
                },
                Err(error) => Answer::Failed(SendError::internal(format!("the request cannot be read: {error}"))),
            };
            written(&answer)
        }
        Head::Http(head) => {
            let Asked { head, body } = (ears.answers)(Asked { head, body }).await;
            framed(&head, &body)
        }
    };
    // While the answer is fetched nobody needs the question any more.
    drop(asked);
    question.answer(bytes).await;
}
