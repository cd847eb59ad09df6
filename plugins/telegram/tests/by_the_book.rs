//! What the transcripts send and change, judged by the Bot API's specification, where that is at hand.

use omni_channel_sdk::http::{HttpBody, HttpCall};
use omni_channel_sdk::request::Request;
use omni_channel_telegram::client::{ApiCall, Client};
use omni_channel_telegram::config::Config;
use omni_channel_telegram::convert::Target;
use omni_channel_telegram::outbound::{edit_call, edit_caption_instead, send_call};
use serde_json::{Value, json};
use std::path::Path;

#[path = "../../../host/tests/it/telegram_fake/spec.rs"]
#[expect(dead_code, reason = "only requests are judged here")]
mod spec;

/// The requests of every transcript.
fn requests() -> Vec<Request> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let files = std::fs::read_dir(folder).expect("the transcripts are there");
    let texts = files.map(|file| std::fs::read_to_string(file.expect("it can be listed").path()).expect("it is text"));
    let transcripts = texts.map(|text| serde_json::from_str::<Value>(&text).expect("it is JSON"));
    let steps = transcripts.flat_map(|transcript| transcript["steps"].as_array().cloned().unwrap_or_default());
    let requests = steps.filter_map(|step| step.get("request").cloned());
    requests.map(|request| serde_json::from_value(request).expect("it is a request")).collect()
}

fn calls(request: &Request) -> Vec<ApiCall> {
    match request {
        Request::Send(send) => {
            Target::parse(&send.chat).and_then(|target| send_call(send, &target)).into_iter().collect()
        }
        Request::Edit(edit) => {
            let call = edit_call(edit).ok();
            let instead = call.as_ref().and_then(edit_caption_instead);
            call.into_iter().chain(instead).collect()
        }
        _ => Vec::new(),
    }
}

fn parameters(spec: &spec::Spec, method: &str, http: HttpCall) -> Value {
    match http.body {
        HttpBody::Json { json } => json,
        HttpBody::Multipart { parts } => {
            let (files, fields): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| part.blob.is_some());
            let fields: Vec<_> =
                fields.into_iter().map(|part| (part.name, part.text.expect("it is no file"))).collect();
            let files: Vec<_> = files.into_iter().map(|part| part.name).collect();
            spec.form(method, &fields, &files)
        }
        other => panic!("{method} has the body {other:?}"),
    }
}

#[test]
fn what_goes_out_is_by_the_book() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let Some(spec) = spec::Spec::load(&repository) else { return };
    let config: Config = serde_json::from_value(json!({})).expect("it is a configuration");
    let client = Client::new(&config, "1:a");
    let mut methods = std::collections::BTreeSet::new();
    for call in requests().iter().flat_map(calls) {
        let params = parameters(&spec, call.method, client.http(&call));
        assert_eq!(spec.request(call.method, &params), Vec::<String>::new(), "{} {params}", call.method);
        methods.insert(call.method);
    }
    assert!(methods.len() > 15, "only these were seen: {methods:?}");
}
