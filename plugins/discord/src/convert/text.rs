//! Discord's Markdown → words with entities.
//!
//! What is marked up loses its marks and gets an entity; what is addressed is written as people see it (`@Ada`, `#general`).
//! Lists, headings' sizes and small print have no word of the host's: lists stay as they are written, headings are bold.
//! Never fails: what is no Markdown is words.

use crate::api::User;
use crate::convert::people;
use crate::known::Names;
use omni_channel_sdk::content::{CustomEmoji, Entity, EntityKind, Link, Mention, MentionTarget, Plain, Pre, Text};

/// How deep marks may nest.
const DEPTH: usize = 12;

/// What a text may name.
#[derive(Clone, Copy, Debug)]
pub struct Addressed<'a> {
    /// Channels and roles.
    pub names: &'a Names,
    /// The people that the message mentions.
    pub people: &'a [User],
    /// Whether everybody is really addressed.
    pub everyone: bool,
}

/// Reads a text.
pub fn read(content: &str, addressed: Addressed<'_>) -> Text {
    let mut reader = Reader { out: Text::default(), units: 0, addressed };
    reader.lines(content);
    let mut text = reader.out;
    text.entities.retain(|entity| entity.length > 0);
    text.entities.sort_by_key(|entity| (entity.offset, std::cmp::Reverse(entity.length)));
    text
}

struct Reader<'a> {
    out: Text,
    /// The length of what is written, in UTF-16.
    units: u32,
    addressed: Addressed<'a>,
}

impl<'a> Reader<'a> {
    fn write(&mut self, words: &str) {
        self.out.text.push_str(words);
        self.units = self.units.saturating_add(u32::try_from(words.encode_utf16().count()).unwrap_or(u32::MAX));
    }

    fn marked(&mut self, kind: EntityKind, inner: impl FnOnce(&mut Self)) {
        let (offset, place) = (self.units, self.out.entities.len());
        inner(self);
        // Before what is within it: of two of the same length the outer one comes first.
        self.out.entities.insert(place, Entity { offset, length: self.units - offset, kind });
    }

    /// Takes a text line by line where lines mean something, and as it is in between.
    fn lines(&mut self, content: &str) {
        let mut rest = content;
        let mut plain = content;
        // Whether `rest` begins a line.
        let mut fresh = true;
        while !rest.is_empty() {
            if fresh && let Some((marked, behind)) = line_mark(rest) {
                let before = &plain[..plain.len() - rest.len()];
                self.spans(before, 0);
                match marked {
                    Line::Quote(quoted) => self.marked(EntityKind::Quote(Plain {}), |reader| reader.spans(&quoted, 0)),
                    Line::Heading(words) => self.marked(EntityKind::Bold(Plain {}), |reader| reader.spans(words, 0)),
                    Line::Small(words) => self.spans(words, 0),
                }
                rest = behind;
                plain = behind;
                fresh = false;
                continue;
            }
            // A block of code has no lines of its own.
            let skip = match rest.strip_prefix("```").and_then(|body| body.find("```")) {
                Some(end) => end + 6,
                None => rest.chars().next().map_or(1, char::len_utf8),
            };
            fresh = rest[..skip].ends_with('\n');
            rest = &rest[skip..];
        }
        self.spans(plain, 0);
    }

    fn spans(&mut self, content: &str, depth: usize) {
        let mut rest = content;
        let mut before = ' ';
        while let Some(first) = rest.chars().next() {
            let taken = if depth < DEPTH { self.special(rest, before, depth) } else { 0 };
            let taken = if taken == 0 {
                self.write(&rest[..first.len_utf8()]);
                first.len_utf8()
            } else {
                taken
            };
            before = rest[..taken].chars().next_back().unwrap_or(' ');
            rest = &rest[taken..];
        }
    }

    /// Takes what is special at the beginning of a text; how many bytes that was, 0 when it is words.
    fn special(&mut self, rest: &str, before: char, depth: usize) -> usize {
        match rest.as_bytes().first() {
            Some(b'\\') => match rest[1..].chars().next().filter(char::is_ascii_punctuation) {
                Some(escaped) => {
                    self.write(escaped.encode_utf8(&mut [0; 4]));
                    2
                }
                None => 0,
            },
            Some(b'`') => self.code(rest),
            Some(b'<') => self.address(rest),
            Some(b'[') => self.link(rest, depth),
            Some(b'@') => self.everybody(rest),
            Some(b'*' | b'_' | b'~' | b'|') => self.emphasis(rest, before, depth),
            _ => 0,
        }
    }

