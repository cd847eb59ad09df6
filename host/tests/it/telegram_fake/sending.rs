//! What a sent message looks like, with Telegram's limits on it.

use super::people::merge;
use super::state::{Refusal, State, StoredFile, Uploaded};
use serde_json::{Value, json};

/// Fields of a message that are not its content.
pub const AROUND: [&str; 7] =
    ["message_id", "from", "chat", "date", "reply_to_message", "message_thread_id", "is_topic_message"];

/// Files by method: the field, and the folder that Telegram keeps them in.
const FILES: [(&str, &str, &str); 7] = [
    ("sendPhoto", "photo", "photos"),
    ("sendVoice", "voice", "voice"),
    ("sendAudio", "audio", "music"),
    ("sendVideo", "video", "videos"),
    ("sendAnimation", "animation", "animations"),
    ("sendDocument", "document", "documents"),
    ("sendSticker", "sticker", "stickers"),
];

pub fn is_send(method: &str) -> bool {
    ["sendMessage", "sendLocation", "sendVenue", "sendContact", "sendPoll"].contains(&method)
        || FILES.iter().any(|(of, ..)| *of == method)
}

/// The fields that make a message what it is.
pub fn content(state: &mut State, method: &str, params: &Value, files: &[Uploaded]) -> Result<Value, Refusal> {
    let pick = |names: &[&str]| {
        let found = names.iter().filter_map(|name| params.get(*name).map(|value| ((*name).to_owned(), value.clone())));
        Value::Object(found.collect())
    };
    match method {
        "sendMessage" => text(params),
        "sendLocation" => {
            let place = pick(&["latitude", "longitude", "horizontal_accuracy", "live_period", "heading"]);
            Ok(json!({"location": place}))
        }
        "sendVenue" => {
            let place = pick(&["latitude", "longitude"]);
            let mut venue = pick(&["title", "address"]);
            venue["location"] = place.clone();
            Ok(json!({"venue": venue, "location": place}))
        }
        "sendContact" => Ok(json!({"contact": pick(&["phone_number", "first_name", "last_name", "vcard"])})),
        "sendPoll" => Ok(json!({"poll": poll(state, params)})),
        _ => {
            let (_, field, folder) = FILES.iter().find(|(of, ..)| *of == method).expect("it is a send with a file");
            let file = file(state, folder, &params[*field], field, files)?;
            let mut content = described(field, &file, params);
            if *field != "sticker" {
                merge(&mut content, caption(params)?);
            }
            Ok(content)
        }
    }
}

fn length(words: &Value) -> usize {
    words.as_str().unwrap_or_default().chars().count()
}

fn text(params: &Value) -> Result<Value, Refusal> {
    match length(&params["text"]) {
        0 => return Err(Refusal::bad("message text is empty")),
        4097.. => return Err(Refusal::bad("message is too long")),
        _ => {}
    }
    let mut content = json!({"text": params["text"]});
    formatted(&mut content, "entities", &params["text"], params.get("entities"))?;
    Ok(content)
}

/// The words below a file.
pub fn caption(params: &Value) -> Result<Value, Refusal> {
    if length(&params["caption"]) > 1024 {
        return Err(Refusal::bad("message caption is too long"));
    }
    let mut content = json!({});
    if length(&params["caption"]) > 0 {
        content["caption"] = params["caption"].clone();
        formatted(&mut content, "caption_entities", &params["caption"], params.get("caption_entities"))?;
    }
    Ok(content)
}

fn formatted(content: &mut Value, name: &str, words: &Value, entities: Option<&Value>) -> Result<(), Refusal> {
    let Some(entities) = entities.and_then(Value::as_array).filter(|entities| !entities.is_empty()) else {
        return Ok(());
    };
    let whole = words.as_str().unwrap_or_default().encode_utf16().count() as u64;
    let end = |entity: &Value| entity["offset"].as_u64().unwrap_or(0) + entity["length"].as_u64().unwrap_or(0);
    if entities.iter().any(|entity| end(entity) > whole) {
        return Err(Refusal::bad("ENTITY_BOUNDS_INVALID"));
    }
    content[name] = entities.clone().into();
    Ok(())
}

