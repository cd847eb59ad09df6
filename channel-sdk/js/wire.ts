// Generated from the wire types of the Rust SDK; do not edit.

/** Host → channel. */
export type ToChannel =
  /** Begin a call. Many may be open at once; each ends with one `ToHost::Done`. */
  | {
    begin: {
      /** Chosen by the host, never 0, never used again. */
      call: number;
      /** The host's time, milliseconds since 1970. */
      now: number;
      /** What to do. */
      op: Op;
    };
  }
  /** The answer to a `ToHost::Call`. */
  | {
    answer: {
      /** The call that asked; 0 for a background task of an `own` channel. */
      call: number;
      /** Which of its questions. */
      id: number;
      /** The host's time. */
      now: number;
      /** The answer. */
      answer: HostAnswer;
    };
  }
  /** Go on with a call that asked to be woken. */
  | {
    poll: {
      /** Which. */
      call: number;
      /** The host's time. */
      now: number;
    };
  }
  /** Give a call up. No `ToHost::Done` follows. */
  | {
    cancel: {
      /** Which. */
      call: number;
    };
  }
  /** Answer with `ToHost::Pong`: whether the channel still runs. */
  | {
    ping: {
      /** To be repeated. */
      nonce: number;
    };
  };

/** What a call is to do. */
export type Op =
  /** Start the instance: always the first call, and only once → `Output::Started`. */
  | {
    start: {
      /** Its id. */
      instance: InstanceId;
      /** Its configuration, as the manifest's schema says, defaults filled in. */
      config: any;
      /** Where the network reaches the instance's webhook; absent when the host has no public address. */
      webhookUrl?: string;
      /**
       * Whether it is started only to be asked something, such as for its auth state: it must not connect to its
       * network. The host opens no ingress of it, and ends it soon.
       */
      offline?: boolean;
      /** How it is to reach its network; said to channels with a network library of their own (`"secrets": "plain"`). */
      egress?: Egress;
    };
  }
  /**
   * Things that arrived → `Output::Events`. One byte string for each `pollResponse`, `webhook` and `socketBinary`,
   * in order: its body.
   */
  | {
    events: {
      /** In the order in which they arrived. */
      events: Array<IngressEvent>;
    };
  }
  /** Ask for something → `Output::Reply`. */
  | {
    request: {
      /** For what. */
      request: Request;
    };
  }
  /** Log in → `Output::Login`. */
  | {
    login: {
      /** Which move. */
      login: LoginCall;
    };
  }
  /** End the instance: no call follows → `Output::Stopped`. */
  | {
    stop: Record<string, never>;
  };

/** One configured account of a channel. Made by the host (a UUID), unique across hosts. */
export type InstanceId = string;

/** How a channel with a network library of its own is to connect. The host's own calls and sockets do all of it anyway. */
export interface Egress {
  /** The HTTP proxy that every connection has to go by way of: `http://user:password@proxy.example:3128`, or `https`. */
  proxy?: string;
  /** Authorities whose certificates are trusted beside those that the machine trusts: DER, in base64. */
  authorities?: Array<string>;
}

/** One thing that arrived, handed to `Channel::on_event`. */
export type IngressEvent =
  /** A poll was answered. */
  | {
    type: "pollResponse";
    /** Which poll. */
    tag: string;
    /** The answer, of any status. */
    response: HttpResponse;
  }
  /** A poll brought no answer. The host waits and polls again; the channel may report a state. */
  | {
    type: "pollFailed";
    /** Which poll. */
    tag: string;
    /** Why. */
    failure: HttpFailure;
  }
  /** A request came in. */
  | {
    type: "webhook";
    /** It. */
    request: WebhookRequest;
  }
  /** A timer of the ingress, or one that was set, is due. */
  | {
    type: "timer";
    /** Its name. */
    tag: string;
  }
  /** A WebSocket is open. */
  | {
    type: "socketOpen";
    /** Which. */
    tag: string;
  }
  /** A text frame came. */
  | {
    type: "socketText";
    /** Which socket. */
    tag: string;
    /** The frame. */
    text: string;
  }
  /** A binary frame came; its bytes cross the boundary beside the JSON. */
  | {
    type: "socketBinary";
    /** Which socket. */
    tag: string;
    /** The frame. It crosses the boundary as raw bytes beside the JSON. */
    bytes: Uint8Array;
  }
  /** A WebSocket was closed. The host opens it again after a while. */
  | {
    type: "socketClosed";
    /** Which. */
    tag: string;
    /** The close code, if there was one. */
    code?: number | null;
    /** Why. */
    reason: string;
  };

/** An answer. */
export interface HttpResponse {
  /** `200`, `404` … */
  status: number;
  /** In order, names in lower case. */
  headers?: Array<Header>;
  /** The whole body. It crosses the boundary as raw bytes beside the JSON. */
  body: Uint8Array;
}

/** One header. */
export interface Header {
  /** Its name, in any case. */
  name: string;
  /** Its value; what is not UTF-8 has its bytes replaced. */
  value: string;
}

/** Why a call brought no answer. */
export interface HttpFailure {
  /** A sentence, without secrets. */
  message: string;
  /** Whether the request may have reached the other side: a send that fails so has an unknown outcome. */
  sent: boolean;
  /** Whether the time limit ended it. */
  timedOut?: boolean;
}

/** A request that the network made. */
export interface WebhookRequest {
  /** `GET`, `POST` … */
  method: string;
  /** The path behind the webhook's own, with a leading slash. */
  path: string;
  /** Without the question mark. */
  query?: string;
  /** Names in lower case. */
  headers?: Array<Header>;
  /** The raw body. It crosses the boundary as raw bytes beside the JSON. */
  body: Uint8Array;
}

/** A request. A channel answers `unsupported` to what it does not know. */
export type Request =
  /** Send a message → `Reply::Sent`. */
  | ({ type: "send" } & Send)
  /** Change a message → `Reply::Done`. */
  | ({ type: "edit" } & EditMessage)
  /** Take a message back → `Reply::Done`. */
  | ({ type: "delete" } & DeleteMessage)
  /** React to a message → `Reply::Done`. */
  | ({ type: "react" } & React)
  /** Show that somebody is writing → `Reply::Done`. */
  | ({ type: "typing" } & ShowTyping)
  /** Tell the other side that messages were read → `Reply::Done`. */
  | ({ type: "markRead" } & MarkRead)
  /** Answer a touched button → `Reply::Done`. */
  | ({ type: "answerButton" } & AnswerButton)
  /** Fetch older messages → `Reply::History`. */
  | ({ type: "history" } & History)
  /** List chats or contacts → `Reply::Directory`. */
  | ({ type: "directory" } & Directory)
  /** Tell about an account → `Reply::Profile`. */
  | ({ type: "profile" } & GetProfile)
  /** Change the own profile → `Reply::Done`. */
  | ({ type: "setProfile" } & SetProfile)
  /** Make or change a group → `Reply::Group`. */
  | ({ type: "group" } & GroupChange)
  /** Change how the account keeps a chat → `Reply::Done`. */
  | ({ type: "setChat" } & SetChat)
  /** Tell who or what an address is → `Reply::Address`. */
  | ({ type: "resolve" } & Resolve)
  /** Tell how a file can be had → `Reply::Media`. */
  | ({ type: "fetchMedia" } & FetchMedia)
  /** Tell whether a send with an unknown outcome happened → `Reply::Reconciled`. */
  | ({ type: "reconcile" } & Reconcile)
  /** Tell what can be done in one chat → `Reply::Capabilities`. */
  | ({ type: "capabilities" } & ChatCapabilities)
  /** Log out on the network → `Reply::Done`. */
  | ({ type: "logout" } & Nothing)
  /** Take back what the instance set up on the network → `Reply::Done`. */
  | ({ type: "release" } & Nothing)
  /** Take over the auth state of another program → `Reply::AuthImported`. */
  | ({ type: "importAuth" } & ImportAuth)
  /** Give the auth state away → `Reply::AuthExported`. */
  | ({ type: "exportAuth" } & Nothing);

/**
 * A conversation on the network. Made by the channel, unique within an instance. Where a network's own id is only
 * unique together with something else (a topic in a group), the channel joins the two here and gives the group as
 * `Chat::parent`.
 */
export type ChatId = string;

/**
 * The id under which *we* sent a message, chosen by the host before it is sent. It comes back with our own echo
 * where the channel's capability `clientId` says so. Unique within an instance.
 */
export type ClientId = string;

