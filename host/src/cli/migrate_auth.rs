//! `omni migrate auth`: what an account logs in with comes over from another program, so that nobody logs in anew.
//!
//! This machine reads the sources, the host takes what was found. Without a host that runs, one is started on the data folder
//! for as long as it takes, with nothing connected.

use super::client::{Answered, Client, nothing, segment};
use super::ui::{Ui, clean, pick, shorten, size_of, time};
use super::{CliError, Global, Result, World, migrate_report};
use crate::auth_state::{HEAD, Report, tree};
use crate::config::{Config, Secret};
use crate::data::{DataError, DataFolder};
use crate::migrate::{Gathered, MigrateError, Record, Source, Wanted, gather};
use crate::run::{self, Start};
use crate::secrets::new_api_key;
use bytes::Bytes;
use reqwest::{Body, Method, StatusCode};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// How long Evolution may take to say whether it is connected.
const ASK_WITHIN: Duration = Duration::from_secs(15);
/// Bytes of a piece of the archive on its way.
const PIECE: usize = 64 << 10;
/// What Evolution's key is called in the environment.
const EVOLUTION_KEY: &str = "OMNI_MIGRATE_EVOLUTION_KEY";
const STOP: &str = "disconnect the old program without logging it out: stop its container or process, or the instance in it \
                    (never DELETE /instance/logout, which ends the login for good). Then say --source-stopped, or let the \
                    command ask with --evolution-url";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(super) struct AuthArgs {
    /// The channel here: whatsapp, discord, telegram …
    #[arg(long)]
    channel: Option<String>,
    /// The instance here, by name or id; it is made when there is none of that name, and stays disconnected
    #[arg(long, required_unless_present_any = ["list", "forget"])]
    instance: Option<String>,
    /// Where to read: KIND:PLACE, see below; may be repeated for the stores of one Evolution (anybody on this machine can
    /// see it while the command runs)
    #[arg(long = "from", value_name = "SOURCE")]
    from: Vec<Source>,
    /// The folder in which Evolution keeps files: `instances`, or the one of the instance
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// What Evolution had in Redis, as a JSON file
    #[arg(long, value_name = "FILE")]
    redis: Option<PathBuf>,
    /// The instance in the other program, by name or id [default: the one called as ours, or the only one that is paired]
    #[arg(long, value_name = "NAME_OR_ID")]
    source_instance: Option<String>,
    /// The other program does not use the account any more
    #[arg(long)]
    source_stopped: bool,
    /// Ask Evolution whether its instance is disconnected
    #[arg(long, value_name = "URL")]
    evolution_url: Option<String>,
    /// With this key [default: OMNI_MIGRATE_EVOLUTION_KEY]
    #[arg(long, value_name = "KEY")]
    evolution_key: Option<String>,
    /// Take the place of what the instance keeps, or of its connection
    #[arg(long)]
    replace: bool,
    /// Take over what is there although something is missing, such as keys
    #[arg(long)]
    allow_missing_keys: bool,
    /// Connect the instance afterwards
    #[arg(long, conflicts_with = "dry_run")]
    connect: bool,
    /// Only look and report
    #[arg(long)]
    dry_run: bool,
    /// Undo the newest takeover of the instance, as long as nothing was sent with it
    #[arg(long, conflicts_with_all = ["from", "list", "forget"])]
    undo: bool,
    /// List what was taken over
    #[arg(long, conflicts_with_all = ["from", "forget"])]
    list: bool,
    /// Delete the sealed copy of what was handed in, by the id of the takeover
    #[arg(long, value_name = "ID", conflicts_with = "from")]
    forget: Option<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

const AFTER: &str = "Sources:
  baileys:DIR                  a folder of useMultiFileAuthState, or the one above it
  evolution-postgres:URL       with --files DIR and --redis FILE beside it, whichever there are;
  evolution-mysql:URL          tables \"Session\" and \"Instance\", or evo_Session and evo_Instance;
                               of a number of the Cloud API (--channel whatsapp-cloud) the row has all
  evolution-redis:FILE         a hash as JSON: {\"<prefix>:instance:<id>\": {field: value}}, or its fields
  evolution-provider:FILE      {name: data}
  evolution-mongo:FILE         documents {_id, …}, as a list or one a line
  omni-v1:URL_OR_FILE          the row of a bot, with its token
  omni-v2:URL                  the same

The order that protects the account: stop the other program without logging out, take over, connect
here. Two programs with one identity fight, and what was taken over is stale with the first message.
A sealed copy of what was handed in is kept until --forget. With --undo the other program can go on,
as long as nothing was sent here.";

pub(super) fn run(args: &AuthArgs, global: &Global, world: &mut World) -> Result<()> {
    let is_named = global.url.is_some() || world.env.get("OMNI_API_URL").is_some_and(|url| !url.is_empty());
    if !is_named {
        let config = super::load(global, None, Vec::new(), world)?.config;
        let looks_back = args.list || args.undo || args.forget.is_some();
        // Let go of at once: who starts a host takes it again.
        match DataFolder::lock(&config.data.dir).map(drop) {
            // Whoever uses it is the host.
            Err(DataError::InUse { .. }) => {}
            // What was never made has nothing to look back on.
            Err(_) if looks_back => {}
            // It is made, or what is wrong with it is said, when it is opened.
            Ok(()) | Err(_) => return alone(args, config, world),
        }
    }
    let client = Client::find(global, world)?;
    super::world::block_on(ask(args, &client, world))?
}

/// Starts a host for as long as it takes.
fn alone(args: &AuthArgs, mut config: Config, world: &mut World) -> Result<()> {
    if config.bus.nats_options().is_some() {
        return Err(CliError::usage("several hosts may share this installation (`bus.url`), and none was named")
            .help("start one with `omni serve`, or name one with --url"));
    }
    if args.connect {
        return Err(CliError::usage("--connect needs a host that goes on running, and none runs on this data folder")
            .help("start one with `omni serve`, or connect the instance once one runs"));
    }
    let key = new_api_key();
    config.http.api_key = Some(Secret::new(key.clone()));
    config.http.public_url = None;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let failed = |error: String| CliError::failed(format!("failed to start a host for this: {error}"));
        let data = DataFolder::open(&config.data.dir, config.database_file().as_deref())
            .map_err(|error| failed(error.to_string()))?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let shutdown = CancellationToken::new();
        let start = Start {
            config,
            data,
            listener,
            clock: world.clock.clone(),
            bundled: world.program.parent().map(Path::to_path_buf),
            program: super::serve::own_program(world),
            metrics: None,
            connect: false,
            log: None,
            shutdown: shutdown.clone(),
        };
        let (ready, is_ready) = oneshot::channel();
        let mut running = tokio::spawn(run::run(start, ready));
        let started = tokio::select! {
            biased;
            ended = &mut running => Err(ended),
            Ok(started) = is_ready => Ok(started),
        };
        let (started, _) = started.map_err(|ended| match ended {
            Ok(Err(error)) => failed(format!("{error:#}")),
            Ok(Ok(())) => failed("it ended at once".into()),
            Err(error) => failed(error.to_string()),
        })?;
        let client = Client::new(&format!("http://{}", started.address), Some(key))?;
        let done = ask(args, &client, world).await;
        shutdown.cancel();
        let ended = running.await;
        done?;
        match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(CliError::failed(format!("{error:#}"))),
            Err(error) => Err(CliError::failed(error.to_string())),
        }
    });
    // What a plugin's thread still does must not keep the process.
    runtime.shutdown_background();
    done
}

