//! What hosts hand each other, and what they have in common: large bodies, typing, and the folder of files.

use super::Cluster;
use crate::harness::{PATIENCE, http_client};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_than_a_message_of_nats_goes_to_the_host_that_has_the_instance_and_back() {
    // So each host has to ask the other one about one of them.
    let Some((cluster, instances)) = Cluster::shared("faulty", 2).await else { return };
    for (number, (id, _)) in instances.iter().enumerate() {
        for at in [0, 1] {
            // No two pieces of it are the same.
            let words: String = (0..700_000).map(|word| format!("{word:06} ")).collect();
            let mode = format!("{number} {at} {words}");
            assert!(mode.len() > 4 << 20);
            let change = json!({"config": {"mode": mode}});
            let (status, answer) = cluster.host(at).patch(&format!("/instances/{id}"), &change).await.unwrap();
            assert_eq!(status, 200, "{}", answer["error"]);
            assert!(answer["data"]["config"]["mode"].as_str() == Some(&mode), "what comes back is what was said");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_is_seen_on_the_stream_of_every_host() {
    let Some((cluster, instances)) = Cluster::shared("faulty", 2).await else { return };
    let client = http_client(PATIENCE);
    for at in [0, 1] {
        let mut stream = cluster.host(at).follow("presence.*").await;
        for (id, address) in &instances {
            // Whoever types does so until it is seen, as people do: what was typed before somebody listens is lost.
            let mut tick = tokio::time::interval(Duration::from_millis(50));
            let mut seen = String::new();
            let mut times = 0;
            let event = loop {
                let whole = |line: &&str| line.contains(id) && line.ends_with('\n');
                if let Some(line) = seen.split_inclusive('\n').find(whole) {
                    break serde_json::from_str::<Value>(line.strip_prefix("data: ").unwrap()).unwrap();
                }
                tokio::select! {
                    _ = tick.tick() => {
                        let typing = json!({
                            "at": 1, "chat": {"id": "room", "kind": "direct"},
                            "body": {"type": "typing", "sender": {"id": "ann"}, "activity": "typing"},
                        });
                        let body = json!({"emit": [typing]});
                        // An instance whose host was too slow is just going to another one, and cannot be typed to.
                        if let Ok(sent) = client.post(format!("http://{address}/")).json(&body).send().await
                            && sent.status() != reqwest::StatusCode::SERVICE_UNAVAILABLE
                        {
                            assert!(sent.status().is_success(), "{}", sent.text().await.unwrap());
                        }
                        times += 1;
                        assert!(times < 1_000, "host {at} never shows who types on {id}: {seen}");
                    }
                    piece = stream.chunk() => {
                        seen.push_str(std::str::from_utf8(&piece.unwrap().expect("the stream goes on")).unwrap());
                    }
                }
            };
            assert_eq!(event["type"], "presence.typing");
            assert_eq!(event["payload"]["chatId"], "room");
            assert_eq!(event["payload"]["from"], "ann");
            assert!(!seen.contains("id: "), "it is not kept: {seen}");
        }
    }
    let kept = cluster.host(0).get("/events").await.unwrap();
    assert!(!kept.to_string().contains("presence."), "{kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_another_folder_of_files_does_not_start_beside_others() {
    let Some(mut cluster) = Cluster::new() else { return };
    cluster.add().await;
    let own = cluster.root.path().join("own");
    let stranger = cluster.prepare(own.clone());
    let said = cluster.refusal(stranger).await;
    for words in [&*own.to_string_lossy(), "`data.media_dir`", "mount the same folder"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let hosts = cluster.host(0).get("/hosts").await.unwrap();
    assert_eq!(hosts["data"].as_array().map(Vec::len), Some(1), "it is none of them: {hosts}");
    // The same folder by another name is the same.
    std::os::unix::fs::symlink(cluster.root.path().join("media"), cluster.root.path().join("mounted")).unwrap();
    let mounted = cluster.root.path().join("mounted");
    let same = cluster.prepare(mounted);
    cluster.start(same).await;
    cluster.stop(same).await;
    // Alone it may have moved the folder; then it is the first one whose folder is not the others' any more.
    cluster.stop(0).await;
    cluster.start(stranger).await;
    let said = cluster.refusal(0).await;
    assert!(said.contains("mount the same folder") && said.contains("is not theirs"), "{said}");
}
