//! Reports what an instance's connection is doing: to whoever looks, into its row, and as a domain event.

use super::live::{Live, LiveState};
use crate::clock::Clock;
use crate::store::events::{self, NewDomainEvent};
use crate::store::{Store, auth_imports, instances};
use omni_channel_sdk::connection::ConnectionState;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Takes the states of one instance.
#[derive(Clone, Debug)]
pub struct Reporter {
    live: Arc<Live>,
    clock: Clock,
}

impl Reporter {
    /// A reporter for an instance.
    pub fn new(live: Arc<Live>, clock: Clock) -> Self {
        Self { live, clock }
    }

    /// It is this from now on. An equal state keeps its time, and so does one that is connected and stays so.
    pub fn set(&self, state: ConnectionState) {
        let since = self.clock.now();
        let is_connected = |state: &ConnectionState| matches!(state, ConnectionState::Connected { .. });
        self.live.state.send_if_modified(|now| {
            let same = now.state == state;
            if !same {
                let since = if is_connected(&now.state) && is_connected(&state) { now.since } else { since };
                *now = LiveState { state, since };
            }
            !same
        });
    }

    /// A poll failed: an instance that was connected is not any more, unless the channel said something itself.
    pub fn poll_failed(&self, reason: &str) {
        let connected = matches!(self.live.state.borrow().state, ConnectionState::Connected { .. });
        if connected {
            self.set(ConnectionState::Disconnected { reason: reason.to_owned(), transient: true });
        }
    }

    /// A poll worked: an instance that was cut off is back.
    pub fn poll_worked(&self) {
        let cut_off = matches!(self.live.state.borrow().state, ConnectionState::Disconnected { transient: true, .. });
        if cut_off {
            self.set(ConnectionState::connected(None));
        }
    }
}

/// Changes of one instance's state in [`WINDOW_MS`] that are written at once; more are written once in [`SLOWER`].
const CHANGES: u32 = 50;
const WINDOW_MS: i64 = 10_000;
const SLOWER: Duration = Duration::from_secs(1);

/// Writes every change of an instance's state, until it is finished and the last one is written. Only the newest
/// matters: one that was already overtaken is not written, and a channel that changes its mind without end is not
/// written all the time.
pub async fn keep(live: Arc<Live>, channel: String, store: Store, clock: Clock, finished: CancellationToken) {
    let mut states = live.state.subscribe();
    states.mark_changed();
    let mut was_connected = false;
    let (mut window, mut changes) = (clock.now(), 0);
    loop {
        if clock.now() >= window.plus_millis(WINDOW_MS) {
            (window, changes) = (clock.now(), 0);
        }
        if changes >= CHANGES {
            tokio::select! {
                () = clock.sleep(SLOWER) => {}
                () = finished.cancelled() => {}
            }
        }
        changes += 1;
        tokio::select! {
            biased;
            changed = states.changed() => if changed.is_err() { return },
            () = finished.cancelled() => return,
        }
        let state = states.borrow_and_update().clone();
        let connected = matches!(state.state, ConnectionState::Connected { .. });
        let event = (connected != was_connected).then(|| domain_event(&live, &channel, &state));
        if let Err(error) = write(&store, &live, &state, event).await {
            tracing::warn!(instance.id = %live.id, "the state of an instance could not be written: {}", error.explain());
        }
        log(&live, &channel, &state);
        was_connected = connected;
    }
}

fn log(live: &Live, channel: &str, state: &LiveState) {
    let (id, name) = (live.id, state.state.name());
    match &state.state {
        ConnectionState::Disconnected { reason, .. } => {
            tracing::warn!(instance.id = %id, channel.name = channel, instance.state = name, "instance disconnected: {reason}");
        }
        ConnectionState::LoggedOut { reason, user_action } => {
            tracing::error!(
                instance.id = %id, channel.name = channel, instance.state = name,
                "instance logged out: {reason}. {user_action}"
            );
        }
        ConnectionState::Connected { limited: Some(limited), .. } => tracing::warn!(
            instance.id = %id, channel.name = channel, instance.state = name, "instance limited: {}", limited.reason
        ),
        _ => tracing::info!(instance.id = %id, channel.name = channel, instance.state = name, "instance {name}"),
    }
}

async fn write(
    store: &Store,
    live: &Live,
    state: &LiveState,
    event: Option<NewDomainEvent<'_>>,
) -> crate::store::Result<()> {
    let json = serde_json::to_value(&state.state).expect("a state is plain JSON");
    let profile = match &state.state {
        ConnectionState::Connected { profile, .. } => profile.as_ref(),
        _ => None,
    };
    let mut tx = store.begin().await?;
    instances::set_state(&mut tx, live.id, &json, state.since, profile).await?;
    if let ConnectionState::Connected { .. } = &state.state {
        auth_imports::connected(&mut tx, live.id, state.since).await?;
    }
    if let Some(event) = event {
        events::append(&mut tx, &[event], state.since).await?;
    }
    tx.commit().await
}

fn domain_event(live: &Live, channel: &str, state: &LiveState) -> NewDomainEvent<'static> {
    let mut payload = json!({"instanceId": live.id, "channelType": channel});
    let event_type = match &state.state {
        ConnectionState::Connected { profile, .. } => {
            if let Some(profile) = profile {
                payload["profileName"] = json!(profile.name);
                payload["profilePicUrl"] = json!(profile.avatar_url);
                payload["ownerIdentifier"] = json!(profile.id);
            }
            "instance.connected"
        }
        other => {
            let (reason, will_reconnect) = match other {
                ConnectionState::Disconnected { reason, transient } => (reason.clone(), *transient),
                ConnectionState::LoggedOut { reason, .. } => (reason.clone(), false),
                other => (other.name().to_owned(), true),
            };
            payload["reason"] = json!(reason);
            payload["willReconnect"] = json!(will_reconnect);
            "instance.disconnected"
        }
    };
    NewDomainEvent {
        channel: channel.into(),
        instance_id: live.id,
        ..NewDomainEvent::new(Uuid::now_v7(), event_type, "inbound", payload.to_string(), state.since)
    }
}
