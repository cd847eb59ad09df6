//! A message as a call of the Bot API. Pure.

use crate::client::{ApiCall, Upload};
use crate::convert::{Target, text};
use omni_channel_sdk::content::{Button, Buttons, ContactCard, LiveLocation, Location, Poll};
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::EditMessage;
use serde_json::Map;

/// Largest file that Telegram's own server takes of a bot, in bytes. A server with --local takes 2,000 MB, which is what
/// the manifest says.
const MAX_UPLOAD: u64 = 50 * 1024 * 1024;
/// Most bytes that a button can carry.
const MAX_BUTTON_DATA: usize = 64;

/// The call that sends a message.
pub fn send_call(send: &request::Send, target: &Target) -> Result<ApiCall, SendError> {
    let mut call =
        if send.album.is_empty() { content_call(&send.content)? } else { album_call(&send.content, &send.album)? };
    target.name_place(&mut call.params);
    if let Some(answered) = send.reply_to.as_ref().filter(|answered| !is_of_before(&answered.id)) {
        // Should the other message be gone by now, the words still arrive.
        let reply = json!({"message_id": message_id(&answered.id)?, "allow_sending_without_reply": true});
        call.set("reply_parameters", reply);
    }
    let flag = |name: &str| send.options.get(name).and_then(Value::as_bool) == Some(true);
    if flag("disableNotification") {
        call.set("disable_notification", true);
    }
    if flag("protectContent") {
        call.set("protect_content", true);
    }
    if flag("disableLinkPreview") && call.method == "sendMessage" {
        call.set("link_preview_options", json!({"is_disabled": true}));
    }
    Ok(call)
}

/// Whether a message is of the time before its group became a supergroup: the host then has the old chat in its id.
fn is_of_before(id: &MessageId) -> bool {
    id.as_str().contains('/')
}

/// The number of a message.
pub fn message_id(id: &MessageId) -> Result<i64, SendError> {
    let gone = |what: String| SendError::new(ErrorCode::MessageNotFound, NextActor::Caller, what);
    if is_of_before(id) {
        return Err(gone(OF_BEFORE.to_owned()));
    }
    id.as_str().parse().map_err(|_| gone(format!("{id} is no Telegram message: it must be a number")))
}

/// Why a message of before cannot be touched.
pub const OF_BEFORE: &str = "the group has become a supergroup, and what was written before that can no longer be changed, reacted to or deleted";

/// Refuses a file that Telegram's own server would not take.
pub fn check_size(content: &Content) -> Result<(), SendError> {
    let size = content.media().filter(|media| media.blob.is_some()).and_then(|media| media.size);
    match size {
        Some(size) if size > MAX_UPLOAD => Err(SendError::new(
            ErrorCode::TooLarge,
            NextActor::Operator,
            format!(
                "the file has {size} bytes, and Telegram's own server takes 50 MB of a bot: run a Bot API server of your \
                 own with --local, and set apiBaseUrl and fileBaseUrl to it"
            ),
        )),
        _ => Ok(()),
    }
}

/// Several files in one call. Telegram mixes photos and videos; audios and documents stay among themselves.
fn album_call(first: &Content, others: &[Content]) -> Result<ApiCall, SendError> {
    let mut call = ApiCall::new("sendMediaGroup", json!({}));
    let mut items = Vec::with_capacity(1 + others.len());
    let mut sorts = Vec::new();
    for (index, content) in std::iter::once(first).chain(others).enumerate() {
        let (kind, default_name, media) = match content {
            Content::Image(media) => ("photo", "image.jpg", media),
            Content::Video(media) if !media.animation => ("video", "video.mp4", media),
            Content::Audio(media) if !media.voice => ("audio", "audio.mp3", media),
            Content::Document(media) => ("document", "file", media),
            other => return Err(SendError::invalid(format!("Telegram has no {} in an album", other.kind()))),
        };
        sorts.push(if kind == "video" { "photo" } else { kind });
        items.push(input_media(kind, media, &format!("file{index}"), default_name, &mut call)?);
    }
    if !(2..=10).contains(&items.len()) || sorts.iter().any(|sort| *sort != sorts[0]) {
        return Err(SendError::invalid(
            "a Telegram album has 2 to 10 items: photos and videos, or only audios, or only documents",
        ));
    }
    call.set("media", items);
    Ok(call)
}