/** The content of a message. */
export type Content =
  /** Words. */
  | ({ type: "text" } & Text)
  /** A picture. */
  | ({ type: "image" } & Media)
  /** Sound; a voice note when `Media::voice` is set. */
  | ({ type: "audio" } & Media)
  /** A film; a loop without sound when `Media::animation` is set. */
  | ({ type: "video" } & Media)
  /** Any other file. */
  | ({ type: "document" } & Media)
  /** A sticker. */
  | ({ type: "sticker" } & Media)
  /** A place. */
  | ({ type: "location" } & Location)
  /** A place that moves for a while. */
  | ({ type: "liveLocation" } & LiveLocation)
  /** Contact cards. */
  | ({ type: "contact" } & Contacts)
  /** A question with options. */
  | ({ type: "poll" } & Poll)
  /** Words with buttons or a list to choose from. */
  | ({ type: "buttons" } & Buttons)
  /** Something that the network shows in the chat but nobody wrote (a pinned message, a new title). */
  | ({ type: "system" } & System);

/** A piece of a text that means something. */
export type Entity = {
  /** Where it starts, in UTF-16 code units (as Telegram, WhatsApp and JavaScript count). */
  offset: number;
  /** How long it is, in UTF-16 code units. */
  length: number;
} & (
  /** Strong. */
  | ({ type: "bold" } & Plain)
  /** Emphasised. */
  | ({ type: "italic" } & Plain)
  /** Underlined. */
  | ({ type: "underline" } & Plain)
  /** Struck out. */
  | ({ type: "strikethrough" } & Plain)
  /** Hidden until touched. */
  | ({ type: "spoiler" } & Plain)
  /** Quoted. */
  | ({ type: "quote" } & Plain)
  /** Code within a line. */
  | ({ type: "code" } & Plain)
  /** A block of code. */
  | ({ type: "pre" } & Pre)
  /** Words that lead to an address. */
  | ({ type: "link" } & Link)
  /** An address written out. */
  | ({ type: "url" } & Plain)
  /** An e-mail address. */
  | ({ type: "email" } & Plain)
  /** A phone number. */
  | ({ type: "phone" } & Plain)
  /** `#tag`. */
  | ({ type: "hashtag" } & Plain)
  /** A command to a bot, `/start`. */
  | ({ type: "command" } & Plain)
  /** A person, a role or everybody, addressed. */
  | ({ type: "mention" } & Mention)
  /** An emoji of the network's own. */
  | ({ type: "customEmoji" } & CustomEmoji)
);

/** An entity that needs no more than its place. */
export interface Plain {
}

/** A block of code. */
export interface Pre {
  /** Its language, if said. */
  language?: string;
}

/** Words that lead to an address. */
export interface Link {
  /** The address. */
  url: string;
}

/** An account on the network, as far as an event tells. */
export interface User {
  /** The network's id for it. */
  id: UserId;
  /** The name that people see. */
  name?: string;
  /** The handle without `@`, where the network has handles. */
  username?: string;
  /** Phone number in E.164 with `+`, only when the network vouches for it: people are recognised by it. */
  phone?: string;
  /** E-mail address, only when the network vouches for it. */
  email?: string;
  /** Their picture, to be fetched later. */
  avatar?: MediaRef;
  /** BCP 47 language tag of their app, if known. */
  language?: string;
  /** Whether it is a program. */
  isBot?: boolean;
}

/**
 * An account on the network: a person, a bot, a page. Made by the channel, unique within an instance and the same
 * in every chat, so that a person is recognised.
 */
export type UserId = string;

/**
 * Where media can be had from later. Made by the channel, opaque to the host, which hands it back in a
 * `fetchMedia` request. Must stay usable for as long as the network keeps the file.
 */
export type MediaRef = string;

/** Whom a mention addresses. */
export type MentionTarget =
  /** One account. */
  | "user"
  /** A role. */
  | "role"
  /** Another chat. */
  | "channel"
  /** All members. */
  | "everyone"
  /** All members who are online. */
  | "here"
  | (string & {});

/** Somebody addressed. */
export interface Mention {
  /** The person, when the network says who; absent for a bare `@handle` and for everybody. */
  user?: User;
  /** A person, a role, a channel, everyone or all who are here. */
  target: MentionTarget;
}

/** An emoji of the network's own. */
export interface CustomEmoji {
  /** The network's id for it. */
  id: string;
}

/** Words, with what is special about pieces of them. */
export interface Text {
  /** The words, without markup. */
  text: string;
  /** Pieces with a meaning, in order of their start; they may nest. */
  entities?: Array<Entity>;
}

/** Media that the host holds, as a channel sees it when it sends: a handle, never bytes. Made by the host. */
export type BlobId = string;

/** A file. Inbound it says where the file can be had (`reference`); outbound what is to be sent (`blob` or `url`). */
export interface Media {
  /** Where the host can have it fetched from, later. */
  reference?: MediaRef;
  /** A file that the host holds and will stream into an HTTP call of the channel. */
  blob?: BlobId;
  /** A public address that the network itself may fetch. */
  url?: string;
  /** The words below it. */
  caption?: Text;
  /** MIME type, as far as known. */
  mimeType?: string;
  /** The name it had. */
  fileName?: string;
  /** Size in bytes. */
  size?: number;
  /** Width in pixels. */
  width?: number;
  /** Height in pixels. */
  height?: number;
  /** How long it plays, in milliseconds. */
  durationMs?: number;
  /** An audio that was recorded to be heard as speech (push to talk). */
  voice?: boolean;
  /** A video that plays as a loop without sound (a "GIF"). */
  animation?: boolean;
  /** Meant to be seen once. */
  viewOnce?: boolean;
  /** The emoji that a sticker stands for. */
  emoji?: string;
  /** Loudness of a voice note, 0 to 100, evenly spaced. */
  waveform?: Array<number>;
}

/** A place. */
export interface Location {
  /** Degrees north, −90 to 90. */
  latitude: number;
  /** Degrees east, −180 to 180. */
  longitude: number;
  /** What is there. */
  name?: string;
  /** Its address. */
  address?: string;
  /** How exact it is, in metres. */
  accuracy?: number;
}

/** A place that moves for a while. Each move arrives as an edit of the first message. */
export interface LiveLocation {
  /** Degrees north, −90 to 90. */
  latitude: number;
  /** Degrees east, −180 to 180. */
  longitude: number;
  /** What is there. */
  name?: string;
  /** Its address. */
  address?: string;
  /** How exact it is, in metres. */
  accuracy?: number;
  /** How long it is shared, in seconds from the message's time. */
  periodSeconds?: number;
  /** Direction of travel, 1 to 360 degrees. */
  heading?: number;
}

/** One contact card. */
export interface ContactCard {
  /** The name on it. */
  name: string;
  /** Phone numbers as written on the card. */
  phones?: Array<string>;
  /** E-mail addresses. */
  emails?: Array<string>;
  /** Where they work. */
  organization?: string;
  /** Their account on this network, if the card names one. */
  user?: User;
  /** The card as vCard (RFC 6350), when the network sent one. */
  vcard?: string;
}

/** Contact cards. */
export interface Contacts {
  /** At least one. */
  contacts: Array<ContactCard>;
}

/** One answer to a poll. */
export interface PollOption {
  /** The network's id for it; its position from 0 when the network has none. */
  id: string;
  /** Its words. */
  text: string;
  /** How many chose it, when known. */
  votes?: number;
}

/** A question with options. */
export interface Poll {
  /** The network's id for the poll, where it has one beside the message's. */
  id?: string;
  /** What is asked. */
  question: string;
  /** What can be answered, in order. */
  options: Array<PollOption>;
  /** How many options one person may choose; 1 when not said. */
  maxChoices?: number;
  /** Whether votes are secret. */
  anonymous?: boolean;
  /** Whether voting has ended. */
  closed?: boolean;
  /** When voting ends, milliseconds since 1970. */
  closesAt?: number;
}

/** One button. */
export interface Button {
  /** The words on it. */
  text: string;
  /** What comes back in a button answer when it is touched. */
  data?: string;
  /** An address that it opens instead. */
  url?: string;
  /** A second line, for networks that show rows as a list. */
  description?: string;
}

/** Words with something to choose from. */
export interface Buttons {
  /** The words above. */
  text: Text;
  /** Rows of buttons, from top to bottom. */
  rows: Array<Array<Button>>;
  /** The words on the button that opens a list, for networks that show rows as a list. */
  listTitle?: string;
}

/** A message on the network. Made by the channel, unique within a chat. */
export type MessageId = string;

/** Something that the network shows in a chat although nobody wrote it. */
export interface System {
  /** What happened, in the network's own word (`pinned_message`, `new_chat_title`). */
  event: string;
  /** It in words, when the network or the channel can say it. */
  text?: string;
  /** The message that it is about. */
  message?: MessageId;
}

