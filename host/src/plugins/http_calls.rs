//! HTTP on behalf of channels: secrets put in, files streamed, answers capped, failures told apart by whether the request
//! may have reached the other side.

use crate::egress::{Destination, Egress, Origins, tls};
use crate::media::MediaStore;
use futures_util::StreamExt;
use omni_channel_sdk::http::{FormPart, Header, HttpBody, HttpCall, HttpFailure, HttpResponse};
use omni_channel_sdk::ids::BlobId;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Client, ClientBuilder, Method, RequestBuilder, Response};
use std::time::Duration;
use tokio_util::io::ReaderStream;

/// What a call may take when it does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// No call may take longer: a long poll holds at most a minute or so.
const MAX_TIMEOUT: Duration = Duration::from_secs(300);
/// What an answer may have when the call does not say.
const DEFAULT_MAX_BYTES: u64 = 8 << 20;
/// What an answer may have at most: larger files are streamed into the media store instead.
const MAX_BYTES: u64 = 32 << 20;

/// The clients that channels share: connections are kept open across instances, but for those with a proxy of their own.
#[derive(Clone, Debug)]
pub struct HttpCalls {
    egress: Egress,
    public: Clients,
    /// For addresses that the operator pointed an instance at, private as they are.
    granted: Clients,
    media: MediaStore,
}

/// The clients for one sort of destination.
#[derive(Clone, Debug)]
struct Clients {
    /// For calls: a redirect is an answer, so a secret in a URL goes nowhere else.
    calls: Client,
    /// For files, which networks keep elsewhere.
    files: Client,
}

impl Clients {
    fn new(egress: &Egress, destination: Destination) -> Result<Self, reqwest::Error> {
        let kept = |builder: ClientBuilder| {
            builder.pool_idle_timeout(Duration::from_secs(60)).tcp_keepalive(Duration::from_secs(30))
        };
        let calls = kept(egress.client(destination)?).build()?;
        let files = kept(egress.client(destination)?).redirect(egress.redirects(destination));
        Ok(Self { calls, files: files.read_timeout(Duration::from_secs(30)).build()? })
    }
}

