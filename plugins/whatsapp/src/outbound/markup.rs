//! Words as WhatsApp writes them: `*bold*`, `_italic_`, `~struck~`, `` `code` ``, and mentions as `@` and the number.

use omni_channel_sdk::content::{EntityKind, MentionTarget, Text};

/// The words with their markup, and whom they mention.
pub fn written(text: &Text) -> (String, Vec<String>) {
    let units: Vec<u16> = text.text.encode_utf16().collect();
    let mut mentioned = Vec::new();
    // What is put in at each place; closing marks before opening ones, inner ones closed first.
    let mut closing: Vec<Vec<&str>> = vec![Vec::new(); units.len() + 1];
    let mut opening: Vec<Vec<String>> = vec![Vec::new(); units.len() + 1];
    let mut replaced: Vec<Option<(usize, String)>> = vec![None; units.len() + 1];
    let mut entities: Vec<_> = text.entities.iter().collect();
    entities.sort_by_key(|entity| (entity.offset, std::cmp::Reverse(entity.length)));
    for entity in entities {
        let start = entity.offset as usize;
        let end = start.saturating_add(entity.length as usize).min(units.len());
        if start >= end {
            continue;
        }
        let mark = match &entity.kind {
            EntityKind::Bold(_) => "*",
            EntityKind::Italic(_) => "_",
            EntityKind::Strikethrough(_) => "~",
            EntityKind::Code(_) => "`",
            EntityKind::Pre(_) => "```",
            EntityKind::Mention(mention) if mention.target == MentionTarget::User => {
                if let Some(user) = &mention.user {
                    let number = user.id.as_str().split(['@', ':']).next().unwrap_or_default().to_owned();
                    replaced[start] = Some((end, format!("@{number}")));
                    mentioned.push(user.id.to_string());
                }
                continue;
            }
            EntityKind::Link(link) => {
                let words = String::from_utf16_lossy(&units[start..end]);
                if words != link.url {
                    replaced[start] = Some((end, format!("{words} ({})", link.url)));
                }
                continue;
            }
            _ => continue,
        };
        opening[start].push(mark.to_owned());
        closing[end].insert(0, mark);
    }
    let mut out = String::with_capacity(text.text.len() + 16);
    let mut at = 0;
    loop {
        for mark in &closing[at] {
            out.push_str(mark);
        }
        if at == units.len() {
            break;
        }
        for mark in &opening[at] {
            out.push_str(mark);
        }
        let next = match &replaced[at] {
            Some((end, words)) => {
                out.push_str(words);
                *end
            }
            None => {
                let wide = (0xD800..0xDC00).contains(&units[at]) && at + 1 < units.len();
                let end = at + 1 + usize::from(wide);
                out.push_str(&String::from_utf16_lossy(&units[at..end]));
                end
            }
        };
        // What ends within something that was replaced ends behind it.
        for skipped in at + 1..next {
            for mark in std::mem::take(&mut closing[skipped]) {
                closing[next].insert(0, mark);
            }
        }
        at = next;
    }
    (out, mentioned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use omni_channel_sdk::content::{Entity, Link, Mention, Plain};
    use omni_channel_sdk::prelude::User;

    fn entity(offset: u32, length: u32, kind: EntityKind) -> Entity {
        Entity { offset, length, kind }
    }

    #[test]
    fn marks_stand_where_the_words_begin_and_end() {
        let text = Text {
            text: "a 🎉 bold nested end".into(),
            entities: vec![
                entity(5, 11, EntityKind::Bold(Plain {})),
                entity(10, 6, EntityKind::Italic(Plain {})),
                entity(17, 3, EntityKind::Link(Link { url: "https://e.example".into() })),
            ],
        };
        assert_eq!(written(&text).0, "a 🎉 *bold _nested_* end (https://e.example)");
    }

    #[test]
    fn a_mention_is_the_number_and_is_told_beside() {
        let mention = Mention { user: Some(User::new("5511999990001@s.whatsapp.net")), target: MentionTarget::User };
        let text = Text { text: "hi Ann!".into(), entities: vec![entity(3, 3, EntityKind::Mention(mention))] };
        assert_eq!(written(&text), ("hi @5511999990001!".into(), vec!["5511999990001@s.whatsapp.net".into()]));
    }

    #[test]
    fn entities_that_lie_outside_of_the_words_do_no_harm() {
        let text = Text {
            text: "ab".into(),
            entities: vec![entity(1, 500, EntityKind::Bold(Plain {})), entity(9, 1, EntityKind::Code(Plain {}))],
        };
        assert_eq!(written(&text).0, "a*b*");
    }
}
