//! Connections: accepted up to a number, turned away with a word beyond it, given up when they are too slow, and let
//! finish when the program ends.
//!
//! Not `axum::serve`, which sets no timer: hyper's time limit for the head of a request is inert without one.

use super::forwarded::{Client, TrustedProxies};
use super::intake::{Paced, Trouble};
use super::patience::Patient;
use super::places::Places;
use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// Largest head of a request; 431 beyond. Also what hyper buffers of a connection.
const HEAD: usize = 32 << 10;
/// Most headers of a request; 431 beyond.
const HEADERS: usize = 128;

const LATE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n\
{\"error\":{\"code\":\"REQUEST_TIMEOUT\",\"message\":\"the head of the request came too slowly\"}}";

/// How connections are limited.
#[derive(Clone, Debug)]
pub struct ServeLimits {
    /// Most connections at a time; 503 beyond.
    pub connections: usize,
    /// Most of them from one address; 429 beyond. By way of a trusted proxy it is requests.
    pub per_address: usize,
    /// Who may speak for others about their address.
    pub proxies: TrustedProxies,
    /// How long a connection may take to say what it wants, and may be idle between two requests; 408 beyond.
    pub header_timeout: Duration,
    /// How long a body may take beyond 4 KiB a second; 408 beyond.
    pub body_timeout: Duration,
    /// How long a peer may take none of an answer before it is given up.
    pub write_timeout: Duration,
    /// How long requests may go on after the end was asked for.
    pub drain: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            per_address: 1_024,
            proxies: TrustedProxies::default(),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(20),
            write_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(20),
        }
    }
}

/// Serves until `shutdown` is cancelled, then lets the requests under way finish for as long as the limits say.
///
/// Streams end by themselves when they are given the same token (`HttpOptions::shutdown`).
pub async fn serve(listener: TcpListener, router: Router, limits: ServeLimits, shutdown: CancellationToken) {
    let places = Places::new(&limits);
    let tasks = TaskTracker::new();
    let abort = CancellationToken::new();
    while let Some((stream, peer)) = accept(&listener, &shutdown).await {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "failed to set TCP_NODELAY");
        }
        let stream = Patient::new(stream, limits.write_timeout);
        let peer = peer.ip().to_canonical();
        let place = match places.take(Some(peer).filter(|peer| !limits.proxies.trust(*peer))) {
            Ok(place) => place,
            Err(words) => {
                metrics::counter!("omni_http_connections_refused_total").increment(1);
                if let Ok(turn) = Arc::clone(&places.turned_away).try_acquire_owned() {
                    tasks.spawn(async move {
                        stream.close(words).await;
                        drop(turn);
                    });
                }
                continue;
            }
        };
        let origin = Origin { peer, router: router.clone(), places: places.clone(), limits: limits.clone() };
        let connection = connection(stream, origin, shutdown.clone());
        let abort = abort.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = connection => {}
                () = abort.cancelled() => tracing::debug!("a connection did not end in time"),
            }
            drop(place);
        });
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(limits.drain, tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "ending connections that did not finish in time");
        abort.cancel();
        tasks.wait().await;
    }
}

/// The next connection; nothing when the end was asked for.
async fn accept(listener: &TcpListener, shutdown: &CancellationToken) -> Option<(TcpStream, SocketAddr)> {
    loop {
        let next = async {
            match listener.accept().await {
                Ok(accepted) => Some(accepted),
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    // Most likely there are no file handles left; asking again at once would only burn time.
                    #[expect(clippy::disallowed_methods, reason = "waits for the machine, not for a moment in time")]
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    None
                }
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return None,
            next = next => if next.is_some() { return next },
        }
    }
}

/// What a connection's requests have in common.
#[derive(Clone)]
struct Origin {
    peer: IpAddr,
    router: Router,
    places: Places,
    limits: ServeLimits,
}

impl Origin {
    /// Has one request answered, in the name of whoever it is from.
    async fn answer(self, request: hyper::Request<hyper::body::Incoming>) -> Result<Response, Infallible> {
        let Self { peer, router, places, limits } = self;
        let client = limits.proxies.client(peer, request.headers());
        // The connection of a trusted one has no place of its own.
        let place = match limits.proxies.trust(peer).then(|| places.take_one(client)).transpose() {
            Ok(place) => place,
            Err(refusal) => {
                metrics::counter!("omni_http_connections_refused_total").increment(1);
                return Ok(refusal.into_response());
            }
        };
        let trouble = Trouble::default();
        let mut request: Request =
            request.map(|body| axum::body::Body::new(Paced::new(body, limits.body_timeout, trouble.clone())));
        request.extensions_mut().insert(Client(client));
        request.extensions_mut().insert(trouble);
        let response = router.oneshot(request).await?;
        Ok(match place {
            Some(place) => response.map(|body| place.kept_by(body)),
            None => response,
        })
    }
}

async fn connection(stream: Patient, origin: Origin, shutdown: CancellationToken) {
    let header_timeout = origin.limits.header_timeout;
    let service = service_fn(move |request| Box::pin(origin.clone().answer(request)));
    let mut serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(HEAD)
        .max_headers(HEADERS)
        .keep_alive(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut ending = false;
    let ended = loop {
        tokio::select! {
            ended = std::future::poll_fn(|context| serving.poll_without_shutdown(context)) => break ended,
            () = shutdown.cancelled(), if !ending => {
                ending = true;
                std::pin::Pin::new(&mut serving).graceful_shutdown();
            }
        }
    };
    let parts = serving.into_parts();
    let stream = parts.io.into_inner();
    match ended {
        Ok(()) => stream.close(b"").await,
        // Who began to say something is told; who was only idle knows.
        Err(error) if error.is_timeout() && !parts.read_buf.is_empty() => stream.close(LATE).await,
        Err(error) => {
            tracing::debug!(%error, "a connection ended badly");
            if error.is_parse() {
                // It was told what is wrong with it.
                stream.close(b"").await;
            }
        }
    }
}
