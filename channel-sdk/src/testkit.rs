//! The conformance suite that every channel passes, and the transcripts that prove what it can do.
//!
//! One line in a plugin's tests runs all of it, one `#[test]` for each rule, on the channel in process but through the
//! real boundary: frames are written and read, the host at the other end is a scripted one.
//!
//! ```text
//! omni_channel_sdk::testkit::conformance!(my_channel::MyChannel);
//! ```
//!
//! # The rules
//!
//! | rule | what holds |
//! | --- | --- |
//! | `manifest` | `channel.json` parses, has no misspelt field or kind, its id is well-formed, its schema is JSON Schema, what is a secret by its name is marked as one |
//! | `transcripts` | every transcript passes, and its configuration is valid by the schema |
//! | `proofs` | every declared capability is shown by a passing transcript that says so; none is shown that is not declared |
//! | `undeclared_requests` | every kind of request (and of content) that is not declared is answered `unsupported` |
//! | `unknown_requests` | so is a kind that this version does not know |
//! | `garbage` | no bytes that a network may bring panic a channel, make it emit an event, or move its position |
//! | `mangled` | nor do its own transcripts' bodies with values cut off or of another type, as far as panics go |
//! | `replay` | the same input, at another time or again, has the same delivery keys |
//! | `failed_calls` | a call that fails has stored nothing, also when good things were in the same batch |
//! | `uncertain_sends` | a send whose call may have reached the network is never reported as certainly not done |
//! | `sizes` | ids, names, texts, entries and events are within [`limits`] |
//! | `times` | times are in milliseconds: between 2000 and 2100, unless a transcript says `anyTime` |
//! | `secrets` | a secret is in no event, log line, state, error, answer or entry |
//! | `stop` | an instance stops cleanly, and answers no request afterwards |
//!
//! # Transcripts
//!
//! Every `tests/transcripts/*.json` beside the plugin's `Cargo.toml`: what the host and the network do, and what the
//! channel has to do then. Unknown fields are errors.
//!
//! ```json
//! {
//!   "name": "a text goes out",
//!   "proves": ["send.text"],
//!   "config": {"token": "123456:abcdef", "baseUrl": "https://api.example"},
//!   "kv": {"offset": "41"},
//!   "steps": [
//!     {"start": true,
//!      "http": [{"expect": {"method": "GET", "url": "https://api.example/bot${secret:token}/getMe"},
//!                "respond": {"json": {"ok": true}}}],
//!      "ingress": [{"type": "longPoll"}],
//!      "polls": [{"call": {"url": "https://api.example/bot${secret:token}/getUpdates*"}}]},
//!     {"request": {"type": "send", "chat": "7", "clientId": "c1", "content": {"type": "text", "text": "hi"}},
//!      "http": [{"expect": {"method": "POST", "url": "*", "json": {"chat_id": "7", "text": "hi"}},
//!                "respond": {"json": {"ok": true, "result": {"message_id": 5}}}}],
//!      "reply": {"type": "sent", "messageId": "5"}}
//!   ]
//! }
//! ```
//!
//! **At the top**
//!
//! - `name` (a sentence), `steps`; all else may be left out.
//! - `proves`: names of capabilities, as [`Capabilities::names`](crate::capabilities::Capabilities::names) has them:
//!   `send.text`, `request.edit`, `event.message`, `reply`, `album`. The kit checks that the steps really show them: a
//!   `send` that was answered well, a request that was, an event that was emitted, a `send` with `replyTo`, two
//!   messages of one album.
//! - `config`: what an operator would write; it must be valid by `configSchema`, whose defaults are filled in. Write
//!   secrets as they really look (made up). The channel gets a placeholder in their place, and `${secret:NAME}` in any
//!   string of the transcript stands for it (for the value itself where the manifest says `"secrets": "plain"`).
//! - `webhookUrl`: what [`Host::webhook_url`](crate::Host::webhook_url) says; `None` when it is left out.
//! - `offline`: true where the instance is started only to be asked something, as a host does for `importAuth`
//!   ([`Host::is_offline`](crate::Host::is_offline)).
//! - `kv`: entries that are there before the start. A string is stored as it is, `{"$base64": "…"}` as bytes, any other
//!   value as JSON.
//! - `media`: files that the host holds, blob id → content, written like an entry of `kv`.
//! - `now`: the host's clock at the start, milliseconds since 1970; 1767225600000 (2026) when absent.
//! - `anyTime`: true where times outside 2000 to 2100 are meant.
//!
//! **A step** has exactly one action:
//!
//! - `"start": true` — always the first.
//! - `"request": {…}` — a [`Request`](crate::request::Request) as JSON.
//! - `"events": [{…}]` — [`IngressEvent`](crate::ingress::IngressEvent)s as JSON, handed over in one call. Their raw
//!   bytes are given in the event (or in its `response` or `request`) as `"json"`, `"body"` (words) or `"base64"`.
//!   `tag` is `""`, a status 200, a method `POST` and a path `/` when left out.
//! - `"login": {…}` — a [`LoginCall`](crate::login::LoginCall) as JSON.
//! - `"advanceMs": n` — the clock moves; timers that the channel set and that are due now are handed over in order.
//! - `"stop": true`.
//!
//! And, where wanted, `note` (words for the reader), what the network answers and what the channel must do:
//!
//! - `http`: exactly the calls that the channel makes, in order. Each has `expect` (below) and either `respond`:
//!   `{"status": 200, "headers": {"name": "value"}, "json" | "text" | "base64": …}`, or `fail`: a
//!   [`HttpFailure`](crate::http::HttpFailure), `{"message": "…", "sent": true, "timedOut": false}`. A call that is not
//!   listed, or one that is listed and not made, fails the transcript.
//! - `reply`: the answer to a request, to a login the step. `error`: a [`SendError`](crate::outcome::SendError)
//!   (`code`, `next`, `retryAfterMs`, `certain` …), with `state` beside its fields. A step without `error` must end
//!   well.
//! - `ingress`: the ways in, exactly as many. `polls`: the next poll of each, `{"tag": "", "call": expect}`.
//! - `emits`: the events, exactly as many; none may be emitted where it is left out.
//! - `kv`: entries after the step: a string is compared as text, another value as JSON, `null` means that there is none.
//! - `replies`: what webhooks are answered, one for each event: `null` or `{"status": …, "headers": {…}, "json": …}`.
//! - `outcomes`: what became of each event otherwise (`{"pollAfterMs": 3000}`, `{"socketSend": […]}`). Texts that are
//!   sent to a socket may be matched by their JSON with `{"$json": …}`.
//! - `states`: the connection states that were reported, exactly as many. `timers`: the timers that were set, likewise.
//! - `sockets`: what was done with sockets, likewise: `{"tag": "", "send": ["…"], "close": 4000, "url": "…"}`; a text may be
//!   matched by its JSON, as above.
//! - `missed`: whether the channel said that it missed something, and history is to be asked for. `missedIn`: in which chats
//!   beside those that the host knows, exactly as many: `{"chat": "…", "after": "…"}`.
//!
//! **`expect`** has `method`, `url` (exact; a `*` stands for anything), `headers` (name → value), and of the
//! body `json`, `text`, `blob`, or `form`: field → text, or → `{"text" | "blob" | "fileName" | "mimeType" | "json": …}`
//! where `json` is for a text that is JSON. What is left out is not compared.
//!
//! **Comparing** is by subset: an object must have the fields that are named, with values that match; an array must
//! have as many items, each matching. `null` matches what is absent. `"$any"` matches whatever is there,
//! `{"$contains": "…"}` a text with these words in it, `{"$json": …}` a text that is JSON.
//!
//! **The key-value store** behaves as the host's: what a call writes can be read by others only after it ended well, and
//! is dropped when it failed. Random bytes are 0, 1, 2 …
//!
//! The runner knows a channel only as a [`Port`]: something that takes frames and yields frames. A host can run the same
//! suite on a plugin file.

