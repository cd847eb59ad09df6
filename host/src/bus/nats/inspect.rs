//! What `omni doctor` is told of NATS. Changes nothing: what is not there is not made.

use super::{NatsError, NatsOptions, WITHIN, events, find_stream, ledger, server::Durability, server::Server};
use crate::store::ledger::{Changes, Span};
use async_nats::jetstream;

/// What was found of a server.
#[derive(Debug)]
pub(crate) struct Inspected {
    /// Its version.
    pub version: String,
    /// What its acknowledgement means.
    pub durability: Durability,
    /// The stream that is the log.
    pub log: Option<Log>,
    /// The name of that stream.
    pub log_name: String,
    /// Streams of domain events that are not there.
    pub missing: Vec<&'static str>,
    /// What the account may store and has stored, in bytes, when it is limited.
    pub room: Option<(i64, u64)>,
    /// What was asked for of the log, when it can be told.
    pub between: Result<Vec<(Span, Changes)>, String>,
}

/// The stream that is the log.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub messages: u64,
    pub bytes: u64,
    /// None when it may grow for ever.
    pub max_bytes: Option<u64>,
    /// Whether it takes nothing more when it is full, instead of dropping what nobody has stored.
    pub keeps_all: bool,
    pub replicas: usize,
}

/// Looks at a server and counts events of the log.
pub(crate) async fn inspect(options: &NatsOptions, between: Vec<Span>) -> Result<Inspected, NatsError> {
    let server = Server::connect(options).await?;
    let context = jetstream::context::ContextBuilder::new().timeout(WITHIN).build(server.client.clone());
    let log_name = options.inbound();
    let found = find_stream(&context, &log_name).await?;
    let log = found.map(|info| Log {
        messages: info.state.messages,
        bytes: info.state.bytes,
        max_bytes: u64::try_from(info.config.max_bytes).ok().filter(|max| *max > 0),
        keeps_all: info.config.discard == jetstream::stream::DiscardPolicy::New,
        replicas: info.config.num_replicas,
    });
    let mut missing = Vec::new();
    for name in events::streams() {
        if find_stream(&context, name).await?.is_none() {
            missing.push(name);
        }
    }
    let account = context.query_account().await.ok();
    let room = account.and_then(|account| {
        let most = account.limits.max_storage.filter(|most| *most > 0)?;
        Some((most, account.storage))
    });
    let between = match &log {
        _ if between.is_empty() => Ok(Vec::new()),
        Some(_) => ledger::count(&context, &log_name, between).await,
        None => Err(format!("there is no stream {log_name}")),
    };
    let version = server.client.server_info().version;
    Ok(Inspected { version, durability: server.durability, log, log_name, missing, room, between })
}
