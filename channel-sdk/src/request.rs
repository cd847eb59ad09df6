//! What the host asks of a channel. Every kind that any channel will need is named here once; golden files hold them.

use crate::capabilities::Capabilities;
use crate::chat::{Chat, MessageRef, User};
use crate::connection::Profile;
use crate::content::Content;
use crate::event::{Activity, Emoji, Event};
use crate::http::HttpCall;
use crate::ids::{BlobId, ChatId, ClientId, MediaRef, MessageId, UserId};
use crate::outcome::SendReceipt;
use crate::wire::{open_enum, open_words};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

open_enum! {
    /// A request. A channel answers `unsupported` to what it does not know.
    pub enum Request {
        /// Send a message → [`Reply::Sent`].
        "send" => Send(Box<Send>),
        /// Change a message → [`Reply::Done`].
        "edit" => Edit(Box<EditMessage>),
        /// Take a message back → [`Reply::Done`].
        "delete" => Delete(DeleteMessage),
        /// React to a message → [`Reply::Done`].
        "react" => React(React),
        /// Show that somebody is writing → [`Reply::Done`].
        "typing" => Typing(ShowTyping),
        /// Tell the other side that messages were read → [`Reply::Done`].
        "markRead" => MarkRead(MarkRead),
        /// Answer a touched button → [`Reply::Done`].
        "answerButton" => AnswerButton(AnswerButton),
        /// Fetch older messages → [`Reply::History`].
        "history" => History(History),
        /// List chats or contacts → [`Reply::Directory`].
        "directory" => Directory(Directory),
        /// Tell about an account → [`Reply::Profile`].
        "profile" => Profile(GetProfile),
        /// Change the own profile → [`Reply::Done`].
        "setProfile" => SetProfile(SetProfile),
        /// Make or change a group → [`Reply::Group`].
        "group" => Group(Box<GroupChange>),
        /// Change how the account keeps a chat → [`Reply::Done`].
        "setChat" => SetChat(SetChat),
        /// Tell who or what an address is → [`Reply::Address`].
        "resolve" => Resolve(Resolve),
        /// Tell how a file can be had → [`Reply::Media`].
        "fetchMedia" => FetchMedia(FetchMedia),
        /// Tell whether a send with an unknown outcome happened → [`Reply::Reconciled`].
        "reconcile" => Reconcile(Reconcile),
        /// Tell what can be done in one chat → [`Reply::Capabilities`].
        "capabilities" => Capabilities(ChatCapabilities),
        /// Log out on the network → [`Reply::Done`].
        "logout" => Logout(Nothing),
        /// Take back what the instance set up on the network → [`Reply::Done`].
        "release" => Release(Nothing),
        /// Take over the auth state of another program → [`Reply::AuthImported`].
        "importAuth" => ImportAuth(ImportAuth),
        /// Give the auth state away → [`Reply::AuthExported`].
        "exportAuth" => ExportAuth(Nothing),
    }
}

/// A request without fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Nothing {}

/// Send one message: one part, already within the limits of the capabilities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Send {
    /// The chat, by the network's id.
    pub chat: ChatId,
    /// Our own id for it. The same one comes again when the same send is tried again.
    pub client_id: ClientId,
    /// What is sent.
    pub content: Content,
    /// The other items of the album that `content` begins. Only for channels that declare `albumMaxItems`: all go out
    /// together or not at all, and [`SendReceipt::album`] has a receipt for each of these, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub album: Vec<Content>,
    /// What it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<MessageRef>,
    /// Which part of a longer message it is; the first is 0.
    #[serde(default, skip_serializing_if = "is_first")]
    pub part: u32,
    /// What the first part of it answers, when this is a later one: it belongs to the same answer, and is none itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<MessageRef>,
    /// Options that only one network has, by name; unknown ones are ignored.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, serde_json::Value>,
}

fn is_first(part: &u32) -> bool {
    *part == 0
}

/// Change a message that we sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct EditMessage {
    /// The chat it is in.
    pub chat: ChatId,
    /// Which.
    pub target: MessageRef,
    /// What it becomes, whole.
    pub content: Content,
}

/// Take a message back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct DeleteMessage {
    /// The chat it is in.
    pub chat: ChatId,
    /// Which.
    pub target: MessageRef,
    /// Only for this account, not for everybody.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_for_me: bool,
}

/// Set our reactions to a message: an empty list takes them all back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct React {
    /// The chat it is in.
    pub chat: ChatId,
    /// Which.
    pub target: MessageRef,
    /// What our reactions become.
    pub emojis: Vec<Emoji>,
}

/// Show that somebody is writing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ShowTyping {
    /// Where.
    pub chat: ChatId,
    /// What they are doing.
    pub activity: Activity,
    /// For how long, in milliseconds; as long as the network shows it when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

