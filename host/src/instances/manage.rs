//! Making instances, changing them, taking them away.

use super::config;
use super::farewell::Farewell;
use super::grants;
use super::proxy;
use super::{FIRST_OUTCOME, Instance, InstanceChange, InstanceError, Instances, NewInstance, Result};
use crate::plugins::Home;
use crate::store::instances::{self as rows, InstanceRow};
use crate::store::{Json, StoreError, state_snapshots};
use omni_channel_sdk::connection::ConnectionState;
use serde_json::Map;
use std::time::Duration;
use uuid::Uuid;

/// Messages of an instance that is deleted that go in one transaction: a few milliseconds' worth.
const DELETED_AT_ONCE: u32 = 500;

impl Instances {
    /// Makes an instance, and connects it at once when its configuration is complete (then it is active).
    pub async fn create(&self, new: NewInstance) -> Result<Instance> {
        let name = valid_name(&new.name)?;
        let new = NewInstance { channel: self.0.plugins.named(&new.channel), ..new };
        let manifest = self.manifest(&new.channel)?;
        let asked = grants::Asked { fields: &new.config, before: &Map::new(), by_operator: new.by_operator };
        let private_fields = grants::settle(self.0.shared.http.egress(), &manifest, asked, Vec::new()).await?;
        let split = config::split(&manifest, new.config, new.token).map_err(InstanceError::Invalid)?;
        split.check(&manifest).map_err(InstanceError::Invalid)?;
        self.check_isolation(&new.channel, new.isolation)?;
        // A channel with logins of its own may take a token with its configuration as well.
        let is_logged_in = manifest.login_flows.is_empty() || split.secrets.contains_key("token");
        let complete = split.missing(&manifest).is_empty() && is_logged_in;
        let connects = complete && !new.stays_disconnected;
        let now = self.0.shared.clock.now();
        let id = Uuid::now_v7();
        let state = match (connects, complete) {
            (true, _) => ConnectionState::Connecting,
            (false, true) => ConnectionState::Disconnected { reason: "never connected".into(), transient: false },
            (false, false) => ConnectionState::WaitingForLogin,
        };
        let mut row = InstanceRow {
            id,
            name,
            channel: new.channel,
            secrets: config::seal(&self.0.shared.sealer, id, &split.secrets),
            config: Json(split.open),
            private_fields: Json(private_fields),
            is_active: connects,
            is_default: new.is_default,
            isolation: new.isolation.map(|home| home.word().to_owned()),
            proxy: None,
            proxy_granted: false,
            state: Json(serde_json::to_value(&state).expect("a state is plain JSON")),
            state_since: now,
            profile_name: None,
            profile_pic_url: None,
            owner_identifier: None,
            state_version: 0,
            last_message_at: None,
            created_at: now,
            updated_at: now,
        };
        if let Some(proxy) = &new.proxy {
            self.set_proxy(&mut row, proxy, new.by_operator).await?;
        }
        let mut tx = self.0.shared.store.begin().await?;
        rows::insert(&mut tx, &row).await.map_err(conflict)?;
        if row.is_default {
            rows::only_default(&mut tx, &row.channel, id).await?;
        }
        tx.commit().await?;
        if !connects {
            return self.get(id).await;
        }
        match self.connect(id, Duration::from_secs(5)).await {
            // It was nobody's for a moment: the host that took it connects it.
            Err(InstanceError::Elsewhere(_)) => self.get(id).await,
            done => done,
        }
    }

    /// Changes one; a connected one is restarted when its configuration changed.
    pub async fn update(&self, id: Uuid, change: InstanceChange) -> Result<Instance> {
        let restarted = self.detached(|this| async move { this.change(id, change).await }).await?;
        self.settled(id, if restarted { FIRST_OUTCOME } else { Duration::ZERO }).await
    }

