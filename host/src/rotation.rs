//! Changing the key of the data folder: every sealed value is sealed anew under a new key, while the host works.
//!
//! ```text
//! 1 the key file gets the new key before the old one        from here on both are known, whatever happens
//! 2 new values are sealed under the new key
//! 3 every row that still needs the old key is sealed anew   found by its first bytes; begun anew after a death
//! 4 after a grace, 3 once more, then the old key goes       what was sealed before 2 and written after 3 is caught
//! ```
//!
//! A death at any point leaves a key file that opens every row; a host that starts on a file with two keys goes on.
//! Deliberately not here: which rows are sealed ([`crate::store::sealed`]).

use crate::clock::Clock;
use crate::data::{self, DataError, KEY_FILE};
use crate::run::KEY_CHECK;
use crate::secrets::{MasterKey, SealError, Sealer};
use crate::store::sealed::{self, PLACES, SealedRow};
use crate::store::{Store, StoreError, settings};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Rows of one transaction.
const STEP: u32 = 256;
/// How long a value may be on its way from its sealing to its row, generously.
pub const GRACE: Duration = Duration::from_secs(60);

/// Why the key was not changed.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// One change is not finished yet.
    #[error("the key is being changed already; what is left to do is in `omni data key`")]
    UnderWay,
    /// The key file.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The database.
    #[error("{}", .0.explain())]
    Store(#[from] StoreError),
    /// A value does not open: the old key stays, so that nothing is lost.
    #[error("the value in {table} of {row} cannot be sealed anew, so the old key is kept: {reason}")]
    Value {
        /// Its table.
        table: &'static str,
        /// Its row.
        row: String,
        /// Why not.
        reason: SealError,
    },
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The id of the key that seals, in hex.
    pub key_id: String,
    /// Whether an older key is still there.
    pub under_way: bool,
    /// Values that still need it.
    pub remaining: u64,
}

/// The handle. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rotation(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    store: Store,
    sealer: Sealer,
    clock: Clock,
    /// Held by the one that works.
    turn: tokio::sync::Mutex<()>,
}

impl Rotation {
    /// Of this data folder, with the sealer that everybody uses.
    pub fn new(folder: PathBuf, store: Store, sealer: Sealer, clock: Clock) -> Self {
        Self(Arc::new(Inner { folder, store, sealer, clock, turn: tokio::sync::Mutex::default() }))
    }

    /// How far it is.
    pub async fn progress(&self) -> Result<Progress, RotationError> {
        let key_id = self.0.sealer.key_id();
        Ok(Progress {
            key_id: hex::encode(key_id),
            under_way: self.0.sealer.has_older(),
            remaining: sealed::count_others(&self.0.store, &key_id).await?,
        })
    }

    /// Makes a new key and seals under it from now on. The rest is [`Self::finish`].
    pub async fn begin(&self) -> Result<(), RotationError> {
        // Whoever finishes a change holds the turn for as long as that takes.
        let Ok(_turn) = self.0.turn.try_lock() else { return Err(RotationError::UnderWay) };
        if self.0.sealer.has_older() {
            return Err(RotationError::UnderWay);
        }
        let mut keys = vec![MasterKey::generate()];
        keys.extend(data::read_keys(&self.0.folder.join(KEY_FILE))?.unwrap_or_default());
        data::write_keys(&self.0.folder, &keys)?;
        self.0.sealer.change_key(&keys[0]);
        tracing::info!(key.id = hex::encode(self.0.sealer.key_id()), "the key of the data folder is being changed");
        Ok(())
    }

    /// Seals everything anew, and takes the old key away once nothing has needed it for `grace`. Does nothing when no
    /// change is under way. Says how many values it sealed.
    pub async fn finish(&self, grace: Duration) -> Result<u64, RotationError> {
        let _turn = self.0.turn.lock().await;
        let mut sealed = self.reseal().await?;
        if !self.0.sealer.has_older() {
            return Ok(sealed);
        }
        if !grace.is_zero() {
            loop {
                self.0.clock.sleep(grace).await;
                let late = self.reseal().await?;
                sealed += late;
                if late == 0 {
                    break;
                }
            }
        }
        let mut keys = data::read_keys(&self.0.folder.join(KEY_FILE))?.unwrap_or_default();
        keys.truncate(1);
        data::write_keys(&self.0.folder, &keys)?;
        self.0.sealer.forget_older();
        tracing::info!(
            values = sealed,
            key.id = hex::encode(self.0.sealer.key_id()),
            "the key of the data folder is changed"
        );
        Ok(sealed)
    }

