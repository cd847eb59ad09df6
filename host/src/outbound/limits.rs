//! What a channel takes, held against a content before the channel is asked: the sentence says what is too much.

use super::split::{Measure, split};
use omni_channel_sdk::capabilities::{Capabilities, ContentLimits};
use omni_channel_sdk::content::{Content, Media, Text};

/// The parts of a content, each within the channel's limits.
pub fn fit(content: Content, capabilities: &Capabilities, channel: &str) -> Result<Vec<Content>, String> {
    let kind = content.kind().to_owned();
    let Some(limits) = capabilities.send.get(&kind) else {
        let can: Vec<&str> = capabilities.send.keys().map(String::as_str).collect();
        let can = if can.is_empty() { "nothing".to_owned() } else { can.join(", ") };
        return Err(format!("channel {channel:?} cannot send {kind}; it can send: {can}"));
    };
    match content {
        Content::Text(text) => texts(text, limits),
        Content::Image(media) => with_caption(media, Content::Image, limits, capabilities),
        Content::Audio(media) => with_caption(media, Content::Audio, limits, capabilities),
        Content::Video(media) => with_caption(media, Content::Video, limits, capabilities),
        Content::Document(media) => with_caption(media, Content::Document, limits, capabilities),
        Content::Sticker(media) => {
            file(&media, limits, &kind)?;
            Ok(vec![Content::Sticker(media)])
        }
        Content::Location(place) => {
            coordinates(place.latitude, place.longitude)?;
            Ok(vec![Content::Location(place)])
        }
        Content::LiveLocation(live) => {
            coordinates(live.location.latitude, live.location.longitude)?;
            Ok(vec![Content::LiveLocation(live)])
        }
        Content::Contact(cards) => {
            if cards.contacts.is_empty() {
                return Err("contact holds no card".into());
            }
            items(cards.contacts.len(), limits, "contact cards")?;
            Ok(vec![Content::Contact(cards)])
        }
        Content::Poll(poll) => {
            if poll.options.len() < 2 {
                return Err(format!("a poll needs at least 2 options, this one has {}", poll.options.len()));
            }
            items(poll.options.len(), limits, "options")?;
            for option in &poll.options {
                length(&option.text, limits.max_item_length, limits, "a poll option")?;
            }
            length(&poll.question, limits.max_length, limits, "the question of the poll")?;
            Ok(vec![Content::Poll(poll)])
        }
        Content::Buttons(buttons) => {
            items(buttons.rows.iter().map(Vec::len).sum(), limits, "buttons")?;
            length(&buttons.text.text, limits.max_length, limits, "the text above the buttons")?;
            Ok(vec![Content::Buttons(buttons)])
        }
        content @ (Content::System(_) | Content::Unknown(_)) => Err(format!("{:?} cannot be sent", content.kind())),
    }
}

/// The items of an album, each within the channel's limits, and whether they go out together: a channel without albums
/// gets each as a message of its own.
pub fn album(items: Vec<Content>, capabilities: &Capabilities, channel: &str) -> Result<(Vec<Content>, bool), String> {
    let together = capabilities.album_max_items;
    if let Some(most) = together
        && items.len() > most as usize
    {
        return Err(format!("an album of {} items; channel {channel:?} takes {most} at most", items.len()));
    }
    let mut parts = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let mut fitting = fit(item, capabilities, channel).map_err(|wrong| format!("item {}: {wrong}", index + 1))?;
        if together.is_some() && fitting.len() > 1 {
            return Err(format!("item {}: the caption is longer than channel {channel:?} takes", index + 1));
        }
        parts.append(&mut fitting);
    }
    Ok((parts, together.is_some()))
}

fn texts(text: Text, limits: &ContentLimits) -> Result<Vec<Content>, String> {
    if text.text.trim().is_empty() {
        return Err("text is empty".into());
    }
    Ok(match limits.max_length {
        Some(limit) => {
            let measure = Measure { limit, unit: limits.unit, markdown: limits.markdown };
            split(&text, measure).into_iter().map(Content::Text).collect()
        }
        None => vec![Content::Text(text)],
    })
}

/// A caption that is too long goes behind the file, as text.
fn with_caption(
    mut media: Media,
    make: fn(Media) -> Content,
    limits: &ContentLimits,
    capabilities: &Capabilities,
) -> Result<Vec<Content>, String> {
    let kind = make(Media::default()).kind().to_owned();
    file(&media, limits, &kind)?;
    let too_long = media.caption.as_ref().is_some_and(|caption| {
        limits.max_length.is_some_and(|limit| limits.unit.measure(&caption.text) > limit as usize)
    });
    let mut parts = Vec::new();
    if too_long && let (Some(caption), Some(text_limits)) = (media.caption.take(), capabilities.send.get("text")) {
        parts = texts(caption, text_limits)?;
    }
    parts.insert(0, make(media));
    Ok(parts)
}

fn file(media: &Media, limits: &ContentLimits, kind: &str) -> Result<(), String> {
    if media.blob.is_none() && media.url.is_none() && media.reference.is_none() {
        return Err(format!("{kind} names no file; give a url, base64 data or an uploaded media id"));
    }
    if media.blob.is_none() && media.reference.is_none() && !limits.by_url {
        return Err(format!("this channel cannot fetch a {kind} from an address; upload the file instead"));
    }
    if let (Some(size), Some(limit)) = (media.size, limits.max_bytes)
        && size > limit
    {
        return Err(format!("the {kind} has {size} bytes; this channel takes {limit} at most"));
    }
    if let Some(mime) = &media.mime_type
        && !limits.mime_types.is_empty()
        && !limits.mime_types.iter().any(|allowed| mime_matches(allowed, mime))
    {
        return Err(format!("this channel takes no {mime} as {kind}; it takes: {}", limits.mime_types.join(", ")));
    }
    Ok(())
}

fn mime_matches(allowed: &str, mime: &str) -> bool {
    let mime = mime.split(';').next().unwrap_or_default().trim();
    match allowed.strip_suffix("/*") {
        Some(family) => mime.split('/').next().is_some_and(|found| found.eq_ignore_ascii_case(family)),
        None => allowed.eq_ignore_ascii_case(mime),
    }
}

fn items(count: usize, limits: &ContentLimits, what: &str) -> Result<(), String> {
    match limits.max_items {
        Some(limit) if count > limit as usize => {
            Err(format!("{count} {what} are too many; this channel takes {limit} at most"))
        }
        _ => Ok(()),
    }
}

fn length(text: &str, limit: Option<u32>, limits: &ContentLimits, what: &str) -> Result<(), String> {
    let found = limits.unit.measure(text);
    match limit {
        Some(limit) if found > limit as usize => {
            Err(format!("{what} has {found} characters; this channel takes {limit} at most"))
        }
        _ => Ok(()),
    }
}

fn coordinates(latitude: f64, longitude: f64) -> Result<(), String> {
    if (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude) {
        return Ok(());
    }
    Err(format!("{latitude}, {longitude} is no place; latitude is −90 to 90, longitude −180 to 180"))
}
