//! A message's content, from WhatsApp's protobuf. A pure function: nobody is asked.

use super::media;
use omni_channel_sdk::content::{
    Button, Buttons, ContactCard, Contacts, Content, Entity, EntityKind, LiveLocation, Location, Mention,
    MentionTarget, Poll, PollOption, System, Text,
};
use omni_channel_sdk::prelude::{Media, User};
use sha2::{Digest, Sha256};
use wacore::proto_helpers::MessageExt;
use waproto::whatsapp as wa;

/// The content of a message; `None` for what is no message to a person (keys, settings, receipts of the protocol).
pub fn content(message: &wa::Message) -> Option<Content> {
    let view_once = message.is_view_once();
    let base = message.get_base_message();
    if let Some(text) = text(base) {
        return Some(Content::Text(text));
    }
    if let Some(mut content) = file(base) {
        if view_once && let Some(media) = media_of(&mut content) {
            media.view_once = true;
        }
        return Some(content);
    }
    place(base).or_else(|| cards(base)).or_else(|| poll(base)).or_else(|| choice(base)).or_else(|| shown(base))
}

/// The context of a message: what it answers, whom it mentions, whether it was forwarded.
pub fn context(message: &wa::Message) -> Option<&wa::ContextInfo> {
    let base = message.get_base_message();
    macro_rules! first {
        ($($field:ident),*) => {
            None$(.or_else(|| base.$field.as_option().and_then(|inner| inner.context_info.as_option())))*
        };
    }
    first!(
        extended_text_message,
        image_message,
        video_message,
        ptv_message,
        audio_message,
        document_message,
        sticker_message,
        location_message,
        live_location_message,
        contact_message,
        contacts_array_message,
        buttons_message,
        buttons_response_message,
        list_message,
        list_response_message,
        template_message,
        template_button_reply_message,
        interactive_message,
        interactive_response_message,
        group_invite_message,
        poll_creation_message,
        poll_creation_message_v2,
        poll_creation_message_v3,
        product_message,
        order_message
    )
}

fn text(message: &wa::Message) -> Option<Text> {
    if let Some(words) = &message.conversation {
        return Some(Text::plain(words.as_str()));
    }
    let extended = message.extended_text_message.as_option()?;
    let words = extended.text.clone().unwrap_or_default();
    Some(with_mentions(words, extended.context_info.as_option()))
}

/// WhatsApp writes a mention as `@` and the number, and says beside the text whose numbers they are.
fn with_mentions(text: String, context: Option<&wa::ContextInfo>) -> Text {
    let mut entities = Vec::new();
    for jid in context.into_iter().flat_map(|context| &context.mentioned_jid) {
        let Some((user, _)) = jid.split_once('@') else { continue };
        let needle = format!("@{}", user.split(':').next().unwrap_or(user));
        for (at, found) in text.match_indices(&needle) {
            // `@55` is not the beginning of `@5511…`.
            if text[at + found.len()..].starts_with(|c: char| c.is_ascii_digit()) {
                continue;
            }
            let units = |words: &str| u32::try_from(words.encode_utf16().count()).unwrap_or(u32::MAX);
            let mention = Mention { user: Some(User::new(jid.as_str())), target: MentionTarget::User };
            entities.push(Entity {
                offset: units(&text[..at]),
                length: units(found),
                kind: EntityKind::Mention(mention),
            });
        }
    }
    entities.sort_by_key(|entity| entity.offset);
    Text { text, entities }
}

fn caption(words: Option<&String>, context: Option<&wa::ContextInfo>) -> Option<Text> {
    words.filter(|words| !words.is_empty()).map(|words| with_mentions(words.clone(), context))
}

fn media_of(content: &mut Content) -> Option<&mut Media> {
    match content {
        Content::Image(media)
        | Content::Audio(media)
        | Content::Video(media)
        | Content::Document(media)
        | Content::Sticker(media) => Some(media),
        _ => None,
    }
}