    /// Goes on with a change that an earlier process began.
    pub async fn resume(self, shutdown: CancellationToken) {
        if !self.0.sealer.has_older() {
            return;
        }
        tracing::info!("the key file holds an older key: going on with changing it");
        if let Some(Err(error)) = shutdown.run_until_cancelled(self.finish(GRACE)).await {
            tracing::error!("the key of the data folder could not be changed: {error}");
        }
    }

    async fn reseal(&self) -> Result<u64, RotationError> {
        let (store, sealer) = (&self.0.store, &self.0.sealer);
        let key_id = sealer.key_id();
        let mut count = 0;
        for place in PLACES {
            let mut after: Option<SealedRow> = None;
            loop {
                let rows = sealed::others(store, place, &key_id, after.as_ref(), STEP).await?;
                let Some(last) = rows.last().cloned() else { break };
                after = Some(last);
                let mut fresh = Vec::with_capacity(rows.len());
                for row in rows {
                    let context = place.context(&row);
                    let value = sealer.reseal(&context, &row.sealed).map_err(|reason| RotationError::Value {
                        table: place.column().0,
                        row: context,
                        reason,
                    })?;
                    fresh.push((row, value));
                }
                sealed::replace(store, place, &fresh).await?;
                count += fresh.len() as u64;
            }
        }
        // Last: as long as it is under the old key, a host with the old key alone would still be right.
        let check = serde_json::Value::String(sealer.check_value());
        settings::set(store, [(&KEY_CHECK.to_owned(), &check)], self.0.clock.now()).await?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DataFolder;
    use crate::store::instances as rows;
    use crate::store::kv::{self, KvWriteSealed};
    use crate::store::sealed::Place;
    use crate::store::tests::both::{Database, both};
    use crate::store::{Time, bench_instance, state_snapshots};
    use std::path::Path;
    use uuid::Uuid;

    const VALUES: usize = 700;

    async fn open(database: &Database) -> (DataFolder, Store, Rotation) {
        let folder = database.dir.path();
        let data = DataFolder::open(folder, Some(&folder.join("omni.db"))).expect("a data folder");
        let store = database.open().await;
        let rotation = Rotation::new(data.path.clone(), store.clone(), data.sealer.clone(), Clock::manual(Time(0)).0);
        (data, store, rotation)
    }

    async fn write(store: &Store, sealer: &Sealer, instance: Uuid, entries: impl Iterator<Item = usize>) {
        let writes: Vec<_> = entries
            .map(|at| KvWriteSealed {
                key: format!("k{at:04}"),
                value: Some(sealer.seal(&format!("kv:{instance}:k{at:04}"), format!("v{at}").as_bytes())),
            })
            .collect();
        let mut tx = store.begin().await.expect("begins");
        kv::write(&mut tx, instance, "test", &writes, Time(0)).await.expect("writes");
        tx.commit().await.expect("commits");
    }

    /// Every value opens, in its place.
    async fn all_open(store: &Store, sealer: &Sealer, instance: Uuid) {
        let mut tx = store.read().await.expect("reads");
        let found = kv::scan(&mut tx, instance, "k", None, 10_000, usize::MAX).await.expect("scans").expect("it fits");
        assert_eq!(found.len(), VALUES);
        for (at, (key, sealed)) in found.iter().enumerate() {
            let opened = sealer.open(&format!("kv:{instance}:{key}"), sealed).expect("opens");
            assert_eq!(**opened, *format!("v{at}").as_bytes());
        }
    }

    async fn a_change_that_dies_midway_loses_nothing_and_goes_on() {
        let database = Database::new().await;
        let home = &database.dir;
        let (data, store, rotation) = open(&database).await;
        let instance = bench_instance(&store, Time(1)).await.expect("an instance");
        write(&store, &data.sealer, instance, 0..VALUES).await;
        let old_file = std::fs::read(home.path().join(KEY_FILE)).expect("a key file");
        rotation.begin().await.expect("begins");
        assert!(matches!(rotation.begin().await, Err(RotationError::UnderWay)));
        // It dies after the first piece.
        let place = Place::PluginStorage;
        let key_id = data.sealer.key_id();
        let first = sealed::others(&store, place, &key_id, None, STEP).await.expect("finds");
        let fresh: Vec<_> = first
            .into_iter()
            .map(|row| {
                let value = data.sealer.reseal(&place.context(&row), &row.sealed).expect("opens");
                (row, value)
            })
            .collect();
        sealed::replace(&store, place, &fresh).await.expect("writes");
        store.close().await;
        drop((data, store, rotation));

        let (data, store, rotation) = open(&database).await;
        assert_eq!(std::fs::read_to_string(home.path().join(KEY_FILE)).expect("reads").lines().count(), 2);
        all_open(&store, &data.sealer, instance).await;
        let progress = rotation.progress().await.expect("tells");
        assert_eq!((progress.under_way, progress.remaining), (true, VALUES as u64 - u64::from(STEP)));
        assert_eq!(rotation.finish(Duration::ZERO).await.expect("finishes"), VALUES as u64 - u64::from(STEP));
        all_open(&store, &data.sealer, instance).await;
        assert!(!rotation.progress().await.expect("tells").under_way);
        store.close().await;
        drop((data, store, rotation));

        // The new key alone opens everything, and the old one nothing.
        let (data, store, _) = open(&database).await;
        all_open(&store, &data.sealer, instance).await;
        let new_file = std::fs::read(home.path().join(KEY_FILE)).expect("a key file");
        assert_eq!(new_file.len(), old_file.len());
        assert_ne!(new_file, old_file);
        let check = settings::get(&store, KEY_CHECK).await.expect("reads").expect("is there").value.expect("a value");
        assert_eq!(data.sealer.verify(&check), Ok(()));
        let old = MasterKey::from_hex(std::str::from_utf8(&old_file).expect("text").trim()).expect("a key");
        assert!(Sealer::new(&old).verify(&check).is_err());
    }

    async fn what_is_written_late_is_caught_before_the_old_key_goes() {
        let database = Database::new().await;
        let home = &database.dir;
        let (data, store, _) = open(&database).await;
        let (clock, time) = Clock::manual(Time(0));
        let rotation = Rotation::new(data.path.clone(), store.clone(), data.sealer.clone(), clock);
        let instance = bench_instance(&store, Time(1)).await.expect("an instance");
        write(&store, &data.sealer, instance, 0..VALUES - 1).await;
        // Sealed before the change, written long after every row was sealed anew.
        let late = Sealer::with_older(
            &data::read_keys(&home.path().join(KEY_FILE)).expect("reads").expect("is there").remove(0),
            &[],
        );
        rotation.begin().await.expect("begins");
        let finishing = tokio::spawn({
            let rotation = rotation.clone();
            async move { rotation.finish(GRACE).await }
        });
        while rotation.progress().await.expect("tells").remaining > 0 {
            tokio::task::yield_now().await;
        }
        write(&store, &late, instance, VALUES - 1..VALUES).await;
        assert!(!finishing.is_finished(), "the old key is kept for a grace");
        while !finishing.is_finished() {
            time.advance(GRACE);
            tokio::task::yield_now().await;
        }
        assert_eq!(finishing.await.expect("no panic").expect("finishes"), VALUES as u64);
        all_open(&store, &data.sealer, instance).await;
    }

    async fn what_an_older_plugin_kept_is_sealed_anew_as_well() {
        let database = Database::new().await;
        let (data, store, rotation) = open(&database).await;
        let instance = bench_instance(&store, Time(1)).await.expect("an instance");
        write(&store, &data.sealer, instance, 0..VALUES).await;
        let mut tx = store.begin().await.expect("begins");
        state_snapshots::take(&mut tx, instance, 3, Time(0)).await.expect("is taken");
        tx.commit().await.expect("commits");
        write(&store, &data.sealer, instance, 0..1).await;
        rotation.begin().await.expect("begins");
        assert_eq!(rotation.finish(Duration::ZERO).await.expect("finishes"), 2 * VALUES as u64);
        let mut tx = store.begin().await.expect("begins");
        let snapshot = state_snapshots::newest(&mut tx, instance, 3).await.expect("reads").expect("is there");
        state_snapshots::restore(&mut tx, instance, snapshot, Time(0)).await.expect("goes back");
        tx.commit().await.expect("commits");
        all_open(&store, &data.sealer, instance).await;
    }

    async fn the_proxy_of_an_instance_is_sealed_anew_as_well() {
        let database = Database::new().await;
        let (data, store, rotation) = open(&database).await;
        let instance = bench_instance(&store, Time(1)).await.expect("an instance");
        let row = SealedRow { id: instance, key: String::new(), sealed: Vec::new() };
        let context = Place::InstanceProxies.context(&row);
        let nobodys = Sealer::new(&MasterKey::generate()).key_id();
        let before = data.sealer.seal(&context, b"http://proxy.example:3128");
        store_proxy(&store, instance, &before).await;
        rotation.begin().await.expect("begins");
        assert_eq!(rotation.finish(Duration::ZERO).await.expect("finishes"), 1);
        assert!(data.sealer.open(&context, &before).is_err(), "the old key is gone");
        let found =
            sealed::others(&store, Place::InstanceProxies, &nobodys, None, STEP).await.expect("finds").remove(0);
        assert_eq!(**data.sealer.open(&context, &found.sealed).expect("opens"), *b"http://proxy.example:3128");
    }

    async fn store_proxy(store: &Store, instance: Uuid, sealed: &[u8]) {
        let mut row = rows::get(store, instance).await.expect("reads").expect("an instance");
        row.proxy = Some(sealed.to_vec());
        let mut tx = store.begin().await.expect("begins");
        rows::update(&mut tx, &row).await.expect("writes");
        tx.commit().await.expect("commits");
    }

    async fn a_value_that_does_not_open_keeps_the_old_key() {
        let database = Database::new().await;
        let home = &database.dir;
        let (data, store, rotation) = open(&database).await;
        let instance = bench_instance(&store, Time(1)).await.expect("an instance");
        write(&store, &Sealer::new(&MasterKey::generate()), instance, 0..1).await;
        rotation.begin().await.expect("begins");
        let error = rotation.finish(Duration::ZERO).await.expect_err("is refused").to_string();
        assert!(error.contains("plugin_storage") && error.contains("the old key is kept"), "{error}");
        assert_eq!(data::read_keys(&home.path().join(KEY_FILE)).expect("reads").expect("is there").len(), 2);
        drop(data);
    }

    #[test]
    fn every_sealed_column_is_known() {
        for database in ["sqlite", "postgres"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations").join(database);
            let mut found = Vec::new();
            for step in std::fs::read_dir(folder).expect("a folder").flatten() {
                let schema = std::fs::read_to_string(step.path()).expect("reads");
                let mut table = String::new();
                for line in schema.lines() {
                    let words: Vec<&str> = line.split_whitespace().collect();
                    let sealed = line.contains("-- sealed");
                    match words.as_slice() {
                        ["create", "table", name, ..] => table = (*name).to_owned(),
                        ["alter", "table", name, "add", "column", column, ..] if sealed => {
                            found.push(((*name).to_owned(), (*column).to_owned()));
                        }
                        [column, ..] if sealed => found.push((table.clone(), (*column).to_owned())),
                        _ => {}
                    }
                }
            }
            found.sort_unstable();
            let column = |(table, column): (&str, &str)| (table.to_owned(), column.to_owned());
            let mut known: Vec<_> = PLACES.iter().map(|place| column(place.column())).collect();
            known.sort_unstable();
            assert_eq!(found, known, "a column that says `-- sealed` is listed in `store::sealed`");
        }
    }

    both!(
        a_change_that_dies_midway_loses_nothing_and_goes_on,
        what_is_written_late_is_caught_before_the_old_key_goes,
        what_an_older_plugin_kept_is_sealed_anew_as_well,
        the_proxy_of_an_instance_is_sealed_anew_as_well,
        a_value_that_does_not_open_keeps_the_old_key,
    );
}