mod host;
pub mod limits;
mod manifest;
mod matching;
mod play;
mod port;
mod rules;
mod samples;
mod transcript;

pub use host::{Finished, ScriptedHost};
pub use matching::mismatches;
pub use play::{Play, Played, StepResult, play};
pub use port::{InProcess, Port};
pub use rules::{Problem, Proofs, RULES, Rule, Subject};
pub use transcript::{Exchange, Expect, Step, Transcript};

pub use crate::__conformance as conformance;

/// Checks one rule on a channel, and panics with every problem found. What [`conformance!`] expands to.
///
/// # Panics
///
/// When the channel breaks the rule.
pub fn assert_rule<C: crate::Exported>(rule: &str, plugin_dir: &str) {
    let subject = match Subject::of::<C>(plugin_dir.as_ref()) {
        Ok(subject) => subject,
        Err(problem) => panic!("the suite cannot begin: {problem}"),
    };
    let rule = RULES.iter().find(|found| found.name == rule).expect("the macro and the table have the same rules");
    let problems = (rule.check)(&subject);
    let list: Vec<String> =
        problems.iter().map(|problem| format!("  - {}", problem.0.replace('\n', "\n    "))).collect();
    assert!(problems.is_empty(), "{}: {}\n{}", rule.name, rule.says, list.join("\n"));
}

/// Writes one `#[test]` for each rule of the suite: `conformance!(my_channel::MyChannel);`, once in a file of `tests/`.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance {
    ($channel:ty) => {
        $crate::__conformance!($channel:
            manifest transcripts proofs undeclared_requests unknown_requests garbage mangled replay failed_calls
            uncertain_sends sizes times secrets stop
        );
    };
    ($channel:ty: $($rule:ident)*) => {$(
        #[test]
        fn $rule() {
            $crate::testkit::assert_rule::<$channel>(stringify!($rule), env!("CARGO_MANIFEST_DIR"));
        }
    )*};
}