    fn code(&mut self, rest: &str) -> usize {
        if let Some(body) = rest.strip_prefix("```")
            && let Some(end) = body.find("```").filter(|end| *end > 0)
        {
            let block = &body[..end];
            let (language, code) = match block.split_once('\n') {
                Some((language, code)) if is_language(language) => {
                    (Some(language.to_owned()).filter(|language| !language.is_empty()), code)
                }
                _ => (None, block),
            };
            self.marked(EntityKind::Pre(Pre { language }), |reader| reader.write(code.trim_end_matches('\n')));
            return end + 6;
        }
        for marks in ["``", "`"] {
            if let Some(body) = rest.strip_prefix(marks)
                && let Some(end) = body.find(marks).filter(|end| *end > 0)
            {
                self.marked(EntityKind::Code(Plain {}), |reader| reader.write(&body[..end]));
                return end + 2 * marks.len();
            }
        }
        0
    }

    fn emphasis(&mut self, rest: &str, before: char, depth: usize) -> usize {
        let plain = Plain {};
        let marks = [
            ("**", EntityKind::Bold(plain)),
            ("__", EntityKind::Underline(plain)),
            ("~~", EntityKind::Strikethrough(plain)),
            ("||", EntityKind::Spoiler(plain)),
            ("*", EntityKind::Italic(plain)),
            ("_", EntityKind::Italic(plain)),
        ];
        for (mark, kind) in marks {
            let Some(body) = rest.strip_prefix(mark) else { continue };
            if mark == "_" && before.is_alphanumeric() || mark == "*" && body.starts_with(char::is_whitespace) {
                continue;
            }
            // `**` that nothing closes is words, and no `*` around something.
            if mark.len() == 1 && body.starts_with(mark) {
                continue;
            }
            let Some(end) = closing(body, mark) else { continue };
            self.marked(kind, |reader| reader.spans(&body[..end], depth + 1));
            return end + 2 * mark.len();
        }
        0
    }

    fn link(&mut self, rest: &str, depth: usize) -> usize {
        let Some(label_end) = rest.find("](") else { return 0 };
        let label = &rest[1..label_end];
        let behind = &rest[label_end + 2..];
        let Some(end) = behind.find(')') else { return 0 };
        let url = behind[..end].trim_start_matches('<');
        let url = url.split([' ', '>']).next().unwrap_or_default();
        if label.is_empty() || label.contains('\n') || !(url.starts_with("https://") || url.starts_with("http://")) {
            return 0;
        }
        self.marked(EntityKind::Link(Link { url: url.to_owned() }), |reader| reader.spans(label, depth + 1));
        label_end + 2 + end + 1
    }

    fn everybody(&mut self, rest: &str) -> usize {
        let targets = [("@everyone", MentionTarget::Everyone), ("@here", MentionTarget::Here)];
        for (words, target) in targets {
            if self.addressed.everyone && rest.starts_with(words) {
                self.marked(EntityKind::Mention(Mention { user: None, target }), |reader| reader.write(words));
                return words.len();
            }
        }
        0
    }

