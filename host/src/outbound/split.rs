//! Cuts a text that is longer than a network takes, where a reader would cut it: at a paragraph, a line, a sentence, a
//! word, and only then within one.

use omni_channel_sdk::capabilities::LengthUnit;
use omni_channel_sdk::content::{Entity, Text};

/// What marks the beginning and the end of a block of code in Markdown.
const FENCE: &str = "```";

/// How a network takes a text.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// The most of one message, in `unit`.
    pub limit: u32,
    /// What it counts.
    pub unit: LengthUnit,
    /// Whether it reads Markdown: a block of code stays whole where it fits, and else is closed before a cut and opened
    /// again behind it.
    pub markdown: bool,
}

/// The parts of a text, none longer than the limit, in order. Formatting that spans a cut goes on behind it.
pub fn split(text: &Text, measure: Measure) -> Vec<Text> {
    let Measure { unit, markdown, .. } = measure;
    let limit = (measure.limit as usize).max(1);
    let mut parts = Vec::new();
    let mut start = 0;
    // The line that opened the block of code which is cut through.
    let mut open: Option<String> = None;
    // The same place in UTF-16, in which formatting is counted; kept beside it, for counting anew is quadratic.
    let (mut counted, mut units) = (0, 0_u32);
    while start < text.text.len() {
        let rest = &text.text[start..];
        let before = open.as_ref().map(|line| format!("{line}\n")).unwrap_or_default();
        let room = limit.saturating_sub(unit.measure(&before)).max(1);
        let (length, still_open) = match markdown {
            true => cut_around_code(rest, room, unit, open.as_deref()),
            false => (cut(rest, room, unit), None),
        };
        let piece = rest[..length].trim_end();
        if !piece.trim().is_empty() {
            units = units.saturating_add(utf16(&text.text[counted..start]));
            counted = start;
            let mut entities = entities_within(text, units, units.saturating_add(utf16(piece)));
            for entity in &mut entities {
                entity.offset = entity.offset.saturating_add(utf16(&before));
            }
            let after = if still_open.is_some() { format!("\n{FENCE}") } else { String::new() };
            parts.push(Text { text: format!("{before}{piece}{after}"), entities });
        }
        start += length;
        // What only separated two parts is not the beginning of the next; within code what a line begins with counts.
        let separators: &[char] = if still_open.is_some() { &['\n', '\r'] } else { &[' ', '\n', '\r', '\t'] };
        start += text.text[start..].len() - text.text[start..].trim_start_matches(separators).len();
        open = still_open;
    }
    parts
}

/// Where to cut a text in Markdown, and the line by which a block is opened that the cut goes through.
fn cut_around_code(text: &str, limit: usize, unit: LengthUnit, open: Option<&str>) -> (usize, Option<String>) {
    // The end of a block that is cut through takes room, too.
    let closing = unit.measure(FENCE) + 1;
    let whole = fitting(text, limit, unit);
    let ends = |length: usize| block_at(&text[..length], open);
    if whole == text.len() && ends(whole).is_none() {
        return (whole, None);
    }
    let length = cut(text, limit, unit);
    let Some((begins, line)) = ends(length) else { return (length, None) };
    // A block that begins here and fits into a part of its own is moved there whole.
    if let Some(begins) = begins.filter(|begins| *begins > 0) {
        let block = &text[begins..];
        let end = block[FENCE.len()..].find(FENCE).map_or(block.len(), |end| end + 2 * FENCE.len());
        if unit.measure(&block[..end]) <= limit {
            return (begins, None);
        }
    }
    if limit <= closing + unit.measure(&line) {
        // There is no room for marks: it is cut as words are.
        return (length, None);
    }
    let length = cut(text, limit - closing, unit);
    match ends(length) {
        Some((_, line)) => (length, Some(line)),
        None => (length, None),
    }
}

