//! A message's content as WhatsApp's protobuf. Files are uploaded before.

use super::markup;
use omni_channel_sdk::content::{ContactCard, Content, Media, Poll, Text};
use omni_channel_sdk::prelude::*;
use std::collections::HashSet;
use waproto::buffa::MessageField;
use waproto::whatsapp as wa;
use whatsapp_rust::upload::UploadResponse;

/// Fewest and most options of a poll.
const OPTIONS: std::ops::RangeInclusive<usize> = 2..=12;

/// What a message is sent with.
#[derive(Debug, Default)]
pub struct Around {
    /// What it answers, whom it mentions.
    pub context: wa::ContextInfo,
}

impl Around {
    fn field(self) -> MessageField<wa::ContextInfo> {
        if self.context == wa::ContextInfo::default() {
            MessageField::default()
        } else {
            MessageField::some(self.context)
        }
    }
}

/// Everything but files.
pub fn words(content: Content, mut around: Around) -> Result<wa::Message, SendError> {
    Ok(match content {
        Content::Text(text) => self::text(&text, around),
        Content::Location(place) => wa::Message {
            location_message: MessageField::some(wa::message::LocationMessage {
                degrees_latitude: Some(place.latitude),
                degrees_longitude: Some(place.longitude),
                name: place.name,
                address: place.address,
                context_info: around.field(),
                ..Default::default()
            }),
            ..Default::default()
        },
        Content::Contact(cards) => {
            let mut contacts: Vec<_> = cards.contacts.iter().map(card).collect();
            if contacts.len() == 1 {
                let mut contact = contacts.remove(0);
                contact.context_info = around.field();
                return Ok(wa::Message { contact_message: MessageField::some(contact), ..Default::default() });
            }
            let all = wa::message::ContactsArrayMessage {
                display_name: Some(format!("{} contacts", contacts.len())),
                contacts,
                context_info: around.field(),
            };
            wa::Message { contacts_array_message: MessageField::some(all), ..Default::default() }
        }
        Content::Poll(asked) => return poll(asked, around),
        Content::Buttons(asked) => {
            // Accounts of people cannot send buttons: they are written out, so that nothing is lost.
            let mut lines = vec![asked.text.text.clone()];
            for (number, button) in asked.rows.iter().flatten().enumerate() {
                let more = button
                    .url
                    .as_ref()
                    .or(button.description.as_ref())
                    .map(|more| format!(" — {more}"))
                    .unwrap_or_default();
                lines.push(format!("{}. {}{more}", number + 1, button.text));
            }
            around.context.mentioned_jid.clear();
            self::text(&Text::plain(lines.join("\n")), around)
        }
        other => return Err(SendError::unsupported(&format!("sending this kind of content ({})", other.kind()))),
    })
}

