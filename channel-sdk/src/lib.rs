//! What a channel plugin for Omni is built against.
//!
//! A *channel* is a kind of network, as code. It ships as a *plugin*: one file that a host loads. A running, logged-in
//! account of it is an *instance*. Write a struct, implement [`Channel`] for it, describe it in `channel.json`, and
//! say [`export_channel!`]; the guide in the README goes through it step by step.
//!
//! ```
//! use omni_channel_sdk::prelude::*;
//!
//! /// Passes on what is posted to it.
//! #[derive(Debug)]
//! struct Postbox;
//!
//! #[derive(Deserialize)]
//! struct Config {}
//!
//! #[derive(Deserialize)]
//! struct Letter {
//!     id: String,
//!     from: String,
//!     text: String,
//! }
//!
//! impl Channel for Postbox {
//!     type Config = Config;
//!
//!     async fn start(_ctx: &Context, _config: Config) -> Result<Started<Self>, ChannelError> {
//!         Ok(Started::new(Self, Webhook::default()))
//!     }
//!
//!     async fn on_event(&self, ctx: &Context, event: IngressEvent) -> Result<EventOutcome, ChannelError> {
//!         if let IngressEvent::Webhook { request } = event {
//!             let Ok(letter) = request.json::<Letter>() else {
//!                 return Ok(EventOutcome::reply_json(400, &json!({"error": "a letter has id, from and text"})));
//!             };
//!             let chat = Chat::new(letter.from.clone(), ChatKind::Direct);
//!             let message = Message::new(letter.id.clone(), User::new(letter.from), Content::text(letter.text));
//!             ctx.emit(Event::new(chat, ctx.now(), message).delivered_as(letter.id));
//!         }
//!         Ok(EventOutcome::default())
//!     }
//! }
//!
//! // In a plugin, this turns the channel into what a host loads:
//! // export_channel!(Postbox, "../channel.json");
//! #
//! # // What the example says is done by the example.
//! # use omni_channel_sdk::frame::{Op, Output};
//! # fn main() {
//! #     # [cfg(feature = "testkit")]
//! #     {
//! #         use omni_channel_sdk::ingress::WebhookRequest;
//! #         use omni_channel_sdk::testkit::{InProcess, ScriptedHost};
//! #         let mut host = ScriptedHost::new(Box::new(InProcess::<Postbox>::open()), 1);
//! #         host.start(json!({})).unwrap().result.unwrap();
//! #         let body = br#"{"id": "1", "from": "Ada", "text": "hello"}"#.to_vec();
//! #         let request = WebhookRequest { body, ..Default::default() };
//! #         let finished = host.call(Op::Events { events: vec![IngressEvent::Webhook { request }] }).unwrap();
//! #         assert_eq!(finished.events.len(), 1);
//! #     }
//! # }
//! ```
//!
//! ```text
//! lib          this map
//! channel      the trait, one method for each kind of request
//! context      what the host does for a channel: HTTP, key-value store, media, log, clock, timers
//! ids chat content event     the wire types of what happens on a network
//! ingress http               how it reaches a channel, and what a channel asks the host to call
//! request outcome error      what is asked of a channel, and how it ends
//! lenient      reading what a network sends, whatever else is in it
//! markup       words with marks in them, for networks that format so
//! omni_rows    a bot of another Omni, among the rows that are handed over
//! capabilities connection login manifest
//! frame        the bytes that cross the boundary, the same in every home of a plugin
//! driver       runs one instance: frames in, futures polled, frames out
//! native       the calling convention of a native library
//! wasm         the same of a WASM component
//! export       the macro, and the manifest in the file
//! schema       all that crosses as one JSON Schema, for other languages (feature `schema`)
//! testkit      the conformance suite (feature `testkit`)
//! ```
//!
//! Deliberately not here: a runtime (the host drives), sockets and TLS (the host has them), and anything that knows of
//! a particular network.

mod wire;

pub mod capabilities;
pub mod channel;
pub mod chat;
pub mod connection;
pub mod content;
pub mod context;
mod driver;
pub mod error;
pub mod event;
mod export;
pub mod frame;
pub mod http;
pub mod ids;
pub mod ingress;
pub mod lenient;
pub mod login;
pub mod manifest;
pub mod markup;
#[cfg(not(target_family = "wasm"))]
pub mod native;
pub mod omni_rows;
pub mod outcome;
pub mod request;
#[cfg(feature = "schema")]
pub mod schema;
#[cfg(feature = "testkit")]
pub mod testkit;
#[cfg(target_family = "wasm")]
pub mod wasm;

pub use channel::{Channel, Started};
pub use context::{Batch, Context, Host};
pub use error::{ChannelError, HostError};
pub use export::Exported;
pub use outcome::{SendError, SendReceipt};
pub use wire::Unknown;

#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
pub use abi_stable;

#[doc(hidden)]
pub use serde as __serde;

#[doc(hidden)]
pub mod __export {
    pub use crate::export::{ABI, Note, TARGET, join, joined_len};
}

/// What most channels use.
pub mod prelude {
    pub use crate::chat::{Chat, ChatKind, MessageRef, Reply as ReplyTo, Sender, User};
    pub use crate::connection::{ConnectionState, Profile};
    pub use crate::content::{Content, Media, Text};
    pub use crate::context::{Batch, Context, Host};
    pub use crate::error::{ChannelError, HostError};
    pub use crate::event::{Event, EventBody, Message};
    pub use crate::frame::LogLevel;
    pub use crate::http::{FormPart, HttpCall, HttpFailure, HttpResponse};
    pub use crate::ids::*;
    pub use crate::ingress::{EventOutcome, Ingress, IngressEvent, LongPoll, Timer, Webhook};
    pub use crate::outcome::{ErrorCode, NextActor, SendError, SendReceipt};
    pub use crate::{Channel, Started, export_channel, request};
    pub use serde::Deserialize;
    pub use serde_json::{Value, json};
}
