//! Whether a channel's `configSchema` is one that can be used: small, and of references that end.
//!
//! Compiling a schema follows its references, and forty definitions that each name the next one twice have 2^40 paths. So
//! what is expanded is counted first. Deliberately not here: what the schema says about a configuration.

use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;
use std::collections::HashMap;

/// Bytes that a schema may have, as JSON.
const LARGEST: usize = 64 << 10;
/// Parts that it may have once its references are followed.
const PARTS: u64 = 10_000;
/// Bytes that one of its patterns may have, compiled.
const PATTERN: usize = 256 << 10;
/// References that may lead from one to the next.
const DEPTH: usize = 32;

/// Says what is wrong with it.
pub(super) fn check(schema: &Value) -> Result<(), String> {
    if schema.is_null() {
        return Ok(());
    }
    let bytes = schema.to_string().len();
    if bytes > LARGEST {
        return Err(format!("its configSchema has {bytes} bytes, at most {LARGEST} are taken"));
    }
    let parts = Expansion { root: schema, known: HashMap::new(), path: Vec::new() }.parts(schema)?;
    if parts > PARTS {
        return Err(format!(
            "its configSchema has {parts} parts or more once its references are followed, at most {PARTS} are taken"
        ));
    }
    compile(schema).map_err(|error| format!("its configSchema is not a JSON Schema: {error}"))?;
    Ok(())
}

/// Makes it ready to check with. Its patterns take a time that is linear in what they are held against, and little room:
/// neither look-around nor `((…){100}){100}`.
pub(crate) fn compile(schema: &Value) -> Result<Validator, Box<ValidationError<'_>>> {
    let patterns = PatternOptions::regex().size_limit(PATTERN);
    jsonschema::options().with_pattern_options(patterns).build(schema).map_err(Box::new)
}

/// Counts parts, each definition once.
struct Expansion<'a> {
    root: &'a Value,
    known: HashMap<&'a str, u64>,
    path: Vec<&'a str>,
}

impl<'a> Expansion<'a> {
    fn parts(&mut self, value: &'a Value) -> Result<u64, String> {
        let mut parts: u64 = 1;
        match value {
            Value::Array(items) => {
                for item in items {
                    parts = parts.saturating_add(self.parts(item)?);
                }
            }
            Value::Object(fields) => {
                for (name, field) in fields {
                    let more = match (name.as_str(), field) {
                        ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(reference)) => {
                            self.behind(reference)?
                        }
                        // A definition counts where it is named.
                        ("$defs" | "definitions", Value::Object(_)) => 0,
                        _ => self.parts(field)?,
                    };
                    parts = parts.saturating_add(more);
                }
            }
            _ => {}
        }
        Ok(parts)
    }

    /// The parts of what a reference names.
    fn behind(&mut self, reference: &'a str) -> Result<u64, String> {
        if let Some(parts) = self.known.get(reference) {
            return Ok(*parts);
        }
        if self.path.contains(&reference) || reference == "#" {
            return Err(format!("its configSchema leads into itself, at {reference:?}"));
        }
        if self.path.len() == DEPTH {
            return Err(format!("its configSchema follows more than {DEPTH} references in a row, at {reference:?}"));
        }
        let named = reference.strip_prefix('#').filter(|pointer| pointer.starts_with('/'));
        let Some(found) = named.and_then(|pointer| self.root.pointer(pointer)) else {
            return Err(format!("its configSchema names {reference:?}, which is not in it"));
        };
        self.path.push(reference);
        let parts = self.parts(found)?;
        self.path.pop();
        self.known.insert(reference, parts);
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(schema: &Value) -> String {
        check(schema).expect_err("it cannot be used")
    }

    /// Definitions that each name the next one `times` times.
    fn chain(length: usize, times: usize) -> Value {
        let mut definitions = serde_json::Map::new();
        for number in 0..length {
            let next = json!({"$ref": format!("#/$defs/d{}", number + 1)});
            definitions.insert(format!("d{number}"), json!({"allOf": vec![next; times]}));
        }
        definitions.insert(format!("d{length}"), json!({"type": "object"}));
        json!({"$defs": definitions, "$ref": "#/$defs/d0"})
    }

    #[test]
    fn references_that_end_are_followed() {
        check(&Value::Null).expect("a channel needs none");
        check(&chain(20, 1)).expect("twenty in a row end");
        check(&chain(8, 2)).expect("256 paths are few");
        let twice = json!({"$defs": {"a": {"type": "string"}},
            "properties": {"x": {"$ref": "#/$defs/a"}, "y": {"$ref": "#/$defs/a"}}});
        check(&twice).expect("a definition may be named twice");
    }

    #[test]
    fn what_would_not_end_is_refused_with_its_place() {
        assert!(refused(&chain(30, 2)).contains("at most 10000 are taken"), "{}", refused(&chain(30, 2)));
        assert!(refused(&chain(40, 1)).contains("more than 32 references in a row"));
        assert!(refused(&json!({"properties": {"x": {"$ref": "#"}}})).contains("leads into itself, at \"#\""));
        let each_other =
            json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"});
        assert!(refused(&each_other).contains("leads into itself"));
        assert!(refused(&json!({"$ref": "https://example.org/x"})).contains("which is not in it"));
        assert!(refused(&json!({"$ref": "#/$defs/none"})).contains("which is not in it"));
        assert!(refused(&json!({"title": "x".repeat(LARGEST)})).contains("bytes"));
        assert!(refused(&json!({"type": "no such type"})).contains("is not a JSON Schema"));
        for pattern in ["((|||||LLLLLLLLLLLL){100}){100}", "(?=a)b"] {
            let refused = refused(&json!({"properties": {"x": {"pattern": pattern}}}));
            assert!(refused.contains("is not a JSON Schema"), "{pattern}: {refused}");
        }
    }
}
