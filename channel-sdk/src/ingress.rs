//! How events reach a channel: who does the waiting, and what is handed over.

use crate::http::{Header, HttpCall, HttpFailure, HttpResponse};
use crate::wire::{from_variants, open_enum};
use serde::{Deserialize, Serialize};

open_enum! {
    /// A way in, declared when an instance starts. The host does the waiting for all but `own`.
    pub enum Ingress {
        /// The host repeats an HTTP call and hands over each answer. The call is asked for anew each time
        /// ([`Channel::next_poll`](crate::Channel::next_poll)), so an offset in it moves with what was committed.
        "longPoll" => LongPoll(LongPoll),
        /// The host holds a WebSocket open.
        "websocket" => Websocket(Websocket),
        /// The host takes HTTP requests from the network.
        "webhook" => Webhook(Webhook),
        /// The host calls at regular times.
        "timer" => Timer(Timer),
        /// The channel brings its own network library and calls `accept` itself. Native only.
        "own" => Own(Own),
    }
}

from_variants!(Ingress: LongPoll(LongPoll), Websocket(Websocket), Webhook(Webhook), Timer(Timer), Own(Own));
from_variants!(Verify: HeaderEquals(HeaderEquals), HmacSha256(HmacSha256), TimestampWindow(TimestampWindow));

/// The host repeats an HTTP call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct LongPoll {
    /// Tells several polls of one channel apart.
    #[serde(default)]
    pub tag: String,
    /// Shortest time between two calls, in milliseconds; 0 for a server that holds the call itself.
    #[serde(default)]
    pub min_interval_ms: u64,
}

/// The host holds a WebSocket open, reconnects with backoff and hands over each frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Websocket {
    /// Tells several sockets of one channel apart.
    #[serde(default)]
    pub tag: String,
    /// `ws` or `wss`.
    pub url: String,
    /// Where it is opened the first time, when that is elsewhere; where that fails, it is opened at `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_url: Option<String>,
    /// Sent with the upgrade.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// Closed when nothing at all came for this long, in milliseconds; 90 s when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
}

/// The host takes HTTP requests from the network, on its own address under the instance's webhook path, and on an
/// address of its own where `listen` says so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// An address (`127.0.0.1:9000`) that the host opens for this instance alone; every path and method there is
    /// handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// How the host proves that a request is from the network, before the channel is called. Refused with 401.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verify: Vec<Verify>,
    /// Largest body in bytes; 1 MiB when absent. Refused with 413.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_body_bytes: Option<u64>,
    /// How the network makes sure that the address is ours, before it sends anything there. The host answers; the channel is
    /// not called, and nothing of `verify` has to hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<HubChallenge>,
}

/// The network asks `GET ?hub.mode=subscribe&hub.verify_token=…&hub.challenge=…` (as WebSub does, and Meta's platforms): with
/// the right token the host answers the challenge as plain text, else with 403.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HubChallenge {
    /// What the network was told to show; compared in constant time. Usually a secret's placeholder, or random.
    pub token: String,
}

open_enum! {
    /// A proof that a request is from the network. All that are listed must hold.
    pub enum Verify {
        /// A header equals a secret.
        "headerEquals" => HeaderEquals(HeaderEquals),
        /// A header holds the HMAC-SHA256 of the raw body.
        "hmacSha256" => HmacSha256(HmacSha256),
        /// A header holds a time that is not far from now.
        "timestampWindow" => TimestampWindow(TimestampWindow),
    }
}

/// A header equals a secret; compared in constant time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HeaderEquals {
    /// The header.
    pub header: String,
    /// What it must say; usually a secret's placeholder.
    pub value: String,
}

/// A header holds the HMAC-SHA256 of the raw body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HmacSha256 {
    /// The header.
    pub header: String,
    /// What stands before the hex digits in it (`sha256=`).
    #[serde(default)]
    pub prefix: String,
    /// The key; usually a secret's placeholder.
    pub key: String,
}

