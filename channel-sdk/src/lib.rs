//! What a channel plugin for Omni is built against.
//!
//! A *channel* is a kind of network, as code. It ships as a *plugin*: one file that a host loads. A running, logged-in
//! account of it is an *instance*. Write a struct, implement [`Channel`] for it, describe it in `channel.json`, and
//! say [`export_channel!`]; the guide in the README goes through it step by step.
//!
//! ```text
//! lib          this map
//! channel      the trait, one method for each kind of request
//! context      what the host does for a channel: HTTP, key-value store, media, log, clock, timers
//! ids chat content event     the wire types of what happens on a network
//! ingress http               how it reaches a channel, and what a channel asks the host to call
//! request outcome error      what is asked of a channel, and how it ends
//! capabilities connection login manifest
//! frame        the bytes that cross the boundary, the same in every home of a plugin
//! driver       runs one instance: frames in, futures polled, frames out
//! native       the calling convention of a native library
//! export       the macro, and the manifest in the file
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
pub mod login;
pub mod manifest;
#[cfg(not(target_family = "wasm"))]
pub mod native;
pub mod outcome;
pub mod request;

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
pub mod __export {
    pub use crate::export::{Note, TARGET, join, joined_len};
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
