//! The proof: what other accounts encrypted for the Baileys that was left alone is read with what was taken over.
//!
//! The other accounts ran libsignal-node, a library that is not ours. Among their messages are one on a ratchet that goes on,
//! one whose key was skipped, the first answer to a session that waited for it, a group's, and a first one that names a
//! one-time key.

use super::samples::{self, NOW, Sample};
use super::store::{Account, take_over};
use crate::baileys::Snapshot;

async fn reads_everything(sample: &Sample, account: &Account, how: &str) {
    assert!(sample.messages.len() >= 5);
    for message in &sample.messages {
        let (sender, ciphertext) = (message.sender.as_str(), message.ciphertext.as_slice());
        let read = match &message.group {
            Some(group) => account.decrypt_group(group, sender, ciphertext).await,
            None => account.decrypt(sender, &message.kind, ciphertext).await,
        };
        let context = format!("{} {how}: {}", sample.version, message.plaintext);
        let read = read.unwrap_or_else(|why| panic!("{context}: {why}"));
        assert!(String::from_utf8_lossy(&read).contains(&message.plaintext), "{context}");
    }
}

#[tokio::test]
async fn a_folder_of_every_version() {
    for sample in samples::all() {
        let account = take_over(&sample.snapshot(), NOW).await;
        assert_eq!(account.converted.report.skipped, []);
        reads_everything(&sample, &account, "folder").await;
    }
}

#[tokio::test]
async fn every_layout() {
    for sample in samples::all() {
        for (how, snapshot) in [
            ("evolution", sample.evolution()),
            ("redis", sample.redis()),
            ("mongodb", sample.mongodb(false)),
            ("mongodb, spread", sample.mongodb(true)),
            ("omni v2", sample.omni_v2()),
        ] {
            // MongoDB could not hold numbers and LIDs, so only what is of Baileys 6 was ever there.
            if how.starts_with("mongodb") && sample.version != "6.7.18" {
                continue;
            }
            let account = take_over(&snapshot, NOW).await;
            assert_eq!(account.converted.report.skipped, [], "{how}");
            let versions = account.converted.report.imported["appStateVersions"];
            assert_eq!(versions, if matches!(how, "evolution" | "redis") { 0 } else { 2 }, "{how}");
            reads_everything(&sample, &account, how).await;
        }
    }
}

#[tokio::test]
async fn after_it_went_out_and_came_back() {
    for sample in samples::all() {
        let account = take_over(&sample.snapshot(), NOW).await;
        let export = account.export().await;
        assert_eq!(export.warnings, [] as [String; 0]);
        let mut snapshot = Snapshot::new();
        for (name, bytes) in export.files {
            snapshot.add(&name, bytes);
        }
        let account = take_over(&snapshot, NOW).await;
        reads_everything(&sample, &account, "exported").await;
    }
}

#[tokio::test]
async fn a_message_is_read_once() {
    let sample = samples::newest();
    let account = take_over(&sample.snapshot(), NOW).await;
    let message = sample.messages.iter().find(|message| message.kind == "msg").unwrap();
    account.decrypt(&message.sender, "msg", &message.ciphertext).await.unwrap();
    account.decrypt(&message.sender, "msg", &message.ciphertext).await.unwrap_err();
}

#[tokio::test]
async fn until_the_other_side_answers_the_pre_key_goes_along() {
    for sample in samples::all() {
        let account = take_over(&sample.snapshot(), NOW).await;
        let carol = sample.messages.iter().find(|message| message.plaintext == "carol first reply").unwrap();
        let first = account.encrypt(&carol.sender, b"still waiting").await.unwrap();
        assert_eq!(first.message_type(), wacore::libsignal::protocol::CiphertextMessageType::PreKey);
        account.decrypt(&carol.sender, &carol.kind, &carol.ciphertext).await.unwrap();
        let then = account.encrypt(&carol.sender, b"now we talk").await.unwrap();
        assert_eq!(then.message_type(), wacore::libsignal::protocol::CiphertextMessageType::Whisper);
    }
}
