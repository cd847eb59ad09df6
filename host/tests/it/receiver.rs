//! A program that takes webhooks, and does what a test tells it to: takes them, refuses them, hangs, dies, comes back.

use crate::harness::PATIENCE;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Got {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Got {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("an event is JSON")
    }

    /// What was said, for events about messages.
    pub fn text(&self) -> String {
        self.json()["payload"]["content"]["text"].as_str().unwrap_or_default().to_owned()
    }

    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }
}

/// What it answers.
#[derive(Clone, Debug)]
pub enum Reply {
    Status(u16),
    With(u16, &'static str, String),
    /// Nothing, ever.
    Hang,
    /// A status, when the test says so.
    When(watch::Receiver<bool>, u16),
}

type Script = Arc<dyn Fn(&Got) -> Reply + Send + Sync>;

struct Shared {
    got: watch::Sender<Vec<Got>>,
    script: Mutex<Script>,
}

/// A running receiver. It dies with this value, and its connections with it.
pub struct Receiver {
    pub address: String,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl Receiver {
    /// One that takes everything.
    pub async fn start() -> Self {
        Self::at("127.0.0.1:0").await
    }

    pub async fn at(address: &str) -> Self {
        // Of its own, so that everything of it can be ended at once.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = TcpListener::bind(address).expect("a free address");
        listener.set_nonblocking(true).expect("a listener");
        let address = listener.local_addr().expect("an address").to_string();
        let script: Script = Arc::new(|_| Reply::Status(204));
        let shared = Arc::new(Shared { got: watch::Sender::new(Vec::new()), script: Mutex::new(script) });
        let app = Router::new().fallback(take).with_state(Arc::clone(&shared));
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            axum::serve(listener, app).await.expect("serves");
        });
        Self { address, shared, runtime: Some(runtime) }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// From now on it answers so.
    pub fn answer(&self, script: impl Fn(&Got) -> Reply + Send + Sync + 'static) {
        *self.shared.script.lock().unwrap() = Arc::new(script);
    }

    pub fn got(&self) -> Vec<Got> {
        self.shared.got.borrow().clone()
    }

    pub fn texts(&self) -> Vec<String> {
        self.got().iter().map(Got::text).collect()
    }

    /// Waits until what it got is what was waited for.
    pub async fn until(&self, seen: impl Fn(&[Got]) -> bool) -> Vec<Got> {
        let mut got = self.shared.got.subscribe();
        let waited = tokio::time::timeout(PATIENCE, got.wait_for(|got| seen(got))).await;
        match waited {
            Ok(got) => got.expect("it lives").clone(),
            Err(_) => panic!("never got what was waited for; got: {:?}", self.texts()),
        }
    }

    /// Waits for so many requests.
    pub async fn count(&self, count: usize) -> Vec<Got> {
        self.until(|got| got.len() >= count).await
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn take(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let got = Got { headers, body };
    let script = Arc::clone(&shared.script.lock().unwrap());
    let reply = script(&got);
    shared.got.send_modify(|all| all.push(got));
    match reply {
        Reply::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Reply::With(status, name, value) => {
            (StatusCode::from_u16(status).unwrap(), [(name, value)], "its own words").into_response()
        }
        Reply::Hang => std::future::pending().await,
        Reply::When(mut now, status) => {
            let _ = now.wait_for(|now| *now).await;
            StatusCode::from_u16(status).unwrap().into_response()
        }
    }
}
