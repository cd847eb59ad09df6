//! Pure conversions between the Bot API's words and the host's, both ways.
//!
//! Nothing here calls anything or knows the time: what an update says and who we are goes in, an `Event` comes out.
//!
//! ```text
//! update   one update → one event, of whatever kind; never fails
//! message  a message → its event, its sender, what it answers, where it was forwarded from
//! service  a message that nobody wrote → a membership, a change of the chat, a system line
//! content  what a message is made of
//! people   users and chats, and the ids that we make for chats
//! text     words and their entities, both ways
//! ```

mod content;
mod message;
pub(crate) mod people;
mod service;
pub(crate) mod text;
mod update;

pub use people::Target;
pub use update::{KINDS, Me, event, update_id};
