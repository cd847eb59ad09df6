//! Sends that a network has taken and does not answer yet.

use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Who waits. Those who come afterwards wait for the next time.
#[derive(Debug, Default)]
pub struct Held(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// How often they were let go.
    times: u64,
    wakers: Vec<Waker>,
}

impl Held {
    /// Returns when [`let_go`](Self::let_go) was called the next time.
    pub async fn wait(&self) {
        let since = self.lock().times;
        poll_fn(|cx| {
            let mut waiting = self.lock();
            if waiting.times > since {
                return Poll::Ready(());
            }
            waiting.wakers.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Lets everybody go who waits.
    pub fn let_go(&self) {
        let mut waiting = self.lock();
        waiting.times += 1;
        waiting.wakers.drain(..).for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
