//! What happens on a network, as a channel tells the host.

use crate::chat::{Chat, Echo, Forward, MessageRef, Reply, Sender, User};
use crate::connection::ConnectionState;
use crate::content::Content;
use crate::ids::{ChatId, DeliveryKey, MessageId};
use crate::wire::{from_variants, open_enum, open_words};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One thing that happened, in one envelope for every kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// What the network would deliver again. The host keeps the first event of a key and drops the others. Absent when
    /// the network has nothing of the kind: the host then makes one from the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery_key: Option<DeliveryKey>,
    /// When it happened by the network's clock, milliseconds since 1970. Not when it arrived.
    pub at: i64,
    /// The chat it happened in; its order is kept within it. Absent for what belongs to no chat (presence, a call).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<Chat>,
    /// What happened.
    pub body: EventBody,
    /// Whether it is news. Absent for what happened just now, as nearly everything does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<EventOrigin>,
    /// The network's own words, stored once and untouched, so that it can be converted again after a bug was fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<Value>,
}

open_words! {
    /// How an event came to be told when the network did not tell it as it happened.
    pub enum EventOrigin {
        /// It was missed while nobody listened: news all the same.
        "missed" => Missed,
        /// It is old, and told as history: stored, but neither unread nor answered.
        "history" => History,
    }
}

open_enum! {
    /// What happened.
    pub enum EventBody {
        /// Somebody wrote.
        "message" => Message(Box<Message>),
        /// A message was changed.
        "edit" => Edit(Box<Edit>),
        /// Messages were taken back.
        "delete" => Delete(Delete),
        /// Somebody reacted, or took a reaction back.
        "reaction" => Reaction(Reaction),
        /// Somebody voted in a poll.
        "pollVote" => PollVote(PollVote),
        /// Somebody touched a button.
        "buttonAnswer" => ButtonAnswer(ButtonAnswer),
        /// Messages were delivered, read or played.
        "receipt" => Receipt(Receipt),
        /// Somebody is writing. Not stored.
        "typing" => Typing(Typing),
        /// Somebody came or went. Not stored.
        "presence" => Presence(Presence),
        /// Somebody joined, left, was made an admin.
        "membership" => Membership(Membership),
        /// A chat changed: its title, its picture, its id.
        "chatUpdate" => ChatUpdate(ChatUpdate),
        /// An account changed: its name, its picture, its phone number.
        "userUpdate" => UserUpdate(UserUpdate),
        /// The network told us how an earlier send of ours ended.
        "sendUpdate" => SendUpdate(SendUpdate),
        /// A call rang or ended.
        "call" => Call(Call),
    }
}

from_variants!(EventBody: Message(Message), Edit(Edit), Delete(Delete), Reaction(Reaction), PollVote(PollVote),
    ButtonAnswer(ButtonAnswer), Receipt(Receipt), Typing(Typing), Presence(Presence), Membership(Membership),
    ChatUpdate(ChatUpdate), UserUpdate(UserUpdate), SendUpdate(SendUpdate), Call(Call));

impl Event {
    /// An event in a chat, with nothing around it.
    pub fn new(chat: Chat, at: i64, body: impl Into<EventBody>) -> Self {
        Self { delivery_key: None, at, chat: Some(chat), body: body.into(), origin: None, raw: None }
    }

    /// The same event with what the network would deliver again.
    pub fn delivered_as(mut self, key: impl Into<DeliveryKey>) -> Self {
        self.delivery_key = Some(key.into());
        self
    }
}

/// Somebody wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Its id, and which part of it this is.
    #[serde(flatten)]
    pub message: MessageRef,
    /// Who wrote it.
    pub sender: Sender,
    /// What it is made of.
    pub content: Content,
    /// What it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<Reply>,
    /// Where it was forwarded from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward: Option<Forward>,
    /// What binds the items of one album together; each item is a message of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub album: Option<String>,
    /// Ids under which it came back, when it is our own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<Echo>,
    /// When it disappears, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
}

impl Message {
    /// A message with nothing around it.
    pub fn new(id: impl Into<MessageId>, sender: impl Into<Sender>, content: Content) -> Self {
        Self {
            message: MessageRef::from(id.into()),
            sender: sender.into(),
            content,
            reply_to: None,
            forward: None,
            album: None,
            echo: None,
            expires_at: None,
        }
    }
}

/// A message was changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Edit {
    /// The message, or the part, that was changed.
    pub target: MessageRef,
    /// Tells two edits apart and orders them: the network's revision, or the time of the edit in milliseconds. Of two
    /// with the same revision the event with the later time counts, and of the same time the one that comes last; the
    /// same content changes nothing.
    pub revision: i64,
    /// What it is now, whole.
    pub content: Content,
    /// Who changed it, when that is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Sender>,
}

/// Messages were taken back. They stay stored, marked as deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Delete {
    /// Which.
    pub targets: Vec<MessageRef>,
    /// Who took them back, when that is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Sender>,
    /// Whether they are gone only for this account.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_for_me: bool,
}

/// The reactions of one person to one message, as they are *now*: an empty list takes them all back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Reaction {
    /// The message.
    pub target: MessageRef,
    /// Who reacted; absent when the network only counts (then `counts` is set), and when somebody took the reactions of
    /// everybody away: with `remove` those with `emojis`, with `set` and neither emojis nor counts all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Sender>,
    /// What this person's reactions are now.
    #[serde(default)]
    pub emojis: Vec<Emoji>,
    /// Orders two events about the same person and message: the network's sequence, or its time in milliseconds. Of two
    /// with the same revision the event with the later time counts. With `add` and `remove` it orders what was said about
    /// each emoji.
    pub revision: i64,
    /// Whether `emojis` adds to what the person had (`add`), takes away from it (`remove`), or is all of it (`set`).
    #[serde(default)]
    pub change: ReactionChange,
    /// How many reacted with what, for networks that do not say who.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<EmojiCount>,
}

