//! Our signatures, verified by the libraries of the specification: npm and PyPI `standardwebhooks`.
//!
//! The test command installs them and says where in `OMNI_TEST_STANDARD_WEBHOOKS`; without that the test says that it is
//! left out.

use crate::harness::TestHost;
use crate::receiver::{Got, Receiver};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Reads `{secret, headers, body}` and says `verified` or what was wrong.
const NODE: &str = r#"
const { Webhook } = require("standardwebhooks");
const { secret, headers, body } = JSON.parse(require("fs").readFileSync(0, "utf8"));
try { new Webhook(secret).verify(body, headers); console.log("verified"); } catch (e) { console.log(e.message); }
"#;
const PYTHON: &str = r#"
import json, sys
from standardwebhooks.webhooks import Webhook
told = json.load(sys.stdin)
try:
    Webhook(told["secret"]).verify(told["body"], told["headers"])
    print("verified")
except Exception as e:
    print(e)
"#;

fn installed() -> Option<PathBuf> {
    let folder = std::env::vars().find(|(name, _)| name == "OMNI_TEST_STANDARD_WEBHOOKS");
    if folder.is_none() {
        println!("left out: the standardwebhooks libraries are not installed (OMNI_TEST_STANDARD_WEBHOOKS)");
    }
    folder.map(|(_, folder)| PathBuf::from(folder))
}

async fn say(mut command: Command, told: &Value) -> String {
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the interpreter starts");
    let mut input = process.stdin.take().unwrap();
    input.write_all(told.to_string().as_bytes()).await.unwrap();
    drop(input);
    let output = process.wait_with_output().await.unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What each library says of a request.
async fn verdicts(folder: &Path, secret: &str, got: &Got, body: &str) -> [String; 2] {
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers: Value = names.iter().map(|name| ((*name).to_owned(), json!(got.header(name)))).collect();
    let told = json!({"secret": secret, "headers": headers, "body": body});
    let mut node = Command::new("node");
    node.args(["-e", NODE]).current_dir(folder);
    let mut python = Command::new(folder.join("venv/bin/python"));
    python.args(["-c", PYTHON]);
    [say(node, &told).await, say(python, &told).await]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_libraries_of_the_specification_verify_what_we_sign() {
    let Some(folder) = installed() else { return };
    let host = TestHost::start().await;
    let receiver = Receiver::start().await;
    let (_, echo) = host.echo("demo").await;
    let body = json!({"name": "crm", "url": receiver.url(), "eventTypes": ["message.received"]});
    let made = host.post("/webhooks", body).await["data"].clone();
    let old = made["secret"].as_str().unwrap();
    let rotate = format!("/webhooks/{}/rotate", made["id"].as_str().unwrap());
    let new = host.post(&rotate, json!({})).await["data"]["secret"].as_str().unwrap().to_owned();
    host.say(&echo, "c", "1", "ça va? \u{1f600}").await;
    let got = &receiver.count(1).await[0];
    let sent = std::str::from_utf8(&got.body).unwrap();
    for secret in [old, new.as_str()] {
        assert_eq!(verdicts(&folder, secret, got, sent).await, ["verified", "verified"]);
    }
    for verdict in verdicts(&folder, old, got, &sent.replace("va", "vb")).await {
        assert!(verdict.contains("No matching signature"), "{verdict}");
    }
    let stranger = omni_host::webhooks::signature::generate();
    for verdict in verdicts(&folder, &stranger, got, sent).await {
        assert!(verdict.contains("No matching signature"), "{verdict}");
    }
}
