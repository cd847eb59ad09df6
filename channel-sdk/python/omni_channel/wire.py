# Generated from the wire types of the Rust SDK; do not edit.
"""The JSON that crosses the boundary: a dict for each object, with the names of the wire."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

from .http import HttpResponse, WebhookRequest

InstanceId: TypeAlias = str
"""One configured account of a channel. Made by the host (a UUID), unique across hosts."""

ChatId: TypeAlias = str
"""A conversation on the network. Made by the channel, unique within an instance. Where a network's own id is only
unique together with something else (a topic in a group), the channel joins the two here and gives the group as
`Chat::parent`.
"""

ClientId: TypeAlias = str
"""The id under which *we* sent a message, chosen by the host before it is sent. It comes back with our own echo
where the channel's capability `clientId` says so. Unique within an instance.
"""

UserId: TypeAlias = str
"""An account on the network: a person, a bot, a page. Made by the channel, unique within an instance and the same
in every chat, so that a person is recognised.
"""

MediaRef: TypeAlias = str
"""Where media can be had from later. Made by the channel, opaque to the host, which hands it back in a
`fetchMedia` request. Must stay usable for as long as the network keeps the file.
"""

MentionTarget: TypeAlias = Literal[
    # One account.
    "user",
    # A role.
    "role",
    # Another chat.
    "channel",
    # All members.
    "everyone",
    # All members who are online.
    "here",
] | str
"""Whom a mention addresses."""

BlobId: TypeAlias = str
"""Media that the host holds, as a channel sees it when it sends: a handle, never bytes. Made by the host."""

MessageId: TypeAlias = str
"""A message on the network. Made by the channel, unique within a chat."""

PartId: TypeAlias = str
"""One part of a message that arrives as one thing but is stored as several (an item of an album).
Unique within its message; absent for the only part.
"""

Activity: TypeAlias = Literal[
    # Writing.
    "typing",
    # Recording a voice note.
    "recording",
    # Sending a file.
    "uploading",
    # No longer.
    "paused",
] | str
"""What somebody is doing in a chat at this moment."""

DirectoryList: TypeAlias = Literal[
    # Accounts that this one knows.
    "contacts",
    # Chats that this account is in.
    "chats",
    # Members of one chat.
    "members",
    # Servers, workspaces: what chats are grouped in.
    "spaces",
    # Accounts that this one takes nothing of.
    "blocked",
] | str
"""What a directory lists."""

GroupAction: TypeAlias = Literal[
    # Make it.
    "create",
    # Come in by an invite code.
    "join",
    # Go.
    "leave",
    # Bring members in.
    "add",
    # Send members away.
    "remove",
    # Send members away for good.
    "ban",
    # Let them come back.
    "unban",
    # Make members admins.
    "promote",
    # Make admins members.
    "demote",
    # Change its title.
    "setName",
    # Change its description.
    "setDescription",
    # Change its picture.
    "setPicture",
    # Show a message at the top.
    "pin",
    # No longer show it there.
    "unpin",
    # Tell its invite link.
    "getInvite",
    # Make the invite link invalid and give a new one.
    "revokeInvite",
    # Make a space: what groups are gathered in.
    "createSpace",
    # Put it under a space; take it out of the one that it is in when no parent is named.
    "setParent",
] | str
"""What to do with a group."""

ChatAction: TypeAlias = Literal[
    # Put it away.
    "archive",
    # Take it out again.
    "unarchive",
    # Keep it at the top.
    "pin",
    # No longer.
    "unpin",
    # No longer ring for it.
    "mute",
    # Ring again.
    "unmute",
    # Take nothing of this account any more, and give it nothing.
    "block",
    # Let it write again.
    "unblock",
    # Mark a message to be found again.
    "star",
    # No longer.
    "unstar",
    # Let new messages disappear after a time, for everybody in it.
    "setDisappearing",
] | str
"""What to do with a chat."""

DeliveryKey: TypeAlias = str
"""What the network would send again if it did not know that we have it (an update id, a gateway sequence, a
stanza id). Made by the channel, unique within an instance; the host drops a second event with the same key.
"""

ChatKind: TypeAlias = Literal[
    # Two parties.
    "direct",
    # Several people who may all write.
    "group",
    # One side publishes, the other reads.
    "channel",
    # A thread or topic inside another chat, which is its `parent`.
    "thread",
] | str
"""What sort of conversation a chat is."""

ReactionChange: TypeAlias = Literal[
    # The list is everything that the person's reactions are now.
    "set",
    # The list was added.
    "add",
    # The list was taken away.
    "remove",
]
"""How a reaction event relates to what the person had before."""

ReceiptKind: TypeAlias = Literal[
    # It reached their device.
    "delivered",
    # They saw it.
    "read",
    # They listened to it.
    "played",
] | str
"""What a receipt confirms."""

PresenceState: TypeAlias = Literal[
    # Yes.
    "online",
    # No.
    "offline",
    # Away from the keyboard.
    "away",
    # Does not want to be disturbed.
    "busy",
] | str
"""Whether somebody is there."""

MembershipChange: TypeAlias = Literal[
    # Came in.
    "joined",
    # Was brought in.
    "added",
    # Went.
    "left",
    # Was sent away.
    "removed",
    # Was sent away and may not come back.
    "banned",
    # May do more.
    "promoted",
    # May do less.
    "demoted",
    # Asked to come in.
    "requested",
] | str
"""What happened to a member."""

ErrorCode: TypeAlias = Literal[
    # The channel cannot do this at all.
    "unsupported",
    # The request does not make sense to the network.
    "invalid",
    # No such chat, or this account is not in it.
    "chatNotFound",
    # No such message, or it can no longer be changed.
    "messageNotFound",
    # The text, the file or the list is larger than the network takes.
    "tooLarge",
    # Too late: the network only allows it for a while.
    "tooOld",
    # The account has no right to do this here.
    "forbidden",
    # The other side has blocked the account.
    "blocked",
    # Slow down.
    "rateLimited",
    # The credentials are no longer good.
    "unauthorized",
    # The network did not answer, or not in time.
    "unreachable",
    # The network failed.
    "network",
    # The instance is not connected.
    "notConnected",
    # The file could not be had.
    "media",
    # A bug.
    "internal",
] | str
"""What went wrong, in words that programs can tell apart."""

NextActor: TypeAlias = Literal[
    # Whoever asked: the request itself is wrong (no such chat, text too long).
    "caller",
    # Nobody: asked again later, perhaps after `retryAfterMs`, it may succeed.
    "retry",
    # The operator: log in again, give the bot a right, pay a bill.
    "operator",
    # Us: a bug in the channel or the host.
    "us",
] | str
"""Who has to act before the same request can succeed."""

EventOrigin: TypeAlias = Literal[
    # It was missed while nobody listened: news all the same.
    "missed",
    # It is old, and told as history: stored, but neither unread nor answered.
    "history",
] | str
"""How an event came to be told when the network did not tell it as it happened."""

LengthUnit: TypeAlias = Literal[
    # Unicode scalar values.
    "chars",
    # UTF-16 code units.
    "utf16",
    # Bytes of UTF-8.
    "bytes",
]
"""What a length counts."""

ClientIdSupport: TypeAlias = Literal[
    # It does not: the network makes the id, and the answer to the send is all that tells it.
    "none",
    # It comes back with our echo, beside the network's id.
    "nonce",
    # It *is* the network's id.
    "chosen",
] | str
"""Whether our own id of a message travels with it."""

FieldKind: TypeAlias = Literal[
    # Any line of text.
    "text",
    # Something that must not be shown while it is typed, nor stored in clear.
    "secret",
    # A phone number in E.164.
    "phone",
    # A code that was sent elsewhere.
    "code",
    # An address.
    "url",
    # One of `options`.
    "select",
] | str
"""What a form field takes."""

LogLevel: TypeAlias = Literal[
    # For whoever debugs the channel.
    "debug",
    # For whoever wants to see what it does.
    "info",
    # Something is odd, and it goes on.
    "warn",
    # Something failed, and a person should look.
    "error",
]
"""How important a log line is."""

Secrets: TypeAlias = Literal[
    # It never sees them: its configuration holds placeholders, and the host fills them in where they stand in the
    # URL or a header of a call. The only way for WASM.
    "placeholder",
    # It gets them in clear. Needed by a channel with its own network library.
    "plain",
]
"""How a channel's secrets reach it."""

FlowKind: TypeAlias = Literal[
    # A QR code.
    "qr",
    # A code to be typed elsewhere.
    "code",
    # A form.
    "form",
    # A page to be opened.
    "oauth",
] | str
"""What a login flow begins with."""


class Egress(TypedDict):
    """How a channel with a network library of its own is to connect. The host's own calls and sockets do all of it anyway."""

    proxy: NotRequired[str]
    """The HTTP proxy that every connection has to go by way of: `http://user:password@proxy.example:3128`, or `https`."""

    authorities: NotRequired[list[str]]
    """Authorities whose certificates are trusted beside those that the machine trusts: DER, in base64."""


class Header(TypedDict):
    """One header."""

    name: str
    """Its name, in any case."""

    value: str
    """Its value; what is not UTF-8 has its bytes replaced."""


class HttpFailure(TypedDict):
    """Why a call brought no answer."""

    message: str
    """A sentence, without secrets."""

    sent: bool
    """Whether the request may have reached the other side: a send that fails so has an unknown outcome."""

    timedOut: NotRequired[bool]
    """Whether the time limit ended it."""


class Plain(TypedDict):
    """An entity that needs no more than its place."""


class Pre(TypedDict):
    """A block of code."""

    language: NotRequired[str]
    """Its language, if said."""


class Link(TypedDict):
    """Words that lead to an address."""

    url: str
    """The address."""


