//! What was sent: the last 10,000 things, one entry each, in a ring.
//!
//! Each send writes one entry over the oldest, so it costs the same however much was sent before. There is no counter
//! in the store, for sends of several chats end in any order: the newest entry says where to go on.

use omni_channel_sdk::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

const KEPT: u64 = 10_000;
const PREFIX: &str = "sent/";
const PAGE: u32 = 1_000;

/// Where the record goes on.
#[derive(Debug)]
pub struct Record {
    next: AtomicU64,
}

impl Record {
    /// Goes on behind the newest entry.
    pub async fn load(ctx: &Context) -> Result<Self, ChannelError> {
        let newest = entries(ctx).await?.last().and_then(number);
        Ok(Self { next: AtomicU64::new(newest.map_or(0, |newest| newest + 1)) })
    }

    /// Adds what was asked for.
    pub fn write(&self, ctx: &Context, kind: &str, mut asked: Value) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        asked["number"] = json!(number);
        asked["kind"] = json!(kind);
        asked["at"] = json!(ctx.now());
        ctx.set(format!("{PREFIX}{:05}", number % KEPT), asked.to_string());
    }

    /// All entries, newest last.
    pub async fn list(&self, ctx: &Context) -> Result<Vec<Value>, ChannelError> {
        entries(ctx).await
    }
}

fn number(entry: &Value) -> Option<u64> {
    entry.get("number").and_then(Value::as_u64)
}

async fn entries(ctx: &Context) -> Result<Vec<Value>, ChannelError> {
    let mut all = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = ctx.scan(PREFIX, after.as_deref(), PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        for (_, bytes) in &page {
            all.push(serde_json::from_slice(bytes)?);
        }
    }
    all.sort_by_key(number);
    Ok(all)
}
