//! Taking over an account: everything is checked and converted first, then written.
//!
//! A record that is no good is skipped and listed: a lost session heals when the other side is asked to send again.
//! Credentials that are no good abort. An account that was never paired is only reported on: nothing of it is of use.
//!
//! Not done here: stopping the program that the account comes from. That must be done first, and it must not log in again
//! afterwards: two programs with one identity throw each other out, and what they keep of each session drifts apart.

use super::address::Peers;
use super::creds::{self, Account};
use super::names::{self, Kind};
use super::report::Tally;
use super::snapshot::{Record, Snapshot};
use super::{ImportError, app_state, signal};
use omni_channel_sdk::connection::Profile;
use omni_channel_sdk::request::AuthReport;
use std::collections::BTreeMap;
use wacore::store::Device;
use wacore::store::error::StoreError;
use wacore::store::traits::{AppStateSyncKey, Backend, LidPnMappingEntry, TcTokenEntry};

/// An account, converted and not yet written.
pub struct Converted {
    /// What was found, what comes over and what does not.
    pub report: AuthReport,
    /// Absent for an account that was never paired: there is nothing to write.
    pub(super) state: Option<State>,
}

/// What is written.
pub(super) struct State {
    pub device: Device,
    pub uploaded: signal::PreKeys,
    pub fresh: signal::PreKeys,
    pub sessions: signal::Sessions,
    pub identities: signal::Identities,
    pub sender_keys: signal::Sessions,
    /// The newest last: the store takes the last one for it.
    pub sync_keys: Vec<(Vec<u8>, AppStateSyncKey)>,
    pub versions: Vec<(String, app_state::Version)>,
    pub pairs: Vec<LidPnMappingEntry>,
    pub tokens: Vec<(String, TcTokenEntry)>,
}

/// Takes over an account into an empty store. `now` is in seconds since 1970.
pub async fn import(snapshot: &Snapshot, backend: &dyn Backend, now: i64) -> Result<AuthReport, ImportError> {
    let converted = convert(snapshot, now)?;
    converted.store(backend).await?;
    Ok(converted.report)
}

/// Checks and converts; writes nothing and does not wait. 10,000 sessions take about a second.
pub fn convert(snapshot: &Snapshot, now: i64) -> Result<Converted, ImportError> {
    let mut tally = Tally::default();
    tally.about(snapshot);
    let (record, account) = choose(snapshot, &mut tally)?;
    tally.found("creds", snapshot.creds.len());
    let profile = profile(&account.device, snapshot);
    if !account.paired {
        let name = &record.name;
        tally.missing(format!("account: {name} is of an instance that was never paired; log in anew"));
        tally.report.profile = profile;
        return Ok(Converted { report: tally.finish(), state: None });
    }
    tally.imported("creds", 1);
    tally.found("signedPreKeys", 1);
    tally.imported("signedPreKeys", 1);
    tally.report.paired = true;
    tally.report.profile = profile;

    let mut device = account.device;
    let peers = Peers::learn(snapshot, device.pn.as_ref(), device.lid.as_ref());
    let (uploaded, fresh) = signal::pre_keys(snapshot, &mut device, &mut tally);
    let (sessions, identities) = signal::sessions(snapshot, &device, &peers, account.phone_identity, &mut tally);
    let sender_keys = signal::sender_keys(snapshot, &peers, &mut tally);
    let (sync_keys, versions) = synced(snapshot, account.sync_key.as_deref(), &mut tally);
    let pairs = pairs(&peers, &device, now, &mut tally);
    let tokens = tokens(snapshot, &peers, &mut tally);
    let state =
        State { device, uploaded, fresh, sessions, identities, sender_keys, sync_keys, versions, pairs, tokens };
    lacks(&state, snapshot, &mut tally);
    Ok(Converted { report: tally.finish(), state: Some(state) })
}

impl Converted {
    /// Writes what was converted, the device last: a store without one is of nobody. The store must be empty.
    pub async fn store(&self, backend: &dyn Backend) -> Result<(), ImportError> {
        match &self.state {
            Some(state) => state.store(backend).await.map_err(ImportError::Store),
            None => Ok(()),
        }
    }
}