class User(TypedDict):
    """An account on the network, as far as an event tells."""

    id: UserId
    """The network's id for it."""

    name: NotRequired[str]
    """The name that people see."""

    username: NotRequired[str]
    """The handle without `@`, where the network has handles."""

    phone: NotRequired[str]
    """Phone number in E.164 with `+`, only when the network vouches for it: people are recognised by it."""

    email: NotRequired[str]
    """E-mail address, only when the network vouches for it."""

    avatar: NotRequired[MediaRef]
    """Their picture, to be fetched later."""

    language: NotRequired[str]
    """BCP 47 language tag of their app, if known."""

    isBot: NotRequired[bool]
    """Whether it is a program."""


class Mention(TypedDict):
    """Somebody addressed."""

    user: NotRequired[User]
    """The person, when the network says who; absent for a bare `@handle` and for everybody."""

    target: MentionTarget
    """A person, a role, a channel, everyone or all who are here."""


class CustomEmoji(TypedDict):
    """An emoji of the network's own."""

    id: str
    """The network's id for it."""


class Text(TypedDict):
    """Words, with what is special about pieces of them."""

    text: str
    """The words, without markup."""

    entities: NotRequired[list[Entity]]
    """Pieces with a meaning, in order of their start; they may nest."""


class Media(TypedDict):
    """A file. Inbound it says where the file can be had (`reference`); outbound what is to be sent (`blob` or `url`)."""

    reference: NotRequired[MediaRef]
    """Where the host can have it fetched from, later."""

    blob: NotRequired[BlobId]
    """A file that the host holds and will stream into an HTTP call of the channel."""

    url: NotRequired[str]
    """A public address that the network itself may fetch."""

    caption: NotRequired[Text]
    """The words below it."""

    mimeType: NotRequired[str]
    """MIME type, as far as known."""

    fileName: NotRequired[str]
    """The name it had."""

    size: NotRequired[int]
    """Size in bytes."""

    width: NotRequired[int]
    """Width in pixels."""

    height: NotRequired[int]
    """Height in pixels."""

    durationMs: NotRequired[int]
    """How long it plays, in milliseconds."""

    voice: NotRequired[bool]
    """An audio that was recorded to be heard as speech (push to talk)."""

    animation: NotRequired[bool]
    """A video that plays as a loop without sound (a "GIF")."""

    viewOnce: NotRequired[bool]
    """Meant to be seen once."""

    emoji: NotRequired[str]
    """The emoji that a sticker stands for."""

    waveform: NotRequired[list[int]]
    """Loudness of a voice note, 0 to 100, evenly spaced."""


class Location(TypedDict):
    """A place."""

    latitude: float
    """Degrees north, −90 to 90."""

    longitude: float
    """Degrees east, −180 to 180."""

    name: NotRequired[str]
    """What is there."""

    address: NotRequired[str]
    """Its address."""

    accuracy: NotRequired[float]
    """How exact it is, in metres."""


class LiveLocation(TypedDict):
    """A place that moves for a while. Each move arrives as an edit of the first message."""

    latitude: float
    """Degrees north, −90 to 90."""

    longitude: float
    """Degrees east, −180 to 180."""

    name: NotRequired[str]
    """What is there."""

    address: NotRequired[str]
    """Its address."""

    accuracy: NotRequired[float]
    """How exact it is, in metres."""

    periodSeconds: NotRequired[int]
    """How long it is shared, in seconds from the message's time."""

    heading: NotRequired[int]
    """Direction of travel, 1 to 360 degrees."""


class ContactCard(TypedDict):
    """One contact card."""

    name: str
    """The name on it."""

    phones: NotRequired[list[str]]
    """Phone numbers as written on the card."""

    emails: NotRequired[list[str]]
    """E-mail addresses."""

    organization: NotRequired[str]
    """Where they work."""

    user: NotRequired[User]
    """Their account on this network, if the card names one."""

    vcard: NotRequired[str]
    """The card as vCard (RFC 6350), when the network sent one."""


class Contacts(TypedDict):
    """Contact cards."""

    contacts: list[ContactCard]
    """At least one."""


class PollOption(TypedDict):
    """One answer to a poll."""

    id: str
    """The network's id for it; its position from 0 when the network has none."""

    text: str
    """Its words."""

    votes: NotRequired[int]
    """How many chose it, when known."""


class Poll(TypedDict):
    """A question with options."""

    id: NotRequired[str]
    """The network's id for the poll, where it has one beside the message's."""

    question: str
    """What is asked."""

    options: list[PollOption]
    """What can be answered, in order."""

    maxChoices: NotRequired[int]
    """How many options one person may choose; 1 when not said."""

    anonymous: NotRequired[bool]
    """Whether votes are secret."""

    closed: NotRequired[bool]
    """Whether voting has ended."""

    closesAt: NotRequired[int]
    """When voting ends, milliseconds since 1970."""


class Button(TypedDict):
    """One button."""

    text: str
    """The words on it."""

    data: NotRequired[str]
    """What comes back in a button answer when it is touched."""

    url: NotRequired[str]
    """An address that it opens instead."""

    description: NotRequired[str]
    """A second line, for networks that show rows as a list."""


class Buttons(TypedDict):
    """Words with something to choose from."""

    text: Text
    """The words above."""

    rows: list[list[Button]]
    """Rows of buttons, from top to bottom."""

    listTitle: NotRequired[str]
    """The words on the button that opens a list, for networks that show rows as a list."""


class System(TypedDict):
    """Something that the network shows in a chat although nobody wrote it."""

    event: str
    """What happened, in the network's own word (`pinned_message`, `new_chat_title`)."""

    text: NotRequired[str]
    """It in words, when the network or the channel can say it."""

    message: NotRequired[MessageId]
    """The message that it is about."""


class MessageRef(TypedDict):
    """Names a message within its chat, or one part of it."""

    id: MessageId
    """The message."""

    part: NotRequired[PartId]
    """One part of it; absent for the only part."""


class Send(TypedDict):
    """Send one message: one part, already within the limits of the capabilities."""

    chat: ChatId
    """The chat, by the network's id."""

    clientId: ClientId
    """Our own id for it. The same one comes again when the same send is tried again."""

    content: Content
    """What is sent."""

    album: NotRequired[list[Content]]
    """The other items of the album that `content` begins. Only for channels that declare `albumMaxItems`: all go out
    together or not at all, and `SendReceipt::album` has a receipt for each of these, in order.
    """

    replyTo: NotRequired[MessageRef]
    """What it answers."""

    part: NotRequired[int]
    """Which part of a longer message it is; the first is 0."""

    follows: NotRequired[MessageRef]
    """What the first part of it answers, when this is a later one: it belongs to the same answer, and is none itself."""

    options: NotRequired[dict[str, Any]]
    """Options that only one network has, by name; unknown ones are ignored."""


class EditMessage(TypedDict):
    """Change a message that we sent."""

    chat: ChatId
    """The chat it is in."""

    target: MessageRef
    """Which."""

    content: Content
    """What it becomes, whole."""


class DeleteMessage(TypedDict):
    """Take a message back."""

    chat: ChatId
    """The chat it is in."""

    target: MessageRef
    """Which."""

    onlyForMe: NotRequired[bool]
    """Only for this account, not for everybody."""


class Emoji(TypedDict):
    """One emoji of a reaction."""

    emoji: str
    """The emoji itself, or the name of a custom one."""

    customId: NotRequired[str]
    """The network's id for a custom one."""


class React(TypedDict):
    """Set our reactions to a message: an empty list takes them all back."""

    chat: ChatId
    """The chat it is in."""

    target: MessageRef
    """Which."""

    emojis: list[Emoji]
    """What our reactions become."""


class ShowTyping(TypedDict):
    """Show that somebody is writing."""

    chat: ChatId
    """Where."""

    activity: Activity
    """What they are doing."""

    durationMs: NotRequired[int]
    """For how long, in milliseconds; as long as the network shows it when absent."""


class ReadMessage(TypedDict):
    """One message that was read."""

    id: MessageId
    """Which."""

    sender: NotRequired[UserId]
    """Who wrote it."""


class MarkRead(TypedDict):
    """Tell the other side that messages were read."""

    chat: ChatId
    """Where."""

    messages: NotRequired[list[ReadMessage]]
    """Which, from old to new, with their authors where known (a group needs them on some networks); all when empty."""


class AnswerButton(TypedDict):
    """Answer a touched button."""

    id: str
    """The id of the button answer."""

    text: NotRequired[str]
    """What to show to the one who touched it."""

    alert: NotRequired[bool]
    """Whether to show it so that it must be dismissed."""


class History(TypedDict):
    """Fetch older, or missed, messages of one chat."""

    chat: ChatId
    """Where."""

    cursor: NotRequired[str]
    """Where the last page ended; from the newest, or from `anchor`, when absent."""

    anchor: NotRequired[MessageRef]
    """The message to go on from."""

    forward: NotRequired[bool]
    """Towards newer ones; towards older ones when false."""

    limit: int
    """How many at most."""


class Directory(TypedDict):
    """List chats or contacts."""

    list: DirectoryList
    """What to list."""

    chat: NotRequired[ChatId]
    """Within this chat, for members."""

    search: NotRequired[str]
    """Words to look for."""

    cursor: NotRequired[str]
    """Where the last page ended."""

    limit: int
    """How many at most."""


class GetProfile(TypedDict):
    """Tell about an account."""

    user: NotRequired[UserId]
    """Whose; the own when absent."""


class SetProfile(TypedDict):
    """Change the own profile. Absent fields stay as they are."""

    name: NotRequired[str]
    """The name that people see."""

    about: NotRequired[str]
    """What it says about itself."""

    picture: NotRequired[Media]
    """Its picture."""

    removePicture: NotRequired[bool]
    """Take the picture away."""

    privacy: NotRequired[dict[str, str]]
    """Who may see or do what, in the network's own words (`last` → `contacts`)."""


