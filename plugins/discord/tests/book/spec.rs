//! Discord's API as data: judges calls and objects by the OpenAPI document that Discord publishes, where that is at hand.
//!
//! Calls are judged strictly: a path, a query parameter or a field that the document does not know is a violation. Objects
//! that Discord sends are judged as the document has them, which leaves room for more. Nothing is judged that the document
//! does not describe: headers, the form of uploads, the gateway's own frames.

use serde_json::{Map, Value, json};
use std::path::Path;

/// The document, in a folder above the repository.
const FILE: &str = "shared/specs/discord-api-v10-openapi.json";

/// The document.
pub struct Spec {
    document: Value,
    /// Its schemas, in which a field that is not named is wrong.
    strict: Value,
}

impl Spec {
    /// Reads the document; `None`, with a word about it, when it is not there. `repository` is the root of this one.
    pub fn load(repository: &Path) -> Option<Self> {
        let repository = repository.canonicalize().ok()?;
        let read = repository.ancestors().skip(1).find_map(|above| std::fs::read_to_string(above.join(FILE)).ok());
        let Some(text) = read else {
            println!("skipping the validation by Discord's OpenAPI document: there is no {FILE} above the repository");
            return None;
        };
        let mut document: Value = serde_json::from_str(&text).expect("the document is JSON");
        without_empty_enums(&mut document);
        let mut strict = document["components"]["schemas"].clone();
        name_all_fields(&mut strict);
        Some(Self { document, strict })
    }

    /// What is wrong with a call: its method, its path and query behind `/api/v10`, its body.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Vec<String> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let Some((template, values)) = self.template(path, method) else {
            return vec![format!("{method} {path} is not in the document")];
        };
        let item = &self.document["paths"][template];
        let operation = &item[method.to_lowercase()];
        let declared: Vec<&Value> =
            [item, operation].into_iter().flat_map(|of| of["parameters"].as_array().into_iter().flatten()).collect();
        let parameter = |place: &str, name: &str| {
            declared.iter().find(|declared| declared["in"] == place && declared["name"] == name).copied()
        };
        let mut wrong = Vec::new();
        let fields = query.split('&').filter(|field| !field.is_empty());
        let fields = fields.map(|field| field.split_once('=').unwrap_or((field, "")));
        let given = values.iter().map(|(name, value)| ("path", *name, *value));
        for (place, name, value) in given.chain(fields.map(|(name, value)| ("query", name, value))) {
            match parameter(place, name) {
                Some(declared) => wrong.extend(self.parameter(declared, value)),
                None => wrong.push(format!("{method} {template} has no parameter {name}")),
            }
        }
        let accepted = &operation["requestBody"];
        let schema = accepted["content"].get("application/json").map(|json| json["schema"].clone());
        match (body, schema) {
            (body, Some(mut schema)) if body.is_some() || accepted["required"] == true => {
                name_all_fields(&mut schema);
                // To say nothing is as good as to say nothing in an object.
                wrong.extend(judge(&schema, &self.strict, body.unwrap_or(&json!({}))));
            }
            (Some(_), None) => wrong.push("it takes no body".to_owned()),
            _ => {}
        }
        wrong.into_iter().map(|wrong| format!("{method} {template}: {wrong}")).collect()
    }

    /// What is wrong with an object of Discord's.
    pub fn object(&self, kind: &str, object: &Value) -> Vec<String> {
        let schema = json!({"$ref": format!("#/components/schemas/{kind}")});
        judge(&schema, &self.document["components"]["schemas"], object)
    }

    /// The path as the document has it, with the values of what is left open in it. What is named counts before what is left
    /// open: `@me` is no id.
    fn template<'a>(&'a self, path: &'a str, method: &str) -> Option<(&'a str, Vec<(&'a str, &'a str)>)> {
        let paths = self.document["paths"].as_object().expect("the document has paths");
        let fitting = paths.iter().filter(|(_, item)| item.get(method.to_lowercase()).is_some());
        let fitting = fitting.filter_map(|(template, _)| Some((template.as_str(), fits(template, path)?)));
        fitting.min_by_key(|(_, values)| values.len())
    }

    fn parameter(&self, declared: &Value, value: &str) -> Vec<String> {
        let number = serde_json::from_str::<Value>(value).ok().filter(|read| !read.is_string());
        let schema = &declared["schema"];
        let schemas = &self.document["components"]["schemas"];
        // Words in an address may stand for words, numbers and truths.
        let readings = [Some(json!(value)), number];
        let wrong = readings.into_iter().flatten().map(|read| judge(schema, schemas, &read));
        wrong.min_by_key(Vec::len).unwrap_or_default()
    }
}

/// The values of a template's open segments in a path.
fn fits<'a>(template: &'a str, path: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
    let (open, given): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
    if open.len() != given.len() {
        return None;
    }
    let mut values = Vec::new();
    for (segment, value) in open.into_iter().zip(given) {
        match segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}')) {
            Some(name) => values.push((name, value)),
            None if segment != value => return None,
            None => {}
        }
    }
    Some(values)
}

fn judge(schema: &Value, schemas: &Value, value: &Value) -> Vec<String> {
    let schema = json!({"allOf": [schema], "components": {"schemas": schemas}});
    let validator = jsonschema::validator_for(&schema).expect("the document gives good schemas");
    validator.iter_errors(value).map(|error| format!("{error} at {}", error.instance_path())).collect()
}

/// An enumeration of nothing is no schema; the document has two.
fn without_empty_enums(json: &mut Value) {
    match json {
        Value::Object(fields) => {
            if fields.get("enum").and_then(Value::as_array).is_some_and(Vec::is_empty) {
                fields.remove("enum");
            }
            fields.values_mut().for_each(without_empty_enums);
        }
        Value::Array(items) => items.iter_mut().for_each(without_empty_enums),
        _ => {}
    }
}

/// Makes a field that a schema does not name wrong.
fn name_all_fields(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.values_mut().for_each(name_all_fields);
            let named = fields.get("properties").is_some_and(Value::is_object) && is_object(fields);
            if named && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".into(), Value::Bool(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(name_all_fields),
        _ => {}
    }
}

fn is_object(schema: &Map<String, Value>) -> bool {
    match schema.get("type") {
        Some(Value::String(kind)) => kind == "object",
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
        _ => false,
    }
}
