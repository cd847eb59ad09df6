//! TypeScript: interfaces, and unions that are told apart by a word.

use crate::schema::{Field, Form, Member, Named, Type};
use std::fmt::Write as _;

pub fn write(types: &[Named]) -> String {
    let mut text = String::from("// Generated from the wire types of the Rust SDK; do not edit.\n");
    for Named { name, doc, form } in types {
        text.push('\n');
        comment(&mut text, "", doc);
        match form {
            Form::Alias(of) => _ = writeln!(text, "export type {name} = {};", spell(of)),
            Form::Struct(fields) => {
                _ = writeln!(text, "export interface {name} {{");
                list(&mut text, "  ", fields);
                text.push_str("}\n");
            }
            Form::Words { words, open } => {
                _ = write!(text, "export type {name} =");
                for (word, doc) in words {
                    text.push('\n');
                    comment(&mut text, "  ", doc);
                    _ = write!(text, "  | \"{word}\"");
                }
                text.push_str(if *open { "\n  | (string & {});\n" } else { ";\n" });
            }
            Form::Union { shared, members } => {
                _ = write!(text, "export type {name} =");
                if !shared.is_empty() {
                    text.push_str(" {\n");
                    list(&mut text, "  ", shared);
                    text.push_str("} & (");
                }
                for member in members {
                    text.push('\n');
                    comment(&mut text, "  ", &member.doc);
                    _ = write!(text, "  | {}", spell_member(member));
                }
                text.push_str(if shared.is_empty() { ";\n" } else { "\n);\n" });
            }
        }
    }
    text
}

fn spell_member(member: &Member) -> String {
    let Member { tag, of, fields, .. } = member;
    match (fields.as_slice(), of) {
        ([], _) => format!("\"{tag}\""),
        ([Field { name, of: kind, .. }], Some(of)) => format!("({{ {name}: {} }} & {of})", spell(kind)),
        _ => braces(fields, "  "),
    }
}

fn braces(fields: &[Field], indent: &str) -> String {
    if let [Field { name, doc, of, .. }] = fields
        && doc.is_empty()
        && !matches!(of, Type::Fields(_))
    {
        return format!("{{ {name}: {} }}", spell(of));
    }
    if fields.is_empty() {
        return "Record<string, never>".into();
    }
    let mut text = String::from("{\n");
    list(&mut text, &format!("{indent}  "), fields);
    text + indent + "}"
}

fn list(text: &mut String, indent: &str, fields: &[Field]) {
    for Field { name, doc, required, of } in fields {
        comment(text, indent, doc);
        let mark = if *required { "" } else { "?" };
        let of = match of {
            Type::Fields(fields) => braces(fields, indent),
            of => spell(of),
        };
        _ = writeln!(text, "{indent}{name}{mark}: {of};");
    }
}

fn spell(of: &Type) -> String {
    match of {
        Type::Any => "any".into(),
        Type::Bool => "boolean".into(),
        Type::Integer | Type::Number => "number".into(),
        Type::String => "string".into(),
        Type::Bytes => "Uint8Array".into(),
        Type::Word(word) => format!("\"{word}\""),
        Type::Ref(name) => name.clone(),
        Type::List(of) => format!("Array<{}>", spell(of)),
        Type::Map(of) => format!("{{ [key: string]: {} }}", spell(of)),
        Type::Nullable(of) => format!("{} | null", spell(of)),
        Type::Fields(fields) => braces(fields, ""),
    }
}

fn comment(text: &mut String, indent: &str, doc: &str) {
    match doc.lines().collect::<Vec<_>>().as_slice() {
        [] => {}
        [line] => _ = writeln!(text, "{indent}/** {line} */"),
        lines => {
            _ = writeln!(text, "{indent}/**");
            for line in lines {
                _ = writeln!(text, "{}", format!("{indent} * {line}").trim_end());
            }
            _ = writeln!(text, "{indent} */");
        }
    }
}
