//! Asking a channel for something through an instance that does not run: about its auth state, before it connects with it or
//! without letting it connect.
//!
//! The instance is started for the one question, told that it is offline, and ended. No ingress of it is opened, and what it
//! writes is held back. An instance that is [held](Instances::hold) is begun by nobody meanwhile.

use super::config;
use super::farewell::Farewell;
use super::proxy;
use super::supervisor::{self, Prepared};
use super::{InstanceError, Instances, Result, lock};
use crate::plugins::host_api::{Services, Shared};
use crate::plugins::session::{CallError, Session, Wishes};
use crate::plugins::staging::Staging;
use crate::store::instances::InstanceRow;
use omni_channel_sdk::SendError;
use omni_channel_sdk::request::{Reply, Request};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use uuid::Uuid;

/// An instance that nobody begins until this is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    held: Arc<Mutex<HashSet<Uuid>>>,
    id: Uuid,
}

impl Drop for Hold {
    fn drop(&mut self) {
        lock(&self.held).remove(&self.id);
    }
}

impl Instances {
    /// Keeps an instance from being begun. One that runs goes on until it is [ended](Self::end_held).
    pub(crate) async fn hold(&self, id: Uuid) -> Result<Hold> {
        self.detached(move |this| async move {
            this.row(id).await?;
            this.expect_mine(id)?;
            if !lock(&this.0.held).insert(id) {
                return Err(InstanceError::Conflict(BUSY.into()));
            }
            let hold = Hold { held: Arc::clone(&this.0.held), id };
            match this.0.options.hosts.own(id).await? {
                Ok(()) => Ok(hold),
                Err(owner) => Err(super::running::elsewhere(&owner)),
            }
        })
        .await
    }

    /// Wants one that is held disconnected, and waits until it has ended.
    pub(crate) async fn end_held(&self, hold: &Hold) -> Result<()> {
        let id = hold.id;
        self.detached(move |this| async move {
            let row = this.row(id).await?;
            this.want(id, false).await?;
            this.end_for_good(&row, Farewell::Disconnect).await;
            Ok(())
        })
        .await
    }

    /// Refuses one that is held.
    pub(super) fn expect_free(&self, id: Uuid) -> Result<()> {
        match lock(&self.0.held).contains(&id) {
            true => Err(InstanceError::Conflict(BUSY.into())),
            false => Ok(()),
        }
    }

    /// Asks through an instance that is started for this alone.
    pub(crate) async fn ask_offline(
        &self,
        id: Uuid,
        request: Request,
        staging: Arc<Staging>,
        within: Duration,
    ) -> Result<Reply> {
        let row = self.row(id).await?;
        let opened = self.0.plugins.open(&row.channel, super::show::home_of(&row)).await;
        let opened = opened.map_err(|not| InstanceError::NoPlugin(not.reason))?;
        let Prepared { secrets, origins, http, config } = self.prepare_offline(&row, &opened)?;
        let shared = Shared { http, ..self.0.shared.clone() };
        let services = Services::new(shared, id, row.channel.clone(), secrets, origins, opened.allowance.clone());
        // What it wishes for is not done.
        let (wishes, _) = mpsc::unbounded_channel();
        let (acts, _) = mpsc::unbounded_channel();
        let wishes = Wishes { timers: wishes, sockets: acts };
        let session = Session::new(opened.line, services.held_back(staging), wishes);
        let answered = match session.start_offline(config, self.0.options.start_within).await {
            Ok(_) => session.request(request, within).await.map_err(InstanceError::from),
            Err(CallError::Failed(failure)) => {
                let message = format!("the channel does not start: {}", failure.error.message);
                Err(SendError { message, ..failure.error }.into())
            }
            Err(error) => Err(error.into()),
        };
        supervisor::stop(&session, opened.running).await;
        answered
    }

    /// What it is given. Fields may be missing of its configuration: what is taken over may be just those.
    fn prepare_offline(&self, row: &InstanceRow, opened: &crate::plugins::Opened) -> Result<Prepared> {
        let shared = &self.0.shared;
        let http = proxy::calls(row, &shared.sealer, &shared.http).map_err(InstanceError::Invalid)?;
        let secrets = config::open(&shared.sealer, row.id, row.secrets.as_deref())
            .map_err(|reason| InstanceError::Invalid(format!("{reason}; set the secrets again")))?;
        let split = config::Split { open: row.config.0.clone(), secrets };
        Ok(Prepared::new(opened, http, &split, &row.private_fields.0))
    }
}

const BUSY: &str = "the auth state of the instance is being taken over at this moment; wait until that is done";
