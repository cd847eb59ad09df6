//! What a plugin may use: every limit is met, told with the name of its knob, and raised while the host runs. Natively, and in
//! a sandbox where `OMNI_TEST_PLUGINS` names components.

use crate::harness::{Setup, TestHost, free_address, plugin_file};
use omni_host::config::{ByteSize, Config, ForChannel};
use omni_host::plugins::grants::Grants;
use reqwest::Method;
use serde_json::{Value, json};

/// Grants this to the channel, as `omni plugins grant` does.
async fn grant(host: &TestHost, given: ForChannel) {
    let list = host.data.join("plugins.grants");
    Grants::change(&list, |grants| grants.channel.insert("faulty".into(), given)).unwrap();
    host.post("/plugins/rescan", json!({})).await;
}

async fn with(configure: fn(&mut Config)) -> TestHost {
    TestHost::with(Setup { plugins: vec!["echo", "faulty"], configure, ..Setup::default() }).await
}

/// Posts to a faulty channel: the status and what it says.
async fn post(address: &str, id: &str, text: &str) -> Result<(u16, String), reqwest::Error> {
    let body = json!({"chatId": "room", "from": "ann", "externalId": id, "text": text});
    let answer = reqwest::Client::new().post(format!("http://{address}")).json(&body).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// Posts until it is taken: an instance that begins anew does not listen for a moment.
async fn until_taken(host: &TestHost, address: &str, id: &str, text: &str) {
    let began = std::time::Instant::now();
    loop {
        // Asking for something else is a pause, and shows that the host answers.
        host.get("/plugins").await;
        let answer = post(address, id, text).await;
        if matches!(answer, Ok((200, _))) {
            return;
        }
        assert!(began.elapsed() < crate::harness::PATIENCE, "{answer:?}");
    }
}

async fn count(host: &TestHost, instance: &str) -> usize {
    host.settle().await;
    host.messages(instance, "room").await.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_emits_or_writes_too_much_is_refused_whole_until_more_is_granted() {
    let host = with(|config| {
        config.plugins.events_per_call = 10;
        config.plugins.bytes_per_call = ByteSize(100 << 10);
        config.plugins.state_limit = ByteSize(100 << 10);
    })
    .await;
    let echo = host.echo("good").await;
    let cases = [
        ("flood", 50, "50 events in one call, 10 are taken (events_per_call)"),
        ("large", 200_000, "102400 are taken (bytes_per_call)"),
        ("keeps", 60_000, "it may keep 102400 (state_limit)"),
    ];
    for (word, n, told) in cases {
        let address = free_address();
        let id = host.instance(word, "faulty", json!({"listen": address, "n": n})).await;
        host.until_state(&id, "connected").await;
        // What it may keep is met by the second entry.
        let before = usize::from(word == "keeps");
        if before > 0 {
            assert_eq!(post(&address, "m0", word).await.unwrap().0, 200);
        }
        let (status, said) = post(&address, "m1", word).await.unwrap();
        assert!(status == 503 && said.contains(told), "{word}: {status} {said}");
        assert_eq!(count(&host, &id).await, before, "{word}: nothing of that call is stored");
        // It goes on with what it may.
        assert_eq!(post(&address, "m2", "fine").await.unwrap().0, 200);
        host.say(&echo.1, "room", word, "and the others too").await;
        let given = ForChannel {
            events_per_call: Some(100),
            bytes_per_call: Some(ByteSize::mib(1)),
            state_limit: Some(ByteSize::mib(1)),
            ..ForChannel::default()
        };
        grant(&host, given).await;
        until_taken(&host, &address, "m1", word).await;
        assert_eq!(count(&host, &id).await, before + 1 + if word == "flood" { 50 } else { 1 }, "{word}");
        grant(&host, ForChannel::default()).await;
        host.call(Method::DELETE, &format!("/instances/{id}"), None).await;
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_goes_only_to_the_hosts_that_were_granted() {
    let host = with(|_| {}).await;
    grant(&host, ForChannel { hosts: Some(vec!["api.example.org".into()]), ..ForChannel::default() }).await;
    let config = json!({"pollUrl": format!("{}/api/v2/health", host.url)});
    let id = host.instance("polls", "faulty", config).await;
    let status = format!("/instances/{id}/status");
    let told = |body: &Value| {
        let message = body["data"]["message"].as_str().unwrap_or_default();
        message.contains("the plugin may not go to \"127.0.0.1\": it was granted api.example.org only")
    };
    host.until(&status, told).await;
    let shown = host.get("/plugins/faulty").await;
    assert_eq!(shown["data"]["allowance"]["grantedHosts"], json!(["api.example.org"]), "{shown}");
    grant(&host, ForChannel { hosts: Some(vec!["127.0.0.1".into()]), ..ForChannel::default() }).await;
    host.until(&status, |body| body["data"]["state"] == "connected" && !told(body)).await;
    // By its scheme alone: sockets it may not open.
    grant(&host, ForChannel { hosts: Some(vec!["ws://127.0.0.1".into()]), ..ForChannel::default() }).await;
    host.until(&status, |body| {
        body["data"]["message"].as_str().is_some_and(|message| message.contains("granted ws://127.0.0.1 only"))
    })
    .await;
    // A list that is damaged changes nothing.
    std::fs::write(host.data.join("plugins.grants"), "version = one").unwrap();
    host.post("/plugins/rescan", json!({})).await;
    let shown = host.get("/plugins/faulty").await;
    assert_eq!(shown["data"]["allowance"]["grantedHosts"], json!(["ws://127.0.0.1"]), "{shown}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_fuel_of_a_sandbox_are_met_and_told_and_the_instance_comes_back() {
    if plugin_file("faulty").extension().is_none_or(|end| end != "wasm") {
        println!("left out: OMNI_TEST_PLUGINS names no folder with components");
        return;
    }
    let host = with(|config| {
        config.plugins.memory_limit = ByteSize::mib(32);
        config.plugins.fuel_per_frame = 200_000_000;
    })
    .await;
    let echo = host.echo("good").await;
    let id = host.instance("bad", "faulty", json!({})).await;
    for (text, told) in [
        ("allocate", "the channel wanted more memory than the 32 MiB that it may have (plugins.memory_limit)"),
        (
            "spin",
            "the channel computed more on one frame than the 200000000 units of fuel that it may (fuel_per_frame)",
        ),
        ("panic", "the channel panicked; the log has its words"),
        ("overflow", "the channel reached outside of its memory; most often it called itself until its stack was full"),
    ] {
        host.until_state(&id, "connected").await;
        // In a chat of its own: whether it was sent is not known, and what comes behind it waits.
        let body = json!({"instanceId": id, "to": text, "text": text});
        let (_, sent) = host.call(Method::POST, "/messages/send", Some(body)).await;
        assert!(sent.to_string().contains(told), "{text}: {sent}");
        host.say(&echo.1, "room", text, "still here").await;
    }
    // Fuel is for one frame: a hundred of them may use as much each.
    host.until_state(&id, "connected").await;
    for number in 0..100 {
        host.until_sent(&id, "room", &format!("fine {number}")).await;
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_of_a_sandbox_are_met_and_told_until_more_is_granted() {
    if plugin_file("faulty").extension().is_none_or(|end| end != "wasm") {
        println!("left out: OMNI_TEST_PLUGINS names no folder with components");
        return;
    }
    let host = with(|config| config.plugins.table_entries = 10).await;
    let id = host.instance("bad", "faulty", json!({})).await;
    let told = "tables of more than the 10 entries that they may have (table_entries)";
    host.until(&format!("/instances/{id}/status"), |body| body["data"].to_string().contains(told)).await;
    grant(&host, ForChannel { table_entries: Some(50_000), ..ForChannel::default() }).await;
    host.until_state(&id, "connected").await;
    let shown = host.get("/plugins/faulty").await;
    assert_eq!(shown["data"]["allowance"]["tableEntries"], 50_000, "{shown}");
    host.stop().await;
}
