//! A channel as a WASM component: a file like any other, in a sandbox.

use crate::harness::{Setup, TestHost, plugin_file};
use omni_host::config::Isolation;
use reqwest::Method;
use serde_json::{Value, json};

/// Whether the echo plugin is there as a component.
fn is_there() -> bool {
    let there = plugin_file("echo").extension().is_some_and(|end| end == "wasm");
    if !there {
        println!("left out: OMNI_TEST_PLUGINS names no folder with components");
    }
    there
}

async fn plugin(host: &TestHost) -> Value {
    let all = host.get("/plugins").await;
    let found = all["items"].as_array().unwrap().iter().find(|plugin| plugin["manifest"]["channel"] == "echo");
    found.unwrap_or_else(|| panic!("{all}")).clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_runs_in_a_sandbox_whatever_is_configured_and_nowhere_else() {
    if !is_there() {
        return;
    }
    for isolation in [Isolation::Auto, Isolation::InProcess, Isolation::Process] {
        let host = TestHost::with(Setup { isolation, ..Setup::default() }).await;
        let (id, echo) = host.echo("demo").await;
        host.say(&echo, "room", "m1", "hello").await;
        host.settle().await;
        assert_eq!(host.messages(&id, "room").await[0]["textContent"], "hello");
        let shown = plugin(&host).await;
        assert_eq!(shown["home"], "sandbox", "{shown}");
        let wish = json!({"isolation": "process"});
        let (status, answer) = host.call(Method::PATCH, &format!("/instances/{id}"), Some(wish)).await;
        assert!(status.is_client_error() && answer.to_string().contains("runs in a sandbox"), "{status} {answer}");
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_keeps_survives_a_restart_and_many_instances_do_not_see_each_other() {
    if !is_there() {
        return;
    }
    let host = TestHost::start().await;
    let mut instances = Vec::new();
    for number in 0..20 {
        let (id, echo) = host.echo(&format!("demo-{number}")).await;
        host.say(&echo, "room", "m1", &format!("before {number}")).await;
        instances.push((id, echo));
    }
    let host = host.restart(Setup::default()).await;
    for (number, (id, echo)) in instances.iter().enumerate() {
        host.until_state(id, "connected").await;
        host.say(echo, "room", "m1", &format!("before {number}")).await;
        host.say(echo, "room", "m2", &format!("after {number}")).await;
        let sent = host.post("/messages/send", json!({"instanceId": id, "to": "room", "text": "hi"})).await;
        assert_eq!(sent["data"]["status"], "sent", "{sent}");
        assert_eq!(host.sent(echo).await.len(), 1);
    }
    host.settle().await;
    for (number, (id, _)) in instances.iter().enumerate() {
        let texts: Vec<Value> =
            host.messages(id, "room").await.iter().map(|message| message["textContent"].clone()).collect();
        assert_eq!(texts, [json!(format!("before {number}")), json!(format!("after {number}")), json!("hi")]);
    }
    host.stop().await;
}