/// The secrets of one instance, and the words that stand for them in what the channel writes.
///
/// The words hold a random number, so that nobody can make a channel send a secret by writing one in a message.
#[derive(Clone, Default)]
pub struct Secrets(Vec<(String, String)>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

impl Secrets {
    /// Makes a word for each secret: name → value. Gives back name → word.
    pub fn new(secrets: impl IntoIterator<Item = (String, String)>) -> (Self, Vec<(String, String)>) {
        let mut pairs = Vec::new();
        let mut words = Vec::new();
        for (name, value) in secrets {
            let nonce: [u8; 16] = rand::random();
            let word = format!("{{{{secret:{name}:{}}}}}", hex::encode(nonce));
            words.push((name, word.clone()));
            pairs.push((word, value));
        }
        (Self(pairs), words)
    }

    /// Puts the secrets in.
    pub fn fill(&self, text: &str) -> String {
        let mut filled = text.to_owned();
        for (word, value) in &self.0 {
            if filled.contains(word.as_str()) {
                filled = filled.replace(word.as_str(), value);
            }
        }
        filled
    }

    /// Takes the secrets out of what is about to be shown or stored.
    pub fn redact(&self, text: &str) -> String {
        let mut redacted = text.to_owned();
        for (_, value) in &self.0 {
            if value.len() >= 4 {
                redacted = redacted.replace(value.as_str(), "[secret]");
            }
        }
        redacted
    }
}

fn failure(message: impl Into<String>, sent: bool) -> HttpFailure {
    HttpFailure { message: message.into(), sent, timed_out: false }
}

impl HttpCalls {
    /// The shared clients. The process has a TLS provider installed.
    pub fn new(media: MediaStore, egress: Egress) -> Result<Self, reqwest::Error> {
        let public = Clients::new(&egress, Destination::Public)?;
        let granted = Clients::new(&egress, Destination::Granted)?;
        Ok(Self { egress, public, granted, media })
    }

    /// The same through another guard, with connections of its own.
    pub fn through(&self, egress: Egress) -> Result<Self, reqwest::Error> {
        Self::new(self.media.clone(), egress)
    }

    /// The guard that every connection goes through.
    pub fn egress(&self) -> &Egress {
        &self.egress
    }

    /// Makes one call.
    pub async fn call(
        &self,
        call: HttpCall,
        secrets: &Secrets,
        origins: &Origins,
    ) -> Result<HttpResponse, HttpFailure> {
        let max_bytes = call.max_bytes.unwrap_or(DEFAULT_MAX_BYTES).min(MAX_BYTES);
        let response = self.send(|clients| &clients.calls, call, secrets, origins).await?;
        let status = response.status().as_u16();
        let headers = headers_of(&response);
        let body = read_capped(response, max_bytes).await?;
        Ok(HttpResponse { status, headers, body })
    }

    /// Makes a call whose answer is a file, to be streamed, whatever its status.
    pub async fn fetch(&self, call: HttpCall, secrets: &Secrets, origins: &Origins) -> Result<Response, HttpFailure> {
        self.send(|clients| &clients.files, call, secrets, origins).await
    }

    async fn send(
        &self,
        client: impl FnOnce(&Clients) -> &Client,
        call: HttpCall,
        secrets: &Secrets,
        origins: &Origins,
    ) -> Result<Response, HttpFailure> {
        let method = Method::from_bytes(call.method.as_bytes())
            .map_err(|_| failure(format!("{:?} is no HTTP method", call.method), false))?;
        let url = reqwest::Url::parse(&secrets.fill(&call.url))
            .map_err(|error| failure(format!("the address of a call is none: {error}"), false))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(failure(format!("a call goes to {:?}; only http and https are made", url.scheme()), false));
        }
        origins.check(&url).map_err(|sentence| failure(secrets.redact(&sentence), false))?;
        let destination = origins.destination(&url);
        let refused = |error: crate::egress::EgressError| failure(secrets.redact(&error.to_string()), false);
        self.egress.check(&url, destination).map_err(refused)?;
        let client = client(match destination {
            Destination::Public => &self.public,
            Destination::Granted => &self.granted,
        });
        let timeout = call.timeout_ms.map_or(DEFAULT_TIMEOUT, Duration::from_millis).min(MAX_TIMEOUT);
        let request = client.request(method, url).timeout(timeout).headers(headers_for(&call.headers, secrets)?);
        let request = self.body(request, call.body, secrets, call.secrets_in_body).await?;
        request.send().await.map_err(|error| explain(error, secrets))
    }

    async fn body(
        &self,
        request: RequestBuilder,
        body: HttpBody,
        secrets: &Secrets,
        fill: bool,
    ) -> Result<RequestBuilder, HttpFailure> {
        let words = |text: String| if fill { secrets.fill(&text) } else { text };
        Ok(match body {
            HttpBody::Empty => request,
            HttpBody::Json { json } => request.header("content-type", "application/json").body(words(json.to_string())),
            HttpBody::Text { text } => request.body(words(text)),
            HttpBody::Blob { blob } => {
                let (stream, size, _) = self.open(&blob).await?;
                request.header("content-length", size).body(stream)
            }
            HttpBody::Multipart { parts } => {
                let mut form = Form::new();
                for part in parts {
                    let name = part.name.clone();
                    form = form.part(name, self.part(part, &words).await?);
                }
                request.multipart(form)
            }
        })
    }

    async fn part(&self, part: FormPart, words: &impl Fn(String) -> String) -> Result<Part, HttpFailure> {
        let mut made = match (part.text, part.blob) {
            (Some(text), None) => Part::text(words(text)),
            (None, Some(blob)) => {
                let (stream, size, name) = self.open(&blob).await?;
                let made = Part::stream_with_length(stream, size);
                made.file_name(part.file_name.clone().or(name).unwrap_or_else(|| "file".into()))
            }
            _ => return Err(failure(format!("form part {:?} is neither words nor a file", part.name), false)),
        };
        if let Some(mime) = part.mime_type {
            made = made.mime_str(&mime).map_err(|_| failure(format!("{mime:?} is no MIME type"), false))?;
        }
        Ok(made)
    }

    async fn open(&self, blob: &BlobId) -> Result<(Body, u64, Option<String>), HttpFailure> {
        let missing = |why: String| failure(format!("the file {blob} cannot be sent: {why}"), false);
        let id = blob.as_str().parse().map_err(|_| missing("it is no file of ours".into()))?;
        let stored = self.media.get(id).await.map_err(|error| missing(error.to_string()))?;
        let file = tokio::fs::File::open(&stored.path).await.map_err(|error| missing(error.to_string()))?;
        Ok((Body::wrap_stream(ReaderStream::with_capacity(file, 64 << 10)), stored.size, stored.file_name))
    }
}

pub(super) fn headers_for(headers: &[Header], secrets: &Secrets) -> Result<HeaderMap, HttpFailure> {
    let mut map = HeaderMap::with_capacity(headers.len());
    for header in headers {
        let name = HeaderName::from_bytes(header.name.as_bytes())
            .map_err(|_| failure(format!("{:?} is no header name", header.name), false))?;
        let mut value = HeaderValue::from_str(&secrets.fill(&header.value))
            .map_err(|_| failure(format!("the value of header {:?} is none", header.name), false))?;
        value.set_sensitive(true);
        map.append(name, value);
    }
    Ok(map)
}

fn headers_of(response: &Response) -> Vec<Header> {
    let value = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = response.headers().iter();
    headers.map(|(name, found)| Header { name: name.as_str().to_owned(), value: value(found) }).collect()
}

async fn read_capped(response: Response, max_bytes: u64) -> Result<Vec<u8>, HttpFailure> {
    let too_large = || failure(format!("the answer has more than {max_bytes} bytes"), true);
    if response.content_length().is_some_and(|length| length > max_bytes) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| HttpFailure {
            message: "the answer broke off".into(),
            sent: true,
            timed_out: error.is_timeout(),
        })?;
        if (body.len() + chunk.len()) as u64 > max_bytes {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The sentence for a call that brought no answer: with its causes, and of its address only the server, for the rest may
/// hold a secret.
fn explain(error: reqwest::Error, secrets: &Secrets) -> HttpFailure {
    let sent = !(error.is_connect() || error.is_builder());
    let timed_out = error.is_timeout();
    let server = error.url().and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)));
    let from = server.map(|server| format!(" from {server}")).unwrap_or_default();
    let no_answer = error.is_request() || error.is_connect();
    let causes = tls::explain(&error.without_url());
    let message = match timed_out {
        true => format!("no answer in time{from}"),
        false if no_answer => {
            format!("no answer{from}: {}", causes.strip_prefix("error sending request: ").unwrap_or(&causes))
        }
        false => causes,
    };
    HttpFailure { message: secrets.redact(&message), sent, timed_out }
}
