//! Connections: accepted up to a number, given up when they are too slow to say what they want, and let finish when the
//! program ends.
//!
//! Not `axum::serve`, which sets no timer: hyper's time limit for the head of a request is inert without one.

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// How connections are limited.
#[derive(Clone, Copy, Debug)]
pub struct ServeLimits {
    /// Most connections at a time; more wait to be accepted.
    pub connections: usize,
    /// How long a connection may take to say what it wants, and may be idle between two requests.
    pub header_timeout: Duration,
    /// How long requests may go on after the end was asked for.
    pub drain: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self { connections: 4_096, header_timeout: Duration::from_secs(30), drain: Duration::from_secs(20) }
    }
}

/// Serves until `shutdown` is cancelled, then lets the requests under way finish for as long as the limits say.
///
/// Streams end by themselves when they are given the same token (`HttpOptions::shutdown`).
pub async fn serve(listener: TcpListener, router: Router, limits: ServeLimits, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let tasks = TaskTracker::new();
    let abort = CancellationToken::new();
    loop {
        let Some((place, stream, peer)) = accept(&listener, &places, &shutdown).await else { break };
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

/// The next connection, when there is a place for it; nothing when the end was asked for.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) -> Option<(OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    loop {
        let next = async {
            let place = Arc::clone(places).acquire_owned().await.ok()?;
            match listener.accept().await {
                Ok((stream, peer)) => Some((place, stream, peer)),
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

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: ServeLimits,
    shutdown: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "failed to set TCP_NODELAY");
    }
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request: Request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .keep_alive(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let mut ending = false;
    let ended = loop {
        tokio::select! {
            ended = &mut serving => break ended,
            () = shutdown.cancelled(), if !ending => {
                ending = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}