/** Names a message within its chat, or one part of it. */
export interface MessageRef {
  /** The message. */
  id: MessageId;
  /** One part of it; absent for the only part. */
  part?: PartId;
}

/**
 * One part of a message that arrives as one thing but is stored as several (an item of an album).
 * Unique within its message; absent for the only part.
 */
export type PartId = string;

/** Send one message: one part, already within the limits of the capabilities. */
export interface Send {
  /** The chat, by the network's id. */
  chat: ChatId;
  /** Our own id for it. The same one comes again when the same send is tried again. */
  clientId: ClientId;
  /** What is sent. */
  content: Content;
  /**
   * The other items of the album that `content` begins. Only for channels that declare `albumMaxItems`: all go out
   * together or not at all, and `SendReceipt::album` has a receipt for each of these, in order.
   */
  album?: Array<Content>;
  /** What it answers. */
  replyTo?: MessageRef;
  /** Which part of a longer message it is; the first is 0. */
  part?: number;
  /** What the first part of it answers, when this is a later one: it belongs to the same answer, and is none itself. */
  follows?: MessageRef;
  /** Options that only one network has, by name; unknown ones are ignored. */
  options?: { [key: string]: any };
}

/** Change a message that we sent. */
export interface EditMessage {
  /** The chat it is in. */
  chat: ChatId;
  /** Which. */
  target: MessageRef;
  /** What it becomes, whole. */
  content: Content;
}

/** Take a message back. */
export interface DeleteMessage {
  /** The chat it is in. */
  chat: ChatId;
  /** Which. */
  target: MessageRef;
  /** Only for this account, not for everybody. */
  onlyForMe?: boolean;
}

/** One emoji of a reaction. */
export interface Emoji {
  /** The emoji itself, or the name of a custom one. */
  emoji: string;
  /** The network's id for a custom one. */
  customId?: string;
}

/** Set our reactions to a message: an empty list takes them all back. */
export interface React {
  /** The chat it is in. */
  chat: ChatId;
  /** Which. */
  target: MessageRef;
  /** What our reactions become. */
  emojis: Array<Emoji>;
}

/** What somebody is doing in a chat at this moment. */
export type Activity =
  /** Writing. */
  | "typing"
  /** Recording a voice note. */
  | "recording"
  /** Sending a file. */
  | "uploading"
  /** No longer. */
  | "paused"
  | (string & {});

/** Show that somebody is writing. */
export interface ShowTyping {
  /** Where. */
  chat: ChatId;
  /** What they are doing. */
  activity: Activity;
  /** For how long, in milliseconds; as long as the network shows it when absent. */
  durationMs?: number;
}

/** One message that was read. */
export interface ReadMessage {
  /** Which. */
  id: MessageId;
  /** Who wrote it. */
  sender?: UserId;
}

/** Tell the other side that messages were read. */
export interface MarkRead {
  /** Where. */
  chat: ChatId;
  /** Which, from old to new, with their authors where known (a group needs them on some networks); all when empty. */
  messages?: Array<ReadMessage>;
}

/** Answer a touched button. */
export interface AnswerButton {
  /** The id of the button answer. */
  id: string;
  /** What to show to the one who touched it. */
  text?: string;
  /** Whether to show it so that it must be dismissed. */
  alert?: boolean;
}

/** Fetch older, or missed, messages of one chat. */
export interface History {
  /** Where. */
  chat: ChatId;
  /** Where the last page ended; from the newest, or from `anchor`, when absent. */
  cursor?: string;
  /** The message to go on from. */
  anchor?: MessageRef;
  /** Towards newer ones; towards older ones when false. */
  forward?: boolean;
  /** How many at most. */
  limit: number;
}

/** What a directory lists. */
export type DirectoryList =
  /** Accounts that this one knows. */
  | "contacts"
  /** Chats that this account is in. */
  | "chats"
  /** Members of one chat. */
  | "members"
  /** Servers, workspaces: what chats are grouped in. */
  | "spaces"
  /** Accounts that this one takes nothing of. */
  | "blocked"
  | (string & {});

/** List chats or contacts. */
export interface Directory {
  /** What to list. */
  list: DirectoryList;
  /** Within this chat, for members. */
  chat?: ChatId;
  /** Words to look for. */
  search?: string;
  /** Where the last page ended. */
  cursor?: string;
  /** How many at most. */
  limit: number;
}

/** Tell about an account. */
export interface GetProfile {
  /** Whose; the own when absent. */
  user?: UserId;
}

/** Change the own profile. Absent fields stay as they are. */
export interface SetProfile {
  /** The name that people see. */
  name?: string;
  /** What it says about itself. */
  about?: string;
  /** Its picture. */
  picture?: Media;
  /** Take the picture away. */
  removePicture?: boolean;
  /** Who may see or do what, in the network's own words (`last` → `contacts`). */
  privacy?: { [key: string]: string };
}

/** What to do with a group. */
export type GroupAction =
  /** Make it. */
  | "create"
  /** Come in by an invite code. */
  | "join"
  /** Go. */
  | "leave"
  /** Bring members in. */
  | "add"
  /** Send members away. */
  | "remove"
  /** Send members away for good. */
  | "ban"
  /** Let them come back. */
  | "unban"
  /** Make members admins. */
  | "promote"
  /** Make admins members. */
  | "demote"
  /** Change its title. */
  | "setName"
  /** Change its description. */
  | "setDescription"
  /** Change its picture. */
  | "setPicture"
  /** Show a message at the top. */
  | "pin"
  /** No longer show it there. */
  | "unpin"
  /** Tell its invite link. */
  | "getInvite"
  /** Make the invite link invalid and give a new one. */
  | "revokeInvite"
  /** Make a space: what groups are gathered in. */
  | "createSpace"
  /** Put it under a space; take it out of the one that it is in when no parent is named. */
  | "setParent"
  | (string & {});

/** Make or change a group. */
export interface GroupChange {
  /** Which; a new one when absent. */
  chat?: ChatId;
  /** What to do. */
  action: GroupAction;
  /** To whom. */
  users?: Array<UserId>;
  /** Its title, description or invite code, as the action needs. */
  text?: string;
  /** Its picture. */
  picture?: Media;
  /** The message that is pinned or no longer is; all that are pinned when absent. */
  message?: MessageRef;
  /** The space that a group is made in or put under. */
  parent?: ChatId;
}

/** What to do with a chat. */
export type ChatAction =
  /** Put it away. */
  | "archive"
  /** Take it out again. */
  | "unarchive"
  /** Keep it at the top. */
  | "pin"
  /** No longer. */
  | "unpin"
  /** No longer ring for it. */
  | "mute"
  /** Ring again. */
  | "unmute"
  /** Take nothing of this account any more, and give it nothing. */
  | "block"
  /** Let it write again. */
  | "unblock"
  /** Mark a message to be found again. */
  | "star"
  /** No longer. */
  | "unstar"
  /** Let new messages disappear after a time, for everybody in it. */
  | "setDisappearing"
  | (string & {});

/** Change how the account keeps a chat, or a message in it, on all of its devices. Nobody else sees it, but for a block. */
export interface SetChat {
  /** Which. */
  chat: ChatId;
  /** What to do. */
  action: ChatAction;
  /** Until when it is muted, milliseconds since 1970; for good when absent. */
  until?: number;
  /** After how many seconds messages disappear; 0 for never. */
  seconds?: number;
  /** The message, for a star. */
  message?: MessageRef;
}

/** Tell who or what an address is. */
export interface Resolve {
  /** As a person typed it: a phone number, a handle, an invite link, an id. */
  address: string;
}

/** Tell how a file can be had. */
export interface FetchMedia {
  /** The reference that the event gave. */
  reference: MediaRef;
  /**
   * Where the last answer said that it lies, there is nothing (any more): a network that can have it put there anew does
   * that, or says where it lies now.
   */
  gone?: boolean;
}

/** Tell whether a send with an unknown outcome happened. */
export interface Reconcile {
  /** The send, as it was asked. */
  send: Send;
  /** When it was tried, milliseconds since 1970. */
  triedAt: number;
}

/** Tell what can be done in one chat. */
export interface ChatCapabilities {
  /** Which. */
  chat: ChatId;
}

/** A request without fields. */
export interface Nothing {
}

/** Take over the auth state of another program. What the call writes becomes the instance's state, whole or not at all. */
export interface ImportAuth {
  /** Which program it comes from (`omni-v1`, `evolution`, `baileys`). */
  source: string;
  /** Database rows: table → rows. */
  rows?: { [key: string]: Array<any> };
  /** Files and cache entries: name → content in base64. */
  files?: { [key: string]: string };
  /**
   * More files, when they are too many for `files`: a tar archive that the host holds, to be read with
   * `media_get`.
   */
  archive?: BlobId;
  /** Only look and report: the host stores nothing of what the call writes. */
  dryRun?: boolean;
}

