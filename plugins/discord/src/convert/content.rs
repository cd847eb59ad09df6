//! What a message is made of: its words, files, stickers, its poll, its buttons.
//!
//! One message of Discord's can be several of the host's: words with a file are one (a caption), each further file and
//! sticker is a part of its own. What a program laid out in embeds is words, too, below those that it wrote; what a link
//! unfolds to is not, for nobody wrote it.

use crate::api;
use crate::convert::Scene;
use crate::convert::text::{self, Addressed};
use base64::Engine;
use omni_channel_sdk::content::{Button, Buttons, Entity, Media, Poll, PollOption, System, Text};
use omni_channel_sdk::ids::MediaRef;
use omni_channel_sdk::prelude::*;

/// A message's flag: a voice note.
const IS_VOICE: u64 = 1 << 13;
/// A piece of text among components.
const TEXT: u8 = 10;
/// How the picture of an embed is named among the files of its message, before the embed's number.
pub const OF_EMBED: &str = "embed";

/// What a message consists of, at least one.
pub fn contents(message: &api::Message, scene: Scene<'_>) -> Vec<Content> {
    if let Some(system) = system(message, scene) {
        return vec![system];
    }
    let inner = message.message_snapshots.first().and_then(|snapshot| snapshot.message.as_deref());
    let said = inner.unwrap_or(message);
    let mut words = words(said, scene);
    let is_voice = said.flags & IS_VOICE != 0;
    let mut contents: Vec<Content> = said.attachments.iter().map(|file| attachment(message, file, is_voice)).collect();
    contents.extend(said.sticker_items.iter().map(sticker));
    if contents.is_empty() && words.text.is_empty() {
        contents.extend(said.embeds.iter().enumerate().filter_map(|(number, embed)| picture(message, number, embed)));
    }
    if let Some(poll) = &said.poll {
        contents.insert(0, Content::Poll(self::poll(poll)));
    }
    let rows = buttons(&said.components);
    if !rows.is_empty() {
        contents.insert(0, Content::Buttons(Buttons { text: std::mem::take(&mut words), rows, list_title: None }));
    }
    if !words.text.is_empty() || contents.is_empty() {
        match contents.first_mut() {
            Some(Content::Image(media) | Content::Video(media) | Content::Audio(media) | Content::Document(media)) => {
                media.caption = Some(words);
            }
            _ => contents.insert(0, Content::Text(words)),
        }
    }
    contents
}

/// The words that were written, those of embeds and what is laid out.
fn words(message: &api::Message, scene: Scene<'_>) -> Text {
    let addressed = Addressed { names: scene.names, people: &message.mentions, everyone: message.mention_everyone };
    let mut pieces: Vec<String> = embeds(message).map(embed).filter(|words| !words.is_empty()).collect();
    each(&message.components, &mut |component| {
        pieces.extend(component.content.clone().filter(|words| component.kind == TEXT && !words.is_empty()));
    });
    let mut all = text::read(message.content.as_deref().unwrap_or_default(), addressed);
    // A mark that somebody left open ends with their words.
    let pieces = pieces.join("\n\n");
    if !pieces.is_empty() {
        append(&mut all, text::read(&pieces, addressed));
    }
    all
}

fn append(text: &mut Text, more: Text) {
    if !text.text.is_empty() {
        text.text.push_str("\n\n");
    }
    let before = u32::try_from(text.text.encode_utf16().count()).unwrap_or(u32::MAX);
    text.text.push_str(&more.text);
    let moved = |entity: Entity| Entity { offset: entity.offset.saturating_add(before), ..entity };
    text.entities.extend(more.entities.into_iter().map(moved));
}

/// The embeds that somebody made, of a message's. Where there are no links none has unfolded; a person makes none, and a
/// program may have made all but those of its links.
fn embeds(message: &api::Message) -> impl Iterator<Item = &api::Embed> {
    let written = message.content.as_deref().unwrap_or_default();
    let has_links = ["https://", "http://"].iter().any(|scheme| written.contains(scheme));
    let by_program = message.webhook_id.is_some() || message.author.as_ref().is_some_and(|author| author.bot);
    let is_made = move |embed: &&api::Embed| {
        let is_rich = embed.kind.as_deref().is_none_or(|kind| kind == "rich");
        let is_of_link = embed.url.as_deref().is_some_and(|url| written.contains(url));
        !has_links || by_program && is_rich && !is_of_link
    };
    message.embeds.iter().filter(is_made)
}