/// A file as an item of an album, or as what a message becomes.
fn input_media(
    kind: &'static str,
    media: &Media,
    field: &str,
    default_name: &str,
    call: &mut ApiCall,
) -> Result<Value, SendError> {
    let mut item = Map::new();
    let name = match source(media) {
        Some(Source::Named(name)) => name,
        Some(Source::Upload(blob)) => {
            call.uploads.push(upload(media, field, blob, default_name));
            format!("attach://{field}")
        }
        None => return Err(SendError::invalid("the file has neither a reference, nor a blob, nor a url")),
    };
    item.insert("type".to_owned(), kind.into());
    item.insert("media".to_owned(), name.into());
    set_caption(&mut item, media.caption.as_ref());
    Ok(item.into())
}

fn content_call(content: &Content) -> Result<ApiCall, SendError> {
    Ok(match content {
        Content::Text(words) => text_call("sendMessage", words),
        Content::Image(media) => media_call("sendPhoto", "photo", media, "image.jpg")?,
        Content::Audio(media) if media.voice => media_call("sendVoice", "voice", media, "voice.ogg")?,
        Content::Audio(media) => media_call("sendAudio", "audio", media, "audio.mp3")?,
        Content::Video(media) if media.animation => media_call("sendAnimation", "animation", media, "animation.mp4")?,
        Content::Video(media) => media_call("sendVideo", "video", media, "video.mp4")?,
        Content::Document(media) => media_call("sendDocument", "document", media, "file")?,
        Content::Sticker(media) => media_call("sendSticker", "sticker", media, "sticker.webp")?,
        Content::Location(place) => location_call(place),
        Content::LiveLocation(place) => live_location_call("sendLocation", place),
        Content::Contact(cards) => contact_call(&cards.contacts)?,
        Content::Poll(poll) => poll_call(poll),
        Content::Buttons(buttons) => buttons_call("sendMessage", buttons)?,
        Content::System(_) | Content::Unknown(_) => return Err(SendError::unsupported(content.kind())),
    })
}

fn text_call(method: &'static str, words: &Text) -> ApiCall {
    let mut call = ApiCall::new(method, json!({"text": words.text}));
    set_entities(&mut call.params, "entities", words);
    call
}

fn set_entities(params: &mut Map<String, Value>, name: &str, words: &Text) {
    let entities = text::outbound(words);
    if !entities.is_empty() {
        params.insert(name.to_owned(), entities.into());
    }
}

fn set_caption(params: &mut Map<String, Value>, caption: Option<&Text>) {
    if let Some(caption) = caption.filter(|caption| !caption.text.is_empty()) {
        params.insert("caption".to_owned(), caption.text.as_str().into());
        set_entities(params, "caption_entities", caption);
    }
}

/// Takes all formatting out of a call; whether there was any.
pub fn without_formatting(call: &mut ApiCall) -> bool {
    let mut found = ["entities", "caption_entities"].iter().filter(|name| call.params.remove(**name).is_some()).count();
    let items = match call.params.get_mut("media") {
        Some(Value::Array(items)) => items.as_mut_slice(),
        Some(item) => std::slice::from_mut(item),
        None => &mut [],
    };
    for item in items.iter_mut().filter_map(Value::as_object_mut) {
        found += usize::from(item.remove("caption_entities").is_some());
    }
    found > 0
}

/// Where Telegram has a file from: a file of its own, a public address, or an upload along with the call.
enum Source {
    Named(String),
    Upload(BlobId),
}

