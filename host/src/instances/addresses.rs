//! Files that lie at an address: a channel that cannot fetch one gets it from the host.

use super::{InstanceError, Instances, Result, proxy};
use crate::egress::Origins;
use crate::plugins::http_calls::Secrets;
use bytes::Bytes;
use futures_util::Stream;
use omni_channel_sdk::http::HttpCall;
use reqwest::header;
use uuid::Uuid;

impl Instances {
    /// Whether the channel of an instance fetches files from addresses by itself.
    pub async fn takes_addresses(&self, id: Uuid) -> Result<bool> {
        let manifest = self.manifest(&self.row(id).await?.channel)?;
        Ok(manifest.capabilities.send.values().any(|limits| limits.by_url))
    }

    /// A file at a public address, by the way that the instance goes, and its type.
    pub async fn file_at(
        &self,
        id: Uuid,
        url: String,
    ) -> Result<(impl Stream<Item = reqwest::Result<Bytes>> + Send + Unpin + use<>, Option<String>)> {
        let row = self.row(id).await?;
        let unreachable = |why: String| InstanceError::Invalid(format!("the file cannot be fetched: {why}"));
        let calls = proxy::calls(&row, &self.0.shared.sealer, &self.0.shared.http).map_err(unreachable)?;
        let call = HttpCall::get(url);
        let found = calls.fetch(call, &Secrets::default(), &Origins::default()).await;
        let found = found.map_err(|failure| unreachable(failure.message))?;
        if !found.status().is_success() {
            return Err(unreachable(format!("its server answered {}", found.status())));
        }
        let mime_type =
            found.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok((Box::pin(found.bytes_stream()), mime_type))
    }
}
