//! Baileys' auth state and ours: taking an account over from a Baileys folder, an Evolution or another Omni, and giving it
//! away as a folder that Baileys loads.
//!
//! ```text
//! snapshot     what was found, by kind and id
//! names        names of records
//! encoding     layers of JSON, spellings of buffers and numbers
//! import       checked, converted, written
//! creds        credentials ↔ the device
//! keys         pairs of keys that fit together
//! address      Signal addresses, numbers and LIDs
//! signal       pre-keys, sessions and sender keys of a source
//! session      libsignal-node's sessions → ours
//! session_out  and back
//! sender_key   keys of groups, both ways
//! app_state    keys and versions of the app state, trusted-contact tokens, both ways
//! report       what is told of an import
//! export       everything, as files
//! ```
//!
//! No network, no clock, no files and no storage of its own: a source is handed over as bytes, the store is seen through
//! wacore's `Backend`. Not carried, as nothing of it is there or of use: messages that were sent and may have to be sent
//! again, secrets of polls, history, chats and contacts, who was given the keys of groups.

mod address;
mod app_state;
mod creds;
mod encoding;
mod export;
mod import;
mod keys;
mod names;
mod report;
mod sender_key;
mod session;
mod session_out;
mod signal;
mod snapshot;
#[cfg(test)]
mod tests;

pub use export::{Export, ExportError, Listing, export};
pub use import::{Converted, convert, import};
pub use snapshot::Snapshot;

use wacore::store::error::StoreError;

/// Why nothing was taken over.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The operator hands over more.
    #[error(
        "there are no credentials among the {records} records that were found; hand over creds.json of the folder, the row of \
         Evolution's table Session, or the key `creds` of its cache"
    )]
    NoCreds {
        /// How many other records there were.
        records: usize,
    },
    /// Another channel takes it over.
    #[error(
        "this instance of Evolution is a number of Meta's Cloud API, which logs in with a token and has no keys; take it over \
         with --channel whatsapp-cloud"
    )]
    Cloud,
    /// The operator hands over better ones, or logs in anew.
    #[error(
        "the credentials in {record} cannot be used: {field}: {why}; hand over an older copy that is whole, or log in anew"
    )]
    Creds {
        /// Where they were.
        record: String,
        /// Which part of them.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The operator hands over one account.
    #[error("there are several accounts in what was found ({names}); hand over one of them, for one instance")]
    Several {
        /// What tells them apart.
        names: String,
    },
    /// Nobody: it may be tried again.
    #[error("what was taken over could not be stored")]
    Store(#[source] StoreError),
}
