//! The boundary of a WASM component: one function in, one out, which carry frames. `wit/channel.wit` is the contract.
//!
//! A component is one instance of its channel. A panic in it is a trap: its words go to the host's log before, and the host
//! makes the instance anew.

use crate::channel::Channel;
use crate::context::HostSink;
use crate::driver::Driver;
use crate::frame::{LogLevel, ToHost, encode};
use std::sync::Arc;

#[doc(hidden)]
#[allow(missing_docs, unsafe_code, clippy::all, clippy::allow_attributes, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "plugin", pub_export_macro: true });
}

#[doc(hidden)]
pub use bindings::exports::omni::channel::channel::Guest;

struct ComponentSink;

impl HostSink for ComponentSink {
    fn deliver(&self, frame: Vec<u8>) -> bool {
        bindings::omni::channel::host::deliver(&frame)
    }
}

/// The one instance of a component. For [`export_channel!`](crate::export_channel).
#[doc(hidden)]
pub struct Instance<C: Channel>(Driver<C>);

impl<C: Channel> std::fmt::Debug for Instance<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Instance")
    }
}

impl<C: Channel> Default for Instance<C> {
    fn default() -> Self {
        std::panic::set_hook(Box::new(|panic| {
            let message = format!("the channel panicked: {panic}");
            ComponentSink.deliver(encode(&ToHost::Log { level: LogLevel::Error, message }, &[]));
        }));
        Self(Driver::new(Arc::new(ComponentSink)))
    }
}

impl<C: Channel> Instance<C> {
    /// Takes one frame.
    pub fn deliver(&self, frame: &[u8]) -> Result<(), String> {
        self.0.deliver(frame).map_err(|error| error.to_string())
    }
}