async fn ask(args: &AuthArgs, client: &Client, world: &mut World) -> Result<()> {
    if args.list {
        let items = client.get("/auth-imports").await?;
        return list(items["items"].as_array().map(Vec::as_slice).unwrap_or_default(), &mut world.ui);
    }
    if let Some(id) = &args.forget {
        if !args.yes {
            world.ui.confirm("Delete the sealed copy of what was handed in?", "--yes")?;
        }
        let done = client.call(Method::DELETE, &format!("/auth-imports/{}/snapshot", segment(id)), None).await?;
        return if world.ui.json { world.ui.json(&done) } else { world.ui.note(&pick(&done, &["/message"])) };
    }
    let instance = args.instance.as_deref().unwrap_or_default();
    if args.undo {
        if !args.yes {
            world.ui.confirm(&format!("Disconnect {instance:?} and give up what was taken over into it?"), "--yes")?;
        }
        let done = client.call(Method::DELETE, &format!("/instances/{}/auth-import", segment(instance)), None).await?;
        if world.ui.json {
            return world.ui.json(&done);
        }
        return world.ui.note(&format!(
            "{instance} is disconnected and keeps what it kept before. The other program can be started again, on the same \
             stores"
        ));
    }
    take_over(args, instance, client, world).await
}

fn refused(error: MigrateError) -> CliError {
    match error {
        MigrateError::Usage(_) => CliError::usage(error.to_string()),
        MigrateError::NotFound(_) => CliError::new(super::Exit::NotFound, error.to_string()),
        MigrateError::Unreadable { .. } => CliError::failed(error.to_string()),
    }
}

