//! What consumers of others give up: JetStream says so once, to whoever listens, and keeps the message until it is old. A
//! stream keeps what it says, and from there the event goes into our dead letters, whole, where people see it and can have
//! it published again.

use super::{NatsError, events, make_stream, pause};
use crate::clock::Clock;
use crate::store::dead_letters::{self, NewDeadLetter};
use crate::store::{Result, Store, StoreError, Time};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::{self, stream};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

/// How long the stream keeps what is said.
const KEEP: Duration = Duration::from_secs(30 * 86_400);
/// The consumer that reads it. The server keeps its place.
const CONSUMER: &str = "omni-dead-letters";
/// How long the server waits for us before it says something again.
const ACK_WITHIN: Duration = Duration::from_secs(30);
/// How long NATS is left alone after a failure, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// What begins the consumer's name of such a dead letter: `nats:{stream}/{consumer}`.
pub(crate) const OF_NATS: &str = "nats:";

/// What JetStream says.
#[derive(Debug, Deserialize)]
struct Advisory {
    stream: String,
    consumer: String,
    stream_seq: u64,
    #[serde(default)]
    deliveries: u64,
    /// Of a message that a consumer terminated.
    #[serde(default)]
    reason: Option<String>,
}

impl Advisory {
    fn in_words(&self) -> String {
        match &self.reason {
            Some(reason) if !reason.is_empty() => format!("the consumer refused it: {reason}"),
            _ => format!("the consumer did not take it in {} deliveries", self.deliveries),
        }
    }
}

/// Reads what is said. One a database.
#[derive(Debug)]
pub(crate) struct Advisories {
    store: Store,
    clock: Clock,
    jetstream: jetstream::Context,
    config: stream::Config,
}

impl Advisories {
    pub(super) fn new(
        store: Store,
        clock: Clock,
        jetstream: jetstream::Context,
        prefix: &str,
        replicas: usize,
    ) -> Self {
        let subjects = events::streams().flat_map(|stream| {
            ["MAX_DELIVERIES", "MSG_TERMINATED"].map(|what| format!("$JS.EVENT.ADVISORY.CONSUMER.{what}.{stream}.*"))
        });
        let config = stream::Config {
            name: format!("{}_ADVISORIES", prefix.to_uppercase()),
            description: Some("which domain events consumers gave up, until Omni has them in its dead letters".into()),
            subjects: subjects.collect(),
            max_age: KEEP,
            storage: stream::StorageType::File,
            num_replicas: replicas,
            ..stream::Config::default()
        };
        Self { store, clock, jetstream, config }
    }

    /// Reads until it is told to stop. While NATS is away, the stream keeps what is said.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut backoff = BACKOFF.0;
        while !shutdown.is_cancelled() {
            match shutdown.run_until_cancelled(self.session()).await {
                Some(Err(error)) => {
                    tracing::debug!(error, "what consumers of NATS give up cannot be read");
                    let _ = shutdown.run_until_cancelled(pause(backoff)).await;
                    backoff = (backoff * 2).min(BACKOFF.1);
                }
                Some(Ok(())) => backoff = BACKOFF.0,
                None => return,
            }
        }
    }

    async fn session(&self) -> std::result::Result<(), String> {
        let failed = |error: NatsError| error.to_string();
        make_stream(&self.jetstream, &self.config).await.map_err(failed)?;
        let stream = self.jetstream.get_stream_no_info(&self.config.name).await.map_err(|error| error.to_string())?;
        let config = pull::Config {
            durable_name: Some(CONSUMER.into()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WITHIN,
            ..pull::Config::default()
        };
        let consumer = stream.get_or_create_consumer(CONSUMER, config).await.map_err(|error| error.to_string())?;
        let mut said = consumer.messages().await.map_err(|error| error.to_string())?;
        while let Some(message) = said.next().await {
            let message = message.map_err(|error| error.to_string())?;
            match serde_json::from_slice::<Advisory>(&message.payload) {
                Ok(advisory) => self.bury(&advisory).await?,
                Err(error) => tracing::warn!(%error, "JetStream said something about a consumer that cannot be read"),
            }
            message.ack().await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Puts the event into the dead letters. Said twice it is there once.
    async fn bury(&self, advisory: &Advisory) -> std::result::Result<(), String> {
        let Advisory { stream, consumer, stream_seq, .. } = advisory;
        let found = match self.jetstream.get_stream_no_info(stream).await {
            Ok(stream) => stream.get_raw_message(*stream_seq).await.ok(),
            Err(_) => None,
        };
        let now = self.clock.now();
        let payload = found.as_ref().map_or_else(|| b"null".to_vec(), |message| message.payload.to_vec());
        let event: Value = serde_json::from_slice(&payload).unwrap_or_default();
        let id = |value: &Value| value.as_str().and_then(|id| Uuid::parse_str(id).ok());
        let event_type = match (event["type"].as_str(), &found) {
            (Some(name), _) => name.to_owned(),
            (None, Some(message)) => message.subject.to_string(),
            (None, None) => format!("{}.unknown", stream.to_lowercase()),
        };
        let mut error = advisory.in_words();
        if found.is_none() {
            error.push_str("; its stream does not have it any more");
        }
        tracing::error!(
            stream,
            consumer,
            message = stream_seq,
            event.r#type = event_type,
            "a consumer of NATS gave an event up"
        );
        let letter = NewDeadLetter {
            // What somebody else published may have no id.
            event_id: id(&event["id"])
                .unwrap_or_else(|| Uuid::from_u128(xxh3_128(format!("{stream}/{stream_seq}").as_bytes()))),
            event_type: event_type.chars().take(200).collect(),
            consumer: format!("{OF_NATS}{stream}/{consumer}").into(),
            instance_id: id(&event["metadata"]["instanceId"]),
            accepted_at: event["timestamp"].as_i64().map_or(now, Time::from_millis),
            payload,
            error,
            // Whether its consumer has been mended, people know.
            next_auto_retry_at: None,
        };
        self.insert(&letter, now).await.map_err(|error| error.explain())
    }

    async fn insert(&self, letter: &NewDeadLetter, now: Time) -> Result<(), StoreError> {
        metrics::counter!("omni_dead_letters_total", "consumer" => "nats").increment(1);
        let mut tx = self.store.begin().await?;
        dead_letters::insert(&mut tx, letter, now).await?;
        tx.commit().await
    }
}
