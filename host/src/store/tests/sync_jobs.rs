//! Jobs that fetch messages: which is next, how one goes from state to state, from where it looks; and what becomes of what
//! they bring.

use super::*;
use crate::store::Json;
use crate::store::entry::Origin;
use crate::store::sync_jobs::{self as rows, Behind, MISSED, OLDER, Place, SyncJobRow};
use omni_channel_sdk::event::{Reaction, ReactionChange};
use serde_json::json;

async fn job(world: &World, instance: Uuid, kind: &str) -> SyncJobRow {
    let now = world.clock.now();
    let row = SyncJobRow {
        id: world.store.new_id(now),
        instance_id: instance,
        channel: "test".into(),
        kind: kind.into(),
        status: "pending".into(),
        config: Json(json!({"chatId": "g"})),
        progress: Json(json!({})),
        error_message: None,
        created_at: now,
        started_at: None,
        completed_at: None,
    };
    let mut tx = world.store.begin().await.expect("begins");
    rows::insert(&mut tx, &row).await.expect("a job");
    tx.commit().await.expect("commits");
    row
}

async fn start(world: &World, id: Uuid) -> bool {
    let mut tx = world.store.begin().await.expect("begins");
    let started = rows::start(&mut tx, id, &json!({"plan": []}), &json!({"chats": 2}), world.clock.now()).await;
    tx.commit().await.expect("commits");
    started.expect("writes")
}

async fn end(world: &World, id: Uuid, status: &str, why: Option<&str>) -> bool {
    let mut tx = world.store.begin().await.expect("begins");
    let ended = rows::end(&mut tx, id, status, why, world.clock.now()).await.expect("writes");
    tx.commit().await.expect("commits");
    ended
}

async fn next(world: &World, instances: &[Uuid]) -> Vec<Uuid> {
    let found = rows::unfinished(&world.store, instances).await.expect("reads");
    assert!(found.iter().all(|job| instances.contains(&job.instance_id)));
    found.into_iter().map(|job| job.id).collect()
}

async fn a_job_waits_runs_and_ends_once() {
    let world = World::open().await;
    let row = job(&world, world.instance, OLDER).await;
    assert_eq!(rows::get(&world.store, row.id).await.expect("reads"), Some(row.clone()));
    assert!(start(&world, row.id).await);
    assert!(!start(&world, row.id).await, "it runs already");
    let mut tx = world.store.begin().await.expect("begins");
    assert!(rows::advance(&mut tx, row.id, &json!({"pages": 1})).await.expect("writes"));
    tx.commit().await.expect("commits");
    world.manual.advance(std::time::Duration::from_secs(9));
    assert!(end(&world, row.id, "failed", Some("no more")).await);
    assert!(!end(&world, row.id, "cancelled", None).await, "it has ended");
    let mut tx = world.store.begin().await.expect("begins");
    assert!(!rows::advance(&mut tx, row.id, &json!({"pages": 2})).await.expect("writes"));
    tx.commit().await.expect("commits");
    let ended = rows::get(&world.store, row.id).await.expect("reads").expect("it is there");
    let expected = SyncJobRow {
        status: "failed".into(),
        config: Json(json!({"plan": []})),
        progress: Json(json!({"pages": 1})),
        error_message: Some("no more".into()),
        started_at: Some(row.created_at),
        completed_at: Some(world.clock.now()),
        ..row
    };
    assert_eq!(ended, expected);
}

