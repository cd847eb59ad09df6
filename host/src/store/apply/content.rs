//! The content of a message in the store's words, which are Omni v2's. Pure.

use crate::store::messages::MessageRow;
use omni_channel_sdk::chat::ChatKind;
use omni_channel_sdk::content::{Content, EntityKind, Media};
use serde::Serialize;
use std::borrow::Cow;

/// How much of a message is shown in a list of chats.
const PREVIEW_CHARACTERS: usize = 100;

/// `dm`, `group`, `channel` or `thread`.
pub(in crate::store) fn chat_type(kind: &ChatKind) -> &'static str {
    match kind {
        ChatKind::Direct => "dm",
        ChatKind::Channel => "channel",
        ChatKind::Thread => "thread",
        // A kind that is not known has several people in it until somebody says otherwise.
        ChatKind::Group | ChatKind::Other(_) => "group",
    }
}

/// `text`, `image` …; content that is not known is kept whole and shown as `system`.
pub(in crate::store) fn message_type(content: &Content) -> &'static str {
    match content {
        Content::Text(_) | Content::Buttons(_) => "text",
        Content::Image(_) => "image",
        Content::Audio(_) => "audio",
        Content::Video(_) => "video",
        Content::Document(_) => "document",
        Content::Sticker(_) => "sticker",
        Content::Location(_) | Content::LiveLocation(_) => "location",
        Content::Contact(_) => "contact",
        Content::Poll(_) => "poll",
        Content::System(_) | Content::Unknown(_) => "system",
    }
}

/// The words in it.
pub(super) fn text(content: &Content) -> Option<&str> {
    match content {
        Content::Poll(poll) => Some(&poll.question),
        Content::Location(location) => location.name.as_deref(),
        Content::LiveLocation(live) => live.location.name.as_deref(),
        Content::Contact(contacts) => contacts.contacts.first().map(|card| card.name.as_str()),
        Content::System(system) => system.text.as_deref().or(Some(&system.event)),
        other => other.words().map(|words| words.text.as_str()),
    }
}

/// Whether a stored message is of the same sort and has the same words. Of what has no words there is no telling.
pub(super) fn says_the_same(row: &MessageRow, content: &Content) -> bool {
    let plain = |words: &str| Some(words.trim().to_owned()).filter(|words| !words.is_empty());
    let stored = row.text_content.as_deref().and_then(plain);
    stored.is_some() && row.message_type == message_type(content) && stored == text(content).and_then(plain)
}

/// What a list of chats shows of words.
pub(in crate::store) fn preview_of_text(text: &str) -> String {
    text.chars().take(PREVIEW_CHARACTERS).collect()
}

/// What a list of chats shows of it.
pub(super) fn preview(content: &Content) -> String {
    match text(content) {
        Some(text) if !text.is_empty() => preview_of_text(text),
        _ => format!("[{}]", message_type(content)),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MediaMetadata<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_size: Option<u64>,
    is_voice_note: bool,
    is_gif: bool,
    #[serde(skip_serializing_if = "<[u8]>::is_empty")]
    waveform: &'a [u8],
}

/// What is known of a file, in Omni v2's shape.
pub(super) fn media_metadata(media: &Media) -> String {
    json(&MediaMetadata {
        width: media.width,
        height: media.height,
        duration_seconds: media.duration_ms.map(|millis| millis as f64 / 1_000.0),
        file_name: media.file_name.as_deref(),
        file_size: media.size,
        is_voice_note: media.voice,
        is_gif: media.animation,
        waveform: &media.waveform,
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MentionInfo<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    platform_user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<Cow<'a, str>>,
    start_index: u32,
    length: u32,
    #[serde(rename = "type")]
    target: &'a str,
}

/// Who is addressed in it, in Omni v2's shape; `None` when nobody is.
pub(super) fn mentions(content: &Content) -> Option<String> {
    let words = content.words()?;
    let found: Vec<MentionInfo<'_>> = words
        .entities
        .iter()
        .filter_map(|entity| match &entity.kind {
            EntityKind::Mention(mention) => Some(MentionInfo {
                platform_user_id: mention.user.as_ref().map(|user| user.id.as_str()),
                display_name: match mention.user.as_ref().and_then(|user| user.name.as_deref()) {
                    Some(name) => Some(Cow::Borrowed(name)),
                    None => utf16(&words.text, entity.offset, entity.length).map(Cow::Owned),
                },
                start_index: entity.offset,
                length: entity.length,
                target: mention.target.as_str(),
            }),
            _ => None,
        })
        .collect();
    (!found.is_empty()).then(|| json(&found))
}

/// A piece of a text, counted in UTF-16 code units; `None` when there is no such piece.
fn utf16(text: &str, offset: u32, length: u32) -> Option<String> {
    let start = usize::try_from(offset).ok()?;
    let units: Vec<u16> = text.encode_utf16().skip(start).take(usize::try_from(length).ok()?).collect();
    String::from_utf16(&units).ok().filter(|piece| !piece.is_empty())
}

/// Our own types as JSON.
pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("our own types have string keys and finite numbers")
}

#[cfg(test)]
mod tests {
    use super::*;
    use omni_channel_sdk::content::{Entity, Mention, MentionTarget, Text};

    #[test]
    fn a_mention_behind_an_emoji_is_cut_in_utf16_units() {
        let content = Content::Text(Text {
            text: "👋 @ana hello".into(),
            entities: vec![Entity {
                offset: 3,
                length: 4,
                kind: EntityKind::Mention(Mention { user: None, target: MentionTarget::User }),
            }],
        });
        assert_eq!(
            mentions(&content).as_deref(),
            Some(r#"[{"displayName":"@ana","startIndex":3,"length":4,"type":"user"}]"#)
        );
    }

    #[test]
    fn a_mention_outside_of_the_text_has_no_name() {
        assert_eq!(utf16("ab", 5, 3), None);
        assert_eq!(utf16("👋", 0, 1), None, "half a character is none");
        assert_eq!(utf16("ab", u32::MAX, u32::MAX), None);
    }

    #[test]
    fn a_preview_is_cut_by_characters_and_names_what_has_no_words() {
        assert_eq!(preview(&Content::text("é".repeat(200))).chars().count(), PREVIEW_CHARACTERS);
        assert_eq!(preview(&Content::Image(Media::default())), "[image]");
    }
}
