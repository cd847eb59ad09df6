//! The OpenAPI document: it tells of every route and of no other, and its answers hold what Omni v2's hold.

use super::super::routes::{Access, ROUTES};
use super::*;
use std::collections::BTreeSet;

/// What the document does not tell of: the document itself, its page, the ways in for networks, and other names.
const UNTOLD: &[&str] = &[
    "GET /openapi.json",
    "GET /docs",
    "GET /docs/",
    "GET /docs/{*file}",
    "* /channels/{instanceId}/webhook",
    "* /channels/{instanceId}/webhook/{*rest}",
    "POST /messages/media",
    "POST /messages/sticker",
    "POST /messages/contact",
    "POST /messages/location",
    "POST /messages/reaction",
];

async fn document(world: &World) -> Value {
    let answer = world.ask("", Method::GET, "/openapi.json", None).await;
    assert_eq!(answer.status, StatusCode::OK);
    answer.body
}

fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods") {
            if ["get", "post", "put", "patch", "delete"].contains(&method.as_str()) {
                operations.push((method.to_uppercase(), path.clone(), operation.clone()));
            }
        }
    }
    operations
}

async fn the_document_and_the_table_tell_of_the_same_routes() {
    let world = World::open().await;
    let document = document(&world).await;
    let told: BTreeSet<String> =
        operations(&document).into_iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    let table: BTreeSet<String> = ROUTES
        .iter()
        .map(|route| format!("{} {}", route.method, route.path))
        .filter(|line| !UNTOLD.contains(&line.as_str()))
        .collect();
    assert_eq!(told, table);
    let lines: BTreeSet<String> = ROUTES.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    assert_eq!(lines.len(), ROUTES.len(), "a route is in the table twice");
    assert!(ROUTES.iter().filter(|route| route.access == Access::Open).count() < 10);
}

async fn every_reference_leads_somewhere_and_every_operation_answers() {
    let world = World::open().await;
    let document = document(&world).await;
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")));
    assert_eq!(document["servers"][0]["url"], "/api/v2");
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let what = format!("{method} {path}");
        assert!(operation["summary"].is_string(), "{what} has no summary");
        assert!(operation["responses"].as_object().is_some_and(|answers| !answers.is_empty()), "{what}");
        let declared: BTreeSet<&str> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] == "path")
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        let needed: BTreeSet<&str> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        assert_eq!(declared, needed, "{what}: the parameters of the path");
        ids.insert(format!("{}{}", operation["tags"][0], operation["operationId"]));
    }
    assert_eq!(ids.len(), operations(&document).len(), "two operations of one tag have the same id");
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().expect("a reference");
        assert!(document.pointer(pointer).is_some(), "{pointer} leads nowhere");
    }
}

async fn the_page_needs_no_internet() {
    let world = World::open().await;
    let page = world.ask("", Method::GET, "/docs/", None).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    assert!(!page.text.contains("https://"), "the page loads something from elsewhere");
    let script = world.ask("", Method::GET, "/docs/swagger-ui-bundle.js", None).await;
    assert_eq!(script.status, StatusCode::OK);
    let start = world.ask("", Method::GET, "/docs/swagger-initializer.js", None).await;
    assert!(start.text.contains("/api/v2/openapi.json"), "{}", start.text);
}

async fn the_open_pages_answer_without_a_key() {
    let world = World::open().await;
    for path in ["/health", "/api/v2/health"] {
        let health = world.ask("", Method::GET, path, None).await;
        assert_eq!(health.status, StatusCode::OK, "{path}: {}", health.text);
        assert_eq!(health.body["status"], "healthy");
        assert_eq!(health.body["checks"]["database"]["status"], "ok");
        assert_eq!(health.body["instances"], json!({"total": 2, "connected": 0}));
    }
    assert_eq!(world.ask("", Method::GET, "/ready", None).await.status, StatusCode::OK);
    world.shutdown.cancel();
    assert_eq!(world.ask("", Method::GET, "/ready", None).await.status, StatusCode::SERVICE_UNAVAILABLE);
}

/// Fields of agents, which this host has not yet.
const LATER: &[&str] = &["agentProviderId", "agentId", "agentTimeout", "agentStreamMode"];

/// Follows references.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).unwrap_or(&Value::Null),
        None => schema,
    }
}

/// Every property of a schema, by name.
fn properties<'a>(document: &'a Value, schema: &'a Value) -> Vec<(&'a str, &'a Value)> {
    let schema = resolved(document, schema);
    let own = schema["properties"].as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value));
    let parts = schema["allOf"].as_array().into_iter().flatten();
    own.chain(parts.flat_map(|part| properties(document, part))).collect()
}

/// The fields that `theirs` promises and `ours` has not.
fn lacking(theirs: (&Value, &Value), ours: (&Value, &Value), at: &str, lacks: &mut Vec<String>) {
    let their_schema = resolved(theirs.0, theirs.1);
    if their_schema["type"] == "array" {
        let our_schema = resolved(ours.0, ours.1);
        lacking((theirs.0, &their_schema["items"]), (ours.0, &our_schema["items"]), at, lacks);
        return;
    }
    let have = properties(ours.0, ours.1);
    for name in their_schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let deeper = format!("{at}.{name}");
        match have.iter().find(|(have, _)| *have == name) {
            Some((_, schema)) => {
                lacking((theirs.0, &their_schema["properties"][name]), (ours.0, schema), &deeper, lacks);
            }
            None if LATER.contains(&name) => {}
            None => lacks.push(deeper),
        }
    }
}

async fn answers_hold_what_omni_v2_promises() {
    let specs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/specs/omni-v2-openapi.json");
    let Ok(text) = std::fs::read_to_string(specs) else {
        eprintln!("skipped: {specs} is not there");
        return;
    };
    let theirs: Value = serde_json::from_str(&text).expect("JSON");
    let world = World::open().await;
    let ours = document(&world).await;
    let have = operations(&ours);
    let (mut compared, mut lacks) = (0, Vec::new());
    for (method, path, operation) in operations(&theirs) {
        let path = path.strip_prefix("/api/v2").unwrap_or(&path).to_owned();
        let Some((_, _, own)) = have.iter().find(|(m, p, _)| *m == method && *p == path) else { continue };
        for (status, answer) in operation["responses"].as_object().into_iter().flatten() {
            let schema = &answer["content"]["application/json"]["schema"];
            if !status.starts_with('2') || schema.is_null() {
                continue;
            }
            let answer = &own["responses"][status]["content"]["application/json"]["schema"];
            if answer.is_null() {
                // The document's word against what the program does: metrics are text.
                assert_eq!(path, "/metrics", "{method} {path} has no answer {status}");
                continue;
            }
            compared += 1;
            lacking((&theirs, schema), (&ours, answer), &format!("{method} {path} {status}"), &mut lacks);
        }
    }
    assert!(compared > 35, "only {compared} answers were compared");
    assert_eq!(lacks, Vec::<String>::new());
}

both!(
    the_document_and_the_table_tell_of_the_same_routes,
    every_reference_leads_somewhere_and_every_operation_answers,
    the_page_needs_no_internet,
    the_open_pages_answer_without_a_key,
    answers_hold_what_omni_v2_promises,
);
