//! What Telegram, or whatever stands in its place, may send, and what holds of it: nothing is lost, nothing comes twice,
//! nothing stops the bot. A fuzz target, and a test over its seeds.

use omni_channel_sdk::event::{Event, EventBody};
use omni_channel_sdk::frame::{
    CallResult, Commit, HostAnswer, HostRequest, Op, OutcomeHead, Output, Tails, ToChannel, ToHost, decode, encode,
    encode_events,
};
use omni_channel_sdk::http::HttpResponse;
use omni_channel_sdk::ingress::{IngressEvent, WebhookRequest};
use omni_channel_sdk::testkit::{InProcess, Port};
use omni_channel_telegram::Telegram;
use omni_channel_telegram::convert::update_id;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// 2026-01-01, in milliseconds.
const NOW: i64 = 1_767_225_600_000;

/// The bytes as the body of a webhook call, as an answer to a poll, and as the only update of such an answer. Gives back
/// the events that came of them, as they go to the host.
pub fn check(data: &[u8]) -> Vec<Value> {
    let mut events = webhook(data);
    events.extend(polled(data, 200));
    events.extend(polled(data, 429));
    events.extend(polled(&[br#"{"ok":true,"result":["#, data, b"]}"].concat(), 200));
    events
}

fn webhook(body: &[u8]) -> Vec<Value> {
    let update = serde_json::from_slice::<Value>(body).ok().filter(|update| update_id(update).is_some());
    let request = WebhookRequest { method: "POST".into(), path: "/".into(), body: body.to_vec(), ..Default::default() };
    let mut bot = Bot::start();
    let (outcome, events) = bot.take(IngressEvent::Webhook { request });
    let status = outcome.expect("a call of a stranger's ends well").reply.map(|reply| reply.status);
    match update {
        Some(update) => {
            assert_eq!(status, None, "what is an update is taken");
            assert_updates(&events, &[update]);
        }
        None => assert_eq!((status, events.len()), (Some(400), 0), "what is no update is refused"),
    }
    events
}

fn polled(body: &[u8], status: u16) -> Vec<Value> {
    let updates = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(mut answer)) if answer.get("ok") == Some(&Value::Bool(true)) => answer.remove("result"),
        _ => None,
    };
    let updates = match updates {
        // Without a number nothing could be told apart, nor be got past.
        Some(Value::Array(updates)) if updates.iter().any(|update| update_id(update).is_some()) => updates,
        _ => Vec::new(),
    };
    let mut bot = Bot::start();
    let before = bot.kv.get("offset").cloned();
    let response = HttpResponse { status, headers: Vec::new(), body: body.to_vec() };
    let (outcome, events) = bot.take(IngressEvent::PollResponse { tag: String::new(), response });
    assert!(outcome.is_some() || updates.is_empty(), "a list of updates does not stop the bot");
    assert_updates(&events, &updates);
    let last = updates.iter().filter_map(update_id).max();
    let offset = last.map(|last| last.saturating_add(1).to_string().into_bytes());
    assert_eq!(bot.kv.get("offset").cloned(), offset.or(before), "the place in the list moves behind what was taken");
    events
}

/// One event for each update, in order, under its number and with it whole.
fn assert_updates(events: &[Value], updates: &[Value]) {
    assert_eq!(events.len(), updates.len(), "as many events as updates");
    for (written, update) in events.iter().zip(updates) {
        let event: Event = serde_json::from_value(written.clone()).unwrap_or_else(|error| panic!("{error}: {written}"));
        let whole = depth(update) <= 32;
        assert_eq!(event.raw.as_ref(), Some(update).filter(|_| whole), "an event carries its update");
        let key = event.delivery_key.as_ref().map(|key| key.as_str().to_owned());
        assert_eq!(key, update_id(update).map(|id| id.to_string()), "an event is known by its update's number");
        if let EventBody::Unknown(unknown) = &event.body {
            assert!(unknown.kind.starts_with("telegram."), "{} is nobody's word", unknown.kind);
        }
        let again = serde_json::to_value(&event).expect("an event can be written");
        assert_eq!(&again, written, "an event is read as it was written");
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// A running bot, and what the host keeps for it.
struct Bot {
    port: InProcess<Telegram>,
    kv: BTreeMap<String, Vec<u8>>,
    calls: u64,
}

impl Bot {
    fn start() -> Self {
        let mut bot = Self { port: InProcess::open(), kv: BTreeMap::new(), calls: 0 };
        // A webhook reaches a channel that polls as well: what is made of it is the same.
        let config = json!({"token": "600100:AAFakeTokenForTestsOnly_0123456789abcd"});
        let ended = bot.call(|call| {
            let op = Op::start("00000000-0000-7000-8000-000000000001", config);
            encode(&ToChannel::Begin { call, now: NOW, op }, &[])
        });
        assert!(matches!(ended, Some((Output::Started { .. }, _, _))), "it starts");
        bot
    }

    /// What became of something that arrived, unless the call failed, and the events that came of it.
    fn take(&mut self, event: IngressEvent) -> (Option<OutcomeHead>, Vec<Value>) {
        match self.call(|call| encode_events(call, NOW, vec![event])) {
            Some((Output::Events { mut outcomes, .. }, commit, _)) => {
                assert_eq!(outcomes.len(), 1, "one outcome for one event");
                let events = commit.events.iter().map(|raw| serde_json::from_str(raw.get()));
                let events = events.collect::<Result<_, _>>().expect("events are JSON");
                (outcomes.pop(), events)
            }
            Some((other, ..)) => panic!("events gave {other:?}"),
            None => (None, Vec::new()),
        }
    }

    /// Makes one call, and keeps what it wrote. Nothing when it failed, which it does with a word and without a panic.
    fn call(&mut self, frame: impl FnOnce(u64) -> Vec<u8>) -> Option<(Output, Commit, Tails)> {
        self.calls += 1;
        self.port.deliver(&frame(self.calls)).expect("a frame of the host's");
        loop {
            let frame = self.port.next(Duration::ZERO).expect("the call goes on without anything from outside");
            let (head, mut tails) = decode::<ToHost>(&frame).expect("a channel writes frames");
            match head {
                ToHost::Call { call, id, request } => {
                    let (answer, tails) = self.answer(request);
                    let answer = ToChannel::Answer { call, id, now: NOW, answer };
                    self.port.deliver(&encode(&answer, &tails)).expect("a frame of the host's");
                }
                ToHost::Done { result: CallResult::Err(failure), .. } => {
                    assert!(!failure.panicked, "{}", failure.error.message);
                    assert!(!failure.error.message.is_empty(), "it failed without a word");
                    return None;
                }
                ToHost::Done { result: CallResult::Ok(output), commit, .. } => {
                    for write in &commit.writes {
                        match write.delete {
                            true => drop(self.kv.remove(&write.key)),
                            false => {
                                let value = tails.next_bytes().expect("a value for each entry");
                                self.kv.insert(write.key.clone(), value);
                            }
                        }
                    }
                    return Some((output, commit, tails));
                }
                _ => {}
            }
        }
    }

    fn answer(&self, request: HostRequest) -> (HostAnswer, Vec<Vec<u8>>) {
        match request {
            HostRequest::Http { http } => {
                let result = if http.url.ends_with("/getMe") {
                    json!({"id": 600_100, "is_bot": true, "first_name": "Omni", "username": "omni_test_bot"})
                } else if http.url.ends_with("/getWebhookInfo") {
                    json!({"url": "https://elsewhere.example/hook"})
                } else {
                    json!(true)
                };
                let body = json!({"ok": true, "result": result}).to_string().into_bytes();
                let response = HttpResponse { status: 200, ..HttpResponse::default() };
                (HostAnswer::Http { response }, vec![body])
            }
            HostRequest::KvGet { key } => {
                let value = self.kv.get(&key).cloned();
                (HostAnswer::KvValue { found: value.is_some() }, Vec::from_iter(value))
            }
            other => panic!("an update makes it ask for {other:?}"),
        }
    }
}
