//! Bringing auth state over from another program, and giving it away: the host holds what was handed in, the plugin converts
//! it, one transaction writes.
//!
//! ```text
//! 1 snapshot  what comes in is sealed as it comes, and summed: the same twice changes nothing
//! 2 ask       the plugin is asked through an instance that does not run and finds an empty store; what it writes is held back
//! 3 keep      the sealed copy goes to its place; without a row it is worth nothing, and the next start takes it away
//! 4 write     one transaction: what the instance kept is put aside, what the plugin wrote takes its place, and the row says so
//! ```
//!
//! A dry run ends after 2, whatever the plugin does. A death before 4 leaves what was there before, a death after it what was
//! taken over: there is nothing in between, and nothing that a start has to finish.
//!
//! The copy is sealed with a key of its own, which lies sealed in its row: forgetting the key is deleting the copy.
//!
//! Deliberately not here: reading the stores of other programs ([`crate::migrate`]), and what a record means, which only the
//! plugin knows.

mod snapshot;
pub mod tree;

pub use snapshot::{HEAD, Head, Incoming, NotTaken, Snapshot};

use crate::clock::Clock;
use crate::instances::{Instance, InstanceError, Instances};
use crate::plugins::staging::{Finds, Staging};
use crate::secrets::Sealer;
use crate::store::auth_imports::{self as rows, AuthImportRow};
use crate::store::{Json, Store, StoreError, instances as instance_rows, kv};
use omni_channel_sdk::SendError;
use omni_channel_sdk::connection::{ConnectionState, Profile};
use omni_channel_sdk::request::{AuthExport, AuthReport, Nothing, Reply, Request, SkippedRecord};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// The folder of the sealed copies, within the data folder.
pub const FOLDER: &str = "auth-snapshots";
/// How long a plugin may take over what it is given: tens of thousands of records are looked at, one by one.
const IMPORT_WITHIN: Duration = Duration::from_secs(15 * 60);
/// How long it may take to give it away.
const EXPORT_WITHIN: Duration = Duration::from_secs(5 * 60);

/// The handle. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AuthState(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    clock: Clock,
    sealer: Sealer,
    instances: Instances,
    folder: PathBuf,
}

/// How auth state is taken over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Only look and report.
    pub dry_run: bool,
    /// Whether it may take the place of what the instance keeps, or of a connection.
    pub replace: bool,
    /// Whether it is taken over although something is missing that should be there.
    pub allow_missing: bool,
    /// Whether somebody says that the other program does not use the account any more.
    pub source_stopped: bool,
}

/// What was taken over, or would be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = AuthImportReport)]
pub struct Report {
    /// Our id of it; absent of a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// The instance, by name.
    pub instance: String,
    /// Which program it came from.
    pub program: String,
    /// Which of its stores were used, and what for.
    #[schema(value_type = Vec<Object>)]
    pub source: Vec<Value>,
    /// SHA-256 of what was handed in.
    pub snapshot: String,
    /// What was there, kind → how many.
    pub found: BTreeMap<String, u64>,
    /// What was taken over, kind → how many.
    pub written: BTreeMap<String, u64>,
    /// Records that were left behind because they are no good.
    #[schema(value_type = Vec<Object>)]
    pub skipped: Vec<SkippedRecord>,
    /// What should be there and is not, a sentence each.
    pub missing: Vec<String>,
    /// Whether the account was logged in.
    pub paired: bool,
    /// What was left behind and why, and what would be in the way, a sentence each.
    pub warnings: Vec<String>,
    /// The account that it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub profile: Option<Profile>,
    /// Whether nothing was stored, because that was asked for.
    pub dry_run: bool,
    /// Whether this very snapshot is what the instance has, so that nothing was done.
    pub already_imported: bool,
}

/// How asking for it ended.
#[derive(Debug)]
pub enum Outcome {
    /// As it was asked for.
    Done(Report),
    /// Nothing was written: something is missing, and nobody said that this is known.
    Incomplete(Report),
}

