//! A message to be sent → what Discord takes, pure.
//!
//! Nobody is addressed by accident: people whom the words name are, roles and everybody only where the message says so as
//! an entity or in `options.allowedMentions`.

use crate::client::Upload;
use crate::convert::markdown;
use base64::Engine;
use omni_channel_sdk::content::{Button, Buttons, EntityKind, Media, MentionTarget, Poll, Text};
use omni_channel_sdk::prelude::*;
use serde_json::Map;
use std::collections::BTreeMap;

/// Most characters of a message.
pub const LONGEST: usize = 2_000;
/// Flags of a message: no unfolded links, no sound, a voice note, for one person only.
const SUPPRESS_EMBEDS: u64 = 1 << 2;
const EPHEMERAL: u64 = 1 << 6;
const SILENT: u64 = 1 << 12;
const VOICE: u64 = 1 << 13;
/// A poll lasts at most so many hours, and this long when it is not said.
const POLL_HOURS: (i64, i64) = (768, 24);
const HOUR_MS: i64 = 3_600_000;

/// A message as Discord takes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body {
    /// The fields.
    pub fields: Map<String, Value>,
    /// The files that go along.
    pub files: Vec<Upload>,
}

impl Body {
    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.fields.insert(name.to_owned(), value.into());
    }

    fn flag(&mut self, flag: u64) {
        let flags = self.fields.get("flags").and_then(Value::as_u64).unwrap_or(0);
        self.set("flags", flags | flag);
    }
}

/// The message of a send. `now` is for how long a poll lasts.
pub fn message(
    content: &Content,
    album: &[Content],
    options: &BTreeMap<String, Value>,
    now: i64,
) -> Result<Body, SendError> {
    let mut body = Body::default();
    body.set("allowed_mentions", mentions(content.words(), options));
    match content {
        Content::Text(text) => put_words(&mut body, text),
        Content::Image(_) | Content::Audio(_) | Content::Video(_) | Content::Document(_) | Content::Sticker(_) => {
            for item in std::iter::once(content).chain(album) {
                put_file(&mut body, item)?;
            }
        }
        Content::Poll(poll) => body.set("poll", self::poll(poll, now)?),
        Content::Buttons(buttons) => {
            put_words(&mut body, &buttons.text);
            body.set("components", rows(buttons)?);
        }
        other => return Err(SendError::unsupported(other.kind())),
    }
    for (name, field) in
        [("embeds", "embeds"), ("components", "components"), ("stickers", "sticker_ids"), ("tts", "tts")]
    {
        if let Some(value) = options.get(name) {
            body.set(field, value.clone());
        }
    }
    for (name, flag) in [("suppressEmbeds", SUPPRESS_EMBEDS), ("silent", SILENT), ("ephemeral", EPHEMERAL)] {
        if options.get(name) == Some(&json!(true)) {
            body.flag(flag);
        }
    }
    Ok(body)
}

/// Words with their marks; without them where they would make it too long.
fn put_words(body: &mut Body, text: &Text) {
    let marked = markdown::write(text);
    let fits = marked.encode_utf16().count() <= LONGEST;
    body.set("content", if fits { marked } else { text.text.clone() });
}

/// Who is really addressed.
pub fn mentions(words: Option<&Text>, options: &BTreeMap<String, Value>) -> Value {
    if let Some(allowed) = options.get("allowedMentions") {
        return allowed.clone();
    }
    let entities = words.into_iter().flat_map(|words| &words.entities);
    let targets: Vec<&MentionTarget> = entities
        .filter_map(|entity| match &entity.kind {
            EntityKind::Mention(mention) => Some(&mention.target),
            _ => None,
        })
        .collect();
    let mut parse = vec!["users"];
    if targets.iter().any(|target| matches!(target, MentionTarget::Everyone | MentionTarget::Here)) {
        parse.push("everyone");
    }
    if targets.contains(&&MentionTarget::Role) {
        parse.push("roles");
    }
    json!({"parse": parse, "replied_user": true})
}

