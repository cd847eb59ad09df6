//! What a message is made of.
//!
//! Files are named by their `file_id`, which stays good for this bot as long as Telegram keeps the file. What the host
//! has no word for is kept by its name; all of it is in the raw update.

use crate::api;
use crate::convert::{people, text};
use omni_channel_sdk::Unknown;
use omni_channel_sdk::content::{ContactCard, Contacts, LiveLocation, Location, Poll, PollOption};
use omni_channel_sdk::prelude::*;
use serde_json::Map;

/// Fields of a message that say around it, not what it is made of.
const AROUND: [&str; 40] = [
    "message_id",
    "message_thread_id",
    "direct_messages_topic",
    "from",
    "sender_chat",
    "sender_boost_count",
    "sender_business_bot",
    "sender_tag",
    "date",
    "guest_query_id",
    "business_connection_id",
    "chat",
    "forward_origin",
    "is_topic_message",
    "is_automatic_forward",
    "reply_to_message",
    "external_reply",
    "quote",
    "reply_to_story",
    "reply_to_checklist_task_id",
    "reply_to_poll_option_id",
    "via_bot",
    "guest_bot_caller_user",
    "guest_bot_caller_chat",
    "edit_date",
    "has_protected_content",
    "is_from_offline",
    "is_paid_post",
    "media_group_id",
    "author_signature",
    "paid_star_count",
    "link_preview_options",
    "effect_id",
    "caption",
    "caption_entities",
    "show_caption_above_media",
    "has_media_spoiler",
    "suggested_post_info",
    "reply_markup",
    "entities",
];

/// The content of a message that somebody wrote, and the name of what it is where we have no word for it.
pub fn content(message: &api::Message, raw: &Value) -> Content {
    known(message).unwrap_or_else(|| {
        let kind = raw.as_object().into_iter().flat_map(Map::keys).find(|name| !AROUND.contains(&name.as_str()));
        // Marked as Telegram's word, for one of the host's own would promise that content's fields.
        let kind = format!("telegram.{}", kind.map_or("empty", String::as_str));
        Content::Unknown(Unknown { kind, fields: Map::new() })
    })
}

fn known(message: &api::Message) -> Option<Content> {
    let words = || message.text.as_ref().map(|words| Content::Text(text::inbound(words.clone(), &message.entities)));
    // Some test servers give every message a text, and an empty one to a picture.
    if message.text.as_deref().is_some_and(|text| !text.is_empty()) {
        return words();
    }
    if let Some(rich) = &message.rich_message {
        return Some(Content::text(text::rich(rich)));
    }
    if let Some(content) = media(message) {
        return Some(content);
    }
    if let Some(venue) = &message.venue {
        let mut place = location(&venue.location);
        place.name = venue.title.clone();
        place.address = venue.address.clone();
        return Some(Content::Location(place));
    }
    if let Some(place) = &message.location {
        return Some(match place.live_period {
            Some(period) => Content::LiveLocation(LiveLocation {
                location: location(place),
                period_seconds: Some(period),
                heading: place.heading,
            }),
            None => Content::Location(location(place)),
        });
    }
    if let Some(card) = &message.contact {
        return Some(Content::Contact(Contacts { contacts: vec![contact(card)] }));
    }
    if let Some(found) = &message.poll {
        return Some(Content::Poll(poll(found)));
    }
    message.dice.as_ref().map(|dice| Content::text(format!("{} {}", dice.emoji, dice.value))).or_else(words)
}

