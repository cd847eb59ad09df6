//! Looking at instances: what is kept of them and what they are doing, as one.

use super::config;
use super::proxy;
use super::{Instance, InstanceError, Instances, Result};
use crate::plugins::Home;
use crate::store::instances::{self as rows, InstanceRow};
use omni_channel_sdk::connection::ConnectionState;
use uuid::Uuid;

impl Instances {
    /// All of them (they are few), by name; `channel` narrows.
    pub async fn list(&self, channel: Option<&str>) -> Result<Vec<Instance>> {
        let rows = rows::all(&self.0.shared.store).await?;
        Ok(rows
            .into_iter()
            .filter(|row| channel.is_none_or(|channel| row.channel == channel))
            .map(|row| self.show(row))
            .collect())
    }

    /// One, by id.
    pub async fn get(&self, id: Uuid) -> Result<Instance> {
        Ok(self.show(self.row(id).await?))
    }

    /// One, by id or name, as a person types it.
    pub async fn find(&self, id_or_name: &str) -> Result<Instance> {
        if let Ok(id) = id_or_name.parse::<Uuid>()
            && let Some(row) = rows::get(&self.0.shared.store, id).await?
        {
            return Ok(self.show(row));
        }
        let row = rows::by_name(&self.0.shared.store, id_or_name).await?;
        row.map(|row| self.show(row)).ok_or_else(|| InstanceError::NotFound(id_or_name.to_owned()))
    }

    fn show(&self, mut row: InstanceRow) -> Instance {
        let live = self.entry(row.id).map(|live| live.state.borrow().clone());
        let (state, state_since) = match live {
            Some(live) => (live.state, live.since),
            None => (stored_state(&row, self.0.options.hosts.owner(row.id).is_some()), row.state_since),
        };
        // What the channel says is written a moment after it is seen.
        if let ConnectionState::Connected { profile: Some(profile), .. } = &state {
            row.profile_name = profile.name.clone().or(row.profile_name);
            row.profile_pic_url = profile.avatar_url.clone().or(row.profile_pic_url);
            row.owner_identifier = Some(profile.id.clone());
        }
        let opened = config::open(&self.0.shared.sealer, row.id, row.secrets.as_deref());
        let isolation = home_of(&row);
        let proxy = proxy::shown(&row, &self.0.shared.sealer);
        Instance {
            id: row.id,
            name: row.name,
            channel: row.channel,
            config: row.config.0,
            secrets: opened.map(|secrets| secrets.into_iter().map(|(name, _)| name).collect()).unwrap_or_default(),
            is_active: row.is_active,
            is_default: row.is_default,
            isolation,
            proxy,
            state,
            state_since,
            profile_name: row.profile_name,
            profile_pic_url: row.profile_pic_url,
            owner_identifier: row.owner_identifier,
            last_message_at: row.last_message_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Where an instance is to run. A word that this host does not know is one that nobody said.
pub(super) fn home_of(row: &InstanceRow) -> Option<Home> {
    row.isolation.as_deref().and_then(|word| word.parse().ok())
}

/// The last state that was written. One that says "connected" is from a host that died, unless another host has the
/// instance: it is not true any more.
fn stored_state(row: &InstanceRow, runs_elsewhere: bool) -> ConnectionState {
    match serde_json::from_value(row.state.0.clone()) {
        Ok(state) if runs_elsewhere => state,
        Ok(ConnectionState::Connected { .. } | ConnectionState::Connecting) | Err(_) => {
            ConnectionState::Disconnected { reason: "it does not run".into(), transient: false }
        }
        Ok(state) => state,
    }
}

/// Why an instance cannot be used now, and what to do.
pub(super) fn not_connected(name: &str, state: Option<&ConnectionState>) -> String {
    match state {
        None => format!("instance {name:?} is not connected; connect it with: omni instances connect {name}"),
        Some(ConnectionState::LoggedOut { reason, user_action }) => {
            format!("instance {name:?} is logged out: {reason}. {user_action}")
        }
        Some(ConnectionState::Disconnected { reason, transient }) => {
            let next = if *transient { "it is being tried again" } else { "connect it again when that is changed" };
            format!("instance {name:?} is not connected: {reason}; {next}")
        }
        Some(state) => format!("instance {name:?} is not connected yet ({})", state.name()),
    }
}