/** What the host wants of a login. */
export type LoginCall =
  /** Begin, by one of the flows in the manifest, or by the channel's first. */
  | {
    type: "start";
    /** The flow's id. */
    flow?: string;
  }
  /** Tell the current step: it may have changed (a new QR code, or done). */
  | { type: "poll" }
  /** What a person entered into a form. */
  | {
    type: "submit";
    /** The step that is answered. */
    stepId: string;
    /** Field id → what was entered. */
    fields: { [key: string]: string };
  }
  /** Give up. */
  | { type: "cancel" };

/** An answer of the host. */
export type HostAnswer =
  /** An HTTP answer, of any status. One byte string: its body. */
  | {
    http: {
      /** Status and headers. */
      response: HttpResponse;
    };
  }
  /** No HTTP answer. */
  | {
    httpFailed: {
      /** Why. */
      failure: HttpFailure;
    };
  }
  /** An entry. One byte string when it was found: its value. */
  | {
    kvValue: {
      /** Whether there is one. */
      found: boolean;
    };
  }
  /** Entries. One byte string for each key: its value. */
  | {
    kvEntries: {
      /** In order. */
      keys: Array<string>;
    };
  }
  /** It is stored and durable. */
  | {
    committed: Record<string, never>;
  }
  /** The handle of stored media. */
  | {
    media: {
      /** It. */
      blob: BlobId;
    };
  }
  /** A piece of media. One byte string; shorter than asked at the end. */
  | {
    mediaBytes: {
      /** Size of the whole. */
      size: number;
    };
  }
  /** Random bytes. One byte string. */
  | {
    random: Record<string, never>;
  }
  /** The host could not or would not. */
  | {
    failed: {
      /** Why, in a sentence. */
      message: string;
    };
  };

/** Channel → host. */
export type ToHost =
  /** A question in the middle of a call. */
  | {
    call: {
      /** The call that asks; 0 for a background task. */
      call: number;
      /** Chosen by the channel, unique within the call. */
      id: number;
      /** The question. */
      request: HostRequest;
    };
  }
  /**
   * A call has ended. One byte string for each write in `commit` that is not a deletion, then one for each outcome
   * with a reply: its body.
   */
  | {
    done: {
      /** Which. */
      call: number;
      /** How. */
      result: CallResult;
      /** What is to be stored, all or nothing, and only when the call ended well. */
      commit: Commit;
    };
  }
  /** A call of an `own` channel can go on: answer with `ToChannel::Poll`. */
  | {
    wake: {
      /** Which. */
      call: number;
    };
  }
  /** The connection changed. */
  | {
    state: {
      /** What it is now. */
      state: ConnectionState;
    };
  }
  /** Something for the log. */
  | {
    log: {
      /** How important. */
      level: LogLevel;
      /** A sentence without secrets, message texts and phone numbers. */
      message: string;
    };
  }
  /** The answer to `ToChannel::Ping`. */
  | {
    pong: {
      /** Repeated. */
      nonce: number;
    };
  };

/** A question to the host. */
export type HostRequest =
  /** Make an HTTP call → `HostAnswer::Http`, `HostAnswer::HttpFailed`. */
  | {
    http: {
      /** Which. */
      http: HttpCall;
    };
  }
  /** Read an entry → `HostAnswer::KvValue`. */
  | {
    kvGet: {
      /** Which. */
      key: string;
    };
  }
  /** List entries in the order of their keys → `HostAnswer::KvEntries`. */
  | {
    kvScan: {
      /** Keys begin with it. */
      prefix: string;
      /** Only keys behind this one. */
      after?: string;
      /** How many at most; the host gives no more than 1,000. */
      limit: number;
    };
  }
  /** Store now, and answer when it is durable → `HostAnswer::Committed`. Byte strings as in `ToHost::Done`. */
  | {
    commit: {
      /** What. */
      commit: Commit;
    };
  }
  /** Store bytes as media → `HostAnswer::Media`. One byte string: the file. */
  | {
    mediaPut: {
      /** MIME type, if known. */
      mimeType?: string;
      /** Its name, if it has one. */
      fileName?: string;
    };
  }
  /** Read media that the host holds → `HostAnswer::MediaBytes`. */
  | {
    mediaGet: {
      /** Which. */
      blob: BlobId;
      /** From which byte. */
      offset: number;
      /** How many at most; the host gives no more than 1 MiB. */
      limit: number;
    };
  }
  /** Random bytes → `HostAnswer::Random`. */
  | {
    random: {
      /** How many, at most 1,024. */
      bytes: number;
    };
  };

/**
 * A call that the host makes for a channel.
 *
 * Where the URL or a header holds a secret's placeholder (see `Secrets`), the host puts the
 * secret in; a placeholder in a body stays as it is unless `secretsInBody` is set.
 */
export interface HttpCall {
  /** `GET`, `POST` … */
  method: string;
  /** Absolute, `http` or `https`. */
  url: string;
  /** In order; names in any case. */
  headers?: Array<Header>;
  /** What is sent. */
  body?: HttpBody;
  /** How long the whole call may take, in milliseconds; 30 s when absent. */
  timeoutMs?: number;
  /** Most bytes of the answer to read; 8 MiB when absent. A larger answer is an error. */
  maxBytes?: number;
  /** Whether placeholders in a JSON or form body are filled in too. */
  secretsInBody?: boolean;
}

/** The body of a call. */
export type HttpBody =
  /** Nothing. */
  | { type: "empty" }
  /** A JSON value, sent as `application/json`. */
  | {
    type: "json";
    /** The value. */
    json: any;
  }
  /** Words, with the content type that a header says. */
  | {
    type: "text";
    /** The words. */
    text: string;
  }
  /** `multipart/form-data`. */
  | {
    type: "multipart";
    /** In order. */
    parts: Array<FormPart>;
  }
  /** A file that the host holds, streamed. */
  | {
    type: "blob";
    /** Which. */
    blob: BlobId;
  };

/** One part of a form. */
export interface FormPart {
  /** The field's name. */
  name: string;
  /** A value in words. */
  text?: string;
  /** A file that the host holds. */
  blob?: BlobId;
  /** The file's name. */
  fileName?: string;
  /** The file's MIME type. */
  mimeType?: string;
}

/** What is to be stored when a call ends, in one transaction. */
export interface Commit {
  /** Events, each an `Event` as JSON, in order. */
  events?: Array<Event>;
  /** Key-value entries, in order. */
  writes?: Array<KvWrite>;
  /** Timers to be set or taken back. */
  timers?: Array<TimerSet>;
  /** What is to be done with sockets, in order, once the rest is stored. */
  sockets?: Array<SocketAct>;
  /** Whether something may have happened that the network will not tell by itself: the host asks for history. */
  missed?: boolean;
  /** Chats in which something did, which the host need not know; at most 500. */
  missedIn?: Array<MissedIn>;
}

/** One thing that happened, in one envelope for every kind. */
export interface Event {
  /**
   * What the network would deliver again. The host keeps the first event of a key and drops the others. Absent when
   * the network has nothing of the kind: the host then makes one from the content.
   */
  deliveryKey?: DeliveryKey;
  /** When it happened by the network's clock, milliseconds since 1970. Not when it arrived. */
  at: number;
  /** The chat it happened in; its order is kept within it. Absent for what belongs to no chat (presence, a call). */
  chat?: Chat;
  /** What happened. */
  body: EventBody;
  /** Whether it is news. Absent for what happened just now, as nearly everything does. */
  origin?: EventOrigin;
  /** The network's own words, stored once and untouched, so that it can be converted again after a bug was fixed. */
  raw?: any;
}

/**
 * What the network would send again if it did not know that we have it (an update id, a gateway sequence, a
 * stanza id). Made by the channel, unique within an instance; the host drops a second event with the same key.
 */
export type DeliveryKey = string;

/**
 * A conversation, with as much of it as the channel knows at this moment.
 *
 * Absent fields mean "no news", never "empty": a host keeps what it had. To clear a name, send `Some("")`.
 */
export interface Chat {
  /** The network's id for it. */
  id: ChatId;
  /** Direct, group, channel or thread. */
  kind: ChatKind;
  /** The title people see. For a direct chat usually the other side's name. */
  name?: string;
  /** The group that a topic belongs to, the channel that a thread hangs off. */
  parent?: ChatId;
  /** What it says about itself. */
  description?: string;
  /** Its picture, to be fetched later. */
  avatar?: MediaRef;
  /** How many people are in it. */
  participants?: number;
  /** Another id that this same chat is or was known by on the network; the host joins the two. */
  alsoKnownAs?: ChatId;
}

