//! By way of a proxy: sockets, plain and behind TLS, and what is said when it lets nobody through.

use crate::harness::{PATIENCE, Setup, TestHost, free_address};
use crate::proxy_server::{Asked, Does, ProxyServer};
use crate::sockets::Network;
use crate::tls::{Authority, GOOD, Server};
use omni_host::config::Secret;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

/// A host whose connections go by way of a proxy.
fn by_way_of(proxy: String, authority: Option<&Authority>) -> Setup {
    let file = authority.map(|authority| authority.file.clone());
    let tune = move |config: &mut omni_host::config::Config| {
        config.network.proxy = Some(Secret::new(proxy));
        config.network.ca_file = file;
    };
    Setup { plugins: vec!["faulty"], tune: Some(Box::new(tune)), ..Setup::default() }
}

async fn socket(host: &TestHost, url: &str) -> String {
    host.instance("socket", "faulty", json!({"listen": free_address(), "socketUrl": url})).await
}

/// Takes one message through a socket, both ways.
async fn one_message(host: &TestHost, id: &str, stream: impl AsyncRead + AsyncWrite + Unpin) {
    use futures_util::{SinkExt, StreamExt};
    let mut open = accept_async(stream).await.unwrap();
    let hello = timeout(PATIENCE, open.next()).await.expect("it says where it is").unwrap().unwrap();
    assert_eq!(hello, Message::text("resume 0"));
    let said = json!({"chatId": "room", "from": "ann", "externalId": "m1", "text": "through", "seq": 1});
    open.send(Message::text(said.to_string())).await.unwrap();
    let told = timeout(PATIENCE, open.next()).await.expect("it acknowledges").unwrap().unwrap();
    assert_eq!(told, Message::text("ack 1"));
    host.settle().await;
    assert_eq!(host.messages(id, "room").await[0]["textContent"], "through");
}

fn connect(target: &str, authorization: Option<&str>) -> Asked {
    let authorization = authorization.map(str::to_owned);
    Asked { method: "CONNECT".into(), target: target.into(), authorization }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_goes_by_way_of_the_proxy_which_knows_the_names_and_who_asks() {
    let network = Network::start().await;
    let proxy = ProxyServer::start(Does::LeadTo(network.address())).await;
    let host = TestHost::with(by_way_of(format!("http://ann:p%40ss%3Aword@{}", proxy.address), None)).await;
    let id = socket(&host, "ws://gateway.example/gateway").await;
    let stream = network.stream().await;
    one_message(&host, &id, stream).await;
    // `ann:p@ss:word`
    assert_eq!(proxy.asked(), [connect("gateway.example:80", Some("Basic YW5uOnBAc3M6d29yZA=="))]);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_behind_tls_goes_by_way_of_a_proxy_behind_tls() {
    let authority = Authority::new();
    let server = Server::start(&authority, &GOOD).await;
    let proxy = ProxyServer::behind_tls(Does::LetThrough, authority.acceptor(&GOOD)).await;
    let port = proxy.address.split(':').next_back().unwrap();
    let host = TestHost::with(by_way_of(format!("https://localhost:{port}"), Some(&authority))).await;
    let id = socket(&host, &format!("wss://{}/gateway", server.address())).await;
    let stream = server.accept().await;
    one_message(&host, &id, stream).await;
    assert_eq!(proxy.asked(), [connect(&server.address(), None)]);
    host.stop().await;

    // The proxy's own certificate is looked at like any other.
    let host = TestHost::with(by_way_of(format!("https://localhost:{port}"), None)).await;
    let id = socket(&host, &format!("wss://{}/gateway", server.address())).await;
    let message = why(&host, &id).await;
    let told = format!("the proxy localhost:{port} cannot be spoken to over TLS");
    assert!(message.contains(&told) && message.contains("network.ca_file"), "{message}");
    host.stop().await;
}

/// What is said of an instance whose socket does not open.
async fn why(host: &TestHost, id: &str) -> String {
    let says = |body: &Value| body["data"]["message"].as_str().is_some_and(|said| said.contains("cannot be opened"));
    let status = host.until(&format!("/instances/{id}/status"), says).await;
    status["data"]["message"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_lets_nobody_through_is_told_from_a_network_that_is_away() {
    let head = |status: &str| format!("HTTP/1.1 {status}\r\nX-Asked-With: hush\r\n\r\nhush");
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(32 << 10));
    for (user, says, told) in [
        ("", head("407 Proxy Authentication Required"), "wants a user and a password"),
        ("ann:hush@", head("407 Proxy Authentication Required"), "does not take the user and the password"),
        ("ann:hush@", head("403 Forbidden"), "does not let anybody through to gateway.example:443 (403)"),
        ("ann:hush@", head("502 hush"), "opened no way to gateway.example:443: it answered 502"),
        ("ann:hush@", "SSH-2.0-hush\r\n\r\n".into(), "its answer is not HTTP"),
        ("ann:hush@", "HTTP/1.1 200".into(), "closed the connection without an answer"),
        ("ann:hush@", endless, "more than 16384 bytes of headers"),
    ] {
        let proxy = ProxyServer::start(Does::Say(says)).await;
        let host = TestHost::with(by_way_of(format!("http://{user}{}", proxy.address), None)).await;
        let id = socket(&host, "wss://gateway.example/gateway").await;
        let message = why(&host, &id).await;
        assert!(message.contains(&format!("the proxy {}", proxy.address)), "{message}");
        assert!(message.contains(told) && !message.contains("hush"), "{told:?} is not said: {message}");
        host.stop().await;
    }
    let nobody = free_address();
    let host = TestHost::with(by_way_of(format!("http://ann:hush@{nobody}"), None)).await;
    let id = socket(&host, "wss://gateway.example/gateway").await;
    let message = why(&host, &id).await;
    assert!(
        message.contains(&format!("the proxy {nobody} cannot be reached")) && !message.contains("hush"),
        "{message}"
    );
    host.stop().await;
}
