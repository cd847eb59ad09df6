//! Pure conversions between Discord's words and the host's, both ways.
//!
//! Nothing here calls anything or knows the time: what the gateway said, what is known by name and who we are goes in,
//! `Event`s come out.
//!
//! ```text
//! message      a message → its events, one for each of its parts
//! content      what a message is made of
//! people       users and members
//! happening    reactions, votes, typing, members, changes of chats
//! interaction  commands, buttons, menus and forms
//! text         Discord's Markdown → words with entities
//! markdown     words with entities → Discord's Markdown
//! ```

pub mod content;
pub mod happening;
pub mod interaction;
pub mod markdown;
pub mod message;
pub mod people;
pub mod text;

use crate::known::Names;

/// What a conversion may look at.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// What is known by name.
    pub names: &'a Names,
    /// The bot's own id.
    pub me: &'a str,
    /// The id of its application.
    pub application: &'a str,
    /// What Discord would deliver the same thing as again.
    pub key: &'a str,
    /// When it arrived, milliseconds since 1970; for what Discord gives no time of.
    pub now: i64,
}