class GroupChange(TypedDict):
    """Make or change a group."""

    chat: NotRequired[ChatId]
    """Which; a new one when absent."""

    action: GroupAction
    """What to do."""

    users: NotRequired[list[UserId]]
    """To whom."""

    text: NotRequired[str]
    """Its title, description or invite code, as the action needs."""

    picture: NotRequired[Media]
    """Its picture."""

    message: NotRequired[MessageRef]
    """The message that is pinned or no longer is; all that are pinned when absent."""

    parent: NotRequired[ChatId]
    """The space that a group is made in or put under."""


class SetChat(TypedDict):
    """Change how the account keeps a chat, or a message in it, on all of its devices. Nobody else sees it, but for a block."""

    chat: ChatId
    """Which."""

    action: ChatAction
    """What to do."""

    until: NotRequired[int]
    """Until when it is muted, milliseconds since 1970; for good when absent."""

    seconds: NotRequired[int]
    """After how many seconds messages disappear; 0 for never."""

    message: NotRequired[MessageRef]
    """The message, for a star."""


class Resolve(TypedDict):
    """Tell who or what an address is."""

    address: str
    """As a person typed it: a phone number, a handle, an invite link, an id."""


class FetchMedia(TypedDict):
    """Tell how a file can be had."""

    reference: MediaRef
    """The reference that the event gave."""

    gone: NotRequired[bool]
    """Where the last answer said that it lies, there is nothing (any more): a network that can have it put there anew does
    that, or says where it lies now.
    """


class Reconcile(TypedDict):
    """Tell whether a send with an unknown outcome happened."""

    send: Send
    """The send, as it was asked."""

    triedAt: int
    """When it was tried, milliseconds since 1970."""


class ChatCapabilities(TypedDict):
    """Tell what can be done in one chat."""

    chat: ChatId
    """Which."""


class Nothing(TypedDict):
    """A request without fields."""


class ImportAuth(TypedDict):
    """Take over the auth state of another program. What the call writes becomes the instance's state, whole or not at all."""

    source: str
    """Which program it comes from (`omni-v1`, `evolution`, `baileys`)."""

    rows: NotRequired[dict[str, list[Any]]]
    """Database rows: table → rows."""

    files: NotRequired[dict[str, str]]
    """Files and cache entries: name → content in base64."""

    archive: NotRequired[BlobId]
    """More files, when they are too many for `files`: a tar archive that the host holds, to be read with
    `media_get`.
    """

    dryRun: NotRequired[bool]
    """Only look and report: the host stores nothing of what the call writes."""


class HttpCall(TypedDict):
    """A call that the host makes for a channel.
    
    Where the URL or a header holds a secret's placeholder (see `Secrets`), the host puts the
    secret in; a placeholder in a body stays as it is unless `secretsInBody` is set.
    """

    method: str
    """`GET`, `POST` …"""

    url: str
    """Absolute, `http` or `https`."""

    headers: NotRequired[list[Header]]
    """In order; names in any case."""

    body: NotRequired[HttpBody]
    """What is sent."""

    timeoutMs: NotRequired[int]
    """How long the whole call may take, in milliseconds; 30 s when absent."""

    maxBytes: NotRequired[int]
    """Most bytes of the answer to read; 8 MiB when absent. A larger answer is an error."""

    secretsInBody: NotRequired[bool]
    """Whether placeholders in a JSON or form body are filled in too."""


class FormPart(TypedDict):
    """One part of a form."""

    name: str
    """The field's name."""

    text: NotRequired[str]
    """A value in words."""

    blob: NotRequired[BlobId]
    """A file that the host holds."""

    fileName: NotRequired[str]
    """The file's name."""

    mimeType: NotRequired[str]
    """The file's MIME type."""


class Commit(TypedDict):
    """What is to be stored when a call ends, in one transaction."""

    events: NotRequired[list[Event]]
    """Events, each an `Event` as JSON, in order."""

    writes: NotRequired[list[KvWrite]]
    """Key-value entries, in order."""

    timers: NotRequired[list[TimerSet]]
    """Timers to be set or taken back."""

    sockets: NotRequired[list[SocketAct]]
    """What is to be done with sockets, in order, once the rest is stored."""

    missed: NotRequired[bool]
    """Whether something may have happened that the network will not tell by itself: the host asks for history."""

    missedIn: NotRequired[list[MissedIn]]
    """Chats in which something did, which the host need not know; at most 500."""


class Event(TypedDict):
    """One thing that happened, in one envelope for every kind."""

    deliveryKey: NotRequired[DeliveryKey]
    """What the network would deliver again. The host keeps the first event of a key and drops the others. Absent when
    the network has nothing of the kind: the host then makes one from the content.
    """

    at: int
    """When it happened by the network's clock, milliseconds since 1970. Not when it arrived."""

    chat: NotRequired[Chat]
    """The chat it happened in; its order is kept within it. Absent for what belongs to no chat (presence, a call)."""

    body: EventBody
    """What happened."""

    origin: NotRequired[EventOrigin]
    """Whether it is news. Absent for what happened just now, as nearly everything does."""

    raw: NotRequired[Any]
    """The network's own words, stored once and untouched, so that it can be converted again after a bug was fixed."""


class Chat(TypedDict):
    """A conversation, with as much of it as the channel knows at this moment.
    
    Absent fields mean "no news", never "empty": a host keeps what it had. To clear a name, send `Some("")`.
    """

    id: ChatId
    """The network's id for it."""

    kind: ChatKind
    """Direct, group, channel or thread."""

    name: NotRequired[str]
    """The title people see. For a direct chat usually the other side's name."""

    parent: NotRequired[ChatId]
    """The group that a topic belongs to, the channel that a thread hangs off."""

    description: NotRequired[str]
    """What it says about itself."""

    avatar: NotRequired[MediaRef]
    """Its picture, to be fetched later."""

    participants: NotRequired[int]
    """How many people are in it."""

    alsoKnownAs: NotRequired[ChatId]
    """Another id that this same chat is or was known by on the network; the host joins the two."""


class Sender(TypedDict):
    """Who wrote something, kept apart from the account through which we saw it."""

    id: UserId
    """The network's id for it."""

    name: NotRequired[str]
    """The name that people see."""

    username: NotRequired[str]
    """The handle without `@`, where the network has handles."""

    phone: NotRequired[str]
    """Phone number in E.164 with `+`, only when the network vouches for it: people are recognised by it."""

    email: NotRequired[str]
    """E-mail address, only when the network vouches for it."""

    avatar: NotRequired[MediaRef]
    """Their picture, to be fetched later."""

    language: NotRequired[str]
    """BCP 47 language tag of their app, if known."""

    isBot: NotRequired[bool]
    """Whether it is a program."""

    isFromMe: NotRequired[bool]
    """Whether the author is the account of this instance: our own echo, or a human typing on the phone."""

    onBehalfOf: NotRequired[ChatId]
    """The chat on whose behalf it was written (a channel posting in its group, an anonymous admin)."""


class ReplyTo(TypedDict):
    """What a message answers, with as much of it as the network repeats."""

    id: MessageId
    """The message."""

    part: NotRequired[PartId]
    """One part of it; absent for the only part."""

    chat: NotRequired[ChatId]
    """The chat it is in, when it is another one."""

    quotedText: NotRequired[str]
    """Its text, or the piece of it that was quoted."""

    sender: NotRequired[User]
    """Who wrote it."""


class Forward(TypedDict):
    """Where a forwarded message came from, as far as the network tells."""

    sender: NotRequired[User]
    """The original author."""

    senderName: NotRequired[str]
    """Their name, when the network hides who they are."""

    chat: NotRequired[Chat]
    """The chat it was first written in."""

    message: NotRequired[MessageId]
    """The original message."""

    at: NotRequired[int]
    """When it was first written, milliseconds since 1970."""

    count: NotRequired[int]
    """How often it was forwarded before, where the network counts."""


class Echo(TypedDict):
    """Under which ids a message that we sent came back."""

    clientId: NotRequired[ClientId]
    """The id that we chose before sending, when the network returns it."""


class Message(TypedDict):
    """Somebody wrote."""

    id: MessageId
    """The message."""

    part: NotRequired[PartId]
    """One part of it; absent for the only part."""

    sender: Sender
    """Who wrote it."""

    content: Content
    """What it is made of."""

    replyTo: NotRequired[ReplyTo]
    """What it answers."""

    forward: NotRequired[Forward]
    """Where it was forwarded from."""

    album: NotRequired[str]
    """What binds the items of one album together; each item is a message of its own."""

    echo: NotRequired[Echo]
    """Ids under which it came back, when it is our own."""

    expiresAt: NotRequired[int]
    """When it disappears, milliseconds since 1970."""


class Edit(TypedDict):
    """A message was changed."""

    target: MessageRef
    """The message, or the part, that was changed."""

    revision: int
    """Tells two edits apart and orders them: the network's revision, or the time of the edit in milliseconds. Of two
    with the same revision the event with the later time counts, and of the same time the one that comes last; the
    same content changes nothing.
    """

    content: Content
    """What it is now, whole."""

    sender: NotRequired[Sender]
    """Who changed it, when that is said."""


class Delete(TypedDict):
    """Messages were taken back. They stay stored, marked as deleted."""

    targets: list[MessageRef]
    """Which."""

    sender: NotRequired[Sender]
    """Who took them back, when that is said."""

    onlyForMe: NotRequired[bool]
    """Whether they are gone only for this account."""


class EmojiCount(TypedDict):
    """How many reacted with one emoji."""

    emoji: str
    """The emoji itself, or the name of a custom one."""

    customId: NotRequired[str]
    """The network's id for a custom one."""

    count: int
    """How many."""


