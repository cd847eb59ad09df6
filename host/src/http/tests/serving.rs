//! Connections, and what surrounds a request when it goes wrong.

use super::super::error::panicked;
use super::super::{ServeLimits, serve};
use super::*;
use axum::routing::get;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tower_http::catch_panic::CatchPanicLayer;

/// A server whose one route waits until it is let go on.
struct Server {
    address: std::net::SocketAddr,
    shutdown: CancellationToken,
    began: Arc<Notify>,
    go: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(limits: ServeLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (began, go, shutdown) = (Arc::new(Notify::new()), Arc::new(Notify::new()), CancellationToken::new());
        let (tells, waits) = (Arc::clone(&began), Arc::clone(&go));
        let handler = move || async move {
            tells.notify_one();
            waits.notified().await;
            "done"
        };
        let router = Router::new().route("/", get(handler));
        let task = tokio::spawn(serve(listener, router, limits, shutdown.clone()));
        Self { address, shutdown, began, go, task }
    }

    async fn connect(&self, words: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.expect("a connection");
        stream.write_all(words.as_bytes()).await.expect("written");
        stream
    }
}

async fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    timeout(SOON, stream.read_to_string(&mut text)).await.expect("an end in time").expect("text");
    text
}

const ASK: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn a_connection_that_says_nothing_is_given_up() {
    let limits = ServeLimits { header_timeout: Duration::from_millis(100), ..ServeLimits::default() };
    let server = Server::start(limits).await;
    let half = rest(server.connect("GET / HTTP/1.1\r\nhost:").await).await;
    assert!(!half.contains("200"), "{half}");
    server.shutdown.cancel();
    timeout(SOON, server.task).await.expect("ends").expect("well");
}

