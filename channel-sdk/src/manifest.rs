//! What a plugin file says about itself, readable without running it.
//!
//! It lies in a section of the file: a well-formed ELF note `.note.omni.channel` in a native library, a custom section
//! `omni:channel-manifest` in a WASM component. [`export_channel!`](crate::export_channel) writes it.

use crate::capabilities::Capabilities;
use crate::wire::open_words;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The ELF section of a native library.
pub const NATIVE_SECTION: &str = ".note.omni.channel";
/// The custom section of a WASM component.
pub const WASM_SECTION: &str = "omni:channel-manifest";
/// The owner name in the ELF note.
pub const NOTE_OWNER: &str = "Omni";
/// The type number in the ELF note.
pub const NOTE_TYPE: u32 = 1;
/// The version of this crate, as plugins record it.
pub const SDK_VERSION: &str = env!("CARGO_PKG_VERSION");
/// The native calling convention. A host loads no other.
pub const NATIVE_ABI: &str = "native-1";
/// The calling convention of a WASM component.
pub const WASM_ABI: &str = "wasm-1";

/// The whole section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The version of this format: 1.
    pub manifest: u32,
    /// The plugin's own version (semver), from its `Cargo.toml`.
    pub version: String,
    /// The version of the SDK it was built against.
    pub sdk: String,
    /// The calling convention, [`NATIVE_ABI`] or [`WASM_ABI`].
    pub abi: String,
    /// `unwind` or `abort`: a host refuses the latter of a native plugin, for a panic in it would end the host.
    pub panic: String,
    /// What it was built for, `x86_64-linux-gnu`.
    pub target: String,
    /// What its author wrote in `channel.json`.
    pub channel: ChannelManifest,
}

/// What the author of a channel writes: the file `channel.json` beside the sources.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChannelManifest {
    /// Lower-case letters, digits and dashes, 1 to 50 of them: what `channel` says in the API. The same in every
    /// version.
    pub id: String,
    /// Other names that it is asked for by. What is stored has the id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// The network's name as people know it.
    pub name: String,
    /// One sentence.
    #[serde(default)]
    pub description: String,
    /// Whether a native file is to have a process of its own, also where the host trusts it as itself: because of its licence,
    /// or of what it may do to its neighbours. An operator may decide otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_process: bool,
    /// How its secrets reach it.
    #[serde(default)]
    pub secrets: Secrets,
    /// What it can do.
    pub capabilities: Capabilities,
    /// JSON Schema (2020-12) of its configuration. `"writeOnly": true` marks a secret, `"format": "uri"` an address,
    /// `"default"` what holds when nothing is said.
    #[serde(default)]
    pub config_schema: Value,
    /// The ways to log in, best first. Empty for a channel that needs no more than its configuration.
    #[serde(default)]
    pub login_flows: Vec<LoginFlow>,
    /// The version of what it keeps in its key-value store. A host refuses an older number over newer state.
    #[serde(default = "one")]
    pub state_version: u32,
    /// Hosts that it talks to: `example.org`, `*.example.org` for all below it, `*` for any, and with a scheme in front
    /// (`wss://gateway.example.org`) by that scheme only. In a sandbox it can go to no other, but for those that its
    /// configuration points it at. Not enforced on native plugins, which have sockets of their own.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// How addresses begin that are no ids (`user:`), or what they are (`default`): the host asks the channel what they lead to
    /// ([`Resolve`](crate::request::Resolve)). What begins with `@` or `+` always is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// The most that it needs, so that a host need not give it more.
    #[serde(default, skip_serializing_if = "Needs::is_empty")]
    pub limits: Needs,
}

/// The most that a channel needs. What is absent is for the host to say; a host never gives more than its operator lets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Needs {
    /// Bytes of memory of an instance in a sandbox, or of the plugin's process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Bytes that an instance keeps in its key-value store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_bytes: Option<u64>,
    /// Events that one call emits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events_per_call: Option<u64>,
    /// Bytes of events and entries of one call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_call: Option<u64>,
    /// What an instance in a sandbox may compute on one frame, in units of about one instruction each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel_per_frame: Option<u64>,
    /// Entries in the tables of an instance in a sandbox, which point at its functions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table_entries: Option<u64>,
}

impl Needs {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn one() -> u32 {
    1
}

impl ChannelManifest {
    /// The names of the configuration's fields that are marked as secrets.
    pub fn secret_fields(&self) -> Vec<&str> {
        let properties = self.config_schema.get("properties").and_then(Value::as_object);
        properties
            .into_iter()
            .flatten()
            .filter(|(_, schema)| schema.get("writeOnly").and_then(Value::as_bool) == Some(true))
            .map(|(name, _)| name.as_str())
            .collect()
    }
}

/// How a channel's secrets reach it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Secrets {
    /// It never sees them: its configuration holds placeholders, and the host fills them in where they stand in the
    /// URL or a header of a call. The only way for WASM.
    #[default]
    Placeholder,
    /// It gets them in clear. Needed by a channel with its own network library.
    Plain,
}

/// One way to log in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LoginFlow {
    /// Its id.
    pub id: String,
    /// What a person chooses by (`Scan a QR code`).
    pub name: String,
    /// What kind of thing it begins with.
    pub kind: FlowKind,
}

open_words! {
    /// What a login flow begins with.
    pub enum FlowKind {
        /// A QR code.
        "qr" => Qr,
        /// A code to be typed elsewhere.
        "code" => Code,
        /// A form.
        "form" => Form,
        /// A page to be opened.
        "oauth" => OAuth,
    }
}
