//! Words and their entities, both ways. Both sides count in UTF-16 code units.
//!
//! Lossy where the host has no word for it: an expandable quotation arrives as a quotation. Kinds without a word of the
//! host's keep Telegram's, marked as such. On the way out only what formats is sent; addresses, tags and commands are found by Telegram itself.

use crate::api;
use crate::convert::people;
use omni_channel_sdk::Unknown;
use omni_channel_sdk::content::{CustomEmoji, Entity, EntityKind, Link, Mention, MentionTarget, Plain, Pre, Text};
use serde_json::{Map, Value, json};

/// Words with entities as Telegram wrote them. Entities that lie outside of the words are left out.
pub fn inbound(text: String, entities: &[api::Entity]) -> Text {
    let length = utf16_length(&text);
    let entities = entities.iter().filter(|entity| fits(entity.offset, entity.length, length)).map(entity).collect();
    Text { text, entities }
}

fn utf16_length(text: &str) -> u64 {
    text.encode_utf16().count() as u64
}

fn fits(offset: u32, length: u32, whole: u64) -> bool {
    length > 0 && u64::from(offset) + u64::from(length) <= whole
}

fn entity(entity: &api::Entity) -> Entity {
    Entity { offset: entity.offset, length: entity.length, kind: kind(entity) }
}

fn kind(entity: &api::Entity) -> EntityKind {
    let plain = Plain {};
    match (entity.r#type.as_str(), entity) {
        ("bold", _) => EntityKind::Bold(plain),
        ("italic", _) => EntityKind::Italic(plain),
        ("underline", _) => EntityKind::Underline(plain),
        ("strikethrough", _) => EntityKind::Strikethrough(plain),
        ("spoiler", _) => EntityKind::Spoiler(plain),
        ("blockquote" | "expandable_blockquote", _) => EntityKind::Quote(plain),
        ("code", _) => EntityKind::Code(plain),
        ("pre", _) => EntityKind::Pre(Pre { language: entity.language.clone() }),
        ("text_link", api::Entity { url: Some(url), .. }) => EntityKind::Link(Link { url: url.clone() }),
        ("url", _) => EntityKind::Url(plain),
        ("email", _) => EntityKind::Email(plain),
        ("phone_number", _) => EntityKind::Phone(plain),
        ("hashtag", _) => EntityKind::Hashtag(plain),
        ("bot_command", _) => EntityKind::Command(plain),
        ("mention", _) => EntityKind::Mention(Mention { user: None, target: MentionTarget::User }),
        ("text_mention", api::Entity { user, .. }) => {
            EntityKind::Mention(Mention { user: user.as_ref().map(people::user), target: MentionTarget::User })
        }
        ("custom_emoji", api::Entity { custom_emoji_id: Some(id), .. }) => {
            EntityKind::CustomEmoji(CustomEmoji { id: id.clone() })
        }
        (other, _) => EntityKind::Unknown(Unknown { kind: format!("telegram.{other}"), fields: Map::new() }),
    }
}

/// The entities of a text as Telegram takes them. Those that lie outside of the words are left out.
pub fn outbound(text: &Text) -> Vec<Value> {
    let length = utf16_length(&text.text);
    let fitting = text.entities.iter().filter(|entity| fits(entity.offset, entity.length, length));
    fitting.filter_map(outbound_entity).collect()
}

fn outbound_entity(entity: &Entity) -> Option<Value> {
    let (word, extra) = match &entity.kind {
        EntityKind::Bold(_) => ("bold", None),
        EntityKind::Italic(_) => ("italic", None),
        EntityKind::Underline(_) => ("underline", None),
        EntityKind::Strikethrough(_) => ("strikethrough", None),
        EntityKind::Spoiler(_) => ("spoiler", None),
        EntityKind::Quote(_) => ("blockquote", None),
        EntityKind::Code(_) => ("code", None),
        EntityKind::Pre(pre) => ("pre", pre.language.as_ref().map(|language| ("language", json!(language)))),
        EntityKind::Link(link) => ("text_link", Some(("url", json!(link.url)))),
        EntityKind::CustomEmoji(emoji) => ("custom_emoji", Some(("custom_emoji_id", json!(emoji.id)))),
        EntityKind::Mention(Mention { user: Some(user), .. }) => {
            let id: i64 = user.id.as_str().parse().ok()?;
            let name = user.name.as_deref().unwrap_or_default();
            ("text_mention", Some(("user", json!({"id": id, "is_bot": user.is_bot, "first_name": name}))))
        }
        _ => return None,
    };
    let mut object = Map::new();
    object.insert("type".into(), word.into());
    object.insert("offset".into(), entity.offset.into());
    object.insert("length".into(), entity.length.into());
    if let Some((name, value)) = extra {
        object.insert(name.into(), value);
    }
    Some(Value::Object(object))
}

/// The plain words of a rich message: a line for each of its blocks. What it looks like stays in the raw update.
pub fn rich(message: &Value) -> String {
    let mut lines = Vec::new();
    if let Some(blocks) = message.get("blocks") {
        collect_lines(blocks, &mut lines);
    }
    lines.join("\n")
}

/// Fields of a rich block that hold further blocks, in the order in which they are read.
const NESTED: [&str; 5] = ["blocks", "items", "cells", "rows", "caption"];

fn collect_lines(node: &Value, lines: &mut Vec<String>) {
    match node {
        Value::Array(nodes) => nodes.iter().for_each(|node| collect_lines(node, lines)),
        Value::Object(block) => {
            let mut line = String::new();
            for name in ["summary", "text", "expression"] {
                block.get(name).into_iter().for_each(|text| collect_words(text, &mut line));
            }
            if !line.trim().is_empty() {
                lines.push(line);
            }
            NESTED.iter().filter_map(|name| block.get(*name)).for_each(|node| collect_lines(node, lines));
        }
        _ => {}
    }
}

fn collect_words(node: &Value, line: &mut String) {
    match node {
        Value::String(words) => line.push_str(words),
        Value::Array(nodes) => nodes.iter().for_each(|node| collect_words(node, line)),
        Value::Object(text) => {
            let words = ["text", "alternative_text", "expression"].into_iter().find_map(|name| text.get(name));
            words.into_iter().for_each(|node| collect_words(node, line));
        }
        _ => {}
    }
}
