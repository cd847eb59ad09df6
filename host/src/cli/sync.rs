//! `omni instances sync`: older messages of an instance, fetched from its network.

use super::client::{Client, segment};
use super::ui::{Ui, pick, time};
use super::{CliError, Result, Wait};
use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// How often it is asked how far a job has come.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(super) struct Sync {
    /// Its name or id
    instance: String,
    /// Only this chat, by our id or the network's
    #[arg(long)]
    chat: Option<String>,
    /// How far back; 30d when neither this nor --since is said
    #[arg(long, value_parser = ["7d", "30d", "90d", "1y", "all"], conflicts_with = "since")]
    depth: Option<String>,
    /// Nothing that was written before this time (2026-01-31T12:00:00Z)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Nothing that was written after this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Do not wait for its end
    #[arg(long)]
    detach: bool,
    /// List the last ones instead, and how far they have come
    #[arg(long, conflicts_with_all = ["chat", "depth", "since", "until", "detach", "cancel"])]
    list: bool,
    /// Cancel one instead
    #[arg(long, value_name = "ID", conflicts_with_all = ["chat", "depth", "since", "until", "detach"])]
    cancel: Option<String>,
    #[command(flatten)]
    paging: super::Paging,
}

pub(super) async fn run(sync: Sync, client: &Client, ui: &mut Ui, clock: &Wait) -> Result<()> {
    let path = format!("/instances/{}/sync", segment(&sync.instance));
    if sync.list {
        return list(&client.list(&path, &[], sync.paging).await?, ui);
    }
    if let Some(id) = &sync.cancel {
        let answer = client.call(Method::DELETE, &format!("{path}/{}", segment(id)), None).await?;
        return if ui.json { ui.json(&answer) } else { ui.note(&pick(&answer, &["/message"])) };
    }
    let mut body = json!({ "type": "messages" });
    let said = [("chatId", sync.chat), ("depth", sync.depth), ("since", sync.since), ("until", sync.until)];
    for (name, value) in said {
        if let Some(value) = value {
            body[name] = value.into();
        }
    }
    let job = client.post(&path, body).await?;
    let id = pick(&job, &["/id"]);
    let look = format!("omni instances sync {} --list", sync.instance);
    if sync.detach {
        ui.note(&format!("it runs by itself; look at it with: {look}"))?;
        return show(&job, ui);
    }
    let place = format!("{path}/{}", segment(&id));
    let ended = tokio::select! {
        ended = wait(job, &place, client, ui, clock) => ended?,
        _ = tokio::signal::ctrl_c() => {
            let left = CliError::failed(format!("the sync {id} goes on by itself"));
            return Err(left.help(format!("look at it with: {look}")));
        }
    };
    show_end(&ended, ui)
}

/// Shows how far a job has come, until it has ended.
async fn wait(mut job: Value, path: &str, client: &Client, ui: &Ui, clock: &Wait) -> Result<Value> {
    let bar = ui.bar();
    while matches!(job["status"].as_str(), Some("pending" | "running")) {
        let progress = &job["progress"];
        bar.set_length(progress["chats"].as_u64().unwrap_or(0));
        bar.set_position(progress["chatsDone"].as_u64().unwrap_or(0));
        bar.set_message(counts(&job));
        clock.sleep(LOOK_EVERY).await;
        job = client.get(path).await?;
    }
    bar.finish_and_clear();
    Ok(job)
}

fn counts(job: &Value) -> String {
    let count = |name: &str| job["progress"][name].as_u64().unwrap_or(0);
    match job["status"].as_str() {
        Some("pending") => "waiting to begin".to_owned(),
        _ => format!("{} messages and changes, {} of them new", count("fetched"), count("stored")),
    }
}

fn show_end(job: &Value, ui: &mut Ui) -> Result<()> {
    show(job, ui)?;
    match job["status"].as_str() {
        Some("failed") => Err(CliError::failed(format!("the sync failed: {}", pick(job, &["/errorMessage"])))),
        Some("cancelled") => Err(CliError::failed("the sync was cancelled")),
        _ => Ok(()),
    }
}

fn chats(job: &Value) -> String {
    let failed = match job["progress"]["chatsFailed"].as_u64() {
        Some(failed) if failed > 0 => format!(", {failed} failed"),
        _ => String::new(),
    };
    format!("{} of {}{failed}", pick(job, &["/progress/chatsDone"]), pick(job, &["/progress/chats"]))
}

fn show(job: &Value, ui: &mut Ui) -> Result<()> {
    if ui.json {
        return ui.json(job);
    }
    let failures = job["progress"]["failures"].as_array().map_or(&[][..], Vec::as_slice);
    let failures: Vec<String> =
        failures.iter().map(|one| format!("{}: {}", pick(one, &["/chatId"]), pick(one, &["/message"]))).collect();
    ui.pairs(&[
        ("Id", pick(job, &["/id"])),
        ("Status", pick(job, &["/status"])),
        ("Since", time(job, &["/config/since"])),
        ("Chats", chats(job)),
        ("Fetched", pick(job, &["/progress/fetched"])),
        ("New", pick(job, &["/progress/stored"])),
        ("Known", pick(job, &["/progress/duplicates"])),
        ("Refused by their chats", failures.join("; ")),
        ("Begun", time(job, &["/startedAt"])),
        ("Ended", time(job, &["/completedAt"])),
    ])
}

fn list(items: &[Value], ui: &mut Ui) -> Result<()> {
    let header = ["TIME", "TYPE", "STATUS", "CHATS", "FETCHED", "NEW", "ID"];
    ui.list(items, &header, "nothing was fetched yet", |item| {
        vec![
            time(item, &["/createdAt"]),
            pick(item, &["/type"]),
            pick(item, &["/status"]),
            chats(item),
            pick(item, &["/progress/fetched"]),
            pick(item, &["/progress/stored"]),
            pick(item, &["/id"]),
        ]
    })
}
