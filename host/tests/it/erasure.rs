//! A person is erased by a host that is killed in the middle: the next one goes on, and nothing of them is left.

use crate::faults::program::{Launch, Program};
use crate::harness::{PATIENCE, free_address, http_client, install, plugin_file};
use crate::secrets::{holds, is_in};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;

/// Words of Zuleika's, and her name.
const HERS: &[&str] = &["quagga", "Zuleika"];

async fn say(echo: &str, from: &str, name: &str, id: &str, text: &str) {
    let body = json!({"chatId": "room", "from": from, "externalId": id, "text": text, "name": name});
    let answer = http_client(PATIENCE).post(format!("http://{echo}")).json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
}

async fn until(program: &Program, path: &str, what: &str, seen: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(20));
    loop {
        tick.tick().await;
        let found = program.get(path).await.unwrap_or_default();
        if seen(&found) {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: {found}");
    }
}

/// Where in the data folder, or in the database beside it, any of these is.
fn found(data: &Path, words: &[&str]) -> Vec<String> {
    let dump = crate::database::dump(data).unwrap_or_default();
    let mut places = Vec::new();
    for word in words {
        holds(data, word.as_bytes(), &mut places);
        if is_in(&dump, word.as_bytes()) {
            places.push(format!("{word} in the database"));
        }
    }
    places
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_killed_while_it_erases_goes_on_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    install(&data, &plugin_file("echo"));
    let (listen, echo) = (free_address(), free_address());
    let dies = Launch::new(&data, &listen).failing_at("erasure.step=3*off->1*return(abort)".into());
    let mut program = dies.start().await;
    program.echo(&echo).await;
    // More than one step takes.
    for number in 0..230 {
        say(&echo, "zuleika-1", "Zuleika", &format!("z{number}"), "quagga").await;
    }
    say(&echo, "bob", "Bob", "b", "words of Bob").await;
    until(&program, "/messages?chatId=room&limit=1", "what Bob wrote is stored", |found| {
        found["items"][0]["textContent"] == "words of Bob"
    })
    .await;
    let persons = program.get("/persons?search=Zuleika").await.unwrap();
    let person = persons["items"][0]["id"].as_str().unwrap().to_owned();
    assert!(!found(&data, HERS).is_empty(), "they are there before");
    let begun = program.post(&format!("/persons/{person}/erase"), &Value::Null, None).await;
    // It may die before it has answered.
    assert!(begun.is_none_or(|(status, _)| status == 202));
    // It dies by itself.
    let ended = tokio::time::timeout(PATIENCE, program.process.wait()).await.expect("it dies").unwrap();
    assert!(!ended.success());

    let mut program = Launch::new(&data, &listen).start().await;
    let path = format!("/persons/{person}/erasure");
    let done = until(&program, &path, "it is never done", |found| found["data"]["status"] == "completed").await;
    assert_eq!(done["data"]["messages"], 230, "{done}");
    assert_eq!(program.texts("room").await, ["words of Bob"]);
    let chats = program.get("/chats").await.unwrap();
    assert_eq!(chats["items"][0]["messageCount"], 231, "{chats}");
    // Folded into the file, and the log of it is gone.
    let pid = program.process.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(tokio::time::timeout(PATIENCE, program.process.wait()).await.expect("it ends").unwrap().success());
    assert_eq!(found(&data, HERS), Vec::<String>::new());
}
