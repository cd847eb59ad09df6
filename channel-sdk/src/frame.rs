//! The bytes that cross the boundary, the same in every home of a plugin: in process, in a child process, in WASM.
//!
//! A frame is a JSON head and any number of raw byte strings beside it (HTTP bodies, key-value entries):
//! `u32 length ‖ JSON ‖ (u32 length ‖ bytes)*`, little-endian. Which byte string belongs to what is said at each kind.
//!
//! The rule of growth: fields are added with defaults, kinds are added and skipped by those who do not know them,
//! nothing is renamed, nothing is taken away. The golden files in `tests/golden` hold it.

use crate::connection::ConnectionState;
use crate::http::{HttpCall, HttpFailure, HttpResponse};
use crate::ids::{ChatId, InstanceId, MessageId};
use crate::ingress::{Ingress, IngressEvent, NextPoll, SocketAct};
use crate::login::{LoginCall, LoginStep};
use crate::outcome::SendError;
use crate::request::{Reply, Request};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// Host → channel.
#[expect(clippy::large_enum_variant, reason = "one at a time, written or taken apart at once")]
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ToChannel {
    /// Begin a call. Many may be open at once; each ends with one [`ToHost::Done`].
    Begin {
        /// Chosen by the host, never 0, never used again.
        call: u64,
        /// The host's time, milliseconds since 1970.
        now: i64,
        /// What to do.
        op: Op,
    },
    /// The answer to a [`ToHost::Call`].
    Answer {
        /// The call that asked; 0 for a background task of an `own` channel.
        call: u64,
        /// Which of its questions.
        id: u32,
        /// The host's time.
        now: i64,
        /// The answer.
        answer: HostAnswer,
    },
    /// Go on with a call that asked to be woken.
    Poll {
        /// Which.
        call: u64,
        /// The host's time.
        now: i64,
    },
    /// Give a call up. No [`ToHost::Done`] follows.
    Cancel {
        /// Which.
        call: u64,
    },
    /// Answer with [`ToHost::Pong`]: whether the channel still runs.
    Ping {
        /// To be repeated.
        nonce: u64,
    },
}

/// What a call is to do.
#[expect(clippy::large_enum_variant, reason = "one at a time, written or taken apart at once")]
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Op {
    /// Start the instance: always the first call, and only once → [`Output::Started`].
    Start {
        /// Its id.
        instance: InstanceId,
        /// Its configuration, as the manifest's schema says, defaults filled in.
        config: Value,
        /// Where the network reaches the instance's webhook; absent when the host has no public address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        webhook_url: Option<String>,
        /// Whether it is started only to be asked something, such as for its auth state: it must not connect to its
        /// network. The host opens no ingress of it, and ends it soon.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        offline: bool,
        /// How it is to reach its network; said to channels with a network library of their own (`"secrets": "plain"`).
        #[serde(default, skip_serializing_if = "Egress::is_plain")]
        egress: Egress,
    },
    /// Things that arrived → [`Output::Events`]. One byte string for each `pollResponse`, `webhook` and `socketBinary`,
    /// in order: its body.
    Events {
        /// In the order in which they arrived.
        events: Vec<IngressEvent>,
    },
    /// Ask for something → [`Output::Reply`].
    Request {
        /// For what.
        request: Request,
    },
    /// Log in → [`Output::Login`].
    Login {
        /// Which move.
        login: LoginCall,
    },
    /// End the instance: no call follows → [`Output::Stopped`].
    Stop {},
}

impl Op {
    /// The start of an instance about which nothing else is to be said.
    pub fn start(instance: impl Into<InstanceId>, config: Value) -> Self {
        let (instance, egress) = (instance.into(), Egress::default());
        Self::Start { instance, config, webhook_url: None, offline: false, egress }
    }
}

/// How a channel with a network library of its own is to connect. The host's own calls and sockets do all of it anyway.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Egress {
    /// The HTTP proxy that every connection has to go by way of: `http://user:password@proxy.example:3128`, or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// Authorities whose certificates are trusted beside those that the machine trusts: DER, in base64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authorities: Vec<String>,
}

impl Egress {
    fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// The address of a proxy may hold a password.
impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let proxy = self.proxy.as_ref().map(|_| "…");
        f.debug_struct("Egress").field("proxy", &proxy).field("authorities", &self.authorities.len()).finish()
    }
}

