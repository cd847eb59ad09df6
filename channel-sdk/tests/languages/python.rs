//! Python: a `TypedDict` for each object, a `Literal` for each word.

use crate::schema::{Field, Form, Named, Type};
use std::fmt::Write as _;

const HEAD: &str = r#"# Generated from the wire types of the Rust SDK; do not edit.
"""The JSON that crosses the boundary: a dict for each object, with the names of the wire."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

from .http import HttpResponse, WebhookRequest
"#;

/// What has raw bytes is a class of its own, written by hand.
const BY_HAND: [&str; 2] = ["HttpResponse", "WebhookRequest"];

pub fn write(types: &[Named]) -> String {
    // Behind what it is made of stands a class that builds on another, and the name of several.
    let [mut words_and_ids, mut classes, mut members_of, mut unions] = [const { String::new() }; 4];
    for Named { name, doc, form } in types.iter().filter(|named| !BY_HAND.contains(&named.name.as_str())) {
        match form {
            Form::Alias(of) => alias(&mut words_and_ids, name, &spell(of), doc),
            Form::Words { words, open } => {
                let words: String = words.iter().map(|(word, doc)| comment(word, doc)).collect();
                let others = if *open { " | str" } else { "" };
                alias(&mut words_and_ids, name, &format!("Literal[\n{words}]{others}"), doc);
            }
            Form::Struct(fields) => class(&mut classes, name, "TypedDict", doc, fields),
            Form::Union { shared, members } => {
                let mut names = Vec::new();
                for member in members.iter().filter(|member| !member.fields.is_empty()) {
                    let own = format!("{name}{}", pascal(&member.tag));
                    let base = member.of.as_deref().filter(|of| is_struct(types, of));
                    let fields: Vec<Field> = shared.iter().chain(&member.fields).cloned().collect();
                    class(&mut members_of, &own, base.unwrap_or("TypedDict"), &member.doc, &fields);
                    names.push(own);
                }
                alias(&mut unions, name, &format!("(\n    {}\n)", names.join("\n    | ")), doc);
            }
        }
    }
    format!("{HEAD}{words_and_ids}{classes}{members_of}\n{unions}")
}

/// `waiting_for_login` → `WaitingForLogin`.
fn pascal(tag: &str) -> String {
    tag.split('_').map(|word| format!("{}{}", word[..1].to_uppercase(), &word[1..])).collect()
}

fn comment(word: &str, doc: &str) -> String {
    let doc: Vec<&str> = doc.lines().collect();
    format!("    # {}\n    \"{word}\",\n", doc.join("\n    # "))
}

/// A class can build on a struct; on a union it cannot.
fn is_struct(types: &[Named], name: &str) -> bool {
    types.iter().any(|named| named.name == name && matches!(named.form, Form::Struct(_)))
}

fn alias(text: &mut String, name: &str, of: &str, doc: &str) {
    _ = writeln!(text, "\n{name}: TypeAlias = {of}");
    string(text, "", doc);
}

fn class(text: &mut String, name: &str, base: &str, doc: &str, fields: &[Field]) {
    _ = writeln!(text, "\n\nclass {name}({base}):");
    string(text, "    ", doc);
    for Field { name, doc, required, of } in fields {
        let of = spell(of);
        _ = if *required {
            writeln!(text, "\n    {name}: {of}")
        } else {
            writeln!(text, "\n    {name}: NotRequired[{of}]")
        };
        string(text, "    ", doc);
    }
}

fn spell(of: &Type) -> String {
    match of {
        Type::Any => "Any".into(),
        Type::Bool => "bool".into(),
        Type::Integer => "int".into(),
        Type::Number => "float".into(),
        Type::String => "str".into(),
        Type::Bytes => "bytes".into(),
        Type::Word(word) => format!("Literal[\"{word}\"]"),
        Type::Ref(name) => name.clone(),
        Type::List(of) => format!("list[{}]", spell(of)),
        Type::Map(of) => format!("dict[str, {}]", spell(of)),
        Type::Nullable(of) => format!("{} | None", spell(of)),
        Type::Fields(_) => "dict[str, Any]".into(),
    }
}

fn string(text: &mut String, indent: &str, doc: &str) {
    match doc.lines().collect::<Vec<_>>().as_slice() {
        [] => {}
        [line] => _ = writeln!(text, "{indent}\"\"\"{line}\"\"\""),
        lines => {
            _ = writeln!(text, "{indent}\"\"\"{}\n{indent}\"\"\"", lines.join(&format!("\n{indent}")));
        }
    }
}