async fn what_was_missed_goes_first_and_then_what_has_begun() {
    let world = World::open().await;
    let other = add_instance(&world.store, "other", "test").await;
    let older = job(&world, world.instance, OLDER).await.id;
    let begun = job(&world, world.instance, OLDER).await.id;
    let theirs = job(&world, other, OLDER).await.id;
    let missed = job(&world, world.instance, MISSED).await;
    let ended = job(&world, world.instance, MISSED).await.id;
    assert!(start(&world, begun).await);
    assert!(end(&world, ended, "cancelled", None).await);
    assert_eq!(next(&world, &[world.instance]).await, [missed.id, begun, older]);
    assert_eq!(next(&world, &[other]).await, [theirs]);
    assert!(next(&world, &[]).await.is_empty());
    let since = rows::missed_since(&world.store, world.instance).await.expect("reads");
    assert_eq!(since, Some(missed.created_at));
    assert_eq!(rows::missed_since(&world.store, other).await.expect("reads"), None);
    let mut tx = world.store.begin().await.expect("begins");
    assert_eq!(rows::waiting(&mut tx, world.instance, MISSED).await.expect("reads"), (1, 2));
    rows::delete(&mut tx, missed.id).await.expect("deletes");
    tx.commit().await.expect("commits");
    assert_eq!(next(&world, &[world.instance]).await, [begun, older]);
}

async fn a_list_is_paged_the_newest_first_and_goes_with_its_instance() {
    let world = World::open().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.insert(0, job(&world, world.instance, OLDER).await.id);
        world.manual.advance(std::time::Duration::from_secs(1));
    }
    let (mut found, mut from) = (Vec::new(), None);
    loop {
        let page = rows::list(&world.store, world.instance, from, 2).await.expect("lists");
        found.extend(page.items.into_iter().map(|row| row.id));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(found, ids);
    world.execute("delete from instances").await;
    assert_eq!(world.number("select count(*) from sync_jobs").await, 0);
}

async fn ended_jobs_go_when_they_are_old_and_others_do_not() {
    let world = World::open().await;
    let (old, waits) = (job(&world, world.instance, OLDER).await.id, job(&world, world.instance, OLDER).await.id);
    assert!(end(&world, old, "completed", None).await);
    let day = std::time::Duration::from_secs(86_400);
    world.manual.advance(day * 91);
    let new = job(&world, world.instance, OLDER).await.id;
    assert!(end(&world, new, "completed", None).await);
    crate::retention::sweep(&world.store, &crate::config::Retention::default(), world.clock.now())
        .await
        .expect("swept");
    let left = rows::list(&world.store, world.instance, None, 10).await.expect("lists");
    assert_eq!(left.items.into_iter().map(|row| row.id).collect::<Vec<_>>(), [new, waits]);
}

fn written(chat: &str, id: &str, at: i64) -> Event {
    let chat = Chat::new(chat, ChatKind::Group);
    Event::new(chat, START + at, Message::new(id, ana(), Content::text(id)))
}

fn place(chat: &str, anchor: &str) -> Place {
    Place { chat: chat.into(), anchor: Some(anchor.into()) }
}

async fn it_is_looked_from_the_edge_of_what_is_stored() {
    let world = World::open().await;
    world.apply([written("a", "a2", 20), written("a", "a1", 10), written("b", "b1", 30)]).await;
    world.manual.advance(std::time::Duration::from_secs(60));
    let gap = world.clock.now();
    world.manual.advance(std::time::Duration::from_secs(1));
    world.apply([written("a", "a9", 61_000), written("c", "c9", 62_000)]).await;
    let oldest = |chat| rows::oldest_known(&world.store, world.instance, chat, 10);
    let all = [place("c", "c9"), place("a", "a1"), place("b", "b1")];
    assert_eq!(oldest(None).await.expect("reads"), all);
    assert_eq!(oldest(Some("b")).await.expect("reads"), [place("b", "b1")]);
    assert_eq!(oldest(Some("x")).await.expect("reads"), []);
    let two = rows::oldest_known(&world.store, world.instance, None, 2).await.expect("reads");
    assert_eq!(two, all[..2], "those with the newest activity");
    let ever = Time::from_millis(i64::MAX);
    let newest = |active: i64, received_before, written_before| {
        let active_since = Time::from_millis(START + active);
        rows::newest_known(&world.store, world.instance, Behind { active_since, received_before, written_before }, 10)
    };
    let all = [place("c", "c9"), place("a", "a9"), place("b", "b1")];
    assert_eq!(newest(0, ever, ever).await.expect("reads"), all);
    // What came after the gap does not hide it, and a chat that began behind it has none.
    assert_eq!(newest(0, gap, ever).await.expect("reads"), [place("a", "a2"), place("b", "b1")]);
    assert_eq!(newest(0, ever, Time::from_millis(START + 20)).await.expect("reads"), [place("a", "a1")]);
    assert_eq!(newest(40, gap, ever).await.expect("reads"), [place("a", "a2")], "only chats that were active");
}

