//! `omni instances`: accounts on networks.

use super::client::{Client, nothing, segment};
use super::ui::{Ui, pick, time};
use super::{CliError, Result, Wait, account, export_auth, login, sync};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make an instance; it connects at once when it has what it needs
    Create(Create),
    /// List them
    List {
        /// Only those of this channel
        #[arg(long)]
        channel: Option<String>,
        #[command(flatten)]
        paging: super::Paging,
    },
    /// Show one
    Show {
        /// Its name or id
        instance: String,
    },
    /// Change one
    Update(Update),
    /// Delete one, with its chats, messages and state
    Delete {
        /// Its name or id
        instance: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Connect one, and log it in when it needs that
    Connect {
        /// Its name or id
        instance: String,
    },
    /// Disconnect one
    Disconnect {
        /// Its name or id
        instance: String,
    },
    /// Disconnect and connect one
    Restart {
        /// Its name or id
        instance: String,
    },
    /// Say whether one is connected, since when, and what to do
    Status {
        /// Its name or id
        instance: String,
    },
    /// Put back what one kept before a newer plugin changed it, when the older plugin is there again
    RestoreState {
        /// Its name or id
        instance: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Fetch older messages of one from its network
    Sync(sync::Sync),
    /// Give away what one logs in with, as files for another program
    ExportAuth(export_auth::ExportAuth),
    #[command(flatten)]
    Account(account::Command),
    /// Log one in: shows a QR code, a code or a form
    Login {
        /// Its name or id
        instance: String,
        /// How, when the channel has several ways
        #[arg(long)]
        flow: Option<String>,
    },
}

/// The parts of a configuration, as they are given on the command line.
#[derive(Debug, Args)]
pub(super) struct Settings {
    /// Its token (anybody on this machine can see it while the command runs)
    #[arg(long, conflicts_with = "token_stdin")]
    token: Option<String>,
    /// Read the token from standard input
    #[arg(long)]
    token_stdin: bool,
    /// Set a field of its configuration: KEY=TEXT, or KEY:=JSON for numbers and the like; may be repeated
    #[arg(long = "config", id = "field", value_name = "KEY=VALUE")]
    fields: Vec<String>,
    /// The fields as a JSON object, from a file (- is standard input)
    #[arg(long, value_name = "FILE")]
    config_json: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Its name
    name: String,
    /// The channel: telegram, echo …
    #[arg(long)]
    channel: String,
    /// Use it for its channel when none is named
    #[arg(long)]
    default: bool,
    /// Where it runs: in a process of its plugin's own, in the host, or where the configuration says
    #[arg(long, value_name = "WHERE", value_parser = ["process", "in-process", "default"])]
    isolation: Option<String>,
    /// An HTTP proxy of its own: http://USER:PASSWORD@HOST:PORT; `none` is the configuration's (anybody on this machine
    /// can see it while the command runs)
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Args)]
pub(super) struct Update {
    /// Its name or id
    instance: String,
    /// Its new name
    #[arg(long)]
    name: Option<String>,
    /// Take a field out of its configuration; may be repeated
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
    /// Use it for its channel when none is named
    #[arg(long)]
    default: bool,
    /// Where it runs: in a process of its plugin's own, in the host, or where the configuration says
    #[arg(long, value_name = "WHERE", value_parser = ["process", "in-process", "default"])]
    isolation: Option<String>,
    /// An HTTP proxy of its own: http://USER:PASSWORD@HOST:PORT; `none` is the configuration's (anybody on this machine
    /// can see it while the command runs)
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

pub(super) async fn run(command: Command, client: &Client, ui: &mut Ui, clock: &Wait) -> Result<()> {
    match command {
        Command::Create(create) => {
            let made = client.post("/instances", create_body(create, ui)?).await?;
            show_with_reason(made.clone(), client, ui).await?;
            after_connect(&made, client, ui, clock).await
        }
        Command::List { channel, paging } => {
            let items = client.list("/instances", &[("channel", channel)], paging).await?;
            list(&items, ui)
        }
        Command::Show { instance } => show_with_reason(client.get(&path(&instance, "")).await?, client, ui).await,
        Command::Update(update) => {
            let path = path(&update.instance, "");
            let body = update_body(update, ui)?;
            show_with_reason(client.call(Method::PATCH, &path, Some(body)).await?, client, ui).await
        }
        Command::Delete { instance, yes } => delete(&instance, yes, client, ui).await,
        Command::Connect { instance } => {
            let status = act(client, &instance, "/connect", ui).await?;
            after_connect(&status, client, ui, clock).await
        }
        Command::Disconnect { instance } => {
            let done = client.post(&path(&instance, "/disconnect"), nothing()).await?;
            if ui.json { ui.json(&done) } else { ui.note(&pick(&done, &["/message"])) }
        }
        Command::Restart { instance } => act(client, &instance, "/restart", ui).await.map(drop),
        Command::Status { instance } => {
            let status = client.get(&path(&instance, "/status")).await?;
            show_status(&status, ui)
        }
        Command::RestoreState { instance, yes } => {
            if !yes {
                ui.confirm(&format!("Forget what {instance:?} kept since the newer plugin?"), "--yes")?;
            }
            act(client, &instance, "/restore-state", ui).await.map(drop)
        }
        Command::ExportAuth(args) => export_auth::run(args, client, ui).await,
        Command::Account(command) => account::run(command, client, ui).await,
        Command::Sync(sync) => sync::run(sync, client, ui, clock).await,
        Command::Login { instance, flow } => login::run(&path(&instance, "/login"), flow, client, ui, clock).await,
    }
}

/// The API takes a name as well as an id.
pub(super) fn path(instance: &str, rest: &str) -> String {
    format!("/instances/{}{rest}", segment(instance))
}

/// Has something done, and says how the instance is then.
async fn act(client: &Client, instance: &str, action: &str, ui: &mut Ui) -> Result<Value> {
    let path = path(instance, "");
    let done = client.post(&format!("{path}{action}"), nothing()).await?;
    if ui.json {
        ui.json(&done)?;
        return Ok(done);
    }
    let status = client.get(&format!("{path}/status")).await?;
    show_status(&status, ui)?;
    Ok(status)
}

/// Shows an instance; to a person also why it is not connected, and what to do.
async fn show_with_reason(mut instance: Value, client: &Client, ui: &mut Ui) -> Result<()> {
    if !ui.json && matches!(state(&instance).as_str(), "disconnected" | "logged_out" | "connecting") {
        let id = pick(&instance, &["/id"]);
        let status = client.get(&format!("/instances/{id}/status")).await?;
        for field in ["state", "message", "userAction", "willRetry"] {
            instance[field] = status[field].clone();
        }
    }
    show(&instance, ui)
}

/// An instance that waits for a login gets it at once when a person is there.
async fn after_connect(instance: &Value, client: &Client, ui: &mut Ui, clock: &Wait) -> Result<()> {
    if state(instance) != "waiting_for_login" || ui.json {
        return Ok(());
    }
    let id = pick(instance, &["/id", "/instanceId"]);
    if ui.terminal.input {
        return login::run(&format!("/instances/{id}/login"), None, client, ui, clock).await;
    }
    ui.note(&format!("log it in with: omni instances login {id}"))
}

async fn delete(instance: &str, yes: bool, client: &Client, ui: &mut Ui) -> Result<()> {
    let found = client.get(&path(instance, "")).await?;
    let (id, name) = (pick(&found, &["/id"]), pick(&found, &["/name"]));
    if !yes {
        ui.confirm(&format!("Delete the instance {name:?} with its chats and messages?"), "--yes")?;
    }
    let answer = client.call(Method::DELETE, &format!("/instances/{id}"), None).await?;
    if ui.json {
        return ui.json(&answer);
    }
    // What stayed behind on the network is in the server's sentence.
    match answer.get("message").and_then(Value::as_str) {
        Some(sentence) => ui.note(sentence),
        None => ui.note(&format!("deleted {name}")),
    }
}

fn create_body(create: Create, ui: &mut Ui) -> Result<Value> {
    let (token, config) = settings(create.settings, ui)?;
    let mut body = json!({ "name": create.name, "channel": create.channel, "config": config });
    if let Some(token) = token {
        body["token"] = token.into();
    }
    if create.default {
        body["isDefault"] = true.into();
    }
    if let Some(isolation) = create.isolation {
        body["isolation"] = isolation.into();
    }
    if let Some(proxy) = create.proxy {
        body["proxy"] = proxy.into();
    }
    Ok(body)
}

fn update_body(update: Update, ui: &mut Ui) -> Result<Value> {
    let (token, mut config) = settings(update.settings, ui)?;
    config.extend(update.unset.into_iter().map(|key| (key, Value::Null)));
    let mut body = Map::new();
    body.extend(update.name.map(|name| ("name".to_owned(), name.into())));
    body.extend(token.map(|token| ("token".to_owned(), token.into())));
    if !config.is_empty() {
        body.insert("config".into(), config.into());
    }
    if update.default {
        body.insert("isDefault".into(), true.into());
    }
    body.extend(update.isolation.map(|isolation| ("isolation".to_owned(), isolation.into())));
    body.extend(update.proxy.map(|proxy| ("proxy".to_owned(), proxy.into())));
    if body.is_empty() {
        return Err(
            CliError::usage("nothing was said to change").help("`omni instances update --help` lists what can be")
        );
    }
    Ok(body.into())
}

fn settings(settings: Settings, ui: &mut Ui) -> Result<(Option<String>, Map<String, Value>)> {
    let mut config = match settings.config_json.as_deref() {
        Some(file) => object(file, ui)?,
        None => Map::new(),
    };
    for field in &settings.fields {
        let (key, value) = assignment(field)?;
        config.insert(key, value);
    }
    let token = if settings.token_stdin { Some(ui.ask("Token", true)?.trim().to_owned()) } else { settings.token };
    match token {
        Some(token) if token.is_empty() => Err(CliError::usage("the token is empty")),
        token => Ok((token, config)),
    }
}

fn object(file: &str, ui: &mut Ui) -> Result<Map<String, Value>> {
    let mut text = String::new();
    if file == "-" {
        ui.input.read_to_string(&mut text)?;
    } else {
        text = std::fs::read_to_string(file)
            .map_err(|error| CliError::usage(format!("failed to read {file}: {error}")))?;
    }
    serde_json::from_str(&text).map_err(|error| CliError::usage(format!("{file} holds no JSON object: {error}")))
}

/// `key=text` or `key:=json`.
fn assignment(field: &str) -> Result<(String, Value)> {
    let wrong = |why: String| CliError::usage(format!("--config {field:?}: {why}"));
    let (key, value) = field.split_once('=').ok_or_else(|| wrong("expected KEY=VALUE".into()))?;
    let (key, value) = match key.strip_suffix(':') {
        Some(key) => {
            (key, serde_json::from_str(value).map_err(|error| wrong(format!("{value:?} is not JSON: {error}")))?)
        }
        None => (key, Value::from(value)),
    };
    if key.is_empty() {
        return Err(wrong("expected a name before the =".into()));
    }
    Ok((key.to_owned(), value))
}

/// The word for what the connection does, wherever the API puts it.
fn state(instance: &Value) -> String {
    pick(instance, &["/state/state", "/state", "/status/state", "/status"])
}

fn list(items: &[Value], ui: &mut Ui) -> Result<()> {
    let none = "there are no instances; make one: omni instances create NAME --channel telegram --token-stdin";
    ui.list(items, &["NAME", "CHANNEL", "STATE", "ACCOUNT", "LAST MESSAGE", "ID"], none, |item| {
        vec![
            pick(item, &["/name"]),
            pick(item, &["/channel"]),
            state(item),
            pick(item, &["/profileName", "/ownerIdentifier"]),
            time(item, &["/lastMessageAt"]),
            pick(item, &["/id"]),
        ]
    })
}

fn show(item: &Value, ui: &mut Ui) -> Result<()> {
    if ui.json {
        return ui.json(item);
    }
    let config = item.get("config").filter(|config| config.as_object().is_some_and(|config| !config.is_empty()));
    ui.pairs(&[
        ("Name", pick(item, &["/name"])),
        ("Id", pick(item, &["/id"])),
        ("Channel", pick(item, &["/channel"])),
        ("State", state(item)),
        ("Since", time(item, &["/stateSince", "/state/since", "/status/since"])),
        ("Why", pick(item, &["/message"])),
        ("To do", to_do(item)),
        ("Account", pick(item, &["/profileName"])),
        ("Account id", pick(item, &["/ownerIdentifier"])),
        ("Token", pick(item, &["/hasToken"]).replace("yes", "set").replace("no", "")),
        ("Runs", pick(item, &["/isolation"])),
        ("Proxy", pick(item, &["/proxy"])),
        ("Configuration", config.map(Value::to_string).unwrap_or_default()),
        ("Last message", time(item, &["/lastMessageAt"])),
        ("Made", time(item, &["/createdAt"])),
    ])
}

/// What somebody has to do about a state, if anybody has.
fn to_do(status: &Value) -> String {
    match pick(status, &["/userAction", "/state/userAction"]) {
        nothing if nothing.is_empty() && status["willRetry"] == true => {
            "nothing: it is tried again by itself".to_owned()
        }
        action => action,
    }
}

fn show_status(status: &Value, ui: &mut Ui) -> Result<()> {
    if ui.json {
        return ui.json(status);
    }
    ui.pairs(&[
        ("State", state(status)),
        ("Since", time(status, &["/since", "/stateSince", "/connectedAt"])),
        ("Why", pick(status, &["/reason", "/state/reason", "/message"])),
        ("To do", to_do(status)),
        ("Account", pick(status, &["/profileName"])),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_text_unless_it_says_json() {
        assert_eq!(assignment("a=b=c").expect("fits"), ("a".into(), json!("b=c")));
        assert_eq!(assignment("phone=0049").expect("fits"), ("phone".into(), json!("0049")));
        assert_eq!(assignment("n:={\"x\":1}").expect("fits"), ("n".into(), json!({ "x": 1 })));
        for (field, told) in [("a", "expected KEY=VALUE"), ("=b", "expected a name"), ("a:=b", "is not JSON")] {
            assert!(assignment(field).expect_err("is refused").message.contains(told), "{field}");
        }
    }
}