/// Where Discord gives out the picture of an embed. Where it is from is not asked: that is whatever server was named.
pub fn picture_url(embed: &api::Embed) -> Option<&str> {
    let pictures = [&embed.image, &embed.thumbnail].into_iter().flatten();
    pictures.filter_map(|picture| picture.proxy_url.as_deref()).find(|url| !url.is_empty())
}

/// The picture of an embed that has nothing else.
fn picture(message: &api::Message, number: usize, embed: &api::Embed) -> Option<Content> {
    let url = picture_url(embed)?;
    let picture = embed.image.as_ref().or(embed.thumbnail.as_ref());
    let place = format!("file/{}/{}/{OF_EMBED}{number}", message.channel_id, message.id);
    Some(Content::Image(Media {
        reference: Some(MediaRef::from(format!("{place} {url}"))),
        width: picture.and_then(|picture| picture.width),
        height: picture.and_then(|picture| picture.height),
        ..Media::default()
    }))
}

/// Every component, with all that is in it, in the order in which they are seen.
pub fn each<'a>(components: &'a [api::Component], with: &mut dyn FnMut(&'a api::Component)) {
    for component in components {
        with(component);
        each(&component.components, with);
        for inner in component.component.iter().chain(&component.accessory) {
            each(std::slice::from_ref(inner), with);
        }
    }
}

fn embed(embed: &api::Embed) -> String {
    let author = embed.author.as_ref().and_then(|author| author.name.clone());
    let title = embed.title.as_ref().map(|title| match &embed.url {
        Some(url) => format!("[{title}]({url})"),
        None => format!("**{title}**"),
    });
    let fields = embed.fields.iter().map(|field| format!("**{}**\n{}", field.name, field.value));
    let footer = embed.footer.as_ref().and_then(|footer| footer.text.clone());
    let lines: Vec<String> =
        author.into_iter().chain(title).chain(embed.description.clone()).chain(fields).chain(footer).collect();
    lines.join("\n")
}

/// Where a file can be had: its place, by which a new address is asked for, its size, which nobody may exceed, and the
/// address as it was given.
fn reference(message: &api::Message, file: &api::Attachment) -> MediaRef {
    // A forwarded file belongs to the message it was first in; the copy's own address is all there is.
    let url = file.url.as_deref().unwrap_or_default();
    let place = format!("file/{}/{}/{}", message.channel_id, message.id, file.id);
    MediaRef::from(match file.size {
        Some(size) => format!("{place} {size} {url}"),
        None => format!("{place} {url}"),
    })
}

/// A file of a message.
pub fn attachment(message: &api::Message, file: &api::Attachment, is_voice: bool) -> Content {
    let media = Media {
        reference: Some(reference(message, file)),
        mime_type: file.content_type.clone(),
        file_name: file.filename.clone(),
        size: file.size,
        width: file.width,
        height: file.height,
        duration_ms: file.duration_secs.filter(|seconds| *seconds >= 0.0).map(|seconds| (seconds * 1_000.0) as u64),
        voice: is_voice,
        animation: file.content_type.as_deref() == Some("image/gif"),
        waveform: file.waveform.as_deref().map(waveform).unwrap_or_default(),
        ..Media::default()
    };
    match file.content_type.as_deref().and_then(|mime| mime.split('/').next()) {
        Some("image") => Content::Image(media),
        Some("video") => Content::Video(media),
        Some("audio") => Content::Audio(media),
        _ => Content::Document(media),
    }
}

/// Discord's loudness is 0 to 255, the host's 0 to 100.
fn waveform(base64: &str) -> Vec<u8> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(base64).unwrap_or_default();
    bytes.into_iter().take(256).map(|loud| (u16::from(loud) * 100 / 255) as u8).collect()
}

fn sticker(sticker: &api::Sticker) -> Content {
    let (ending, mime) = match sticker.format_type {
        3 => ("json", "application/json"),
        4 => ("gif", "image/gif"),
        _ => ("png", "image/png"),
    };
    Content::Sticker(Media {
        reference: Some(MediaRef::from(format!("sticker/{}.{ending}", sticker.id))),
        mime_type: Some(mime.to_owned()),
        file_name: sticker.name.as_ref().map(|name| format!("{name}.{ending}")),
        animation: matches!(sticker.format_type, 2 | 4),
        ..Media::default()
    })
}