async fn tell(world: &World, origin: Origin, events: &[Event]) {
    let events = events.iter().map(|event| AcceptEvent(origin.mark(&AcceptEvent::from(event).0))).collect();
    world.bus.accept(call(world.instance, events)).await.expect("accepted");
    world.inbound.settle().await;
}

async fn history_is_stored_and_is_no_news_and_what_was_missed_is() {
    let world = World::open().await;
    let react = |id: &str| {
        let reaction = Reaction {
            target: id.into(),
            sender: Some(ana().into()),
            emojis: vec!["👍".into()],
            revision: 1,
            change: ReactionChange::Set,
            counts: Vec::new(),
        };
        Event::new(Chat::new("g", ChatKind::Group), START + 5, reaction)
    };
    world.apply([written("g", "5", 50)]).await;
    let mine = Event::new(Chat::new("g", ChatKind::Group), START + 30, Message::new("3", me(), Content::text("3")));
    tell(&world, Origin::History, &[written("g", "2", 20), react("2"), mine, written("g", "5", 50)]).await;
    tell(&world, Origin::Missed, &[written("g", "6", 60), react("6")]).await;
    let expected = ["message.received", "message.synced", "message.synced", "message.received", "reaction.received"];
    assert_eq!(world.events().await, expected);
    let rows = "select external_id || ' ' || source from messages order by platform_timestamp";
    assert_eq!(world.texts(rows).await, ["2 sync", "3 sync", "5 realtime", "6 sync"]);
    assert_eq!(world.number("select count(*) from messages where reactions is not null").await, 2);
    assert_eq!(
        world.number("select unread_count from chats").await,
        2,
        "of the one that came and the one that was missed"
    );
    assert_eq!(world.number("select message_count from chats").await, 4);
    assert_eq!(world.text("select last_message_preview from chats").await.as_deref(), Some("6"));
}

async fn history_that_cannot_be_stored_is_history_when_it_is_tried_again() {
    let world = World::open().await;
    poison(&world.store).await;
    let bad = Event::new(Chat::new("g", ChatKind::Group), START, Message::new("1", ana(), Content::text("poison")));
    tell(&world, Origin::History, &[bad]).await;
    assert_eq!(world.texts("select event_type from dead_letter_events").await, ["message.synced"]);
    heal(&world.store).await;
    let mut tx = world.store.read().await.expect("reads");
    let query = "select id from dead_letter_events";
    let id: Uuid = on!(&mut tx, conn => sqlx::query_scalar(query).fetch_one(conn).await).expect("a letter");
    let letter = crate::store::dead_letters::get(&mut tx, id).await.expect("reads").expect("it is there");
    drop(tx);
    world.bus.retry(&letter).await.expect("goes back");
    world.inbound.settle().await;
    assert_eq!(world.events().await, ["message.synced"]);
    assert_eq!(world.number("select unread_count from chats").await, 0);
}

both!(
    a_job_waits_runs_and_ends_once,
    what_was_missed_goes_first_and_then_what_has_begun,
    a_list_is_paged_the_newest_first_and_goes_with_its_instance,
    ended_jobs_go_when_they_are_old_and_others_do_not,
    it_is_looked_from_the_edge_of_what_is_stored,
);
every_bus!(
    history_is_stored_and_is_no_news_and_what_was_missed_is,
    history_that_cannot_be_stored_is_history_when_it_is_tried_again,
);