/// Tell the other side that messages were read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct MarkRead {
    /// Where.
    pub chat: ChatId,
    /// Which, from old to new, with their authors where known (a group needs them on some networks); all when empty.
    #[serde(default)]
    pub messages: Vec<ReadMessage>,
}

/// One message that was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ReadMessage {
    /// Which.
    pub id: MessageId,
    /// Who wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<UserId>,
}

/// Answer a touched button.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AnswerButton {
    /// The id of the button answer.
    pub id: String,
    /// What to show to the one who touched it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Whether to show it so that it must be dismissed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alert: bool,
}

/// Fetch older, or missed, messages of one chat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// Where.
    pub chat: ChatId,
    /// Where the last page ended; from the newest, or from `anchor`, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// The message to go on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<MessageRef>,
    /// Towards newer ones; towards older ones when false.
    #[serde(default)]
    pub forward: bool,
    /// How many at most.
    pub limit: u32,
}

/// List chats or contacts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Directory {
    /// What to list.
    pub list: DirectoryList,
    /// Within this chat, for members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<ChatId>,
    /// Words to look for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
    /// Where the last page ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// How many at most.
    pub limit: u32,
}

open_words! {
    /// What a directory lists.
    pub enum DirectoryList {
        /// Accounts that this one knows.
        "contacts" => Contacts,
        /// Chats that this account is in.
        "chats" => Chats,
        /// Members of one chat.
        "members" => Members,
        /// Servers, workspaces: what chats are grouped in.
        "spaces" => Spaces,
        /// Accounts that this one takes nothing of.
        "blocked" => Blocked,
    }
}

/// Tell about an account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GetProfile {
    /// Whose; the own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
}

/// Change the own profile. Absent fields stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SetProfile {
    /// The name that people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it says about itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Its picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<crate::content::Media>,
    /// Take the picture away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub remove_picture: bool,
    /// Who may see or do what, in the network's own words (`last` → `contacts`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub privacy: BTreeMap<String, String>,
}

/// Make or change a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct GroupChange {
    /// Which; a new one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<ChatId>,
    /// What to do.
    pub action: GroupAction,
    /// To whom.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserId>,
    /// Its title, description or invite code, as the action needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<crate::content::Media>,
    /// The message that is pinned or no longer is; all that are pinned when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageRef>,
    /// The space that a group is made in or put under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ChatId>,
}

open_words! {
    /// What to do with a group.
    pub enum GroupAction {
        /// Make it.
        "create" => Create,
        /// Come in by an invite code.
        "join" => Join,
        /// Go.
        "leave" => Leave,
        /// Bring members in.
        "add" => Add,
        /// Send members away.
        "remove" => Remove,
        /// Send members away for good.
        "ban" => Ban,
        /// Let them come back.
        "unban" => Unban,
        /// Make members admins.
        "promote" => Promote,
        /// Make admins members.
        "demote" => Demote,
        /// Change its title.
        "setName" => SetName,
        /// Change its description.
        "setDescription" => SetDescription,
        /// Change its picture.
        "setPicture" => SetPicture,
        /// Show a message at the top.
        "pin" => Pin,
        /// No longer show it there.
        "unpin" => Unpin,
        /// Tell its invite link.
        "getInvite" => GetInvite,
        /// Make the invite link invalid and give a new one.
        "revokeInvite" => RevokeInvite,
        /// Make a space: what groups are gathered in.
        "createSpace" => CreateSpace,
        /// Put it under a space; take it out of the one that it is in when no parent is named.
        "setParent" => SetParent,
    }
}

/// Change how the account keeps a chat, or a message in it, on all of its devices. Nobody else sees it, but for a block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SetChat {
    /// Which.
    pub chat: ChatId,
    /// What to do.
    pub action: ChatAction,
    /// Until when it is muted, milliseconds since 1970; for good when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// After how many seconds messages disappear; 0 for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
    /// The message, for a star.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageRef>,
}

open_words! {
    /// What to do with a chat.
    pub enum ChatAction {
        /// Put it away.
        "archive" => Archive,
        /// Take it out again.
        "unarchive" => Unarchive,
        /// Keep it at the top.
        "pin" => Pin,
        /// No longer.
        "unpin" => Unpin,
        /// No longer ring for it.
        "mute" => Mute,
        /// Ring again.
        "unmute" => Unmute,
        /// Take nothing of this account any more, and give it nothing.
        "block" => Block,
        /// Let it write again.
        "unblock" => Unblock,
        /// Mark a message to be found again.
        "star" => Star,
        /// No longer.
        "unstar" => Unstar,
        /// Let new messages disappear after a time, for everybody in it.
        "setDisappearing" => SetDisappearing,
    }
}

/// Tell who or what an address is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Resolve {
    /// As a person typed it: a phone number, a handle, an invite link, an id.
    pub address: String,
}