fn source(media: &Media) -> Option<Source> {
    let named = media.reference.as_ref().map(|reference| Source::Named(reference.0.clone()));
    let upload = || media.blob.clone().map(Source::Upload);
    named.or_else(upload).or_else(|| media.url.clone().map(Source::Named))
}

fn upload(media: &Media, field: &str, blob: BlobId, default_name: &str) -> Upload {
    let file_name = media.file_name.clone().filter(|name| !name.is_empty());
    Upload {
        field: field.to_owned(),
        blob,
        file_name: file_name.unwrap_or_else(|| default_name.to_owned()),
        mime_type: media.mime_type.clone(),
    }
}

fn media_call(
    method: &'static str,
    field: &'static str,
    media: &Media,
    default_name: &str,
) -> Result<ApiCall, SendError> {
    let mut call = ApiCall::new(method, json!({}));
    match source(media) {
        Some(Source::Named(name)) => call.set(field, name),
        Some(Source::Upload(blob)) => call.uploads.push(upload(media, field, blob, default_name)),
        None => return Err(SendError::invalid("the file has neither a reference, nor a blob, nor a url")),
    }
    if field == "sticker" {
        return Ok(call);
    }
    set_caption(&mut call.params, media.caption.as_ref());
    if field != "photo" && field != "document" {
        set_measures(&mut call.params, media, field);
    }
    Ok(call)
}

/// Telegram measures what it fetches itself; an upload in an odd format it would show wrongly.
fn set_measures(params: &mut Map<String, Value>, media: &Media, field: &str) {
    if let Some(duration) = media.duration_ms {
        params.insert("duration".to_owned(), duration.div_ceil(1000).into());
    }
    if field == "video" || field == "animation" {
        for (name, pixels) in [("width", media.width), ("height", media.height)] {
            pixels.into_iter().for_each(|pixels| drop(params.insert(name.to_owned(), pixels.into())));
        }
    }
}

fn location_call(place: &Location) -> ApiCall {
    let Location { latitude, longitude, name, address, accuracy } = place;
    if let Some(title) = name.as_ref().or(address.as_ref()) {
        let address = address.as_ref().unwrap_or(title);
        let venue = json!({"latitude": latitude, "longitude": longitude, "title": title, "address": address});
        return ApiCall::new("sendVenue", venue);
    }
    let mut call = ApiCall::new("sendLocation", json!({"latitude": latitude, "longitude": longitude}));
    accuracy.iter().for_each(|metres| call.set("horizontal_accuracy", *metres));
    call
}

fn live_location_call(method: &'static str, live: &LiveLocation) -> ApiCall {
    let Location { latitude, longitude, accuracy, .. } = &live.location;
    let mut call = ApiCall::new(method, json!({"latitude": latitude, "longitude": longitude}));
    accuracy.iter().for_each(|metres| call.set("horizontal_accuracy", *metres));
    live.heading.into_iter().for_each(|degrees| call.set("heading", degrees));
    // Telegram takes a minute to a day, or no end at all.
    let period = live.period_seconds.map(|seconds| if seconds > 86_400 { 0x7FFF_FFFF } else { seconds.max(60) });
    if method == "sendLocation" {
        call.set("live_period", period.unwrap_or(3_600));
    }
    call
}

fn contact_call(cards: &[ContactCard]) -> Result<ApiCall, SendError> {
    let [card] = cards else {
        return Err(SendError::invalid("Telegram sends one contact card in a message"));
    };
    let Some(phone) = card.phones.first() else {
        return Err(SendError::invalid("Telegram sends no contact card without a phone number"));
    };
    let (first, last) = card.name.split_once(' ').unwrap_or((&card.name, ""));
    let first = if first.is_empty() { phone } else { first };
    let mut call = ApiCall::new("sendContact", json!({"phone_number": phone, "first_name": first}));
    if !last.is_empty() {
        call.set("last_name", last);
    }
    card.vcard.iter().for_each(|vcard| call.set("vcard", vcard.as_str()));
    Ok(call)
}

