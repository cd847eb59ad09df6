//! What hosts that share one installation say to each other, by way of NATS: news for all of them, which may be lost, and
//! questions to one.
//!
//! Deliberately not here: what is said. That is `crate::hosts`.

use super::Nats;
use async_nats::{Client, RequestErrorKind, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use std::time::Duration;
use uuid::Uuid;

/// Bytes that NATS adds to a message.
const AROUND: usize = 1 << 10;

/// The way to the other hosts. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    client: Client,
    prefix: String,
    most: usize,
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
    /// The question is too large for NATS.
    #[error("{size} bytes do not fit into a message of NATS, which takes {most} (`max_payload`)")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The most.
        most: usize,
    },
}

/// A question of another host.
#[derive(Debug)]
pub(crate) struct Question {
    /// What is asked.
    pub bytes: Bytes,
    reply: Option<async_nats::Subject>,
    client: Client,
}

impl Question {
    /// Answers it.
    pub async fn answer(self, bytes: Bytes) {
        let Some(reply) = self.reply else { return };
        if let Err(error) = self.client.publish(reply, bytes).await {
            tracing::debug!(%error, "an answer to another host could not be sent");
        }
    }
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

/// The questions to this host.
#[derive(Debug)]
pub(crate) struct Questions {
    heard: Subscriber,
    client: Client,
}

impl Questions {
    /// The next one.
    pub async fn next(&mut self) -> Option<Question> {
        let message = self.heard.next().await?;
        Some(Question { bytes: message.payload, reply: message.reply, client: self.client.clone() })
    }
}

impl Nats {
    /// The way to the other hosts.
    pub fn peers(&self) -> Peers {
        let most = self.server.max_payload.saturating_sub(AROUND);
        Peers { client: self.server.client.clone(), prefix: self.options.prefix.clone(), most }
    }
}

impl Peers {
    /// The largest question and answer, in bytes.
    pub fn most(&self) -> usize {
        self.most
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

    /// Takes the questions to a host.
    pub async fn questions(&self, host: Uuid) -> Result<Questions, String> {
        let heard = self.client.subscribe(self.subject(host)).await.map_err(|error| error.to_string())?;
        // Whoever is told that we are here is to be heard.
        self.client.flush().await.map_err(|error| error.to_string())?;
        Ok(Questions { heard, client: self.client.clone() })
    }

    /// Asks a host something.
    pub async fn ask(&self, host: Uuid, question: Bytes, within: Duration) -> Result<Bytes, AskError> {
        if question.len() > self.most {
            return Err(AskError::TooLarge { size: question.len(), most: self.most });
        }
        let request = async_nats::Request::new().payload(question).timeout(Some(within));
        let answer = self.client.send_request(self.subject(host), request).await;
        answer.map(|answer| answer.payload).map_err(|error| match error.kind() {
            RequestErrorKind::TimedOut => AskError::TooLate,
            RequestErrorKind::NoResponders => AskError::NotThere,
            _ => AskError::NotThere,
        })
    }

    fn subject(&self, host: Uuid) -> String {
        format!("{}.hosts.{}.ask", self.prefix, host.simple())
    }
}
