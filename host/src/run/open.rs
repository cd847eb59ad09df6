//! Opens what a host stands on: its database, for itself or with others, and its bus; and looks whether the key fits.

use crate::bus::{Bus, BusOptions};
use crate::clock::Clock;
use crate::config::{Config, DatabaseUrl};
use crate::data::DataFolder;
use crate::store::moving::is_unfinished;
use crate::store::{Hold, SqliteOptions, Store, StoreError, settings};
use crate::{hosts, inbound, moving};
use anyhow::Context;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Where the check value of the key file is kept.
pub(crate) const KEY_CHECK: &str = "data.key_check";

/// Opens the database that is configured, for this process alone.
pub(crate) async fn open_store(config: &Config, clock: &Clock) -> anyhow::Result<(Store, Hold)> {
    let store = open_unheld(config).await?;
    let hold = hold_store(config, &store, clock).await?;
    Ok((store, hold))
}

/// Opens the database that is configured.
pub(super) async fn open_unheld(config: &Config) -> anyhow::Result<Store> {
    let url = &config.database.url;
    if let Some(moved) = moving::moved(config) {
        return Err(moved.into());
    }
    let opened = match (url, config.database_file()) {
        (DatabaseUrl::Postgres(address), _) => {
            let mut options = config.database.postgres_options();
            if config.bus.nats_options().is_some() {
                // A host that stands still in the middle of a transaction holds up all others.
                options.idle_timeout = options.idle_timeout.min(hosts::ENDS);
            }
            Store::open_postgres(address.expose(), options).await
        }
        (_, Some(file)) => Store::open_sqlite(&file, SqliteOptions::default()).await,
        (_, None) => anyhow::bail!("{url} names no database"),
    };
    let store = opened.map_err(explained).with_context(|| failed_to_open(config))?;
    // Before it is held: a holder leaves its mark, and there is to be nothing but the copy.
    if is_unfinished(&store).await.map_err(explained).with_context(|| failed_to_open(config))? {
        anyhow::bail!(
            "the database {url} holds an installation that is still being moved into it: run `omni migrate store` again, \
             with the same data folder, until it says that everything is there"
        );
    }
    Ok(store)
}

fn failed_to_open(config: &Config) -> String {
    match config.database_file() {
        Some(file) => format!("failed to open the database {}", file.display()),
        None => format!("failed to open the database {}", config.database.url),
    }
}

pub(super) async fn hold_store(config: &Config, store: &Store, clock: &Clock) -> anyhow::Result<Hold> {
    let held = store.hold(&host_name(), clock.now()).await;
    held.map_err(explained).with_context(|| failed_to_open(config))
}

/// By what people know this host.
pub(super) fn host_name() -> String {
    let machine = rustix::system::uname();
    format!("omni on {} (process {})", machine.nodename().to_string_lossy(), std::process::id())
}

/// Opens the bus that is configured. What is left in the log of the database goes into the store before NATS is used.
pub(super) async fn open_bus(
    config: &Config,
    options: BusOptions,
    host: Uuid,
    store: &Store,
    clock: &Clock,
) -> anyhow::Result<Bus> {
    let Some(nats) = config.bus.nats_options() else {
        return Bus::open(store.clone(), clock.clone(), options).await.map_err(explained);
    };
    let embedded = Bus::open(store.clone(), clock.clone(), options.clone()).await.map_err(explained)?;
    let (storage, inbound) = inbound::open(store.clone(), embedded.clone(), clock.clone()).await.map_err(explained)?;
    if inbound.behind() > 0 {
        tracing::info!(events = inbound.behind(), "storing what is left in the log of the database");
        let stop = CancellationToken::new();
        let storing = tokio::spawn(storage.run(stop.clone()));
        inbound.settle().await;
        stop.cancel();
        storing.await.context("failed to store what is left in the log of the database")?;
    }
    embedded.close().await;
    let bus = Bus::open_nats(store.clone(), clock.clone(), host, options, nats)
        .await
        .map_err(|error| anyhow::anyhow!("{error}"))
        .with_context(|| format!("failed to open the bus {}", config.bus.url))?;
    if let Some(publisher) = bus.publisher() {
        publisher.begins().await.map_err(explained)?;
    }
    Ok(bus)
}

pub(super) fn explained(error: StoreError) -> anyhow::Error {
    anyhow::anyhow!("{}", error.explain())
}

/// A host with another key than the one that sealed what is in the database must not write a line.
pub(crate) async fn check_key(store: &Store, data: &DataFolder, clock: &Clock) -> anyhow::Result<()> {
    let found = settings::get(store, KEY_CHECK).await.map_err(explained)?;
    match found.and_then(|setting| setting.value) {
        Some(check) => match data.sealer.verify(&check) {
            Err(error) if data.is_new => {
                data.forget_new_key()?;
                anyhow::bail!(
                    "the data folder has no key, and the database was written with one: {error}; put the key file {} \
                     back, or name the data folder that it is in",
                    data.path.join(crate::data::KEY_FILE).display()
                )
            }
            checked => checked.map_err(|error| anyhow::anyhow!("{error}")),
        },
        None => {
            let check = serde_json::Value::String(data.sealer.check_value());
            settings::set(store, [(&KEY_CHECK.to_owned(), &check)], clock.now()).await.map_err(explained)
        }
    }
}
