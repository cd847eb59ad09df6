//! HTTP for the library: uploads, and what it looks up at its start. Downloads of media go through the host.

use crate::way;
use async_trait::async_trait;
use omni_channel_sdk::error::ChannelError;
use omni_channel_sdk::frame::Egress;
use std::time::Duration;
use wacore::net::{HttpClient, HttpRequest, HttpResponse};

/// Longest that one call may take.
const WITHIN: Duration = Duration::from_secs(300);
/// Most bytes of an answer; history comes so.
const MOST_BYTES: usize = 256 << 20;

/// The client.
#[derive(Clone, Debug)]
pub struct Http {
    client: reqwest::Client,
    /// A server on this machine that stands in for WhatsApp's files, and has no TLS.
    stand_in: Option<reqwest::Url>,
}

impl Http {
    /// A client that goes the way that the operator named.
    pub fn new(egress: &Egress, stand_in: Option<&str>) -> Result<Self, ChannelError> {
        let stand_in = stand_in.and_then(|url| reqwest::Url::parse(url).ok());
        let redirects = reqwest::redirect::Policy::limited(3);
        let client = way::client(egress, |builder| builder.timeout(WITHIN).redirect(redirects))?;
        Ok(Self { client, stand_in })
    }

    /// The library knows servers of files by their names, and says `https` to all of them.
    fn url(&self, asked: &str) -> anyhow::Result<reqwest::Url> {
        let mut url = reqwest::Url::parse(asked)?;
        if let Some(stand_in) = &self.stand_in
            && url.host_str() == stand_in.host_str()
            && url.port_or_known_default() == stand_in.port_or_known_default()
        {
            let _ = url.set_scheme(stand_in.scheme());
        }
        Ok(url)
    }
}

#[async_trait]
impl HttpClient for Http {
    async fn execute(&self, request: HttpRequest) -> anyhow::Result<HttpResponse> {
        let method: reqwest::Method = request.method.parse()?;
        let mut call = self.client.request(method, self.url(&request.url)?);
        for (name, value) in &request.headers {
            call = call.header(name, value);
        }
        if let Some(body) = request.body {
            call = call.body(body);
        }
        let mut answer = call.send().await?;
        let status_code = answer.status().as_u16();
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await? {
            anyhow::ensure!(body.len() + piece.len() <= MOST_BYTES, "the answer has more than {MOST_BYTES} bytes");
            body.extend_from_slice(&piece);
        }
        Ok(HttpResponse { status_code, body })
    }
}
