//! How WhatsApp is reached where the operator named a way: by the proxy that everything has to go through, and with the
//! authorities that are trusted beside the machine's. Nothing connects past a proxy.
//!
//! Without either the library connects as it does by itself.

use anyhow::{anyhow, ensure};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use omni_channel_sdk::frame::Egress;
use omni_channel_sdk::prelude::*;
use reqwest::header::{CONNECTION, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use reqwest::{Certificate, Client, ClientBuilder, Proxy, StatusCode, Url};
use sha1::{Digest as _, Sha1};
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;
use tokio_websockets::ClientBuilder as WebSocket;
use wacore::net::{Transport, TransportEvent, TransportFactory, WHATSAPP_WEB_ORIGIN, WHATSAPP_WEB_WS_URL};
use whatsapp_rust::transport::{TokioWebSocketTransportFactory, from_websocket};

/// How long a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);
/// What a server's word of acceptance is made of (RFC 6455, 1.3).
const ACCEPT: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A client that goes the way that the operator named.
pub fn client(egress: &Egress, more: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Result<Client, ChannelError> {
    let made = more(builder(egress)?).build();
    made.map_err(|error| ChannelError::stopped(format!("no HTTP client could be made: {error}")))
}

fn builder(egress: &Egress) -> Result<ClientBuilder, ChannelError> {
    let wrong = |error: String| ChannelError::stopped(format!("the way to WhatsApp cannot be used: {error}"));
    // A provider that is already installed is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // The proxy is the operator's to name: the environment of the process is not looked at.
    let mut builder = Client::builder().connect_timeout(CONNECT_WITHIN).no_proxy();
    if let Some(proxy) = &egress.proxy {
        // Its address may hold a password, so the error, which repeats it, is not told.
        let proxy = Proxy::all(proxy.as_str()).map_err(|_| wrong("the address of the proxy is no address".into()))?;
        builder = builder.proxy(proxy);
    }
    let authorities = egress.authorities.iter().map(|der| {
        let der = BASE64.decode(der).map_err(|error| wrong(error.to_string()))?;
        Certificate::from_der(&der).map_err(|error| wrong(error.to_string()))
    });
    let authorities = authorities.collect::<Result<Vec<_>, _>>()?;
    Ok(if authorities.is_empty() { builder } else { builder.tls_certs_merge(authorities) })
}

/// Makes the library's connections, and says why one could not be made: the library itself only tries again.
pub struct Way {
    host: Host,
    by: By,
}

enum By {
    /// As the library does by itself.
    Itself(TokioWebSocketTransportFactory),
    /// As the operator named it: to WhatsApp, or to a stand-in.
    Named(Client, Url),
}

impl Way {
    /// The way to WhatsApp, or to the server that stands in for it.
    pub fn new(host: Host, egress: &Egress, stand_in: Option<&str>) -> Result<Self, ChannelError> {
        if *egress == Egress::default() {
            let factory = TokioWebSocketTransportFactory::new();
            let factory = if let Some(url) = stand_in { factory.with_url(url) } else { factory };
            return Ok(Self { host, by: By::Itself(factory) });
        }
        let wrong = |error: String| ChannelError::stopped(format!("config.webSocketUrl: {error}"));
        let mut url = Url::parse(stand_in.unwrap_or(WHATSAPP_WEB_WS_URL)).map_err(|error| wrong(error.to_string()))?;
        // The schemes of the web's addresses may be changed among each other.
        let is_changed = url.set_scheme(if url.scheme() == "ws" { "http" } else { "https" });
        is_changed.map_err(|()| wrong("it is no address of a WebSocket".into()))?;
        // A WebSocket begins as HTTP/1.1.
        let client = client(egress, ClientBuilder::http1_only)?;
        Ok(Self { host, by: By::Named(client, url) })
    }
}

type Connected = (Arc<dyn Transport>, async_channel::Receiver<TransportEvent>);

#[async_trait]
impl TransportFactory for Way {
    async fn create_transport(&self) -> anyhow::Result<Connected> {
        let made = match &self.by {
            By::Itself(factory) => factory.create_transport().await,
            By::Named(client, url) => open(client, url.clone()).await,
        };
        if let Err(error) = &made {
            let reason = format!("WhatsApp cannot be reached: {error}; it is tried again");
            self.host.state(ConnectionState::Disconnected { reason, transient: true });
        }
        made
    }
}

/// Opens a WebSocket (RFC 6455, 4.1).
async fn open(client: &Client, url: Url) -> anyhow::Result<Connected> {
    let key = BASE64.encode(rand::random::<[u8; 16]>());
    let asked = client
        .get(url)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, &key)
        .header(ORIGIN, WHATSAPP_WEB_ORIGIN);
    let answer = tokio::time::timeout(CONNECT_WITHIN, asked.send()).await;
    let answer = answer.map_err(|_| anyhow!("nobody answered in {} s", CONNECT_WITHIN.as_secs()))?;
    let answer = answer.map_err(|error| anyhow!(explain(error)))?;
    let status = answer.status();
    ensure!(status == StatusCode::SWITCHING_PROTOCOLS, "the answer is {status} instead of a WebSocket");
    let accepted = BASE64.encode(Sha1::digest(format!("{key}{ACCEPT}")));
    let said = answer.headers().get(SEC_WEBSOCKET_ACCEPT);
    ensure!(said.is_some_and(|said| *said == accepted), "the WebSocket was opened for somebody else");
    Ok(from_websocket(WebSocket::new().take_over(answer.upgrade().await?)))
}

/// The error with its causes, and without the address.
fn explain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}
