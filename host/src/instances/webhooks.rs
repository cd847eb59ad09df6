//! The webhook ingress: requests go to the channel in batches, and are answered when what it made of them is durable.
//!
//! While one batch is stored the channel already has the next, unless the first wrote entries that it would look for.
//! What is stored comes in the order in which the channel was called. A batch that fails is handed over one by one, so
//! that a bad request harms only itself.

use super::ingress::{End, Line};
use super::live::{Live, WebhookGate, WebhookJob, WebhookRefused};
use super::verify;
use crate::plugins::session::{CallError, EventsTaken, HandedOver};
use crate::store::Time;
use crate::traces::Step;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use omni_channel_sdk::http::HttpResponse;
use omni_channel_sdk::ingress::{EventOutcome, IngressEvent, WebhookRequest};
use omni_channel_sdk::outcome::NextActor;
use std::pin::pin;
use tokio::sync::{mpsc, oneshot};

/// Requests that are handed over in one call.
const BATCH: usize = 256;
/// Batches that are being stored at the same time.
const STORING: usize = 2;

type Answer = oneshot::Sender<Result<HttpResponse, WebhookRefused>>;

/// Requests that the channel is done with.
struct Done {
    requests: Vec<(IngressEvent, Answer)>,
    handed: HandedOver,
    /// Told when it is stored, or cannot be.
    settled: oneshot::Sender<()>,
    /// It ends when they are stored.
    step: Step,
}

/// Refuses a request whose body need not be read: the instance takes none, or it cannot be from the network.
pub(crate) fn expect_webhook(
    live: &Live,
    head: &WebhookRequest,
    announced: Option<u64>,
    now: Time,
) -> Result<(), WebhookRefused> {
    verify::verify_head(&gate(live)?.webhook, head, announced, now).map_err(|refused| live.warn_of(refused, now))
}

fn gate(live: &Live) -> Result<WebhookGate, WebhookRefused> {
    live.gate().ok_or_else(|| WebhookRefused::NotNow("the instance takes no webhooks at this moment".into()))
}

/// Verifies a request, hands it to the channel and waits for the answer.
pub(crate) async fn take_webhook(
    live: &Live,
    request: WebhookRequest,
    now: Time,
) -> Result<HttpResponse, WebhookRefused> {
    let not_now = |why: &str| WebhookRefused::NotNow(why.to_owned());
    let gate = gate(live)?;
    if let Some(answer) = verify::challenged(&gate.webhook, &request) {
        return Ok(answer);
    }
    verify::verify(&gate.webhook, &request, now).map_err(|refused| live.warn_of(refused, now))?;
    let (answer, answered) = oneshot::channel();
    gate.jobs
        .try_send(WebhookJob { request, answer })
        .map_err(|_| not_now("too many requests are waiting for the channel"))?;
    answered.await.map_err(|_| not_now("the instance ended before the request was taken"))?
}

/// Runs until the instance is to end, and says why.
pub async fn webhooks(line: Line, jobs: mpsc::Receiver<WebhookJob>) -> End {
    let (done, to_store) = mpsc::channel(1);
    let mut handing = pin!(hand_over(&line, jobs, done));
    let mut storing = pin!(store(&line, to_store));
    tokio::select! {
        end = &mut handing => storing.await.unwrap_or(end),
        Some(end) = &mut storing => end,
    }
}

/// Gives the channel what comes in. Returns when the instance is to end.
async fn hand_over(line: &Line, mut jobs: mpsc::Receiver<WebhookJob>, done: mpsc::Sender<Done>) -> End {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        if jobs.recv_many(&mut batch, BATCH).await == 0 {
            return End::Retry("the webhook queue was closed".into());
        }
        let live = batch.drain(..).filter(|job| !job.answer.is_closed());
        let requests: Vec<(IngressEvent, Answer)> =
            live.map(|job| (IngressEvent::Webhook { request: job.request }, job.answer)).collect();
        if requests.is_empty() {
            continue;
        }
        let single = requests.len() == 1;
        let Err((requests, error)) = hand_over_together(line, requests, &done).await else { continue };
        let mut dead = (single || line.session.ended().borrow().is_some()).then_some(error);
        for (event, answer) in requests {
            let failed = match &dead {
                Some(error) => Err((vec![(event, answer)], error.clone())),
                None => hand_over_together(line, vec![(event, answer)], &done).await,
            };
            let Err((refused, error)) = failed else { continue };
            if refuse(line, refused, &error) {
                dead = Some(error);
            }
        }
        if let Some(end) = dead.and_then(|error| line.verdict(error).err()) {
            return end;
        }
    }
}

