//! The two homes: the same plugin, the same bytes; what crashes in a child process harms nobody else.

use crate::harness::{Setup, TestHost, free_address};
use omni_host::config::Isolation;
use reqwest::Method;
use serde_json::json;

fn in_child(plugins: Vec<&'static str>) -> Setup {
    Setup { plugins, isolation: Isolation::Process, ..Setup::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_in_a_child_process_does_all_that_it_does_in_process() {
    let host = TestHost::with(in_child(vec!["echo"])).await;
    let (id, echo) = host.echo("demo").await;
    for n in 0..50 {
        host.say(&echo, "room", &format!("m{n}"), &format!("text {n}")).await;
    }
    host.settle().await;
    assert_eq!(host.messages(&id, "room").await.len(), 50);
    host.post("/messages/send", json!({"instanceId": id, "to": "room", "text": "out"})).await;
    assert_eq!(host.sent(&echo).await.len(), 1);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_a_child_process_is_not_a_crash_of_the_host() {
    let host = TestHost::with(in_child(vec!["echo", "faulty"])).await;
    let (echo_id, echo) = host.echo("good").await;
    let address = free_address();
    let faulty = host.instance("bad", "faulty", json!({"listen": address})).await;
    host.until_state(&faulty, "connected").await;

    for (deed, word) in [("abort", "signal"), ("exit", "exit code")] {
        let send = json!({"instanceId": faulty, "to": deed, "text": deed});
        let (status, body) = host.call(Method::POST, "/messages/send", Some(send)).await;
        // Whether it was sent is not known: it is not repeated, and said so.
        assert_eq!(status.as_u16(), 202, "{body}");
        host.until_state(&faulty, "connected").await;
        host.say(&echo, "room", deed, word).await;
    }
    host.settle().await;
    assert_eq!(host.messages(&echo_id, "room").await.len(), 2);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_an_error_in_both_homes_and_the_instance_goes_on() {
    for isolation in [Isolation::InProcess, Isolation::Process] {
        let host = TestHost::with(Setup { plugins: vec!["faulty"], isolation, ..Setup::default() }).await;
        let faulty = host.instance("bad", "faulty", json!({"listen": free_address()})).await;
        host.until_state(&faulty, "connected").await;
        let send = |text: &str| json!({"instanceId": faulty, "to": "room", "text": text});
        let (_, body) = host.call(Method::POST, "/messages/send", Some(send("panic"))).await;
        assert!(body.to_string().contains("panicked") || body["data"]["status"] == "unknown", "{body}");
        let sent = host.post("/messages/send", json!({"instanceId": faulty, "to": "elsewhere", "text": "fine"})).await;
        assert_eq!(sent["data"]["status"], "sent", "{sent}");
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_blocks_its_thread_is_ended_and_started_again() {
    let setup = Setup { call_seconds: 1, ..in_child(vec!["faulty"]) };
    let host = TestHost::with(setup).await;
    let faulty = host.instance("bad", "faulty", json!({"listen": free_address()})).await;
    host.until_state(&faulty, "connected").await;
    let send = json!({"instanceId": faulty, "to": "room", "text": "hang"});
    let (status, body) = host.call(Method::POST, "/messages/send", Some(send)).await;
    assert_eq!(status.as_u16(), 202, "{body}");
    let sent = host.until_sent(&faulty, "elsewhere", "fine").await;
    assert_eq!(sent["data"]["status"], "sent", "{sent}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_process_gets_no_environment_and_no_files() {
    let host = TestHost::with(in_child(vec!["echo"])).await;
    host.echo("demo").await;
    let pid = host.plugin("libomni_channel_echo.so").await["process"]["pid"].clone();
    let child = std::path::PathBuf::from(format!("/proc/{pid}"));
    let command = std::fs::read(child.join("cmdline")).unwrap();
    assert!(crate::secrets::is_in(&command, b"plugin-runner"), "{}", String::from_utf8_lossy(&command));
    assert_eq!(std::fs::read(child.join("environ")).unwrap(), b"", "no environment");
    let status = std::fs::read_to_string(child.join("status")).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    assert!(status.contains(&format!("PPid:\t{}\n", std::process::id())), "{status}");
    let files: Vec<String> = std::fs::read_dir(child.join("fd"))
        .unwrap()
        .flatten()
        .filter_map(|fd| std::fs::read_link(fd.path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .filter(|target| target.starts_with('/') && !target.starts_with("/dev/"))
        .collect();
    assert_eq!(files, Vec::<String>::new(), "no file of the host is open in it");
    host.stop().await;
}
