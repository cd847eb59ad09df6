//! `Idempotency-Key`, around a route that counts how often it is carried out.

use super::super::auth::KeyRing;
use super::super::idempotency::{self, SendId};
use super::super::{Shared, intake, limits};
use super::*;
use axum::Json;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::post;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// A route that sends, and how often it did.
struct Sender {
    router: Router,
    sent: Arc<AtomicUsize>,
    began: Arc<Notify>,
    go: Arc<Notify>,
    world: World,
}

impl Sender {
    async fn open() -> Self {
        let world = World::open().await;
        let options = HttpOptions::new(world.host.store.feed().newest(), CancellationToken::new());
        let shared = Shared {
            keys: KeyRing::new(Some(KEY)),
            options,
            rates: limits::Rates::default(),
            room: intake::Room::new(1 << 20),
            turns: idempotency::Turns::default(),
            started: world.host.clock.now(),
        };
        let caller = shared.keys.caller(&world.host.store, KEY, world.host.clock.now()).await.expect("a caller");
        let app = App { host: world.host.clone(), shared: Arc::new(shared) };
        let (sent, began, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (count, waits, gate) = (Arc::clone(&sent), Arc::clone(&began), Arc::clone(&go));
        let handler = move |SendId(id): SendId, Json(body): Json<Value>| async move {
            if body["wait"] == true {
                waits.notify_one();
                gate.notified().await;
            }
            let number = count.fetch_add(1, Ordering::SeqCst) + 1;
            let status = StatusCode::from_u16(body["status"].as_u64().unwrap_or(201) as u16).expect("a status");
            (status, Json(json!({"number": number, "sendId": id}))).into_response()
        };
        let router = Router::new()
            .route("/send", post(handler))
            .route_layer(from_fn_with_state(app.clone(), idempotency::once))
            .layer(axum::Extension(caller))
            .with_state(app);
        Self { router, sent, began, go, world }
    }

    async fn send(&self, key: Option<&str>, body: Value) -> (StatusCode, bool, Value) {
        let mut request = Request::builder().method("POST").uri("/send").header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let request = request.body(Body::from(body.to_string())).expect("a request");
        let response = self.router.clone().oneshot(request).await.expect("an answer");
        let replayed = response.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
        let status = response.status();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        (status, replayed, serde_json::from_slice(&bytes).expect("JSON"))
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }
}

async fn a_repeated_request_is_carried_out_once_for_a_day() {
    let sender = Sender::open().await;
    let first = sender.send(Some("k"), json!({"text": "a"})).await;
    assert_eq!((first.0, first.1), (StatusCode::CREATED, false));
    let again = sender.send(Some("k"), json!({"text": "a"})).await;
    assert_eq!((again.0, again.1, &again.2), (StatusCode::CREATED, true, &first.2));
    assert_eq!(sender.sent(), 1);
    let other = sender.send(Some("k"), json!({"text": "b"})).await;
    assert_eq!(other.0, StatusCode::CONFLICT);
    let second = sender.send(Some("k2"), json!({"text": "a"})).await;
    assert_eq!(second.2["number"], 2);
    assert_eq!(sender.send(None, json!({"text": "a"})).await.2["number"], 3);
    sender.world.manual.advance(Duration::from_secs(24 * 3_600 + 1));
    let next_day = sender.send(Some("k"), json!({"text": "b"})).await;
    assert_eq!((next_day.1, &next_day.2["number"]), (false, &json!(4)));
    // The outbox remembers send ids for longer than a day: the same words are another message by then.
    let again = sender.send(Some("k2"), json!({"text": "a"})).await;
    assert_eq!((again.1, &again.2["number"]), (false, &json!(5)));
    let (then, now) = (&second.2["sendId"], &again.2["sendId"]);
    assert!(then.is_string() && now.is_string() && then != now, "{then} {now}");
}

async fn a_twin_waits_for_the_first() {
    let sender = Sender::open().await;
    let body = json!({"text": "a", "wait": true});
    let twins = async { tokio::join!(sender.send(Some("k"), body.clone()), sender.send(Some("k"), body.clone())) };
    let release = async { sender.go.notify_one() };
    let ((one, two), ()) = tokio::join!(twins, release);
    assert_eq!(sender.sent(), 1);
    assert_eq!(one.2, two.2);
    assert!(one.1 != two.1, "one of them is a replay");
}

async fn what_was_refused_may_be_corrected_and_what_failed_is_not_repeated() {
    let sender = Sender::open().await;
    assert_eq!(sender.send(Some("k"), json!({"status": 400})).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(sender.send(Some("k"), json!({"status": 201})).await.0, StatusCode::CREATED);
    assert_eq!(sender.send(Some("failed"), json!({"status": 502})).await.0, StatusCode::BAD_GATEWAY);
    let again = sender.send(Some("failed"), json!({"status": 502})).await;
    assert_eq!((again.0, again.1), (StatusCode::BAD_GATEWAY, true));
    assert_eq!(sender.sent(), 3);
    // What may have happened all the same is the same send when it comes again, and cannot become another.
    let unsure = sender.send(Some("unsure"), json!({"status": 503})).await;
    let again = sender.send(Some("unsure"), json!({"status": 503})).await;
    assert_eq!((unsure.0, again.0, again.1), (StatusCode::SERVICE_UNAVAILABLE, StatusCode::SERVICE_UNAVAILABLE, false));
    assert_eq!(unsure.2["sendId"], again.2["sendId"]);
    assert_eq!(sender.send(Some("unsure"), json!({"status": 201})).await.0, StatusCode::CONFLICT);
}

async fn what_was_interrupted_goes_on_under_the_same_send_id() {
    let sender = Sender::open().await;
    let body = json!({"text": "a", "wait": true});
    // Whoever asked goes away in the middle.
    tokio::select! {
        answer = sender.send(Some("k"), body.clone()) => panic!("nobody let it go on: {answer:?}"),
        () = sender.began.notified() => {}
    }
    sender.go.notify_one();
    let again = sender.send(Some("k"), body.clone()).await;
    assert_eq!((again.0, again.1), (StatusCode::CREATED, false));
    let fresh = Uuid::parse_str(again.2["sendId"].as_str().expect("an id")).expect("a UUID");
    assert!(!fresh.is_nil());
    assert_eq!(sender.send(Some("k"), body).await.2["sendId"], again.2["sendId"]);
}

both!(
    a_repeated_request_is_carried_out_once_for_a_day,
    a_twin_waits_for_the_first,
    what_was_refused_may_be_corrected_and_what_failed_is_not_repeated,
    what_was_interrupted_goes_on_under_the_same_send_id,
);
