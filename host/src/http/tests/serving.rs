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
async fn more_connections_than_allowed_wait_for_a_place() {
    let server = Server::start(ServeLimits { connections: 1, ..ServeLimits::default() }).await;
    let first = server.connect("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    server.began.notified().await;
    let second = server.connect(ASK).await;
    // Nobody has begun the second while the first holds the only place.
    server.go.notify_one();
    assert!(rest(first).await.ends_with("done"));
    server.began.notified().await;
    server.go.notify_one();
    server.shutdown.cancel();
    assert!(rest(second).await.ends_with("done"));
}

#[tokio::test]
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

#[tokio::test]
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
