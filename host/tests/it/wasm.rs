//! A channel as a WASM component: a file like any other, in a sandbox.

use crate::harness::{Setup, TestHost, built, free_address, plugin_file};
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

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_on_over_traps_and_restarts_and_nothing_is_lost_or_doubled() {
    if !is_there() || plugin_file("faulty").extension().is_none_or(|end| end != "wasm") {
        return;
    }
    let setup = || Setup { plugins: vec!["faulty"], ..Setup::default() };
    let mut host = TestHost::with(setup()).await;
    let address = free_address();
    let id = host.instance("talks", "faulty", json!({"listen": address})).await;
    let client = reqwest::Client::new();
    let mut refused = 0;
    let mut wanted = Vec::new();
    for number in 0..60 {
        if number % 20 == 10 {
            host = host.restart(setup()).await;
        }
        host.until_state(&id, "connected").await;
        // What it emits and writes before it traps goes with it.
        if number % 5 == 3 {
            let trap = json!({"chatId": "room", "from": "ann", "externalId": format!("{number}"), "text": "panic"});
            let answer = client.post(format!("http://{address}")).json(&trap).send().await;
            refused += usize::from(answer.is_ok_and(|answer| !answer.status().is_success()));
        }
        let text = format!("message {number}");
        let body = json!({"chatId": "room", "from": "ann", "externalId": format!("{number}"), "text": text});
        // A network tells it again until it is taken, and once more when it did not hear that.
        let mut taken = 0;
        while taken < 2 {
            host.until_state(&id, "connected").await;
            let answer = client.post(format!("http://{address}")).json(&body).send().await;
            taken += usize::from(answer.is_ok_and(|answer| answer.status().is_success()));
        }
        wanted.push(text);
    }
    assert!(refused > 0, "it trapped in the middle of calls");
    host.settle().await;
    let texts: Vec<Value> =
        host.messages(&id, "room").await.iter().map(|message| message["textContent"].clone()).collect();
    assert_eq!(texts, wanted);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_no_plugin_or_one_too_many_say_so_and_harm_nobody() {
    if !is_there() {
        return;
    }
    let host = TestHost::start().await;
    let (_, echo) = host.echo("good").await;
    let folder = host.data.join("plugins");
    let whole = std::fs::read(plugin_file("echo")).unwrap();
    let garbage: Vec<u8> =
        whole[..8].iter().copied().chain((0..200_000_000_u32).map(|number| (number % 251) as u8)).collect();
    let module = wat::parse_str("(module)").unwrap();
    let cases: [(&str, &[u8], &str); 6] = [
        ("garbage.wasm", &garbage, "it is WASM that is damaged or cut off"),
        ("half.wasm", &whole[..whole.len() / 2], "it is WASM that is damaged or cut off"),
        ("header.wasm", &whole[..8], "no channel plugin (it has no manifest)"),
        ("module.wasm", &module, "it is a WASM module and no component"),
        ("empty.wasm", b"", "the file is empty"),
        ("words.wasm", b"these are words", "it is not a shared library"),
    ];
    for (name, bytes, told) in cases {
        std::fs::write(folder.join(name), bytes).unwrap();
        host.post("/plugins/rescan", json!({})).await;
        let all = host.get("/plugins").await;
        let found = all["items"].as_array().unwrap().iter().find(|plugin| plugin["file"] == name).unwrap().clone();
        assert!(found["status"]["reason"].as_str().is_some_and(|reason| reason.contains(told)), "{name}: {found}");
        std::fs::remove_file(folder.join(name)).unwrap();
        host.say(&echo, "room", name, "still here").await;
    }
    // The same channel twice: the one that is in use goes on, and the other says which that is.
    std::fs::copy(built().join("libomni_channel_echo.so"), folder.join("other_echo.so")).unwrap();
    host.post("/plugins/rescan", json!({})).await;
    let all = host.get("/plugins").await;
    let other = all["items"].as_array().unwrap().iter().find(|plugin| plugin["file"] == "other_echo.so").unwrap();
    let reason = other["status"]["reason"].as_str().unwrap_or_else(|| panic!("{other}"));
    assert!(reason.contains("echo") && reason.contains("omni_channel_echo.wasm"), "{reason}");
    assert_eq!(plugin(&host).await["status"]["state"], "running");
    host.say(&echo, "room", "twice", "still here").await;
    host.stop().await;
}

/// A server that promises a body and drips it, a byte whenever it is asked whether it still does.
async fn dripping() -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4_096];
                let _ = stream.read(&mut request).await;
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n";
                let _ = stream.write_all(head.as_bytes()).await;
                let mut tick = tokio::time::interval(std::time::Duration::from_millis(50));
                while stream.write_all(b" ").await.is_ok() {
                    tick.tick().await;
                }
            });
        }
    });
    format!("http://{address}/")
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_call_traps_or_never_ends_it_is_told_and_harms_nobody() {
    if !is_there() || plugin_file("faulty").extension().is_none_or(|end| end != "wasm") {
        return;
    }
    // Half of it is what a frame may take.
    let setup = Setup { plugins: vec!["echo", "faulty"], call_seconds: 2, ..Setup::default() };
    let host = TestHost::with(setup).await;
    let (_, echo) = host.echo("good").await;
    let health = format!("{}/api/v2/health", host.url);
    let client = reqwest::Client::new();
    for (fault, told) in
        [("panic", "the channel panicked; the log has its words"), ("spin", "the channel did not come back within 1 s")]
    {
        for place in ["start", "event", "poll", "nextPoll", "timer"] {
            let name = format!("{place}-{fault}");
            let address = free_address();
            let mut config = json!({"mode": name, "listen": address});
            if matches!(place, "poll" | "nextPoll") {
                config["pollUrl"] = json!(health);
            }
            let id = host.instance(&name, "faulty", config).await;
            let is_told = |body: &Value| body["data"]["message"].as_str().is_some_and(|message| message.contains(told));
            if place == "event" {
                host.until_state(&id, "connected").await;
                let body = json!({"chatId": "room", "from": "ann", "externalId": "m1", "text": "x"});
                let answer = client.post(format!("http://{address}")).json(&body).send().await;
                assert!(answer.is_ok_and(|answer| answer.status().as_u16() == 503), "{name}");
            }
            host.until(&format!("/instances/{id}/status"), is_told).await;
            // The second that a call may take is the neighbour's, too.
            host.until_said(&echo, "room", &name).await;
            host.call(Method::DELETE, &format!("/instances/{id}"), None).await;
        }
        // At its end nobody is kept waiting.
        let id = host.instance(&format!("stop-{fault}"), "faulty", json!({"mode": format!("stop-{fault}")})).await;
        host.until_state(&id, "connected").await;
        host.post(&format!("/instances/{id}/disconnect"), json!({})).await;
        let status = host.until_state(&id, "disconnected").await;
        assert!(status["message"].as_str().is_some_and(|message| message.contains("by request")), "{status}");
    }
    // A poll whose answer drips is a poll that failed; in the meantime it sends.
    let id = host.instance("drips", "faulty", json!({"pollUrl": dripping().await})).await;
    host.until_state(&id, "connected").await;
    for number in 0..5 {
        host.until_sent(&id, "room", &format!("fine {number}")).await;
    }
    host.until_said(&echo, "room", "drips").await;
    host.stop().await;
}
