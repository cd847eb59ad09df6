//! An account that knows many people comes over whole.

use super::samples::{self, NOW};
use crate::baileys::import;
use wacore::store::in_memory::InMemoryBackend;
use wacore::store::traits::SignalStore;

const PEOPLE: u64 = 2_000;

#[tokio::test]
async fn thousands_of_sessions_come_over() {
    let mut sample = samples::newest();
    let record = sample.value("session-100000000000002_1.0.json");
    for at in 0..PEOPLE {
        sample.set(&format!("session-{}_1.{}.json", 200_000_000_000_000 + at, at % 3), &record);
    }
    let backend = InMemoryBackend::new();
    let report = import(&sample.snapshot(), &backend, NOW).await.unwrap();
    assert_eq!(report.imported["sessions"], PEOPLE + 3);
    assert!(backend.has_signal_state_for_user("200000000001999").await.unwrap());
}
