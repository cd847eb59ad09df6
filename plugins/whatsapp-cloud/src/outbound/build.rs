//! A message as the Graph API takes it. Pure.

use super::{object, option};
use crate::config::Config;
use crate::convert::people::{is_number, is_user_id};
use omni_channel_sdk::content::{Button, Buttons, ContactCard, Location};
use omni_channel_sdk::markup::Markup;
use omni_channel_sdk::prelude::*;

/// How WhatsApp formats.
const MARKS: Markup = Markup { bold: "*", italic: "_", strikethrough: "~", code: "`", pre: "```" };
/// The longest text, and the longest beneath a file or above buttons, in UTF-16 units.
const MAX_TEXT: usize = 4096;
const MAX_BELOW: usize = 1024;
/// The most buttons beneath a message; more are a list.
const MAX_BUTTONS: usize = 3;
/// The most of each that Meta takes, in characters: the words on a button, on a row of a list and below them, and what they
/// carry.
const BUTTON_WORDS: usize = 20;
const ROW_WORDS: usize = 24;
const ROW_BELOW: usize = 72;
const MAX_DATA: usize = 200;
/// The words on the button that opens a list, when nobody says.
const OPENS: &str = "Options";
/// The most parameters of a template that are looked at, in bytes of JSON.
const MAX_TEMPLATE: usize = 64 * 1024;

/// To whom a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A phone number, in digits.
    Number(String),
    /// A business-scoped user id.
    User(String),
    /// A group.
    Group(String),
}

impl Target {
    /// Reads a chat id of ours.
    pub fn parse(id: &ChatId) -> Result<Self, SendError> {
        let words = id.as_str();
        let number = words.strip_prefix('+').unwrap_or(words);
        if is_number(number) {
            return Ok(Self::Number(number.to_owned()));
        }
        if is_user_id(words) {
            return Ok(Self::User(words.to_owned()));
        }
        let is_word =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'=' | b':' | b'+' | b'/');
        if words.len() >= 8 && words.bytes().all(is_word) && words.bytes().any(|byte| byte.is_ascii_alphabetic()) {
            return Ok(Self::Group(words.to_owned()));
        }
        let what = "it must be a phone number in digits with its country, a user id (US.1349…), or a group's id";
        Err(SendError::new(
            ErrorCode::ChatNotFound,
            NextActor::Caller,
            format!("{id} is no chat of WhatsApp's: {what}"),
        ))
    }

    /// Meta's id.
    pub fn id(&self) -> &str {
        match self {
            Self::Number(id) | Self::User(id) | Self::Group(id) => id,
        }
    }

    /// Whether it is a phone number.
    pub fn is_number(&self) -> bool {
        matches!(self, Self::Number(_))
    }
}

/// What every message has.
pub fn envelope(target: &Target, kind: &str) -> Value {
    let recipient_type = if matches!(target, Target::Group(_)) { "group" } else { "individual" };
    let mut json = json!({"messaging_product": "whatsapp", "recipient_type": recipient_type, "type": kind});
    let field = if matches!(target, Target::User(_)) { "recipient" } else { "to" };
    json[field] = target.id().into();
    json
}

/// Says that a message was read.
pub fn read(message: &MessageId) -> Value {
    json!({"messaging_product": "whatsapp", "status": "read", "message_id": message})
}

/// The message, but for the id of a file that is uploaded first.
pub fn message(send: &request::Send, target: &Target, config: &Config) -> Result<Value, SendError> {
    let mut json = match option(&send.options, "template") {
        Some(_) if send.part > 0 => {
            return Err(SendError::invalid(
                "a template goes out once: the text that is to be shown for it here is too long",
            ));
        }
        Some(template) => {
            let mut json = envelope(target, "template");
            json["template"] = self::template(template)?;
            json
        }
        None => content(&send.content, target, config)?,
    };
    if let Some(answered) = &send.reply_to {
        json["context"] = json!({"message_id": answered.id});
    }
    json["biz_opaque_callback_data"] = send.client_id.as_str().into();
    Ok(json)
}

/// Refuses what WhatsApp has no message for.
pub fn can_send(content: &Content) -> Result<(), SendError> {
    match content {
        Content::LiveLocation(_) | Content::Poll(_) | Content::System(_) | Content::Unknown(_) => {
            Err(unsupported(content))
        }
        _ => Ok(()),
    }
}