impl State {
    async fn store(&self, backend: &dyn Backend) -> Result<(), StoreError> {
        backend.store_prekeys_batch(&self.uploaded, true).await?;
        backend.store_prekeys_batch(&self.fresh, false).await?;
        backend.put_identities_batch(&self.identities).await?;
        backend.put_sessions_batch(&self.sessions).await?;
        backend.put_sender_keys_batch(&self.sender_keys).await?;
        for (id, key) in &self.sync_keys {
            backend.set_sync_key(id, key.clone()).await?;
        }
        for (name, version) in &self.versions {
            backend.put_mutation_macs(name, version.state.version, &version.macs).await?;
            backend.set_version(name, version.state.clone()).await?;
        }
        backend.put_lid_mappings(&self.pairs).await?;
        for (user, token) in &self.tokens {
            backend.put_tc_token(user, token).await?;
        }
        backend.save(&self.device).await
    }
}

/// The credentials to take. A row and a file of the same device may stand side by side: the one that made more keys is newer.
fn choose<'a>(snapshot: &'a Snapshot, tally: &mut Tally) -> Result<(&'a Record, Account), ImportError> {
    if snapshot.instances.len() > 1 {
        return Err(ImportError::Several {
            names: snapshot.instances.iter().take(5).cloned().collect::<Vec<_>>().join(", "),
        });
    }
    let (mut good, mut first_flaw): (Vec<(&Record, Account)>, _) = (Vec::new(), None);
    for record in &snapshot.creds {
        match creds::convert(&record.value) {
            Ok(account) => good.push((record, account)),
            Err(flaw) => {
                first_flaw.get_or_insert((record, flaw));
            }
        }
    }
    if good.is_empty() {
        return Err(match first_flaw {
            Some((record, flaw)) => {
                ImportError::Creds { record: record.name.clone(), field: flaw.field, why: flaw.why }
            }
            None => match snapshot
                .unreadable
                .iter()
                .find(|flaw| names::parse(&flaw.record).is_some_and(|n| n.kind == Kind::Creds))
            {
                Some(flaw) => {
                    ImportError::Creds { record: flaw.record.clone(), field: "creds", why: flaw.reason.clone() }
                }
                None if snapshot.cloud => ImportError::Cloud,
                None => ImportError::NoCreds { records: snapshot.records.len() },
            },
        });
    }
    good.sort_by_key(|(_, account)| (account.paired, account.device.next_pre_key_id));
    let Some((record, account)) = good.pop() else { return Err(ImportError::NoCreds { records: 0 }) };
    let other = good.iter().filter(|(_, other)| other.paired);
    let same = |other: &Account| other.device.identity_key.public_key == account.device.identity_key.public_key;
    if let Some((other, _)) = other.clone().find(|(_, other)| !same(other)) {
        return Err(ImportError::Several { names: format!("{}, {}", record.name, other.name) });
    }
    for (other, _) in &good {
        tally.warn(format!(
            "of the credentials {} and {}, the first ones are newer and were taken",
            record.name, other.name
        ));
    }
    if let Some((record, flaw)) = first_flaw {
        tally.skip(&record.name, format!("{}: {}", flaw.field, flaw.why));
    }
    Ok((record, account))
}

fn profile(device: &Device, snapshot: &Snapshot) -> Option<Profile> {
    let pn = device.pn.as_ref()?;
    let name = Some(device.push_name.clone()).filter(|name| !name.is_empty()).or_else(|| snapshot.profile_name.clone());
    Some(Profile {
        id: format!("{}@{}", pn.user, pn.server.as_str()),
        name,
        username: Some(format!("+{}", pn.user)),
        avatar_url: None,
    })
}

type Synced = (Vec<(Vec<u8>, AppStateSyncKey)>, Vec<(String, app_state::Version)>);

