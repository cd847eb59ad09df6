//! What ends a plugin's process, and what brings it back: a crash, too much memory, a loop that no longer reads; and what
//! may not be reached from within it.

use crate::harness::{PATIENCE, Setup, TestHost, free_address};
use omni_host::config::{ByteSize, Config, Isolation};
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::os::fd::AsFd;
use std::time::Duration;

fn limited(memory: ByteSize) -> Setup {
    let tune = move |config: &mut Config| config.plugins.memory_limit = memory;
    Setup {
        plugins: vec!["echo", "faulty"],
        isolation: Isolation::Process,
        tune: Some(Box::new(tune)),
        ..Setup::default()
    }
}

const FAULTY: &str = "libomni_test_channel_faulty.so";

/// A faulty instance that is connected: its id.
async fn faulty(host: &TestHost, config: Value) -> String {
    let mut with_address = json!({"listen": free_address()});
    with_address.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    let id = host.instance("bad", "faulty", with_address).await;
    host.until_state(&id, "connected").await;
    id
}

async fn send(host: &TestHost, id: &str, text: &str) -> Value {
    let send = json!({"instanceId": id, "to": "room", "text": text});
    host.call(Method::POST, "/messages/send", Some(send)).await.1
}

async fn process(host: &TestHost) -> Value {
    host.plugin(FAULTY).await["process"].clone()
}

/// Waits until its process was started a second time.
async fn until_restarted(host: &TestHost) {
    host.until("/plugins", |body| {
        let items = body["items"].as_array().unwrap();
        items.iter().any(|plugin| {
            plugin["file"] == FAULTY && plugin["process"]["restarts"] == 1 && plugin["process"]["pid"].is_u64()
        })
    })
    .await;
}

