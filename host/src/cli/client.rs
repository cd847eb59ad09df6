//! The client of `/api/v2`: finds the server and the key, asks, pages, and turns refusals into exit codes.

use super::{CliError, Exit, Global, Paging, Result, World};
use crate::data::read_cli_key;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio_util::io::ReaderStream;
use uuid::Uuid;

/// The largest page that the API gives.
const PAGE: usize = 100;
/// Longer than the server itself allows a request to take.
const TIMEOUT: Duration = Duration::from_secs(90);
/// A server closes a connection on which nothing is asked for some seconds (`http.header_timeout_seconds`). Whoever asks just
/// then, as after a long build, would be told that the server is gone.
const REUSED_WITHIN: Duration = Duration::from_secs(2);

/// A server with the key that opens it.
pub struct Client {
    http: reqwest::Client,
    /// Without a slash at the end, and without `/api/v2`.
    server: String,
    key: Option<String>,
}

impl std::fmt::Debug for Client {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("server", &self.server).finish_non_exhaustive()
    }
}

/// What came of what was handed in.
#[derive(Debug)]
pub enum Answered {
    /// It is done.
    Done(Value),
    /// It was refused.
    Refused {
        /// How.
        status: StatusCode,
        /// What a program can do about it.
        details: Value,
        /// In words.
        error: CliError,
    },
}