class Reaction(TypedDict):
    """The reactions of one person to one message, as they are *now*: an empty list takes them all back."""

    target: MessageRef
    """The message."""

    sender: NotRequired[Sender]
    """Who reacted; absent when the network only counts (then `counts` is set), and when somebody took the reactions of
    everybody away: with `remove` those with `emojis`, with `set` and neither emojis nor counts all of them.
    """

    emojis: NotRequired[list[Emoji]]
    """What this person's reactions are now."""

    revision: int
    """Orders two events about the same person and message: the network's sequence, or its time in milliseconds. Of two
    with the same revision the event with the later time counts. With `add` and `remove` it orders what was said about
    each emoji.
    """

    change: NotRequired[ReactionChange]
    """Whether `emojis` adds to what the person had (`add`), takes away from it (`remove`), or is all of it (`set`)."""

    counts: NotRequired[list[EmojiCount]]
    """How many reacted with what, for networks that do not say who."""


class PollVote(TypedDict):
    """What one person's vote in a poll is *now*: an empty list takes it back."""

    target: NotRequired[MessageRef]
    """The message with the poll, when the network says which."""

    pollId: NotRequired[str]
    """The poll's own id, when the network gives that instead."""

    sender: NotRequired[Sender]
    """Who voted; absent when the poll only counts."""

    optionIds: NotRequired[list[str]]
    """Ids of the options they have chosen."""

    poll: NotRequired[Poll]
    """The poll as it stands, when the network sends totals."""


class ButtonAnswer(TypedDict):
    """Somebody touched a button."""

    id: str
    """The network's id for the touch, to be answered within its time."""

    target: NotRequired[MessageRef]
    """The message with the button."""

    sender: Sender
    """Who touched it."""

    data: NotRequired[str]
    """What the button carries."""

    text: NotRequired[str]
    """The words on it."""


class Receipt(TypedDict):
    """Messages were delivered, read or played."""

    kind: ReceiptKind
    """What happened to them."""

    targets: NotRequired[list[MessageRef]]
    """Which messages."""

    upTo: NotRequired[int]
    """Every message up to this time, milliseconds since 1970, for networks that say it so."""

    sender: NotRequired[Sender]
    """Who received or read them."""


class Typing(TypedDict):
    """Somebody is writing."""

    sender: Sender
    """Who."""

    activity: Activity
    """What they are doing."""

    timeoutMs: NotRequired[int]
    """For how long this holds, in milliseconds, unless something newer comes."""


class Presence(TypedDict):
    """Somebody came or went."""

    user: User
    """Who."""

    state: PresenceState
    """Whether they are there."""

    lastSeen: NotRequired[int]
    """When they were last there, milliseconds since 1970."""


class Membership(TypedDict):
    """Somebody joined, left, was made an admin."""

    users: list[User]
    """Whom it is about."""

    change: MembershipChange
    """What happened to them."""

    by: NotRequired[Sender]
    """Who did it, when that is said."""

    role: NotRequired[str]
    """What they are now, in the network's word (`administrator`)."""

    isMe: NotRequired[bool]
    """Whether it is about the account of this instance."""


class ChatUpdate(TypedDict):
    """A chat changed. The new state is in the event's `chat`."""

    movedTo: NotRequired[ChatId]
    """The id it has from now on, when the network moved it (group to supergroup): both stay one chat. The new one counts
    its messages anew, so what was stored under the old id gets ids of its own: `<old chat>/<message>`.
    """

    movedFrom: NotRequired[ChatId]
    """The id it had before, when the network says so at the new one: the same move, told from its other end."""

    deleted: NotRequired[bool]
    """Whether it is gone."""


class UserUpdate(TypedDict):
    """An account changed."""

    user: User
    """It, as it is now."""


class SendError(TypedDict):
    """Why a request failed. Made with the constructors, which set who acts next."""

    code: ErrorCode
    """What went wrong."""

    message: str
    """The sentence that a person reads, without secrets: what was wrong, where, what to do."""

    next: NextActor
    """Who acts next."""

    retryAfterMs: NotRequired[int]
    """How long to wait before trying again, in milliseconds, when the network said so."""

    certain: bool
    """Whether it is certain that nothing was done. When it is not, the host never just repeats the request."""


class SendUpdate(TypedDict):
    """How an earlier send of ours ended, for networks that say so later."""

    target: MessageRef
    """The message."""

    error: NotRequired[SendError]
    """Why it failed; absent when it went through."""


class Call(TypedDict):
    """A call rang or ended."""

    id: str
    """The network's id for it."""

    sender: Sender
    """Who calls."""

    state: str
    """What it does now, in the network's word (`ringing`, `accepted`, `ended`, `missed`)."""

    video: NotRequired[bool]
    """Whether it has a picture."""


class KvWrite(TypedDict):
    """One key-value entry to be written; its value lies beside the JSON."""

    key: str
    """At most 400 bytes."""

    delete: NotRequired[bool]
    """Whether it is taken away: then there is no value."""


class TimerSet(TypedDict):
    """A timer to be set or taken back."""

    tag: str
    """Its name; setting a name again moves it."""

    afterMs: NotRequired[int]
    """When it is due, in milliseconds from now; taken back when absent."""


class SocketAct(TypedDict):
    """What is to be done with a WebSocket of the ingress once the call has ended well and what it emitted is durable. Made with
    `Context::socket_send` and its neighbours, in any call: that of a timer or a request, too.
    """

    tag: str
    """Which socket."""

    send: NotRequired[list[str]]
    """Text frames to be written, in order. They are dropped when the socket is not open."""

    close: NotRequired[int]
    """Close it afterwards, with this code. The host tells that it closed, and opens it again."""

    url: NotRequired[str]
    """Where it is opened the next time. Where that fails, and after an empty one, it is opened where the ingress says."""

    reopenAfterMs: NotRequired[int]
    """How long to wait before it is opened the next time, in milliseconds, instead of the host's own backoff."""


class MissedIn(TypedDict):
    """A chat in which something happened that the network will not tell by itself."""

    chat: ChatId
    """Which."""

    after: NotRequired[MessageId]
    """Behind which message; the id need not be that of one that there is, where the network's rise with time."""


class LongPoll(TypedDict):
    """The host repeats an HTTP call."""

    tag: NotRequired[str]
    """Tells several polls of one channel apart."""

    minIntervalMs: NotRequired[int]
    """Shortest time between two calls, in milliseconds; 0 for a server that holds the call itself."""


class Websocket(TypedDict):
    """The host holds a WebSocket open, reconnects with backoff and hands over each frame."""

    tag: NotRequired[str]
    """Tells several sockets of one channel apart."""

    url: str
    """`ws` or `wss`."""

    firstUrl: NotRequired[str]
    """Where it is opened the first time, when that is elsewhere; where that fails, it is opened at `url`."""

    headers: NotRequired[list[Header]]
    """Sent with the upgrade."""

    idleMs: NotRequired[int]
    """Closed when nothing at all came for this long, in milliseconds; 90 s when absent."""


class HeaderEquals(TypedDict):
    """A header equals a secret; compared in constant time."""

    header: str
    """The header."""

    value: str
    """What it must say; usually a secret's placeholder."""


class HmacSha256(TypedDict):
    """A header holds the HMAC-SHA256 of the raw body."""

    header: str
    """The header."""

    prefix: NotRequired[str]
    """What stands before the hex digits in it (`sha256=`)."""

    key: str
    """The key; usually a secret's placeholder."""


class TimestampWindow(TypedDict):
    """A header holds a time (seconds since 1970) that is not far from now."""

    header: str
    """The header."""

    seconds: int
    """How far it may be off, in seconds, either way."""


class HubChallenge(TypedDict):
    """The network asks `GET ?hub.mode=subscribe&hub.verify_token=…&hub.challenge=…` (as WebSub does, and Meta's platforms): with
    the right token the host answers the challenge as plain text, else with 403.
    """

    token: str
    """What the network was told to show; compared in constant time. Usually a secret's placeholder, or random."""


class Webhook(TypedDict):
    """The host takes HTTP requests from the network, on its own address under the instance's webhook path, and on an
    address of its own where `listen` says so.
    """

    listen: NotRequired[str]
    """An address (`127.0.0.1:9000`) that the host opens for this instance alone; every path and method there is
    handed over.
    """

    verify: NotRequired[list[Verify]]
    """How the host proves that a request is from the network, before the channel is called. Refused with 401."""

    maxBodyBytes: NotRequired[int]
    """Largest body in bytes; 1 MiB when absent. Refused with 413."""

    challenge: NotRequired[HubChallenge]
    """How the network makes sure that the address is ours, before it sends anything there. The host answers; the channel is
    not called, and nothing of `verify` has to hold.
    """


class Timer(TypedDict):
    """The host calls at regular times."""

    tag: str
    """Its name, handed back with each call."""

    everyMs: int
    """Time between two calls, in milliseconds."""


class Own(TypedDict):
    """The channel brings its own network library."""


class NextPoll(TypedDict):
    """What the host is asked to poll next. `HttpCall` with the tag of its `LongPoll`."""

    tag: NotRequired[str]
    """Which poll."""

    call: HttpCall
    """What to call."""


class OutcomeHead(TypedDict):
    """An `EventOutcome` without the body of its reply, which lies beside the JSON."""

    reply: NotRequired[HttpResponse]
    """Status and headers of the webhook's answer."""

    socketSend: NotRequired[list[str]]
    """What is written to the socket."""

    pollAfterMs: NotRequired[int]
    """How long to wait before the next poll, in milliseconds."""


