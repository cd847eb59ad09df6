//! Cuts a text that is longer than a network takes, where a reader would cut it: at a paragraph, a line, a sentence, a
//! word, and only then within one.

use omni_channel_sdk::capabilities::LengthUnit;
use omni_channel_sdk::content::{Entity, Text};

/// The parts of a text, none longer than `limit`, in order. Formatting that spans a cut goes on behind it.
pub fn split(text: &Text, limit: u32, unit: LengthUnit) -> Vec<Text> {
    let limit = (limit as usize).max(1);
    let mut parts = Vec::new();
    let mut start = 0;
    // The same place in UTF-16, in which formatting is counted; kept beside it, for counting anew is quadratic.
    let (mut counted, mut units) = (0, 0_u32);
    while start < text.text.len() {
        let rest = &text.text[start..];
        let length = cut(rest, limit, unit);
        let piece = rest[..length].trim_end();
        if !piece.trim().is_empty() {
            units = units.saturating_add(utf16(&text.text[counted..start]));
            counted = start;
            let entities = entities_within(text, units, units.saturating_add(utf16(piece)));
            parts.push(Text { text: piece.to_owned(), entities });
        }
        start += length;
        // What only separated two parts is not the beginning of the next.
        start += text.text[start..].len() - text.text[start..].trim_start_matches([' ', '\n', '\r', '\t']).len();
    }
    parts
}

/// Where to cut a text: a byte offset at a character boundary, not 0; its end when it is not too long.
fn cut(text: &str, limit: usize, unit: LengthUnit) -> usize {
    let end = fitting(text, limit, unit);
    if end == text.len() {
        return end;
    }
    let window = &text[..end];
    // A cut in the first half would make many short parts.
    let half = window.len() / 2;
    let behind = |found: Option<usize>, width: usize| found.map(|at| at + width).filter(|at| *at > half);
    let sentence = || {
        window
            .char_indices()
            .zip(window.char_indices().skip(1))
            .filter(|((_, mark), (_, next))| matches!(mark, '.' | '!' | '?' | '…' | '。') && next.is_whitespace())
            .map(|(_, (at, _))| at)
            .last()
            .filter(|at| *at > half)
    };
    // What fits may end just where a reader would cut.
    let next = text[end..].chars().next();
    let at_line_end = (next == Some('\n')).then_some(end);
    let at_word_end = next.is_some_and(char::is_whitespace).then_some(end);
    at_line_end
        .or_else(|| behind(window.rfind("\n\n"), 2))
        .or_else(|| behind(window.rfind('\n'), 1))
        .or_else(sentence)
        .or(at_word_end)
        .or_else(|| behind(window.rfind(char::is_whitespace), 1).map(|at| window.ceil_char_boundary(at)))
        .unwrap_or(end)
}

/// How many bytes of a text fit, at a character boundary; at least one character.
fn fitting(text: &str, limit: usize, unit: LengthUnit) -> usize {
    let mut used = 0;
    for (at, character) in text.char_indices() {
        used += match unit {
            LengthUnit::Chars => 1,
            LengthUnit::Utf16 => character.len_utf16(),
            LengthUnit::Bytes => character.len_utf8(),
        };
        if used > limit {
            return if at == 0 { character.len_utf8() } else { at };
        }
    }
    text.len()
}

fn utf16(piece: &str) -> u32 {
    u32::try_from(LengthUnit::Utf16.measure(piece)).unwrap_or(u32::MAX)
}

/// The formatting of one part, moved to where it begins. Offsets are UTF-16.
fn entities_within(text: &Text, from: u32, to: u32) -> Vec<Entity> {
    let within = text.entities.iter().filter_map(|entity| {
        let begin = entity.offset.max(from);
        let finish = entity.offset.saturating_add(entity.length).min(to);
        (begin < finish).then(|| Entity { offset: begin - from, length: finish - begin, kind: entity.kind.clone() })
    });
    within.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use omni_channel_sdk::content::{EntityKind, Plain};

    fn parts(text: &str, limit: u32) -> Vec<String> {
        split(&Text::plain(text), limit, LengthUnit::Chars).into_iter().map(|part| part.text).collect()
    }

    #[test]
    fn a_text_that_fits_is_one_part() {
        assert_eq!(parts("hello", 5), ["hello"]);
        assert_eq!(parts("", 5), Vec::<String>::new());
    }

    #[test]
    fn it_is_cut_at_a_paragraph_then_a_line_then_a_sentence_then_a_word() {
        assert_eq!(parts("one two\n\nthree four", 12), ["one two", "three four"]);
        assert_eq!(parts("one two\nthree four", 12), ["one two", "three four"]);
        assert_eq!(parts("One two. Three four", 12), ["One two.", "Three four"]);
        assert_eq!(parts("one two three four", 12), ["one two", "three four"]);
        assert_eq!(parts("abcdefghij", 4), ["abcd", "efgh", "ij"]);
    }

    #[test]
    fn nothing_is_lost_and_no_part_is_too_long() {
        let text = "Zoë wrote: naïve café – ünïcödé 🎉🎉🎉 and more words. ".repeat(40);
        for unit in [LengthUnit::Chars, LengthUnit::Utf16, LengthUnit::Bytes] {
            for limit in [1, 2, 3, 7, 50, 333] {
                let split = split(&Text::plain(text.as_str()), limit, unit);
                let squeeze = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
                let joined: String = split.iter().map(|part| squeeze(&part.text)).collect();
                assert_eq!(joined, squeeze(&text), "{unit:?} {limit}");
                for part in &split {
                    // One character may be longer than the limit; it cannot be cut.
                    let fits = unit.measure(&part.text) <= limit as usize || part.text.chars().count() == 1;
                    assert!(fits, "{unit:?} {limit} {:?}", part.text);
                }
            }
        }
    }

    /// Whatever limit a channel names: looking at the whole rest for each part would take hours here.
    #[test]
    fn a_long_text_and_a_small_limit_are_soon_done() {
        let text = "ü".repeat(400_000);
        let bold = Entity { offset: 399_999, length: 1, kind: EntityKind::Bold(Plain {}) };
        let parts = split(&Text { text, entities: vec![bold] }, 1, LengthUnit::Utf16);
        assert_eq!(parts.len(), 400_000);
        assert_eq!(parts.iter().position(|part| !part.entities.is_empty()), Some(399_999));
    }

    #[test]
    fn formatting_goes_on_behind_a_cut() {
        let bold = Entity { offset: 4, length: 9, kind: EntityKind::Bold(Plain {}) };
        let text = Text { text: "🎉 one two three".into(), entities: vec![bold] };
        let parts = split(&text, 9, LengthUnit::Chars);
        assert_eq!(parts[0].text, "🎉 one two");
        assert_eq!((parts[0].entities[0].offset, parts[0].entities[0].length), (4, 6));
        assert_eq!((parts[1].entities[0].offset, parts[1].entities[0].length), (0, 2));
    }
}