    /// Writes a change, and begins an active instance anew when its configuration is another one; says whether it did.
    async fn change(&self, id: Uuid, change: InstanceChange) -> Result<bool> {
        let mut row = self.row(id).await?;
        self.expect_mine(id)?;
        if let Some(name) = &change.name {
            row.name = valid_name(name)?;
        }
        let changes_config = !change.config.is_empty() || change.token.is_some();
        if changes_config {
            let manifest = self.manifest(&row.channel)?;
            let asked =
                grants::Asked { fields: &change.config, before: &row.config.0, by_operator: change.by_operator };
            let granted = std::mem::take(&mut row.private_fields.0);
            row.private_fields.0 = grants::settle(self.0.shared.http.egress(), &manifest, asked, granted).await?;
            let secrets = config::open(&self.0.shared.sealer, id, row.secrets.as_deref());
            let mut split = config::Split { open: row.config.0, secrets: secrets.unwrap_or_default() };
            split.change(config::split(&manifest, change.config, change.token).map_err(InstanceError::Invalid)?);
            split.check(&manifest).map_err(InstanceError::Invalid)?;
            row.secrets = config::seal(&self.0.shared.sealer, id, &split.secrets);
            row.config = Json(split.open);
        }
        if let Some(proxy) = &change.proxy {
            self.set_proxy(&mut row, proxy, change.by_operator).await?;
        }
        let before = row.isolation.clone();
        if let Some(isolation) = change.isolation {
            self.check_isolation(&row.channel, isolation)?;
            row.isolation = isolation.map(|home| home.word().to_owned());
        }
        row.is_default = change.is_default.unwrap_or(row.is_default);
        row.updated_at = self.0.shared.clock.now();
        let mut tx = self.0.shared.store.begin().await?;
        rows::update(&mut tx, &row).await.map_err(conflict)?;
        if row.is_default {
            rows::only_default(&mut tx, &row.channel, id).await?;
        }
        tx.commit().await?;
        let restart = (changes_config || change.proxy.is_some() || row.isolation != before) && row.is_active;
        if restart {
            self.end(id).await;
            self.spawn_mine(&row).await?;
        }
        Ok(restart)
    }

    /// Ends and deletes one, with its chats, messages and state. Gives back, in a sentence, what stayed behind on the
    /// network.
    pub async fn delete(&self, id: Uuid) -> Result<Option<String>> {
        self.detached(|this| async move {
            let row = this.row(id).await?;
            this.expect_mine(id)?;
            let left = this.end_for_good(&row, Farewell::Delete).await;
            let store = &this.0.shared.store;
            // Should the host end in the middle of it, the instance is there and switched off, to be deleted once more.
            let mut tx = store.begin().await?;
            rows::set_active(&mut tx, id, false, this.0.shared.clock.now()).await?;
            tx.commit().await?;
            loop {
                let mut tx = store.begin().await?;
                let more = rows::delete_messages(&mut tx, id, DELETED_AT_ONCE).await?;
                tx.commit().await?;
                if !more {
                    break;
                }
                // Whoever waits to write has a turn.
                tokio::task::yield_now().await;
            }
            let mut tx = store.begin().await?;
            rows::delete(&mut tx, id).await?;
            tx.commit().await?;
            Ok(left)
        })
        .await
    }

    /// Puts back what an instance kept before a newer plugin changed it, for a plugin that is the older one again.
    pub async fn restore_state(&self, id: Uuid) -> Result<Instance> {
        self.detached(|this| async move {
            let row = this.row(id).await?;
            let knows = this.manifest(&row.channel)?.state_version;
            let mut read = this.0.shared.store.read().await?;
            let snapshot = state_snapshots::newest(&mut read, id, i64::from(knows)).await?;
            drop(read);
            let Some(snapshot) = snapshot.filter(|_| i64::from(knows) < row.state_version) else {
                return Err(InstanceError::Invalid(format!(
                    "there is nothing older to go back to for the plugin that is here (it knows version {knows}, what \
                     {:?} keeps is of version {})",
                    row.name, row.state_version
                )));
            };
            this.expect_mine(id)?;
            // First, so that nothing is written behind what is put back.
            this.end(id).await;
            let restored = async {
                let mut tx = this.0.shared.store.begin().await?;
                state_snapshots::restore(&mut tx, id, snapshot, this.0.shared.clock.now()).await?;
                tx.commit().await
            };
            let restored = restored.await;
            if row.is_active {
                this.spawn_mine(&row).await?;
            }
            Ok(restored?)
        })
        .await?;
        self.settled(id, FIRST_OUTCOME).await
    }

    async fn set_proxy(&self, row: &mut InstanceRow, text: &str, by_operator: bool) -> Result<()> {
        let shared = &self.0.shared;
        proxy::set(row, text, shared.http.egress(), &shared.sealer, by_operator).await
    }

    fn check_isolation(&self, channel: &str, wish: Option<Home>) -> Result<()> {
        wish.map_or(Ok(()), |home| self.0.plugins.may_run(channel, home).map_err(InstanceError::Invalid))
    }
}

fn valid_name(name: &str) -> Result<String> {
    let name = name.trim();
    let length = name.chars().count();
    if (1..=100).contains(&length) && !name.chars().any(char::is_control) {
        return Ok(name.to_owned());
    }
    Err(InstanceError::Invalid(format!(
        "name has {length} characters; 1 to 100 are allowed, none of them control characters"
    )))
}

fn conflict(error: StoreError) -> InstanceError {
    match error {
        StoreError::Conflict(what) => InstanceError::Conflict(format!("{what} already exists; choose another name")),
        error => InstanceError::Store(error),
    }
}