class SendReceipt(TypedDict):
    """What the network said when it took a message. "Taken", never "read"."""

    messageId: MessageId
    """The id that the network gave the message."""

    part: NotRequired[PartId]
    """Which part of it, when it is one of several."""

    at: NotRequired[int]
    """When the network took it, milliseconds since 1970; the host's own time when absent."""

    chatId: NotRequired[ChatId]
    """The chat it really went to, when that is another id than was asked for: both are one chat from then on."""

    began: NotRequired[Chat]
    """The chat that the message began, and is in: a post of a forum. What was asked for stays what it is."""

    album: NotRequired[list[SendReceipt]]
    """The receipts of the other items of an album, in order."""


class HistoryPage(TypedDict):
    """A page of history."""

    events: list[Event]
    """From old to new, reactions and edits among them."""

    cursor: NotRequired[str]
    """Where to go on; absent at the end."""


class DirectoryPage(TypedDict):
    """A page of a directory."""

    users: NotRequired[list[User]]
    """Accounts, for contacts and members."""

    chats: NotRequired[list[Chat]]
    """Chats, for chats and spaces."""

    cursor: NotRequired[str]
    """Where to go on; absent at the end."""


class Profile(TypedDict):
    """Who an account is on its network."""

    id: str
    """The account's id on the network."""

    name: NotRequired[str]
    """The name that people see."""

    username: NotRequired[str]
    """The handle without `@`, or the phone number in E.164."""

    avatarUrl: NotRequired[str]
    """Its picture, as a public address."""


class ProfileReply(TypedDict):
    """An account."""

    profile: Profile
    """It."""

    about: NotRequired[str]
    """What it says about itself."""

    privacy: NotRequired[dict[str, str]]
    """Who may see or do what, in the network's own words, of the own account alone."""


class GroupReply(TypedDict):
    """A group."""

    chat: Chat
    """It, as it is now."""

    invite: NotRequired[str]
    """Its invite link, when that was asked for."""


class AddressReply(TypedDict):
    """What an address is."""

    user: NotRequired[User]
    """The account behind it."""

    chat: NotRequired[Chat]
    """The chat to write to."""


class SealedMedia(TypedDict):
    """A file that is encrypted with AES-256 in CBC mode (PKCS#7 padding) and followed by the first bytes of an HMAC-SHA256 over
    the initialization vector and the ciphertext, as Signal and WhatsApp keep files.
    """

    key: str
    """The key, 32 bytes in hex digits."""

    iv: str
    """The initialization vector, 16 bytes in hex digits."""

    macKey: str
    """The key of the HMAC, in hex digits."""

    macLength: int
    """How many bytes of the HMAC stand at the end, 10 to 32."""

    sha256: NotRequired[str]
    """SHA-256 of the opened file in hex digits, if it is known."""


class MediaReply(TypedDict):
    """How a file can be had. The host makes the call and streams the answer, opened where it is sealed, into its media store."""

    call: HttpCall
    """What to call."""

    mimeType: NotRequired[str]
    """MIME type, when better known than by the answer's header."""

    fileName: NotRequired[str]
    """Its name."""

    size: NotRequired[int]
    """Its size in bytes, if known before."""

    sealed: NotRequired[SealedMedia]
    """How what comes is sealed, on networks that keep files end-to-end encrypted. A file that does not open so is not
    stored.
    """


class ContentLimits(TypedDict):
    """Limits on one type of content."""

    maxLength: NotRequired[int]
    """Longest text, or caption, in `unit`s."""

    unit: NotRequired[LengthUnit]
    """What `maxLength` counts."""

    maxBytes: NotRequired[int]
    """Largest file in bytes."""

    mimeTypes: NotRequired[list[str]]
    """MIME types that it takes, `image/*` allowed; any when empty."""

    maxItems: NotRequired[int]
    """Most options of a poll, or buttons, or contact cards."""

    maxItemLength: NotRequired[int]
    """Longest of those in characters."""

    markdown: NotRequired[bool]
    """Whether the network reads Markdown in the words: where a text is cut, blocks of code (```` ``` ````) stay whole, or are
    closed and opened again.
    """

    byUrl: NotRequired[bool]
    """Whether the network itself can fetch a public address, so that the host need not."""


class RequestLimits(TypedDict):
    """Limits on one type of request."""

    maxAgeSeconds: NotRequired[int]
    """How old a message may be, in seconds."""

    maxItems: NotRequired[int]
    """Most reactions of one account to one message; 1 when not said."""

    allowed: NotRequired[list[str]]
    """The only values that it takes (a list of emoji), any when empty."""


class Capabilities(TypedDict):
    """What a channel can do in general, or (narrowed) in one chat. Absent means "cannot".
    
    Every capability that is declared here has a name, `Capabilities::names`, and the conformance kit fails a channel
    that declares one which no test proves.
    """

    chatKinds: NotRequired[list[ChatKind]]
    """The sorts of chat it has."""

    send: NotRequired[dict[str, ContentLimits]]
    """What can be sent, by content type (`text`, `image`, `location` …)."""

    requests: NotRequired[dict[str, RequestLimits]]
    """What can be asked for beside sending, by request type (`edit`, `react`, `history` …)."""

    events: NotRequired[list[str]]
    """Kinds of event it reports (`message`, `edit`, `reaction` …)."""

    reply: NotRequired[bool]
    """Whether a message can answer another."""

    formatting: NotRequired[list[str]]
    """The kinds of formatting that arrive as meant, by entity type; others are sent as their plain words."""

    albumMaxItems: NotRequired[int]
    """Most items in an album, when it has albums."""

    clientId: NotRequired[ClientIdSupport]
    """Whether the id of a sent message can be told before it is sent."""


class SkippedRecord(TypedDict):
    """A record that was left behind."""

    record: str
    """Its name in the source (`session-5511999990001.0`)."""

    reason: str
    """Why, in a sentence."""


class AuthReport(TypedDict):
    """What was taken over from another program."""

    found: NotRequired[dict[str, int]]
    """What was there, kind → how many."""

    imported: NotRequired[dict[str, int]]
    """What was taken over, kind → how many."""

    skipped: NotRequired[list[SkippedRecord]]
    """Records that were left behind because they are no good."""

    missing: NotRequired[list[str]]
    """What should be there and is not, a sentence each (`keys: there are no sessions`)."""

    paired: NotRequired[bool]
    """Whether the account was logged in: what came over should connect without a new login."""

    warnings: NotRequired[list[str]]
    """What was left behind and why, a sentence each."""

    profile: NotRequired[Profile]
    """The account that it is."""


class AuthExport(TypedDict):
    """The auth state, as files of the program that the channel's format is known from."""

    files: NotRequired[dict[str, str]]
    """Name → content in base64."""


class LoginStep(TypedDict):
    """A step of a login."""

    stepId: str
    """Stable as long as the step is the same; a new QR code of the same login keeps it."""

    show: LoginShow
    """What to show or ask."""

    instructions: NotRequired[str]
    """One sentence for the person: what to do now."""

    expiresAt: NotRequired[int]
    """When it stops being good, milliseconds since 1970."""


class ShowQr(TypedDict):
    """A QR code."""

    data: str
    """What the code says; the host draws it."""


class ShowCode(TypedDict):
    """A code to be typed elsewhere."""

    code: str
    """The code."""


class FormField(TypedDict):
    """One field of a form."""

    id: str
    """Its key in `LoginCall::Submit`."""

    label: str
    """What stands beside it."""

    kind: FieldKind
    """What it takes."""

    pattern: NotRequired[str]
    """A regular expression (ECMA 262) that it must match."""

    help: NotRequired[str]
    """Where to find it, in a sentence."""

    options: NotRequired[list[str]]
    """What may be chosen, for a `select`."""


class ShowForm(TypedDict):
    """Fields to be filled in."""

    fields: list[FormField]
    """In order."""


class ShowUrl(TypedDict):
    """A page to be opened."""

    url: str
    """Its address."""


class ShowNothing(TypedDict):
    """Nothing to show."""


class ShowFailure(TypedDict):
    """Why a login failed."""

    message: str
    """The sentence that a person reads."""


class Failure(TypedDict):
    """Why a call failed."""

    error: SendError
    """What went wrong and who acts next."""

    state: NotRequired[ConnectionState]
    """The connection's state from now on, when the failure is about the connection."""

    panicked: NotRequired[bool]
    """Whether the channel panicked."""


class Limited(TypedDict):
    """What a network does not let an account do for a while."""

    reason: str
    """What, and why, in a sentence."""

    until: NotRequired[int]
    """Until when, milliseconds since 1970, if that is known."""


class ChannelManifest(TypedDict):
    """What the author of a channel writes: the file `channel.json` beside the sources."""

    id: str
    """Lower-case letters, digits and dashes, 1 to 50 of them: what `channel` says in the API. The same in every
    version.
    """

    aliases: NotRequired[list[str]]
    """Other names that it is asked for by. What is stored has the id."""

    name: str
    """The network's name as people know it."""

    description: NotRequired[str]
    """One sentence."""

    ownProcess: NotRequired[bool]
    """Whether a native file is to have a process of its own, also where the host trusts it as itself: because of its licence,
    or of what it may do to its neighbours. An operator may decide otherwise.
    """

    secrets: NotRequired[Secrets]
    """How its secrets reach it."""

    capabilities: Capabilities
    """What it can do."""

    configSchema: NotRequired[Any]
    """JSON Schema (2020-12) of its configuration. `"writeOnly": true` marks a secret, `"format": "uri"` an address,
    `"default"` what holds when nothing is said.
    """

    loginFlows: NotRequired[list[LoginFlow]]
    """The ways to log in, best first. Empty for a channel that needs no more than its configuration."""

    stateVersion: NotRequired[int]
    """The version of what it keeps in its key-value store. A host refuses an older number over newer state."""

    hosts: NotRequired[list[str]]
    """Hosts that it talks to: `example.org`, `*.example.org` for all below it, `*` for any, and with a scheme in front
    (`wss://gateway.example.org`) by that scheme only. In a sandbox it can go to no other, but for those that its
    configuration points it at. Not enforced on native plugins, which have sockets of their own.
    """

    addresses: NotRequired[list[str]]
    """How addresses begin that are no ids (`user:`), or what they are (`default`): the host asks the channel what they lead to
    (`Resolve`). What begins with `@` or `+` always is one.
    """

    limits: NotRequired[Needs]
    """The most that it needs, so that a host need not give it more."""


