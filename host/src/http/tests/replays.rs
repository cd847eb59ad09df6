//! Replays: who may ask for what, and what becomes of one when the host ends.

use super::*;
use crate::store::replays::{self as rows, ReplayRow};
use crate::webhooks::NewWebhook;

/// A webhook that is not sent to, so that what is queued for it stays.
async fn webhook(world: &World) -> Uuid {
    let new = NewWebhook {
        name: "crm".into(),
        url: "http://127.0.0.1:9/".into(),
        event_types: vec!["message.*".into()],
        by_operator: true,
        ..NewWebhook::default()
    };
    world.host.webhooks.create(new).await.expect("a webhook").0.id
}

async fn until_ended(world: &World, id: Uuid) -> Value {
    let asked = async {
        loop {
            let now = world.get(&format!("/event-ops/replay/{id}")).await.body["data"].clone();
            if now["status"] != "running" {
                return now;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, asked).await.expect("it ends in time")
}

async fn one_that_ran_when_the_host_ended_goes_on_where_it_was() {
    let world = World::open().await;
    let id = webhook(&world).await;
    let events = (0..9).map(|number| said("g", &number.to_string(), "ana", START)).collect();
    world.apply(world.instance, events).await;
    let all = world.get("/events?eventType=message.received").await.body["items"].as_array().expect("items").clone();
    let fourth = all[5]["seq"].as_i64().expect("a number");
    let newest = all[0]["seq"].as_i64().expect("a number");
    let row = ReplayRow {
        id: Uuid::now_v7(),
        consumer: crate::store::webhooks::consumer(id),
        options: Json(json!({})),
        instance_ids: None,
        status: "running".into(),
        position: fourth,
        end_seq: newest,
        total: newest,
        matched: 4,
        replayed: 4,
        skipped: 0,
        error: None,
        created_by: None,
        started_at: world.host.clock.now(),
        completed_at: None,
    };
    let mut tx = world.host.store.begin().await.expect("begins");
    rows::insert(&mut tx, &row).await.expect("a replay");
    rows::progress(&mut tx, &row).await.expect("as far as it came");
    tx.commit().await.expect("commits");
    assert_eq!(world.host.replays.start().await.expect("starts"), 1);
    let ended = until_ended(&world, row.id).await;
    assert_eq!((&ended["status"], &ended["progress"]["replayed"]), (&json!("completed"), &json!(9)), "{ended}");
    let queued = world.get(&format!("/webhooks/{id}/deliveries")).await.body["items"].clone();
    let places: Vec<i64> =
        queued.as_array().expect("items").iter().rev().filter_map(|item| item["eventSeq"].as_i64()).collect();
    assert_eq!(places, (fourth + 1..=newest).collect::<Vec<_>>(), "what came after, and nothing twice");
}

async fn one_whose_consumer_is_deleted_fails_and_says_so() {
    let world = World::open().await;
    let id = webhook(&world).await;
    let mut row: ReplayRow = {
        let begun = world.post("/event-ops/replay", json!({"consumer": "crm", "since": "2020-01-01T00:00:00Z"})).await;
        assert_eq!(begun.status, StatusCode::ACCEPTED, "{}", begun.text);
        let id = begun.body["data"]["id"].as_str().expect("an id").parse().expect("a UUID");
        until_ended(&world, id).await;
        let mut tx = world.host.store.read().await.expect("reads");
        rows::get(&mut tx, id).await.expect("reads").expect("it is there")
    };
    world.host.webhooks.delete(id).await.expect("deleted");
    row.id = Uuid::now_v7();
    row.status = "running".into();
    let mut tx = world.host.store.begin().await.expect("begins");
    rows::insert(&mut tx, &row).await.expect("a replay");
    tx.commit().await.expect("commits");
    world.host.replays.start().await.expect("starts");
    let ended = until_ended(&world, row.id).await;
    assert_eq!((&ended["status"], &ended["error"]), (&json!("failed"), &json!("its consumer was deleted")));
}

async fn a_key_for_some_instances_replays_their_events_only() {
    let world = World::open().await;
    let id = webhook(&world).await;
    world.apply(world.instance, vec![said("g", "mine", "ana", START)]).await;
    world.apply(world.other, vec![said("g", "theirs", "ana", START)]).await;
    let key = world.key(&["events:*", "webhooks:*"], Some(vec![world.instance])).await;
    let body = json!({"consumer": id, "since": "2020-01-01T00:00:00Z"});
    let refused = world.ask(&key, Method::POST, "/event-ops/replay", Some(body.clone())).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND, "a webhook for everything is not theirs: {}", refused.text);
    let narrowed = json!({"instanceIds": [world.instance]});
    world.ask(KEY, Method::PATCH, &format!("/webhooks/{id}"), Some(narrowed)).await;
    let begun = world.ask(&key, Method::POST, "/event-ops/replay", Some(body)).await;
    assert_eq!(begun.status, StatusCode::ACCEPTED, "{}", begun.text);
    let replay = begun.body["data"]["id"].as_str().expect("an id").parse().expect("a UUID");
    assert_eq!(until_ended(&world, replay).await["progress"]["replayed"], 1);
    let other = world.key(&["events:*"], Some(vec![world.other])).await;
    let hidden = world.ask(&other, Method::GET, &format!("/event-ops/replay/{replay}"), None).await;
    assert_eq!(hidden.status, StatusCode::NOT_FOUND);
    for (body, field) in [
        (json!({"since": "2020-01-01T00:00:00Z"}), "consumer"),
        (json!({"consumer": id}), "since"),
        (json!({"consumer": id, "since": "2020-01-02T00:00:00Z", "until": "2020-01-01T00:00:00Z"}), "until"),
        (json!({"consumer": id, "since": "2020-01-01T00:00:00Z", "limit": 0}), "limit"),
        (json!({"consumer": id, "since": "2020-01-01T00:00:00Z", "speedMultiplier": 2}), "speedMultiplier"),
        (json!({"consumer": id, "since": "2020-01-01T00:00:00Z", "eventTypes": ["a*"]}), "eventTypes"),
    ] {
        let refused = world.post("/event-ops/replay", body).await;
        assert_eq!(refused.body["error"]["details"]["field"], field, "{}", refused.text);
    }
}

both!(
    one_that_ran_when_the_host_ended_goes_on_where_it_was,
    one_whose_consumer_is_deleted_fails_and_says_so,
    a_key_for_some_instances_replays_their_events_only,
);