    /// `<@1>`, `<#1>`, `<@&1>`, `<:name:1>`, `<t:1>`, `</name:1>`, `<https://…>`.
    fn address(&mut self, rest: &str) -> usize {
        let Some(end) = rest.find('>').filter(|end| *end > 1) else { return 0 };
        let inner = &rest[1..end];
        let is_id = |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
        let mention = |user, target| EntityKind::Mention(Mention { user, target });
        if let Some(role) = inner.strip_prefix("@&").filter(|id| is_id(id)) {
            let words = format!("@{}", self.addressed.names.role(role).unwrap_or(role).trim_start_matches('@'));
            self.marked(mention(None, MentionTarget::Role), |reader| reader.write(&words));
        } else if let Some(id) = inner.strip_prefix('@').map(|id| id.trim_start_matches('!')).filter(|id| is_id(id)) {
            let person = self.addressed.people.iter().find(|person| person.id == id);
            let user = match person {
                Some(person) => people::user(person, person.member.as_deref()),
                None => omni_channel_sdk::chat::User::new(id),
            };
            let words = format!("@{}", user.name.as_deref().unwrap_or(id));
            self.marked(mention(Some(user), MentionTarget::User), |reader| reader.write(&words));
        } else if let Some(channel) = inner.strip_prefix('#').filter(|id| is_id(id)) {
            let name = self.addressed.names.channel(channel).and_then(|place| place.name.as_deref());
            let words = format!("#{}", name.unwrap_or(channel));
            self.marked(mention(None, MentionTarget::Channel), |reader| reader.write(&words));
        } else if let Some((name, id)) =
            inner.strip_prefix("a:").or(inner.strip_prefix(':')).and_then(|e| e.split_once(':'))
            && is_id(id)
        {
            let words = format!(":{name}:");
            self.marked(EntityKind::CustomEmoji(CustomEmoji { id: id.to_owned() }), |reader| reader.write(&words));
        } else if let Some(time) = inner.strip_prefix("t:") {
            let Some(words) = timestamp(time) else { return 0 };
            self.write(&words);
        } else if let Some((command, id)) = inner.strip_prefix('/').and_then(|command| command.split_once(':'))
            && is_id(id)
        {
            let words = format!("/{command}");
            self.marked(EntityKind::Command(Plain {}), |reader| reader.write(&words));
        } else if inner.starts_with("https://") || inner.starts_with("http://") {
            self.marked(EntityKind::Url(Plain {}), |reader| reader.write(inner));
        } else {
            return 0;
        }
        end + 1
    }
}

/// What a line is, when it is more than words.
enum Line<'a> {
    Quote(String),
    Heading(&'a str),
    Small(&'a str),
}

fn line_mark(rest: &str) -> Option<(Line<'_>, &str)> {
    if let Some(quoted) = rest.strip_prefix(">>> ") {
        return Some((Line::Quote(quoted.to_owned()), ""));
    }
    if rest.starts_with("> ") {
        let mut quoted = String::new();
        let mut behind = rest;
        while let Some(line) = behind.strip_prefix("> ") {
            let end = line.find('\n').unwrap_or(line.len());
            if !quoted.is_empty() {
                quoted.push('\n');
            }
            quoted.push_str(&line[..end]);
            let next = line.get(end + 1..).unwrap_or_default();
            if !next.starts_with("> ") {
                // The end of the line stays outside.
                return Some((Line::Quote(quoted), &line[end..]));
            }
            behind = next;
        }
    }
    let line_end = rest.find('\n').unwrap_or(rest.len());
    let (line, behind) = rest.split_at(line_end);
    let heading = ["# ", "## ", "### "].iter().find_map(|mark| line.strip_prefix(mark));
    if let Some(words) = heading.map(str::trim).filter(|words| !words.is_empty()) {
        return Some((Line::Heading(words), behind));
    }
    line.strip_prefix("-# ").map(|words| (Line::Small(words), behind))
}

fn is_language(word: &str) -> bool {
    word.len() <= 20
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'_' | b'#' | b'.'))
}

/// Where a mark is closed: not within code, not escaped, not at once.
fn closing(body: &str, mark: &str) -> Option<usize> {
    let bytes = body.as_bytes();
    let (letter, width) = (mark.as_bytes()[0], mark.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'`' => {
                let end = body.get(at + 1..).and_then(|rest| rest.find('`'));
                at += end.map_or(1, |end| end + 2);
            }
            byte if byte == letter => {
                let run = bytes[at..].iter().take_while(|other| **other == letter).count();
                let fits = if width == 2 { run >= 2 } else { run == 1 || run == 3 };
                // Of `***` the inner mark is closed first.
                let close = at + run.saturating_sub(width);
                let word_goes_on = mark == "_" && body[at + run..].starts_with(|next: char| next.is_alphanumeric());
                if fits && close > 0 && !word_goes_on {
                    return Some(close);
                }
                at += run;
            }
            _ => at += 1,
        }
    }
    None
}

