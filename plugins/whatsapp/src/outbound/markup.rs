//! Words as WhatsApp writes them: `*bold*`, `_italic_`, `~struck~`, `` `code` ``, and mentions as `@` and the number.

use omni_channel_sdk::content::Text;
use omni_channel_sdk::markup::Markup;

const MARKS: Markup = Markup { bold: "*", italic: "_", strikethrough: "~", code: "`", pre: "```" };

/// The words with their markup, and whom they mention.
pub fn written(text: &Text) -> (String, Vec<String>) {
    let mut mentioned = Vec::new();
    let words = MARKS.write(text, |user| {
        mentioned.push(user.id.to_string());
        let number = user.id.as_str().split(['@', ':']).next().unwrap_or_default();
        Some(format!("@{number}"))
    });
    (words, mentioned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use omni_channel_sdk::content::{Entity, EntityKind, Mention, MentionTarget};
    use omni_channel_sdk::prelude::User;

    #[test]
    fn a_mention_is_the_number_and_is_told_beside() {
        let mention = Mention { user: Some(User::new("5511999990001@s.whatsapp.net")), target: MentionTarget::User };
        let kind = EntityKind::Mention(mention);
        let text = Text { text: "hi Ann!".into(), entities: vec![Entity { offset: 3, length: 3, kind }] };
        assert_eq!(written(&text), ("hi @5511999990001!".into(), vec!["5511999990001@s.whatsapp.net".into()]));
    }
}
