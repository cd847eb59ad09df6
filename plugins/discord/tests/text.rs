//! Words and marks, whatever they are: texts that are put together from pieces of Markdown at random, by a sequence that is
//! always the same.
//!
//! What a certain text becomes is not here; that stands beside the code that reads and writes.

use omni_channel_discord::api::User;
use omni_channel_discord::convert::markdown::write;
use omni_channel_discord::convert::text::{Addressed, read};
use omni_channel_discord::known::Names;
use omni_channel_sdk::content::{Entity, EntityKind, Plain, Pre, Text};

const TEXTS: usize = 20_000;
const PIECES: [&str; 40] = [
    "a",
    "word",
    " ",
    "\n",
    "*",
    "**",
    "***",
    "_",
    "__",
    "~~",
    "||",
    "`",
    "``",
    "```",
    "```rs\n",
    "> ",
    ">>> ",
    "# ",
    "-# ",
    "[",
    "](",
    ")",
    "https://a.example",
    "<",
    ">",
    "<@5>",
    "<@!",
    "<#7>",
    "<@&8>",
    "<:x:9>",
    "<a:y:9>",
    "<t:1:R>",
    "</go:3>",
    "\\",
    "@everyone",
    "🎉",
    "ü",
    "👩‍👩‍👧",
    "\u{0}",
    "\u{202e}",
];

/// A sequence of numbers that looks random (a linear congruence): a failure can be repeated.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % most
    }

    fn text(&mut self) -> String {
        (0..self.below(24)).map(|_| PIECES[self.below(PIECES.len())]).collect()
    }
}

fn read_one(content: &str) -> Text {
    let ada = User { id: "5".into(), global_name: Some("Ada".into()), ..User::default() };
    read(content, Addressed { names: &Names::default(), people: &[ada], everyone: true })
}

/// The units of UTF-16 at which a character begins, and the end.
fn places(text: &str) -> Vec<u32> {
    let mut at = 0;
    let mut places = vec![0];
    for character in text.chars() {
        at += u32::try_from(character.len_utf16()).expect("one or two");
        places.push(at);
    }
    places
}

#[test]
fn whatever_is_read_its_entities_lie_in_it() {
    let mut chance = Chance(1);
    for _ in 0..TEXTS {
        let content = chance.text();
        let text = read_one(&content);
        let places = places(&text.text);
        let mut open: Vec<u32> = Vec::new();
        let mut before = 0;
        for Entity { offset, length, .. } in &text.entities {
            let end = offset + length;
            assert!(*length > 0 && *offset >= before, "{content:?}: {text:?}");
            assert!(places.contains(offset) && places.contains(&end), "{content:?}: {text:?}");
            open.retain(|outer| outer > offset);
            assert!(open.iter().all(|outer| *outer >= end), "they cross: {content:?}: {text:?}");
            open.push(end);
            before = *offset;
        }
    }
}

/// Marks may not survive being written again beside others, words do.
#[test]
fn what_is_written_again_keeps_its_words() {
    let mut chance = Chance(2);
    let letters = |text: &str| text.chars().filter(|letter| letter.is_alphanumeric()).collect::<String>();
    for _ in 0..TEXTS {
        let words: Vec<&str> =
            (0..chance.below(6) + 1).map(|_| ["one", "two", "ünö", "🎉x"][chance.below(4)]).collect();
        let plain = words.join(" ");
        let places = places(&plain);
        let entities = (0..chance.below(4)).map(|_| {
            let (from, to) = (places[chance.below(places.len())], places[chance.below(places.len())]);
            Entity { offset: from.min(to), length: from.abs_diff(to), kind: kind(chance.below(6)) }
        });
        let text = Text { text: plain.clone(), entities: entities.collect() };
        let written = write(&text);
        assert_eq!(letters(&read_one(&written).text), letters(&plain), "{written:?} of {text:?}");
    }
}

fn kind(number: usize) -> EntityKind {
    let plain = Plain {};
    match number {
        0 => EntityKind::Bold(plain),
        1 => EntityKind::Italic(plain),
        2 => EntityKind::Strikethrough(plain),
        3 => EntityKind::Spoiler(plain),
        4 => EntityKind::Pre(Pre { language: None }),
        _ => EntityKind::Underline(plain),
    }
}

/// A text of one style over whole words is read as it was written.
#[test]
fn one_style_survives() {
    for (number, name) in ["bold", "italic", "strikethrough", "spoiler"].into_iter().enumerate() {
        for (offset, length) in [(0, 3), (4, 3), (0, 7), (8, 5), (0, 13)] {
            let entities = vec![Entity { offset, length, kind: kind(number) }];
            let text = Text { text: "one two 🎉ünö".into(), entities };
            assert_eq!(read_one(&write(&text)), text, "{name} at {offset}");
        }
    }
}
