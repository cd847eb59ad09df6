//! Taken over, given away and taken over again: the state is the same.

use super::samples::{self, NOW};
use super::store::{Account, take_over};
use crate::baileys::Snapshot;
use serde_json::Value;
use wacore::store::traits::AppStateSyncKey;

fn device(account: &Account) -> Value {
    serde_json::to_value(&*account.device).unwrap()
}

type Key = (Vec<u8>, Vec<u8>, Vec<u8>, i64);

fn keys(account: &Account) -> Vec<Key> {
    let parts = |(id, key): &(Vec<u8>, AppStateSyncKey)| {
        (id.clone(), key.key_data.clone(), key.fingerprint.clone(), key.timestamp)
    };
    account.state().sync_keys.iter().map(parts).collect()
}

#[tokio::test]
async fn the_state_is_the_same() {
    for sample in samples::all() {
        let before = take_over(&sample.snapshot(), NOW).await;
        let export = before.export().await;
        let mut snapshot = Snapshot::new();
        for (name, bytes) in &export.files {
            snapshot.add(name, bytes.clone());
        }
        let after = take_over(&snapshot, NOW).await;
        let (one, two) = (before.state(), after.state());
        assert_eq!(device(&before), device(&after), "{}", sample.version);
        assert_eq!(one.uploaded, two.uploaded);
        assert_eq!(one.fresh, two.fresh);
        assert_eq!(one.sender_keys, two.sender_keys);
        assert_eq!(one.sessions, two.sessions, "{}", sample.version);
        assert_eq!(one.identities, two.identities);
        assert_eq!(keys(&before), keys(&after));
        assert_eq!(serde_json::to_value(&one.pairs).unwrap(), serde_json::to_value(&two.pairs).unwrap());
        assert_eq!(serde_json::to_value(&one.tokens).unwrap(), serde_json::to_value(&two.tokens).unwrap());
        for ((name, one), (other, two)) in one.versions.iter().zip(&two.versions) {
            assert_eq!((name, one.state.version, one.state.hash), (other, two.state.version, two.state.hash));
            assert_eq!(one.macs.len(), two.macs.len());
        }
        assert_eq!(after.converted.report.skipped, []);
        // And once more, file by file.
        assert_eq!(export.files, after.export().await.files);
    }
}

#[tokio::test]
async fn a_folder_has_the_files_that_it_came_with() {
    let sample = samples::newest();
    let export = take_over(&sample.snapshot(), NOW).await.export().await;
    let kept = |name: &&String| !name.starts_with("device-list") && !name.starts_with("sender-key-memory");
    let lost: Vec<_> = sample.files.keys().filter(kept).filter(|name| !export.files.contains_key(*name)).collect();
    assert_eq!(lost, [] as [&String; 0]);
}
