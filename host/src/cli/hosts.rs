//! `omni hosts`: the hosts that share this installation, and what each of them has.

use super::Result;
use super::client::Client;
use super::ui::{Ui, pick, time};
use serde_json::Value;

pub(super) async fn run(client: &Client, ui: &mut Ui) -> Result<()> {
    let answer = client.get("/hosts").await?;
    let hosts = answer.get("data").unwrap_or(&answer);
    let items: Vec<Value> = hosts.as_array().cloned().unwrap_or_default();
    let nobody = "this host is the only one: the log is in its database. Several need Postgres and NATS (`bus.url`)";
    ui.list(&items, &["HOST", "STATE", "INSTANCES", "WORK", "SEEN", "SINCE", "ID"], nobody, |item| {
        let this = if item["isThis"] == true { " (asked)" } else { "" };
        let instances = item["instances"].as_array().map_or(0, Vec::len);
        let work = if item["works"] == true { "yes" } else { "" };
        vec![
            format!("{}{this}", pick(item, &["/name"])),
            pick(item, &["/state"]),
            instances.to_string(),
            work.to_owned(),
            time(item, &["/seenAt"]),
            time(item, &["/startedAt"]),
            pick(item, &["/id"]),
        ]
    })
}
