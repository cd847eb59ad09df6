//! The command line: `omni serve` and everything that a person or a script asks of a running host.
//!
//! One file per noun. All but `serve`, `config`, `doctor`, `backup`, `restore`, `migrate`, `completions`, `plugins inspect`,
//! `trust`, `untrust` and `grant`, what authors of plugins need (`author`), and `data rotate-key --offline` are clients of the
//! HTTP API.
//! What is asked for goes to standard output, as tables for people or with `--json` as the API's JSON; what went wrong
//! goes to standard error, with what to do about it, and the exit code says which sort it was ([`Exit`]).
//!
//! Deliberately not here: what the host does. Nothing in this folder reads or writes rows.

use crate::clock::Clock;
use crate::config::{Config, ConfigError, Flag, Loaded, Sources};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod account;
mod audit;
mod author;
mod backup;
mod chats;
mod client;
mod config;
mod data;
mod dead_letters;
mod doctor;
mod error;
mod events;
mod export_auth;
mod hosts;
mod instances;
mod keys;
mod login;
mod messages;
mod migrate;
mod migrate_auth;
mod migrate_report;
mod persons;
mod plugin_grant;
mod plugin_trust;
mod plugins;
mod replays;
mod send;
pub mod serve;
pub(crate) mod sse;
mod status;
mod sync;
mod ui;
mod webhooks;
mod world;

pub use error::{CliError, Exit};
pub use ui::{Terminal, Ui};
pub use world::World;

type Result<T, E = CliError> = std::result::Result<T, E>;

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  failed
  2  the command line or the configuration is wrong
  3  there is no such thing
  4  the API key is missing, wrong or may not do this
  5  no server answered
  6  the message was not delivered, or it is not known whether it was
  7  nothing is broken, but something that a plugin declares is not proved (plugins check)

Environment:
  OMNI_API_URL, OMNI_API_KEY   which server to ask, and with which key
  OMNI_CONFIG                  the configuration file
  `omni config check` lists every other variable.";

/// Omni carries messages between people's networks and your programs.
#[derive(Debug, Parser)]
#[command(name = "omni", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Args)]
struct Global {
    /// The configuration file [default: omni.toml in this folder, if there is one]
    // Not global: `instances create --config KEY=VALUE` is another thing.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data folder
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    data: Option<PathBuf>,
    /// The server to ask [default: where the configuration says it listens]
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    url: Option<String>,
    /// The API key [default: the one in the data folder]
    #[arg(long, global = true, value_name = "KEY", hide_env_values = true, help_heading = "Global options")]
    api_key: Option<String>,
    /// Print JSON for programs
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,
    /// Print without colours
    #[arg(long, global = true, help_heading = "Global options")]
    no_color: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the host
    Serve(serve::Args),
    /// Plugin files and what became of them
    #[command(subcommand)]
    Plugins(plugins::Command),
    /// Accounts on networks: make, connect and look at them
    #[command(subcommand)]
    Instances(instances::Command),
    /// Send a message
    Send(send::Args),
    /// Conversations
    #[command(subcommand)]
    Chats(chats::Command),
    /// Messages
    #[command(subcommand)]
    Messages(messages::Command),
    /// What happened, and what happens
    Events(events::Args),
    /// The hosts that share this installation, and what each of them has
    Hosts,
    /// People
    #[command(subcommand)]
    Persons(persons::Command),
    /// Events to other programs
    #[command(subcommand)]
    Webhooks(webhooks::Command),
    /// Events that could not be processed
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// API keys
    #[command(subcommand)]
    Keys(keys::Command),
    /// The configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Who asked what of the API
    Audit(audit::Args),
    /// The data folder's key
    #[command(subcommand)]
    Data(data::Command),
    /// How much the host says in its log: show it, or change it until the host ends
    LogLevel(data::LogLevelArgs),
    /// Whether the server is well
    Status,
    /// Look at everything that a host stands on, and say what to do
    Doctor(doctor::Args),
    /// Copy everything, while the host runs
    Backup(backup::BackupArgs),
    /// Put a backup back
    Restore(backup::RestoreArgs),
    /// Move what a host keeps to another place
    #[command(subcommand)]
    Migrate(migrate::Command),
    /// Print the completions for a shell
    Completions {
        /// Which
        shell: clap_complete::Shell,
    },
    /// Run one plugin, for the host that started this process
    #[command(hide = true)]
    PluginRunner {
        /// Its file
        library: PathBuf,
        /// Bytes of memory that it may use; 0 is no limit
        #[arg(long, default_value_t = 0)]
        memory_limit: u64,
    },
}

/// Runs one command and gives the exit code.
pub fn main(mut world: World) -> ExitCode {
    match parse(&mut world) {
        // The far side of a child process: no configuration, no terminal.
        Ok(Cli { command: Command::PluginRunner { library, memory_limit }, .. }) => {
            crate::plugins::runner::main(&library, memory_limit)
        }
        Ok(cli) => ExitCode::from(run(cli, &mut world)),
        Err(code) => ExitCode::from(code),
    }
}

fn parse(world: &mut World) -> Result<Cli, u8> {
    let parsed = Cli::command()
        .color(clap::ColorChoice::Never)
        .try_get_matches_from(&world.args)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| world.ui.usage(&error))
}