/// Channel → host.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ToHost {
    /// A question in the middle of a call.
    Call {
        /// The call that asks; 0 for a background task.
        call: u64,
        /// Chosen by the channel, unique within the call.
        id: u32,
        /// The question.
        request: HostRequest,
    },
    /// A call has ended. One byte string for each write in `commit` that is not a deletion, then one for each outcome
    /// with a reply: its body.
    Done {
        /// Which.
        call: u64,
        /// How.
        result: CallResult,
        /// What is to be stored, all or nothing, and only when the call ended well.
        commit: Commit,
    },
    /// A call of an `own` channel can go on: answer with [`ToChannel::Poll`].
    Wake {
        /// Which.
        call: u64,
    },
    /// The connection changed.
    State {
        /// What it is now.
        state: ConnectionState,
    },
    /// Something for the log.
    Log {
        /// How important.
        level: LogLevel,
        /// A sentence without secrets, message texts and phone numbers.
        message: String,
    },
    /// The answer to [`ToChannel::Ping`].
    Pong {
        /// Repeated.
        nonce: u64,
    },
}

/// How a call ended.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum CallResult {
    /// Well.
    Ok(Output),
    /// Not.
    Err(Failure),
}

/// What a call gives back when it ended well.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Output {
    /// The instance runs.
    Started {
        /// Its ways in.
        ingress: Vec<Ingress>,
        /// The first call of each long poll.
        polls: Vec<NextPoll>,
    },
    /// The events were taken.
    Events {
        /// One for each, in order.
        outcomes: Vec<OutcomeHead>,
        /// The next call of each long poll that answered.
        polls: Vec<NextPoll>,
    },
    /// The request was answered.
    Reply {
        /// With what.
        reply: Box<Reply>,
    },
    /// The login moved.
    Login {
        /// To which step.
        step: Box<LoginStep>,
    },
    /// The instance has ended.
    Stopped {},
}

/// An [`EventOutcome`](crate::ingress::EventOutcome) without the body of its reply, which lies beside the JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct OutcomeHead {
    /// Status and headers of the webhook's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<HttpResponse>,
    /// What is written to the socket.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub socket_send: Vec<String>,
    /// How long to wait before the next poll, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poll_after_ms: Option<u64>,
}

/// Why a call failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// What went wrong and who acts next.
    pub error: SendError,
    /// The connection's state from now on, when the failure is about the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Box<ConnectionState>>,
    /// Whether the channel panicked.
    #[serde(default)]
    pub panicked: bool,
}

/// What is to be stored when a call ends, in one transaction.
#[derive(Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Commit {
    /// Events, each an [`Event`](crate::event::Event) as JSON, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<crate::event::Event>"))]
    pub events: Vec<Box<RawValue>>,
    /// Key-value entries, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub writes: Vec<KvWrite>,
    /// Timers to be set or taken back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub timers: Vec<TimerSet>,
    /// What is to be done with sockets, in order, once the rest is stored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sockets: Vec<SocketAct>,
    /// Whether something may have happened that the network will not tell by itself: the host asks for history.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub missed: bool,
    /// Chats in which something did, which the host need not know; at most 500.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missed_in: Vec<MissedIn>,
}

/// A chat in which something happened that the network will not tell by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MissedIn {
    /// Which.
    pub chat: ChatId,
    /// Behind which message; the id need not be that of one that there is, where the network's rise with time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<MessageId>,
}

/// One key-value entry to be written; its value lies beside the JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KvWrite {
    /// At most 400 bytes.
    pub key: String,
    /// Whether it is taken away: then there is no value.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delete: bool,
}

/// A timer to be set or taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TimerSet {
    /// Its name; setting a name again moves it.
    pub tag: String,
    /// When it is due, in milliseconds from now; taken back when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
}

/// A question to the host.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum HostRequest {
    /// Make an HTTP call → [`HostAnswer::Http`], [`HostAnswer::HttpFailed`].
    Http {
        /// Which.
        http: Box<HttpCall>,
    },
    /// Read an entry → [`HostAnswer::KvValue`].
    KvGet {
        /// Which.
        key: String,
    },
    /// List entries in the order of their keys → [`HostAnswer::KvEntries`].
    KvScan {
        /// Keys begin with it.
        prefix: String,
        /// Only keys behind this one.
        after: Option<String>,
        /// How many at most; the host gives no more than 1,000.
        limit: u32,
    },
    /// Store now, and answer when it is durable → [`HostAnswer::Committed`]. Byte strings as in [`ToHost::Done`].
    Commit {
        /// What.
        commit: Commit,
    },
    /// Store bytes as media → [`HostAnswer::Media`]. One byte string: the file.
    MediaPut {
        /// MIME type, if known.
        mime_type: Option<String>,
        /// Its name, if it has one.
        file_name: Option<String>,
    },
    /// Read media that the host holds → [`HostAnswer::MediaBytes`].
    MediaGet {
        /// Which.
        blob: crate::ids::BlobId,
        /// From which byte.
        offset: u64,
        /// How many at most; the host gives no more than 1 MiB.
        limit: u32,
    },
    /// Random bytes → [`HostAnswer::Random`].
    Random {
        /// How many, at most 1,024.
        bytes: u32,
    },
}