impl Reaction {
    /// Whether it takes away what everybody gave.
    pub fn is_of_everybody(&self) -> bool {
        let all = self.change == ReactionChange::Set && self.emojis.is_empty();
        let some = self.change == ReactionChange::Remove && !self.emojis.is_empty();
        self.sender.is_none() && self.counts.is_empty() && (all || some)
    }
}

/// How a reaction event relates to what the person had before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum ReactionChange {
    /// The list is everything that the person's reactions are now.
    #[default]
    Set,
    /// The list was added.
    Add,
    /// The list was taken away.
    Remove,
}

/// One emoji of a reaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Emoji {
    /// The emoji itself, or the name of a custom one.
    pub emoji: String,
    /// The network's id for a custom one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_id: Option<String>,
}

impl From<&str> for Emoji {
    fn from(emoji: &str) -> Self {
        Self { emoji: emoji.to_owned(), custom_id: None }
    }
}

/// How many reacted with one emoji.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct EmojiCount {
    /// The emoji.
    #[serde(flatten)]
    pub emoji: Emoji,
    /// How many.
    pub count: u64,
}

/// What one person's vote in a poll is *now*: an empty list takes it back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PollVote {
    /// The message with the poll, when the network says which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<MessageRef>,
    /// The poll's own id, when the network gives that instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_id: Option<String>,
    /// Who voted; absent when the poll only counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Sender>,
    /// Ids of the options they have chosen.
    #[serde(default)]
    pub option_ids: Vec<String>,
    /// The poll as it stands, when the network sends totals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll: Option<crate::content::Poll>,
}

/// Somebody touched a button.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ButtonAnswer {
    /// The network's id for the touch, to be answered within its time.
    pub id: String,
    /// The message with the button.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<MessageRef>,
    /// Who touched it.
    pub sender: Sender,
    /// What the button carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The words on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Messages were delivered, read or played.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// What happened to them.
    pub kind: ReceiptKind,
    /// Which messages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<MessageRef>,
    /// Every message up to this time, milliseconds since 1970, for networks that say it so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<i64>,
    /// Who received or read them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Sender>,
}

open_words! {
    /// What a receipt confirms.
    pub enum ReceiptKind {
        /// It reached their device.
        "delivered" => Delivered,
        /// They saw it.
        "read" => Read,
        /// They listened to it.
        "played" => Played,
    }
}

/// Somebody is writing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Typing {
    /// Who.
    pub sender: Sender,
    /// What they are doing.
    pub activity: Activity,
    /// For how long this holds, in milliseconds, unless something newer comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

open_words! {
    /// What somebody is doing in a chat at this moment.
    pub enum Activity {
        /// Writing.
        "typing" => Typing,
        /// Recording a voice note.
        "recording" => Recording,
        /// Sending a file.
        "uploading" => Uploading,
        /// No longer.
        "paused" => Paused,
    }
}

/// Somebody came or went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Presence {
    /// Who.
    pub user: User,
    /// Whether they are there.
    pub state: PresenceState,
    /// When they were last there, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<i64>,
}

open_words! {
    /// Whether somebody is there.
    pub enum PresenceState {
        /// Yes.
        "online" => Online,
        /// No.
        "offline" => Offline,
        /// Away from the keyboard.
        "away" => Away,
        /// Does not want to be disturbed.
        "busy" => Busy,
    }
}

/// Somebody joined, left, was made an admin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Membership {
    /// Whom it is about.
    pub users: Vec<User>,
    /// What happened to them.
    pub change: MembershipChange,
    /// Who did it, when that is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Sender>,
    /// What they are now, in the network's word (`administrator`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Whether it is about the account of this instance.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_me: bool,
}

open_words! {
    /// What happened to a member.
    pub enum MembershipChange {
        /// Came in.
        "joined" => Joined,
        /// Was brought in.
        "added" => Added,
        /// Went.
        "left" => Left,
        /// Was sent away.
        "removed" => Removed,
        /// Was sent away and may not come back.
        "banned" => Banned,
        /// May do more.
        "promoted" => Promoted,
        /// May do less.
        "demoted" => Demoted,
        /// Asked to come in.
        "requested" => Requested,
    }
}

/// A chat changed. The new state is in the event's `chat`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChatUpdate {
    /// The id it has from now on, when the network moved it (group to supergroup): both stay one chat. The new one counts
    /// its messages anew, so what was stored under the old id gets ids of its own: `<old chat>/<message>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<ChatId>,
    /// The id it had before, when the network says so at the new one: the same move, told from its other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<ChatId>,
    /// Whether it is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

/// An account changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UserUpdate {
    /// It, as it is now.
    pub user: User,
}

/// How an earlier send of ours ended, for networks that say so later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SendUpdate {
    /// The message.
    pub target: MessageRef,
    /// Why it failed; absent when it went through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<crate::outcome::SendError>,
}

/// A call rang or ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// The network's id for it.
    pub id: String,
    /// Who calls.
    pub sender: Sender,
    /// What it does now, in the network's word (`ringing`, `accepted`, `ended`, `missed`).
    pub state: String,
    /// Whether it has a picture.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub video: bool,
}

/// A connection state with the time at which it began, as the host keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct StateChange {
    /// The state.
    #[serde(flatten)]
    pub state: ConnectionState,
    /// Since when, milliseconds since 1970.
    pub since: i64,
}