class LoginFlow(TypedDict):
    """One way to log in."""

    id: str
    """Its id."""

    name: str
    """What a person chooses by (`Scan a QR code`)."""

    kind: FlowKind
    """What kind of thing it begins with."""


class Needs(TypedDict):
    """The most that a channel needs. What is absent is for the host to say; a host never gives more than its operator lets it."""

    memoryBytes: NotRequired[int]
    """Bytes of memory of an instance in a sandbox, or of the plugin's process."""

    stateBytes: NotRequired[int]
    """Bytes that an instance keeps in its key-value store."""

    eventsPerCall: NotRequired[int]
    """Events that one call emits."""

    bytesPerCall: NotRequired[int]
    """Bytes of events and entries of one call."""

    fuelPerFrame: NotRequired[int]
    """What an instance in a sandbox may compute on one frame, in units of about one instruction each."""

    tableEntries: NotRequired[int]
    """Entries in the tables of an instance in a sandbox, which point at its functions."""


class ToChannelBegin(TypedDict):
    """Begin a call. Many may be open at once; each ends with one `ToHost::Done`."""

    begin: dict[str, Any]


class ToChannelAnswer(TypedDict):
    """The answer to a `ToHost::Call`."""

    answer: dict[str, Any]


class ToChannelPoll(TypedDict):
    """Go on with a call that asked to be woken."""

    poll: dict[str, Any]


class ToChannelCancel(TypedDict):
    """Give a call up. No `ToHost::Done` follows."""

    cancel: dict[str, Any]


class ToChannelPing(TypedDict):
    """Answer with `ToHost::Pong`: whether the channel still runs."""

    ping: dict[str, Any]


class OpStart(TypedDict):
    """Start the instance: always the first call, and only once → `Output::Started`."""

    start: dict[str, Any]


class OpEvents(TypedDict):
    """Things that arrived → `Output::Events`. One byte string for each `pollResponse`, `webhook` and `socketBinary`,
    in order: its body.
    """

    events: dict[str, Any]


class OpRequest(TypedDict):
    """Ask for something → `Output::Reply`."""

    request: dict[str, Any]


class OpLogin(TypedDict):
    """Log in → `Output::Login`."""

    login: dict[str, Any]


class OpStop(TypedDict):
    """End the instance: no call follows → `Output::Stopped`."""

    stop: dict[str, Any]


class IngressEventPollResponse(TypedDict):
    """A poll was answered."""

    type: Literal["pollResponse"]

    tag: str
    """Which poll."""

    response: HttpResponse
    """The answer, of any status."""


class IngressEventPollFailed(TypedDict):
    """A poll brought no answer. The host waits and polls again; the channel may report a state."""

    type: Literal["pollFailed"]

    tag: str
    """Which poll."""

    failure: HttpFailure
    """Why."""


class IngressEventWebhook(TypedDict):
    """A request came in."""

    type: Literal["webhook"]

    request: WebhookRequest
    """It."""


class IngressEventTimer(TypedDict):
    """A timer of the ingress, or one that was set, is due."""

    type: Literal["timer"]

    tag: str
    """Its name."""


class IngressEventSocketOpen(TypedDict):
    """A WebSocket is open."""

    type: Literal["socketOpen"]

    tag: str
    """Which."""


class IngressEventSocketText(TypedDict):
    """A text frame came."""

    type: Literal["socketText"]

    tag: str
    """Which socket."""

    text: str
    """The frame."""


class IngressEventSocketBinary(TypedDict):
    """A binary frame came; its bytes cross the boundary beside the JSON."""

    type: Literal["socketBinary"]

    tag: str
    """Which socket."""

    bytes: bytes
    """The frame. It crosses the boundary as raw bytes beside the JSON."""


class IngressEventSocketClosed(TypedDict):
    """A WebSocket was closed. The host opens it again after a while."""

    type: Literal["socketClosed"]

    tag: str
    """Which."""

    code: NotRequired[int | None]
    """The close code, if there was one."""

    reason: str
    """Why."""


class RequestSend(Send):
    """Send a message → `Reply::Sent`."""

    type: Literal["send"]


class RequestEdit(EditMessage):
    """Change a message → `Reply::Done`."""

    type: Literal["edit"]


class RequestDelete(DeleteMessage):
    """Take a message back → `Reply::Done`."""

    type: Literal["delete"]


class RequestReact(React):
    """React to a message → `Reply::Done`."""

    type: Literal["react"]


class RequestTyping(ShowTyping):
    """Show that somebody is writing → `Reply::Done`."""

    type: Literal["typing"]


class RequestMarkRead(MarkRead):
    """Tell the other side that messages were read → `Reply::Done`."""

    type: Literal["markRead"]


class RequestAnswerButton(AnswerButton):
    """Answer a touched button → `Reply::Done`."""

    type: Literal["answerButton"]


class RequestHistory(History):
    """Fetch older messages → `Reply::History`."""

    type: Literal["history"]


class RequestDirectory(Directory):
    """List chats or contacts → `Reply::Directory`."""

    type: Literal["directory"]


class RequestProfile(GetProfile):
    """Tell about an account → `Reply::Profile`."""

    type: Literal["profile"]


class RequestSetProfile(SetProfile):
    """Change the own profile → `Reply::Done`."""

    type: Literal["setProfile"]


class RequestGroup(GroupChange):
    """Make or change a group → `Reply::Group`."""

    type: Literal["group"]


class RequestSetChat(SetChat):
    """Change how the account keeps a chat → `Reply::Done`."""

    type: Literal["setChat"]


class RequestResolve(Resolve):
    """Tell who or what an address is → `Reply::Address`."""

    type: Literal["resolve"]


class RequestFetchMedia(FetchMedia):
    """Tell how a file can be had → `Reply::Media`."""

    type: Literal["fetchMedia"]


class RequestReconcile(Reconcile):
    """Tell whether a send with an unknown outcome happened → `Reply::Reconciled`."""

    type: Literal["reconcile"]


class RequestCapabilities(ChatCapabilities):
    """Tell what can be done in one chat → `Reply::Capabilities`."""

    type: Literal["capabilities"]


class RequestLogout(Nothing):
    """Log out on the network → `Reply::Done`."""

    type: Literal["logout"]


class RequestRelease(Nothing):
    """Take back what the instance set up on the network → `Reply::Done`."""

    type: Literal["release"]


class RequestImportAuth(ImportAuth):
    """Take over the auth state of another program → `Reply::AuthImported`."""

    type: Literal["importAuth"]


class RequestExportAuth(Nothing):
    """Give the auth state away → `Reply::AuthExported`."""

    type: Literal["exportAuth"]


class ContentText(Text):
    """Words."""

    type: Literal["text"]


class ContentImage(Media):
    """A picture."""

    type: Literal["image"]


class ContentAudio(Media):
    """Sound; a voice note when `Media::voice` is set."""

    type: Literal["audio"]


class ContentVideo(Media):
    """A film; a loop without sound when `Media::animation` is set."""

    type: Literal["video"]


class ContentDocument(Media):
    """Any other file."""

    type: Literal["document"]


class ContentSticker(Media):
    """A sticker."""

    type: Literal["sticker"]


class ContentLocation(Location):
    """A place."""

    type: Literal["location"]


class ContentLiveLocation(LiveLocation):
    """A place that moves for a while."""

    type: Literal["liveLocation"]


class ContentContact(Contacts):
    """Contact cards."""

    type: Literal["contact"]


class ContentPoll(Poll):
    """A question with options."""

    type: Literal["poll"]


class ContentButtons(Buttons):
    """Words with buttons or a list to choose from."""

    type: Literal["buttons"]


class ContentSystem(System):
    """Something that the network shows in the chat but nobody wrote (a pinned message, a new title)."""

    type: Literal["system"]


class EntityBold(Plain):
    """Strong."""

    offset: int
    """Where it starts, in UTF-16 code units (as Telegram, WhatsApp and JavaScript count)."""

    length: int
    """How long it is, in UTF-16 code units."""

    type: Literal["bold"]


class EntityItalic(Plain):
    """Emphasised."""

    offset: int
    """Where it starts, in UTF-16 code units (as Telegram, WhatsApp and JavaScript count)."""

    length: int
    """How long it is, in UTF-16 code units."""

    type: Literal["italic"]


class EntityUnderline(Plain):
    """Underlined."""

    offset: int
    """Where it starts, in UTF-16 code units (as Telegram, WhatsApp and JavaScript count)."""

    length: int
    """How long it is, in UTF-16 code units."""

    type: Literal["underline"]


class EntityStrikethrough(Plain):
    """Struck out."""

    offset: int
    """Where it starts, in UTF-16 code units (as Telegram, WhatsApp and JavaScript count)."""

    length: int
    """How long it is, in UTF-16 code units."""

    type: Literal["strikethrough"]


class EntitySpoiler(Plain):
    """Hidden until touched."""

    offset: int
    """Where it starts, in UTF-16 code units (as Telegram, WhatsApp and JavaScript count)."""

    length: int
    """How long it is, in UTF-16 code units."""

    type: Literal["spoiler"]


