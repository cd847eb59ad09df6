//! Every call that the channel makes while the transcripts are played, judged by Discord's OpenAPI document, where that is
//! at hand.
//!
//! A listener at the boundary takes the calls down as they are really made, the form of an upload by its `payload_json`.
//! Not here: whether a transcript comes out as it says (`conformance`), and what does not go to the API (files).

use omni_channel_discord::Discord;
use omni_channel_sdk::Exported;
use omni_channel_sdk::frame::{HostRequest, ToHost, decode};
use omni_channel_sdk::http::{HttpBody, HttpCall};
use omni_channel_sdk::testkit::{InProcess, Port, Subject, play};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

#[path = "book/spec.rs"]
#[expect(dead_code, reason = "only calls are judged here")]
mod spec;

type Calls = Rc<RefCell<Vec<HttpCall>>>;

/// An instance whose calls are taken down.
struct Listened {
    channel: InProcess<Discord>,
    calls: Calls,
}

impl Port for Listened {
    fn deliver(&self, frame: &[u8]) -> Result<(), String> {
        self.channel.deliver(frame)
    }

    fn next(&self, patience: Duration) -> Option<Vec<u8>> {
        let frame = self.channel.next(patience)?;
        if let Ok((ToHost::Call { request: HostRequest::Http { http }, .. }, _)) = decode(&frame) {
            self.calls.borrow_mut().push(*http);
        }
        Some(frame)
    }
}

/// The calls of all transcripts, as they are really made.
fn calls() -> Vec<HttpCall> {
    let calls = Calls::default();
    let open = {
        let calls = Rc::clone(&calls);
        Box::new(move || Ok(Box::new(Listened { channel: InProcess::open(), calls: Rc::clone(&calls) }) as _))
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let subject = Subject::new(Discord::CHANNEL_JSON, &folder, open).expect("the transcripts can be read");
    for transcript in &subject.transcripts {
        assert_eq!(play(&subject, transcript).problems, Vec::<String>::new());
    }
    calls.take()
}

/// What is sent as JSON; the files of an upload stand beside it.
fn body(http: &HttpCall) -> Option<Value> {
    match &http.body {
        HttpBody::Empty => None,
        HttpBody::Json { json } => Some(json.clone()),
        HttpBody::Multipart { parts } => {
            let payload = parts.iter().find(|part| part.name == "payload_json").and_then(|part| part.text.as_deref());
            Some(serde_json::from_str(payload.expect("an upload says what it is")).expect("it is JSON"))
        }
        other => panic!("{} {} has the body {other:?}", http.method, http.url),
    }
}

/// The path behind the version of the API. An address that Discord gives out for a webhook has no version.
fn path(url: &str) -> &str {
    let behind = url.split_once("/api").map_or(url, |(_, behind)| behind);
    behind.strip_prefix("/v10").unwrap_or(behind)
}

#[test]
fn what_goes_out_is_by_the_book() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let Some(spec) = spec::Spec::load(&repository) else { return };
    let mut wrong = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for http in calls() {
        // Signing in is OAuth2's, and not in the document.
        if http.url.ends_with("/oauth2/token") {
            continue;
        }
        let path = path(&http.url);
        let violations = spec.call(&http.method, path, body(&http).as_ref());
        wrong.extend(violations);
        seen.insert(format!("{} {}", http.method, path.split('?').next().unwrap_or_default()));
    }
    assert_eq!(wrong, BTreeSet::new());
    assert!(seen.len() > 60, "only these were made: {seen:#?}");
}

#[test]
fn the_book_judges() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let Some(spec) = spec::Spec::load(&repository) else { return };
    let good = json!({"content": "hi", "nonce": "c1", "enforce_nonce": true});
    assert_eq!(spec.call("POST", "/channels/5/messages", Some(&good)), Vec::<String>::new());
    for (method, path, body) in [
        ("POST", "/channels/5/messages", Some(json!({"contents": "hi"}))),
        ("POST", "/channels/5/messages", Some(json!({"content": 7}))),
        ("POST", "/channels/5/messages", Some(json!({"nonce": "far too long to be taken for one of these"}))),
        ("POST", "/channels/5/messages", Some(json!({"allowed_mentions": {"parse": ["nobody"]}}))),
        ("POST", "/interactions/5/token/callback", None),
        ("POST", "/channels/general/messages", Some(good.clone())),
        ("GET", "/channels/5/messages?limit=1000", None),
        ("GET", "/channels/5/messages?most=10", None),
        ("GET", "/channels/5/messages", Some(json!({}))),
        ("DELETE", "/channels/5/messages", None),
        ("GET", "/rooms/5", None),
    ] {
        assert_ne!(spec.call(method, path, body.as_ref()), Vec::<String>::new(), "{method} {path} {body:?}");
    }
}