/// What goes into the address after `?`; absent values are left out.
pub type Query<'a> = &'a [(&'a str, Option<String>)];

impl Client {
    /// The server that flags, environment and configuration name, in this order.
    pub(super) fn find(global: &Global, world: &World) -> Result<Self> {
        let named = global.url.clone().or_else(|| world.env.get("OMNI_API_URL").cloned()).filter(|url| !url.is_empty());
        let key =
            global.api_key.clone().or_else(|| world.env.get("OMNI_API_KEY").cloned()).filter(|key| !key.is_empty());
        let (server, key) = match (named, key) {
            (Some(server), Some(key)) => (server, Some(key)),
            (named, key) => {
                let config = super::load(global, None, Vec::new(), world)?.config;
                let server = named.unwrap_or_else(|| format!("http://{}", reachable(config.http.listen)));
                let configured = || config.http.api_key.as_ref().map(|key| key.expose().to_owned());
                // This machine's keys are for this machine's server, and are shown to no other.
                let local =
                    || if is_local(&server) { configured().or_else(|| read_cli_key(&config.data.dir)) } else { None };
                let key = key.or_else(local);
                (server, key)
            }
        };
        Self::new(&server, key)
    }

    /// A client of this server.
    pub(super) fn new(server: &str, key: Option<String>) -> Result<Self> {
        let server = server.trim_end_matches('/');
        let server = server.strip_suffix("/api/v2").unwrap_or(server).to_owned();
        if !server.starts_with("http://") && !server.starts_with("https://") {
            return Err(CliError::usage(format!("{server:?} is no address of a server"))
                .help("write it with its scheme, such as http://127.0.0.1:8882"));
        }
        let mut builder = reqwest::Client::builder();
        if is_local(&server) {
            // A proxy could not reach this machine's server, and must not see its key.
            builder = builder.no_proxy();
        }
        let http = builder
            .connect_timeout(Duration::from_secs(10))
            .pool_idle_timeout(REUSED_WITHIN)
            .user_agent(concat!("omni/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| CliError::failed(format!("failed to make an HTTP client: {error}")))?;
        Ok(Self { http, server, key })
    }

    /// Where this client asks.
    pub fn server(&self) -> &str {
        &self.server
    }

    #[cfg(test)]
    pub(super) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    fn request(&self, method: Method, path: &str, query: Query<'_>) -> RequestBuilder {
        let query: Vec<_> = query.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?))).collect();
        let request = self.http.request(method, format!("{}/api/v2{path}", self.server)).query(&query);
        match &self.key {
            Some(key) => request.header("x-api-key", key),
            None => request,
        }
    }

    async fn exchange(&self, request: RequestBuilder) -> Result<(StatusCode, Value)> {
        let response = request.timeout(TIMEOUT).send().await.map_err(|error| self.unreachable(&error))?;
        let response = self.accept(response).await?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        if bytes.is_empty() {
            return Ok((status, Value::Null));
        }
        let answer = serde_json::from_slice(&bytes).map_err(|_| self.stranger(status))?;
        Ok((status, answer))
    }

    /// Passes on what succeeded; else the server's own words.
    async fn accept(&self, response: Response) -> Result<Response> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let answer: Option<Value> = response.json().await.ok();
        match answer.as_ref().and_then(|answer| answer.get("error")) {
            Some(error) => Err(refused(status, error, self.key.is_some())),
            None => Err(self.stranger(status)),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> CliError {
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let what =
            if error.is_timeout() { "did not answer in time".into() } else { format!("cannot be reached: {cause}") };
        CliError::new(Exit::Unreachable, format!("the server {} {what}", self.server))
            .help("start one with `omni serve`, or name another with --url or OMNI_API_URL")
    }

    fn stranger(&self, status: StatusCode) -> CliError {
        CliError::failed(format!("{} answered {status}, and not as an Omni server does", self.server))
            .help("check --url, OMNI_API_URL or `http.listen`: another program may be listening there")
    }

    /// Asks for one thing: what `data` holds, or the whole answer where there is no `data`.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, None).await
    }

    /// Has something done.
    pub async fn post(&self, path: &str, body: Value) -> Result<Value> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Has something done that may take minutes.
    pub async fn post_slowly(&self, path: &str, body: Value) -> Result<Value> {
        let response = self.request(Method::POST, path, &[]).json(&body).send().await;
        let response = self.accept(response.map_err(|error| self.unreachable(&error))?).await?;
        let status = response.status();
        Ok(data(response.json().await.map_err(|_| self.stranger(status))?))
    }

    /// Hands an archive in, as a stream, and waits as long as it takes.
    pub async fn send_archive(&self, path: &str, query: Query<'_>, body: reqwest::Body) -> Result<Answered> {
        let request = self.request(Method::POST, path, query).header("content-type", "application/x-tar").body(body);
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let answer: Value = response.json().await.map_err(|_| self.stranger(status))?;
        Ok(match answer.get("error") {
            None if status.is_success() => Answered::Done(data(answer)),
            Some(error) => {
                let details = error["details"].clone();
                Answered::Refused { status, details, error: refused(status, error, self.key.is_some()) }
            }
            None => return Err(self.stranger(status)),
        })
    }

    /// Has something changed, made or deleted.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let mut request = self.request(method, path, &[]);
        if let Some(body) = body {
            request = request.json(&body);
        }
        Ok(data(self.exchange(request).await?.1))
    }

    /// Sends something that must not happen twice: says what is known when the connection breaks.
    pub async fn post_once(&self, path: &str, body: &Value, key: &str) -> Result<(StatusCode, Value)> {
        let request = self.request(Method::POST, path, &[]).header("idempotency-key", key).json(body);
        let response = request
            .timeout(TIMEOUT)
            .send()
            .await
            .map_err(|error| if error.is_connect() { self.unreachable(&error) } else { unknown_outcome(key) })?;
        let response = self.accept(response).await?;
        let status = response.status();
        let answer: Value = response.json().await.map_err(|_| unknown_outcome(key))?;
        Ok((status, data(answer)))
    }

    /// Asks for a list, page by page, until there are `most` rows.
    pub async fn list(&self, path: &str, query: Query<'_>, paging: Paging) -> Result<Vec<Value>> {
        let most = paging.most();
        let mut items = Vec::new();
        let mut cursor = None;
        loop {
            let (page, next) = self.page(path, query, PAGE.min(most - items.len()), cursor).await?;
            items.extend(page);
            if items.len() >= most || next.is_none() {
                items.truncate(most);
                return Ok(items);
            }
            cursor = next;
        }
    }

    /// The very last row of a list. However long it is, one page of it is held at a time.
    pub async fn last(&self, path: &str, query: Query<'_>) -> Result<Option<Value>> {
        let mut last = None;
        let mut cursor = None;
        loop {
            let (mut page, next) = self.page(path, query, PAGE, cursor).await?;
            last = page.pop().or(last);
            if next.is_none() {
                return Ok(last);
            }
            cursor = next;
        }
    }

    /// One page, and where the next one begins.
    async fn page(
        &self,
        path: &str,
        query: Query<'_>,
        limit: usize,
        cursor: Option<String>,
    ) -> Result<(Vec<Value>, Option<String>)> {
        let mut query = query.to_vec();
        query.push(("limit", Some(limit.to_string())));
        query.push(("cursor", cursor.clone()));
        let (status, mut answer) = self.exchange(self.request(Method::GET, path, &query)).await?;
        let Value::Array(page) = answer["items"].take() else { return Err(self.stranger(status)) };
        let meta = &answer["meta"];
        let next = meta["cursor"].as_str().filter(|_| meta["hasMore"] == true).map(str::to_owned);
        // A server that gives the same cursor again would be asked for ever.
        Ok((page, next.filter(|next| cursor.as_ref() != Some(next))))
    }

    /// Opens a stream that does not end by itself, from behind the event `last`.
    pub async fn stream(&self, path: &str, query: Query<'_>, last: Option<&str>) -> Result<Response> {
        let mut request = self.request(Method::GET, path, query).header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        self.accept(response).await
    }

    /// Asks for what may take long and comes in pieces.
    pub async fn download(&self, path: &str) -> Result<Response> {
        let response = self.request(Method::GET, path, &[]).send().await.map_err(|error| self.unreachable(&error))?;
        self.accept(response).await
    }

    /// The id of an instance that is named by id or name, for the one place where the API takes ids only.
    pub async fn instance_id(&self, named: &str) -> Result<String> {
        if named.parse::<Uuid>().is_ok() {
            return Ok(named.to_owned());
        }
        let found = self.get(&format!("/instances/{}", segment(named))).await?;
        Ok(found["id"].as_str().unwrap_or(named).to_owned())
    }

    /// Hands a file in, as a stream, and gives the id under which it can be sent.
    pub async fn upload(&self, instance: &str, name: &str, file: tokio::fs::File, size: u64) -> Result<String> {
        let query = [("instanceId", Some(instance.to_owned())), ("filename", Some(name.to_owned()))];
        let body = reqwest::Body::wrap_stream(ReaderStream::with_capacity(file, 64 << 10));
        let request = self
            .request(Method::POST, "/media", &query)
            .header("content-type", "application/octet-stream")
            .header("content-length", size)
            .body(body);
        // A large file over a thin line takes its time; the server says when it is too much.
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let response = self.accept(response).await?;
        let status = response.status();
        let answer: Value = response.json().await.map_err(|_| self.stranger(status))?;
        match data(answer)["id"].as_str() {
            Some(id) => Ok(id.to_owned()),
            None => Err(self.stranger(status)),
        }
    }
}

