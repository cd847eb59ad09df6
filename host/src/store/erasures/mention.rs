//! Whether somebody is named in a piece of JSON. Pure.

use serde_json::Value;

/// Keys under which a network's id is that of a chat: one with somebody alone has their id, and what others say in it is
/// not theirs.
const OF_CHATS: &[&str] = &["chat", "chatId", "chat_id", "to", "toChat"];

/// Whether a value of ours holds one of the ids, other than as the id of a chat.
pub(super) fn names(value: &Value, users: &[&str]) -> bool {
    Search { users, without: OF_CHATS, numbers: false }.finds(value)
}

/// The same, and as the id of a chat.
pub(super) fn names_anywhere(value: &Value, users: &[&str]) -> bool {
    Search { users, without: &[], numbers: false }.finds(value)
}

/// The same in a network's own words, where ids may be numbers.
pub(super) fn raw_names(value: &Value, users: &[&str]) -> bool {
    Search { users, without: &[], numbers: true }.finds(value)
}

struct Search<'a> {
    users: &'a [&'a str],
    without: &'a [&'a str],
    numbers: bool,
}

impl Search<'_> {
    fn finds(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.users.contains(&text.as_str()),
            Value::Number(number) => self.numbers && self.users.contains(&number.to_string().as_str()),
            Value::Array(list) => list.iter().any(|item| self.finds(item)),
            Value::Object(fields) => fields.iter().any(|(key, value)| {
                self.users.contains(&key.as_str()) || (!self.without.contains(&key.as_str()) && self.finds(value))
            }),
            Value::Null | Value::Bool(_) => false,
        }
    }
}

/// Whether a value quotes what somebody wrote.
pub(super) fn quotes(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(key, value)| {
            matches!(key.as_str(), "quotedText" | "quoted_text") && !value.is_null() || quotes(value)
        }),
        Value::Array(list) => list.iter().any(quotes),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn somebody_is_named_by_their_whole_id_and_not_by_the_chat_with_them() {
        let users = ["7", "ann"];
        for named in
            [json!({"from": "ann"}), json!([{"user": {"id": "7"}}]), json!({"votes": {"ann": ["1"]}}), json!("7")]
        {
            assert!(names(&named, &users), "{named}");
        }
        for other in
            [json!({"chat": {"id": "7"}}), json!({"chatId": "ann"}), json!({"from": "anna", "n": 7}), json!("hi ann")]
        {
            assert!(!names(&other, &users), "{other}");
        }
        assert!(names_anywhere(&json!({"chat": {"id": "7"}}), &users));
        assert!(!names_anywhere(&json!({"n": 7}), &users) && raw_names(&json!({"chat": {"id": 7}}), &users));
        assert!(quotes(&json!({"body": {"replyTo": {"quotedText": "hi"}}})) && !quotes(&json!({"text": "quotedText"})));
    }
}
