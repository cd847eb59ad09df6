//! What is told: of a whole account, of credentials without keys, of credentials that are no good.

use super::samples::{self, INSTANCE, NOW, Sample};
use super::store::take_over;
use crate::baileys::{ImportError, Snapshot, convert, import};
use serde_json::{Value, json};
use wacore::store::in_memory::InMemoryBackend;
use wacore::store::traits::DeviceStore;

fn only_creds(sample: &Sample) -> Snapshot {
    let mut snapshot = Snapshot::new();
    snapshot.add("creds.json", sample.files["creds.json"].clone().into_bytes());
    snapshot
}

fn refused(change: impl Fn(&mut Value)) -> String {
    let mut sample = samples::newest();
    let mut creds = sample.value("creds.json");
    change(&mut creds);
    sample.set("creds.json", &creds);
    match convert(&sample.snapshot(), NOW) {
        Err(error @ ImportError::Creds { .. }) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was taken"),
    }
}

#[test]
fn a_whole_account() {
    let report = convert(&samples::newest().snapshot(), NOW).unwrap().report;
    insta::assert_json_snapshot!(report);
}

#[test]
fn an_evolution_with_credentials_in_its_table() {
    let report = convert(&samples::newest().evolution(), NOW).unwrap().report;
    assert_eq!(report.imported["appStateKeys"], 1);
    assert_eq!(report.imported["appStateVersions"], 0);
    assert!(report.found["appStateVersions"] > 0);
    assert!(report.warnings.iter().any(|warning| warning.contains("some Evolutions")));
    assert!(report.paired);
}

#[test]
fn credentials_without_keys() {
    let report = convert(&only_creds(&samples::newest()), NOW).unwrap().report;
    assert!(report.paired);
    let about: Vec<&str> = report.missing.iter().filter_map(|sentence| sentence.split(':').next()).collect();
    assert_eq!(about, ["sessions", "preKeys", "appStateKeys", "keys"]);
}

#[tokio::test]
async fn never_paired_is_reported_and_not_written() {
    for field in ["me", "account"] {
        let mut sample = samples::newest();
        let mut creds = sample.value("creds.json");
        creds.as_object_mut().unwrap().remove(field);
        // Set by a pairing with a code, and no proof of anything.
        creds["registered"] = json!(true);
        sample.set("creds.json", &creds);
        let backend = InMemoryBackend::new();
        let report = import(&sample.snapshot(), &backend, NOW).await.unwrap();
        assert!(!report.paired && report.missing[0].contains("never paired"));
        assert!(!backend.exists().await.unwrap());
    }
}

#[test]
fn credentials_that_are_no_good_say_what_is_wrong_where_and_what_to_do() {
    let said = refused(|creds| creds["noiseKey"]["private"] = creds["signedIdentityKey"]["private"].clone());
    assert_eq!(
        said,
        "the credentials in creds.json cannot be used: noiseKey: its public key is not that of its private key; hand over an \
         older copy that is whole, or log in anew"
    );
    assert!(refused(|creds| creds["signedPreKey"]["signature"]["data"] = json!("AA==")).contains("64 bytes"));
    assert!(
        refused(|creds| creds["signedPreKey"]["keyPair"] = creds["noiseKey"].clone())
            .contains("not by the identity key")
    );
    assert!(refused(|creds| creds["account"]["details"] = json!("AAAA")).contains("account: the signatures"));
    assert!(
        refused(|creds| creds["account"]["deviceSignature"] = creds["account"]["accountSignature"].clone())
            .contains("account")
    );
    assert!(refused(|creds| creds["registrationId"] = json!(1e300)).contains("registrationId"));
    assert!(refused(|creds| creds["advSecretKey"] = json!("AAAA")).contains("advSecretKey"));
    assert!(refused(|creds| creds["me"]["id"] = json!("5511999990001@s.whatsapp.net")).contains("linked device"));
    assert!(refused(|creds| creds["me"]["id"] = json!("x@g.us")).contains("me.id"));
    assert!(refused(|creds| *creds = json!([])).contains("not an object"));
}

#[test]
fn no_credentials() {
    let mut snapshot = Snapshot::new();
    snapshot.add("session-1.0.json", b"{}".to_vec());
    let said = convert(&snapshot, NOW).err().unwrap().to_string();
    assert!(said.contains("among the 1 records") && said.contains("hand over creds.json"), "{said}");
    snapshot.add("creds.json", Vec::new());
    assert!(convert(&snapshot, NOW).err().unwrap().to_string().contains("it is empty"));
}

#[test]
fn of_two_copies_the_newer_is_taken() {
    let sample = samples::newest();
    let mut old = sample.value("creds.json");
    old["nextPreKeyId"] = json!(31);
    old["me"]["name"] = json!("Old");
    let mut snapshot = sample.snapshot();
    snapshot.rows("Session", &[json!({ "sessionId": INSTANCE, "creds": old.to_string() })]);
    let report = convert(&snapshot, NOW).unwrap().report;
    assert_eq!(report.profile.unwrap().name.as_deref(), Some("Alice"));
    assert_eq!(report.found["creds"], 2);
    assert!(report.warnings.iter().any(|warning| warning.contains("are newer and were taken")));
}

#[test]
fn two_accounts_are_one_too_many() {
    let [one, two, _] = samples::all().try_into().ok().unwrap();
    let mut snapshot = one.snapshot();
    snapshot.add("old/creds.json", two.files["creds.json"].clone().into_bytes());
    assert!(matches!(convert(&snapshot, NOW), Err(ImportError::Several { .. })));
}

#[tokio::test]
async fn a_certificate_of_the_server_is_never_taken() {
    let mut sample = samples::newest();
    let mut creds = sample.value("creds.json");
    let cert = json!({ "key": vec![0; 32], "not_before": 0, "not_after": 9_999_999_999i64 });
    creds["server_cert_chain"] = json!({ "intermediate": cert, "leaf": cert });
    creds["serverCertChain"] = creds["server_cert_chain"].clone();
    sample.set("creds.json", &creds);
    assert!(take_over(&sample.snapshot(), NOW).await.device.server_cert_chain.is_none());
}

#[tokio::test]
async fn pre_keys_know_whether_the_server_has_them() {
    let mut sample = samples::newest();
    let mut creds = sample.value("creds.json");
    creds["firstUnuploadedPreKeyId"] = json!(5);
    creds["nextPreKeyId"] = json!(7);
    sample.set("creds.json", &creds);
    let account = take_over(&sample.snapshot(), NOW).await;
    let ids = |keys: &[(u32, bytes::Bytes)]| keys.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    assert_eq!(ids(&account.state().uploaded), [3, 4]);
    assert!(ids(&account.state().fresh).starts_with(&[5, 6]) || ids(&account.state().fresh).contains(&5));
    assert!(account.device.server_has_prekeys);
    // Keys up to 812 are there, so the next one is not 7.
    assert_eq!(account.device.next_pre_key_id, 813);
    assert!(account.converted.report.warnings.iter().any(|said| said.contains("2 of 4") && said.contains("(1-2)")));
}
