//! The threads that the library runs on: one small runtime for all accounts of a process.
//!
//! An account needs hardly any of a thread's time, and a runtime of its own for each would cost more memory than the account.

use omni_channel_sdk::error::ChannelError;
use omni_channel_sdk::outcome::SendError;
use std::future::Future;
use std::sync::OnceLock;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// The only static state: a thread pool belongs to the process.
static RUNTIME: OnceLock<Runtime> = OnceLock::new();

const THREADS: usize = 2;

/// The runtime, begun at the first call.
pub fn handle() -> Result<Handle, ChannelError> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime.handle().clone());
    }
    let made = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("whatsapp")
        .enable_all()
        .build()
        .map_err(|error| ChannelError::transient(format!("no threads could be begun: {error}")))?;
    Ok(RUNTIME.get_or_init(|| made).handle().clone())
}

/// Runs something there and waits for it, from a thread that is not of the runtime. It is ended when nobody waits any more.
pub async fn run<T: Send + 'static>(
    runtime: &Handle,
    work: impl Future<Output = Result<T, SendError>> + Send + 'static,
) -> Result<T, SendError> {
    /// A request that was cancelled must not go on by itself.
    struct Ends<T>(JoinHandle<T>);
    impl<T> Drop for Ends<T> {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let mut task = Ends(runtime.spawn(work));
    match (&mut task.0).await {
        Ok(done) => done,
        Err(error) => {
            let why = if error.is_panic() { "it panicked" } else { "it was ended" };
            let mut error = SendError::internal(format!("what was asked of WhatsApp did not come to its end: {why}"));
            error.certain = false;
            Err(error)
        }
    }
}