async fn take_over(args: &AuthArgs, instance: &str, client: &Client, world: &mut World) -> Result<()> {
    let channel = args.channel.as_deref().ok_or_else(|| CliError::usage("nobody says which channel: --channel"))?;
    // What Omni v2 called it.
    let channel = if channel == "whatsapp-baileys" { "whatsapp" } else { channel };
    let at = |path: &PathBuf| world.folder.join(path);
    let wanted = Wanted {
        source_instance: args.source_instance.clone(),
        instance: instance.to_owned(),
        channel: channel.to_owned(),
        files: args.files.as_ref().map(at),
        redis: args.redis.as_ref().map(at),
    };
    let sources: Vec<Source> = args.from.iter().map(|source| source.clone().within(&world.folder)).collect();
    let reading = world.ui.spinner("reading");
    let gathered = gather(&sources, &wanted).await;
    reading.finish_and_clear();
    let gathered = gathered.map_err(refused)?;
    let is_stopped = is_stopped(args, &gathered, instance, world).await?;
    let (id, is_new) = find_or_make(instance, channel, client).await?;
    let taken = hand_in(args, &id, &gathered, is_stopped, client, &mut world.ui).await;
    // Of what was only looked at, and of what was refused, nothing stays.
    if is_new && (args.dry_run || taken.is_err()) {
        let gone = client.call(Method::DELETE, &format!("/instances/{id}"), None).await;
        if taken.is_ok() {
            gone?;
        }
    }
    let report = taken?;
    let report: Report = serde_json::from_value(report)
        .map_err(|error| CliError::failed(format!("the server's report cannot be read: {error}")))?;
    let ui = &mut world.ui;
    if ui.json {
        ui.json(&report)?;
    } else {
        migrate_report::show(&report, instance, args.connect, ui)?;
    }
    if !args.connect {
        return Ok(());
    }
    let status = client.post(&format!("/instances/{id}/connect"), nothing()).await?;
    if ui.json { Ok(()) } else { ui.note(&format!("{instance}: {}", pick(&status, &["/message", "/status"]))) }
}

/// Whether it is known that the other program does not use the account.
async fn is_stopped(args: &AuthArgs, gathered: &Gathered, instance: &str, world: &World) -> Result<bool> {
    let Some(url) = &args.evolution_url else {
        if !args.source_stopped && !args.dry_run {
            return Err(
                CliError::usage("nobody says that the other program does not use the account any more").help(STOP)
            );
        }
        return Ok(args.source_stopped);
    };
    let key = args.evolution_key.clone().or_else(|| world.env.get(EVOLUTION_KEY).cloned());
    let key =
        key.ok_or_else(|| CliError::usage(format!("Evolution wants its key: --evolution-key or {EVOLUTION_KEY}")))?;
    let name = gathered.name.as_deref().or(args.source_instance.as_deref()).unwrap_or(instance);
    let state = evolution_state(url, &key, name).await?;
    match state.as_str() {
        "close" | "closed" => Ok(true),
        _ if args.dry_run => Ok(false),
        state => {
            Err(CliError::failed(format!("Evolution says that {name:?} is {state:?}: it uses the account")).help(STOP))
        }
    }
}

async fn evolution_state(url: &str, key: &str, name: &str) -> Result<String> {
    let address = format!("{}/instance/connectionState/{}", url.trim_end_matches('/'), segment(name));
    let failed = |why: String| {
        CliError::new(
            super::Exit::Unreachable,
            format!("Evolution does not say whether {name:?} is disconnected: {why}"),
        )
        .help("when it is stopped for good, leave --evolution-url away and say --source-stopped")
    };
    let client = reqwest::Client::builder().timeout(ASK_WITHIN).redirect(reqwest::redirect::Policy::none()).build();
    let client = client.map_err(|error| failed(error.without_url().to_string()))?;
    let answer = client.get(address).header("apikey", key).send().await;
    let answer = answer.map_err(|error| failed(error.without_url().to_string()))?;
    if !answer.status().is_success() {
        return Err(failed(format!("it answers {}", answer.status())));
    }
    let said: Value = answer.json().await.map_err(|error| failed(error.without_url().to_string()))?;
    match pick(&said, &["/instance/state", "/state"]) {
        nothing if nothing.is_empty() => Err(failed("its answer has no state".into())),
        state => Ok(state),
    }
}

/// The id of the instance, and whether it was made just now.
async fn find_or_make(instance: &str, channel: &str, client: &Client) -> Result<(String, bool)> {
    let (found, is_new) = match client.get(&format!("/instances/{}", segment(instance))).await {
        Ok(found) => (found, false),
        Err(error) if error.exit == super::Exit::NotFound => {
            let body = json!({"name": instance, "channel": channel, "connect": false});
            (client.post("/instances", body).await?, true)
        }
        Err(error) => return Err(error),
    };
    let is = pick(&found, &["/channel"]);
    if !is_new && is != channel && !is_alias(channel, &is, client).await? {
        return Err(CliError::usage(format!("the instance {instance:?} is one of {is}, not of {channel}")));
    }
    Ok((pick(&found, &["/id"]), is_new))
}

