//! Bodies as they come in: not too slowly, and not more of them at a time than there is room for.
//!
//! Deliberately not here: how large one body may be; axum and the media store count that.

use super::error::ApiError;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Bytes a second below which a body is too slow, once it has had its time.
const SLOWEST: u64 = 4 << 10;

/// Why a body was broken off by us. Shared between the body and whoever answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trouble(Arc<AtomicU8>);

const TOO_SLOW: u8 = 1;
const NO_ROOM: u8 = 2;

impl Trouble {
    fn note(&self, what: u8) {
        self.0.store(what, Ordering::Release);
    }

    /// The answer that the broken body deserves, if it was broken.
    pub(crate) fn answer(&self) -> Option<ApiError> {
        match self.0.load(Ordering::Acquire) {
            TOO_SLOW => Some(too_slow()),
            NO_ROOM => Some(no_room()),
            _ => None,
        }
    }
}

fn too_slow() -> ApiError {
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", "the body of the request came too slowly")
}

fn no_room() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "too many large requests at a time; try again")
        .retry_after(1)
}

/// A body that is broken off when it is too slow.
pub(super) struct Paced<B> {
    body: B,
    patience: Duration,
    received: u64,
    began: Option<Instant>,
    deadline: Pin<Box<Sleep>>,
    trouble: Trouble,
}

impl<B> Paced<B> {
    /// `patience` is how long it may take until its first byte, and altogether beyond a slow but honest pace.
    pub(super) fn new(body: B, patience: Duration, trouble: Trouble) -> Self {
        #[expect(clippy::disallowed_methods, reason = "waits for a peer, not for a moment in time")]
        let deadline = Box::pin(tokio::time::sleep(patience));
        Self { body, patience, received: 0, began: None, deadline, trouble }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Paced<B>
where
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                this.received += frame.data_ref().map_or(0, |data| data.len() as u64);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(other) => Poll::Ready(other.map(|frame| frame.map_err(Into::into))),
            Poll::Pending => {
                // The time begins when somebody wants the body, and grows with what came.
                let began = *this.began.get_or_insert_with(Instant::now);
                this.deadline.as_mut().reset(began + this.patience + Duration::from_secs(this.received / SLOWEST));
                match this.deadline.as_mut().poll(context) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(()) => {
                        this.trouble.note(TOO_SLOW);
                        Poll::Ready(Some(Err("the body came too slowly".into())))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How much of all bodies may be in memory at a time, in KiB. Bytes take room as they come: what is only announced costs
/// nobody anything.
#[derive(Clone, Debug)]
pub struct Room(Arc<Semaphore>);

/// The room that one request takes, for as long as this lives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Room {
    /// For so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes >> 10).clamp(1, Semaphore::MAX_PERMITS))))
    }

    /// The body, counted as it comes; `held` keeps its room. Refused at once when it says that it is too large for now.
    pub(crate) fn admit(
        &self,
        headers: &HeaderMap,
        body: Body,
        held: &Held,
        trouble: &Trouble,
    ) -> Result<Body, ApiError> {
        let announced = content_length(headers).unwrap_or(0);
        if announced.div_ceil(1 << 10) > self.0.available_permits() as u64 {
            return Err(no_room());
        }
        if body.is_end_stream() {
            return Ok(body);
        }
        let counted = Counted { body, room: self.clone(), held: held.clone(), paid: 0, trouble: trouble.clone() };
        Ok(Body::new(counted))
    }

    fn take(&self, held: &Held, bytes: u64) -> bool {
        let Ok(kib) = u32::try_from(bytes.div_ceil(1 << 10)) else { return false };
        let Ok(permit) = Arc::clone(&self.0).try_acquire_many_owned(kib) else { return false };
        let mut held = held.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *held {
            Some(before) => before.merge(permit),
            None => *held = Some(permit),
        }
        true
    }
}

/// The length that a request says its body has.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

struct Counted {
    body: Body,
    room: Room,
    held: Held,
    /// Bytes that may come before more room is taken.
    paid: u64,
    trouble: Trouble,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = self.get_mut();
        let frame = match std::task::ready!(Pin::new(&mut this.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            other => return Poll::Ready(other.map(|frame| frame.map_err(Into::into))),
        };
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        let owed = bytes.saturating_sub(this.paid).div_ceil(1 << 10) << 10;
        if owed > 0 && !this.room.take(&this.held, owed) {
            this.trouble.note(NO_ROOM);
            return Poll::Ready(Some(Err("there is no room for the body now".into())));
        }
        this.paid = this.paid + owed - bytes;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;
    use futures_util::{StreamExt, stream};

    fn chunks(count: usize) -> Body {
        Body::from_stream(stream::iter((0..count).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 1 << 10]))))
    }

    #[tokio::test]
    async fn bodies_share_the_room_and_give_it_back() {
        let room = Room::new(10 << 10);
        let (held, trouble) = (Held::default(), Trouble::default());
        let body = room.admit(&HeaderMap::new(), chunks(8), &held, &trouble).expect("there is room");
        assert_eq!(to_bytes(body, usize::MAX).await.expect("whole").len(), 8 << 10);
        let (second, broken) = (Held::default(), Trouble::default());
        let body = room.admit(&HeaderMap::new(), chunks(3), &second, &broken).expect("nothing is announced");
        assert!(to_bytes(body, usize::MAX).await.is_err(), "three do not fit beside eight");
        assert_eq!(broken.answer().expect("an answer").status(), StatusCode::SERVICE_UNAVAILABLE);
        drop((held, second));
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, 10_240.into());
        let third = Held::default();
        let announced = room.admit(&headers, chunks(10), &Held::default(), &trouble).expect("the room is free again");
        let body = room.admit(&headers, chunks(10), &third, &trouble).expect("nothing has come of the other one");
        assert_eq!(to_bytes(body, usize::MAX).await.expect("whole").len(), 10 << 10, "announced, and counted once");
        drop(announced);
        assert!(room.admit(&headers, chunks(10), &Held::default(), &trouble).is_err(), "refused before it is read");
        assert!(trouble.answer().is_none());
    }

    #[tokio::test]
    async fn a_body_that_stops_coming_is_broken_off_and_an_honest_one_is_not() {
        let patience = Duration::from_millis(20);
        let stuck = stream::iter([Ok::<_, std::io::Error>(vec![b'x'])]).chain(stream::pending());
        let slow = Trouble::default();
        let body = Body::new(Paced::new(Body::from_stream(stuck), patience, slow.clone()));
        assert!(to_bytes(body, usize::MAX).await.is_err());
        assert_eq!(slow.answer().expect("an answer").status(), StatusCode::REQUEST_TIMEOUT);
        let honest = Trouble::default();
        let body = Body::new(Paced::new(chunks(50), patience, honest.clone()));
        assert_eq!(to_bytes(body, usize::MAX).await.expect("whole").len(), 50 << 10);
        assert!(honest.answer().is_none());
    }
}