fn unsupported(content: &Content) -> SendError {
    let json = serde_json::to_value(content).unwrap_or_default();
    SendError::unsupported(&format!("sending {}", json["type"].as_str().unwrap_or("this")))
}

fn content(content: &Content, target: &Target, config: &Config) -> Result<Value, SendError> {
    let of = |kind: &str, value: Value| {
        let mut json = envelope(target, kind);
        json[kind] = value;
        json
    };
    Ok(match content {
        Content::Text(text) => {
            let words = written(text, MAX_TEXT);
            let has_link = words.contains("https://") || words.contains("http://");
            of("text", json!({"body": words, "preview_url": config.link_previews && has_link}))
        }
        Content::Image(media) => of("image", file(media, true, false)),
        Content::Video(media) => of("video", file(media, true, false)),
        Content::Audio(media) => of("audio", file(media, false, false)),
        Content::Sticker(media) => of("sticker", file(media, false, false)),
        Content::Document(media) => of("document", file(media, true, true)),
        Content::Location(place) => of("location", location(place)),
        Content::Contact(contacts) => {
            let cards = contacts.contacts.iter().map(card).collect::<Result<Vec<_>, _>>()?;
            of("contacts", cards.into())
        }
        Content::Buttons(buttons) => of("interactive", interactive(buttons)?),
        other => return Err(unsupported(other)),
    })
}

/// Under which name a file goes out that the host holds. A template names its own.
pub fn upload(send: &request::Send) -> Option<(&'static str, BlobId)> {
    if option(&send.options, "template").is_some() {
        return None;
    }
    let (kind, media) = match &send.content {
        Content::Image(media) => ("image", media),
        Content::Video(media) => ("video", media),
        Content::Audio(media) => ("audio", media),
        Content::Sticker(media) => ("sticker", media),
        Content::Document(media) => ("document", media),
        _ => return None,
    };
    Some((kind, media.blob.clone()?))
}

/// The words with their marks, as long as there is room for those.
fn written(text: &Text, most: usize) -> String {
    // A business number cannot mention anybody so that they are told.
    let marked = MARKS.write(text, |_| None);
    if marked.encode_utf16().count() <= most { marked } else { text.text.clone() }
}

fn file(media: &Media, with_caption: bool, with_name: bool) -> Value {
    let mut json = json!({});
    if media.blob.is_none()
        && let Some(url) = &media.url
    {
        json["link"] = url.as_str().into();
    }
    let caption =
        media.caption.as_ref().map(|words| written(words, MAX_BELOW)).filter(|words| with_caption && !words.is_empty());
    if let Some(caption) = caption {
        json["caption"] = caption.into();
    }
    if let Some(name) = media.file_name.as_deref().filter(|_| with_name) {
        json["filename"] = name.into();
    }
    json
}

fn location(place: &Location) -> Value {
    let mut json = json!({"latitude": place.latitude.to_string(), "longitude": place.longitude.to_string()});
    if let Some(name) = &place.name {
        json["name"] = name.as_str().into();
    }
    if let Some(address) = &place.address {
        json["address"] = address.as_str().into();
    }
    json
}

fn card(card: &ContactCard) -> Result<Value, SendError> {
    let name = card.name.trim();
    if name.is_empty() {
        return Err(SendError::invalid("WhatsApp takes no contact card without a name"));
    }
    let (first, last) = name.split_once(' ').unwrap_or((name, ""));
    let mut names = json!({"formatted_name": name, "first_name": first});
    if !last.is_empty() {
        names["last_name"] = last.into();
    }
    let account = card.user.as_ref().map(|user| user.id.as_str()).filter(|id| is_number(id));
    let phone = |number: &String| {
        let mut phone = json!({"phone": number});
        let digits = crate::account::digits(number);
        if let Some(id) = account.filter(|id| *id == digits) {
            phone["wa_id"] = id.into();
        }
        phone
    };
    let mut json = json!({"name": names});
    if !card.phones.is_empty() {
        json["phones"] = card.phones.iter().map(phone).collect();
    }
    if !card.emails.is_empty() {
        json["emails"] = card.emails.iter().map(|email| json!({"email": email})).collect();
    }
    if let Some(company) = &card.organization {
        json["org"] = json!({"company": company});
    }
    Ok(json)
}