fn put_file(body: &mut Body, content: &Content) -> Result<(), SendError> {
    let Some(media) = content.media() else { return Err(SendError::unsupported(content.kind())) };
    let Some(blob) = &media.blob else {
        return Err(SendError::new(
            ErrorCode::Media,
            NextActor::Caller,
            "there is no file to send: Discord fetches none by address",
        ));
    };
    let index = body.files.len();
    let file_name = file_name(content, media);
    let mut attachment = json!({"id": index.to_string(), "filename": file_name});
    if let Content::Audio(Media { voice: true, duration_ms: Some(duration), .. }) = content
        && media.caption.as_ref().is_none_or(|caption| caption.text.is_empty())
        && index == 0
    {
        // Discord shows a voice note only with its length and its loudness.
        attachment["duration_secs"] = json!(*duration as f64 / 1_000.0);
        attachment["waveform"] = json!(waveform(&media.waveform));
        body.flag(VOICE);
    }
    match body.fields.get_mut("attachments").and_then(Value::as_array_mut) {
        Some(attachments) => attachments.push(attachment),
        None => body.set("attachments", vec![attachment]),
    }
    if let Some(caption) = media.caption.as_ref().filter(|caption| !caption.text.is_empty()) {
        match body.fields.get("content").and_then(Value::as_str).map(str::to_owned) {
            // An album has one text.
            Some(before) => body.set("content", format!("{before}\n{}", markdown::write(caption))),
            None => put_words(body, caption),
        }
    }
    body.files.push(Upload { blob: blob.clone(), file_name, mime_type: media.mime_type.clone() });
    Ok(())
}

