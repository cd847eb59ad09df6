//! Jobs that fetch messages: what is refused, who sees them, and cancelling. That they fetch is in `it::history`.

use super::*;
use crate::history::Wanted;
use crate::store::sync_jobs::{self as rows, OLDER, SyncJobRow};

/// A job that waits: nothing runs here.
async fn job(world: &World, instance: Uuid) -> Uuid {
    let now = world.host.clock.now();
    let wanted = Wanted { chat_id: Some("g".into()), ..Wanted::default() };
    let row = SyncJobRow {
        id: world.host.store.new_id(now),
        instance_id: instance,
        channel: "test".into(),
        kind: OLDER.into(),
        status: "pending".into(),
        config: Json(serde_json::to_value(wanted).expect("plain JSON")),
        progress: Json(json!({})),
        error_message: None,
        created_at: now,
        started_at: None,
        completed_at: None,
    };
    let mut tx = world.host.store.begin().await.expect("begins");
    rows::insert(&mut tx, &row).await.expect("a job");
    tx.commit().await.expect("commits");
    row.id
}

async fn what_cannot_be_fetched_is_refused_before_a_job_is_made() {
    let world = World::open().await;
    let ours = world.get("/chats").await;
    assert_eq!(ours.body["items"], json!([]));
    for (path, body, field) in [
        ("sync", json!({}), "type"),
        ("sync", json!({"type": "contacts"}), "type"),
        ("sync", json!({"type": "messages", "depth": "2d"}), "depth"),
        ("sync", json!({"type": "messages", "depth": "7d", "since": "2025-01-01T00:00:00Z"}), "depth"),
        ("sync", json!({"type": "messages", "chatId": ""}), "chatId"),
        (
            "sync",
            json!({"type": "messages", "since": "2025-01-02T00:00:00Z", "until": "2025-01-01T00:00:00Z"}),
            "until",
        ),
        ("resync", json!({}), "since"),
        ("resync", json!({"since": "2025-01-02T00:00:00Z", "until": "2025-01-01T00:00:00Z"}), "until"),
    ] {
        let refused = world.post(&format!("/instances/main/{path}"), body.clone()).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{body}: {}", refused.text);
        assert_eq!(refused.body["error"]["details"]["field"], field, "{body}: {}", refused.text);
    }
    let unknown = world.post("/instances/main/sync", json!({"type": "messages", "chatId": Uuid::nil()})).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND, "{}", unknown.text);
    // Its channel has no plugin here.
    for (path, body) in [("sync", json!({"type": "messages"})), ("resync", json!({"since": "2025-01-01T00:00:00Z"}))] {
        let refused = world.post(&format!("/instances/main/{path}"), body).await;
        assert_eq!(refused.body["error"]["code"], "CHANNEL_NOT_CONNECTED", "{}", refused.text);
    }
    assert_eq!(world.get("/instances/main/sync").await.body["items"], json!([]));
}

async fn jobs_are_shown_and_cancelled_by_whoever_reaches_their_instance() {
    let world = World::open().await;
    let (mine, theirs) = (job(&world, world.instance).await, job(&world, world.other).await);
    assert_eq!(walk(&world, KEY, "/instances/main/sync", 10).await, [mine.to_string()]);
    let shown = world.get(&format!("/instances/main/sync/{mine}")).await.body["data"].clone();
    assert_eq!((&shown["status"], &shown["jobId"]), (&json!("pending"), &json!(mine)));
    assert_eq!((&shown["config"], &shown["progress"]["fetched"]), (&json!({"chatId": "g"}), &json!(0)));
    let wrong = world.get(&format!("/instances/main/sync/{theirs}")).await;
    assert_eq!(wrong.status, StatusCode::NOT_FOUND, "{}", wrong.text);
    let key = world.key(&["instances:*"], Some(vec![world.other])).await;
    let path = format!("/instances/main/sync/{mine}");
    assert_eq!(world.ask(&key, Method::DELETE, &path, None).await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.ask(KEY, Method::DELETE, &path, None).await.status, StatusCode::OK);
    let again = world.ask(KEY, Method::DELETE, &path, None).await;
    assert_eq!(again.status, StatusCode::CONFLICT, "{}", again.text);
    assert!(again.text.contains("it is cancelled"), "{}", again.text);
    let ended = world.get(&path).await.body["data"].clone();
    assert_eq!((&ended["status"], &ended["completedAt"]), (&json!("cancelled"), &ended["createdAt"]));
}

both!(
    what_cannot_be_fetched_is_refused_before_a_job_is_made,
    jobs_are_shown_and_cancelled_by_whoever_reaches_their_instance,
);
