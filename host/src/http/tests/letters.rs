//! Dead letters: tried again by people, and by the host itself.

use super::*;
use crate::store::{Run, on};

/// An event that the database refuses, in the dead letters; its letter's path.
async fn poisoned(world: &World) -> String {
    crate::store::tests::poison(&world.host.store).await;
    let mut event = said("g", "bad", "ana", START);
    if let omni_channel_sdk::event::EventBody::Message(message) = &mut event.body {
        message.content = Content::text("poison");
    }
    world.apply(world.instance, vec![event]).await;
    let letters = world.get("/dead-letters?consumer=storage").await.body;
    format!("/dead-letters/{}", letters["items"][0]["id"].as_str().expect("a letter"))
}

async fn execute(world: &World, sql: &'static str) {
    let mut tx = world.host.store.begin().await.expect("begins");
    on!(&mut tx, conn => sqlx::query(sql).run(conn).await).expect(sql);
    tx.commit().await.expect("commits");
}

async fn heal(world: &World) {
    crate::store::tests::heal(&world.host.store).await;
}

/// Asks until a letter is what was waited for.
async fn until(world: &World, letter: &str, seen: impl Fn(&Value) -> bool) -> Value {
    let asked = async {
        loop {
            let now = world.get(letter).await.body["data"].clone();
            if seen(&now) {
                return now;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, asked).await.expect("it becomes that in time")
}

async fn one_that_is_tried_again_says_how_that_went() {
    let world = World::open().await;
    let letter = poisoned(&world).await;
    let before = world.get(&letter).await.body["data"].clone();
    assert_eq!((&before["status"], &before["retryCount"]), (&json!("pending"), &json!(0)));
    assert_eq!(before["nextAutoRetryAt"], json!(world.host.clock.now().plus_millis(3_600_000)));
    let again = world.post(&format!("{letter}/retry"), json!({})).await;
    assert_eq!(again.body["success"], false, "{}", again.text);
    assert!(again.body["error"].as_str().expect("why").contains("poisoned"), "{}", again.text);
    assert_eq!(world.get(&letter).await.body["data"]["status"], "pending");
    heal(&world).await;
    let again = world.post(&format!("{letter}/retry"), json!({})).await;
    assert_eq!(again.body["success"], true, "{}", again.text);
    let after = world.get(&letter).await.body["data"].clone();
    assert_eq!((&after["status"], &after["resolvedBy"]), (&json!("resolved"), &json!("retry")));
    assert_eq!(after["retryCount"], 2);
    assert_eq!(world.get("/messages").await.body["items"][0]["externalId"], "bad");
    let settled = world.post(&format!("{letter}/retry"), json!({})).await;
    assert_eq!(settled.status, StatusCode::CONFLICT, "{}", settled.text);
}

async fn the_host_tries_again_by_itself_until_it_heals() {
    let world = World::open().await;
    let letter = poisoned(&world).await;
    tokio::spawn(world.host.dead_letters.clone().run(world.shutdown.clone()));
    world.manual.advance(Duration::from_secs(61 * 60));
    let once = until(&world, &letter, |letter| letter["retryCount"] == 1 && letter["status"] == "pending").await;
    assert_eq!(once["nextAutoRetryAt"], json!(world.host.clock.now().plus_millis(6 * 3_600_000)));
    heal(&world).await;
    world.manual.advance(Duration::from_secs(6 * 3_600 + 60));
    let healed = until(&world, &letter, |letter| letter["status"] == "resolved").await;
    assert_eq!(healed["retryCount"], 2);
    assert_eq!(world.get("/messages").await.body["items"][0]["externalId"], "bad");
}

async fn one_that_was_on_its_way_when_the_host_died_is_tried_again() {
    let world = World::open().await;
    let letter = poisoned(&world).await;
    heal(&world).await;
    // As it stands when the host dies between the two steps.
    execute(&world, "update dead_letter_events set status = 'retrying', next_auto_retry_at = null").await;
    tokio::spawn(world.host.dead_letters.clone().run(world.shutdown.clone()));
    until(&world, &letter, |letter| letter["status"] == "resolved").await;
    assert_eq!(world.get("/messages").await.body["items"].as_array().map(Vec::len), Some(1));
}

both!(
    one_that_is_tried_again_says_how_that_went,
    the_host_tries_again_by_itself_until_it_heals,
    one_that_was_on_its_way_when_the_host_died_is_tried_again,
);