/** What sort of conversation a chat is. */
export type ChatKind =
  /** Two parties. */
  | "direct"
  /** Several people who may all write. */
  | "group"
  /** One side publishes, the other reads. */
  | "channel"
  /** A thread or topic inside another chat, which is its `parent`. */
  | "thread"
  | (string & {});

/** What happened. */
export type EventBody =
  /** Somebody wrote. */
  | ({ type: "message" } & Message)
  /** A message was changed. */
  | ({ type: "edit" } & Edit)
  /** Messages were taken back. */
  | ({ type: "delete" } & Delete)
  /** Somebody reacted, or took a reaction back. */
  | ({ type: "reaction" } & Reaction)
  /** Somebody voted in a poll. */
  | ({ type: "pollVote" } & PollVote)
  /** Somebody touched a button. */
  | ({ type: "buttonAnswer" } & ButtonAnswer)
  /** Messages were delivered, read or played. */
  | ({ type: "receipt" } & Receipt)
  /** Somebody is writing. Not stored. */
  | ({ type: "typing" } & Typing)
  /** Somebody came or went. Not stored. */
  | ({ type: "presence" } & Presence)
  /** Somebody joined, left, was made an admin. */
  | ({ type: "membership" } & Membership)
  /** A chat changed: its title, its picture, its id. */
  | ({ type: "chatUpdate" } & ChatUpdate)
  /** An account changed: its name, its picture, its phone number. */
  | ({ type: "userUpdate" } & UserUpdate)
  /** The network told us how an earlier send of ours ended. */
  | ({ type: "sendUpdate" } & SendUpdate)
  /** A call rang or ended. */
  | ({ type: "call" } & Call);

/** Who wrote something, kept apart from the account through which we saw it. */
export interface Sender {
  /** The network's id for it. */
  id: UserId;
  /** The name that people see. */
  name?: string;
  /** The handle without `@`, where the network has handles. */
  username?: string;
  /** Phone number in E.164 with `+`, only when the network vouches for it: people are recognised by it. */
  phone?: string;
  /** E-mail address, only when the network vouches for it. */
  email?: string;
  /** Their picture, to be fetched later. */
  avatar?: MediaRef;
  /** BCP 47 language tag of their app, if known. */
  language?: string;
  /** Whether it is a program. */
  isBot?: boolean;
  /** Whether the author is the account of this instance: our own echo, or a human typing on the phone. */
  isFromMe?: boolean;
  /** The chat on whose behalf it was written (a channel posting in its group, an anonymous admin). */
  onBehalfOf?: ChatId;
}

/** What a message answers, with as much of it as the network repeats. */
export interface ReplyTo {
  /** The message. */
  id: MessageId;
  /** One part of it; absent for the only part. */
  part?: PartId;
  /** The chat it is in, when it is another one. */
  chat?: ChatId;
  /** Its text, or the piece of it that was quoted. */
  quotedText?: string;
  /** Who wrote it. */
  sender?: User;
}

/** Where a forwarded message came from, as far as the network tells. */
export interface Forward {
  /** The original author. */
  sender?: User;
  /** Their name, when the network hides who they are. */
  senderName?: string;
  /** The chat it was first written in. */
  chat?: Chat;
  /** The original message. */
  message?: MessageId;
  /** When it was first written, milliseconds since 1970. */
  at?: number;
  /** How often it was forwarded before, where the network counts. */
  count?: number;
}

/** Under which ids a message that we sent came back. */
export interface Echo {
  /** The id that we chose before sending, when the network returns it. */
  clientId?: ClientId;
}

/** Somebody wrote. */
export interface Message {
  /** The message. */
  id: MessageId;
  /** One part of it; absent for the only part. */
  part?: PartId;
  /** Who wrote it. */
  sender: Sender;
  /** What it is made of. */
  content: Content;
  /** What it answers. */
  replyTo?: ReplyTo;
  /** Where it was forwarded from. */
  forward?: Forward;
  /** What binds the items of one album together; each item is a message of its own. */
  album?: string;
  /** Ids under which it came back, when it is our own. */
  echo?: Echo;
  /** When it disappears, milliseconds since 1970. */
  expiresAt?: number;
}

/** A message was changed. */
export interface Edit {
  /** The message, or the part, that was changed. */
  target: MessageRef;
  /**
   * Tells two edits apart and orders them: the network's revision, or the time of the edit in milliseconds. Of two
   * with the same revision the event with the later time counts, and of the same time the one that comes last; the
   * same content changes nothing.
   */
  revision: number;
  /** What it is now, whole. */
  content: Content;
  /** Who changed it, when that is said. */
  sender?: Sender;
}

/** Messages were taken back. They stay stored, marked as deleted. */
export interface Delete {
  /** Which. */
  targets: Array<MessageRef>;
  /** Who took them back, when that is said. */
  sender?: Sender;
  /** Whether they are gone only for this account. */
  onlyForMe?: boolean;
}

/** How a reaction event relates to what the person had before. */
export type ReactionChange =
  /** The list is everything that the person's reactions are now. */
  | "set"
  /** The list was added. */
  | "add"
  /** The list was taken away. */
  | "remove";

/** How many reacted with one emoji. */
export interface EmojiCount {
  /** The emoji itself, or the name of a custom one. */
  emoji: string;
  /** The network's id for a custom one. */
  customId?: string;
  /** How many. */
  count: number;
}

/** The reactions of one person to one message, as they are *now*: an empty list takes them all back. */
export interface Reaction {
  /** The message. */
  target: MessageRef;
  /**
   * Who reacted; absent when the network only counts (then `counts` is set), and when somebody took the reactions of
   * everybody away: with `remove` those with `emojis`, with `set` and neither emojis nor counts all of them.
   */
  sender?: Sender;
  /** What this person's reactions are now. */
  emojis?: Array<Emoji>;
  /**
   * Orders two events about the same person and message: the network's sequence, or its time in milliseconds. Of two
   * with the same revision the event with the later time counts. With `add` and `remove` it orders what was said about
   * each emoji.
   */
  revision: number;
  /** Whether `emojis` adds to what the person had (`add`), takes away from it (`remove`), or is all of it (`set`). */
  change?: ReactionChange;
  /** How many reacted with what, for networks that do not say who. */
  counts?: Array<EmojiCount>;
}

/** What one person's vote in a poll is *now*: an empty list takes it back. */
export interface PollVote {
  /** The message with the poll, when the network says which. */
  target?: MessageRef;
  /** The poll's own id, when the network gives that instead. */
  pollId?: string;
  /** Who voted; absent when the poll only counts. */
  sender?: Sender;
  /** Ids of the options they have chosen. */
  optionIds?: Array<string>;
  /** The poll as it stands, when the network sends totals. */
  poll?: Poll;
}

/** Somebody touched a button. */
export interface ButtonAnswer {
  /** The network's id for the touch, to be answered within its time. */
  id: string;
  /** The message with the button. */
  target?: MessageRef;
  /** Who touched it. */
  sender: Sender;
  /** What the button carries. */
  data?: string;
  /** The words on it. */
  text?: string;
}

/** What a receipt confirms. */
export type ReceiptKind =
  /** It reached their device. */
  | "delivered"
  /** They saw it. */
  | "read"
  /** They listened to it. */
  | "played"
  | (string & {});

/** Messages were delivered, read or played. */
export interface Receipt {
  /** What happened to them. */
  kind: ReceiptKind;
  /** Which messages. */
  targets?: Array<MessageRef>;
  /** Every message up to this time, milliseconds since 1970, for networks that say it so. */
  upTo?: number;
  /** Who received or read them. */
  sender?: Sender;
}

/** Somebody is writing. */
export interface Typing {
  /** Who. */
  sender: Sender;
  /** What they are doing. */
  activity: Activity;
  /** For how long this holds, in milliseconds, unless something newer comes. */
  timeoutMs?: number;
}

/** Whether somebody is there. */
export type PresenceState =
  /** Yes. */
  | "online"
  /** No. */
  | "offline"
  /** Away from the keyboard. */
  | "away"
  /** Does not want to be disturbed. */
  | "busy"
  | (string & {});

/** Somebody came or went. */
export interface Presence {
  /** Who. */
  user: User;
  /** Whether they are there. */
  state: PresenceState;
  /** When they were last there, milliseconds since 1970. */
  lastSeen?: number;
}

/** What happened to a member. */
export type MembershipChange =
  /** Came in. */
  | "joined"
  /** Was brought in. */
  | "added"
  /** Went. */
  | "left"
  /** Was sent away. */
  | "removed"
  /** Was sent away and may not come back. */
  | "banned"
  /** May do more. */
  | "promoted"
  /** May do less. */
  | "demoted"
  /** Asked to come in. */
  | "requested"
  | (string & {});

