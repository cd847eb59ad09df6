//! The HTTP proxy that connections go by way of: its address, and a way through it (CONNECT) for what is not HTTP.
//!
//! Its address may hold a user and a password. Nothing here shows them, and of what a proxy answers only the number is
//! told: its words may repeat what it was sent.

use super::{Destination, EgressError, literal, tls};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use percent_encoding::percent_decode_str;
use reqwest::Url;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// The largest head of an answer that is read.
const MAX_HEAD: usize = 16 << 10;

/// A connection, whatever it goes through.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug> Duplex for T {}

/// A connection, whatever it goes through.
pub type Stream = Box<dyn Duplex>;

/// Reads the address of a proxy (`http://user:password@proxy.example:3128`), or says what one looks like.
pub fn parse(text: &str) -> Result<Url, &'static str> {
    let wrong = "is no address of an HTTP proxy; write one such as http://proxy.example.org:3128";
    let url = Url::parse(text.trim()).map_err(|_| wrong)?;
    let is_proxy = matches!(url.scheme(), "http" | "https") && url.host_str().is_some();
    let has_more = !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some();
    if is_proxy && !has_more { Ok(url) } else { Err(wrong) }
}

/// The address without user and password.
pub fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{}://{host}:{port}", url.scheme())
}

/// A proxy.
#[derive(Clone)]
pub(super) struct Proxy {
    pub url: Url,
    /// Where it may lie. The configuration's own has none: the operator named it, so it may lie anywhere.
    pub place: Option<Destination>,
}

impl Proxy {
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or_default()
    }

    /// How it is called in sentences.
    fn name(&self) -> String {
        format!("{}:{}", self.host(), self.port())
    }

    fn wrong(&self, what: impl std::fmt::Display) -> EgressError {
        EgressError::Proxy(format!("the proxy {} {what}", self.name()))
    }

    pub fn unreachable(&self, error: impl std::fmt::Display) -> EgressError {
        self.wrong(format_args!("cannot be reached: {error}"))
    }

    /// Has it open a way to a host, through a connection to it.
    pub async fn open(
        &self,
        stream: TcpStream,
        tls: impl FnOnce() -> Result<Arc<ClientConfig>, rustls::Error>,
        (host, port): (&str, u16),
        within: Duration,
    ) -> Result<Stream, EgressError> {
        let opening = async {
            if self.url.scheme() == "http" {
                return self.ask(Box::new(stream), host, port).await;
            }
            let name = ServerName::try_from(self.host().trim_matches(['[', ']']).to_owned());
            let name = name.map_err(|error| self.wrong(format_args!("has a name that no certificate has: {error}")))?;
            let no_tls = |reason: String| self.wrong(format_args!("cannot be spoken to over TLS: {reason}"));
            let connector = TlsConnector::from(tls().map_err(|error| no_tls(error.to_string()))?);
            let stream = connector.connect(name, stream).await.map_err(|error| no_tls(tls::explain(&error)))?;
            self.ask(Box::new(stream), host, port).await
        };
        timeout(within, opening).await.unwrap_or_else(|_| Err(self.wrong("does not answer")))
    }

    async fn ask(&self, mut stream: Stream, host: &str, port: u16) -> Result<Stream, EgressError> {
        let to = match literal(host) {
            Some(std::net::IpAddr::V6(address)) => format!("[{address}]:{port}"),
            _ => format!("{host}:{port}"),
        };
        let version = env!("CARGO_PKG_VERSION");
        let mut asked = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\nUser-Agent: omni/{version}\r\n");
        if let Some(authorization) = self.authorization() {
            asked.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
        }
        asked.push_str("\r\n");
        let broke = |error: std::io::Error| self.wrong(format_args!("broke the connection off: {error}"));
        stream.write_all(asked.as_bytes()).await.map_err(broke)?;
        stream.flush().await.map_err(broke)?;
        match self.status(&mut stream).await? {
            200..=299 => Ok(stream),
            407 if self.authorization().is_some() => {
                Err(self.wrong("does not take the user and the password of its address (407)"))
            }
            407 => Err(self.wrong("wants a user and a password (407); its address takes them: http://USER:PASSWORD@…")),
            status @ (403 | 405) => Err(self.wrong(format_args!("does not let anybody through to {to} ({status})"))),
            status => Err(self.wrong(format_args!("opened no way to {to}: it answered {status}"))),
        }
    }

    /// Reads the head of its answer, and nothing of what comes behind; gives the number in it.
    async fn status(&self, stream: &mut Stream) -> Result<u16, EgressError> {
        let mut head = Vec::with_capacity(512);
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() == MAX_HEAD {
                return Err(self.wrong(format_args!("answers with more than {MAX_HEAD} bytes of headers")));
            }
            // One at a time, so that nothing is taken that belongs to what goes through; it is short and comes once.
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Err(self.wrong("closed the connection without an answer"));
                }
                Err(error) => return Err(self.wrong(format_args!("broke the connection off: {error}"))),
            }
        }
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let words = std::str::from_utf8(line).ok().and_then(|line| line.strip_prefix("HTTP/1."));
        let status = words.and_then(|words| words.split(' ').nth(1)).filter(|number| number.len() == 3);
        status.and_then(|number| number.parse().ok()).ok_or_else(|| self.wrong("is none: its answer is not HTTP"))
    }

    /// The header that says who we are, where its address says it.
    fn authorization(&self) -> Option<String> {
        let (user, password) = (self.url.username(), self.url.password());
        if user.is_empty() && password.is_none() {
            return None;
        }
        let mut plain: Vec<u8> = percent_decode_str(user).collect();
        plain.push(b':');
        plain.extend(percent_decode_str(password.unwrap_or_default()));
        Some(format!("Basic {}", BASE64.encode(plain)))
    }
}
