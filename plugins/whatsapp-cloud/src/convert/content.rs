//! What a message is made of.

use crate::api::{self, Message};
use omni_channel_sdk::Unknown;
use omni_channel_sdk::content::{ContactCard, Contacts, Location, System};
use omni_channel_sdk::lenient::Id;
use omni_channel_sdk::prelude::*;
use serde_json::Map;

/// The content. What we cannot read is of an unknown kind.
pub fn content(message: &Message) -> Content {
    let kind = message.r#type.as_deref().unwrap_or("unknown");
    let read = match kind {
        "text" => message.text.as_ref().map(|text| Content::text(text.body.as_str())),
        "image" => message.image.as_ref().map(|found| Content::Image(file(found))),
        "video" => message.video.as_ref().map(|found| Content::Video(file(found))),
        "document" => message.document.as_ref().map(|found| Content::Document(file(found))),
        "sticker" => message.sticker.as_ref().map(|found| Content::Sticker(file(found))),
        "audio" | "voice" => message.audio.as_ref().map(|found| Content::Audio(file(found))),
        "location" => message.location.as_ref().and_then(location),
        "contacts" => {
            let contacts: Vec<_> = message.contacts.iter().map(card).collect();
            (!contacts.is_empty()).then_some(Content::Contact(Contacts { contacts }))
        }
        "button" => message.button.as_ref().and_then(|button| button.text.as_deref()).map(Content::text),
        "interactive" => message.interactive.as_ref().and_then(chosen).map(Content::text),
        "order" => message.order.as_ref().map(order),
        "system" => message.system.as_ref().map(|told| {
            let event = told.r#type.clone().unwrap_or_else(|| "system".to_owned());
            Content::System(System { event, text: told.body.clone(), message: None })
        }),
        // Of the history on a phone: the file comes later, or is too old to come.
        "media_placeholder" => {
            Some(Content::System(System { event: "media_placeholder".to_owned(), text: None, message: None }))
        }
        "unsupported" | "unknown" => {
            let why = message.errors.first().map(|error| crate::client::Refusal::read(error, 0).message);
            Some(Content::System(System { event: "unsupported".to_owned(), text: why, message: None }))
        }
        _ => None,
    };
    read.unwrap_or_else(|| {
        let word: String =
            kind.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '_').take(60).collect();
        Content::Unknown(Unknown { kind: format!("whatsapp-cloud.{word}"), fields: Map::new() })
    })
}

fn file(found: &api::File) -> Media {
    Media {
        reference: Some(MediaRef::new(found.id.as_str())),
        mime_type: found.mime_type.clone(),
        caption: found.caption.as_deref().filter(|words| !words.is_empty()).map(Text::plain),
        file_name: found.filename.clone(),
        voice: found.voice == Some(true),
        ..Media::default()
    }
}

fn location(place: &api::Place) -> Option<Content> {
    let is_on_earth = (-90.0..=90.0).contains(&place.latitude) && (-180.0..=180.0).contains(&place.longitude);
    is_on_earth.then(|| {
        Content::Location(Location {
            latitude: place.latitude,
            longitude: place.longitude,
            name: place.name.clone(),
            address: place.address.clone(),
            accuracy: None,
        })
    })
}

fn card(card: &api::Card) -> ContactCard {
    let name = card.name.as_ref().and_then(|name| {
        let parts: Vec<&str> = [&name.first_name, &name.last_name].into_iter().flatten().map(String::as_str).collect();
        name.formatted_name.clone().or_else(|| (!parts.is_empty()).then(|| parts.join(" ")))
    });
    let account = card.phones.iter().find_map(|phone| phone.wa_id.as_ref());
    ContactCard {
        name: name.unwrap_or_default(),
        phones: card.phones.iter().filter_map(|phone| phone.phone.clone()).collect(),
        emails: card.emails.iter().map(|email| email.email.clone()).collect(),
        organization: card.org.as_ref().and_then(|org| org.company.clone()),
        user: account.map(|id| User::new(id.as_str())),
        vcard: None,
    }
}

/// The words of what was chosen, as they stand in the chat.
fn chosen(answer: &api::Interactive) -> Option<&str> {
    let choice = answer.button_reply.as_ref().or(answer.list_reply.as_ref());
    let flow = || answer.nfm_reply.as_ref().and_then(|flow| flow.body.as_deref());
    choice.and_then(|choice| choice.title.as_deref()).or_else(flow)
}

fn order(order: &api::Order) -> Content {
    let item = |item: &api::Item| {
        let price =
            item.item_price.map(|price| format!(" at {price} {}", item.currency.as_deref().unwrap_or_default()));
        format!("{} × {}{}", item.quantity.unwrap_or(1.0), item.product_retailer_id, price.unwrap_or_default())
    };
    let mut lines: Vec<String> = order.text.iter().filter(|words| !words.is_empty()).cloned().collect();
    lines.extend(order.product_items.iter().map(item));
    Content::System(System { event: "order".to_owned(), text: Some(lines.join("\n")), message: None })
}

/// What was chosen of buttons, a list or a flow: what it carries, and the words on it.
pub fn answer(message: &Message) -> Option<(Option<String>, Option<String>)> {
    match message.r#type.as_deref()? {
        "button" => message.button.as_ref().map(|button| (button.payload.clone(), button.text.clone())),
        "interactive" => {
            let answer = message.interactive.as_ref()?;
            let choice = answer.button_reply.as_ref().or(answer.list_reply.as_ref());
            let of_choice = choice.map(|choice| (Some(choice.id.clone()), choice.title.clone()));
            of_choice.or_else(|| answer.nfm_reply.as_ref().map(|flow| (flow.response_json.clone(), flow.body.clone())))
        }
        _ => None,
    }
}

/// The message that a button or a list was on.
pub fn asked_by(message: &Message) -> Option<&Id> {
    message.context.as_ref()?.id.as_ref()
}
