//! Words with entities → Discord's Markdown.
//!
//! Words without entities go out as they are: Discord reads the Markdown in them, which is what people and agents who write
//! for Discord expect. Entities add marks around their words; who is addressed is written as Discord wants it.

use omni_channel_sdk::content::{Entity, EntityKind, Mention, MentionTarget, Text};

/// Discord's Markdown for a text. Entities that lie outside of the words are left out.
pub fn write(text: &Text) -> String {
    if text.entities.is_empty() {
        return text.text.clone();
    }
    let bytes = byte_offsets(&text.text);
    let mut marks: Vec<Mark> =
        text.entities.iter().enumerate().filter_map(|(index, entity)| mark(entity, index, text, &bytes)).collect();
    // What begins first is the outer one; of those that begin together the longest.
    marks.sort_by_key(|mark| (mark.from, std::cmp::Reverse(mark.to), mark.index));
    let mut out = String::with_capacity(text.text.len() + 16);
    let mut open: Vec<&Mark> = Vec::new();
    let mut quoted = 0;
    let mut skip_to = 0;
    let mut next = marks.iter().peekable();
    for (at, character) in text.text.char_indices().chain([(text.text.len(), '\0')]) {
        while let Some(last) = open.last().filter(|mark| mark.to <= at) {
            out.push_str(&last.close);
            quoted -= usize::from(last.is_quote);
            open.pop();
        }
        while let Some(mark) = next.next_if(|mark| mark.from == at) {
            // What reaches out of what is open is left out, and in code nothing is marked.
            if open.last().is_some_and(|outer| mark.to > outer.to || outer.is_code) || at < skip_to {
                continue;
            }
            if let Some(instead) = &mark.instead {
                out.push_str(instead);
                skip_to = mark.to;
                continue;
            }
            out.push_str(&mark.open);
            quoted += usize::from(mark.is_quote);
            open.push(mark);
        }
        while next.peek().is_some_and(|mark| mark.from < at) {
            next.next();
        }
        if at < skip_to || character == '\0' && at == text.text.len() {
            continue;
        }
        out.push(character);
        if character == '\n' && quoted > 0 {
            out.push_str("> ");
        }
    }
    out
}

#[derive(Debug, Default)]
struct Mark {
    index: usize,
    from: usize,
    to: usize,
    open: String,
    close: String,
    instead: Option<String>,
    is_quote: bool,
    is_code: bool,
}

fn mark(entity: &Entity, index: usize, text: &Text, bytes: &[Option<usize>]) -> Option<Mark> {
    let place = |unit: u32| bytes.get(usize::try_from(unit).ok()?).copied().flatten();
    let (from, to) = (place(entity.offset)?, place(entity.offset.checked_add(entity.length)?)?);
    if from >= to {
        return None;
    }
    let around = |open: &str, close: &str| Mark { open: open.into(), close: close.into(), ..Mark::default() };
    let both = |mark: &str| around(mark, mark);
    let instead = |words: String| Mark { instead: Some(words), ..Mark::default() };
    let mark = match &entity.kind {
        EntityKind::Bold(_) => both("**"),
        EntityKind::Italic(_) => both("*"),
        EntityKind::Underline(_) => both("__"),
        EntityKind::Strikethrough(_) => both("~~"),
        EntityKind::Spoiler(_) => both("||"),
        EntityKind::Code(_) => Mark { is_code: true, ..both(code_mark(text.text.get(from..to)?)?) },
        EntityKind::Pre(pre) if !text.text.get(from..to)?.contains("```") => {
            let open = format!("```{}\n", pre.language.as_deref().unwrap_or_default());
            Mark { is_code: true, ..around(&open, "\n```") }
        }
        EntityKind::Quote(_) => Mark { is_quote: true, ..around("> ", "") },
        EntityKind::Link(link) => around("[", &format!("]({})", link.url)),
        EntityKind::Mention(Mention { user: Some(user), target: MentionTarget::User }) => {
            instead(format!("<@{}>", user.id))
        }
        EntityKind::CustomEmoji(emoji) => instead(format!("<:emoji:{}>", emoji.id)),
        _ => return None,
    };
    Some(Mark { index, from, to, ..mark })
}

/// What code in a line is marked by: what is not in it.
fn code_mark(code: &str) -> Option<&'static str> {
    ["`", "``"].into_iter().find(|mark| !code.contains(mark))
}

/// For each UTF-16 place the byte that begins there, and the end; nothing within a character.
fn byte_offsets(text: &str) -> Vec<Option<usize>> {
    let mut places = Vec::with_capacity(text.len() + 1);
    for (at, character) in text.char_indices() {
        places.push(Some(at));
        places.extend(std::iter::repeat_n(None, character.len_utf16() - 1));
    }
    places.push(Some(text.len()));
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use omni_channel_sdk::chat::User;
    use omni_channel_sdk::content::{CustomEmoji, Link, Plain, Pre};

    fn written(words: &str, entities: &[(u32, u32, EntityKind)]) -> String {
        let entities = entities.iter().map(|(offset, length, kind)| Entity {
            offset: *offset,
            length: *length,
            kind: kind.clone(),
        });
        write(&Text { text: words.into(), entities: entities.collect() })
    }

    #[test]
    fn entities_become_marks() {
        let plain = Plain {};
        assert_eq!(written("as *it* is", &[]), "as *it* is");
        assert_eq!(written("🎉 one two", &[(3, 3, EntityKind::Bold(plain))]), "🎉 **one** two");
        let nested = [(0, 7, EntityKind::Bold(plain)), (4, 3, EntityKind::Italic(plain))];
        assert_eq!(written("one two", &nested), "**one *two***");
        assert_eq!(written("a\nb c", &[(0, 3, EntityKind::Quote(plain))]), "> a\n> b c");
        let code = EntityKind::Pre(Pre { language: Some("rs".into()) });
        assert_eq!(written("x let", &[(2, 3, code)]), "x ```rs\nlet\n```");
        let link = EntityKind::Link(Link { url: "https://a.example".into() });
        assert_eq!(written("see", &[(0, 3, link)]), "[see](https://a.example)");
    }

    #[test]
    fn who_is_addressed_is_named_by_id() {
        let ada = EntityKind::Mention(Mention { user: Some(User::new("5")), target: MentionTarget::User });
        assert_eq!(written("hi @Ada!", &[(3, 4, ada)]), "hi <@5>!");
        let emoji = EntityKind::CustomEmoji(CustomEmoji { id: "9".into() });
        assert_eq!(written(":x:", &[(0, 3, emoji)]), "<:emoji:9>");
    }

    #[test]
    fn code_is_code() {
        let code = || EntityKind::Code(Plain {});
        assert_eq!(
            written("a b", &[(0, 3, code()), (2, 1, EntityKind::Bold(Plain {}))]),
            "`a b`",
            "nothing is marked in it"
        );
        assert_eq!(written("a`b", &[(0, 3, code())]), "``a`b``");
        assert_eq!(written("a``b", &[(0, 4, code())]), "a``b", "nothing can mark it");
        let pre = EntityKind::Pre(Pre { language: None });
        assert_eq!(written("a```b", &[(0, 5, pre)]), "a```b");
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let bold = || EntityKind::Bold(Plain {});
        assert_eq!(written("ab", &[(1, 9, bold())]), "ab");
        assert_eq!(written("🎉b", &[(1, 1, bold())]), "🎉b", "within a character");
        assert_eq!(written("abcd", &[(0, 2, bold()), (1, 3, EntityKind::Italic(Plain {}))]), "**ab**cd", "they cross");
    }
}