/// Up to three buttons beneath the words, or a list; an address alone is a button that opens it.
fn interactive(buttons: &Buttons) -> Result<Value, SendError> {
    let all: Vec<&Button> = buttons.rows.iter().flatten().collect();
    let mut words = written(&buttons.text, MAX_BELOW);
    if let [only] = all.as_slice()
        && let Some(url) = &only.url
    {
        let parameters = json!({"display_text": fits(&only.text, BUTTON_WORDS)?, "url": url});
        let action = json!({"name": "cta_url", "parameters": parameters});
        return Ok(json!({"type": "cta_url", "body": {"text": words}, "action": action}));
    }
    // Beside others an address can only stand in the words.
    for button in all.iter().filter(|button| button.url.is_some()) {
        words.push_str(&format!("\n{}: {}", button.text, button.url.as_deref().unwrap_or_default()));
    }
    if words.encode_utf16().count() > MAX_BELOW {
        let what = format!("with the addresses of its buttons the text has more than {MAX_BELOW} characters");
        return Err(SendError::new(ErrorCode::TooLarge, NextActor::Caller, what));
    }
    let choices: Vec<&Button> = all.into_iter().filter(|button| button.url.is_none()).collect();
    if choices.is_empty() {
        return Err(SendError::invalid("there is no button that somebody could touch"));
    }
    let data = |button: &Button| -> Result<String, SendError> {
        let data = button.data.clone().unwrap_or_else(|| button.text.clone());
        fits(&data, MAX_DATA).map_err(|_| {
            SendError::new(
                ErrorCode::TooLarge,
                NextActor::Caller,
                format!("WhatsApp lets a button carry {MAX_DATA} characters"),
            )
        })
    };
    let plain = |button: &&Button| button.description.is_none() && button.text.chars().count() <= BUTTON_WORDS;
    if choices.len() <= MAX_BUTTONS && choices.iter().all(plain) && buttons.list_title.is_none() {
        let button =
            |button: &&Button| Ok(json!({"type": "reply", "reply": {"id": data(button)?, "title": button.text}}));
        let buttons = choices.iter().map(button).collect::<Result<Vec<_>, SendError>>()?;
        return Ok(json!({"type": "button", "body": {"text": words}, "action": {"buttons": buttons}}));
    }
    let row = |button: &&Button| {
        let mut row = json!({"id": data(button)?, "title": fits(&button.text, ROW_WORDS)?});
        if let Some(below) = &button.description {
            row["description"] = fits(below, ROW_BELOW)?.into();
        }
        Ok(row)
    };
    let rows = choices.iter().map(row).collect::<Result<Vec<_>, SendError>>()?;
    let opens = fits(buttons.list_title.as_deref().unwrap_or(OPENS), BUTTON_WORDS)?;
    Ok(json!({"type": "list", "body": {"text": words}, "action": {"button": opens, "sections": [{"rows": rows}]}}))
}

fn fits(words: &str, most: usize) -> Result<String, SendError> {
    let length = words.chars().count();
    if (1..=most).contains(&length) {
        return Ok(words.to_owned());
    }
    let what = format!("WhatsApp takes 1 to {most} characters on a button like this, not {length}: {words:?}");
    Err(SendError::new(ErrorCode::TooLarge, NextActor::Caller, what))
}

/// `{name, language, components?}`, as Meta has it; the language may be a word.
fn template(option: &Value) -> Result<Value, SendError> {
    let fields = object(option, "template")?;
    let wrong = |what: &str| SendError::invalid(format!("the option template {what}"));
    let name = fields.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| wrong("has no name"))?;
    let language = match fields.get("language") {
        Some(Value::String(code)) if !code.is_empty() => json!({"code": code}),
        Some(Value::Object(language)) if language.get("code").is_some_and(Value::is_string) => json!(language),
        _ => return Err(wrong("has no language, such as \"en_US\"")),
    };
    let mut template = json!({"name": name, "language": language});
    match fields.get("components") {
        None | Some(Value::Null) => {}
        Some(components @ Value::Array(_)) => template["components"] = components.clone(),
        Some(_) => return Err(wrong("has components that are no list")),
    }
    if template.to_string().len() > MAX_TEMPLATE {
        return Err(wrong("is larger than 64 KiB"));
    }
    Ok(template)
}
