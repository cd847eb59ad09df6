//! Opaque ids. Each is a string that only its maker may take apart; everyone else compares and stores it.
//!
//! Deliberately no parsing and no validation beyond "not longer than a host accepts": a network may use any characters.

use serde::{Deserialize, Serialize};

macro_rules! ids {
    ($($(#[$meta:meta])* $name:ident),* $(,)?) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub struct $name(pub String);

        impl $name {
            /// Wraps what the network calls this thing.
            pub fn new(id: impl ToString) -> Self {
                Self(id.to_string())
            }

            /// The id as the network writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(id: &str) -> Self {
                Self(id.to_owned())
            }
        }

        impl From<String> for $name {
            fn from(id: String) -> Self {
                Self(id)
            }
        }
    )*};
}

ids! {
    /// One configured account of a channel. Made by the host (a UUID), unique across hosts.
    InstanceId,
    /// A conversation on the network. Made by the channel, unique within an instance. Where a network's own id is only
    /// unique together with something else (a topic in a group), the channel joins the two here and gives the group as
    /// [`Chat::parent`](crate::chat::Chat::parent).
    ChatId,
    /// A message on the network. Made by the channel, unique within a chat.
    MessageId,
    /// One part of a message that arrives as one thing but is stored as several (an item of an album).
    /// Unique within its message; absent for the only part.
    PartId,
    /// An account on the network: a person, a bot, a page. Made by the channel, unique within an instance and the same
    /// in every chat, so that a person is recognised.
    UserId,
    /// Where media can be had from later. Made by the channel, opaque to the host, which hands it back in a
    /// `fetchMedia` request. Must stay usable for as long as the network keeps the file.
    MediaRef,
    /// Media that the host holds, as a channel sees it when it sends: a handle, never bytes. Made by the host.
    BlobId,
    /// What the network would send again if it did not know that we have it (an update id, a gateway sequence, a
    /// stanza id). Made by the channel, unique within an instance; the host drops a second event with the same key.
    DeliveryKey,
    /// The id under which *we* sent a message, chosen by the host before it is sent. It comes back with our own echo
    /// where the channel's capability `clientId` says so. Unique within an instance.
    ClientId,
}
