//! `omni plugins grant`: what a plugin may use, shown and changed. It works without a host, and tells one that runs: its
//! instances begin anew with what they may use then.

use super::plugin_trust::{find, tell};
use super::plugins::read;
use super::ui::{Ui, size_of};
use super::{CliError, Exit, Global, Result, World};
use crate::config::{ByteSize, Config, ForChannel};
use crate::plugins::grants::Grants;
use crate::plugins::{Allowance, Limits, manifest_of};
use omni_channel_sdk::manifest::ChannelManifest;
use serde_json::json;
use std::path::Path;

#[derive(Debug, clap::Args)]
pub(super) struct Grant {
    /// Its channel, or its file in the plugins folder
    plugin: String,
    /// Let it go to this host, and of all that it names only to those that were granted (*.example.org, wss://example.org)
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// Do not let it go to this host any more
    #[arg(long = "no-host", value_name = "HOST")]
    no_hosts: Vec<String>,
    /// Let it go to every host that it names
    #[arg(long, conflicts_with_all = ["hosts", "no_hosts"])]
    any_host: bool,
    /// Memory of an instance in a sandbox, or of its process (64MiB); 0 is no limit, here as below
    #[arg(long, value_name = "SIZE")]
    memory_limit: Option<ByteSize>,
    /// What an instance may keep
    #[arg(long, value_name = "SIZE")]
    state_limit: Option<ByteSize>,
    /// Events that one call may emit
    #[arg(long, value_name = "COUNT")]
    events_per_call: Option<u64>,
    /// What one call may emit and write
    #[arg(long, value_name = "SIZE")]
    bytes_per_call: Option<ByteSize>,
    /// What an instance in a sandbox may compute on one frame
    #[arg(long, value_name = "UNITS")]
    fuel_per_frame: Option<u64>,
    /// How many entries the tables of an instance in a sandbox may have
    #[arg(long, value_name = "COUNT")]
    table_entries: Option<u64>,
    /// Take everything back that was granted: what the configuration says holds again
    #[arg(long)]
    reset: bool,
}

impl Grant {
    /// What was granted before, changed as is asked for.
    fn apply(self, before: ForChannel) -> ForChannel {
        let mut given = if self.reset { ForChannel::default() } else { before };
        if !self.hosts.is_empty() || !self.no_hosts.is_empty() {
            let mut hosts = given.hosts.take().unwrap_or_default();
            hosts.retain(|host| !self.no_hosts.contains(host));
            for host in self.hosts {
                if !hosts.contains(&host) {
                    hosts.push(host);
                }
            }
            given.hosts = Some(hosts);
        }
        if self.any_host {
            given.hosts = None;
        }
        ForChannel {
            memory_limit: self.memory_limit,
            state_limit: self.state_limit,
            events_per_call: self.events_per_call,
            bytes_per_call: self.bytes_per_call,
            fuel_per_frame: self.fuel_per_frame,
            table_entries: self.table_entries,
            ..ForChannel::default()
        }
        .over(given)
    }
}

/// Shows what a plugin may use, once what is asked for is changed.
pub(super) fn grant(args: Grant, global: &Global, world: &mut World) -> Result<()> {
    let config = super::load(global, None, Vec::new(), world)?.config;
    let file = find(Path::new(&args.plugin), &config, world)?;
    let manifest = manifest_of(&read(&file)?)
        .map_err(|reason| CliError::new(Exit::Failed, format!("{}: {reason}; nothing was granted", file.display())))?
        .channel;
    for host in args.hosts.iter().chain(&args.no_hosts) {
        check_host(host)?;
    }
    let list = config.plugins_grants();
    let (changed, given) = Grants::change(&list, |grants| {
        let before = grants.channel.get(&manifest.id).cloned().unwrap_or_default();
        let after = args.apply(before.clone());
        if after == ForChannel::default() {
            grants.channel.remove(&manifest.id);
        } else {
            grants.channel.insert(manifest.id.clone(), after.clone());
        }
        (after != before, after)
    })
    .map_err(CliError::failed)?;
    let told = changed && tell(global, world);
    let allowance = effective(&manifest, &config, given);
    let ui = &mut world.ui;
    if ui.json {
        return ui.json(&json!({
            "channel": manifest.id, "allowance": allowance, "list": list, "changed": changed, "hostTold": told,
        }));
    }
    show(&manifest, &allowance, ui)?;
    match (changed, told) {
        (false, _) => Ok(()),
        (true, true) => ui.note("its instances begin anew with this"),
        (true, false) => ui.note(&format!("written to {}; a host that runs will see it by itself", list.display())),
    }
}

/// What a plugin may use in the end.
pub(super) fn effective(manifest: &ChannelManifest, config: &Config, given: ForChannel) -> Allowance {
    let configured = config.plugins.channel.get(&manifest.id).cloned().unwrap_or_default();
    Allowance::of(manifest, &Limits::from(&config.plugins), given.over(configured))
}

fn show(manifest: &ChannelManifest, allowance: &Allowance, ui: &mut Ui) -> Result<()> {
    let mut pairs = vec![("Channel", manifest.id.clone())];
    pairs.extend(pairs_of(allowance));
    ui.pairs(&pairs)
}

/// For a table of names and values.
pub(super) fn pairs_of(allowance: &Allowance) -> Vec<(&'static str, String)> {
    let size = |bytes: u64| if bytes == 0 { "no limit".to_owned() } else { size_of(bytes) };
    let count = |number: u64| if number == 0 { "no limit".to_owned() } else { number.to_string() };
    let list = |hosts: &[String]| if hosts.is_empty() { "none".to_owned() } else { hosts.join(", ") };
    vec![
        ("Names the hosts", list(&allowance.hosts)),
        ("May go to", allowance.granted_hosts.as_deref().map_or_else(|| "all that it names".to_owned(), list)),
        ("Memory", size(allowance.memory_bytes)),
        ("May keep", size(allowance.state_bytes)),
        ("Events per call", count(allowance.events_per_call)),
        ("Bytes per call", size(allowance.bytes_per_call)),
        ("Fuel per frame", count(allowance.fuel_per_frame)),
        ("Table entries", count(allowance.table_entries)),
    ]
}

fn check_host(host: &str) -> Result<()> {
    let name = host.split_once("://").map_or(host, |(_, name)| name);
    let name = name.strip_prefix("*.").unwrap_or(name);
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '[' | ']' | '_');
    if name == "*" || (!name.is_empty() && name.chars().all(good)) {
        return Ok(());
    }
    Err(CliError::usage(format!("{host:?} is no host"))
        .help("write example.org, *.example.org for all below it, or wss://example.org for one scheme; without a path"))
}