/// One call. Gives the requests back when it failed.
async fn hand_over_together(
    line: &Line,
    requests: Vec<(IngressEvent, Answer)>,
    done: &mpsc::Sender<Done>,
) -> Result<(), (Vec<(IngressEvent, Answer)>, CallError)> {
    let events = requests.iter().map(|(event, _)| event.clone()).collect();
    let step = line.step("webhook", requests.len());
    match step.run(line.session.hand_over(events, line.within)).await {
        Ok(handed) => {
            let wait = !handed.may_be_followed();
            let (settled, is_settled) = oneshot::channel();
            // When nobody stores any more, the requests are dropped, and their networks send them again.
            if done.send(Done { requests, handed, settled, step }).await.is_ok() && wait {
                let _ = is_settled.await;
            }
            Ok(())
        }
        Err(error) => Err((requests, error)),
    }
}

/// Makes what the channel made of requests durable, and answers them. Returns early, with the reason, when the instance
/// is to end; else when nothing more comes.
async fn store(line: &Line, mut done: mpsc::Receiver<Done>) -> Option<End> {
    let mut storing = FuturesOrdered::new();
    loop {
        tokio::select! {
            biased;
            Some((requests, stored, settled)) = storing.next() => {
                let end = settle(line, requests, stored).await;
                drop::<oneshot::Sender<()>>(settled);
                if end.is_some() {
                    return end;
                }
            }
            next = done.recv(), if storing.len() < STORING => match next {
                Some(Done { requests, handed, settled, step }) => {
                    storing.push_back(async move {
                        (requests, step.run(handed.store(&line.session)).await, settled)
                    });
                }
                None if storing.is_empty() => return None,
                None => {
                    while let Some((requests, stored, _)) = storing.next().await {
                        if let Some(end) = settle(line, requests, stored).await {
                            return Some(end);
                        }
                    }
                    return None;
                }
            },
        }
    }
}

/// Answers requests that are stored; those of a batch that could not be stored are tried one by one.
async fn settle(
    line: &Line,
    requests: Vec<(IngressEvent, Answer)>,
    stored: Result<EventsTaken, CallError>,
) -> Option<End> {
    match stored {
        Ok(taken) => {
            for ((_, answer), outcome) in requests.into_iter().zip(taken.outcomes) {
                let _ = answer.send(Ok(reply(outcome)));
            }
            None
        }
        Err(error) if requests.len() == 1 => {
            let ends = refuse(line, requests, &error);
            ends.then(|| line.verdict(error).err()).flatten()
        }
        Err(_) => {
            for (event, answer) in requests {
                match line.events("webhook", vec![event.clone()]).await {
                    Ok(mut taken) => drop(answer.send(Ok(reply(taken.outcomes.pop().unwrap_or_default())))),
                    Err(error) => {
                        if refuse(line, vec![(event, answer)], &error) {
                            return line.verdict(error).err();
                        }
                    }
                }
            }
            None
        }
    }
}

fn reply(outcome: EventOutcome) -> HttpResponse {
    outcome.reply.unwrap_or_else(|| HttpResponse { status: 200, ..HttpResponse::default() })
}

/// Tells the network, and says whether the instance is to end.
fn refuse(line: &Line, requests: Vec<(IngressEvent, Answer)>, error: &CallError) -> bool {
    let bad = match error {
        CallError::Failed(failure) => failure.error.next == NextActor::Caller && !failure.panicked,
        _ => false,
    };
    let message = error.to_string();
    for (_, answer) in requests {
        let message = message.clone();
        let refused = if bad { WebhookRefused::Bad(message) } else { WebhookRefused::NotNow(message) };
        let _ = answer.send(Err(refused));
    }
    line.verdict(error.clone()).is_err()
}
