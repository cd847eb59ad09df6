use super::samples::NOW;
use super::store::take_over;
use crate::baileys::{Snapshot, convert};
use std::path::Path;

fn folder(dir: &Path) -> Snapshot {
    let mut s = Snapshot::new();
    for e in std::fs::read_dir(dir).unwrap() {
        let e = e.unwrap();
        s.add(&e.file_name().to_string_lossy(), std::fs::read(e.path()).unwrap());
    }
    s
}

#[tokio::test]
async fn out() {
    let Some(list) = std::env::var_os("BL_DIRS") else { return };
    for dir in list.to_string_lossy().split(' ').filter(|d| !d.is_empty()) {
        let snap = folder(Path::new(dir));
        let report = convert(&snap, NOW).unwrap().report;
        println!("{dir}: {}", serde_json::to_string_pretty(&report).unwrap());
        let account = take_over(&snap, NOW).await;
        let export = account.export().await;
        println!("warnings {:?}", export.warnings);
        let out = format!("/tmp/bl/exported/{}", Path::new(dir).file_name().unwrap().to_string_lossy());
        std::fs::remove_dir_all(&out).ok();
        std::fs::create_dir_all(&out).unwrap();
        for (n, b) in export.files {
            std::fs::write(format!("{out}/{n}"), b).unwrap();
        }
        // vectors
        let v = format!("{}.vectors.json", dir.trim_end_matches('/'));
        if let Ok(text) = std::fs::read_to_string(&v) {
            let v: serde_json::Value = serde_json::from_str(&text).unwrap();
            for c in v["cases"].as_array().unwrap() {
                let ct = hex::decode(c["ciphertext"].as_str().unwrap()).unwrap();
                let sender = c["sender"].as_str().unwrap();
                let r = match c["group"].as_str() {
                    Some(g) => account.decrypt_group(g, sender, &ct).await,
                    None => account.decrypt(sender, c["type"].as_str().unwrap(), &ct).await,
                };
                let ok =
                    r.as_ref().is_ok_and(|p| String::from_utf8_lossy(p).contains(c["plaintext"].as_str().unwrap()));
                println!("VECTOR {} {} {}", ok, c["kind"], c["plaintext"]);
                assert!(ok, "{r:?}");
            }
        }
    }
}
