//! One attempt: a signed request, a bounded wait, a bounded look at the answer.

use super::schedule;
use super::signature::{self, SigningSecret};
use crate::clock::Clock;
use crate::egress::{Destination, Egress, tls};
use crate::store::webhook_queue::Attempt;
use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How much of an answer is kept.
const KEPT: usize = 1_024;

/// Where something is sent, opened and ready.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub url: Url,
    pub headers: HeaderMap,
    pub secrets: Vec<SigningSecret>,
    pub destination: Destination,
}

/// What the other side made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has it.
    Taken,
    /// It has it not; with how long it wants to be left alone.
    NotTaken(Option<Duration>),
    /// It wants nothing more, ever.
    Gone,
}

/// Sends. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    public: Client,
    granted: Client,
    egress: Egress,
    clock: Clock,
    within: Duration,
}

impl Sender {
    pub fn new(egress: Egress, clock: Clock, within: Duration) -> Result<Self, reqwest::Error> {
        let build = |destination| egress.client(destination)?.timeout(within).build();
        Ok(Self {
            public: build(Destination::Public)?,
            granted: build(Destination::Granted)?,
            egress: egress.clone(),
            clock,
            within,
        })
    }

    /// Sends one event under its id.
    pub async fn send(&self, target: &Target, id: Uuid, body: Bytes) -> (Attempt, Answer) {
        let at = self.clock.now();
        let began = Instant::now();
        let mut attempt = Attempt { at, duration_ms: 0, status_code: None, error: None, answer: None };
        let answer = match self.ask(target, id, body, at).await {
            Ok(response) => self.read(response, &mut attempt).await,
            Err(reason) => {
                attempt.error = Some(reason);
                Answer::NotTaken(None)
            }
        };
        attempt.duration_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
        (attempt, answer)
    }

    async fn ask(&self, target: &Target, id: Uuid, body: Bytes, now: crate::store::Time) -> Result<Response, String> {
        self.egress.check(&target.url, target.destination).map_err(|error| error.to_string())?;
        let id = id.to_string();
        let signature = signature::header(&target.secrets, &id, now, &body);
        let client = match target.destination {
            Destination::Public => &self.public,
            Destination::Granted => &self.granted,
        };
        let request = client
            .post(target.url.clone())
            .headers(target.headers.clone())
            .header("content-type", "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", now.millis().div_euclid(1_000))
            .header("webhook-signature", signature)
            .body(body);
        request.send().await.map_err(|error| self.explain(error))
    }

    async fn read(&self, response: Response, attempt: &mut Attempt) -> Answer {
        let status = response.status();
        attempt.status_code = Some(status.as_u16());
        let wish = response.headers().get(RETRY_AFTER).and_then(|value: &HeaderValue| value.to_str().ok());
        let wish = wish.and_then(|value| schedule::retry_after(value, self.clock.now()));
        // Its time is part of the request's: a body that never ends is cut by the client's limit.
        attempt.answer = first_bytes(response).await;
        if status.is_success() {
            return Answer::Taken;
        }
        attempt.error = Some(match status {
            status if status.is_redirection() => {
                format!("answered {status}: redirects are not followed; set the address that it leads to")
            }
            status => format!("answered {status}"),
        });
        if status == StatusCode::GONE { Answer::Gone } else { Answer::NotTaken(wish) }
    }

    /// The sentence for a request that brought no answer: with its causes, without its address, which may hold a secret.
    fn explain(&self, error: reqwest::Error) -> String {
        if error.is_timeout() {
            return format!("no answer within {} s", self.within.as_secs_f32());
        }
        tls::explain(&error.without_url())
    }
}

/// The first bytes of an answer, as words; nothing when it has none. What follows is never read.
async fn first_bytes(response: Response) -> Option<String> {
    let mut bytes = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(Ok(chunk)) = chunks.next().await {
        bytes.extend_from_slice(&chunk[..chunk.len().min(KEPT - bytes.len())]);
        if bytes.len() == KEPT {
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes).replace('\0', "␀");
    (!text.is_empty()).then_some(text)
}