/// A path segment that holds what a person wrote.
pub fn segment(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

fn data(mut answer: Value) -> Value {
    match answer.get_mut("data") {
        Some(data) => data.take(),
        None => answer,
    }
}

/// Where a server that listens on `address` is reached from this machine.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let local: IpAddr =
            if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        address.set_ip(local);
    }
    address
}

fn is_local(server: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(server) else { return false };
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        None => false,
    }
}

fn unknown_outcome(key: &str) -> CliError {
    CliError::new(Exit::NotDelivered, "the connection broke, and it is not known whether the message was accepted")
        .help(format!("send it again with `--idempotency-key {key}`: the server then never sends it twice"))
}

/// The server's refusal in its own words, with the exit code that fits.
fn refused(status: StatusCode, error: &Value, had_key: bool) -> CliError {
    let code = error["code"].as_str().unwrap_or_default();
    let message = error["message"].as_str().filter(|text| !text.is_empty()).unwrap_or("the server gave no reason");
    let exit = match status.as_u16() {
        401 | 403 => Exit::NotAuthorised,
        404 => Exit::NotFound,
        502 | 504 => Exit::NotDelivered,
        503 if code.starts_with("CHANNEL") => Exit::NotDelivered,
        503 => Exit::Unreachable,
        // It was taken and then not delivered, whatever the reason.
        _ if error["details"]["messageId"].is_string() => Exit::NotDelivered,
        _ => Exit::Failed,
    };
    let details = &error["details"];
    let error = CliError::new(exit, message);
    match (status.as_u16(), code) {
        (401, _) if !had_key => {
            error.help("no API key was found: set OMNI_API_KEY, or run this where the data folder is (--data)")
        }
        (401, _) => error.help("the key is not accepted: check OMNI_API_KEY, --api-key and the data folder (--data)"),
        (403, _) => error.help("`omni keys list` shows what each key may do"),
        (_, "CHANNEL_NOT_CONNECTED") => {
            error.help("`omni instances status NAME` says why; `omni instances connect NAME` connects it")
        }
        (404, _) if details["resourceType"] == "instance" => error.help("`omni instances list` shows those there are"),
        (429, _) => error.help("wait a moment and try again"),
        _ => match details["messageId"].as_str() {
            Some(id) => error.help(format!("`omni messages show {id}` says more")),
            None => error,
        },
    }
}

/// An empty body, for calls that take none.
pub fn nothing() -> Value {
    json!({})
}