/// Tell how a file can be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FetchMedia {
    /// The reference that the event gave.
    pub reference: MediaRef,
    /// Where the last answer said that it lies, there is nothing (any more): a network that can have it put there anew does
    /// that, or says where it lies now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
}

/// Tell whether a send with an unknown outcome happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Reconcile {
    /// The send, as it was asked.
    pub send: Send,
    /// When it was tried, milliseconds since 1970.
    pub tried_at: i64,
}

/// Tell what can be done in one chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChatCapabilities {
    /// Which.
    pub chat: ChatId,
}

/// Take over the auth state of another program. What the call writes becomes the instance's state, whole or not at all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ImportAuth {
    /// Which program it comes from (`omni-v1`, `evolution`, `baileys`).
    pub source: String,
    /// Database rows: table → rows.
    #[serde(default)]
    pub rows: BTreeMap<String, Vec<serde_json::Value>>,
    /// Files and cache entries: name → content in base64.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// More files, when they are too many for `files`: a tar archive that the host holds, to be read with
    /// [`media_get`](crate::context::Host::media_get).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<BlobId>,
    /// Only look and report: the host stores nothing of what the call writes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

open_enum! {
    /// What a channel answers.
    pub enum Reply {
        /// The network took the message.
        "sent" => Sent(SendReceipt),
        /// It is done.
        "done" => Done(Nothing),
        /// A page of history.
        "history" => History(HistoryPage),
        /// A page of a directory.
        "directory" => Directory(DirectoryPage),
        /// An account.
        "profile" => Profile(ProfileReply),
        /// A group.
        "group" => Group(GroupReply),
        /// What an address is; nothing when there is no such thing.
        "address" => Address(AddressReply),
        /// How a file can be had.
        "media" => Media(MediaReply),
        /// Whether a send happened.
        "reconciled" => Reconciled(Reconciled),
        /// What can be done.
        "capabilities" => Capabilities(Box<Capabilities>),
        /// What was taken over.
        "authImported" => AuthImported(AuthReport),
        /// The auth state.
        "authExported" => AuthExported(AuthExport),
    }
}

/// A page of history.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HistoryPage {
    /// From old to new, reactions and edits among them.
    pub events: Vec<Event>,
    /// Where to go on; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A page of a directory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct DirectoryPage {
    /// Accounts, for contacts and members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
    /// Chats, for chats and spaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chats: Vec<Chat>,
    /// Where to go on; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// An account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProfileReply {
    /// It.
    pub profile: Profile,
    /// What it says about itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Who may see or do what, in the network's own words, of the own account alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub privacy: BTreeMap<String, String>,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GroupReply {
    /// It, as it is now.
    pub chat: Chat,
    /// Its invite link, when that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite: Option<String>,
}

/// What an address is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AddressReply {
    /// The account behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// The chat to write to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<Chat>,
}

/// How a file can be had. The host makes the call and streams the answer, opened where it is sealed, into its media store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct MediaReply {
    /// What to call.
    pub call: HttpCall,
    /// MIME type, when better known than by the answer's header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// Its size in bytes, if known before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// How what comes is sealed, on networks that keep files end-to-end encrypted. A file that does not open so is not
    /// stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<SealedMedia>,
}

/// A file that is encrypted with AES-256 in CBC mode (PKCS#7 padding) and followed by the first bytes of an HMAC-SHA256 over
/// the initialization vector and the ciphertext, as Signal and WhatsApp keep files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SealedMedia {
    /// The key, 32 bytes in hex digits.
    pub key: String,
    /// The initialization vector, 16 bytes in hex digits.
    pub iv: String,
    /// The key of the HMAC, in hex digits.
    pub mac_key: String,
    /// How many bytes of the HMAC stand at the end, 10 to 32.
    pub mac_length: u8,
    /// SHA-256 of the opened file in hex digits, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Whether a send with an unknown outcome happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "outcome", rename_all = "camelCase")]
pub enum Reconciled {
    /// It did.
    Sent {
        /// What the network calls it.
        receipt: SendReceipt,
    },
    /// It certainly did not: it may be sent again.
    NotSent,
    /// The network cannot tell.
    Unresolved,
}

/// What was taken over from another program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuthReport {
    /// What was there, kind → how many.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub found: BTreeMap<String, u64>,
    /// What was taken over, kind → how many.
    #[serde(default)]
    pub imported: BTreeMap<String, u64>,
    /// Records that were left behind because they are no good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedRecord>,
    /// What should be there and is not, a sentence each (`keys: there are no sessions`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Whether the account was logged in: what came over should connect without a new login.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paired: bool,
    /// What was left behind and why, a sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The account that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
}

/// A record that was left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SkippedRecord {
    /// Its name in the source (`session-5511999990001.0`).
    pub record: String,
    /// Why, in a sentence.
    pub reason: String,
}

/// The auth state, as files of the program that the channel's format is known from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuthExport {
    /// Name → content in base64.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}