/** Somebody joined, left, was made an admin. */
export interface Membership {
  /** Whom it is about. */
  users: Array<User>;
  /** What happened to them. */
  change: MembershipChange;
  /** Who did it, when that is said. */
  by?: Sender;
  /** What they are now, in the network's word (`administrator`). */
  role?: string;
  /** Whether it is about the account of this instance. */
  isMe?: boolean;
}

/** A chat changed. The new state is in the event's `chat`. */
export interface ChatUpdate {
  /**
   * The id it has from now on, when the network moved it (group to supergroup): both stay one chat. The new one counts
   * its messages anew, so what was stored under the old id gets ids of its own: `<old chat>/<message>`.
   */
  movedTo?: ChatId;
  /** The id it had before, when the network says so at the new one: the same move, told from its other end. */
  movedFrom?: ChatId;
  /** Whether it is gone. */
  deleted?: boolean;
}

/** An account changed. */
export interface UserUpdate {
  /** It, as it is now. */
  user: User;
}

/** Why a request failed. Made with the constructors, which set who acts next. */
export interface SendError {
  /** What went wrong. */
  code: ErrorCode;
  /** The sentence that a person reads, without secrets: what was wrong, where, what to do. */
  message: string;
  /** Who acts next. */
  next: NextActor;
  /** How long to wait before trying again, in milliseconds, when the network said so. */
  retryAfterMs?: number;
  /** Whether it is certain that nothing was done. When it is not, the host never just repeats the request. */
  certain: boolean;
}

/** What went wrong, in words that programs can tell apart. */
export type ErrorCode =
  /** The channel cannot do this at all. */
  | "unsupported"
  /** The request does not make sense to the network. */
  | "invalid"
  /** No such chat, or this account is not in it. */
  | "chatNotFound"
  /** No such message, or it can no longer be changed. */
  | "messageNotFound"
  /** The text, the file or the list is larger than the network takes. */
  | "tooLarge"
  /** Too late: the network only allows it for a while. */
  | "tooOld"
  /** The account has no right to do this here. */
  | "forbidden"
  /** The other side has blocked the account. */
  | "blocked"
  /** Slow down. */
  | "rateLimited"
  /** The credentials are no longer good. */
  | "unauthorized"
  /** The network did not answer, or not in time. */
  | "unreachable"
  /** The network failed. */
  | "network"
  /** The instance is not connected. */
  | "notConnected"
  /** The file could not be had. */
  | "media"
  /** A bug. */
  | "internal"
  | (string & {});

/** Who has to act before the same request can succeed. */
export type NextActor =
  /** Whoever asked: the request itself is wrong (no such chat, text too long). */
  | "caller"
  /** Nobody: asked again later, perhaps after `retryAfterMs`, it may succeed. */
  | "retry"
  /** The operator: log in again, give the bot a right, pay a bill. */
  | "operator"
  /** Us: a bug in the channel or the host. */
  | "us"
  | (string & {});

/** How an earlier send of ours ended, for networks that say so later. */
export interface SendUpdate {
  /** The message. */
  target: MessageRef;
  /** Why it failed; absent when it went through. */
  error?: SendError;
}

/** A call rang or ended. */
export interface Call {
  /** The network's id for it. */
  id: string;
  /** Who calls. */
  sender: Sender;
  /** What it does now, in the network's word (`ringing`, `accepted`, `ended`, `missed`). */
  state: string;
  /** Whether it has a picture. */
  video?: boolean;
}

/** How an event came to be told when the network did not tell it as it happened. */
export type EventOrigin =
  /** It was missed while nobody listened: news all the same. */
  | "missed"
  /** It is old, and told as history: stored, but neither unread nor answered. */
  | "history"
  | (string & {});

/** One key-value entry to be written; its value lies beside the JSON. */
export interface KvWrite {
  /** At most 400 bytes. */
  key: string;
  /** Whether it is taken away: then there is no value. */
  delete?: boolean;
}

/** A timer to be set or taken back. */
export interface TimerSet {
  /** Its name; setting a name again moves it. */
  tag: string;
  /** When it is due, in milliseconds from now; taken back when absent. */
  afterMs?: number;
}

/**
 * What is to be done with a WebSocket of the ingress once the call has ended well and what it emitted is durable. Made with
 * `Context::socket_send` and its neighbours, in any call: that of a timer or a request, too.
 */
export interface SocketAct {
  /** Which socket. */
  tag: string;
  /** Text frames to be written, in order. They are dropped when the socket is not open. */
  send?: Array<string>;
  /** Close it afterwards, with this code. The host tells that it closed, and opens it again. */
  close?: number;
  /** Where it is opened the next time. Where that fails, and after an empty one, it is opened where the ingress says. */
  url?: string;
  /** How long to wait before it is opened the next time, in milliseconds, instead of the host's own backoff. */
  reopenAfterMs?: number;
}

/** A chat in which something happened that the network will not tell by itself. */
export interface MissedIn {
  /** Which. */
  chat: ChatId;
  /** Behind which message; the id need not be that of one that there is, where the network's rise with time. */
  after?: MessageId;
}

/** How a call ended. */
export type CallResult =
  /** Well. */
  | { ok: Output }
  /** Not. */
  | { err: Failure };

/** What a call gives back when it ended well. */
export type Output =
  /** The instance runs. */
  | {
    started: {
      /** Its ways in. */
      ingress: Array<Ingress>;
      /** The first call of each long poll. */
      polls: Array<NextPoll>;
    };
  }
  /** The events were taken. */
  | {
    events: {
      /** One for each, in order. */
      outcomes: Array<OutcomeHead>;
      /** The next call of each long poll that answered. */
      polls: Array<NextPoll>;
    };
  }
  /** The request was answered. */
  | {
    reply: {
      /** With what. */
      reply: Reply;
    };
  }
  /** The login moved. */
  | {
    login: {
      /** To which step. */
      step: LoginStep;
    };
  }
  /** The instance has ended. */
  | {
    stopped: Record<string, never>;
  };

/** A way in, declared when an instance starts. The host does the waiting for all but `own`. */
export type Ingress =
  /**
   * The host repeats an HTTP call and hands over each answer. The call is asked for anew each time
   * (`Channel::next_poll`), so an offset in it moves with what was committed.
   */
  | ({ type: "longPoll" } & LongPoll)
  /** The host holds a WebSocket open. */
  | ({ type: "websocket" } & Websocket)
  /** The host takes HTTP requests from the network. */
  | ({ type: "webhook" } & Webhook)
  /** The host calls at regular times. */
  | ({ type: "timer" } & Timer)
  /** The channel brings its own network library and calls `accept` itself. Native only. */
  | ({ type: "own" } & Own);

/** The host repeats an HTTP call. */
export interface LongPoll {
  /** Tells several polls of one channel apart. */
  tag?: string;
  /** Shortest time between two calls, in milliseconds; 0 for a server that holds the call itself. */
  minIntervalMs?: number;
}

/** The host holds a WebSocket open, reconnects with backoff and hands over each frame. */
export interface Websocket {
  /** Tells several sockets of one channel apart. */
  tag?: string;
  /** `ws` or `wss`. */
  url: string;
  /** Where it is opened the first time, when that is elsewhere; where that fails, it is opened at `url`. */
  firstUrl?: string;
  /** Sent with the upgrade. */
  headers?: Array<Header>;
  /** Closed when nothing at all came for this long, in milliseconds; 90 s when absent. */
  idleMs?: number;
}

/** A proof that a request is from the network. All that are listed must hold. */
export type Verify =
  /** A header equals a secret. */
  | ({ type: "headerEquals" } & HeaderEquals)
  /** A header holds the HMAC-SHA256 of the raw body. */
  | ({ type: "hmacSha256" } & HmacSha256)
  /** A header holds a time that is not far from now. */
  | ({ type: "timestampWindow" } & TimestampWindow);

/** A header equals a secret; compared in constant time. */
export interface HeaderEquals {
  /** The header. */
  header: string;
  /** What it must say; usually a secret's placeholder. */
  value: string;
}

/** A header holds the HMAC-SHA256 of the raw body. */
export interface HmacSha256 {
  /** The header. */
  header: string;
  /** What stands before the hex digits in it (`sha256=`). */
  prefix?: string;
  /** The key; usually a secret's placeholder. */
  key: string;
}

/** A header holds a time (seconds since 1970) that is not far from now. */
export interface TimestampWindow {
  /** The header. */
  header: string;
  /** How far it may be off, in seconds, either way. */
  seconds: number;
}

