//! What the API is told by the configuration.

use super::Room;
use crate::audit::Audit;
use crate::log::LogLevel;
use crate::rotation::Rotation;
use crate::traces::Traces;
use metrics_exporter_prometheus::PrometheusHandle;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What the API is told by the configuration, and the few things it watches.
#[derive(Clone)]
pub struct HttpOptions {
    /// A key that is accepted beside the stored ones, with every scope (`OMNI_API_KEY`).
    pub api_key: Option<String>,
    /// Largest body of a request in bytes; 413 beyond.
    pub body_limit: usize,
    /// Largest uploaded file in bytes.
    pub media_limit: usize,
    /// How long a request may take until its answer begins; 408 beyond. Not for streams and uploads.
    pub timeout: Duration,
    /// How long a request that sends waits for the network before it answers 202.
    pub send_wait: Duration,
    /// Browser origins that may call; none when empty.
    pub cors_origins: Vec<String>,
    /// Whether `/metrics` can be read without a key.
    pub open_metrics: bool,
    /// Most requests a minute of a key that has no limit of its own; none when absent.
    pub rate_limit: Option<u32>,
    /// Bytes of all requests with a key that may be in memory at a time; 503 beyond.
    pub request_memory: usize,
    /// The same for what networks send; instances with an address of their own share it.
    pub webhook_room: Room,
    /// Where changes and refusals are written down; nowhere when absent.
    pub audit: Option<Audit>,
    /// Whether reading is written down as well.
    pub audit_reads: bool,
    /// Changes the key of the data folder.
    pub rotation: Option<Rotation>,
    /// Makes spans of requests.
    pub traces: Traces,
    /// Turns the log up and down.
    pub log: Option<LogLevel>,
    /// The data folder, for numbers about its disk.
    pub data_dir: Option<PathBuf>,
    /// Where `/metrics` is read from.
    pub metrics: Option<PrometheusHandle>,
    /// The newest sequence number in `omni_events`; whoever writes events moves it.
    pub events: watch::Receiver<i64>,
    /// How long a stream may wait for its reader to take what is there; then it ends.
    pub stream_patience: Duration,
    /// Ends the streams.
    pub shutdown: CancellationToken,
}

impl HttpOptions {
    /// The defaults, with what they cannot know.
    pub fn new(events: watch::Receiver<i64>, shutdown: CancellationToken) -> Self {
        Self {
            api_key: None,
            body_limit: 10 << 20,
            media_limit: 100 << 20,
            timeout: Duration::from_secs(30),
            send_wait: Duration::from_secs(10),
            cors_origins: Vec::new(),
            open_metrics: true,
            rate_limit: None,
            request_memory: 256 << 20,
            webhook_room: Room::new(64 << 20),
            audit: None,
            audit_reads: false,
            rotation: None,
            traces: Traces::default(),
            log: None,
            data_dir: None,
            metrics: None,
            events,
            stream_patience: Duration::from_secs(30),
            shutdown,
        }
    }
}

impl std::fmt::Debug for HttpOptions {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpOptions")
            .field("api_key", &self.api_key.as_ref().map(|_| "…"))
            .field("body_limit", &self.body_limit)
            .field("media_limit", &self.media_limit)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
