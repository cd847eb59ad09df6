//! What is measured of one plugin, which runs in a process of its own: its size and its memory.

use crate::harness::{TestHost, plugin_file};
use crate::measure::{calibrate, machine, rss_of};
use serde_json::{Value, json};
use std::time::Duration;

/// Says on what is measured, and how large the plugin is; gives the same for the line of JSON.
pub fn announce(channel: &str) -> Value {
    let (machine, fsync) = (machine(), calibrate());
    let size = std::fs::metadata(plugin_file(channel)).expect("it is there").len() as f64 / 1_048_576.0;
    println!("machine        {machine}");
    println!("fsync 4 KiB    p50 {:.3} ms, p99 {:.3} ms", fsync.0, fsync.1);
    println!("plugin         {size:.1} MiB");
    json!({"machine": machine, "fsync_ms": {"p50": fsync.0, "p99": fsync.1}, "plugin_mib": size})
}

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