/// `1618953630:R`: a time that every reader sees in their own zone; here in everybody's.
fn timestamp(words: &str) -> Option<String> {
    let seconds: i64 = words.split(':').next()?.parse().ok()?;
    let time = chrono::DateTime::from_timestamp(seconds, 0)?;
    Some(time.format("%Y-%m-%d %H:%M UTC").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(content: &str) -> (String, Vec<(String, String)>) {
        let names = Names::default();
        let ada = User { id: "5".into(), global_name: Some("Ada".into()), ..User::default() };
        let text = read(content, Addressed { names: &names, people: &[ada], everyone: true });
        let units: Vec<u16> = text.text.encode_utf16().collect();
        let entities = text.entities.iter().map(|entity| {
            let range = entity.offset as usize..(entity.offset + entity.length) as usize;
            let json = serde_json::to_value(&entity.kind).expect("it is JSON");
            (json["type"].as_str().expect("it has a type").to_owned(), String::from_utf16_lossy(&units[range]))
        });
        (text.text.clone(), entities.collect())
    }

    fn check(content: &str, words: &str, entities: &[(&str, &str)]) {
        let entities: Vec<(String, String)> =
            entities.iter().map(|(kind, words)| ((*kind).to_owned(), (*words).to_owned())).collect();
        assert_eq!(parsed(content), (words.to_owned(), entities), "{content}");
    }

    #[test]
    fn marks_become_entities() {
        check("plain", "plain", &[]);
        check(
            "**b** *i* _j_ __u__ ~~s~~ ||h||",
            "b i j u s h",
            &[
                ("bold", "b"),
                ("italic", "i"),
                ("italic", "j"),
                ("underline", "u"),
                ("strikethrough", "s"),
                ("spoiler", "h"),
            ],
        );
        check("***both***", "both", &[("bold", "both"), ("italic", "both")]);
        check("**a *b* c**", "a b c", &[("bold", "a b c"), ("italic", "b")]);
        check("🎉 **x**", "🎉 x", &[("bold", "x")]);
        check(
            "[here](https://a.example/b) <https://c.example>",
            "here https://c.example",
            &[("link", "here"), ("url", "https://c.example")],
        );
    }

    #[test]
    fn code_is_left_alone() {
        check("`**a**`", "**a**", &[("code", "**a**")]);
        check("```rs\nlet a = *b;\n```", "let a = *b;", &[("pre", "let a = *b;")]);
        check("**a `**` b**", "a ** b", &[("bold", "a ** b"), ("code", "**")]);
        check("```\n> no quote\n```", "> no quote", &[("pre", "> no quote")]);
    }

    #[test]
    fn lines_that_mean_something() {
        check("> a\n> b\nc", "a\nb\nc", &[("quote", "a\nb")]);
        check("x\n>>> a\nb", "x\na\nb", &[("quote", "a\nb")]);
        check("# Title\nwords", "Title\nwords", &[("bold", "Title")]);
        check("-# small", "small", &[]);
        check("#general", "#general", &[]);
    }

    #[test]
    fn who_is_addressed_is_written_out() {
        check("<@5> and <@!9>", "@Ada and @9", &[("mention", "@Ada"), ("mention", "@9")]);
        check(
            "@everyone <#7> <@&8>",
            "@everyone #7 @8",
            &[("mention", "@everyone"), ("mention", "#7"), ("mention", "@8")],
        );
        check(
            "<:pepe:12> <t:0:R> </ask:3>",
            ":pepe: 1970-01-01 00:00 UTC /ask",
            &[("customEmoji", ":pepe:"), ("command", "/ask")],
        );
    }

    #[test]
    fn what_is_no_markdown_is_words() {
        for words in
            ["2 * 3 * 4", "snake_case_name", "a < b > c", "**open", "`open", "[a](b)", "a ** b", "<>", "||", "****"]
        {
            check(words, words, &[]);
        }
        check("\\*no\\*", "*no*", &[]);
    }

    #[test]
    fn hostile_nesting_ends() {
        let deep = "**_".repeat(600) + &"_**".repeat(600);
        assert!(!parsed(&deep).0.is_empty());
        assert!(!parsed(&"[".repeat(4_000)).0.is_empty());
    }
}