/// The block of code that is open at the end of a text: where it begins in it, unless it was open before, and the line that
/// opens it.
fn block_at(text: &str, open: Option<&str>) -> Option<(Option<usize>, String)> {
    let mut state = open.map(|line| (None, line.to_owned()));
    for (at, _) in text.match_indices(FENCE) {
        state = match state {
            Some(_) => None,
            None => {
                let line = text[at..].lines().next().unwrap_or(FENCE);
                // Words behind the marks are code and no language.
                let language = line[FENCE.len()..].trim();
                let is_language =
                    language.len() <= 20 && language.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'`');
                Some((Some(at), if is_language { line.trim_end().to_owned() } else { FENCE.to_owned() }))
            }
        };
    }
    state
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

    fn within(limit: u32, unit: LengthUnit) -> Measure {
        Measure { limit, unit, markdown: false }
    }

    fn parts(text: &str, limit: u32) -> Vec<String> {
        split(&Text::plain(text), within(limit, LengthUnit::Chars)).into_iter().map(|part| part.text).collect()
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
                let split = split(&Text::plain(text.as_str()), within(limit, unit));
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
        let parts = split(&Text { text, entities: vec![bold] }, within(1, LengthUnit::Utf16));
        assert_eq!(parts.len(), 400_000);
        assert_eq!(parts.iter().position(|part| !part.entities.is_empty()), Some(399_999));
    }

    #[test]
    fn formatting_goes_on_behind_a_cut() {
        let bold = Entity { offset: 4, length: 9, kind: EntityKind::Bold(Plain {}) };
        let text = Text { text: "🎉 one two three".into(), entities: vec![bold] };
        let parts = split(&text, within(9, LengthUnit::Chars));
        assert_eq!(parts[0].text, "🎉 one two");
        assert_eq!((parts[0].entities[0].offset, parts[0].entities[0].length), (4, 6));
        assert_eq!((parts[1].entities[0].offset, parts[1].entities[0].length), (0, 2));
    }

    fn in_markdown(text: &str, limit: u32) -> Vec<String> {
        let measure = Measure { markdown: true, ..within(limit, LengthUnit::Chars) };
        split(&Text::plain(text), measure).into_iter().map(|part| part.text).collect()
    }

    #[test]
    fn a_block_of_code_is_moved_whole_or_closed_and_opened_again() {
        let text = "some words before\n```rs\nlet a = 1;\n```\nand after";
        assert_eq!(in_markdown(text, 30), ["some words before", "```rs\nlet a = 1;\n```\nand after"]);
        let long = format!("```rs\n{}```", "    x;\n".repeat(12));
        let parts = in_markdown(&long, 40);
        assert!(parts.len() > 2, "{parts:?}");
        for part in &parts {
            assert!(part.starts_with("```rs\n") && part.ends_with("\n```") && part.len() <= 40, "{part:?}");
            assert!(part.lines().filter(|line| line.contains('x')).all(|line| line == "    x;"), "{part:?}");
        }
        assert_eq!(parts.iter().map(|part| part.matches("x;").count()).sum::<usize>(), 12);
        assert_eq!(parts_of_words(&in_markdown("```\nnever closed, and long enough to be cut", 30)), 8);
    }

    fn parts_of_words(parts: &[String]) -> usize {
        parts.iter().flat_map(|part| part.split_whitespace()).filter(|word| *word != FENCE).count()
    }

    #[test]
    fn markdown_never_makes_a_part_too_long_and_loses_no_word() {
        let text = "a ```b``` c\n```x\n1 2 3\n```\n``` ```` ``` d e f ```go\nfunc() {}\n".repeat(9);
        let words =
            |text: &str| text.split(|c: char| c == '`' || c.is_whitespace()).filter(|word| !word.is_empty()).count();
        for limit in [1, 2, 5, 9, 14, 20, 37, 200] {
            let parts = in_markdown(&text, limit);
            let longest = parts.iter().map(|part| part.chars().count()).max();
            assert!(longest <= Some(limit as usize), "{limit} {parts:?}");
            if limit >= 20 {
                assert!(parts.iter().map(|part| words(part)).sum::<usize>() >= words(&text), "{limit} {parts:?}");
            }
        }
    }
}