class EntityQuote(Plain):
    """Quoted."""

    offset: int
    """Where it starts, in UTF-16 code units (as Telegram, WhatsApp and JavaScript count)."""

    length: int
    """How long it is, in UTF-16 code units."""

    type: Literal["quote"]


class EntityCode(Plain):
    """Code within a line."""

    offset: int
    """Where it starts, in UTF-16 code units (as Telegram, WhatsApp and JavaScript count)."""

    length: int
    """How long it is, in UTF-16 code units."""

    type: Literal["code"]


class EntityPre(Pre):
    """A block of code."""

    offset: int
    """Where it starts, in UTF-16 code units (as Telegram, WhatsApp and JavaScript count)."""

    length: int
    """How long it is, in UTF-16 code units."""

    type: Literal["pre"]


class EntityLink(Link):
    """Words that lead to an address."""

    offset: int
    """Where it starts, in UTF-16 code units (as Telegram, WhatsApp and JavaScript count)."""

    length: int
    """How long it is, in UTF-16 code units."""

    type: Literal["link"]


class EntityUrl(Plain):
    """An address written out."""

    offset: int
    """Where it starts, in UTF-16 code units (as Telegram, WhatsApp and JavaScript count)."""

    length: int
    """How long it is, in UTF-16 code units."""

    type: Literal["url"]


class EntityEmail(Plain):
    """An e-mail address."""

    offset: int
    """Where it starts, in UTF-16 code units (as Telegram, WhatsApp and JavaScript count)."""

    length: int
    """How long it is, in UTF-16 code units."""

    type: Literal["email"]


class EntityPhone(Plain):
    """A phone number."""

    offset: int
    """Where it starts, in UTF-16 code units (as Telegram, WhatsApp and JavaScript count)."""

    length: int
    """How long it is, in UTF-16 code units."""

    type: Literal["phone"]


class EntityHashtag(Plain):
    """`#tag`."""

    offset: int
    """Where it starts, in UTF-16 code units (as Telegram, WhatsApp and JavaScript count)."""

    length: int
    """How long it is, in UTF-16 code units."""

    type: Literal["hashtag"]


class EntityCommand(Plain):
    """A command to a bot, `/start`."""

    offset: int
    """Where it starts, in UTF-16 code units (as Telegram, WhatsApp and JavaScript count)."""

    length: int
    """How long it is, in UTF-16 code units."""

    type: Literal["command"]


class EntityMention(Mention):
    """A person, a role or everybody, addressed."""

    offset: int
    """Where it starts, in UTF-16 code units (as Telegram, WhatsApp and JavaScript count)."""

    length: int
    """How long it is, in UTF-16 code units."""

    type: Literal["mention"]


class EntityCustomEmoji(CustomEmoji):
    """An emoji of the network's own."""

    offset: int
    """Where it starts, in UTF-16 code units (as Telegram, WhatsApp and JavaScript count)."""

    length: int
    """How long it is, in UTF-16 code units."""

    type: Literal["customEmoji"]


class LoginCallStart(TypedDict):
    """Begin, by one of the flows in the manifest, or by the channel's first."""

    type: Literal["start"]

    flow: NotRequired[str]
    """The flow's id."""


class LoginCallPoll(TypedDict):
    """Tell the current step: it may have changed (a new QR code, or done)."""

    type: Literal["poll"]


class LoginCallSubmit(TypedDict):
    """What a person entered into a form."""

    type: Literal["submit"]

    stepId: str
    """The step that is answered."""

    fields: dict[str, str]
    """Field id → what was entered."""


class LoginCallCancel(TypedDict):
    """Give up."""

    type: Literal["cancel"]


class HostAnswerHttp(TypedDict):
    """An HTTP answer, of any status. One byte string: its body."""

    http: dict[str, Any]


class HostAnswerHttpFailed(TypedDict):
    """No HTTP answer."""

    httpFailed: dict[str, Any]


class HostAnswerKvValue(TypedDict):
    """An entry. One byte string when it was found: its value."""

    kvValue: dict[str, Any]


class HostAnswerKvEntries(TypedDict):
    """Entries. One byte string for each key: its value."""

    kvEntries: dict[str, Any]


class HostAnswerCommitted(TypedDict):
    """It is stored and durable."""

    committed: dict[str, Any]


class HostAnswerMedia(TypedDict):
    """The handle of stored media."""

    media: dict[str, Any]


class HostAnswerMediaBytes(TypedDict):
    """A piece of media. One byte string; shorter than asked at the end."""

    mediaBytes: dict[str, Any]


class HostAnswerRandom(TypedDict):
    """Random bytes. One byte string."""

    random: dict[str, Any]


class HostAnswerFailed(TypedDict):
    """The host could not or would not."""

    failed: dict[str, Any]


class ToHostCall(TypedDict):
    """A question in the middle of a call."""

    call: dict[str, Any]


class ToHostDone(TypedDict):
    """A call has ended. One byte string for each write in `commit` that is not a deletion, then one for each outcome
    with a reply: its body.
    """

    done: dict[str, Any]


class ToHostWake(TypedDict):
    """A call of an `own` channel can go on: answer with `ToChannel::Poll`."""

    wake: dict[str, Any]


class ToHostState(TypedDict):
    """The connection changed."""

    state: dict[str, Any]


class ToHostLog(TypedDict):
    """Something for the log."""

    log: dict[str, Any]


class ToHostPong(TypedDict):
    """The answer to `ToChannel::Ping`."""

    pong: dict[str, Any]


class HostRequestHttp(TypedDict):
    """Make an HTTP call → `HostAnswer::Http`, `HostAnswer::HttpFailed`."""

    http: dict[str, Any]


class HostRequestKvGet(TypedDict):
    """Read an entry → `HostAnswer::KvValue`."""

    kvGet: dict[str, Any]


class HostRequestKvScan(TypedDict):
    """List entries in the order of their keys → `HostAnswer::KvEntries`."""

    kvScan: dict[str, Any]


class HostRequestCommit(TypedDict):
    """Store now, and answer when it is durable → `HostAnswer::Committed`. Byte strings as in `ToHost::Done`."""

    commit: dict[str, Any]


class HostRequestMediaPut(TypedDict):
    """Store bytes as media → `HostAnswer::Media`. One byte string: the file."""

    mediaPut: dict[str, Any]


class HostRequestMediaGet(TypedDict):
    """Read media that the host holds → `HostAnswer::MediaBytes`."""

    mediaGet: dict[str, Any]


class HostRequestRandom(TypedDict):
    """Random bytes → `HostAnswer::Random`."""

    random: dict[str, Any]


class HttpBodyEmpty(TypedDict):
    """Nothing."""

    type: Literal["empty"]


class HttpBodyJson(TypedDict):
    """A JSON value, sent as `application/json`."""

    type: Literal["json"]

    json: Any
    """The value."""


class HttpBodyText(TypedDict):
    """Words, with the content type that a header says."""

    type: Literal["text"]

    text: str
    """The words."""


class HttpBodyMultipart(TypedDict):
    """`multipart/form-data`."""

    type: Literal["multipart"]

    parts: list[FormPart]
    """In order."""


class HttpBodyBlob(TypedDict):
    """A file that the host holds, streamed."""

    type: Literal["blob"]

    blob: BlobId
    """Which."""


class EventBodyMessage(Message):
    """Somebody wrote."""

    type: Literal["message"]


class EventBodyEdit(Edit):
    """A message was changed."""

    type: Literal["edit"]


class EventBodyDelete(Delete):
    """Messages were taken back."""

    type: Literal["delete"]


class EventBodyReaction(Reaction):
    """Somebody reacted, or took a reaction back."""

    type: Literal["reaction"]


class EventBodyPollVote(PollVote):
    """Somebody voted in a poll."""

    type: Literal["pollVote"]


class EventBodyButtonAnswer(ButtonAnswer):
    """Somebody touched a button."""

    type: Literal["buttonAnswer"]


class EventBodyReceipt(Receipt):
    """Messages were delivered, read or played."""

    type: Literal["receipt"]


class EventBodyTyping(Typing):
    """Somebody is writing. Not stored."""

    type: Literal["typing"]


class EventBodyPresence(Presence):
    """Somebody came or went. Not stored."""

    type: Literal["presence"]


class EventBodyMembership(Membership):
    """Somebody joined, left, was made an admin."""

    type: Literal["membership"]


class EventBodyChatUpdate(ChatUpdate):
    """A chat changed: its title, its picture, its id."""

    type: Literal["chatUpdate"]


class EventBodyUserUpdate(UserUpdate):
    """An account changed: its name, its picture, its phone number."""

    type: Literal["userUpdate"]


class EventBodySendUpdate(SendUpdate):
    """The network told us how an earlier send of ours ended."""

    type: Literal["sendUpdate"]


class EventBodyCall(Call):
    """A call rang or ended."""

    type: Literal["call"]


class CallResultOk(TypedDict):
    """Well."""

    ok: Output


class CallResultErr(TypedDict):
    """Not."""

    err: Failure


class OutputStarted(TypedDict):
    """The instance runs."""

    started: dict[str, Any]


class OutputEvents(TypedDict):
    """The events were taken."""

    events: dict[str, Any]


class OutputReply(TypedDict):
    """The request was answered."""

    reply: dict[str, Any]


class OutputLogin(TypedDict):
    """The login moved."""

    login: dict[str, Any]


class OutputStopped(TypedDict):
    """The instance has ended."""

    stopped: dict[str, Any]


class IngressLongPoll(LongPoll):
    """The host repeats an HTTP call and hands over each answer. The call is asked for anew each time
    (`Channel::next_poll`), so an offset in it moves with what was committed.
    """

    type: Literal["longPoll"]


class IngressWebsocket(Websocket):
    """The host holds a WebSocket open."""

    type: Literal["websocket"]


