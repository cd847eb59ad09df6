//! The host itself: its key is changed while it works, and its log is turned up and down.

use super::*;
use crate::log::LogLevel;
use crate::rotation::{GRACE, Rotation};
use std::sync::{Arc, Mutex};

async fn the_log_is_turned_up_and_down() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    let log = LogLevel::new("info", move |filter| {
        ear.lock().expect("no panic").push(filter.to_string());
        Ok(())
    });
    let world = World::open_with(|options| options.log = Some(log)).await;
    assert_eq!(world.get("/system/log-level").await.body["data"]["level"], "info");
    let set = world.ask(KEY, Method::PUT, "/system/log-level", Some(json!({"level": "debug"}))).await;
    assert_eq!((set.status, &set.body["data"]["level"]), (StatusCode::OK, &json!("debug")), "{}", set.text);
    let bad = world.ask(KEY, Method::PUT, "/system/log-level", Some(json!({"level": "loud"}))).await;
    assert_eq!((bad.status, &bad.body["error"]["details"]["field"]), (StatusCode::BAD_REQUEST, &json!("level")));
    assert_eq!(world.get("/system/log-level").await.body["data"]["level"], "debug");
    assert_eq!(*heard.lock().expect("no panic"), ["debug"]);
}

async fn the_key_is_changed_while_everything_works() {
    let world = World::open().await;
    // The sealer of this folder, as its host has it.
    let made = Rotation::new(
        world.place.dir.path().to_owned(),
        world.host.store.clone(),
        world.sealer.clone(),
        world.host.clock.clone(),
    );
    let mut options = HttpOptions::new(world.host.store.feed().newest(), world.shutdown.clone());
    options.api_key = Some(KEY.to_owned());
    options.rotation = Some(made);
    let world = World { router: router(world.host.clone(), options), ..world };
    let before = world.get("/system/key").await.body["data"].clone();
    assert_eq!((&before["underWay"], &before["remaining"]), (&json!(false), &json!(0)));
    let begun = world.post("/system/key/rotate", Value::Null).await;
    assert_eq!(begun.status, StatusCode::ACCEPTED, "{}", begun.text);
    assert_ne!(begun.body["data"]["keyId"], before["keyId"]);
    let again = world.post("/system/key/rotate", Value::Null).await;
    assert_eq!(again.status, StatusCode::CONFLICT, "{}", again.text);
    // An instance's secrets are read and written meanwhile.
    let shown = world.get("/instances/main").await;
    assert_eq!(shown.body["data"]["hasToken"], true);
    let done = tokio::time::timeout(SOON, async {
        loop {
            world.manual.advance(GRACE);
            let now = world.get("/system/key").await.body["data"].clone();
            if now["underWay"] == false {
                return now;
            }
        }
    });
    let done = done.await.expect("it is finished");
    assert_eq!((&done["keyId"], &done["remaining"]), (&begun.body["data"]["keyId"], &json!(0)));
    let shown = world.get("/instances/main").await;
    assert_eq!(shown.body["data"]["hasToken"], true, "{}", shown.text);
}

both!(the_log_is_turned_up_and_down, the_key_is_changed_while_everything_works,);
