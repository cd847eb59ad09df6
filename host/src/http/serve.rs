//! Connections: accepted up to a number, turned away with a word beyond it, given up when they are too slow, and let
//! finish when the program ends.
//!
//! Not `axum::serve`, which sets no timer: hyper's time limit for the head of a request is inert without one.

use super::intake::{Paced, Trouble};
use super::patience::Patient;
use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// Largest head of a request; 431 beyond. Also what hyper buffers of a connection.
const HEAD: usize = 32 << 10;
/// Most headers of a request; 431 beyond.
const HEADERS: usize = 128;
/// How many are turned away with a word at a time; more are only closed.
const TURNED_AWAY: usize = 64;

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
connection: close\r\n\r\n{\"error\":{\"code\":\"UNAVAILABLE\",\"message\":\"too many connections; try again\"}}";
const TOO_MANY: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
connection: close\r\n\r\n{\"error\":{\"code\":\"RATE_LIMITED\",\"message\":\"too many connections from this address\"}}";
const LATE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n\
{\"error\":{\"code\":\"REQUEST_TIMEOUT\",\"message\":\"the head of the request came too slowly\"}}";

/// How connections are limited.
#[derive(Clone, Copy, Debug)]
pub struct ServeLimits {
    /// Most connections at a time; 503 beyond.
    pub connections: usize,
    /// Most of them from one address; 429 beyond.
    pub per_address: usize,
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
        let place = match places.take(peer.ip()) {
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
        let connection = connection(stream, peer, router.clone(), limits, shutdown.clone());
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

/// Who is connected.
struct Places {
    all: Arc<Semaphore>,
    per_address: usize,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    turned_away: Arc<Semaphore>,
}

/// A connection's place, free again when this is dropped.
struct Place {
    address: IpAddr,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    _all: OwnedSemaphorePermit,
}

impl Places {
    fn new(limits: &ServeLimits) -> Self {
        Self {
            all: Arc::new(Semaphore::new(limits.connections)),
            per_address: limits.per_address.max(1),
            by_address: Arc::default(),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY)),
        }
    }

    /// A place, or the words with which the peer is turned away.
    fn take(&self, address: IpAddr) -> Result<Place, &'static [u8]> {
        let all = Arc::clone(&self.all).try_acquire_owned().map_err(|_| FULL)?;
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let here = by_address.entry(address).or_default();
        if *here >= self.per_address {
            return Err(TOO_MANY);
        }
        *here += 1;
        Ok(Place { address, by_address: Arc::clone(&self.by_address), _all: all })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

async fn connection(
    stream: Patient,
    peer: SocketAddr,
    router: Router,
    limits: ServeLimits,
    shutdown: CancellationToken,
) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let trouble = Trouble::default();
        let mut request: Request =
            request.map(|body| axum::body::Body::new(Paced::new(body, limits.body_timeout, trouble.clone())));
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(trouble);
        router.clone().oneshot(request)
    });
    let mut serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
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