fn poll_call(poll: &Poll) -> ApiCall {
    let options: Vec<Value> = poll.options.iter().map(|option| json!({"text": option.text})).collect();
    // Telegram's own default is anonymous, so it is always said.
    let mut call = ApiCall::new(
        "sendPoll",
        json!({"question": poll.question, "options": options, "is_anonymous": poll.anonymous}),
    );
    if poll.max_choices.is_some_and(|choices| choices > 1) {
        call.set("allows_multiple_answers", true);
    }
    if poll.closed {
        call.set("is_closed", true);
    }
    poll.closes_at.into_iter().for_each(|at| call.set("close_date", at / 1000));
    call
}

fn buttons_call(method: &'static str, buttons: &Buttons) -> Result<ApiCall, SendError> {
    let mut call = text_call(method, &buttons.text);
    let rows = buttons.rows.iter().filter(|row| !row.is_empty());
    let rows: Result<Vec<Vec<Value>>, SendError> = rows.map(|row| row.iter().map(button).collect()).collect();
    call.set("reply_markup", json!({"inline_keyboard": rows?}));
    Ok(call)
}

fn button(button: &Button) -> Result<Value, SendError> {
    if let Some(url) = &button.url {
        return Ok(json!({"text": button.text, "url": url}));
    }
    let data = button.data.as_ref().unwrap_or(&button.text);
    if data.is_empty() || data.len() > MAX_BUTTON_DATA {
        let message = format!("the button {:?} carries {} bytes; Telegram takes 1 to 64", button.text, data.len());
        return Err(SendError::new(ErrorCode::TooLarge, NextActor::Caller, message));
    }
    Ok(json!({"text": button.text, "callback_data": data}))
}

/// The call that changes a message.
pub fn edit_call(edit: &EditMessage) -> Result<ApiCall, SendError> {
    let mut call = match &edit.content {
        Content::Text(words) => text_call("editMessageText", words),
        Content::Buttons(buttons) => buttons_call("editMessageText", buttons)?,
        Content::Image(media) => edit_media("photo", media, "image.jpg"),
        Content::Audio(media) if !media.voice => edit_media("audio", media, "audio.mp3"),
        Content::Audio(media) => edit_caption(media.caption.as_ref()),
        Content::Video(media) if media.animation => edit_media("animation", media, "animation.mp4"),
        Content::Video(media) => edit_media("video", media, "video.mp4"),
        Content::Document(media) => edit_media("document", media, "file"),
        Content::LiveLocation(place) => live_location_call("editMessageLiveLocation", place),
        other => {
            let message = format!("Telegram does not let a bot change a message to {}", other.kind());
            return Err(SendError::new(ErrorCode::Unsupported, NextActor::Caller, message));
        }
    };
    Target::parse(&edit.chat)?.name_chat(&mut call.params);
    call.set("message_id", message_id(&edit.target.id)?);
    Ok(call)
}

fn edit_caption(caption: Option<&Text>) -> ApiCall {
    let mut call = ApiCall::new("editMessageCaption", json!({}));
    set_caption(&mut call.params, caption);
    call
}

/// The same change of words, for a message that turns out to be a file with words below it.
pub fn edit_caption_instead(call: &ApiCall) -> Option<ApiCall> {
    let mut instead = ApiCall { method: "editMessageCaption", ..call.clone() };
    let words = instead.params.remove("text")?;
    instead.set("caption", words);
    if let Some(entities) = instead.params.remove("entities") {
        instead.set("caption_entities", entities);
    }
    Some(instead)
}

/// A file that is not said stays; only the words below it change.
fn edit_media(kind: &'static str, media: &Media, default_name: &str) -> ApiCall {
    let mut call = ApiCall::new("editMessageMedia", json!({}));
    match input_media(kind, media, "file", default_name, &mut call) {
        Ok(new) => {
            call.set("media", new);
            call
        }
        Err(_) => edit_caption(media.caption.as_ref()),
    }
}
