//! A proxy in front of the host: limits, audit log and log see the client behind it, and believe nobody else.

use crate::harness::PATIENCE;
use crate::program::Program;
use reqwest::{Client, Response, StatusCode};
use serde_json::json;
use std::net::IpAddr;
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;

/// What a stranger would like to be.
const SPOOFED: &str = "198.51.100.66";

/// A host that trusts the proxy 127.0.0.1, and has two places for each address.
async fn behind_a_proxy(folder: &tempfile::TempDir) -> Program {
    let config = "[http]\ntrusted_proxies = [\"127.0.0.1\"]\nmax_connections_per_address = 2\n";
    std::fs::write(folder.path().join("omni.toml"), config).unwrap();
    std::fs::create_dir_all(folder.path().join("data")).unwrap();
    Program::start(&folder.path().join("data"), &[]).await
}

/// Somebody with an address of their own. Every address that begins with 127 is this machine.
fn at(address: &str) -> Client {
    let address: IpAddr = address.parse().unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().local_address(address).timeout(PATIENCE).build().unwrap()
}

/// Asks for live events, which go on until the answer is dropped.
async fn listen(program: &Program, client: &Client, forwarded: &[&str]) -> Response {
    let mut request = client.get(format!("{}/api/v2/events/stream", program.url)).header("x-api-key", &program.key);
    for list in forwarded {
        request = request.header("x-forwarded-for", *list);
    }
    request.send().await.unwrap()
}

/// Makes an API key of this name, which the audit log has a line about.
async fn make_key(program: &Program, client: &Client, forwarded: &[&str]) {
    let mut request = client.post(format!("{}/api/v2/keys", program.url)).header("x-api-key", &program.key);
    for list in forwarded {
        request = request.header("x-forwarded-for", *list);
    }
    let answer = request.json(&json!({"name": "k", "scopes": ["chats:read"]})).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_for_the_client_behind_a_trusted_proxy_and_not_for_the_proxy() {
    let folder = tempfile::tempdir().unwrap();
    let program = behind_a_proxy(&folder).await;
    let proxy = at("127.0.0.1");
    let mut open = Vec::new();
    for client in 1..=4 {
        for _ in 0..2 {
            open.push(listen(&program, &proxy, &[&format!("203.0.113.{client}")]).await);
        }
    }
    assert!(open.iter().all(|answer| answer.status() == StatusCode::OK), "{open:?}");
    // Whoever writes the header itself is still who the proxy says.
    for spoofed in [&["203.0.113.1"] as &[&str], &["198.51.100.66, 203.0.113.1"], &[SPOOFED, "203.0.113.1"]] {
        let refused = listen(&program, &proxy, spoofed).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "{spoofed:?}");
        assert_eq!(refused.headers()["retry-after"], "1");
        let told = refused.text().await.unwrap();
        assert!(told.contains("RATE_LIMITED") && told.contains("from this address"), "{told}");
    }
    // When the client's answers have ended there is room for it again.
    drop(open);
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(20));
    let began = std::time::Instant::now();
    while listen(&program, &proxy, &["203.0.113.1"]).await.status() != StatusCode::OK {
        assert!(began.elapsed() < PATIENCE, "the places of answers that have ended are free again");
        tick.tick().await;
    }
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_who_it_is_whatever_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let program = behind_a_proxy(&folder).await;
    let held = [
        listen(&program, &at("127.0.0.2"), &["203.0.113.1"]).await,
        listen(&program, &at("127.0.0.2"), &["203.0.113.2, 127.0.0.1"]).await,
    ];
    assert!(held.iter().all(|answer| answer.status() == StatusCode::OK), "{held:?}");
    // Its third connection is turned away before it has said anything, so there is no client of HTTP to hear it.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut third = socket.connect(program.url.trim_start_matches("http://").parse().unwrap()).await.unwrap();
    let mut told = String::new();
    tokio::time::timeout(PATIENCE, third.read_to_string(&mut told)).await.unwrap().unwrap();
    assert!(told.starts_with("HTTP/1.1 429 "), "whatever name it would give: {told}");
    drop(held);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_and_the_log_name_the_client() {
    let folder = tempfile::tempdir().unwrap();
    let program = behind_a_proxy(&folder).await;
    make_key(&program, &at("127.0.0.1"), &["198.51.100.66, 203.0.113.7"]).await;
    make_key(&program, &at("127.0.0.1"), &["nonsense"]).await;
    make_key(&program, &at("127.0.0.2"), &[SPOOFED]).await;
    let audit = program.get("/audit?limit=10").await;
    let addresses: Vec<&str> =
        audit["items"].as_array().unwrap().iter().filter_map(|line| line["ipAddress"].as_str()).collect();
    assert_eq!(addresses, ["127.0.0.2", "127.0.0.1", "203.0.113.7"], "{audit}");
    let said = program.said();
    assert!(said.contains("203.0.113.7") && !said.contains(SPOOFED), "{said}");
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_no_address_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("omni.toml"), "[http]\n\ntrusted_proxies = [\"proxy\"]\n").unwrap();
    let (code, said) = crate::program::omni(&folder.path().join("data"), "http://127.0.0.1:9", &["serve"]).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("omni.toml:3: `http.trusted_proxies`: \"proxy\" is no range of addresses"), "{said}");
}