#[tokio::test]
async fn a_request_under_way_is_finished_and_none_is_taken_after() {
    let server = Server::start(ServeLimits::default()).await;
    let stream = server.connect(ASK).await;
    server.began.notified().await;
    server.shutdown.cancel();
    server.go.notify_one();
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
    timeout(SOON, server.task).await.expect("ends").expect("well");
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_hold_the_program() {
    let limits = ServeLimits { drain: Duration::from_millis(50), ..ServeLimits::default() };
    let server = Server::start(limits).await;
    let stream = server.connect(ASK).await;
    server.began.notified().await;
    server.shutdown.cancel();
    timeout(SOON, server.task).await.expect("ends").expect("well");
    assert_eq!(rest(stream).await, "");
}

#[tokio::test]
async fn more_connections_than_allowed_are_told_to_come_again() {
    let server = Server::start(ServeLimits { connections: 1, ..ServeLimits::default() }).await;
    let first = server.connect("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    server.began.notified().await;
    let refused = rest(server.connect(ASK).await).await;
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("retry-after: 1"), "{refused}");
    // While the first holds the only place nobody else is begun.
    server.go.notify_one();
    assert!(rest(first).await.ends_with("done"));
    let again = loop {
        // Its place is free a moment after its last byte.
        let stream = server.connect("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        server.go.notify_one();
        let answer = rest(stream).await;
        if !answer.starts_with("HTTP/1.1 503") {
            break answer;
        }
    };
    assert!(again.ends_with("done"), "{again}");
    server.shutdown.cancel();
    timeout(SOON, server.task).await.expect("ends").expect("well");
}

#[tokio::test]
async fn one_address_may_not_take_every_place() {
    let server = Server::start(ServeLimits { per_address: 2, ..ServeLimits::default() }).await;
    let held = [server.connect("GET").await, server.connect("GET").await];
    let refused = rest(server.connect(ASK).await).await;
    assert!(refused.starts_with("HTTP/1.1 429 ") && refused.contains("retry-after: 1"), "{refused}");
    drop(held);
    server.shutdown.cancel();
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_is_told_so_and_an_idle_connection_is_only_closed() {
    let limits = ServeLimits { header_timeout: Duration::from_millis(200), ..ServeLimits::default() };
    let server = Server::start(limits).await;
    let (slow, idle) = (server.connect("GET / HTTP/1.1\r\nx-slow: ").await, server.connect("").await);
    let answer = rest(slow).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(rest(idle).await, "");
    server.shutdown.cancel();
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = Server::start(ServeLimits::default()).await;
    let large = format!("GET / HTTP/1.1\r\nhost: x\r\nx-large: {}\r\n\r\n", "a".repeat(100_000));
    let answer = rest(server.connect(&large).await).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let many: String = (0..500).map(|at| format!("x-{at}: 1\r\n")).collect();
    let answer = rest(server.connect(&format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n")).await).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let answer = rest(server.connect("nonsense\r\n\r\n").await).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    server.shutdown.cancel();
}

#[tokio::test]
async fn a_client_that_never_reads_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    // An answer without an end, made as it is taken; the guard tells that the server let go of it.
    let (made, end) = (Arc::new(std::sync::atomic::AtomicUsize::new(0)), CancellationToken::new());
    let (count, token) = (Arc::clone(&made), end.clone());
    let endless = move || {
        let (count, guard) = (Arc::clone(&count), token.clone().drop_guard());
        let pieces = futures_util::stream::repeat_with(move || {
            let _held = &guard;
            count.fetch_add(64 << 10, std::sync::atomic::Ordering::Relaxed);
            Ok::<_, std::io::Error>(vec![0u8; 64 << 10])
        });
        std::future::ready(Body::from_stream(pieces))
    };
    let limits = ServeLimits { write_timeout: Duration::from_millis(300), ..ServeLimits::default() };
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(serve(listener, Router::new().route("/", get(endless)), limits, shutdown.clone()));
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(ASK.as_bytes()).await.expect("written");
    timeout(SOON, end.cancelled()).await.expect("the answer is let go of");
    let bytes = made.load(std::sync::atomic::Ordering::Relaxed);
    assert!(bytes < 64 << 20, "{bytes} bytes were made for somebody who reads none");
    shutdown.cancel();
    timeout(SOON, task).await.expect("ends").expect("well");
}

/// The real API behind real sockets.
async fn served(world: &World, limits: ServeLimits) -> (std::net::SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (address, tokio::spawn(serve(listener, world.router.clone(), limits, world.shutdown.clone())))
}

async fn exchange(address: std::net::SocketAddr, words: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    // The answer may come before all is written.
    let _ = stream.write_all(words).await;
    rest(stream).await
}

async fn a_body_that_trickles_is_refused_on_every_kind_of_route() {
    let world = World::open().await;
    let limits = ServeLimits { body_timeout: Duration::from_millis(200), ..ServeLimits::default() };
    let (address, _) = served(&world, limits).await;
    for path in ["/keys", "/media?instanceId=main"] {
        let head = format!(
            "POST /api/v2{path} HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-type: application/json\r\n\
             content-length: 5000\r\n\r\n{{"
        );
        let answer = exchange(address, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("REQUEST_TIMEOUT"), "{path}: {answer}");
    }
    let (status, media) = (StatusCode::OK, world.get("/health").await);
    assert_eq!(media.status, status);
}

async fn a_large_body_is_refused_before_it_is_sent_and_the_answer_arrives() {
    let world = World::open_with(|options| (options.body_limit, options.media_limit) = (10_000, 200_000)).await;
    let (address, _) = served(&world, ServeLimits::default()).await;
    for (path, size) in [("/keys", 100_000), ("/media?instanceId=main", 5_000_000)] {
        let head =
            format!("POST /api/v2{path} HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-type: application/json\r\n");
        // Announced, and all of it sent before the answer is read.
        let mut announced = format!("{head}content-length: {size}\r\n\r\n").into_bytes();
        announced.resize(announced.len() + size, b' ');
        let answer = exchange(address, &announced).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{path}: {answer}");
        // In pieces, without a word about its length.
        let mut pieces = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
        for _ in 0..size.div_ceil(4_096) {
            pieces.extend_from_slice(b"1000\r\n");
            pieces.resize(pieces.len() + 4_096, b' ');
            pieces.extend_from_slice(b"\r\n");
        }
        let answer = exchange(address, &pieces).await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("PAYLOAD_TOO_LARGE"), "{path}: {answer}");
    }
}

async fn bodies_have_a_room_together() {
    let world = World::open_with(|options| options.request_memory = 64 << 10).await;
    let (address, _) = served(&world, ServeLimits::default()).await;
    let head = |length: usize| {
        format!(
            "POST /api/v2/keys HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-type: application/json\r\n\
             connection: close\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    // One that takes nearly all of the room and does not come on.
    let mut first = TcpStream::connect(address).await.expect("a connection");
    let most = " ".repeat(59 << 10);
    first.write_all(format!("{}{most}", head(60 << 10)).as_bytes()).await.expect("written");
    let refused = loop {
        // It is not refused before the first has its room.
        let body = json!({"name": "k", "scopes": ["*"], "description": "x".repeat(10 << 10)}).to_string();
        let answer = exchange(address, format!("{}{body}", head(body.len())).as_bytes()).await;
        if !answer.starts_with("HTTP/1.1 201 ") {
            break answer;
        }
    };
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("retry-after: 1"), "{refused}");
    drop(first);
    let body = json!({"name": "k", "scopes": ["*"]}).to_string();
    let answer = exchange(address, format!("{}{body}", head(body.len())).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 201 "), "small ones have room: {answer}");
}

async fn what_strangers_announce_takes_no_room_and_is_not_waited_for() {
    let world = World::open_with(|options| options.request_memory = 64 << 10).await;
    let (address, _) = served(&world, ServeLimits::default()).await;
    let announce = |path: &str, key: &str| {
        format!(
            "POST /api/v2{path} HTTP/1.1\r\nhost: x\r\n{key}content-type: application/json\r\ncontent-length: 60000\r\n\r\n"
        )
    };
    let hook = |id: Uuid| format!("/channels/{id}/webhook");
    // Nobody there: said before the body comes.
    let answer = exchange(address, announce(&hook(Uuid::from_u128(7)), "").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    let answer = exchange(address, announce(&hook(world.instance), "").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 409 ") || answer.starts_with("HTTP/1.1 503 "), "not connected: {answer}");
    // Announced by many with a key, too, and none of it sent.
    let mut held = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let head = announce("/keys", &format!("x-api-key: {KEY}\r\n"));
        stream.write_all(head.as_bytes()).await.expect("written");
        held.push(stream);
    }
    let body = json!({"name": "k", "scopes": ["*"], "description": "x".repeat(40 << 10)});
    let made = world.post("/keys", body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
}

async fn a_compressed_body_is_refused_whatever_is_in_it() {
    let world = World::open().await;
    for encoding in ["gzip", "deflate", "br", "zstd", "gzip, gzip"] {
        let request = Request::builder().method("POST").uri("/api/v2/keys").header("x-api-key", KEY);
        let request = request.header("content-type", "application/json").header("content-encoding", encoding);
        let answer = world.send(request.body(Body::from(vec![0x1f, 0x8b, 8, 0])).expect("a request")).await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{encoding}");
        assert_eq!(answer.headers["accept-encoding"], "identity");
    }
}

async fn what_takes_too_long_is_answered_and_a_panic_is() {
    let world = World::open_with(|options| options.timeout = Duration::from_millis(1)).await;
    // A body that never comes.
    let body = Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let asked = Request::builder().method("POST").uri("/api/v2/keys").header("x-api-key", KEY);
    let late = world.send(asked.body(body).expect("a request")).await;
    assert_eq!(late.status, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(late.body["error"]["code"], "REQUEST_TIMEOUT");
    async fn bad() -> &'static str {
        panic!("with a secret in it")
    }
    let router: Router = Router::new().route("/api", get(bad)).layer(CatchPanicLayer::custom(panicked));
    let answer = router.oneshot(request("", Method::GET, "/api", None)).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let body = to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
    let text = String::from_utf8_lossy(&body);
    assert!(text.contains("INTERNAL_ERROR") && !text.contains("secret"), "{text}");
}

async fn browsers_of_other_origins_are_let_in_only_when_they_are_named() {
    let ask = || {
        let request = Request::builder().method("OPTIONS").uri("/api/v2/chats").header("origin", "https://ui.example");
        request.header("access-control-request-method", "GET").body(Body::empty()).expect("a request")
    };
    let closed = World::open().await.send(ask()).await;
    assert!(!closed.headers.contains_key("access-control-allow-origin"));
    let open = World::open_with(|options| options.cors_origins = vec!["https://ui.example".into()]).await;
    assert_eq!(open.send(ask()).await.headers["access-control-allow-origin"], "https://ui.example");
}

both!(
    a_body_that_trickles_is_refused_on_every_kind_of_route,
    a_large_body_is_refused_before_it_is_sent_and_the_answer_arrives,
    bodies_have_a_room_together,
    what_strangers_announce_takes_no_room_and_is_not_waited_for,
    a_compressed_body_is_refused_whatever_is_in_it,
    what_takes_too_long_is_answered_and_a_panic_is,
    browsers_of_other_origins_are_let_in_only_when_they_are_named,
);
