//! How long an account with 10,000 sessions takes: `cargo test --release -p omni-channel-whatsapp --lib ten_thousand --
//! --ignored --nocapture`.

use super::samples::{self, NOW};
use crate::baileys::convert;
use std::time::Instant;
use wacore::store::in_memory::InMemoryBackend;

#[tokio::test]
#[ignore = "a measurement"]
async fn ten_thousand_sessions() {
    let mut sample = samples::newest();
    let record = sample.value("session-100000000000002_1.0.json");
    for at in 0..10_000u64 {
        sample.set(&format!("session-{}_1.{}.json", 200_000_000_000_000 + at, at % 3), &record);
    }
    let begun = Instant::now();
    let snapshot = sample.snapshot();
    let read = begun.elapsed();
    let converted = convert(&snapshot, NOW).unwrap();
    let checked = begun.elapsed();
    let backend = InMemoryBackend::new();
    converted.store(&backend).await.unwrap();
    let stored = begun.elapsed();
    assert_eq!(converted.report.imported["sessions"], 10_003);
    println!("read after {read:?}, converted after {checked:?}, stored after {stored:?}");
}