fn file(message: &wa::Message) -> Option<Content> {
    if let Some(image) = message.image_message.as_option() {
        let mut media = media::of_image(image);
        media.caption = caption(image.caption.as_ref(), image.context_info.as_option());
        return Some(Content::Image(media));
    }
    if let Some(video) = message.video_message.as_option().or(message.ptv_message.as_option()) {
        let mut media = media::of_video(video);
        media.caption = caption(video.caption.as_ref(), video.context_info.as_option());
        return Some(Content::Video(media));
    }
    if let Some(audio) = message.audio_message.as_option() {
        return Some(Content::Audio(media::of_audio(audio)));
    }
    if let Some(document) = message.document_message.as_option() {
        let mut media = media::of_document(document);
        media.caption = caption(document.caption.as_ref(), document.context_info.as_option());
        return Some(Content::Document(media));
    }
    let sticker = message.sticker_message.as_option()?;
    Some(Content::Sticker(media::of_sticker(sticker)))
}

fn place(message: &wa::Message) -> Option<Content> {
    if let Some(place) = message.location_message.as_option() {
        let location = Location {
            latitude: place.degrees_latitude?,
            longitude: place.degrees_longitude?,
            name: place.name.clone().filter(|name| !name.is_empty()),
            address: place.address.clone().filter(|address| !address.is_empty()),
            accuracy: place.accuracy_in_meters.map(f64::from),
        };
        return Some(Content::Location(location));
    }
    let live = message.live_location_message.as_option()?;
    Some(Content::LiveLocation(LiveLocation {
        location: Location {
            latitude: live.degrees_latitude?,
            longitude: live.degrees_longitude?,
            name: live.caption.clone().filter(|caption| !caption.is_empty()),
            address: None,
            accuracy: live.accuracy_in_meters.map(f64::from),
        },
        period_seconds: None,
        heading: live.degrees_clockwise_from_magnetic_north.and_then(|degrees| u16::try_from(degrees).ok()),
    }))
}

fn cards(message: &wa::Message) -> Option<Content> {
    let contacts: Vec<ContactCard> = if let Some(contact) = message.contact_message.as_option() {
        vec![card(contact)]
    } else {
        message.contacts_array_message.as_option()?.contacts.iter().map(card).collect()
    };
    Some(Content::Contact(Contacts { contacts }))
}

fn card(contact: &wa::message::ContactMessage) -> ContactCard {
    let vcard = contact.vcard.clone().unwrap_or_default();
    // The lines that people look at; the whole card is kept beside them.
    let mut card = ContactCard { name: contact.display_name.clone().unwrap_or_default(), ..ContactCard::default() };
    for line in vcard.lines() {
        let Some((name, value)) = line.trim().split_once(':') else { continue };
        let mut parts = name.split(';');
        let property = parts.next().unwrap_or_default().rsplit('.').next().unwrap_or_default().to_ascii_uppercase();
        match property.as_str() {
            "TEL" => {
                if let Some(id) = parts.find_map(|part| part.strip_prefix("waid=")) {
                    card.user = Some(User::new(format!("{id}@s.whatsapp.net")));
                }
                card.phones.push(value.to_owned());
            }
            "EMAIL" => card.emails.push(value.to_owned()),
            "ORG" => card.organization = Some(value.trim_end_matches(';').to_owned()),
            "FN" if card.name.is_empty() => value.clone_into(&mut card.name),
            _ => {}
        }
    }
    card.vcard = Some(vcard).filter(|vcard| !vcard.is_empty());
    card
}

/// WhatsApp knows an option in a vote by the hash of its words.
pub fn option_id(words: &str) -> String {
    hex::encode(Sha256::digest(words.as_bytes()))
}

