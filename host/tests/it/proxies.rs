//! By way of a proxy: sockets, plain and behind TLS; what is said when it lets nobody through; an instance with one of its
//! own; a channel with a network library of its own; and the doctor.

use crate::harness::{PATIENCE, Setup, TestHost, free_address};
use crate::proxy_server::{Asked, Does, ProxyServer};
use crate::receiver::Receiver;
use crate::secrets::holds;
use crate::sockets::Network;
use crate::telegram_fake::{Person, TOKEN, TelegramFake, private};
use crate::tls::{Authority, GOOD, Server, network_finding};
use crate::whatsapp_server::{self, BOB, OURS, jid, ours_and_bob, take_over};
use omni_host::config::Secret;
use omni_host::doctor::State;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};

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

/// Takes one message through a socket, both ways, and gives the socket, which is opened anew when it is dropped.
async fn one_message<S: AsyncRead + AsyncWrite + Unpin>(host: &TestHost, id: &str, stream: S) -> WebSocketStream<S> {
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
    open
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
    let _open = one_message(&host, &id, stream).await;
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
    let _open = one_message(&host, &id, stream).await;
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

/// An instance whose address on the network is private, as the operator makes it, with a proxy of its own.
async fn telegram(host: &TestHost, fake: &TelegramFake, proxy: &str) -> Value {
    let config = json!({"apiBaseUrl": fake.url(), "chatPerSecond": 0});
    let new = json!({"name": "bot", "channel": "telegram", "token": TOKEN, "config": config, "proxy": proxy});
    host.post("/instances", new).await["data"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_instance_goes_by_way_of_its_own_proxy_with_calls_files_and_sockets() {
    let [shared, ours, theirs] = [(); 3].map(|()| ProxyServer::start(Does::LetThrough));
    let (shared, ours, theirs) = tokio::join!(shared, ours, theirs);
    let setup = |data| Setup {
        plugins: vec!["telegram", "faulty"],
        data,
        ..by_way_of(format!("http://{}", shared.address), None)
    };
    let host = TestHost::with(setup(None)).await;
    let (fake, network) = (TelegramFake::start().await, Network::start().await);
    let bot = telegram(&host, &fake, &format!("http://ann:hushhush@{}", ours.address)).await;
    assert_eq!(bot["proxy"], format!("http://{}", ours.address), "shown without who uses it: {bot}");
    let bot = bot["id"].as_str().unwrap().to_owned();
    host.until_state(&bot, "connected").await;
    let config = json!({"listen": free_address(), "socketUrl": format!("ws://{}/gateway", network.address())});
    let new =
        json!({"name": "socket", "channel": "faulty", "config": config, "proxy": format!("http://{}", theirs.address)});
    let socket = host.post("/instances", new).await["data"]["id"].as_str().unwrap().to_owned();
    let stream = network.stream().await;
    let _open = one_message(&host, &socket, stream).await;
    let (ann, picture) = (Person::new(7, "Ann"), vec![7; 10_000]);
    fake.photo(&private(&ann), &ann, &picture, None);
    let page = format!("/messages?instanceId={bot}&chatId=7");
    let fetched =
        |body: &Value| body["items"][0]["mediaUrl"].as_str().is_some_and(|url| url.starts_with("/api/v2/media"));
    host.until(&page, fetched).await;
    host.post("/messages/send", json!({"instanceId": bot, "to": "7", "text": "hello"})).await;

    // A socket that was closed is opened again.
    let by_theirs = theirs.asked();
    assert!(by_theirs.iter().all(|asked| *asked == connect(&network.address(), None)), "{by_theirs:?}");
    assert!(!by_theirs.is_empty());
    let asked = ours.asked();
    // `ann:hushhush`
    let by_ann = |asked: &Asked| asked.authorization.as_deref() == Some("Basic YW5uOmh1c2hodXNo");
    assert!(asked.iter().all(|asked| by_ann(asked) && fake.url().ends_with(&asked.target)), "{asked:?}");
    assert!(!asked.is_empty() && !fake.calls_of("getUpdates").is_empty() && !fake.calls_of("getFile").is_empty());
    assert_eq!(shared.asked(), [], "nothing of theirs goes by way of the configuration's");

    // What is sealed is there again after a restart; without it the instance goes the way of all the others.
    let host = host.restart(setup(None)).await;
    host.until_state(&bot, "connected").await;
    let before = ours.asked().len();
    assert!(before > asked.len() && shared.asked().is_empty());
    let (shown, ended) = host.cli(&["instances", "update", "bot", "--proxy", "none"]).await;
    assert!(ended.success(), "{shown}");
    host.until_state(&bot, "connected").await;
    assert_eq!(host.get("/instances/bot").await["data"]["proxy"], Value::Null);
    host.post("/messages/send", json!({"instanceId": bot, "to": "7", "text": "again"})).await;
    assert_eq!(fake.messages(7).last().unwrap()["text"], "again");
    assert!(fake.url().ends_with(&shared.asked()[0].target));
    let again = format!("http://ann:hushhush@{}", ours.address);
    let (shown, ended) = host.cli(&["instances", "update", "bot", "--proxy", &again]).await;
    assert!(ended.success() && shown.contains(&ours.address) && !shown.contains("hush"), "{shown}");
    host.until_state(&bot, "connected").await;
    assert!(ours.asked().len() > before);

    for path in ["/instances", "/instances/bot", "/events", "/audit", "/settings"] {
        let (_, body) = host.call(Method::GET, path, None).await;
        assert!(!body.to_string().contains("hush"), "{path} shows the password: {body}");
    }
    let data = host.data.clone();
    let folder = host.stop().await;
    let mut found = Vec::new();
    holds(&data, b"hushhush", &mut found);
    assert_eq!(found, Vec::<String>::new(), "the password lies in clear on the disk");
    drop(folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_point_at_private_addresses_may_not_name_a_proxy_there() {
    let proxy = ProxyServer::start(Does::LetThrough).await;
    let network = Network::start().await;
    let host = TestHost::with(Setup { plugins: vec!["faulty"], ..Setup::default() }).await;
    let scoped = host.post("/keys", json!({"name": "maker", "scopes": ["instances:*"]})).await;
    let key = scoped["data"]["key"].as_str().unwrap().to_owned();
    let private = format!("http://ann:hush@{}", proxy.address);
    let config = json!({"listen": free_address(), "socketUrl": "ws://gateway.example/gateway"});
    let new = json!({"name": "own", "channel": "faulty", "config": config, "proxy": private});
    let (status, body) = host.call_as(&key, Method::POST, "/instances", Some(new)).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
    assert!(
        body.to_string().contains("proxy leads to a private address") && !body.to_string().contains("hush"),
        "{body}"
    );
    for wrong in ["socks5://ann:hush@proxy.example", "ann:hush@proxy.example", "http://ann:hush@169.254.169.254:80"] {
        let new = json!({"name": "own", "channel": "faulty", "proxy": wrong});
        let (status, body) = host.call(Method::POST, "/instances", Some(new)).await;
        assert!(status.is_client_error() && !body.to_string().contains("hush"), "{wrong}: {status} {body}");
        assert!(body.to_string().contains("proxy"), "{body}");
    }

    // What the operator granted stays granted as long as it is the same.
    let config = json!({"listen": free_address(), "socketUrl": format!("ws://{}/gateway", network.address())});
    let new = json!({"name": "own", "channel": "faulty", "config": config, "proxy": private});
    host.post("/instances", new).await;
    let mut first = network.accept().await;
    first.text().await;
    let same = json!({"proxy": private});
    let (status, body) = host.call_as(&key, Method::PATCH, "/instances/own", Some(same)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let mut second = network.accept().await;
    second.text().await;
    assert_eq!(proxy.asked().len(), 2);
    let other = json!({"proxy": format!("http://bob:hush@{}", proxy.address)});
    let (status, body) = host.call_as(&key, Method::PATCH, "/instances/own", Some(other)).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_goes_by_way_of_the_proxy_too() {
    let front = Receiver::start().await;
    let proxy = ProxyServer::start(Does::LeadTo(front.address.clone())).await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = omni_host::config::Config::default();
    config.data.dir = folder.path().join("data");
    config.http.public_url = Some("http://omni.example".into());
    config.network.proxy = Some(Secret::new(format!("http://ann:hush@{}", proxy.address)));
    let found = network_finding(&config).await;
    assert_eq!(found.state, State::Ok, "{found:?}");
    assert!(found.message.contains(&format!("by way of the proxy http://{}", proxy.address)), "{found:?}");
    assert_eq!(proxy.asked()[0].target, "omni.example");

    let refuses = ProxyServer::start(Does::Say("HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n".into())).await;
    config.network.proxy = Some(Secret::new(format!("http://ann:hush@{}", refuses.address)));
    let found = network_finding(&config).await;
    assert_eq!(found.state, State::Warn, "{found:?}");
    assert!(found.help.as_deref().unwrap_or_default().contains("`network.proxy`"), "{found:?}");
    assert!(!format!("{found:?}").contains("hush"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_with_a_network_library_of_its_own_goes_by_way_of_the_proxy_and_trusts_whom_the_host_trusts() {
    let server = whatsapp_server::Server::start().await;
    let Some(people) = ours_and_bob(&server).await else { return };
    let authority = Authority::new();
    let proxy = ProxyServer::start(Does::LetThrough).await;
    let by_proxy = by_way_of(format!("http://ann:hushhush@{}", proxy.address), Some(&authority));
    let host = TestHost::with(Setup { plugins: vec!["whatsapp"], ..by_proxy }).await;
    // WhatsApp's server, behind TLS.
    let plain = server.about["webSocketUrl"].as_str().unwrap();
    let (address, path) = plain.strip_prefix("ws://").and_then(|url| url.split_once('/')).unwrap();
    let relay = Server::start(&authority, &GOOD).await;
    let (target, url) = (relay.address(), format!("wss://{}/{path}", relay.address()));
    let connections = relay.lead_to(address.to_owned());
    let id = take_over(&host, &server, &people, json!({"webSocketUrl": url})).await;

    // Words come in by the socket, files go out by the library's own calls.
    people.send("bob", &jid(OURS), json!({"text": "by way of somebody"})).await;
    host.stored(&id, &jid(BOB), 1).await;
    let image = json!({"instanceId": id, "to": BOB.0, "type": "image", "base64": "aGVsbG8=", "mimeType": "image/png", "caption": "and back"});
    host.post("/messages/send/media", image).await;
    people.gets("bob", "and back").await;
    let asked = proxy.asked();
    // `ann:hushhush`
    let ann = Some("Basic YW5uOmh1c2hodXNo");
    assert!(asked.iter().all(|asked| asked.authorization.as_deref() == ann), "{asked:?}");
    let ways = asked.iter().filter(|asked| **asked == connect(&target, ann)).count();
    assert!(
        ways > 0 && ways == connections.load(Ordering::Relaxed),
        "{ways} of {connections:?} by the proxy: {asked:?}"
    );
    let media = server.about["media"].as_str().unwrap().strip_prefix("http://").unwrap();
    assert!(asked.iter().any(|asked| asked.method == "POST" && asked.target == media), "{asked:?}");

    // A proxy that lets nobody through is told, and nothing goes past it.
    let shut = ProxyServer::start(Does::Say("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n".into())).await;
    let address = format!("http://bob:hushhush@{}", shut.address);
    let (shown, ended) = host.cli(&["instances", "update", "ours", "--proxy", &address]).await;
    assert!(ended.success(), "{shown}");
    let says = |body: &Value| body["data"]["message"].as_str().is_some_and(|said| said.contains("cannot be reached"));
    let status = host.until(&format!("/instances/{id}/status"), says).await;
    let message = status["data"]["message"].as_str().unwrap();
    assert!(message.contains("proxy") && !message.contains("hush"), "{message}");
    assert_eq!(connections.load(Ordering::Relaxed), ways);
    let (shown, ended) = host.cli(&["instances", "update", "ours", "--proxy", "none"]).await;
    assert!(ended.success(), "{shown}");
    host.until_state(&id, "connected").await;
    host.stop().await;
}