class IngressWebhook(Webhook):
    """The host takes HTTP requests from the network."""

    type: Literal["webhook"]


class IngressTimer(Timer):
    """The host calls at regular times."""

    type: Literal["timer"]


class IngressOwn(Own):
    """The channel brings its own network library and calls `accept` itself. Native only."""

    type: Literal["own"]


class VerifyHeaderEquals(HeaderEquals):
    """A header equals a secret."""

    type: Literal["headerEquals"]


class VerifyHmacSha256(HmacSha256):
    """A header holds the HMAC-SHA256 of the raw body."""

    type: Literal["hmacSha256"]


class VerifyTimestampWindow(TimestampWindow):
    """A header holds a time that is not far from now."""

    type: Literal["timestampWindow"]


class ReplySent(SendReceipt):
    """The network took the message."""

    type: Literal["sent"]


class ReplyDone(Nothing):
    """It is done."""

    type: Literal["done"]


class ReplyHistory(HistoryPage):
    """A page of history."""

    type: Literal["history"]


class ReplyDirectory(DirectoryPage):
    """A page of a directory."""

    type: Literal["directory"]


class ReplyProfile(ProfileReply):
    """An account."""

    type: Literal["profile"]


class ReplyGroup(GroupReply):
    """A group."""

    type: Literal["group"]


class ReplyAddress(AddressReply):
    """What an address is; nothing when there is no such thing."""

    type: Literal["address"]


class ReplyMedia(MediaReply):
    """How a file can be had."""

    type: Literal["media"]


class ReplyReconciled(TypedDict):
    """Whether a send happened."""

    type: Literal["reconciled"]


class ReplyCapabilities(Capabilities):
    """What can be done."""

    type: Literal["capabilities"]


class ReplyAuthImported(AuthReport):
    """What was taken over."""

    type: Literal["authImported"]


class ReplyAuthExported(AuthExport):
    """The auth state."""

    type: Literal["authExported"]


class ReconciledSent(TypedDict):
    """It did."""

    outcome: Literal["sent"]

    receipt: SendReceipt
    """What the network calls it."""


class ReconciledNotSent(TypedDict):
    """It certainly did not: it may be sent again."""

    outcome: Literal["notSent"]


class ReconciledUnresolved(TypedDict):
    """The network cannot tell."""

    outcome: Literal["unresolved"]


class LoginShowQr(ShowQr):
    """A QR code to be scanned."""

    type: Literal["qr"]


class LoginShowCode(ShowCode):
    """A code to be typed elsewhere."""

    type: Literal["code"]


class LoginShowForm(ShowForm):
    """Fields to be filled in."""

    type: Literal["form"]


class LoginShowOpenUrl(ShowUrl):
    """A page to be opened."""

    type: Literal["openUrl"]


class LoginShowWait(ShowNothing):
    """Nothing to do but wait; poll again."""

    type: Literal["wait"]


class LoginShowDone(ShowNothing):
    """Logged in."""

    type: Literal["done"]


class LoginShowFailed(ShowFailure):
    """It failed; starting again may help."""

    type: Literal["failed"]


class ConnectionStateConnecting(TypedDict):
    """On the way."""

    state: Literal["connecting"]


class ConnectionStateConnected(TypedDict):
    """Messages flow."""

    state: Literal["connected"]

    profile: NotRequired[Profile]
    """Who this account is on the network."""

    limited: NotRequired[Limited]
    """What the network does not let it do for now, although it is connected."""


class ConnectionStateWaitingForLogin(TypedDict):
    """Somebody has to log in: the current login step says how."""

    state: Literal["waiting_for_login"]


class ConnectionStateDisconnected(TypedDict):
    """Not connected at this moment; the host tries again by itself."""

    state: Literal["disconnected"]

    reason: str
    """Why, in a sentence."""

    transient: bool
    """Whether trying again may help. When not, somebody has to change something first."""


class ConnectionStateLoggedOut(TypedDict):
    """The network no longer accepts the credentials. The host does not try again."""

    state: Literal["logged_out"]

    reason: str
    """Why, in a sentence."""

    userAction: str
    """What a person has to do now, in a sentence."""


ToChannel: TypeAlias = (
    ToChannelBegin
    | ToChannelAnswer
    | ToChannelPoll
    | ToChannelCancel
    | ToChannelPing
)
"""Host → channel."""

Op: TypeAlias = (
    OpStart
    | OpEvents
    | OpRequest
    | OpLogin
    | OpStop
)
"""What a call is to do."""

IngressEvent: TypeAlias = (
    IngressEventPollResponse
    | IngressEventPollFailed
    | IngressEventWebhook
    | IngressEventTimer
    | IngressEventSocketOpen
    | IngressEventSocketText
    | IngressEventSocketBinary
    | IngressEventSocketClosed
)
"""One thing that arrived, handed to `Channel::on_event`."""

Request: TypeAlias = (
    RequestSend
    | RequestEdit
    | RequestDelete
    | RequestReact
    | RequestTyping
    | RequestMarkRead
    | RequestAnswerButton
    | RequestHistory
    | RequestDirectory
    | RequestProfile
    | RequestSetProfile
    | RequestGroup
    | RequestSetChat
    | RequestResolve
    | RequestFetchMedia
    | RequestReconcile
    | RequestCapabilities
    | RequestLogout
    | RequestRelease
    | RequestImportAuth
    | RequestExportAuth
)
"""A request. A channel answers `unsupported` to what it does not know."""

Content: TypeAlias = (
    ContentText
    | ContentImage
    | ContentAudio
    | ContentVideo
    | ContentDocument
    | ContentSticker
    | ContentLocation
    | ContentLiveLocation
    | ContentContact
    | ContentPoll
    | ContentButtons
    | ContentSystem
)
"""The content of a message."""

Entity: TypeAlias = (
    EntityBold
    | EntityItalic
    | EntityUnderline
    | EntityStrikethrough
    | EntitySpoiler
    | EntityQuote
    | EntityCode
    | EntityPre
    | EntityLink
    | EntityUrl
    | EntityEmail
    | EntityPhone
    | EntityHashtag
    | EntityCommand
    | EntityMention
    | EntityCustomEmoji
)
"""A piece of a text that means something."""

LoginCall: TypeAlias = (
    LoginCallStart
    | LoginCallPoll
    | LoginCallSubmit
    | LoginCallCancel
)
"""What the host wants of a login."""

HostAnswer: TypeAlias = (
    HostAnswerHttp
    | HostAnswerHttpFailed
    | HostAnswerKvValue
    | HostAnswerKvEntries
    | HostAnswerCommitted
    | HostAnswerMedia
    | HostAnswerMediaBytes
    | HostAnswerRandom
    | HostAnswerFailed
)
"""An answer of the host."""

ToHost: TypeAlias = (
    ToHostCall
    | ToHostDone
    | ToHostWake
    | ToHostState
    | ToHostLog
    | ToHostPong
)
"""Channel → host."""

HostRequest: TypeAlias = (
    HostRequestHttp
    | HostRequestKvGet
    | HostRequestKvScan
    | HostRequestCommit
    | HostRequestMediaPut
    | HostRequestMediaGet
    | HostRequestRandom
)
"""A question to the host."""

HttpBody: TypeAlias = (
    HttpBodyEmpty
    | HttpBodyJson
    | HttpBodyText
    | HttpBodyMultipart
    | HttpBodyBlob
)
"""The body of a call."""

EventBody: TypeAlias = (
    EventBodyMessage
    | EventBodyEdit
    | EventBodyDelete
    | EventBodyReaction
    | EventBodyPollVote
    | EventBodyButtonAnswer
    | EventBodyReceipt
    | EventBodyTyping
    | EventBodyPresence
    | EventBodyMembership
    | EventBodyChatUpdate
    | EventBodyUserUpdate
    | EventBodySendUpdate
    | EventBodyCall
)
"""What happened."""

CallResult: TypeAlias = (
    CallResultOk
    | CallResultErr
)
"""How a call ended."""

Output: TypeAlias = (
    OutputStarted
    | OutputEvents
    | OutputReply
    | OutputLogin
    | OutputStopped
)
"""What a call gives back when it ended well."""

Ingress: TypeAlias = (
    IngressLongPoll
    | IngressWebsocket
    | IngressWebhook
    | IngressTimer
    | IngressOwn
)
"""A way in, declared when an instance starts. The host does the waiting for all but `own`."""

Verify: TypeAlias = (
    VerifyHeaderEquals
    | VerifyHmacSha256
    | VerifyTimestampWindow
)
"""A proof that a request is from the network. All that are listed must hold."""

Reply: TypeAlias = (
    ReplySent
    | ReplyDone
    | ReplyHistory
    | ReplyDirectory
    | ReplyProfile
    | ReplyGroup
    | ReplyAddress
    | ReplyMedia
    | ReplyReconciled
    | ReplyCapabilities
    | ReplyAuthImported
    | ReplyAuthExported
)
"""What a channel answers."""

Reconciled: TypeAlias = (
    ReconciledSent
    | ReconciledNotSent
    | ReconciledUnresolved
)
"""Whether a send with an unknown outcome happened."""

LoginShow: TypeAlias = (
    LoginShowQr
    | LoginShowCode
    | LoginShowForm
    | LoginShowOpenUrl
    | LoginShowWait
    | LoginShowDone
    | LoginShowFailed
)
"""What a login step shows or asks."""

ConnectionState: TypeAlias = (
    ConnectionStateConnecting
    | ConnectionStateConnected
    | ConnectionStateWaitingForLogin
    | ConnectionStateDisconnected
    | ConnectionStateLoggedOut
)
"""What the connection of an instance is doing. Connecting cannot fail as a call: a channel reports states."""
