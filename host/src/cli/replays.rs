//! `omni events replay` and `omni webhooks replay`: what happened, once more, for one consumer.

use super::client::{Client, segment};
use super::ui::{Ui, pick, time};
use super::{CliError, Result, Wait};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// How often it is asked how far a replay has come.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(super) struct Wanted {
    /// From this time on (2026-01-31T12:00:00Z)
    #[arg(long, value_name = "TIME")]
    since: String,
    /// Up to this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only events of this type (message.received, message.*); may be repeated
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Only those of this instance
    #[arg(long)]
    instance: Option<String>,
    /// No more than so many
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Leave out what was taken already
    #[arg(long)]
    missing_only: bool,
    /// Only count
    #[arg(long)]
    dry_run: bool,
    /// Do not wait for its end
    #[arg(long)]
    detach: bool,
}

/// Begins a replay and shows how far it has come, until it has ended. Ctrl-C leaves it running.
pub(super) async fn start(consumer: &str, wanted: Wanted, client: &Client, ui: &mut Ui, clock: &Wait) -> Result<()> {
    let mut body = json!({
        "consumer": consumer, "since": wanted.since, "skipProcessed": wanted.missing_only, "dryRun": wanted.dry_run,
    });
    let optional = [
        ("until", wanted.until.map(Value::from)),
        ("instanceId", wanted.instance.map(Value::from)),
        ("limit", wanted.limit.map(Value::from)),
        ("eventTypes", (!wanted.types.is_empty()).then(|| wanted.types.into())),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            body[name] = value;
        }
    }
    let mut replay = client.post("/event-ops/replay", body).await?;
    let path = format!("/event-ops/replay/{}", segment(&pick(&replay, &["/id"])));
    ui.note(&format!("replay {}; `omni events cancel-replay {0}` cancels it", pick(&replay, &["/id"])))?;
    if !wanted.detach {
        let mut shown = String::new();
        while replay["status"] == "running" {
            let line = progress(&replay);
            if line != shown && ui.terminal.err {
                ui.note(&line)?;
                shown = line;
            }
            clock.sleep(LOOK_EVERY).await;
            replay = client.get(&path).await?;
        }
    }
    show(&replay, ui)?;
    match replay["status"].as_str() {
        Some("failed") => Err(CliError::failed(format!("the replay failed: {}", pick(&replay, &["/error"])))),
        Some("cancelled") => Err(CliError::failed("the replay was cancelled")),
        _ => Ok(()),
    }
}

fn progress(replay: &Value) -> String {
    let count = |name: &str| replay["progress"][name].as_i64().unwrap_or(0);
    let percent = count("processed") * 100 / count("total").max(1);
    format!(
        "{percent} %: {} of {} events looked at, {} replayed",
        count("processed"),
        count("total"),
        count("replayed")
    )
}

fn show(replay: &Value, ui: &mut Ui) -> Result<()> {
    if ui.json {
        return ui.json(replay);
    }
    ui.pairs(&[
        ("Id", pick(replay, &["/id"])),
        ("Consumer", pick(replay, &["/consumer"])),
        ("Status", pick(replay, &["/status"])),
        ("Looked at", format!("{} of {}", pick(replay, &["/progress/processed"]), pick(replay, &["/progress/total"]))),
        ("Wanted", pick(replay, &["/progress/matched"])),
        ("Replayed", pick(replay, &["/progress/replayed"])),
        ("Taken before", pick(replay, &["/progress/skipped"])),
        ("Begun", time(replay, &["/progress/startedAt"])),
        ("Ended", time(replay, &["/progress/completedAt"])),
    ])
}

/// Lists the last ones.
pub(super) async fn list(client: &Client, ui: &mut Ui) -> Result<()> {
    let answer = client.get("/event-ops/replay").await?;
    let items = answer["items"].as_array().map_or(&[][..], Vec::as_slice);
    let header = ["TIME", "STATUS", "CONSUMER", "LOOKED AT", "REPLAYED", "ID"];
    ui.list(items, &header, "nothing was replayed yet", |item| {
        vec![
            time(item, &["/progress/startedAt"]),
            pick(item, &["/status"]),
            pick(item, &["/consumer"]),
            format!("{} of {}", pick(item, &["/progress/processed"]), pick(item, &["/progress/total"])),
            pick(item, &["/progress/replayed"]),
            pick(item, &["/id"]),
        ]
    })
}

/// Cancels one.
pub(super) async fn cancel(id: &str, client: &Client, ui: &mut Ui) -> Result<()> {
    let answer = client.call(Method::DELETE, &format!("/event-ops/replay/{}", segment(id)), None).await?;
    if ui.json { ui.json(&answer) } else { ui.note("cancelled") }
}
