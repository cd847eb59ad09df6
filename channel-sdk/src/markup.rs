//! Words with marks in them, for networks that read formatting out of the words themselves: `*bold*`, `_italic_`.
//!
//! ```
//! use omni_channel_sdk::content::{Entity, EntityKind, Plain, Text};
//! use omni_channel_sdk::markup::Markup;
//!
//! let markup = Markup { bold: "*", ..Markup::default() };
//! let entities = vec![Entity { offset: 0, length: 2, kind: EntityKind::Bold(Plain {}) }];
//! assert_eq!(markup.write(&Text { text: "hi all".into(), entities }, |_| None), "*hi* all");
//! ```
//!
//! Deliberately not here: the way back, for what a network meant by a mark is not known, and characters that look like marks:
//! the networks have no way to write them otherwise.

use crate::chat::User;
use crate::content::{EntityKind, MentionTarget, Text};

/// The marks of a network. An empty one leaves the words plain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Markup {
    /// Around strong words.
    pub bold: &'static str,
    /// Around emphasised words.
    pub italic: &'static str,
    /// Around words that are struck out.
    pub strikethrough: &'static str,
    /// Around code within a line.
    pub code: &'static str,
    /// Around a block of code.
    pub pre: &'static str,
}

/// What a piece of the words becomes.
enum Piece {
    Marked(&'static str),
    Replaced(String),
}

impl Markup {
    /// The words with the marks. Where a person is mentioned, `mention` says what stands there; a link that is called
    /// otherwise stands behind its words.
    pub fn write(&self, text: &Text, mut mention: impl FnMut(&User) -> Option<String>) -> String {
        let units: Vec<u16> = text.text.encode_utf16().collect();
        // What is put in at each place; closing marks before opening ones, inner ones closed first.
        let mut closing: Vec<Vec<&str>> = vec![Vec::new(); units.len() + 1];
        let mut opening: Vec<Vec<&str>> = vec![Vec::new(); units.len() + 1];
        let mut replaced: Vec<Option<(usize, String)>> = vec![None; units.len() + 1];
        let mut entities: Vec<_> = text.entities.iter().collect();
        entities.sort_by_key(|entity| (entity.offset, std::cmp::Reverse(entity.length)));
        // Within what is replaced nothing can begin.
        let mut replaced_to = 0;
        for entity in entities {
            let start = entity.offset as usize;
            let end = start.saturating_add(entity.length as usize).min(units.len());
            if start >= end || start < replaced_to {
                continue;
            }
            match self.piece(&entity.kind, &units[start..end], &mut mention) {
                Some(Piece::Marked(mark)) => {
                    opening[start].push(mark);
                    closing[end].insert(0, mark);
                }
                Some(Piece::Replaced(words)) => {
                    replaced[start] = Some((end, words));
                    replaced_to = end;
                }
                None => {}
            }
        }
        let mut out = String::with_capacity(text.text.len() + 16);
        let mut at = 0;
        loop {
            closing[at].iter().for_each(|mark| out.push_str(mark));
            if at == units.len() {
                return out;
            }
            opening[at].iter().for_each(|mark| out.push_str(mark));
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
    }

    fn piece(
        &self,
        kind: &EntityKind,
        units: &[u16],
        mention: &mut impl FnMut(&User) -> Option<String>,
    ) -> Option<Piece> {
        let mark = match kind {
            EntityKind::Bold(_) => self.bold,
            EntityKind::Italic(_) => self.italic,
            EntityKind::Strikethrough(_) => self.strikethrough,
            EntityKind::Code(_) => self.code,
            EntityKind::Pre(_) => self.pre,
            EntityKind::Mention(found) if found.target == MentionTarget::User => {
                return found.user.as_ref().and_then(mention).map(Piece::Replaced);
            }
            EntityKind::Link(link) => {
                let words = String::from_utf16_lossy(units);
                return (words != link.url).then(|| Piece::Replaced(format!("{words} ({})", link.url)));
            }
            _ => "",
        };
        (!mark.is_empty()).then_some(Piece::Marked(mark))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{Entity, Link, Mention, Plain};

    const MARKS: Markup = Markup { bold: "*", italic: "_", strikethrough: "~", code: "`", pre: "```" };

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
        assert_eq!(MARKS.write(&text, |_| None), "a 🎉 *bold _nested_* end (https://e.example)");
        let plain = Markup::default().write(&text, |_| None);
        assert_eq!(plain, "a 🎉 bold nested end (https://e.example)", "a network without marks");
    }

    #[test]
    fn what_begins_within_something_that_is_replaced_leaves_no_mark() {
        let text = Text {
            text: "see this".into(),
            entities: vec![
                entity(0, 8, EntityKind::Link(Link { url: "u".into() })),
                entity(4, 4, EntityKind::Bold(Plain {})),
            ],
        };
        assert_eq!(MARKS.write(&text, |_| None), "see this (u)");
        let text = Text { entities: text.entities.into_iter().rev().collect(), ..text };
        assert_eq!(MARKS.write(&text, |_| None), "see this (u)", "in whatever order they are named");
    }

    #[test]
    fn a_mention_is_what_the_channel_says() {
        let mention = Mention { user: Some(User::new("7")), target: MentionTarget::User };
        let text = Text { text: "hi Ann!".into(), entities: vec![entity(3, 3, EntityKind::Mention(mention))] };
        assert_eq!(MARKS.write(&text, |user| Some(format!("@{}", user.id))), "hi @7!");
        assert_eq!(MARKS.write(&text, |_| None), "hi Ann!");
    }

    #[test]
    fn entities_that_lie_outside_of_the_words_do_no_harm() {
        let text = Text {
            text: "ab".into(),
            entities: vec![entity(1, 500, EntityKind::Bold(Plain {})), entity(9, 1, EntityKind::Code(Plain {}))],
        };
        assert_eq!(MARKS.write(&text, |_| None), "a*b*");
    }
}
