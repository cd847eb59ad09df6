//! Everything that crosses the boundary as one JSON Schema, from which the types of other languages are generated.
//!
//! It says what a reader has to take: a field that may be left out is not required. Raw bytes that cross beside the JSON are
//! not in it.

use crate::event::Event;
use crate::frame::{ToChannel, ToHost};
use crate::manifest::ChannelManifest;
use schemars::Schema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

/// The document. Every type is named under `$defs`; [`ToChannel`], [`ToHost`], [`Event`] and [`ChannelManifest`] lead to all
/// others.
pub fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    generator.subschema_for::<ToChannel>();
    generator.subschema_for::<ToHost>();
    generator.subschema_for::<Event>();
    generator.subschema_for::<ChannelManifest>();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What crosses the boundary of an Omni channel",
        "$defs": generator.take_definitions(true),
    })
}

/// An open set: what it knows, or something of the same form that it does not know.
pub(crate) fn open(known: Schema) -> Schema {
    let mut schema = known.to_value();
    let fields = schema.as_object_mut().expect("an enum has a schema of its own");
    let mut members = match fields.remove("oneOf") {
        Some(Value::Array(members)) => members,
        _ => vec![json!({"type": "string", "enum": fields.remove("enum")})],
    };
    fields.remove("type");
    let is_word = members.iter().all(|member| member["type"] == "string");
    members.push(if is_word {
        json!({"description": "A word that this version does not know.", "type": "string"})
    } else {
        json!({"description": "A kind that this version does not know.", "type": "object",
               "properties": {"type": {"type": "string"}}, "required": ["type"]})
    });
    fields.insert("anyOf".to_owned(), Value::Array(members));
    Schema::try_from(schema).expect("an object is a schema")
}
