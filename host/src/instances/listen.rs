//! A webhook on an address of its own: the host opens it for one instance alone.

use super::live::Live;
use crate::clock::Clock;
use crate::http::plugin_listener::{self, Intake};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

use super::ingress::End;

/// Opens the address. The future that comes back serves it, until it is dropped.
pub async fn open(
    address: &str,
    live: Arc<Live>,
    clock: Clock,
    intake: Intake,
) -> Result<impl Future<Output = End> + Send + 'static, String> {
    let parsed: SocketAddr = address
        .parse()
        .map_err(|_| format!("config.listen {address:?} is no address; write it like 127.0.0.1:9040"))?;
    let listener =
        TcpListener::bind(parsed).await.map_err(|error| format!("the address {parsed} cannot be opened: {error}"))?;
    Ok(async move {
        plugin_listener::serve(listener, live, clock, intake).await;
        End::Retry("the listener has ended".into())
    })
}
