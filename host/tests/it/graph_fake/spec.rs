//! Meta's OpenAPI of the WhatsApp Business platform as a judge of messages, both ways, where it is at hand.
//!
//! The document contradicts its own examples here and there; what is mended of it is in [`mended`], each with its reason.

use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;

/// The document, in a folder above the repository.
const FILE: &str = "shared/specs/whatsapp-business-v23-openapi.json";
/// What goes out, by type.
const OUT: [(&str, &str); 11] = [
    ("text", "TextMessage"),
    ("audio", "AudioMessage"),
    ("document", "DocumentMessage"),
    ("image", "ImageMessage"),
    ("location", "LocationMessage"),
    ("video", "VideoMessage"),
    ("sticker", "StickerMessage"),
    ("reaction", "ReactionMessage"),
    ("interactive", "InteractiveMessage"),
    ("contacts", "ContactsMessage"),
    ("template", "TemplateMessage"),
];
/// What comes in, by type.
const IN: [(&str, &str); 14] = [
    ("text", "TextMessage_2"),
    ("reaction", "ReactionMessage_1"),
    ("audio", "AudioMessage_1"),
    ("document", "DocumentMessage_1"),
    ("image", "ImageMessage_1"),
    ("sticker", "StickerMessage_1"),
    ("video", "VideoMessage_1"),
    ("location", "LocationMessage_1"),
    ("contacts", "ContactSharingMessage"),
    ("unsupported", "UnsupportedMessage"),
    ("button", "ButtonMessage"),
    ("interactive", "InteractiveMessageReply"),
    ("order", "OrderMessage"),
    ("system", "SystemMessage"),
];

/// The document.
pub struct Spec {
    components: Value,
    compiled: Mutex<HashMap<String, jsonschema::Validator>>,
}

impl std::fmt::Debug for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spec").finish_non_exhaustive()
    }
}

impl Spec {
    /// Reads the document; `None`, with a word about it, when it is not there. `repository` is the root of this one.
    pub fn load(repository: &Path) -> Option<Self> {
        let repository = repository.canonicalize().ok()?;
        let read = repository.ancestors().skip(1).find_map(|above| std::fs::read_to_string(above.join(FILE)).ok());
        let Some(text) = read else {
            println!("skipping the validation by Meta's OpenAPI document: there is no {FILE} above the repository");
            return None;
        };
        let document: Value = serde_json::from_str(&text).expect("the document is JSON");
        let schemas = document["components"]["schemas"].as_object().expect("it has schemas").clone();
        Some(Self { components: json!({"schemas": mended(schemas)}), compiled: Mutex::default() })
    }

    /// What is wrong with a message that is sent. Nothing is said of what Meta documents elsewhere alone: a button that opens
    /// an address, and people without a number.
    pub fn sent(&self, message: &Value) -> Vec<String> {
        if message["status"] == "read" {
            return self.judge("MarkMessageRequestPayload", message);
        }
        if message["interactive"]["type"] == "cta_url" || message.get("recipient").is_some() {
            return Vec::new();
        }
        self.of_type(&OUT, message)
    }

    /// What is wrong with a message that came in.
    pub fn received(&self, message: &Value) -> Vec<String> {
        self.of_type(&IN, message)
    }

    /// What is wrong with an object.
    pub fn object(&self, schema: &str, object: &Value) -> Vec<String> {
        self.judge(schema, object)
    }

    fn of_type(&self, kinds: &[(&str, &str)], message: &Value) -> Vec<String> {
        let kind = message["type"].as_str().unwrap_or_default();
        match kinds.iter().find(|(name, _)| *name == kind) {
            Some((_, schema)) => self.judge(schema, message),
            None => vec![format!("{kind:?} is no type of message")],
        }
    }

    fn judge(&self, schema: &str, object: &Value) -> Vec<String> {
        let mut compiled = self.compiled.lock().expect("nobody panics while holding it");
        let validator = compiled.entry(schema.to_owned()).or_insert_with(|| {
            let whole = json!({"$ref": format!("#/components/schemas/{schema}"), "components": self.components});
            jsonschema::draft202012::new(&whole).expect("the document has good schemas")
        });
        validator.iter_errors(object).map(|error| format!("{schema}{}: {error}", error.instance_path())).collect()
    }
}

/// The schemas, where the document does not contradict itself.
fn mended(mut schemas: Map<String, Value>) -> Value {
    // Parts that take nothing else than their own fields cannot be put together: the whole does not.
    for (_, name) in OUT {
        let closed = schemas[name]["allOf"][1].as_object_mut().and_then(|part| part.remove("additionalProperties"));
        if closed == Some(Value::Bool(false)) {
            schemas[name]["unevaluatedProperties"] = false.into();
        }
    }
    // What Meta's guides have of every message, and the document nowhere.
    schemas["BaseMessageProperties"]["properties"]["biz_opaque_callback_data"] =
        json!({"type": "string", "maxLength": 512});
    // Half of its own examples of templates have none.
    if let Some(language) = schemas["LanguageObject"].as_object_mut() {
        language.insert("required".into(), json!(["code"]));
    }
    // What comes in has the fields of what comes in, and not those of what goes out.
    for (_, name) in IN {
        schemas[name]["allOf"][0] = json!({"$ref": "#/components/schemas/BaseMessageProperties_1"});
    }
    // The errors of what comes in are not those of the Graph API.
    schemas["UnsupportedMessage"]["allOf"][1]["properties"]["errors"]["items"] =
        json!({"$ref": "#/components/schemas/ErrorObject_2"});
    // Only an answer to an advertisement has a product.
    schemas["ContextObject"]["required"] = json!(["id"]);
    Value::Object(schemas)
}
