//! Who is connected: so many at a time, and so many of them from one address.
//!
//! A connection of a trusted proxy is nobody's alone: what counts there is each request, for as long as its answer goes on,
//! under the address that the proxy speaks for.

use super::ServeLimits;
use super::error::ApiError;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many are turned away with a word at a time; more are only closed.
const TURNED_AWAY: usize = 64;

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
connection: close\r\n\r\n{\"error\":{\"code\":\"UNAVAILABLE\",\"message\":\"too many connections; try again\"}}";
const TOO_MANY: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
connection: close\r\n\r\n{\"error\":{\"code\":\"RATE_LIMITED\",\"message\":\"too many connections from this address\"}}";

/// Who is connected. Cheap to clone.
#[derive(Clone)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    by_address: ByAddress,
    pub(super) turned_away: Arc<Semaphore>,
}

/// A connection's place, free again when this is dropped.
pub(super) struct Place {
    _all: OwnedSemaphorePermit,
    _here: Option<Here>,
}

impl Places {
    pub(super) fn new(limits: &ServeLimits) -> Self {
        Self {
            all: Arc::new(Semaphore::new(limits.connections)),
            by_address: ByAddress { most: limits.per_address.max(1), taken: Arc::default() },
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY)),
        }
    }

    /// A place for a connection, or the words with which the peer is turned away. One of a proxy's, which is no address,
    /// is counted among all only.
    pub(super) fn take(&self, address: Option<IpAddr>) -> Result<Place, &'static [u8]> {
        let all = Arc::clone(&self.all).try_acquire_owned().map_err(|_| FULL)?;
        let here = address.map(|address| self.by_address.take(address).ok_or(TOO_MANY)).transpose()?;
        Ok(Place { _all: all, _here: here })
    }

    /// A place for a request that came by way of a proxy.
    pub(super) fn take_one(&self, address: IpAddr) -> Result<Here, ApiError> {
        let message = "too many requests at a time from this address";
        let refusal = || ApiError::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", message).retry_after(1);
        self.by_address.take(address).ok_or_else(refusal)
    }
}

/// How many there are of each address: at most one entry for each connection.
#[derive(Clone)]
struct ByAddress {
    most: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl ByAddress {
    fn take(&self, address: IpAddr) -> Option<Here> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let here = taken.entry(address).or_default();
        if *here >= self.most {
            return None;
        }
        *here += 1;
        Some(Here { address, taken: Arc::clone(&self.taken) })
    }
}

/// One of those that an address may have, free again when this is dropped.
pub(super) struct Here {
    address: IpAddr,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Here {
    /// The body, which keeps the place until it has ended.
    pub(super) fn kept_by(self, body: Body) -> Body {
        Body::new(Keeping { body, _here: self })
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = taken.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

struct Keeping {
    body: Body,
    _here: Here,
}

impl HttpBody for Keeping {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