/// The id of an option: its place. Discord counts from 1, and everybody else from 0.
pub fn option_id(answer: u64) -> String {
    answer.saturating_sub(1).to_string()
}

/// A poll as it stands.
pub fn poll(poll: &api::Poll) -> Poll {
    let results = poll.results.as_ref();
    let votes = |id: u64| {
        let counts = results.map(|results| &results.answer_counts)?;
        Some(counts.iter().find(|count| count.id == id).map_or(0, |count| count.count))
    };
    let options = poll.answers.iter().map(|answer| {
        let emoji = answer.poll_media.emoji.as_ref().and_then(|emoji| emoji.name.clone());
        let words = answer.poll_media.text.clone().or(emoji).unwrap_or_default();
        PollOption { id: option_id(answer.answer_id), text: words, votes: votes(answer.answer_id) }
    });
    Poll {
        question: poll.question.text.clone().unwrap_or_default(),
        options: options.collect(),
        max_choices: poll.allow_multiselect.then_some(u32::try_from(poll.answers.len()).unwrap_or(u32::MAX)),
        closed: results.is_some_and(|results| results.is_finalized),
        closes_at: poll.expiry.as_deref().and_then(api::millis),
        ..Poll::default()
    }
}

/// The rows of buttons; a menu is a row of its entries, and what stands beside a section one of its own.
fn buttons(components: &[api::Component]) -> Vec<Vec<Button>> {
    let mut rows = Vec::new();
    each(components, &mut |component| {
        rows.push(component.components.iter().flat_map(choices).collect::<Vec<_>>());
        rows.push(component.accessory.iter().flat_map(|beside| choices(beside)).collect());
    });
    rows.retain(|row| !row.is_empty());
    rows
}

/// What can be chosen: a button, or the entries of a menu.
fn choices(component: &api::Component) -> Vec<Button> {
    match component.kind {
        2 => vec![Button {
            text: component.label.clone().unwrap_or_default(),
            data: component.custom_id.clone(),
            url: component.url.clone(),
            description: None,
        }],
        3 => component
            .options
            .iter()
            .map(|choice| Button {
                text: choice.label.clone(),
                data: Some(choice.value.clone()),
                url: None,
                description: choice.description.clone(),
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// The words of the message that a thread hangs off, which its first one repeats.
fn words_of_first(message: &api::Message, scene: Scene<'_>) -> String {
    message.referenced_message.as_deref().map(|first| words(first, scene).text).unwrap_or_default()
}

/// What the network shows although nobody wrote it.
fn system(message: &api::Message, scene: Scene<'_>) -> Option<Content> {
    let who = message.author.as_ref().and_then(|author| author.global_name.as_deref().or(author.username.as_deref()));
    let who = who.unwrap_or("somebody");
    let words = message.content.as_deref().unwrap_or_default();
    let whom = message.mentions.first().and_then(|user| user.global_name.as_deref().or(user.username.as_deref()));
    let (event, text) = match message.kind {
        // Written, an answer, a command, a command on a message.
        0 | 19 | 20 | 23 => return None,
        1 => ("recipient_add", format!("{who} brought {} in", whom.unwrap_or("somebody"))),
        2 => ("recipient_remove", format!("{} is gone", whom.unwrap_or(who))),
        3 => ("call", format!("{who} called")),
        4 => ("channel_name_change", format!("{who} named it {words}")),
        5 => ("channel_icon_change", format!("{who} changed the picture")),
        6 => ("channel_pinned_message", format!("{who} pinned a message")),
        7 => ("user_join", format!("{who} joined")),
        8..=11 => ("guild_boost", format!("{who} boosted the server")),
        12 => ("channel_follow_add", format!("{who} follows {words} here")),
        18 => ("thread_created", format!("{who} began a thread: {words}")),
        21 => ("thread_starter_message", words_of_first(message, scene)),
        24 => ("auto_moderation_action", "a message was held back".to_owned()),
        46 => ("poll_result", "a poll has ended".to_owned()),
        _ => ("other", words.to_owned()),
    };
    let about = message.message_reference.as_ref().and_then(|reference| reference.message_id.clone());
    Some(Content::System(System {
        event: event.to_owned(),
        text: Some(text).filter(|text| !text.is_empty()),
        message: about.map(MessageId::from),
    }))
}
