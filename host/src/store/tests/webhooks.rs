//! What waits for webhooks: in order within a chat, settled singly, and gone when it is old.

use super::*;
use crate::store::dead_letters::NewDeadLetter;
use crate::store::webhook_queue::{self as queue, Attempt, Due, Queued, Verdict};
use crate::store::webhooks::{self as rows, WebhookRow};

async fn webhook(world: &World) -> Uuid {
    let now = world.clock.now();
    let row = WebhookRow {
        event_types: vec!["message.*".into()],
        instance_ids: Some(vec![world.instance]),
        secrets: vec![1],
        enabled: true,
        ..WebhookRow::new(world.store.new_id(now), "crm".into(), "https://example.org/".into(), now)
    };
    let mut tx = world.store.begin().await.expect("begins");
    rows::insert(&mut tx, &row, now).await.expect("a webhook");
    let stored = rows::get(&mut tx, row.id).await.expect("reads").expect("it is there");
    assert_eq!((stored.instance_ids, stored.event_types), (row.instance_ids, row.event_types));
    tx.commit().await.expect("commits");
    row.id
}

fn queued(seq: i64, chat: &str) -> Queued {
    Queued {
        event_seq: seq,
        event_id: Uuid::from_u128(u128::from(seq.unsigned_abs())),
        event_type: "message.received".into(),
        instance_id: Uuid::nil(),
        chat_key: chat.into(),
        payload: None,
    }
}

async fn due(world: &World, webhook: Uuid) -> Vec<Due> {
    let mut tx = world.store.read().await.expect("reads");
    queue::due(&mut tx, webhook, world.clock.now(), 100).await.expect("reads")
}

async fn settle(world: &World, webhook: Uuid, due: &Due, verdict: Verdict) {
    let now = world.clock.now();
    let attempt =
        Attempt { at: now, duration_ms: 3, status_code: Some(500), error: Some("answered 500".into()), answer: None };
    let mut tx = world.store.begin().await.expect("begins");
    queue::settle(&mut tx, webhook, due, &attempt, &verdict, now).await.expect("settles");
    tx.commit().await.expect("commits");
}

fn places(due: &[Due]) -> Vec<i64> {
    due.iter().map(|due| due.event_seq).collect()
}

async fn the_first_of_a_chat_is_due_and_the_others_wait_behind_it() {
    let world = World::open().await;
    let id = webhook(&world).await;
    let now = world.clock.now();
    let mut tx = world.store.begin().await.expect("begins");
    queue::enqueue(&mut tx, id, &[queued(1, "a"), queued(2, "a"), queued(3, "b")], now).await.expect("queues");
    queue::enqueue(&mut tx, id, &[queued(4, "a"), queued(5, "c")], now).await.expect("queues");
    tx.commit().await.expect("commits");
    let first = due(&world, id).await;
    assert_eq!(places(&first), [1, 3, 5]);
    settle(&world, id, &first[0], Verdict::Again(now.plus_millis(5_000))).await;
    settle(&world, id, &first[1], Verdict::Delivered).await;
    assert_eq!(places(&due(&world, id).await), [5], "its chat waits, the others go on");
    let mut tx = world.store.read().await.expect("reads");
    assert_eq!(queue::next_due(&mut tx, id, now).await.expect("reads"), Some(now.plus_millis(5_000)));
    assert_eq!(queue::waiting(&mut tx, id, now, (9, 9)).await.expect("reads"), (1, 4));
    drop(tx);
    world.manual.advance(std::time::Duration::from_secs(5));
    let again = due(&world, id).await;
    assert_eq!((places(&again), again[1].attempts), (vec![5, 1], 1));
    let letter = NewDeadLetter {
        event_id: again[1].event_id,
        event_type: "message.received".into(),
        consumer: rows::consumer(id).into(),
        instance_id: None,
        accepted_at: now,
        payload: b"{}".to_vec(),
        error: "given up".into(),
        next_auto_retry_at: None,
    };
    settle(&world, id, &again[1], Verdict::Failed(Box::new(letter))).await;
    assert_eq!(world.texts("select consumer from dead_letter_events").await, [rows::consumer(id)]);
    let next = due(&world, id).await;
    assert_eq!(places(&next), [5, 2], "the next of the chat comes forward");
    let mut tx = world.store.begin().await.expect("begins");
    queue::expire(&mut tx, id, &next[1], world.clock.now()).await.expect("expires");
    assert_eq!(queue::delivered(&mut tx, id, &[1, 2, 3, 4]).await.expect("reads"), [3].into());
    tx.commit().await.expect("commits");
    assert_eq!(places(&due(&world, id).await), [5, 4]);
}

async fn what_was_settled_long_ago_is_deleted_with_its_attempts() {
    let world = World::open().await;
    let id = webhook(&world).await;
    let now = world.clock.now();
    let mut tx = world.store.begin().await.expect("begins");
    queue::enqueue(&mut tx, id, &[queued(1, "a"), queued(2, "a")], now).await.expect("queues");
    tx.commit().await.expect("commits");
    settle(&world, id, &due(&world, id).await[0], Verdict::Delivered).await;
    assert_eq!(world.number("select count(*) from webhook_attempts").await, 1);
    world.manual.advance(std::time::Duration::from_secs(15 * 86_400));
    let retention = crate::config::Retention { webhook_days: 14, ..crate::config::Retention::default() };
    crate::retention::sweep(&world.store, &retention, world.clock.now()).await.expect("swept");
    assert_eq!(world.number("select count(*) from webhook_attempts").await, 0);
    assert_eq!(world.texts("select event_seq || '' from webhook_deliveries").await, ["2"], "what waits stays");
    let mut tx = world.store.begin().await.expect("begins");
    assert!(rows::delete(&mut tx, id).await.expect("deletes"));
    tx.commit().await.expect("commits");
    assert_eq!(world.number("select count(*) from webhook_deliveries").await, 0);
    assert_eq!(world.number("select count(*) from consumer_offsets where stream_name = 'events'").await, 0);
}

both!(the_first_of_a_chat_is_due_and_the_others_wait_behind_it, what_was_settled_long_ago_is_deleted_with_its_attempts,);