fn synced(snapshot: &Snapshot, newest: Option<&[u8]>, tally: &mut Tally) -> Synced {
    let mut taken = Vec::new();
    for (id, record) in snapshot.each(Kind::AppStateKey) {
        tally.found("appStateKeys", 1);
        match app_state::key(id, &record.value) {
            Ok(key) => taken.push(key),
            Err(why) => tally.skip(&record.name, why),
        }
    }
    taken.sort_by_key(|(id, key)| (Some(id.as_slice()) == newest, key.timestamp));
    taken.dedup_by(|a, b| a.0 == b.0);
    tally.imported("appStateKeys", taken.len());
    let mut versions = Vec::new();
    for (name, record) in snapshot.each(Kind::AppStateVersion) {
        tally.found("appStateVersions", 1);
        if snapshot.evolution || taken.is_empty() {
            continue;
        }
        match app_state::version(name, &record.value) {
            Ok(version) => versions.push((name.to_string(), version)),
            Err(why) => tally.skip(&record.name, why),
        }
    }
    if snapshot.evolution && snapshot.each(Kind::AppStateVersion).next().is_some() {
        tally.warn(
            "the versions of the app state were left out: some Evolutions computed them with the wrong key; chats that are \
             archived, muted or pinned are fetched anew",
        );
    }
    tally.imported("appStateVersions", versions.len());
    (taken, versions)
}

fn pairs(peers: &Peers, device: &Device, now: i64, tally: &mut Tally) -> Vec<LidPnMappingEntry> {
    for (record, why) in &peers.unreadable {
        tally.skip(record, why.clone());
    }
    tally.note("pairs of number and LID that contradicted others and were left out: {}", peers.contradictions);
    let own = device.lid.as_ref().map(|lid| lid.user.as_str());
    let entry = |(lid, pn): (&String, &String)| LidPnMappingEntry {
        lid: lid.clone(),
        phone_number: pn.clone(),
        created_at: now,
        updated_at: now,
        learning_source: if own == Some(lid) { "pairing" } else { "other" }.into(),
    };
    tally.found("lidMappings", peers.pairs.len() + peers.unreadable.len() + peers.contradictions);
    tally.imported("lidMappings", peers.pairs.len());
    peers.pairs.iter().map(entry).collect()
}

fn tokens(snapshot: &Snapshot, peers: &Peers, tally: &mut Tally) -> Vec<(String, TcTokenEntry)> {
    let by_number: BTreeMap<&str, &str> = peers.pairs.iter().map(|(lid, pn)| (pn.as_str(), lid.as_str())).collect();
    let mut taken: BTreeMap<String, TcTokenEntry> = BTreeMap::new();
    for (id, record) in snapshot.each(Kind::TcToken).filter(|(id, _)| *id != "__index") {
        tally.found("tcTokens", 1);
        let Some((user, is_lid)) = app_state::trusted_user(id) else {
            tally.skip(&record.name, "its name is not the address of an account");
            continue;
        };
        // Tokens are kept under the LID where it is known.
        let user = if is_lid { user } else { by_number.get(user).copied().unwrap_or(user) };
        match app_state::trusted(&record.value) {
            Ok(token) => match taken.get(user) {
                Some(known) if known.token_timestamp > token.token_timestamp => {}
                _ => {
                    taken.insert(user.to_string(), token);
                }
            },
            Err(why) => tally.skip(&record.name, why),
        }
    }
    tally.imported("tcTokens", taken.len());
    taken.into_iter().collect()
}

/// What an account needs and this one does not have. What it can do without, or gets back by itself, is a warning.
fn lacks(state: &State, snapshot: &Snapshot, tally: &mut Tally) {
    let no_sessions = state.sessions.is_empty();
    let no_pre_keys = state.uploaded.is_empty() && state.fresh.is_empty();
    let no_sync_keys = state.sync_keys.is_empty();
    if no_sessions {
        tally
            .missing("sessions: there are none; messages that are under way show as waiting until they are sent again");
    }
    if no_pre_keys {
        tally.missing("preKeys: there are none; first messages of people who write anew are read when they try again");
    }
    if no_sync_keys {
        let words =
            "appStateKeys: there are none; archived, muted and pinned chats stay unknown until the phone sends them";
        if no_sessions && no_pre_keys { tally.missing(words) } else { tally.warn(words) }
    }
    if no_sessions && no_pre_keys && no_sync_keys {
        tally.missing(if snapshot.evolution {
            "keys: only credentials were found; hand over the files in instances/<id>/ of Evolution, or the Redis hash \
             evolution-cache:instance:<id>, if there are any"
        } else {
            "keys: only credentials were found; hand over the other files of the folder, if there are any"
        });
    }
    if state.device.lid.is_none() {
        tally.warn("me.lid: the account's LID is not there; it is learned with the next login");
    }
}