/**
 * The network asks `GET ?hub.mode=subscribe&hub.verify_token=…&hub.challenge=…` (as WebSub does, and Meta's platforms): with
 * the right token the host answers the challenge as plain text, else with 403.
 */
export interface HubChallenge {
  /** What the network was told to show; compared in constant time. Usually a secret's placeholder, or random. */
  token: string;
}

/**
 * The host takes HTTP requests from the network, on its own address under the instance's webhook path, and on an
 * address of its own where `listen` says so.
 */
export interface Webhook {
  /**
   * An address (`127.0.0.1:9000`) that the host opens for this instance alone; every path and method there is
   * handed over.
   */
  listen?: string;
  /** How the host proves that a request is from the network, before the channel is called. Refused with 401. */
  verify?: Array<Verify>;
  /** Largest body in bytes; 1 MiB when absent. Refused with 413. */
  maxBodyBytes?: number;
  /**
   * How the network makes sure that the address is ours, before it sends anything there. The host answers; the channel is
   * not called, and nothing of `verify` has to hold.
   */
  challenge?: HubChallenge;
}

/** The host calls at regular times. */
export interface Timer {
  /** Its name, handed back with each call. */
  tag: string;
  /** Time between two calls, in milliseconds. */
  everyMs: number;
}

/** The channel brings its own network library. */
export interface Own {
}

/** What the host is asked to poll next. `HttpCall` with the tag of its `LongPoll`. */
export interface NextPoll {
  /** Which poll. */
  tag?: string;
  /** What to call. */
  call: HttpCall;
}

/** An `EventOutcome` without the body of its reply, which lies beside the JSON. */
export interface OutcomeHead {
  /** Status and headers of the webhook's answer. */
  reply?: HttpResponse;
  /** What is written to the socket. */
  socketSend?: Array<string>;
  /** How long to wait before the next poll, in milliseconds. */
  pollAfterMs?: number;
}

/** What a channel answers. */
export type Reply =
  /** The network took the message. */
  | ({ type: "sent" } & SendReceipt)
  /** It is done. */
  | ({ type: "done" } & Nothing)
  /** A page of history. */
  | ({ type: "history" } & HistoryPage)
  /** A page of a directory. */
  | ({ type: "directory" } & DirectoryPage)
  /** An account. */
  | ({ type: "profile" } & ProfileReply)
  /** A group. */
  | ({ type: "group" } & GroupReply)
  /** What an address is; nothing when there is no such thing. */
  | ({ type: "address" } & AddressReply)
  /** How a file can be had. */
  | ({ type: "media" } & MediaReply)
  /** Whether a send happened. */
  | ({ type: "reconciled" } & Reconciled)
  /** What can be done. */
  | ({ type: "capabilities" } & Capabilities)
  /** What was taken over. */
  | ({ type: "authImported" } & AuthReport)
  /** The auth state. */
  | ({ type: "authExported" } & AuthExport);

/** What the network said when it took a message. "Taken", never "read". */
export interface SendReceipt {
  /** The id that the network gave the message. */
  messageId: MessageId;
  /** Which part of it, when it is one of several. */
  part?: PartId;
  /** When the network took it, milliseconds since 1970; the host's own time when absent. */
  at?: number;
  /** The chat it really went to, when that is another id than was asked for: both are one chat from then on. */
  chatId?: ChatId;
  /** The chat that the message began, and is in: a post of a forum. What was asked for stays what it is. */
  began?: Chat;
  /** The receipts of the other items of an album, in order. */
  album?: Array<SendReceipt>;
}

/** A page of history. */
export interface HistoryPage {
  /** From old to new, reactions and edits among them. */
  events: Array<Event>;
  /** Where to go on; absent at the end. */
  cursor?: string;
}

/** A page of a directory. */
export interface DirectoryPage {
  /** Accounts, for contacts and members. */
  users?: Array<User>;
  /** Chats, for chats and spaces. */
  chats?: Array<Chat>;
  /** Where to go on; absent at the end. */
  cursor?: string;
}

/** Who an account is on its network. */
export interface Profile {
  /** The account's id on the network. */
  id: string;
  /** The name that people see. */
  name?: string;
  /** The handle without `@`, or the phone number in E.164. */
  username?: string;
  /** Its picture, as a public address. */
  avatarUrl?: string;
}

/** An account. */
export interface ProfileReply {
  /** It. */
  profile: Profile;
  /** What it says about itself. */
  about?: string;
  /** Who may see or do what, in the network's own words, of the own account alone. */
  privacy?: { [key: string]: string };
}

/** A group. */
export interface GroupReply {
  /** It, as it is now. */
  chat: Chat;
  /** Its invite link, when that was asked for. */
  invite?: string;
}

/** What an address is. */
export interface AddressReply {
  /** The account behind it. */
  user?: User;
  /** The chat to write to. */
  chat?: Chat;
}

/**
 * A file that is encrypted with AES-256 in CBC mode (PKCS#7 padding) and followed by the first bytes of an HMAC-SHA256 over
 * the initialization vector and the ciphertext, as Signal and WhatsApp keep files.
 */
export interface SealedMedia {
  /** The key, 32 bytes in hex digits. */
  key: string;
  /** The initialization vector, 16 bytes in hex digits. */
  iv: string;
  /** The key of the HMAC, in hex digits. */
  macKey: string;
  /** How many bytes of the HMAC stand at the end, 10 to 32. */
  macLength: number;
  /** SHA-256 of the opened file in hex digits, if it is known. */
  sha256?: string;
}

/** How a file can be had. The host makes the call and streams the answer, opened where it is sealed, into its media store. */
export interface MediaReply {
  /** What to call. */
  call: HttpCall;
  /** MIME type, when better known than by the answer's header. */
  mimeType?: string;
  /** Its name. */
  fileName?: string;
  /** Its size in bytes, if known before. */
  size?: number;
  /**
   * How what comes is sealed, on networks that keep files end-to-end encrypted. A file that does not open so is not
   * stored.
   */
  sealed?: SealedMedia;
}

/** Whether a send with an unknown outcome happened. */
export type Reconciled =
  /** It did. */
  | {
    outcome: "sent";
    /** What the network calls it. */
    receipt: SendReceipt;
  }
  /** It certainly did not: it may be sent again. */
  | { outcome: "notSent" }
  /** The network cannot tell. */
  | { outcome: "unresolved" };

/** Limits on one type of content. */
export interface ContentLimits {
  /** Longest text, or caption, in `unit`s. */
  maxLength?: number;
  /** What `maxLength` counts. */
  unit?: LengthUnit;
  /** Largest file in bytes. */
  maxBytes?: number;
  /** MIME types that it takes, `image/*` allowed; any when empty. */
  mimeTypes?: Array<string>;
  /** Most options of a poll, or buttons, or contact cards. */
  maxItems?: number;
  /** Longest of those in characters. */
  maxItemLength?: number;
  /**
   * Whether the network reads Markdown in the words: where a text is cut, blocks of code (```` ``` ````) stay whole, or are
   * closed and opened again.
   */
  markdown?: boolean;
  /** Whether the network itself can fetch a public address, so that the host need not. */
  byUrl?: boolean;
}

/** What a length counts. */
export type LengthUnit =
  /** Unicode scalar values. */
  | "chars"
  /** UTF-16 code units. */
  | "utf16"
  /** Bytes of UTF-8. */
  | "bytes";

/** Limits on one type of request. */
export interface RequestLimits {
  /** How old a message may be, in seconds. */
  maxAgeSeconds?: number;
  /** Most reactions of one account to one message; 1 when not said. */
  maxItems?: number;
  /** The only values that it takes (a list of emoji), any when empty. */
  allowed?: Array<string>;
}

/** Whether our own id of a message travels with it. */
export type ClientIdSupport =
  /** It does not: the network makes the id, and the answer to the send is all that tells it. */
  | "none"
  /** It comes back with our echo, beside the network's id. */
  | "nonce"
  /** It *is* the network's id. */
  | "chosen"
  | (string & {});

/**
 * What a channel can do in general, or (narrowed) in one chat. Absent means "cannot".
 *
 * Every capability that is declared here has a name, `Capabilities::names`, and the conformance kit fails a channel
 * that declares one which no test proves.
 */
export interface Capabilities {
  /** The sorts of chat it has. */
  chatKinds?: Array<ChatKind>;
  /** What can be sent, by content type (`text`, `image`, `location` …). */
  send?: { [key: string]: ContentLimits };
  /** What can be asked for beside sending, by request type (`edit`, `react`, `history` …). */
  requests?: { [key: string]: RequestLimits };
  /** Kinds of event it reports (`message`, `edit`, `reaction` …). */
  events?: Array<string>;
  /** Whether a message can answer another. */
  reply?: boolean;
  /** The kinds of formatting that arrive as meant, by entity type; others are sent as their plain words. */
  formatting?: Array<string>;
  /** Most items in an album, when it has albums. */
  albumMaxItems?: number;
  /** Whether the id of a sent message can be told before it is sent. */
  clientId?: ClientIdSupport;
}