/// The file that a call names: one that came along, one that is there, or one at a public address, which is made up.
fn file(
    state: &mut State,
    folder: &str,
    named: &Value,
    field: &str,
    files: &[Uploaded],
) -> Result<StoredFile, Refusal> {
    let name = named.as_str().unwrap_or_default();
    let field = name.strip_prefix("attach://").unwrap_or(field);
    if let Some(uploaded) = files.iter().find(|file| file.field == field) {
        if uploaded.bytes.is_empty() {
            return Err(Refusal::bad("file must be non-empty"));
        }
        return Ok(state.store_file(folder, uploaded));
    }
    if let Some(file) = state.files.get(name) {
        return Ok(file.clone());
    }
    if name.starts_with("http://") || name.starts_with("https://") {
        let file_name = name.rsplit('/').next().unwrap_or_default().to_owned();
        let mime_type = "application/octet-stream".to_owned();
        let fetched = Uploaded { field: field.to_owned(), file_name, mime_type, bytes: name.as_bytes().to_vec() };
        return Ok(state.store_file(folder, &fetched));
    }
    Err(Refusal::bad("wrong file identifier/HTTP URL specified"))
}

/// A file as Telegram describes it in a message.
fn described(field: &str, file: &StoredFile, params: &Value) -> Value {
    let number = |name: &str, otherwise: i64| params.get(name).and_then(Value::as_i64).unwrap_or(otherwise);
    let mut object =
        json!({"file_id": file.id, "file_unique_id": format!("u{}", file.id), "file_size": file.bytes.len()});
    let named = json!({"file_name": file.name, "mime_type": file.mime_type});
    match field {
        "photo" => {
            merge(&mut object, json!({"width": 640, "height": 480}));
            return json!({"photo": [object]});
        }
        "voice" => merge(&mut object, json!({"duration": number("duration", 0), "mime_type": file.mime_type})),
        "audio" => {
            merge(&mut object, json!({"duration": number("duration", 0)}));
            merge(&mut object, named);
        }
        "video" | "animation" => {
            let (width, height) = (number("width", 640), number("height", 360));
            merge(&mut object, json!({"duration": number("duration", 0), "width": width, "height": height}));
            merge(&mut object, named);
        }
        "sticker" => {
            let regular =
                json!({"type": "regular", "width": 512, "height": 512, "is_animated": false, "is_video": false});
            merge(&mut object, regular);
        }
        _ => merge(&mut object, named),
    }
    json!({field: object})
}

/// The new file of a message that is changed.
pub fn edited_media(state: &mut State, media: &Value, files: &[Uploaded]) -> Result<Value, Refusal> {
    let kind = media["type"].as_str().unwrap_or_default();
    let Some((_, field, folder)) = FILES.iter().find(|(_, field, _)| *field == kind) else {
        return Err(Refusal::bad("unknown media type"));
    };
    let file = file(state, folder, &media["media"], field, files)?;
    let mut content = described(field, &file, media);
    merge(&mut content, caption(media)?);
    Ok(content)
}

fn poll(state: &mut State, params: &Value) -> Value {
    let id = state.fresh("5400");
    let options = params["options"].as_array().into_iter().flatten().enumerate();
    let options: Vec<Value> = options
        .map(|(at, option)| json!({"persistent_id": format!("p{at}"), "text": option["text"], "voter_count": 0}))
        .collect();
    let flag = |name: &str| params[name] == true;
    json!({"id": id, "question": params["question"], "options": options, "total_voter_count": 0,
        "is_closed": flag("is_closed"), "is_anonymous": params["is_anonymous"] != false, "type": "regular",
        "allows_multiple_answers": flag("allows_multiple_answers"), "allows_revoting": true, "members_only": false})
}
