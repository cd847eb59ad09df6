//! An ingress of its own: a thread that takes lines from a socket, and says `ok` when the host says that they are kept.
//!
//! It is what a channel with a network library of its own looks like to the host, without the library.

use omni_channel_sdk::prelude::*;
use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::Thread;

/// The thread and how to end it.
#[derive(Debug)]
pub struct Own {
    address: String,
    stopped: Arc<AtomicBool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    chat_id: String,
    from: String,
    external_id: String,
    text: String,
}

impl Own {
    /// Listens. Lines are accepted in the background, outside of any call.
    pub fn listen(address: &str, host: Host) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                if let Ok(connection) = connection {
                    // Whoever connected has gone: the next one may come.
                    let _ = serve(&connection, &host);
                }
            }
        });
        Ok(Self { address: address.to_owned(), stopped })
    }

    /// Ends the thread. It is not waited for: what it waits for comes from the host, which waits for this call.
    pub fn stop(self) {
        self.stopped.store(true, Ordering::Release);
        // It wakes up by being connected to.
        let _ = TcpStream::connect(&self.address);
    }
}

fn serve(connection: &TcpStream, host: &Host) -> std::io::Result<()> {
    for line in BufReader::new(connection).lines() {
        let answer = match serde_json::from_str::<Line>(&line?) {
            Ok(line) => match block_on(host.accept(batch(&line, host.now()))) {
                Ok(()) => "ok\n".to_owned(),
                Err(error) => format!("failed: {error}\n"),
            },
            Err(error) => format!("failed: {error}\n"),
        };
        (&mut &*connection).write_all(answer.as_bytes())?;
    }
    Ok(())
}

fn batch(line: &Line, now: i64) -> Batch {
    let message =
        Message::new(line.external_id.clone(), User::new(line.from.clone()), Content::text(line.text.clone()));
    let event = Event::new(Chat::new(line.chat_id.clone(), ChatKind::Direct), now, message);
    let mut batch = Batch::new();
    batch.event(event.delivered_as(json!([line.chat_id, line.external_id]).to_string()));
    batch
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut TaskContext::from_waker(&waker)) {
            return output;
        }
        std::thread::park();
    }
}