fn text(text: &Text, mut around: Around) -> wa::Message {
    let (words, mentioned) = markup::written(text);
    around.context.mentioned_jid = mentioned;
    wa::Message {
        extended_text_message: MessageField::some(wa::message::ExtendedTextMessage {
            text: Some(words),
            context_info: around.field(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn card(card: &ContactCard) -> wa::message::ContactMessage {
    let vcard = card.vcard.clone().unwrap_or_else(|| {
        let clean = |words: &str| words.replace(['\r', '\n'], " ");
        let mut lines = vec![
            "BEGIN:VCARD".to_owned(),
            "VERSION:3.0".to_owned(),
            format!("N:;{};;;", clean(&card.name)),
            format!("FN:{}", clean(&card.name)),
        ];
        lines.extend(card.organization.iter().map(|organization| format!("ORG:{};", clean(organization))));
        lines.extend(card.phones.iter().map(|phone| {
            let digits: String = phone.chars().filter(char::is_ascii_digit).collect();
            format!("TEL;type=CELL;type=VOICE;waid={digits}:{}", clean(phone))
        }));
        lines.extend(card.emails.iter().map(|email| format!("EMAIL:{}", clean(email))));
        lines.push("END:VCARD".to_owned());
        lines.join("\n")
    });
    wa::message::ContactMessage { display_name: Some(card.name.clone()), vcard: Some(vcard), ..Default::default() }
}

fn poll(asked: Poll, around: Around) -> Result<wa::Message, SendError> {
    let words: Vec<String> = asked.options.iter().map(|option| option.text.clone()).collect();
    if !OPTIONS.contains(&words.len()) {
        return Err(SendError::invalid(format!(
            "a poll on WhatsApp has 2 to 12 options; this one has {}",
            words.len()
        )));
    }
    if words.iter().collect::<HashSet<_>>().len() != words.len() {
        return Err(SendError::invalid(
            "two options of the poll have the same words; WhatsApp could not tell votes apart",
        ));
    }
    let count = asked.max_choices.unwrap_or(1).clamp(1, u32::try_from(words.len()).unwrap_or(1));
    let option =
        |words: String| wa::message::poll_creation_message::Option { option_name: Some(words), ..Default::default() };
    let poll = MessageField::some(wa::message::PollCreationMessage {
        name: Some(asked.question),
        options: words.into_iter().map(option).collect(),
        selectable_options_count: Some(count),
        context_info: around.field(),
        ..Default::default()
    });
    // As WhatsApp Web does: the third form for one choice, the first for several.
    Ok(if count == 1 {
        wa::Message { poll_creation_message_v3: poll, ..Default::default() }
    } else {
        wa::Message { poll_creation_message: poll, ..Default::default() }
    })
}

/// A file that was uploaded.
pub fn file(content: &Content, media: &Media, upload: UploadResponse, mut around: Around) -> wa::Message {
    let (caption, mentioned) = media.caption.as_ref().map(markup::written).unwrap_or_default();
    around.context.mentioned_jid = mentioned;
    let caption = Some(caption).filter(|caption| !caption.is_empty());
    let seconds = media.duration_ms.map(|ms| u32::try_from(ms.div_ceil(1_000)).unwrap_or(u32::MAX));
    macro_rules! stored {
        ($message:ident { $($more:tt)* }) => {
            MessageField::some(wa::message::$message {
                url: Some(upload.url),
                direct_path: Some(upload.direct_path),
                media_key: Some(upload.media_key.to_vec()),
                file_sha256: Some(upload.file_sha256.to_vec()),
                file_enc_sha256: Some(upload.file_enc_sha256.to_vec()),
                file_length: Some(upload.file_length),
                media_key_timestamp: Some(upload.media_key_timestamp),
                context_info: around.field(),
                $($more)*
                ..Default::default()
            })
        };
    }
    let mime = |default: &str| Some(media.mime_type.clone().unwrap_or_else(|| default.into()));
    let mut message = wa::Message::default();
    match content {
        Content::Image(_) => {
            message.image_message = stored!(ImageMessage {
                mimetype: mime("image/jpeg"),
                caption,
                width: media.width,
                height: media.height,
                view_once: Some(media.view_once),
            });
        }
        Content::Video(_) => {
            message.video_message = stored!(VideoMessage {
                mimetype: mime("video/mp4"),
                caption,
                width: media.width,
                height: media.height,
                seconds,
                gif_playback: Some(media.animation),
                view_once: Some(media.view_once),
                streaming_sidecar: upload.streaming_sidecar,
            });
        }
        Content::Audio(_) => {
            // A voice note that does not say so is not shown as one.
            let opus = if media.voice { "audio/ogg; codecs=opus" } else { "audio/mp4" };
            message.audio_message = stored!(AudioMessage {
                mimetype: mime(opus),
                seconds,
                ptt: Some(media.voice),
                view_once: Some(media.view_once),
                waveform: Some(media.waveform.clone()).filter(|waveform| !waveform.is_empty()),
                streaming_sidecar: upload.streaming_sidecar,
            });
        }
        Content::Sticker(_) => {
            message.sticker_message = stored!(StickerMessage {
                mimetype: mime("image/webp"),
                width: media.width,
                height: media.height,
                is_animated: Some(media.animation),
            });
        }
        _ => {
            let document = stored!(DocumentMessage {
                mimetype: mime("application/octet-stream"),
                caption: caption.clone(),
                file_name: media.file_name.clone(),
                title: media.file_name.clone(),
            });
            if caption.is_none() {
                message.document_message = document;
            } else {
                // The only way in which a document has a caption.
                let inner = wa::Message { document_message: document, ..Default::default() };
                message.document_with_caption_message =
                    MessageField::some(wa::message::FutureProofMessage { message: MessageField::some(inner) });
            }
        }
    }
    if !media.view_once {
        return message;
    }
    wa::Message {
        view_once_message_v2: MessageField::some(wa::message::FutureProofMessage {
            message: MessageField::some(message),
        }),
        ..Default::default()
    }
}