fn poll(message: &wa::Message) -> Option<Content> {
    let poll = [
        message.poll_creation_message.as_option(),
        message.poll_creation_message_v2.as_option(),
        message.poll_creation_message_v3.as_option(),
        message.poll_creation_message_v5.as_option(),
    ];
    let poll = poll.into_iter().flatten().next()?;
    let options = poll.options.iter().filter_map(|option| option.option_name.as_deref());
    let options = options.map(|words| PollOption { id: option_id(words), text: words.to_owned(), votes: None });
    Some(Content::Poll(Poll {
        question: poll.name.clone().unwrap_or_default(),
        options: options.collect(),
        // 0 is any number of them.
        max_choices: match poll.selectable_options_count {
            Some(0) => u32::try_from(poll.options.len()).ok(),
            count => count,
        },
        closes_at: poll.end_time,
        anonymous: poll.hide_participant_name.unwrap_or_default(),
        ..Poll::default()
    }))
}

/// Buttons and lists, as businesses send them.
fn choice(message: &wa::Message) -> Option<Content> {
    let button = |text: Option<&String>, data: Option<&String>| Button {
        text: text.cloned().unwrap_or_default(),
        data: data.cloned(),
        ..Button::default()
    };
    if let Some(asked) = message.buttons_message.as_option() {
        let rows = asked.buttons.iter().map(|one| {
            let words = one.button_text.as_option().and_then(|text| text.display_text.as_ref());
            vec![button(words, one.button_id.as_ref())]
        });
        let words = joined([asked.content_text.as_deref(), asked.footer_text.as_deref()]);
        return Some(Content::Buttons(Buttons { text: Text::plain(words), rows: rows.collect(), list_title: None }));
    }
    if let Some(list) = message.list_message.as_option() {
        let rows = list.sections.iter().flat_map(|section| &section.rows).map(|row| {
            vec![Button { description: row.description.clone(), ..button(row.title.as_ref(), row.row_id.as_ref()) }]
        });
        let words = joined([list.title.as_deref(), list.description.as_deref(), list.footer_text.as_deref()]);
        return Some(Content::Buttons(Buttons {
            text: Text::plain(words),
            rows: rows.collect(),
            list_title: list.button_text.clone(),
        }));
    }
    if let Some(template) =
        message.template_message.as_option().and_then(|template| template.hydrated_template.as_option())
    {
        let words = joined([template.hydrated_content_text.as_deref(), template.hydrated_footer_text.as_deref()]);
        return Some(Content::Text(Text::plain(words)));
    }
    let asked = message.interactive_message.as_option()?;
    let title = asked.header.as_option().and_then(|header| header.title.as_deref());
    let body = asked.body.as_option().and_then(|body| body.text.as_deref());
    let footer = asked.footer.as_option().and_then(|footer| footer.text.as_deref());
    Some(Content::Text(Text::plain(joined([title, body, footer]))))
}

fn joined<'a>(parts: impl IntoIterator<Item = Option<&'a str>>) -> String {
    let parts: Vec<&str> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    parts.join("\n")
}

/// What is shown in the chat although it has no content of its own.
fn shown(message: &wa::Message) -> Option<Content> {
    let system =
        |event: &str, text: Option<String>| Some(Content::System(System { event: event.into(), text, message: None }));
    if let Some(invite) = message.group_invite_message.as_option() {
        let link = invite.invite_code.as_ref().map(|code| format!("https://chat.whatsapp.com/{code}"));
        let words = joined([invite.group_name.as_deref(), invite.caption.as_deref(), link.as_deref()]);
        return system("group_invite", Some(words));
    }
    if let Some(event) = message.event_message.as_option() {
        return system("event", Some(joined([event.name.as_deref(), event.description.as_deref()])));
    }
    if message.pin_in_chat_message.is_set() {
        return system("pin_in_chat", None);
    }
    if message.product_message.is_set() {
        return system("product", None);
    }
    if let Some(order) = message.order_message.as_option() {
        return system("order", Some(joined([order.order_title.as_deref(), order.message.as_deref()])));
    }
    if message.send_payment_message.is_set() || message.request_payment_message.is_set() {
        return system("payment", None);
    }
    if let Some(call) = message.call_log_messsage.as_option() {
        let what = if call.is_video == Some(true) { "video" } else { "voice" };
        return system("call", Some(what.into()));
    }
    None
}
