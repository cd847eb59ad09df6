//! The schema, read once into what the languages write.

use omni_channel_sdk::schema::document;
use serde_json::Value;

/// A type with a name.
pub struct Named {
    pub name: String,
    pub doc: String,
    pub form: Form,
}

pub enum Form {
    /// A type under another name: an id.
    Alias(Type),
    Struct(Vec<Field>),
    Words {
        words: Vec<(String, String)>,
        /// Whether others may come.
        open: bool,
    },
    /// One of several objects; `shared` are the fields that all have.
    Union {
        shared: Vec<Field>,
        members: Vec<Member>,
    },
}

pub struct Member {
    /// The word that tells it from the others.
    pub tag: String,
    pub doc: String,
    /// A struct whose fields it has, too.
    pub of: Option<String>,
    pub fields: Vec<Field>,
}

pub struct Field {
    pub name: String,
    pub doc: String,
    pub required: bool,
    pub of: Type,
}

#[derive(Clone)]
pub enum Type {
    Any,
    Bool,
    Integer,
    Number,
    String,
    /// Raw bytes: they cross beside the JSON.
    Bytes,
    /// Exactly this word.
    Word(String),
    Ref(String),
    List(Box<Type>),
    Map(Box<Type>),
    Nullable(Box<Type>),
    Fields(Vec<Field>),
}

impl Clone for Field {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), doc: self.doc.clone(), required: self.required, of: self.of.clone() }
    }
}

/// Raw bytes that belong to a type, or to a member of a union, and are not in its JSON.
const BYTES: [(&str, &str, &str); 3] = [
    ("HttpResponse", "body", "The whole body."),
    ("WebhookRequest", "body", "The raw body."),
    ("socketBinary", "bytes", "The frame."),
];

/// Fields that are `null` on the wire rather than absent.
const NULL: [&str; 1] = ["code"];

pub fn types() -> Vec<Named> {
    let document = document();
    let defs = document["$defs"].as_object().expect("the schema has definitions");
    defs.iter().map(|(name, schema)| Named { name: name.clone(), doc: doc(schema), form: form(name, schema) }).collect()
}

fn form(name: &str, schema: &Value) -> Form {
    if let Some(members) = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array) {
        let known = members.iter().filter(|member| !is_unknown(member));
        if members[0]["type"] == "string" {
            let words = known.flat_map(words).collect();
            return Form::Words { words, open: schema.get("anyOf").is_some() };
        }
        return Form::Union { shared: fields(schema), members: known.flat_map(member).collect() };
    }
    if schema["type"] == "string" && schema.get("enum").is_some() {
        return Form::Words { words: words(schema), open: false };
    }
    if schema["type"] == "object" {
        let mut fields = fields(schema);
        fields.extend(bytes(name));
        return Form::Struct(fields);
    }
    Form::Alias(of(schema))
}

/// What an open set says of kinds that it does not know.
fn is_unknown(member: &Value) -> bool {
    member["description"].as_str().is_some_and(|doc| doc.ends_with("that this version does not know."))
}

fn words(member: &Value) -> Vec<(String, String)> {
    match (&member["const"], &member["enum"]) {
        (Value::String(word), _) => vec![(word.clone(), doc(member))],
        (_, Value::Array(words)) => words.iter().map(|word| (string(word), String::new())).collect(),
        _ => panic!("not a word: {member}"),
    }
}

/// A member of a union; several when it is words without more.
fn member(schema: &Value) -> Vec<Member> {
    if schema["type"] == "string" {
        let member = |(tag, doc)| Member { tag, doc, of: None, fields: Vec::new() };
        return words(schema).into_iter().map(member).collect();
    }
    let mut fields = fields(schema);
    let tag = match &fields[0] {
        Field { of: Type::Word(word), .. } => word.clone(),
        field => field.name.clone(),
    };
    fields.extend(bytes(&tag));
    vec![Member { tag, doc: doc(schema), of: schema.get("$ref").map(reference), fields }]
}

fn bytes(owner: &str) -> impl Iterator<Item = Field> {
    BYTES.iter().filter(move |(of, ..)| *of == owner).map(|(_, name, doc)| Field {
        name: (*name).to_owned(),
        doc: format!("{doc} It crosses the boundary as raw bytes beside the JSON."),
        required: true,
        of: Type::Bytes,
    })
}

fn fields(schema: &Value) -> Vec<Field> {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties
        .map(|(name, schema)| {
            let required = required.contains(&name.as_str());
            let of = match of(schema) {
                // What may be left out is left out rather than `null`.
                Type::Nullable(inner) if !required && !NULL.contains(&name.as_str()) => *inner,
                of => of,
            };
            Field { name: name.clone(), doc: doc(schema), required, of }
        })
        .collect()
}

fn of(schema: &Value) -> Type {
    if let Some(reference_to) = schema.get("$ref") {
        return Type::Ref(reference(reference_to));
    }
    if let Some(word) = schema.get("const") {
        return Type::Word(string(word));
    }
    if let Some(either) = schema.get("anyOf").and_then(Value::as_array) {
        return Type::Nullable(Box::new(of(&either[0])));
    }
    match &schema["type"] {
        Value::Array(types) => {
            let mut inner = schema.clone();
            inner["type"] = types[0].clone();
            Type::Nullable(Box::new(of(&inner)))
        }
        Value::String(kind) => match kind.as_str() {
            "boolean" => Type::Bool,
            "integer" => Type::Integer,
            "number" => Type::Number,
            "string" => Type::String,
            "array" => Type::List(Box::new(of(&schema["items"]))),
            "object" => match schema.get("additionalProperties").filter(|more| !more.is_boolean() || **more == true) {
                Some(more) => Type::Map(Box::new(of(more))),
                None => Type::Fields(fields(schema)),
            },
            other => panic!("a type that no language has been taught: {other}"),
        },
        _ => Type::Any,
    }
}

fn reference(to: &Value) -> String {
    string(to).rsplit('/').next().expect("a reference names a type").to_owned()
}

fn string(value: &Value) -> String {
    value.as_str().expect("a word is a string").to_owned()
}

/// What is said about it, without links that only rustdoc follows.
fn doc(schema: &Value) -> String {
    let mut rest = schema["description"].as_str().unwrap_or_default();
    let mut words = String::new();
    while let Some((before, link)) = rest.split_once("[`") {
        let (name, after) = link.split_once("`]").expect("a link is closed");
        words.push_str(before);
        words.push_str(&format!("`{name}`"));
        rest = match after.strip_prefix('(') {
            Some(target) => target.split_once(')').expect("a target is closed").1,
            None => after,
        };
    }
    words.push_str(rest);
    words
}