fn broken(reason: impl std::fmt::Display) -> InstanceError {
    SendError::internal(reason.to_string()).into()
}

impl AuthState {
    /// In a data folder. Makes the folder of the copies when there is none.
    pub fn new(data: &Path, store: Store, clock: Clock, sealer: Sealer, instances: Instances) -> std::io::Result<Self> {
        let folder = data.join(FOLDER);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self(Arc::new(Inner { store, clock, sealer, instances, folder })))
    }

    /// Takes away copies that belong to no row: of a process that died, and of instances that are gone.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let kept = rows::all(&self.0.store).await?.into_iter().filter(|row| row.snapshot_key.is_some());
        let kept: HashSet<String> = kept.map(|row| row.id.simple().to_string()).collect();
        for file in std::fs::read_dir(&self.0.folder).into_iter().flatten().flatten() {
            if !file.file_name().to_str().is_some_and(|name| kept.contains(name))
                && let Err(error) = std::fs::remove_file(file.path())
            {
                tracing::warn!("failed to take away a copy of auth state that belongs to nothing: {error}");
            }
        }
        Ok(())
    }

    /// Where what comes in is kept, and a new id for it.
    pub fn incoming(&self) -> (Uuid, PathBuf) {
        (self.0.store.new_id(self.0.clock.now()), self.0.folder.clone())
    }

    /// Takes over what was handed in.
    pub async fn import(
        &self,
        instance: &Instance,
        mut snapshot: Snapshot,
        options: Options,
    ) -> Result<Outcome, InstanceError> {
        let inner = &self.0;
        if !inner.instances.manifest(&instance.channel)?.capabilities.can("importAuth") {
            let channel = &instance.channel;
            return Err(InstanceError::Channel(SendError {
                message: format!(
                    "the channel {channel} takes no auth state over: what it logs in with is set with \
                     `omni instances create` or `update`, or its login is gone through"
                ),
                ..SendError::unsupported("importAuth")
            }));
        }
        if let Some(before) = self.already(instance, &snapshot.sha256).await? {
            return Ok(Outcome::Done(Report { already_imported: true, dry_run: options.dry_run, ..before }));
        }
        let in_the_way = self.in_the_way(instance, options).await?;
        if !options.dry_run
            && let Some(sentence) = in_the_way.first()
        {
            return Err(InstanceError::Conflict(sentence.clone()));
        }
        // Nobody begins it from here on; what runs goes on until it is known that there is something to replace it with.
        let hold = if options.dry_run { None } else { Some(inner.instances.hold(instance.id).await?) };
        let (request, archive) = snapshot.request(options.dry_run).map_err(broken)?;
        let staging = Arc::new(Staging::new(Finds::Nothing, archive));
        let asked =
            inner.instances.ask_offline(instance.id, Request::ImportAuth(request), Arc::clone(&staging), IMPORT_WITHIN);
        let Reply::AuthImported(said) = asked.await? else {
            return Err(broken("the channel did not say what it took over"));
        };
        let mut report = reported(instance, &snapshot, said);
        report.dry_run = options.dry_run;
        if options.dry_run {
            // What the plugin wrote goes with `staging`.
            report.warnings.extend(in_the_way);
            return Ok(Outcome::Done(report));
        }
        if !report.missing.is_empty() && !options.allow_missing {
            return Ok(Outcome::Incomplete(report));
        }
        let Some(hold) = hold else { return Ok(Outcome::Done(report)) };
        inner.instances.end_held(&hold).await?;
        report.id = Some(snapshot.id);
        self.write(instance, &mut snapshot, &staging, &report).await?;
        drop(hold);
        tracing::info!(
            instance.id = %instance.id, channel.name = %instance.channel, source = %report.program,
            records = report.written.values().sum::<u64>(), skipped = report.skipped.len(), "auth state was taken over"
        );
        Ok(Outcome::Done(report))
    }

    /// The report of this very snapshot, when it is what the instance has.
    async fn already(&self, instance: &Instance, sha256: &str) -> Result<Option<Report>, StoreError> {
        let newest = rows::newest(&mut self.0.store.read().await?, instance.id).await?;
        let same = newest.filter(|row| row.snapshot == sha256);
        Ok(same.map(|row| serde_json::from_value(row.report.0).unwrap_or_default()))
    }

    /// What would be in the way of taking it over for good, a sentence each.
    async fn in_the_way(&self, instance: &Instance, options: Options) -> Result<Vec<String>, StoreError> {
        let mut found = Vec::new();
        if !options.source_stopped {
            found.push(
                "the other program must not use the account any more: two that use one identity fight, and what comes over \
                 is stale with the first message. Disconnect its instance without logging it out (stop its container, or \
                 the instance in it; never DELETE /instance/logout), and say so: sourceStopped (--source-stopped), or let \
                 the command ask (--evolution-url)"
                    .to_owned(),
            );
        }
        if options.replace {
            return Ok(found);
        }
        let name = &instance.name;
        if matches!(instance.state, ConnectionState::Connected { .. }) {
            found
                .push(format!("{name:?} is connected, with a login of its own; `replace` takes its place (--replace)"));
        }
        let usage = kv::usage(&mut self.0.store.read().await?, instance.id).await?;
        if usage.entries > 0 {
            let entries = usage.entries;
            found.push(format!(
                "{name:?} keeps state of its own ({entries} entries); `replace` takes its place, and undoing brings it \
                 back (--replace)"
            ));
        }
        Ok(found)
    }

    /// Keeps the copy and writes everything, or nothing.
    async fn write(
        &self,
        instance: &Instance,
        snapshot: &mut Snapshot,
        staging: &Staging,
        report: &Report,
    ) -> Result<(), InstanceError> {
        let inner = &self.0;
        let knows = inner.instances.manifest(&instance.channel)?.state_version;
        let entries = staging.take_entries();
        let now = inner.clock.now();
        let row = AuthImportRow {
            id: snapshot.id,
            instance_id: instance.id,
            snapshot: snapshot.sha256.clone(),
            source: report.program.clone(),
            used: Json(Value::Array(report.source.clone())),
            report: Json(serde_json::to_value(report).map_err(broken)?),
            snapshot_key: Some(inner.sealer.seal(&key_place(snapshot.id), snapshot.key.to_hex().as_bytes())),
            snapshot_bytes: i64::try_from(snapshot.size()).unwrap_or(i64::MAX),
            state_version_before: 0,
            created_at: now,
            cutover_at: None,
            undone_at: None,
        };
        let copy = snapshot.keep().map_err(broken)?;
        let written = async {
            let before = instance_rows::get(&inner.store, instance.id).await?;
            let before = before.ok_or_else(|| InstanceError::NotFound(instance.name.clone()))?;
            let row = AuthImportRow { state_version_before: before.state_version, ..row };
            let mut tx = inner.store.begin().await?;
            rows::put_aside(&mut tx, instance.id).await?;
            kv::write(&mut tx, instance.id, &instance.channel, &entries, now).await?;
            instance_rows::set_state_version(&mut tx, instance.id, knows).await?;
            rows::insert(&mut tx, &row).await?;
            Ok::<_, InstanceError>(tx.commit().await?)
        };
        let written = written.await;
        if written.is_err() {
            // A commit may have happened although it failed: the copy goes with the next start, if it has no row.
            let has_row = rows::get(&inner.store, snapshot.id).await.map_or(true, |row| row.is_some());
            if !has_row {
                let _ = std::fs::remove_file(copy);
            }
        }
        written
    }

    /// Undoes the newest import of an instance, as long as nothing went out with it.
    pub async fn undo(&self, instance: &Instance) -> Result<AuthImportRow, InstanceError> {
        let inner = &self.0;
        let hold = inner.instances.hold(instance.id).await?;
        let row = self.undoable(instance).await?;
        inner.instances.end_held(&hold).await?;
        // Once more, now that nothing can go out.
        self.undoable(instance).await?;
        let mut tx = inner.store.begin().await?;
        rows::undo(&mut tx, &row, inner.clock.now()).await?;
        tx.commit().await?;
        tracing::info!(instance.id = %instance.id, channel.name = %instance.channel, "a takeover of auth state was undone");
        Ok(AuthImportRow { undone_at: Some(inner.clock.now()), ..row })
    }

    async fn undoable(&self, instance: &Instance) -> Result<AuthImportRow, InstanceError> {
        let mut tx = self.0.store.read().await?;
        let name = &instance.name;
        let newest = rows::newest(&mut tx, instance.id).await?;
        let row = newest.ok_or_else(|| {
            InstanceError::Conflict(format!("nothing was taken over into {name:?} that could be undone"))
        })?;
        let sent = rows::sent_since(&mut tx, instance.id, row.created_at).await?;
        if sent > 0 {
            return Err(InstanceError::Conflict(format!(
                "{name:?} has sent {sent} messages since {}: what the other program has is older than what the other sides \
                 know, and would break the conversations. Log in anew there instead, or stay here",
                row.created_at
            )));
        }
        Ok(row)
    }

    /// All that was taken over, the newest first.
    pub async fn list(&self) -> Result<Vec<AuthImportRow>, StoreError> {
        rows::all(&self.0.store).await
    }

    /// One of them.
    pub async fn get(&self, id: Uuid) -> Result<Option<AuthImportRow>, StoreError> {
        rows::get(&self.0.store, id).await
    }

    /// Deletes the sealed copy of what was handed in. `false` when that was done before.
    pub async fn forget(&self, id: Uuid) -> Result<bool, StoreError> {
        let mut tx = self.0.store.begin().await?;
        let forgotten = rows::forget(&mut tx, id).await?;
        tx.commit().await?;
        // Without its key it is worth nothing; should it stay, the next start takes it away.
        let _ = std::fs::remove_file(self.0.folder.join(id.simple().to_string()));
        Ok(forgotten)
    }

    /// Gives the auth state of an instance away. One that runs is only asked when that is forced.
    pub async fn export(&self, instance: &Instance, force: bool) -> Result<AuthExport, InstanceError> {
        let instances = &self.0.instances;
        if !instances.manifest(&instance.channel)?.capabilities.can("exportAuth") {
            return Err(SendError::unsupported("exportAuth").into());
        }
        let runs = instance.is_active || instances.runs(instance.id);
        if runs && !force {
            return Err(InstanceError::Conflict(format!(
                "{:?} is to be connected: two programs with one identity fight, and what is given away is stale with the \
                 next message. Disconnect it first (omni instances disconnect), or force it (--force)",
                instance.name
            )));
        }
        let request = Request::ExportAuth(Nothing {});
        let reply = if instances.runs(instance.id) {
            instances.request(instance.id, request).await?
        } else {
            let _hold = instances.hold(instance.id).await?;
            let staging = Arc::new(Staging::new(Finds::WhatItKeeps, None));
            instances.ask_offline(instance.id, request, staging, EXPORT_WITHIN).await?
        };
        match reply {
            Reply::AuthExported(export) => Ok(export),
            _ => Err(broken("the channel did not give its auth state")),
        }
    }
}

/// What the key of a copy is bound to.
fn key_place(id: Uuid) -> String {
    format!("auth-snapshot:{id}")
}

fn reported(instance: &Instance, snapshot: &Snapshot, said: AuthReport) -> Report {
    Report {
        id: None,
        instance: instance.name.clone(),
        program: snapshot.head.source.clone(),
        source: snapshot.head.used.clone(),
        snapshot: snapshot.sha256.clone(),
        found: said.found,
        written: said.imported,
        skipped: said.skipped,
        missing: said.missing,
        paired: said.paired,
        warnings: said.warnings,
        profile: said.profile,
        dry_run: false,
        already_imported: false,
    }
}
