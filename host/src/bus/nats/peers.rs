//! What hosts that share one installation say to each other, by way of NATS: news for all of them, which may be lost, and
//! questions to one.
//!
//! A question and its answer are a message each. What is too large for one is announced in a header of an empty message,
//! and fetched in parts (`carry`). Deliberately not here: what is said. That is `crate::hosts`.

#[cfg(test)]
mod tests;

use super::Nats;
use super::carry::{Carrier, Failed, Memory, Sizes};
use super::parts::Offer;
use async_nats::connection::State;
use async_nats::{Client, HeaderMap, Message, RequestError, RequestErrorKind, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use std::pin::pin;
use std::time::Duration;
use tokio::time::timeout;
use uuid::Uuid;

/// Bytes that NATS adds to a message.
const AROUND: usize = 1 << 10;
/// Announces something that is fetched in parts.
const OFFER: &str = "Omni-Parts";
/// Says that there is no answer, and whether that is because of the question or of the answer.
const REFUSED: &str = "Omni-Refused";
const QUESTION: &str = "question";
const ANSWER: &str = "answer";
/// The longest sentence of another host that is handed on.
const SENTENCE: usize = 200;

/// The way to the other hosts. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    client: Client,
    prefix: String,
    /// The largest message.
    most: usize,
    carrier: Carrier,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// The host does not hear it: it is gone, or NATS is.
    #[error("the host does not answer")]
    NotThere,
    /// It did not answer in time; it may have done what was asked.
    #[error("the host did not answer in time")]
    TooLate,
    /// The question is too large.
    #[error("{size} bytes are more than hosts hand on, which is {most}")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The most.
        most: usize,
    },
    /// The host has not got the whole question, and has done nothing.
    #[error("the host did not get what was asked: {0}")]
    NotTaken(String),
    /// It has done what was asked, and its answer is lost.
    #[error("the host answered, and its answer was lost: {0}")]
    Lost(String),
}

impl From<RequestError> for AskError {
    fn from(error: RequestError) -> Self {
        match error.kind() {
            RequestErrorKind::TimedOut => Self::TooLate,
            _ => Self::NotThere,
        }
    }
}

/// A question of another host.
#[derive(Debug)]
pub(crate) struct Question {
    said: Message,
    peers: Peers,
}

impl Question {
    /// What is asked; fetched when it is large. `None` when it cannot be had, of which whoever asked is told.
    pub async fn read(&self) -> Option<Bytes> {
        match self.peers.whole(&self.said, &self.peers.carrier.questions).await {
            Ok(bytes) => Some(bytes),
            Err(failed) => {
                self.refuse(QUESTION, failed).await;
                None
            }
        }
    }

    /// Answers it. Returns when whoever asked has the answer, or does not fetch it.
    pub async fn answer(self, bytes: Bytes) {
        if bytes.len() <= self.peers.most {
            return self.say(HeaderMap::new(), bytes).await;
        }
        match self.peers.carrier.offer_answer(bytes, self.peers.most).await {
            Ok(offered) => {
                self.say(header(OFFER, offered.offer().to_string()), Bytes::new()).await;
                if let Err(error) = offered.give().await {
                    tracing::debug!(%error, "an answer was not fetched by the host that asked");
                }
            }
            Err(failed) => self.refuse(ANSWER, failed).await,
        }
    }

    async fn refuse(&self, what: &str, why: Failed) {
        tracing::debug!(%why, "a question of another host has no answer because of the {what}");
        self.say(header(REFUSED, what.to_owned()), why.to_string().into()).await;
    }

    async fn say(&self, headers: HeaderMap, bytes: Bytes) {
        let Some(reply) = self.said.reply.clone() else { return };
        let client = &self.peers.client;
        let said = match headers.is_empty() {
            true => client.publish(reply, bytes).await,
            false => client.publish_with_headers(reply, headers, bytes).await,
        };
        if let Err(error) = said {
            tracing::debug!(%error, "an answer to another host could not be sent");
        }
    }
}

fn header(name: &'static str, value: String) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(name, value);
    headers
}

fn said<'a>(message: &'a Message, name: &'static str) -> Option<&'a str> {
    Some(message.headers.as_ref()?.get(name)?.as_str())
}

/// What is heard.
#[derive(Debug)]
pub(crate) struct Heard(Subscriber);

impl Heard {
    /// The next news.
    pub async fn news(&mut self) -> Option<Bytes> {
        Some(self.0.next().await?.payload)
    }
}

/// What is heard of what is seen live only.
#[derive(Debug)]
pub(crate) struct Live {
    heard: Subscriber,
    /// What comes from here.
    own: String,
}

impl Live {
    /// The next that another host tells.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            let message = self.heard.next().await?;
            if message.subject.as_str() != self.own {
                return Some(message.payload);
            }
        }
    }
}

/// The questions to this host.
#[derive(Debug)]
pub(crate) struct Questions {
    heard: Subscriber,
    peers: Peers,
}

