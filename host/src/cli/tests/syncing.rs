//! `omni instances sync`: it waits, says how it went, and says so to programs.

use super::*;

fn job(status: &str, done: u64) -> Value {
    json!({
        "id": ID, "type": "messages", "status": status, "config": {"depth": "7d"}, "errorMessage": "the network says no",
        "progress": {"fetched": 300, "stored": 250, "duplicates": 50, "chats": 4, "chatsDone": done, "chatsFailed": 1,
            "failures": [{"chatId": "c7", "code": "forbidden", "message": "not allowed"}]},
        "createdAt": "2026-01-01T00:00:00Z",
    })
}

#[test]
fn a_sync_is_waited_for_and_how_it_went_is_the_exit_code() {
    let until = |status: &str| {
        omni()
            .answers(202, json!({ "data": job("pending", 0) }))
            .answers(200, json!({ "data": job("running", 2) }))
            .answers(200, json!({ "data": job(status, 4) }))
    };
    let ran = until("completed").run(&["instances", "sync", "support", "--chat", "c1", "--depth", "7d"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let look = format!("GET /instances/support/sync/{ID}");
    assert_eq!(ran.lines(), ["POST /instances/support/sync", look.as_str(), look.as_str()]);
    assert_eq!(ran.asked[0].body, json!({"type": "messages", "chatId": "c1", "depth": "7d"}));
    assert!(ran.out.contains("4 of 4, 1 failed") && ran.out.contains("c7: not allowed"), "{}", ran.out);
    let ran = until("failed").run(&["instances", "sync", "support", "--since", "2026-01-01T00:00:00Z", "--json"]);
    assert_eq!((ran.code, ran.json()["status"].as_str()), (1, Some("failed")));
    assert!(ran.err.contains("the sync failed: the network says no"), "{}", ran.err);
    assert_eq!(until("cancelled").run(&["instances", "sync", "support"]).code, 1);
}

#[test]
fn a_sync_can_be_left_alone_listed_and_cancelled() {
    let ran = omni().answers(202, json!({ "data": job("pending", 0) })).run(&[
        "instances",
        "sync",
        "support",
        "--detach",
        "--json",
    ]);
    assert_eq!((ran.code, ran.asked.len(), ran.json()), (0, 1, job("pending", 0)));
    assert!(ran.err.contains("omni instances sync support --list"), "{}", ran.err);
    let ran =
        omni().answers(200, items(&json!([job("running", 2)]), None)).run(&["instances", "sync", "support", "--list"]);
    assert_eq!((ran.code, ran.lines()), (0, vec!["GET /instances/support/sync?limit=50"]), "{}", ran.err);
    assert!(ran.out.contains("running") && ran.out.contains("2 of 4, 1 failed"), "{}", ran.out);
    let ran = omni().answers(200, json!({"success": true, "message": "the sync is cancelled"})).run(&[
        "instances",
        "sync",
        "support",
        "--cancel",
        ID,
    ]);
    assert_eq!(ran.lines(), [format!("DELETE /instances/support/sync/{ID}")]);
    assert!(ran.code == 0 && ran.err.contains("cancelled"), "{ran:?}");
    for words in
        [&["--list", "--detach"][..], &["--depth", "2d"], &["--depth", "7d", "--since", "2026-01-01T00:00:00Z"]]
    {
        let ran = omni().run(&[&["instances", "sync", "support"], words].concat());
        assert_eq!((ran.code, ran.asked.len()), (2, 0), "{words:?}: {}", ran.err);
    }
}