/// The host's loudness is 0 to 100, Discord's 0 to 255.
fn waveform(loudness: &[u8]) -> String {
    let bytes: Vec<u8> = loudness.iter().take(256).map(|loud| (u16::from(*loud).min(100) * 255 / 100) as u8).collect();
    let bytes = if bytes.is_empty() { vec![0] } else { bytes };
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn file_name(content: &Content, media: &Media) -> String {
    if let Some(name) = media.file_name.as_ref().filter(|name| !name.is_empty()) {
        return name.clone();
    }
    let ending = media.mime_type.as_deref().and_then(|mime| mime.split(['/', ';']).nth(1)).unwrap_or("bin");
    let ending = match ending {
        "jpeg" => "jpg",
        "mpeg" => "mp3",
        "quicktime" => "mov",
        "plain" => "txt",
        other if other.len() <= 5 && other.bytes().all(|byte| byte.is_ascii_alphanumeric()) => other,
        _ => "bin",
    };
    format!("{}.{ending}", content.kind())
}

fn poll(poll: &Poll, now: i64) -> Result<Value, SendError> {
    if poll.anonymous {
        return Err(SendError::unsupported("secret votes: on Discord everybody sees who voted"));
    }
    let (most, usual) = POLL_HOURS;
    let hours =
        poll.closes_at.map_or(usual, |at| (at - now).max(1).div_euclid(HOUR_MS) + i64::from((at - now) % HOUR_MS > 0));
    let answers: Vec<Value> = poll.options.iter().map(|option| json!({"poll_media": {"text": option.text}})).collect();
    Ok(json!({
        "question": {"text": poll.question},
        "answers": answers,
        "duration": hours.clamp(1, most),
        "allow_multiselect": poll.max_choices.is_some_and(|choices| choices > 1),
        "layout_type": 1,
    }))
}

/// Rows of at most five buttons; a list becomes a menu, and addresses stay buttons below it.
pub fn rows(buttons: &Buttons) -> Result<Value, SendError> {
    let all: Vec<&Button> = buttons.rows.iter().flatten().collect();
    let mut rows: Vec<Value> = Vec::new();
    if let Some(title) = &buttons.list_title {
        let (choices, links): (Vec<&Button>, Vec<&Button>) =
            all.iter().copied().partition(|button| button.url.is_none());
        let entries: Vec<Value> = choices.iter().map(|button| entry(button)).collect();
        if !entries.is_empty() {
            let menu =
                json!({"type": 3, "custom_id": "omni:menu", "placeholder": shorten(title, 150), "options": entries});
            rows.push(json!({"type": 1, "components": [menu]}));
        }
        rows.extend(links.chunks(5).map(row));
    } else {
        for wanted in &buttons.rows {
            let wanted: Vec<&Button> = wanted.iter().collect();
            rows.extend(wanted.chunks(5).map(row));
        }
    }
    if rows.len() > 5 {
        // One below the other is wider on Discord: what does not fit so goes side by side.
        rows = all.chunks(5).map(row).collect();
    }
    if rows.len() > 5 {
        return Err(SendError::new(ErrorCode::TooLarge, NextActor::Caller, "Discord takes 25 buttons, five in a row"));
    }
    Ok(json!(rows))
}

fn row(buttons: &[&Button]) -> Value {
    let buttons: Vec<Value> = buttons.iter().map(|button| self::button(button)).collect();
    json!({"type": 1, "components": buttons})
}

fn button(button: &Button) -> Value {
    let label = shorten(&button.text, 80);
    match &button.url {
        Some(url) => json!({"type": 2, "style": 5, "label": label, "url": url}),
        None => {
            json!({"type": 2, "style": 1, "label": label, "custom_id": button.data.as_deref().unwrap_or(&button.text)})
        }
    }
}

fn entry(button: &Button) -> Value {
    let mut entry =
        json!({"label": shorten(&button.text, 100), "value": button.data.as_deref().unwrap_or(&button.text)});
    if let Some(description) = &button.description {
        entry["description"] = json!(shorten(description, 100));
    }
    entry
}

fn shorten(words: &str, most: usize) -> String {
    if words.chars().count() <= most {
        return words.to_owned();
    }
    words.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use omni_channel_sdk::content::{Entity, Mention, Plain};

    fn words(text: &str) -> Content {
        Content::Text(Text::plain(text))
    }

    fn built(content: &Content) -> Value {
        Value::Object(message(content, &[], &BTreeMap::new(), 0).expect("it can be sent").fields)
    }

    #[test]
    fn nobody_is_addressed_by_accident() {
        let plain = built(&words("@everyone hello <@5>"));
        assert_eq!(plain["allowed_mentions"], json!({"parse": ["users"], "replied_user": true}));
        let meant = |target| {
            let mention = EntityKind::Mention(Mention { user: None, target });
            let entities = vec![Entity { offset: 0, length: 9, kind: mention }];
            built(&Content::Text(Text { text: "@everyone".into(), entities }))["allowed_mentions"]["parse"].clone()
        };
        assert_eq!(meant(MentionTarget::Everyone), json!(["users", "everyone"]));
        assert_eq!(meant(MentionTarget::Role), json!(["users", "roles"]));
    }

    #[test]
    fn marks_that_make_a_text_too_long_are_left_away() {
        let text = "x".repeat(LONGEST);
        let bold = Entity { offset: 0, length: 5, kind: EntityKind::Bold(Plain {}) };
        let long = built(&Content::Text(Text { text: text.clone(), entities: vec![bold] }));
        assert_eq!(long["content"], json!(text));
    }

    #[test]
    fn a_poll_lasts_whole_hours() {
        let lasting = |closes_at| {
            let poll = Poll { question: "?".into(), closes_at, ..Poll::default() };
            built(&Content::Poll(poll))["poll"]["duration"].clone()
        };
        assert_eq!(lasting(None), json!(24));
        assert_eq!(lasting(Some(HOUR_MS)), json!(1));
        assert_eq!(lasting(Some(HOUR_MS + 1)), json!(2));
        assert_eq!(lasting(Some(i64::MAX)), json!(768));
        assert_eq!(lasting(Some(-5)), json!(1));
    }

    #[test]
    fn more_rows_than_fit_go_side_by_side() {
        let one = |text: &str| vec![Button { text: text.into(), ..Button::default() }];
        let many = Buttons { rows: (0..7).map(|n| one(&n.to_string())).collect(), ..Buttons::default() };
        let rows = rows(&many).expect("they fit");
        assert_eq!(rows.as_array().map(Vec::len), Some(2));
        let too_many = Buttons { rows: (0..26).map(|n| one(&n.to_string())).collect(), ..Buttons::default() };
        assert!(super::rows(&too_many).is_err());
    }
}