/** A record that was left behind. */
export interface SkippedRecord {
  /** Its name in the source (`session-5511999990001.0`). */
  record: string;
  /** Why, in a sentence. */
  reason: string;
}

/** What was taken over from another program. */
export interface AuthReport {
  /** What was there, kind → how many. */
  found?: { [key: string]: number };
  /** What was taken over, kind → how many. */
  imported?: { [key: string]: number };
  /** Records that were left behind because they are no good. */
  skipped?: Array<SkippedRecord>;
  /** What should be there and is not, a sentence each (`keys: there are no sessions`). */
  missing?: Array<string>;
  /** Whether the account was logged in: what came over should connect without a new login. */
  paired?: boolean;
  /** What was left behind and why, a sentence each. */
  warnings?: Array<string>;
  /** The account that it is. */
  profile?: Profile;
}

/** The auth state, as files of the program that the channel's format is known from. */
export interface AuthExport {
  /** Name → content in base64. */
  files?: { [key: string]: string };
}

/** A step of a login. */
export interface LoginStep {
  /** Stable as long as the step is the same; a new QR code of the same login keeps it. */
  stepId: string;
  /** What to show or ask. */
  show: LoginShow;
  /** One sentence for the person: what to do now. */
  instructions?: string;
  /** When it stops being good, milliseconds since 1970. */
  expiresAt?: number;
}

/** What a login step shows or asks. */
export type LoginShow =
  /** A QR code to be scanned. */
  | ({ type: "qr" } & ShowQr)
  /** A code to be typed elsewhere. */
  | ({ type: "code" } & ShowCode)
  /** Fields to be filled in. */
  | ({ type: "form" } & ShowForm)
  /** A page to be opened. */
  | ({ type: "openUrl" } & ShowUrl)
  /** Nothing to do but wait; poll again. */
  | ({ type: "wait" } & ShowNothing)
  /** Logged in. */
  | ({ type: "done" } & ShowNothing)
  /** It failed; starting again may help. */
  | ({ type: "failed" } & ShowFailure);

/** A QR code. */
export interface ShowQr {
  /** What the code says; the host draws it. */
  data: string;
}

/** A code to be typed elsewhere. */
export interface ShowCode {
  /** The code. */
  code: string;
}

/** One field of a form. */
export interface FormField {
  /** Its key in `LoginCall::Submit`. */
  id: string;
  /** What stands beside it. */
  label: string;
  /** What it takes. */
  kind: FieldKind;
  /** A regular expression (ECMA 262) that it must match. */
  pattern?: string;
  /** Where to find it, in a sentence. */
  help?: string;
  /** What may be chosen, for a `select`. */
  options?: Array<string>;
}

/** What a form field takes. */
export type FieldKind =
  /** Any line of text. */
  | "text"
  /** Something that must not be shown while it is typed, nor stored in clear. */
  | "secret"
  /** A phone number in E.164. */
  | "phone"
  /** A code that was sent elsewhere. */
  | "code"
  /** An address. */
  | "url"
  /** One of `options`. */
  | "select"
  | (string & {});

/** Fields to be filled in. */
export interface ShowForm {
  /** In order. */
  fields: Array<FormField>;
}

/** A page to be opened. */
export interface ShowUrl {
  /** Its address. */
  url: string;
}

/** Nothing to show. */
export interface ShowNothing {
}

/** Why a login failed. */
export interface ShowFailure {
  /** The sentence that a person reads. */
  message: string;
}

/** Why a call failed. */
export interface Failure {
  /** What went wrong and who acts next. */
  error: SendError;
  /** The connection's state from now on, when the failure is about the connection. */
  state?: ConnectionState;
  /** Whether the channel panicked. */
  panicked?: boolean;
}

/** What the connection of an instance is doing. Connecting cannot fail as a call: a channel reports states. */
export type ConnectionState =
  /** On the way. */
  | { state: "connecting" }
  /** Messages flow. */
  | {
    state: "connected";
    /** Who this account is on the network. */
    profile?: Profile;
    /** What the network does not let it do for now, although it is connected. */
    limited?: Limited;
  }
  /** Somebody has to log in: the current login step says how. */
  | { state: "waiting_for_login" }
  /** Not connected at this moment; the host tries again by itself. */
  | {
    state: "disconnected";
    /** Why, in a sentence. */
    reason: string;
    /** Whether trying again may help. When not, somebody has to change something first. */
    transient: boolean;
  }
  /** The network no longer accepts the credentials. The host does not try again. */
  | {
    state: "logged_out";
    /** Why, in a sentence. */
    reason: string;
    /** What a person has to do now, in a sentence. */
    userAction: string;
  };

/** What a network does not let an account do for a while. */
export interface Limited {
  /** What, and why, in a sentence. */
  reason: string;
  /** Until when, milliseconds since 1970, if that is known. */
  until?: number;
}

/** How important a log line is. */
export type LogLevel =
  /** For whoever debugs the channel. */
  | "debug"
  /** For whoever wants to see what it does. */
  | "info"
  /** Something is odd, and it goes on. */
  | "warn"
  /** Something failed, and a person should look. */
  | "error";

/** What the author of a channel writes: the file `channel.json` beside the sources. */
export interface ChannelManifest {
  /**
   * Lower-case letters, digits and dashes, 1 to 50 of them: what `channel` says in the API. The same in every
   * version.
   */
  id: string;
  /** Other names that it is asked for by. What is stored has the id. */
  aliases?: Array<string>;
  /** The network's name as people know it. */
  name: string;
  /** One sentence. */
  description?: string;
  /**
   * Whether a native file is to have a process of its own, also where the host trusts it as itself: because of its licence,
   * or of what it may do to its neighbours. An operator may decide otherwise.
   */
  ownProcess?: boolean;
  /** How its secrets reach it. */
  secrets?: Secrets;
  /** What it can do. */
  capabilities: Capabilities;
  /**
   * JSON Schema (2020-12) of its configuration. `"writeOnly": true` marks a secret, `"format": "uri"` an address,
   * `"default"` what holds when nothing is said.
   */
  configSchema?: any;
  /** The ways to log in, best first. Empty for a channel that needs no more than its configuration. */
  loginFlows?: Array<LoginFlow>;
  /** The version of what it keeps in its key-value store. A host refuses an older number over newer state. */
  stateVersion?: number;
  /**
   * Hosts that it talks to: `example.org`, `*.example.org` for all below it, `*` for any, and with a scheme in front
   * (`wss://gateway.example.org`) by that scheme only. In a sandbox it can go to no other, but for those that its
   * configuration points it at. Not enforced on native plugins, which have sockets of their own.
   */
  hosts?: Array<string>;
  /**
   * How addresses begin that are no ids (`user:`), or what they are (`default`): the host asks the channel what they lead to
   * (`Resolve`). What begins with `@` or `+` always is one.
   */
  addresses?: Array<string>;
  /** The most that it needs, so that a host need not give it more. */
  limits?: Needs;
}

/** How a channel's secrets reach it. */
export type Secrets =
  /**
   * It never sees them: its configuration holds placeholders, and the host fills them in where they stand in the
   * URL or a header of a call. The only way for WASM.
   */
  | "placeholder"
  /** It gets them in clear. Needed by a channel with its own network library. */
  | "plain";

/** One way to log in. */
export interface LoginFlow {
  /** Its id. */
  id: string;
  /** What a person chooses by (`Scan a QR code`). */
  name: string;
  /** What kind of thing it begins with. */
  kind: FlowKind;
}

/** What a login flow begins with. */
export type FlowKind =
  /** A QR code. */
  | "qr"
  /** A code to be typed elsewhere. */
  | "code"
  /** A form. */
  | "form"
  /** A page to be opened. */
  | "oauth"
  | (string & {});

/** The most that a channel needs. What is absent is for the host to say; a host never gives more than its operator lets it. */
export interface Needs {
  /** Bytes of memory of an instance in a sandbox, or of the plugin's process. */
  memoryBytes?: number;
  /** Bytes that an instance keeps in its key-value store. */
  stateBytes?: number;
  /** Events that one call emits. */
  eventsPerCall?: number;
  /** Bytes of events and entries of one call. */
  bytesPerCall?: number;
  /** What an instance in a sandbox may compute on one frame, in units of about one instruction each. */
  fuelPerFrame?: number;
  /** Entries in the tables of an instance in a sandbox, which point at its functions. */
  tableEntries?: number;
}
