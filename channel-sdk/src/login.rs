//! Logging in, as a small step machine that the API, the command line and a dashboard all speak.
//!
//! The host asks for the current step; the channel shows one; the host brings what the person entered. A step id is
//! stable, so that sending the same answer twice does no harm.

use crate::wire::{open_enum, open_words};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the host wants of a login.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum LoginCall {
    /// Begin, by one of the flows in the manifest, or by the channel's first.
    Start {
        /// The flow's id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        flow: Option<String>,
    },
    /// Tell the current step: it may have changed (a new QR code, or done).
    Poll,
    /// What a person entered into a form.
    Submit {
        /// The step that is answered.
        step_id: String,
        /// Field id → what was entered.
        fields: BTreeMap<String, String>,
    },
    /// Give up.
    Cancel,
}

/// A step of a login.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct LoginStep {
    /// Stable as long as the step is the same; a new QR code of the same login keeps it.
    pub step_id: String,
    /// What to show or ask.
    pub show: LoginShow,
    /// One sentence for the person: what to do now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// When it stops being good, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
}

open_enum! {
    /// What a login step shows or asks.
    pub enum LoginShow {
        /// A QR code to be scanned.
        "qr" => Qr(ShowQr),
        /// A code to be typed elsewhere.
        "code" => Code(ShowCode),
        /// Fields to be filled in.
        "form" => Form(ShowForm),
        /// A page to be opened.
        "openUrl" => OpenUrl(ShowUrl),
        /// Nothing to do but wait; poll again.
        "wait" => Wait(ShowNothing),
        /// Logged in.
        "done" => Done(ShowNothing),
        /// It failed; starting again may help.
        "failed" => Failed(ShowFailure),
    }
}

/// A QR code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ShowQr {
    /// What the code says; the host draws it.
    pub data: String,
}

/// A code to be typed elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ShowCode {
    /// The code.
    pub code: String,
}

/// A page to be opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ShowUrl {
    /// Its address.
    pub url: String,
}

/// Nothing to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ShowNothing {}

/// Why a login failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ShowFailure {
    /// The sentence that a person reads.
    pub message: String,
}

/// Fields to be filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ShowForm {
    /// In order.
    pub fields: Vec<FormField>,
}

/// One field of a form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct FormField {
    /// Its key in [`LoginCall::Submit`].
    pub id: String,
    /// What stands beside it.
    pub label: String,
    /// What it takes.
    pub kind: FieldKind,
    /// A regular expression (ECMA 262) that it must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Where to find it, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// What may be chosen, for a `select`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

open_words! {
    /// What a form field takes.
    pub enum FieldKind {
        /// Any line of text.
        "text" => Text,
        /// Something that must not be shown while it is typed, nor stored in clear.
        "secret" => Secret,
        /// A phone number in E.164.
        "phone" => Phone,
        /// A code that was sent elsewhere.
        "code" => Code,
        /// An address.
        "url" => Url,
        /// One of `options`.
        "select" => Select,
    }
}