/// A header holds a time (seconds since 1970) that is not far from now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TimestampWindow {
    /// The header.
    pub header: String,
    /// How far it may be off, in seconds, either way.
    pub seconds: u64,
}

/// The host calls at regular times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Timer {
    /// Its name, handed back with each call.
    pub tag: String,
    /// Time between two calls, in milliseconds.
    pub every_ms: u64,
}

/// The channel brings its own network library.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Own {}

/// One thing that arrived, handed to [`Channel::on_event`](crate::Channel::on_event).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum IngressEvent {
    /// A poll was answered.
    PollResponse {
        /// Which poll.
        tag: String,
        /// The answer, of any status.
        response: HttpResponse,
    },
    /// A poll brought no answer. The host waits and polls again; the channel may report a state.
    PollFailed {
        /// Which poll.
        tag: String,
        /// Why.
        failure: HttpFailure,
    },
    /// A request came in.
    Webhook {
        /// It.
        request: WebhookRequest,
    },
    /// A timer of the ingress, or one that was set, is due.
    Timer {
        /// Its name.
        tag: String,
    },
    /// A WebSocket is open.
    SocketOpen {
        /// Which.
        tag: String,
    },
    /// A text frame came.
    SocketText {
        /// Which socket.
        tag: String,
        /// The frame.
        text: String,
    },
    /// A binary frame came; its bytes cross the boundary beside the JSON.
    SocketBinary {
        /// Which socket.
        tag: String,
        /// The frame.
        #[serde(skip)]
        bytes: Vec<u8>,
    },
    /// A WebSocket was closed. The host opens it again after a while.
    SocketClosed {
        /// Which.
        tag: String,
        /// The close code, if there was one.
        #[serde(default)]
        code: Option<u16>,
        /// Why.
        reason: String,
    },
}

/// A request that the network made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WebhookRequest {
    /// `GET`, `POST` …
    pub method: String,
    /// The path behind the webhook's own, with a leading slash.
    pub path: String,
    /// Without the question mark.
    #[serde(default)]
    pub query: String,
    /// Names in lower case.
    #[serde(default)]
    pub headers: Vec<Header>,
    /// The raw body. It crosses the boundary as raw bytes beside the JSON.
    #[serde(skip)]
    pub body: Vec<u8>,
}

impl WebhookRequest {
    /// The first header of a name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value.as_str())
    }

    /// The body as JSON.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

/// What a channel made of one thing that arrived.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventOutcome {
    /// What a webhook answers, once the events of the call are durable; 200 with no body when absent.
    pub reply: Option<HttpResponse>,
    /// What is written to the socket that the event came from.
    pub socket_send: Vec<String>,
    /// Wait this long before the next poll, in milliseconds (the network asked to slow down).
    pub poll_after_ms: Option<u64>,
}

impl EventOutcome {
    /// Answers a webhook with a status and a JSON body.
    pub fn reply_json(status: u16, json: &serde_json::Value) -> Self {
        Self {
            reply: Some(HttpResponse {
                status,
                headers: vec![Header { name: "content-type".into(), value: "application/json".into() }],
                body: json.to_string().into_bytes(),
            }),
            ..Self::default()
        }
    }
}

/// What is to be done with a WebSocket of the ingress once the call has ended well and what it emitted is durable. Made with
/// [`Context::socket_send`](crate::Context::socket_send) and its neighbours, in any call: that of a timer or a request, too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SocketAct {
    /// Which socket.
    pub tag: String,
    /// Text frames to be written, in order. They are dropped when the socket is not open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub send: Vec<String>,
    /// Close it afterwards, with this code. The host tells that it closed, and opens it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close: Option<u16>,
    /// Where it is opened the next time. Where that fails, and after an empty one, it is opened where the ingress says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// How long to wait before it is opened the next time, in milliseconds, instead of the host's own backoff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reopen_after_ms: Option<u64>,
}

/// What the host is asked to poll next. [`HttpCall`] with the tag of its [`LongPoll`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NextPoll {
    /// Which poll.
    #[serde(default)]
    pub tag: String,
    /// What to call.
    pub call: HttpCall,
}