fn pid(process: &Value) -> Pid {
    Pid::from_raw(i32::try_from(process["pid"].as_i64().unwrap()).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_uses_too_much_memory_is_ended_and_started_again() {
    let host = TestHost::with(limited(ByteSize::mib(200))).await;
    let (echo_id, echo) = host.echo("good").await;
    let id = faulty(&host, json!({})).await;
    let before = process(&host).await;
    assert!(before["restarts"] == 0, "{before}");
    host.until("/plugins", |body| {
        let items = body["items"].as_array().unwrap();
        items.iter().all(|plugin| plugin["process"]["memoryBytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20))
    })
    .await;

    let body = send(&host, &id, "allocate").await;
    // Whether it was sent is not known, and said so.
    assert_eq!(body["data"]["status"], "unknown", "{body}");
    until_restarted(&host).await;
    host.until_state(&id, "connected").await;
    let after = process(&host).await;
    assert_ne!(after["pid"], before["pid"], "{after}");
    let end = after["lastEnd"].as_str().unwrap();
    assert!(end.contains("it used more memory than the 200 MiB that plugins.memory_limit allows"), "{end}");
    let (listing, _) = host.cli(&["plugins", "show", "faulty"]).await;
    assert!(listing.contains("200 MiB") && listing.contains("Restarts"), "{listing}");

    host.say(&echo, "room", "m1", "not disturbed").await;
    host.settle().await;
    assert_eq!(host.messages(&echo_id, "room").await.len(), 1);
    assert_eq!(host.plugin("libomni_channel_echo.so").await["process"]["restarts"], 0);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_no_longer_reads_is_ended_and_started_again() {
    let host = TestHost::with(limited(ByteSize(0))).await;
    let id = faulty(&host, json!({})).await;
    let before = process(&host).await;
    // As if its loop were blocked for ever: nothing in it runs any more, and nobody calls it.
    kill_process(pid(&before), Signal::STOP).unwrap();
    until_restarted(&host).await;
    let after = process(&host).await;
    assert!(after["lastEnd"].as_str().unwrap().contains("it did not read for"), "{after}");
    host.until_sent(&id, "room", "fine").await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_spins_is_ended_and_its_neighbour_keeps_its_pace() {
    let host = TestHost::with(Setup { call_seconds: 1, ..limited(ByteSize(0)) }).await;
    let (echo_id, echo) = host.echo("good").await;
    let id = faulty(&host, json!({})).await;
    let spinning = send(&host, &id, "spin");
    let mut said = 0;
    let neighbour = async {
        loop {
            // The second that a call may take is the neighbour's, too.
            host.until_said(&echo, "room", &format!("m{said}")).await;
            said += 1;
        }
    };
    let body = tokio::select! {
        body = spinning => body,
        () = neighbour => unreachable!("it goes on for ever"),
    };
    assert_eq!(body["data"]["status"], "unknown", "{body}");
    assert!(said >= 10, "the neighbour got {said} messages through while it was spinning");
    host.until_sent(&id, "elsewhere", "fine").await;
    // The one that the end cut off, too.
    host.until_said(&echo, "room", &format!("m{said}")).await;
    host.settle().await;
    assert_eq!(host.messages(&echo_id, "room").await.len(), said + 1);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_crashes_again_and_again_is_braked() {
    let setup = Setup { manual_clock: true, ..limited(ByteSize(0)) };
    let host = TestHost::with(setup).await;
    let clock = host.clock.clone().unwrap();
    // Many instances share the process: their own backoffs alone would start it far too often.
    let mut ids = Vec::new();
    for n in 0..8 {
        let config = json!({"listen": free_address(), "mode": "start-abort"});
        let new = json!({"name": format!("bad {n}"), "channel": "faulty", "config": config});
        ids.push(host.post("/instances", new).await["data"]["id"].as_str().unwrap().to_owned());
    }
    let (mut starts, mut told) = (0, false);
    for _ in 0..120 {
        clock.advance(Duration::from_millis(500));
        for id in &ids {
            let status = host.until_state(id, "disconnected").await;
            assert_eq!(status["willRetry"], true, "{status}");
            told |= status["message"].as_str().unwrap().contains("its process is started again in");
        }
        starts = process(&host).await["restarts"].as_u64().unwrap();
    }
    // A minute: at once, and after 1, 2, 4, 8, 16, 32 s.
    assert!((2..=9).contains(&starts), "{starts} starts in a minute");
    assert!(told, "an instance that has to wait says until when");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_a_good_life_is_a_first_one_again() {
    let host = TestHost::with(Setup { manual_clock: true, ..limited(ByteSize(0)) }).await;
    let clock = host.clock.clone().unwrap();
    let id = faulty(&host, json!({})).await;
    let crash = async |chat: &str| {
        let send = json!({"instanceId": id, "to": chat, "text": "abort"});
        let (_, body) = host.call(Method::POST, "/messages/send", Some(send)).await;
        assert_eq!(body["data"]["status"], "unknown", "{body}");
        host.until_state(&id, "disconnected").await;
    };
    for n in 0..4 {
        crash(&format!("chat {n}")).await;
        let path = format!("/instances/{id}/status");
        while host.get(&path).await["data"]["state"] != "connected" {
            clock.advance(Duration::from_millis(250));
        }
    }
    clock.advance(Duration::from_secs(61));
    crash("the last").await;
    // The first wait is half a second at most, and nothing else holds it up.
    clock.advance(Duration::from_millis(500));
    host.until_state(&id, "connected").await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_may_run_elsewhere_than_its_plugin() {
    let setup = Setup { plugins: vec!["faulty"], isolation: Isolation::InProcess, ..Setup::default() };
    let host = TestHost::with(setup).await;
    let inside = faulty(&host, json!({})).await;
    assert_eq!(process(&host).await, Value::Null, "nothing runs in a process");
    let new =
        json!({"name": "apart", "channel": "faulty", "isolation": "process", "config": {"listen": free_address()}});
    let apart = host.post("/instances", new).await["data"]["id"].as_str().unwrap().to_owned();
    host.until_state(&apart, "connected").await;
    assert!(process(&host).await["pid"].is_u64());
    // Its crash is not the host's, nor the other one's.
    send(&host, &apart, "abort").await;
    host.until_sent(&inside, "room", "fine").await;
    host.until_sent(&apart, "elsewhere", "fine").await;

    let change = json!({"isolation": "default"});
    let (status, body) = host.call(Method::PATCH, &format!("/instances/{apart}"), Some(change)).await;
    assert!(status.is_success() && body["data"]["isolation"].is_null(), "{body}");
    host.until_state(&apart, "connected").await;
    host.until("/plugins", |body| body["items"][0]["process"]["pid"].is_null()).await;
    let (status, body) =
        host.call(Method::PATCH, &format!("/instances/{apart}"), Some(json!({"isolation": "sandbox"}))).await;
    assert_eq!(status.as_u16(), 400, "{body}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_process_reaches_no_files_of_others_and_inherits_none() {
    // A descriptor that somebody forgot to keep to the host.
    let secret = tempfile::tempfile().unwrap();
    rustix::io::fcntl_setfd(secret.as_fd(), rustix::io::FdFlags::empty()).unwrap();
    let host = TestHost::with(limited(ByteSize::mib(512))).await;
    let id = faulty(&host, json!({})).await;
    let process = process(&host).await;
    let open = std::fs::read_dir(format!("/proc/{}/fd", process["pid"])).unwrap();
    let open: Vec<String> = open
        .flatten()
        .filter_map(|fd| std::fs::read_link(fd.path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .collect();
    let mut sockets: Vec<_> = open.iter().filter(|target| target.starts_with("socket:")).collect();
    sockets.dedup();
    assert_eq!(sockets.len(), 1, "one socket, to the host: {open:?}");
    let strange: Vec<_> = open
        .iter()
        .filter(|target| !target.starts_with("socket:") && !target.starts_with("pipe:") && *target != "/dev/null")
        .collect();
    assert_eq!(strange, Vec::<&String>::new());

    if process["sandbox"] == "none" {
        eprintln!("skipped: this kernel has no Landlock");
        host.stop().await;
        return;
    }
    let key = host.data.join("omni.key");
    std::fs::read(&key).expect("the host itself can read it");
    let host_environment = format!("/proc/{}/environ", std::process::id());
    for file in [key.to_str().unwrap(), "/etc/passwd", &host_environment] {
        let body = send(&host, &id, &format!("read {file}")).await;
        assert!(body.to_string().contains("Permission denied"), "{file}: {body}");
    }
    // What name lookups and TLS need is there.
    host.until_sent(&id, "room", "read /etc/hosts").await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_that_hang_in_the_host_are_counted_and_there_is_a_limit() {
    // The clock stands until all hang, so that none is started again before.
    let setup = Setup { plugins: vec!["echo", "faulty"], call_seconds: 1, manual_clock: true, ..Setup::default() };
    let host = TestHost::with(setup).await;
    let mut ids = Vec::new();
    for n in 0..8 {
        let config = json!({"listen": free_address()});
        ids.push(host.instance(&format!("bad {n}"), "faulty", config).await);
    }
    for id in &ids {
        host.until_state(id, "connected").await;
    }
    let hanging = ids.iter().map(|id| send(&host, id, "hang"));
    futures_util::future::join_all(hanging).await;
    let hung = |body: &Value| {
        body["items"].as_array().unwrap().iter().any(|plugin| plugin["file"] == FAULTY && plugin["hungThreads"] == 8)
    };
    host.until("/plugins", hung).await;
    let clock = host.clock.clone().unwrap();
    for id in &ids {
        let status = format!("/instances/{id}/status");
        host.until(&status, |body| {
            clock.advance(Duration::from_millis(500));
            body["data"]["message"]
                .as_str()
                .is_some_and(|message| message.contains("8 threads of this plugin hang in the host; restart the host"))
        })
        .await;
    }
    // The host and its other plugins go on; and the plugin can still be used where a thread can be ended.
    let (echo_id, echo) = host.echo("good").await;
    host.say(&echo, "room", "m1", "fine").await;
    host.settle().await;
    assert_eq!(host.messages(&echo_id, "room").await.len(), 1);
    host.call(Method::PATCH, &format!("/instances/{}", ids[0]), Some(json!({"isolation": "process"}))).await;
    host.until_sent(&ids[0], "elsewhere", "fine").await;
    // A host with hung threads still ends.
    tokio::time::timeout(PATIENCE, host.stop()).await.expect("it ends");
}
