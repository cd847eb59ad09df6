//! The memory of a plugin that runs in a process of its own.

use crate::harness::TestHost;
use crate::measure::rss_of;
use serde_json::Value;
use std::time::Duration;

/// MiB of the first such process, once it no longer grows.
pub async fn settled(host: &TestHost) -> f64 {
    let mut tick = tokio::time::interval(Duration::from_secs(2));
    let mut before = 0.0;
    tick.tick().await;
    loop {
        tick.tick().await;
        let plugins = host.get("/plugins").await;
        let all = plugins["items"].as_array().expect("a list");
        let process = all.iter().map(|plugin| &plugin["process"]["pid"]).find(|pid| Value::is_u64(pid));
        let now = rss_of(&process.expect("it runs in a process of its own").to_string());
        if now <= before * 1.01 {
            return now;
        }
        before = now;
    }
}
