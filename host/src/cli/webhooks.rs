//! `omni webhooks`: events to other programs.

use super::client::{Client, nothing, segment};
use super::replays;
use super::ui::{Ui, pick, shorten, time};
use super::{CliError, Paging, Result, Wait};
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List them
    List,
    /// Make one; its secret is shown this once
    Create {
        /// Its name
        name: String,
        /// Where events are sent
        // Not `url`: that is which server to ask.
        #[arg(value_name = "URL")]
        address: String,
        #[command(flatten)]
        settings: Settings,
        /// Sign with this secret (whsec_…) instead of a new one
        #[arg(long, value_name = "SECRET")]
        secret: Option<String>,
        /// Make it without sending to it yet
        #[arg(long)]
        disabled: bool,
    },
    /// Show one
    Show {
        /// Its id or name
        webhook: String,
    },
    /// Change one
    Update {
        /// Its id or name
        webhook: String,
        /// Another name
        #[arg(long)]
        name: Option<String>,
        /// Where events are sent from now on
        #[arg(long, value_name = "URL")]
        address: Option<String>,
        #[command(flatten)]
        settings: Settings,
    },
    /// Delete one, with what waits for it
    Delete {
        /// Its id or name
        webhook: String,
    },
    /// Send it an event that tells of nothing, and show what it answers
    Test {
        /// Its id or name
        webhook: String,
    },
    /// Give it a new secret, which is shown this once
    Rotate {
        /// Its id or name
        webhook: String,
        /// The new secret (whsec_…) instead of a made one
        #[arg(long, value_name = "SECRET")]
        secret: Option<String>,
        /// How long the old one signs beside it, in seconds [default: a day]
        #[arg(long, value_name = "SECONDS")]
        overlap: Option<u64>,
    },
    /// List what was sent and what waits, or show one of them with its attempts
    Deliveries {
        /// Its id or name
        webhook: String,
        /// The id of one delivery
        delivery: Option<String>,
        /// Only those that are pending, delivered, failed or expired
        #[arg(long)]
        status: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Send it once more what happened
    Replay {
        /// Its id or name
        webhook: String,
        #[command(flatten)]
        wanted: replays::Wanted,
    },
    /// Send to it again, from where it was left off
    Enable {
        /// Its id or name
        webhook: String,
    },
    /// Send to it no more
    Disable {
        /// Its id or name
        webhook: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Settings {
    /// Only events of this type (message.received, message.*); may be repeated
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Only those of this instance; may be repeated
    #[arg(long = "instance", value_name = "INSTANCE")]
    instances: Vec<String>,
    /// Only those of this chat, by our id or the network's; may be repeated
    #[arg(long = "chat", value_name = "CHAT")]
    chats: Vec<String>,
    /// Send this along (authorization: Bearer …); may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// What it is for
    #[arg(long)]
    description: Option<String>,
}

impl Settings {
    /// Puts what is said into a body; what is not said is left out.
    fn fill(self, body: &mut Value) -> Result<()> {
        for (name, list) in [("eventTypes", self.types), ("instanceIds", self.instances), ("chatIds", self.chats)] {
            if !list.is_empty() {
                body[name] = list.into();
            }
        }
        for header in &self.headers {
            let (name, value) = header
                .split_once(':')
                .ok_or_else(|| CliError::usage(format!("{header:?} is no header")).help("write it as `name: value`"))?;
            body["headers"][name.trim()] = value.trim().into();
        }
        if let Some(description) = self.description {
            body["description"] = description.into();
        }
        Ok(())
    }
}

pub(super) async fn run(command: Command, client: &Client, ui: &mut Ui, clock: &Wait) -> Result<()> {
    let path = |webhook: &str, action: &str| format!("/webhooks/{}{action}", segment(webhook));
    match command {
        Command::List => {
            let answer = client.get("/webhooks").await?;
            list(answer["items"].as_array().map_or(&[][..], Vec::as_slice), ui)
        }
        Command::Create { name, address, settings, secret, disabled } => {
            let mut body = json!({"name": name, "url": address, "enabled": !disabled});
            settings.fill(&mut body)?;
            if let Some(secret) = secret {
                body["secret"] = secret.into();
            }
            let made = client.post("/webhooks", body).await?;
            show_secret(&made, ui)
        }
        Command::Show { webhook } => show(&client.get(&path(&webhook, "")).await?, ui),
        Command::Update { webhook, name, address, settings } => {
            let mut body = json!({});
            settings.fill(&mut body)?;
            for (field, value) in [("name", name), ("url", address)] {
                if let Some(value) = value {
                    body[field] = value.into();
                }
            }
            show(&client.call(Method::PATCH, &path(&webhook, ""), Some(body)).await?, ui)
        }
        Command::Delete { webhook } => {
            let answer = client.call(Method::DELETE, &path(&webhook, ""), None).await?;
            if ui.json { ui.json(&answer) } else { ui.note(&format!("deleted {webhook}")) }
        }
        Command::Test { webhook } => tried(&client.post(&path(&webhook, "/test"), nothing()).await?, ui),
        Command::Rotate { webhook, secret, overlap } => {
            let mut body = json!({});
            if let Some(secret) = secret {
                body["secret"] = secret.into();
            }
            if let Some(overlap) = overlap {
                body["overlapSeconds"] = overlap.into();
            }
            show_secret(&client.post(&path(&webhook, "/rotate"), body).await?, ui)
        }
        Command::Deliveries { webhook, delivery: Some(delivery), .. } => {
            let one = path(&webhook, &format!("/deliveries/{}", segment(&delivery)));
            show_delivery(&client.get(&one).await?, ui)
        }
        Command::Deliveries { webhook, delivery: None, status, paging } => {
            let items = client.list(&path(&webhook, "/deliveries"), &[("status", status)], paging).await?;
            deliveries(&items, ui)
        }
        Command::Replay { webhook, wanted } => replays::start(&webhook, wanted, client, ui, clock).await,
        Command::Enable { webhook } => show(&client.post(&path(&webhook, "/enable"), nothing()).await?, ui),
        Command::Disable { webhook } => show(&client.post(&path(&webhook, "/disable"), nothing()).await?, ui),
    }
}

fn list(items: &[Value], ui: &mut Ui) -> Result<()> {
    ui.list(
        items,
        &["NAME", "STATUS", "URL", "EVENTS", "QUEUED", "LAST SUCCESS", "ID"],
        "there are no webhooks",
        |item| {
            vec![
                pick(item, &["/name"]),
                pick(item, &["/status"]),
                shorten(&pick(item, &["/url"]), 60),
                words(item, "/eventTypes", "all"),
                pick(item, &["/queued"]),
                time(item, &["/lastSuccessAt"]),
                pick(item, &["/id"]),
            ]
        },
    )
}

/// A list of words in one, or what stands for an empty one.
fn words(item: &Value, pointer: &str, none: &str) -> String {
    let list = item.pointer(pointer).and_then(Value::as_array);
    let words: Vec<&str> = list.into_iter().flatten().filter_map(Value::as_str).collect();
    if words.is_empty() { none.to_owned() } else { words.join(", ") }
}

fn show(webhook: &Value, ui: &mut Ui) -> Result<()> {
    if ui.json {
        return ui.json(webhook);
    }
    ui.pairs(&[
        ("Id", pick(webhook, &["/id"])),
        ("Name", pick(webhook, &["/name"])),
        ("URL", pick(webhook, &["/url"])),
        ("For", pick(webhook, &["/description"])),
        ("Events", words(webhook, "/eventTypes", "all")),
        ("Instances", words(webhook, "/instanceIds", "all")),
        ("Chats", words(webhook, "/chatIds", "all")),
        ("Headers", words(webhook, "/headers", "")),
        ("Status", pick(webhook, &["/status"])),
        ("Why", pick(webhook, &["/disabledReason"])),
        ("Queued", pick(webhook, &["/queued"])),
        ("Events to come to", pick(webhook, &["/behind"])),
        ("Failing since", time(webhook, &["/failingSince"])),
        ("Left alone until", time(webhook, &["/restingUntil"])),
        ("Last success", time(webhook, &["/lastSuccessAt"])),
        ("Last failure", time(webhook, &["/lastFailureAt"])),
        ("Last error", pick(webhook, &["/lastError"])),
        ("Made", time(webhook, &["/createdAt"])),
    ])
}

fn show_secret(made: &Value, ui: &mut Ui) -> Result<()> {
    if ui.json {
        return ui.json(made);
    }
    ui.note(&format!("webhook {} ({})", pick(made, &["/name"]), pick(made, &["/id"])))?;
    ui.note("this is the only time that its secret is shown:")?;
    ui.line(&pick(made, &["/secret"]))
}

fn tried(answer: &Value, ui: &mut Ui) -> Result<()> {
    if ui.json {
        ui.json(answer)?;
    } else {
        ui.pairs(&[
            ("Status", pick(answer, &["/statusCode"])),
            ("Took", format!("{} ms", pick(answer, &["/durationMs"]))),
            ("Answer", shorten(&pick(answer, &["/answer"]), 200)),
        ])?;
    }
    if answer["success"] == true {
        return Ok(());
    }
    Err(CliError::failed(format!("the webhook did not take it: {}", pick(answer, &["/error"]))))
}

fn deliveries(items: &[Value], ui: &mut Ui) -> Result<()> {
    let header = ["TIME", "TYPE", "STATUS", "TRIES", "ANSWER", "ERROR", "NEXT", "ID"];
    ui.list(items, &header, "nothing was sent yet", |item| {
        vec![
            time(item, &["/createdAt"]),
            pick(item, &["/eventType"]),
            pick(item, &["/status"]),
            pick(item, &["/attempts"]),
            pick(item, &["/lastStatusCode"]),
            shorten(&pick(item, &["/lastError"]), 60),
            time(item, &["/nextAttemptAt"]),
            pick(item, &["/id"]),
        ]
    })
}

fn show_delivery(delivery: &Value, ui: &mut Ui) -> Result<()> {
    if ui.json {
        return ui.json(delivery);
    }
    ui.pairs(&[
        ("Id", pick(delivery, &["/id"])),
        ("Event", pick(delivery, &["/eventId"])),
        ("Type", pick(delivery, &["/eventType"])),
        ("Status", pick(delivery, &["/status"])),
        ("Queued", time(delivery, &["/createdAt"])),
        ("Next", time(delivery, &["/nextAttemptAt"])),
        ("Settled", time(delivery, &["/settledAt"])),
    ])?;
    let attempts = delivery["attemptLog"].as_array().map_or(&[][..], Vec::as_slice);
    let rows = attempts.iter().map(|attempt| {
        vec![
            pick(attempt, &["/attempt"]),
            time(attempt, &["/at"]),
            format!("{} ms", pick(attempt, &["/durationMs"])),
            pick(attempt, &["/statusCode"]),
            pick(attempt, &["/error"]),
            shorten(&pick(attempt, &["/answer"]), 80),
        ]
    });
    ui.table(&["TRY", "TIME", "TOOK", "STATUS", "ERROR", "ANSWER"], rows.collect(), "it was not tried yet")
}