/// Whether a channel is called so, too.
async fn is_alias(name: &str, channel: &str, client: &Client) -> Result<bool> {
    let plugins = client.list("/plugins", &[], super::Paging { limit: 0, all: true }).await?;
    let manifests = plugins.iter().map(|plugin| &plugin["manifest"]).filter(|manifest| manifest["channel"] == channel);
    let mut aliases = manifests.filter_map(|manifest| manifest["aliases"].as_array()).flatten();
    Ok(aliases.any(|alias| alias == name))
}

async fn hand_in(
    args: &AuthArgs,
    id: &str,
    gathered: &Gathered,
    is_stopped: bool,
    client: &Client,
    ui: &mut Ui,
) -> Result<Value> {
    let mut allow_missing = args.allow_missing_keys;
    loop {
        let yes = |said: bool| said.then(|| "true".to_owned());
        let query = [
            ("dryRun", yes(args.dry_run)),
            ("replace", yes(args.replace)),
            ("allowMissingKeys", yes(allow_missing)),
            ("sourceStopped", yes(is_stopped)),
        ];
        let handing = ui.spinner(&format!("handing in {} files", gathered.records.len()));
        let answered = client.send_archive(&format!("/instances/{id}/auth-import"), &query, archive(gathered)).await;
        handing.finish_and_clear();
        match answered? {
            Answered::Done(report) => return Ok(report),
            Answered::Refused { status: StatusCode::UNPROCESSABLE_ENTITY, details, error }
                if details["report"].is_object() && !allow_missing =>
            {
                if !ui.terminal.input || ui.json {
                    return Err(error.help(
                        "look whether the keys lie somewhere else (files, Redis); --allow-missing-keys takes over what is there",
                    ));
                }
                let missing = pick(&details, &["/report/missing"]);
                ui.note(&format!("something is missing: {}", clean(&missing)))?;
                ui.confirm("Take over what is there all the same?", "--allow-missing-keys")?;
                allow_missing = true;
            }
            Answered::Refused { error, .. } => return Err(error),
        }
    }
}

/// What was found as an archive, made while it is sent: one file of it is in memory.
fn archive(gathered: &Gathered) -> Body {
    let head = serde_json::to_vec(&gathered.head).unwrap_or_default();
    let records = gathered.records.clone();
    let (sender, pieces) = mpsc::channel::<io::Result<Bytes>>(8);
    tokio::task::spawn_blocking(move || {
        let mut pieces = Pieces { sender: sender.clone(), now: Vec::with_capacity(PIECE) };
        if let Err(error) = write_archive(&mut pieces, &head, &records) {
            // Nobody waits any more when this fails, too.
            let _ = sender.blocking_send(Err(error));
        }
    });
    let pieces = futures_util::stream::unfold(pieces, |mut pieces| async { Some((pieces.recv().await?, pieces)) });
    Body::wrap_stream(pieces)
}

fn write_archive(to: &mut Pieces, head: &[u8], records: &[Record]) -> io::Result<()> {
    tree::append(to, HEAD, head)?;
    for record in records {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", record.name));
        tree::append(to, &record.name, &record.content.read().map_err(named)?)?;
    }
    tree::end(to)?;
    to.flush()
}

/// What is written goes away in pieces.
struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    now: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.now.extend_from_slice(bytes);
        if self.now.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = Bytes::from(std::mem::replace(&mut self.now, Vec::with_capacity(PIECE)));
        self.sender.blocking_send(Ok(piece)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

fn list(items: &[Value], ui: &mut Ui) -> Result<()> {
    let header = ["TAKEN OVER", "FROM", "INSTANCE", "STATE", "COPY", "SNAPSHOT", "ID"];
    ui.list(items, &header, "nothing was taken over", |item| {
        let state = match (item["undoneAt"].is_string(), item["cutoverAt"].is_string()) {
            (true, _) => "undone".to_owned(),
            (false, true) => format!("in use since {}", time(item, &["/cutoverAt"])),
            (false, false) => "not connected yet".to_owned(),
        };
        let copy = match (item["hasSnapshot"] == true, item["snapshotBytes"].as_u64()) {
            (true, Some(bytes)) => size_of(bytes),
            _ => "deleted".to_owned(),
        };
        vec![
            time(item, &["/importedAt"]),
            pick(item, &["/program"]),
            pick(item, &["/report/instance", "/instanceId"]),
            state,
            copy,
            shorten(&pick(item, &["/snapshot"]), 13),
            pick(item, &["/id"]),
        ]
    })
}