impl Questions {
    /// The next one.
    pub async fn next(&mut self) -> Option<Question> {
        Some(Question { said: self.heard.next().await?, peers: self.peers.clone() })
    }
}

impl Nats {
    /// The way to the other hosts.
    pub fn peers(&self, sizes: Sizes) -> Peers {
        let most = self.server.max_payload.saturating_sub(AROUND);
        Peers::new(self.server.client.clone(), &self.options.prefix, most, sizes)
    }
}

impl Peers {
    fn new(client: Client, prefix: &str, most: usize, sizes: Sizes) -> Self {
        let carrier = Carrier::new(client.clone(), prefix, sizes);
        Self { client, prefix: prefix.to_owned(), most, carrier }
    }

    /// The largest question and answer, in bytes.
    pub fn largest(&self) -> usize {
        self.carrier.largest()
    }

    /// Tells every host something.
    pub async fn tell(&self, news: Vec<u8>) {
        if let Err(error) = self.client.publish(format!("{}.hosts.news", self.prefix), news.into()).await {
            tracing::debug!(%error, "news could not be told to other hosts");
        }
    }

    /// Hears what every host tells, this one included.
    pub async fn hear(&self) -> Result<Heard, String> {
        let heard = self.client.subscribe(format!("{}.hosts.news", self.prefix)).await;
        heard.map(Heard).map_err(|error| error.to_string())
    }

    /// Tells every host something that is worth nothing later: while NATS is away it is dropped.
    pub async fn tell_live(&self, from: Uuid, what: Vec<u8>) {
        if self.client.connection_state() == State::Connected
            && let Err(error) = self.client.publish(self.live(from), what.into()).await
        {
            tracing::debug!(%error, "what happens here could not be told to other hosts");
        }
    }

    /// Hears what every host but this one tells so. A subject of its own, so that nothing else waits behind it.
    pub async fn hear_live(&self, me: Uuid) -> Result<Live, String> {
        let heard = self.client.subscribe(format!("{}.hosts.live.*", self.prefix)).await;
        heard.map(|heard| Live { heard, own: self.live(me) }).map_err(|error| error.to_string())
    }

    fn live(&self, host: Uuid) -> String {
        format!("{}.hosts.live.{}", self.prefix, host.simple())
    }

    /// Takes the questions to a host.
    pub async fn questions(&self, host: Uuid) -> Result<Questions, String> {
        let heard = self.client.subscribe(self.subject(host)).await.map_err(|error| error.to_string())?;
        // Whoever is told that we are here is to be heard.
        self.client.flush().await.map_err(|error| error.to_string())?;
        Ok(Questions { heard, peers: self.clone() })
    }

    /// Asks a host something. It has so long to answer once it has the question.
    pub async fn ask(&self, host: Uuid, question: Bytes, within: Duration) -> Result<Bytes, AskError> {
        let answer = match question.len() <= self.most {
            true => {
                let request = async_nats::Request::new().payload(question).timeout(Some(within));
                self.client.send_request(self.subject(host), request).await?
            }
            false => self.ask_in_parts(host, question, within).await?,
        };
        if let Some(refused) = said(&answer, REFUSED) {
            let sentence = String::from_utf8_lossy(&answer.payload).chars().take(SENTENCE).collect();
            return Err(if refused == QUESTION { AskError::NotTaken(sentence) } else { AskError::Lost(sentence) });
        }
        let whole = self.whole(&answer, &self.carrier.answers).await;
        whole.map_err(|failed| AskError::Lost(failed.to_string()))
    }

    async fn ask_in_parts(&self, host: Uuid, question: Bytes, within: Duration) -> Result<Message, AskError> {
        let size = question.len();
        let offered = match self.carrier.offer_question(question, self.most).await {
            Ok(offered) => offered,
            Err(Failed::TooLarge) => return Err(AskError::TooLarge { size, most: self.largest() }),
            Err(_) => return Err(AskError::NotThere),
        };
        let headers = header(OFFER, offered.offer().to_string());
        let request = async_nats::Request::new().headers(headers).timeout(None);
        let mut asking = pin!(self.client.send_request(self.subject(host), request));
        tokio::select! {
            biased;
            answer = &mut asking => return Ok(answer?),
            given = offered.give() => given.map_err(|_| AskError::NotTaken("it did not fetch all of it".into()))?,
        }
        Ok(timeout(within, asking).await.map_err(|_| AskError::TooLate)??)
    }

    /// What a message holds or announces.
    async fn whole(&self, message: &Message, memory: &Memory) -> Result<Bytes, Failed> {
        match said(message, OFFER) {
            None => Ok(message.payload.clone()),
            Some(offer) => self.carrier.fetch(offer.parse::<Offer>()?, memory).await,
        }
    }

    fn subject(&self, host: Uuid) -> String {
        format!("{}.hosts.{}.ask", self.prefix, host.simple())
    }
}
