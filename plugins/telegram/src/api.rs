//! What we read of the Bot API's objects, and nothing else of them.
//!
//! Written by hand so that a peer cannot break us: only an id that nothing works without is required. Every other field
//! that is missing, or is not what it should be, reads as absent, and an element of a list that does not fit is left
//! out; one new enum word of Telegram's must not cost the whole message. The update itself is kept raw beside the event.

use omni_channel_sdk::lenient::Id;
use omni_channel_sdk::lenient_objects;
use serde_json::Value;

lenient_objects! {
    User {
        must id: i64;
        may is_bot: bool, first_name: String, last_name: String, username: String, language_code: String;
    }
    /// Also `ChatFullInfo`, which has more fields of the same object.
    Chat {
        must id: i64;
        may r#type: String, title: String, username: String, first_name: String, last_name: String, photo: ChatPhoto,
            bio: String, description: String, invite_link: String;
    }
    ChatPhoto { must big_file_id: String; }
    Entity {
        must r#type: String, offset: u32, length: u32;
        may url: String, user: User, language: String, custom_emoji_id: String;
    }
    /// Every kind of file: photo size, audio, document, video, animation, voice, video note, sticker.
    File {
        must file_id: String;
        may file_size: u64, width: u32, height: u32, length: u32, duration: u64, file_name: String, mime_type: String,
            emoji: String, is_animated: bool, is_video: bool, file_path: String;
    }
    Location {
        must latitude: f64, longitude: f64;
        may horizontal_accuracy: f64, live_period: u64, heading: u16;
    }
    Venue { must location: Location; may title: String, address: String; }
    Contact { must phone_number: String; may first_name: String, last_name: String, user_id: i64, vcard: String; }
    Dice { must emoji: String, value: i64; }
    Poll {
        must id: Id;
        may question: String, is_closed: bool, is_anonymous: bool, allows_multiple_answers: bool, close_date: i64;
        list options: PollOption;
    }
    PollOption { must text: String; may voter_count: u64; }
    PollAnswer {
        must poll_id: Id;
        may user: User, voter_chat: Chat;
        list option_ids: i64;
    }
    Origin {
        may date: i64, sender_user: User, sender_user_name: String, sender_chat: Chat, chat: Chat, message_id: i64;
    }
    Quote { must text: String; }
    ExternalReply { may origin: Origin, chat: Chat, message_id: i64; }
    Topic { may name: String; }
    DirectTopic { must topic_id: i64; }
    Keyboard { list inline_keyboard: Vec<KeyboardButton>; }
    KeyboardButton { may text: String, callback_data: String; }
    /// A message, or the little that is said of one that can no longer be read.
    Message {
        must message_id: i64, chat: Chat;
        may date: i64, edit_date: i64, message_thread_id: i64, is_topic_message: bool, direct_messages_topic: DirectTopic,
            business_connection_id: Id, from: User, sender_chat: Chat, forward_origin: Origin,
            reply_to_message: Box<Message>, external_reply: ExternalReply, quote: Quote, media_group_id: String,
            text: String, rich_message: Value, caption: String, animation: File, audio: File, document: File,
            live_photo: File, sticker: File, video: File, video_note: File, voice: File, contact: Contact, dice: Dice,
            poll: Poll, venue: Venue, location: Location, left_chat_member: User, new_chat_title: String,
            delete_chat_photo: bool, group_chat_created: bool, supergroup_chat_created: bool,
            channel_chat_created: bool, migrate_to_chat_id: i64, migrate_from_chat_id: i64,
            pinned_message: Box<Message>, forum_topic_created: Topic, forum_topic_edited: Topic, reply_markup: Keyboard;
        list entities: Entity, caption_entities: Entity, photo: File, new_chat_members: User, new_chat_photo: File;
    }
    ReactionType { must r#type: String; may emoji: String, custom_emoji_id: String; }
    ReactionUpdate {
        must chat: Chat, message_id: i64;
        may date: i64, user: User, actor_chat: Chat;
        list new_reaction: ReactionType;
    }
    ReactionCountUpdate {
        must chat: Chat, message_id: i64;
        may date: i64;
        list reactions: ReactionCount;
    }
    ReactionCount { must r#type: ReactionType; may total_count: u64; }
    CallbackQuery { must id: String, from: User; may message: Message, data: String; }
    Member { must status: String, user: User; may is_member: bool; }
    MemberUpdate {
        must chat: Chat, from: User, old_chat_member: Member, new_chat_member: Member;
        may date: i64, via_join_request: bool, invite_link: Value;
    }
    /// A chat as `getChat` tells of it.
    FullChat {
        must id: i64;
        may r#type: String, permissions: Rights, available_reactions: Vec<ReactionType>;
    }
    /// What a member may do, or all of them.
    Rights {
        may status: String, is_member: bool, can_send_messages: bool, can_send_audios: bool, can_send_documents: bool,
            can_send_photos: bool, can_send_videos: bool, can_send_voice_notes: bool, can_send_polls: bool,
            can_send_other_messages: bool, can_react_to_messages: bool, can_post_messages: bool;
    }
    WebhookInfo { may url: String, pending_update_count: i64, last_error_date: i64, last_error_message: String; }
    JoinRequest { must chat: Chat, from: User; may date: i64; }
    DeletedMessages {
        must chat: Chat;
        may business_connection_id: Id;
        list message_ids: i64;
    }
}

/// A time of the Bot API in milliseconds. It counts seconds; a test server that is in use counts milliseconds, which is
/// told by the size. What lies outside of this century is no time.
pub fn millis(date: Option<i64>) -> Option<i64> {
    const FROM: i64 = 946_684_800;
    const TO: i64 = 4_102_444_800;
    match date? {
        seconds @ FROM..TO => Some(seconds * 1000),
        millis if (FROM * 1000..TO * 1000).contains(&millis) => Some(millis),
        _ => None,
    }
}
