//! What the transcripts send, judged by Meta's OpenAPI document, where that is at hand.

use omni_channel_sdk::request::Request;
use omni_channel_whatsapp_cloud::config::Config;
use omni_channel_whatsapp_cloud::outbound::{Target, message};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

#[path = "../../../host/tests/it/graph_fake/spec.rs"]
#[expect(dead_code, reason = "only what goes out is judged here")]
mod spec;

/// The steps of every transcript.
fn steps() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let files = std::fs::read_dir(folder).expect("the transcripts are there");
    let texts = files.map(|file| std::fs::read_to_string(file.expect("it can be listed").path()).expect("it is text"));
    let transcripts = texts.map(|text| serde_json::from_str::<Value>(&text).expect("it is JSON"));
    transcripts.flat_map(|transcript| transcript["steps"].as_array().cloned().unwrap_or_default()).collect()
}

fn judge() -> Option<spec::Spec> {
    spec::Spec::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
}

#[test]
fn what_goes_out_is_by_the_book() {
    let Some(spec) = judge() else { return };
    assert_ne!(spec.sent(&json!({"type": "text", "text": {"body": 7}})), Vec::<String>::new(), "it judges");
    let mut kinds = BTreeSet::new();
    for step in steps() {
        let Some(Request::Send(send)) = step
            .get("request")
            .map(|request| serde_json::from_value::<Request>(request.clone()).expect("it is a request"))
        else {
            continue;
        };
        let Ok(target) = Target::parse(&send.chat) else { continue };
        let Ok(mut json) = message(&send, &target, &Config::default()) else { continue };
        let kind = json["type"].as_str().expect("it has a type").to_owned();
        // The id of an uploaded file comes after the upload.
        if send.content.media().is_some_and(|media| media.blob.is_some()) {
            json[&kind]["id"] = "1".into();
        }
        assert_eq!(spec.sent(&json), Vec::<String>::new(), "{json}");
        kinds.insert(kind);
    }
    let expected =
        ["audio", "contacts", "document", "image", "interactive", "location", "sticker", "template", "text", "video"];
    assert_eq!(kinds, expected.map(str::to_owned).into());
    for step in steps() {
        for call in step["http"].as_array().into_iter().flatten() {
            let json = &call["expect"]["json"];
            if json["status"] == "read" {
                assert_eq!(spec.sent(json), Vec::<String>::new(), "{json}");
            }
        }
    }
}