fn run(cli: Cli, world: &mut World) -> u8 {
    world.ui.json = cli.global.json;
    world.ui.may_colour = !cli.global.no_color && world.env.get("NO_COLOR").is_none_or(String::is_empty);
    world.ui.colour &= world.ui.may_colour;
    match dispatch(cli, world) {
        Ok(()) => Exit::Done as u8,
        Err(error) => world.ui.fail(&error),
    }
}

fn dispatch(cli: Cli, world: &mut World) -> Result<()> {
    let global = &cli.global;
    match cli.command {
        Command::Serve(args) => {
            let loaded = load(global, args.config.as_deref(), serve::flags(&args), world)?;
            let (env, folder, file) = (world.env.clone(), world.folder.clone(), loaded.file.clone());
            let flags = serve::flags(&args);
            let reload =
                move || Config::load(&Sources { file: file.as_deref(), env: &env, flags: &flags, folder: &folder });
            serve::start(loaded, Box::new(reload), world)
        }
        Command::Doctor(args) => doctor::run(load(global, args.config.as_deref(), Vec::new(), world), world),
        Command::Backup(args) => backup::backup(&args, &load(global, None, Vec::new(), world)?.config, world),
        Command::Restore(args) => backup::restore(&args, &load(global, None, Vec::new(), world)?.config, world),
        Command::Migrate(migrate::Command::Store(args)) => {
            migrate::store(&args, &load(global, None, Vec::new(), world)?.config, world)
        }
        Command::Migrate(migrate::Command::Auth(args)) => migrate_auth::run(&args, global, world),
        Command::Data(data::Command::RotateKey { offline: true }) => {
            let config = load(global, None, Vec::new(), world)?.config;
            world::block_on(data::rotate_offline(&config, world.clock.clone(), &mut world.ui))?
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "omni", &mut script);
            Ok(world.ui.out.write_all(&script)?)
        }
        Command::Config(config::Command::Check { config }) => {
            config::check(load(global, config.as_deref(), Vec::new(), world), world)
        }
        Command::Plugins(plugins::Command::Inspect { file }) => {
            let config = load(global, None, Vec::new(), world)?.config;
            plugins::inspect(&world.folder.join(file), &config, &mut world.ui)
        }
        Command::Plugins(plugins::Command::Trust(args)) => plugin_trust::trust(&args, global, world),
        Command::Plugins(plugins::Command::Untrust(args)) => plugin_trust::untrust(&args, global, world),
        Command::Plugins(plugins::Command::Grant(args)) => plugin_grant::grant(args, global, world),
        Command::Plugins(plugins::Command::New(args)) => author::new(&args, world),
        Command::Plugins(plugins::Command::Build(args)) => author::build(&args, world),
        Command::Plugins(plugins::Command::Check(args)) => author::check(&args, world),
        Command::Plugins(plugins::Command::Pack(args)) => author::pack(&args, world),
        Command::Plugins(plugins::Command::Sign(args)) => author::sign(&args, world),
        Command::Plugins(plugins::Command::Dev(args)) => author::dev(&args, global, world),
        online => {
            let client = client::Client::find(global, world)?;
            world::block_on(ask(online, &client, world))?
        }
    }
}

/// The commands that need a server.
async fn ask(command: Command, client: &client::Client, world: &mut World) -> Result<()> {
    let clock = world.clock.clone();
    let ui = &mut world.ui;
    match command {
        Command::Plugins(command) => plugins::run(command, client, ui).await,
        Command::Instances(command) => instances::run(command, client, ui, &clock).await,
        Command::Send(args) => send::run(args, client, ui, &world.folder).await,
        Command::Chats(command) => chats::run(command, client, ui).await,
        Command::Messages(command) => messages::run(command, client, ui).await,
        Command::Events(args) => events::run(args, client, ui, &clock).await,
        Command::Hosts => hosts::run(client, ui).await,
        Command::Persons(command) => persons::run(command, client, ui).await,
        Command::Webhooks(command) => webhooks::run(command, client, ui, &clock).await,
        Command::DeadLetters(command) => dead_letters::run(command, client, ui).await,
        Command::Keys(command) => keys::run(command, client, ui).await,
        Command::Audit(args) => audit::run(args, client, ui).await,
        Command::Data(command) => data::run(command, client, ui).await,
        Command::LogLevel(args) => data::log_level(args, client, ui).await,
        Command::Status => status::run(client, ui).await,
        Command::Serve(_)
        | Command::Config(_)
        | Command::Completions { .. }
        | Command::Doctor(_)
        | Command::Backup(_)
        | Command::Restore(_)
        | Command::Migrate(_)
        | Command::PluginRunner { .. } => unreachable!("these were run before a server was looked for"),
    }
}

/// The configuration as the flags, the environment and the file say. A `file` named behind the command wins.
fn load(global: &Global, file: Option<&Path>, mut flags: Vec<Flag>, world: &World) -> Result<Loaded, ConfigError> {
    flags.extend(global.data.as_ref().map(|dir| Flag {
        name: "--data",
        key: "data.dir",
        value: dir.to_string_lossy().into_owned(),
    }));
    let file = file.or(global.config.as_deref());
    Config::load(&Sources { file, env: &world.env, flags: &flags, folder: &world.folder })
}

/// How many rows a list shows.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Paging {
    /// Most rows to show
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: usize,
    /// Show every row
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

impl Paging {
    fn most(self) -> usize {
        if self.all { usize::MAX } else { self.limit }
    }
}

/// Waits by the clock of the world.
type Wait = Clock;

#[cfg(test)]
mod tests;
