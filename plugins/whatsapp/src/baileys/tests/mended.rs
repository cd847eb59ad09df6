//! Sessions as they are found in the field, which wacore's importer would refuse, and records that nobody can mend.

use super::samples::{self, NOW, Sample};
use super::store::take_over;
use crate::baileys::convert;
use omni_channel_sdk::request::AuthReport;
use serde_json::{Value, json};

const BOB: &str = "session-100000000000002_1.0.json";
const CAROL: &str = "session-100000000000003_1.0.json";

type Change = fn(&mut Value);

/// The open state of a session.
fn open(record: &mut Value) -> &mut Value {
    let sessions = record["_sessions"].as_object_mut().unwrap();
    sessions.values_mut().find(|state| state["indexInfo"]["closed"] == -1).unwrap()
}

/// In this version's folder, Bob's record has one state and Carol's a closed one beside the open one.
fn changed(file: &str, change: impl Fn(&mut Value)) -> Sample {
    let mut sample = samples::all().swap_remove(1);
    let mut record = sample.value(file);
    change(&mut record);
    sample.set(file, &record);
    sample
}

fn report(sample: &Sample) -> AuthReport {
    convert(&sample.snapshot(), NOW).unwrap().report
}

/// Bob's messages are read and nothing is skipped.
async fn still_reads(change: impl Fn(&mut Value)) {
    let sample = changed(BOB, change);
    let account = take_over(&sample.snapshot(), NOW).await;
    assert_eq!(account.converted.report.skipped, []);
    for message in
        sample.messages.iter().filter(|message| message.sender.contains("00000000002@lid") && message.group.is_none())
    {
        account.decrypt(&message.sender, &message.kind, &message.ciphertext).await.unwrap();
    }
}

#[tokio::test]
async fn what_can_be_mended() {
    still_reads(|record| drop(open(record).as_object_mut().unwrap().remove("registrationId"))).await;
    still_reads(|record| drop(record.as_object_mut().unwrap().remove("version"))).await;
    // A pending pre-key where the other side began.
    still_reads(|record| open(record)["pendingPreKey"] = json!({ "signedKeyId": 1, "baseKey": "AAAA", "preKeyId": 1 }))
        .await;
    // A skipped key beyond the counter, one that is none, one twice.
    still_reads(|record| {
        for chain in open(record)["_chains"].as_object_mut().unwrap().values_mut() {
            chain["messageKeys"]["4294967295"] = json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
            chain["messageKeys"]["x"] = json!("AAAA");
            chain["messageKeys"]["000002"] = chain["messageKeys"]["2"].clone();
        }
    })
    .await;
    // The same chain in another spelling of base64, and one that is no key.
    still_reads(|record| {
        let state = open(record);
        let chains = state["_chains"].as_object_mut().unwrap();
        let twins: Vec<(String, Value)> =
            chains.iter().map(|(key, chain)| (format!("{key}="), chain.clone())).collect();
        chains.extend(twins);
        chains.insert("AAAA".into(), json!({ "chainType": 2, "chainKey": { "counter": 0 } }));
    })
    .await;
    // The last remote key is gone, the counter before it is below everything.
    still_reads(|record| {
        let ratchet = &mut open(record)["currentRatchet"];
        ratchet["previousCounter"] = json!(-1);
        ratchet.as_object_mut().unwrap().remove("lastRemoteEphemeralKey");
    })
    .await;
}

#[tokio::test]
async fn of_several_open_states_the_last_used_stays_open() {
    let sample = changed(CAROL, |record| {
        for state in record["_sessions"].as_object_mut().unwrap().values_mut() {
            state["indexInfo"]["closed"] = json!(-1);
        }
    });
    let account = take_over(&sample.snapshot(), NOW).await;
    assert_eq!(account.converted.report.skipped, []);
    let message = sample.messages.iter().find(|message| message.plaintext == "carol first reply").unwrap();
    account.decrypt(&message.sender, &message.kind, &message.ciphertext).await.unwrap();
}

#[test]
fn what_cannot_be_mended_is_listed_with_its_reason() {
    let cases: [(Change, &str); 6] = [
        (
            |record| {
                let own = open(record)["currentRatchet"]["ephemeralKeyPair"]["pubKey"].as_str().unwrap().to_string();
                open(record)["_chains"].as_object_mut().unwrap().remove(&own);
            },
            "no sending chain",
        ),
        (|record| open(record)["currentRatchet"]["rootKey"] = json!("AAAA"), "root key"),
        (|record| open(record)["indexInfo"]["remoteIdentityKey"] = json!(""), "identity key"),
        (
            |record| {
                open(record)["currentRatchet"]["ephemeralKeyPair"]["privKey"] =
                    json!("QAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAEA=");
            },
            "not that of its private key",
        ),
        (|record| record["_sessions"] = json!({}), "no state"),
        (|record| *record = json!([]), "not a session record"),
    ];
    for (change, reason) in cases {
        let report = report(&changed(BOB, change));
        assert_eq!(report.skipped.len(), 1, "{reason}");
        assert_eq!(report.skipped[0].record, BOB);
        assert!(report.skipped[0].reason.contains(reason), "{} is not about {reason}", report.skipped[0].reason);
        assert_eq!(report.found["sessions"] - report.imported["sessions"], 1);
    }
}

#[test]
fn a_closed_state_that_is_no_good_is_left_out_and_the_rest_comes() {
    let sample = changed(CAROL, |record| {
        let sessions = record["_sessions"].as_object_mut().unwrap();
        let closed = sessions.values_mut().find(|state| state["indexInfo"]["closed"] != -1).unwrap();
        closed["_chains"] = json!({});
    });
    let report = report(&sample);
    assert_eq!(report.skipped, []);
    assert!(
        report.warnings.iter().any(|warning| warning.ends_with("could not be mended and were left out: 1")),
        "{:?}",
        report.warnings
    );
}

#[test]
fn other_records_that_are_no_good() {
    let mut sample = samples::newest();
    let private = sample.value("pre-key-4.json")["private"].clone();
    let mut pair = sample.value("pre-key-5.json");
    pair["private"] = private;
    sample.set("pre-key-5.json", &pair);
    sample.set("pre-key-99999999999.json", &pair);
    sample.set("sender-key-1@g.us--5511--0.json", &json!([{ "senderKeyId": 1 }]));
    sample.set("sender-key-1@g.us--x--0.json", &json!([]));
    sample.set("app-state-sync-key-AAAA.json", &json!({ "keyData": "AAAA" }));
    sample.set("app-state-sync-version-regular.json", &json!({ "version": 1, "hash": "AAAA" }));
    sample.set("lid-mapping-5511.json", &json!("x"));
    sample.set("tctoken-5@lid.json", &json!({}));
    sample.set("identity-key-5.0.json", &json!("AAAA"));
    let report = report(&sample);
    let mut names: Vec<&str> = report.skipped.iter().map(|skipped| skipped.record.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "app-state-sync-key-AAAA.json",
            "app-state-sync-version-regular.json",
            "identity-key-5.0.json",
            "lid-mapping-5511.json",
            "pre-key-5.json",
            "pre-key-99999999999.json",
            "sender-key-1@g.us--5511--0.json",
            "sender-key-1@g.us--x--0.json",
            "tctoken-5@lid.json",
        ]
    );
    for (kind, count) in &report.found {
        assert!(*count >= report.imported[kind], "{kind}");
    }
}
