//! The Bot API as data: judges requests, answers and objects by the published specification, where that is at hand.
//!
//! Strict both ways: a method, a field or a type that the specification does not know is a violation, and so is a field
//! that it wants and that is not there.

use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;

/// The specification, in a folder above the repository.
const FILE: &str = "shared/specs/telegram-bot-api.json";

/// The specification.
pub struct Spec {
    methods: Map<String, Value>,
    definitions: Value,
    /// Compiled on first use: all of them would take longer than most tests.
    compiled: Mutex<HashMap<String, jsonschema::Validator>>,
}

impl std::fmt::Debug for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spec").field("methods", &self.methods.len()).finish_non_exhaustive()
    }
}

impl Spec {
    /// Reads the specification; `None`, with a word about it, when it is not there. `repository` is the root of this one.
    pub fn load(repository: &Path) -> Option<Self> {
        let repository = repository.canonicalize().ok()?;
        let read = repository.ancestors().skip(1).find_map(|above| std::fs::read_to_string(above.join(FILE)).ok());
        let Some(text) = read else {
            println!("skipping the validation by the Bot API's specification: there is no {FILE} above the repository");
            return None;
        };
        let spec: Value = serde_json::from_str(&text).expect("the specification is JSON");
        let section = |name: &str| spec[name].as_object().expect("the specification has methods and types").clone();
        let definitions: Map<String, Value> =
            section("types").into_iter().map(|(name, declared)| (name, definition(&declared))).collect();
        Some(Self { methods: section("methods"), definitions: definitions.into(), compiled: Mutex::default() })
    }

    /// What is wrong with the parameters of a call.
    pub fn request(&self, method: &str, params: &Value) -> Vec<String> {
        let Some(declared) = self.methods.get(method) else { return vec![format!("{method} is no method")] };
        self.judge(&format!("request {method}"), || object(declared), params)
    }

    /// What is wrong with the result of a call.
    pub fn result(&self, method: &str, result: &Value) -> Vec<String> {
        let Some(declared) = self.methods.get(method) else { return Vec::new() };
        self.judge(&format!("result of {method}"), || any_of(&declared["returns"]), result)
    }

    /// What is wrong with an object of a type.
    pub fn object(&self, kind: &str, object: &Value) -> Vec<String> {
        self.judge(kind, || reference(kind), object)
    }

    /// The names of an object's fields.
    pub fn fields(&self, kind: &str) -> Vec<String> {
        self.definitions[kind]["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
    }

    /// A form has words only: what is not declared as words is read as JSON. A file stands for itself by its name.
    pub fn form(&self, method: &str, fields: &[(String, String)], files: &[String]) -> Value {
        let declared = self.methods.get(method).and_then(|declared| declared["fields"].as_array());
        let is_words = |name: &str| {
            let field = declared.into_iter().flatten().find(|field| field["name"] == name);
            field.is_some_and(|field| field["types"] == json!(["String"]))
        };
        let read = |name: &str, value: &str| match serde_json::from_str(value) {
            Ok(json) if !is_words(name) => json,
            _ => Value::from(value),
        };
        let fields = fields.iter().map(|(name, value)| (name.clone(), read(name, value)));
        let is_field = |name: &&String| declared.into_iter().flatten().any(|field| field["name"] == **name);
        let files = files.iter().filter(is_field).map(|name| (name.clone(), Value::from("(a file)")));
        Value::Object(fields.chain(files).collect())
    }

    fn judge(&self, what: &str, schema: impl FnOnce() -> Value, value: &Value) -> Vec<String> {
        let mut compiled = self.compiled.lock().expect("no test panics in here");
        let validator = compiled.entry(what.to_owned()).or_insert_with(|| {
            let schema = json!({"allOf": [schema()], "$defs": self.definitions});
            jsonschema::validator_for(&schema).expect("the specification gives good schemas")
        });
        validator.iter_errors(value).map(|error| format!("{what}: {error} at {}", error.instance_path())).collect()
    }
}

fn definition(declared: &Value) -> Value {
    match (declared.get("fields"), declared.get("subtypes")) {
        (None, Some(subtypes)) => any_of(subtypes),
        // It only says so in words: a text, or a list, or an object with a text in it.
        (None, None) if declared["name"] == "InputFile" => json!({"type": "string"}),
        _ => object(declared),
    }
}

fn object(declared: &Value) -> Value {
    let fields = declared["fields"].as_array().map(Vec::as_slice).unwrap_or_default();
    let name = |field: &Value| field["name"].as_str().unwrap_or_default().to_owned();
    let properties: Map<String, Value> = fields.iter().map(|field| (name(field), any_of(&field["types"]))).collect();
    let required: Vec<String> = fields.iter().filter(|field| field["required"] == true).map(name).collect();
    json!({"type": "object", "additionalProperties": false, "properties": properties, "required": required})
}

fn any_of(types: &Value) -> Value {
    let types = types.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut schemas: Vec<Value> = types.iter().filter_map(Value::as_str).map(reference).collect();
    if schemas.len() == 1 { schemas.remove(0) } else { json!({"anyOf": schemas}) }
}

fn reference(kind: &str) -> Value {
    if let Some(of) = kind.strip_prefix("Array of ") {
        return json!({"type": "array", "items": reference(of)});
    }
    match kind {
        "Integer" => json!({"type": "integer"}),
        "Float" => json!({"type": "number"}),
        "String" => json!({"type": "string"}),
        "Boolean" => json!({"type": "boolean"}),
        "True" => json!({"const": true}),
        kind => json!({"$ref": format!("#/$defs/{kind}")}),
    }
}