/// An answer of the host.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum HostAnswer {
    /// An HTTP answer, of any status. One byte string: its body.
    Http {
        /// Status and headers.
        response: HttpResponse,
    },
    /// No HTTP answer.
    HttpFailed {
        /// Why.
        failure: HttpFailure,
    },
    /// An entry. One byte string when it was found: its value.
    KvValue {
        /// Whether there is one.
        found: bool,
    },
    /// Entries. One byte string for each key: its value.
    KvEntries {
        /// In order.
        keys: Vec<String>,
    },
    /// It is stored and durable.
    Committed {},
    /// The handle of stored media.
    Media {
        /// It.
        blob: crate::ids::BlobId,
    },
    /// A piece of media. One byte string; shorter than asked at the end.
    MediaBytes {
        /// Size of the whole.
        size: u64,
    },
    /// Random bytes. One byte string.
    Random {},
    /// The host could not or would not.
    Failed {
        /// Why, in a sentence.
        message: String,
    },
}

/// How important a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum LogLevel {
    /// For whoever debugs the channel.
    Debug,
    /// For whoever wants to see what it does.
    Info,
    /// Something is odd, and it goes on.
    Warn,
    /// Something failed, and a person should look.
    Error,
}

/// Why bytes are no frame.
#[derive(Debug)]
pub enum FrameError {
    /// They end too early: so many bytes were needed, so many were there.
    Truncated(usize, usize),
    /// The JSON does not say what it should.
    Json(serde_json::Error),
    /// A byte string that the head speaks of is not there.
    MissingBytes,
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Truncated(needed, got) => write!(f, "frame is truncated: {needed} bytes needed, {got} there"),
            Self::Json(error) => write!(f, "frame head is not what it should be: {error}"),
            Self::MissingBytes => f.write_str("frame speaks of a byte string that is not there"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Writes a frame.
pub fn encode<H: Serialize>(head: &H, tails: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256 + tails.iter().map(|tail| tail.len() + 4).sum::<usize>());
    bytes.extend_from_slice(&[0; 4]);
    serde_json::to_writer(&mut bytes, head).expect("wire types have string keys and no failing serializer");
    let length = u32::try_from(bytes.len() - 4).expect("a frame head is far below 4 GiB");
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    for tail in tails {
        let length = u32::try_from(tail.len()).expect("a byte string is below 4 GiB");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(tail);
    }
    bytes
}

/// Reads a frame.
pub fn decode<H: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<(H, Tails), FrameError> {
    let (head, mut rest) = take(bytes)?;
    let head = serde_json::from_slice(head).map_err(FrameError::Json)?;
    let mut tails = std::collections::VecDeque::new();
    while !rest.is_empty() {
        let (tail, next) = take(rest)?;
        tails.push_back(tail.to_vec());
        rest = next;
    }
    Ok((head, Tails(tails)))
}

fn take(bytes: &[u8]) -> Result<(&[u8], &[u8]), FrameError> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
        return Err(FrameError::Truncated(4, bytes.len()));
    };
    let length = u32::from_le_bytes(*length) as usize;
    if rest.len() < length {
        return Err(FrameError::Truncated(length, rest.len()));
    }
    Ok(rest.split_at(length))
}

/// The byte strings of a frame, taken in order.
#[derive(Debug, Default)]
pub struct Tails(std::collections::VecDeque<Vec<u8>>);

impl Tails {
    /// The next one.
    pub fn next_bytes(&mut self) -> Result<Vec<u8>, FrameError> {
        self.0.pop_front().ok_or(FrameError::MissingBytes)
    }

    /// How many are left.
    pub fn remaining(&self) -> usize {
        self.0.len()
    }
}

/// Writes things that arrived as an [`Op::Events`] call: the bodies go beside the JSON.
pub fn encode_events(call: u64, now: i64, mut events: Vec<IngressEvent>) -> Vec<u8> {
    let tails: Vec<Vec<u8>> = events.iter_mut().filter_map(|event| event_body(event).map(std::mem::take)).collect();
    encode(&ToChannel::Begin { call, now, op: Op::Events { events } }, &tails)
}

/// The raw bytes that an ingress event carries beside its JSON, if it is of a kind that does.
pub fn event_body(event: &mut IngressEvent) -> Option<&mut Vec<u8>> {
    match event {
        IngressEvent::PollResponse { response, .. } => Some(&mut response.body),
        IngressEvent::Webhook { request } => Some(&mut request.body),
        IngressEvent::SocketBinary { bytes, .. } => Some(bytes),
        _ => None,
    }
}
