//! The connection to NATS, and what is found of the server: whether the log can be kept there, and how durably.

use super::{NatsError, NatsOptions, WITHIN};
use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The oldest server that is supported: before it, the death of its process could take a whole stream along.
const OLDEST: (u64, u64, u64) = (2, 10, 23);

/// What an acknowledgement of the server means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// It is on the disk (`sync_interval: always`).
    Flushed,
    /// It is on several servers, and on the disk of each within minutes.
    Replicated,
    /// It is on the disk within minutes: a power cut loses it.
    Lazy,
    /// The server was not asked: `bus.monitor_url` is not set, or does not answer.
    Unknown,
}

/// A server, connected.
#[derive(Debug)]
pub(super) struct Server {
    pub client: Client,
    pub max_payload: usize,
    pub durability: Durability,
    /// How often it has been connected: what was asked for on a connection before is answered no more.
    pub connections: watch::Receiver<u64>,
}

impl Server {
    /// Connects and looks at what is there. Later it connects again by itself, for as long as it takes.
    pub async fn connect(options: &NatsOptions) -> Result<Self, NatsError> {
        let connect = |reason: String| NatsError::Connect(reason);
        let (counted, connections) = watch::channel(0);
        let counted = Arc::new(counted);
        let mut how = ConnectOptions::new()
            .name("omni")
            .connection_timeout(WITHIN)
            .request_timeout(Some(WITHIN))
            .ping_interval(Duration::from_secs(5))
            .reconnect_delay_callback(|tries| Duration::from_millis(if tries < 10 { 100 } else { 1_000 }))
            .event_callback(move |event| {
                let counted = Arc::clone(&counted);
                async move {
                    if let Event::Connected = event {
                        counted.send_modify(|count| *count += 1);
                    }
                    tell(&event);
                }
            });
        if let Some(file) = &options.credentials {
            let creds = std::fs::read_to_string(file)
                .map_err(|error| connect(format!("failed to read the credentials {}: {error}", file.display())))?;
            how = how
                .credentials(&creds)
                .map_err(|error| connect(format!("{} holds no credentials of NATS: {error}", file.display())))?;
        }
        if let Some(file) = &options.ca_file {
            how = how.add_root_certificates(file.clone());
        }
        let servers = options.url.split(',').map(|server| server.trim().parse());
        let servers: Vec<ServerAddr> =
            servers.collect::<Result<_, _>>().map_err(|error| connect(format!("`bus.url` is no address: {error}")))?;
        // The client leaves what lets one in to its options.
        if let Some(server) = servers.iter().find(|server| server.has_user_pass()) {
            let plain = |word: Option<&str>| {
                word.map(|word| percent_encoding::percent_decode_str(word).decode_utf8_lossy().into_owned())
            };
            how = match (plain(server.username()), plain(server.password())) {
                (Some(user), Some(password)) => how.user_and_password(user, password),
                (Some(token), None) => how.token(token),
                (None, _) => how,
            };
        }
        let client = how.connect(servers).await.map_err(|error| connect(error.to_string()))?;
        let info = client.server_info();
        if !info.jetstream {
            return Err(NatsError::Unfit(
                "the NATS server has no JetStream; start it with `-js` or a `jetstream` block in its configuration"
                    .into(),
            ));
        }
        if !is_new_enough(&info.version) {
            let (major, minor, patch) = OLDEST;
            return Err(NatsError::Unfit(format!(
                "the NATS server is version {}, and {major}.{minor}.{patch} or newer is needed: older ones lose streams \
                 when their process is killed",
                info.version
            )));
        }
        let durability = durability(options).await;
        match durability {
            Durability::Flushed | Durability::Replicated => {}
            Durability::Lazy => tracing::warn!(
                "the NATS server acknowledges before its disk has what it acknowledges: a power cut loses what was \
                 accepted last; set `jetstream {{ sync_interval: always }}` in its configuration"
            ),
            Durability::Unknown => tracing::warn!(
                "nobody knows whether the NATS server acknowledges only what its disk has; set `sync_interval: always` \
                 there, and `bus.monitor_url` here, so that it can be seen"
            ),
        }
        Ok(Self { client, max_payload: info.max_payload, durability, connections })
    }

    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }
}

fn tell(event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to NATS"),
        Event::Disconnected => tracing::warn!("the connection to NATS was lost; nothing is accepted until it is back"),
        Event::ServerError(error) => tracing::warn!(%error, "NATS refused something"),
        event => tracing::debug!(%event, "NATS"),
    }
}

fn is_new_enough(version: &str) -> bool {
    let plain = version.split(['-', '+']).next().unwrap_or_default();
    let mut parts = plain.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next()) >= OLDEST
}

#[derive(Deserialize)]
struct Monitored {
    #[serde(default)]
    config: Config,
}

#[derive(Default, Deserialize)]
struct Config {
    #[serde(default)]
    sync_always: bool,
}

/// What its monitoring tells.
async fn durability(options: &NatsOptions) -> Durability {
    let lazy = if options.replicas > 1 { Durability::Replicated } else { Durability::Lazy };
    let Some(url) = &options.monitor_url else {
        return if options.replicas > 1 { Durability::Replicated } else { Durability::Unknown };
    };
    let asked = async {
        let client = reqwest::Client::builder().timeout(WITHIN).no_proxy().build()?;
        let url = format!("{}/jsz?config=1", url.trim_end_matches('/'));
        client.get(url).send().await?.error_for_status()?.json::<Monitored>().await
    };
    match asked.await {
        Ok(found) if found.config.sync_always => Durability::Flushed,
        Ok(_) => lazy,
        Err(error) => {
            tracing::warn!(error = %error.without_url(), "`bus.monitor_url` does not tell how durable NATS is");
            Durability::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for version in ["2.10.23", "2.10.26", "2.12.0-RC.1", "2.15.1", "3.0.0"] {
            assert!(is_new_enough(version), "{version}");
        }
        for version in ["2.9.10", "2.10.22", "2.10", "", "x"] {
            assert!(!is_new_enough(version), "{version}");
        }
    }
}