fn media(message: &api::Message) -> Option<Content> {
    let caption = message.caption.as_ref().map(|words| text::inbound(words.clone(), &message.caption_entities));
    let with = |file: &api::File, mime_type: &str| Media { caption: caption.clone(), ..self::file(file, mime_type) };
    // An animation comes with a document beside it, for readers that do not know animations.
    if let Some(found) = &message.animation {
        return Some(Content::Video(Media { animation: true, ..with(found, "video/mp4") }));
    }
    if let Some(found) = message.photo.iter().max_by_key(|size| pixels(size)) {
        return Some(Content::Image(with(found, "image/jpeg")));
    }
    if let Some(found) = &message.voice {
        return Some(Content::Audio(Media { voice: true, ..with(found, "audio/ogg") }));
    }
    if let Some(found) = &message.audio {
        return Some(Content::Audio(with(found, "audio/mpeg")));
    }
    if let Some(found) = message.video.as_ref().or(message.live_photo.as_ref()) {
        return Some(Content::Video(with(found, "video/mp4")));
    }
    if let Some(found) = &message.video_note {
        return Some(Content::Video(with(found, "video/mp4")));
    }
    if let Some(found) = &message.sticker {
        return Some(Content::Sticker(sticker(found)));
    }
    message.document.as_ref().map(|found| {
        let mut media = with(found, "");
        media.mime_type = found.mime_type.clone();
        Content::Document(media)
    })
}

fn pixels(size: &api::File) -> (u64, u64) {
    let area = u64::from(size.width.unwrap_or(0)) * u64::from(size.height.unwrap_or(0));
    (area, size.file_size.unwrap_or(0))
}

fn file(file: &api::File, mime_type: &str) -> Media {
    Media {
        reference: Some(MediaRef::new(&file.file_id)),
        mime_type: Some(file.mime_type.clone().unwrap_or_else(|| mime_type.to_owned())),
        file_name: file.file_name.clone(),
        size: file.file_size,
        // A video note has one length for both.
        width: file.width.or(file.length),
        height: file.height.or(file.length),
        duration_ms: file.duration.map(|seconds| seconds.saturating_mul(1000)),
        ..Media::default()
    }
}

fn sticker(found: &api::File) -> Media {
    let mime_type = match (found.is_animated, found.is_video) {
        (Some(true), _) => "application/x-tgsticker",
        (_, Some(true)) => "video/webm",
        _ => "image/webp",
    };
    Media { emoji: found.emoji.clone(), ..file(found, mime_type) }
}

fn location(place: &api::Location) -> Location {
    Location {
        latitude: place.latitude,
        longitude: place.longitude,
        name: None,
        address: None,
        accuracy: place.horizontal_accuracy,
    }
}

fn contact(card: &api::Contact) -> ContactCard {
    let names = [card.first_name.as_deref(), card.last_name.as_deref()];
    let names: Vec<&str> = names.into_iter().flatten().filter(|name| !name.is_empty()).collect();
    ContactCard {
        name: names.join(" "),
        phones: vec![card.phone_number.clone()],
        user: card.user_id.map(|id| User::new(UserId::new(id))),
        vcard: card.vcard.clone(),
        ..ContactCard::default()
    }
}

/// A poll as it stands. Its options are named by their position, as votes name them.
pub fn poll(found: &api::Poll) -> Poll {
    let options: Vec<PollOption> = found
        .options
        .iter()
        .enumerate()
        .map(|(position, option)| PollOption {
            id: position.to_string(),
            text: option.text.clone(),
            votes: option.voter_count,
        })
        .collect();
    let several = found.allows_multiple_answers == Some(true);
    Poll {
        id: Some(found.id.as_str().to_owned()),
        question: found.question.clone().unwrap_or_default(),
        max_choices: several.then(|| u32::try_from(options.len()).unwrap_or(u32::MAX)),
        options,
        anonymous: found.is_anonymous.unwrap_or(false),
        closed: found.is_closed.unwrap_or(false),
        closes_at: api::millis(found.close_date),
    }
}

/// The words of a message, for a quotation of it.
pub fn words(message: &api::Message) -> Option<String> {
    message.text.clone().or_else(|| message.caption.clone())
}

/// The author of a message, or the chat in whose name it was written.
pub fn author(message: &api::Message) -> Option<User> {
    message.sender_chat.as_ref().map(people::chat_as_user).or_else(|| message.from.as_ref().map(people::user))
}
