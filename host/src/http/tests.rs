//! The API suite: the real router over a real store, asked in process. Rows come in as a channel would bring them.

mod access;
mod audit;
mod documents;
mod errors;
mod letters;
mod lists;
mod live;
mod once;
mod people;
mod replays;
mod serving;
mod sync;
mod system;

use super::{App, HttpOptions, router};
use crate::Host;
use crate::bus::{Accept, AcceptEvent, Bus, BusOptions};
use crate::clock::{Clock, ManualClock};
use crate::config::{Isolation, Trust};
use crate::data::DataFolder;
use crate::dead_letters::DeadLetters;
use crate::egress::Egress;
use crate::erasure::Erasures;
use crate::history::{Gaps, History};
use crate::inbound;
use crate::instances::{InstanceOptions, Instances, config};
use crate::media::MediaStore;
use crate::outbound::{Outbound, OutboundOptions};
use crate::plugins::host_api::Shared;
use crate::plugins::http_calls::HttpCalls;
use crate::plugins::trust::TrustOptions;
use crate::plugins::{PluginOptions, Plugins};
use crate::replay::Replays;
use crate::store::Json;
use crate::store::Time;
use crate::store::api_keys::{self, NewApiKey};
use crate::store::instances::{InstanceRow, insert};
use crate::store::tests::both::{Database, both};
use crate::webhooks::{WebhookOptions, Webhooks};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use omni_channel_sdk::chat::{Chat, ChatKind, User};
use omni_channel_sdk::content::Content;
use omni_channel_sdk::event::{Event, Message};
use serde_json::{Value, json};
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;
use uuid::Uuid;

/// 2026-01-01, in milliseconds.
const START: i64 = 1_767_225_600_000;
/// The key of the configuration.
const KEY: &str = "omni_sk_0123456789abcdefghijklmnopqrstuv";
/// What must never be in an answer.
const TOKEN: &str = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw";

/// A host without plugins, with its API.
struct World {
    place: Database,
    host: Host,
    manual: ManualClock,
    router: Router,
    shutdown: CancellationToken,
    instance: Uuid,
    other: Uuid,
    sealer: crate::secrets::Sealer,
    _data: DataFolder,
    _ends: DropGuard,
}

/// An answer, read whole.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
    text: String,
}

impl World {
    async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    async fn open_with(change: impl FnOnce(&mut HttpOptions)) -> Self {
        // Another test may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let place = Database::new().await;
        let dir = &place.dir;
        let database = dir.path().join("omni.db");
        let data = DataFolder::open(dir.path(), Some(&database)).expect("a data folder");
        let (clock, manual) = Clock::manual(Time::from_millis(START));
        let store = place.open().await;
        let bus = Bus::open(store.clone(), clock.clone(), BusOptions::default()).await.expect("the bus opens");
        let (storage, inbound) =
            inbound::open(store.clone(), bus.clone(), clock.clone()).await.expect("the consumer opens");
        let media = MediaStore::new(data.media(), store.clone(), clock.clone(), 0).expect("a media folder");
        let http = HttpCalls::new(media.clone(), Egress::default()).expect("an HTTP client");
        let plugins = Plugins::new(PluginOptions {
            folder: dir.path().to_owned(),
            bundled: None,
            cache: dir.path().join("cache"),
            isolation: Isolation::Auto,
            limits: crate::plugins::Limits::default(),
            grants: dir.path().join("plugins.grants"),
            frame_within: std::time::Duration::from_secs(5),
            sandbox: crate::plugins::wasm::Sandbox::new(dir.path().join("cache")),
            channels: std::collections::BTreeMap::new(),
            trust: TrustOptions {
                level: Trust::Any,
                keys: Vec::new(),
                lock: dir.path().join("plugins.lock"),
                versions: dir.path().join("plugin-versions.toml"),
            },
            program: dir.path().join("omni"),
            clock: clock.clone(),
        });
        let sealer = data.sealer.clone();
        let shared = Shared {
            clock: clock.clone(),
            store: store.clone(),
            bus: bus.clone(),
            media: media.clone(),
            sealer: sealer.clone(),
            http,
            echoes: Default::default(),
            gaps: Gaps::new(store.clone(), clock.clone()),
        };
        let (echoes, gaps) = (shared.echoes.clone(), shared.gaps.clone());
        let instances = Instances::new(shared, plugins.clone(), InstanceOptions::default());
        let outbound = Outbound::new(store.clone(), instances.clone(), clock.clone(), OutboundOptions::default());
        let webhooks =
            Webhooks::new(store.clone(), clock.clone(), Egress::default(), sealer.clone(), WebhookOptions::default())
                .expect("an HTTP client");
        let replays = Replays::new(store.clone(), clock.clone(), webhooks.clone());
        let dead_letters =
            DeadLetters::new(store.clone(), clock.clone(), bus.clone(), inbound.clone(), webhooks.clone());
        let erasures = Erasures::new(store.clone(), clock.clone(), inbound.clone(), media.clone());
        let history = History::new(crate::history::Parts {
            store: store.clone(),
            clock: clock.clone(),
            bus: bus.clone(),
            instances: instances.clone(),
            echoes,
            gaps,
        });
        let auth_state = crate::auth_state::AuthState::new(
            place.dir.path(),
            store.clone(),
            clock.clone(),
            sealer.clone(),
            instances.clone(),
        )
        .expect("a folder");
        let host = Host {
            clock,
            store,
            bus,
            inbound,
            plugins,
            instances,
            outbound,
            media,
            webhooks,
            replays,
            dead_letters,
            erasures,
            history,
            auth_state,
            hosts: crate::hosts::Hosts::alone(),
        };
        let shutdown = CancellationToken::new();
        tokio::spawn(storage.run(shutdown.clone()));
        let mut options = HttpOptions::new(host.store.feed().newest(), shutdown.clone());
        options.api_key = Some(KEY.to_owned());
        let (audit, writer) = crate::audit::open(host.store.clone(), host.clock.clone());
        tokio::spawn(writer.run(shutdown.clone()));
        options.audit = Some(audit);
        change(&mut options);
        let router = router(host.clone(), options);
        let instance = add_instance(&host, &sealer, "main").await;
        let other = add_instance(&host, &sealer, "other").await;
        let ends = shutdown.clone().drop_guard();
        Self { place, host, manual, router, shutdown, instance, other, sealer, _data: data, _ends: ends }
    }

    /// A stored key with these scopes.
    async fn key(&self, scopes: &[&str], instances: Option<Vec<Uuid>>) -> String {
        let new = NewApiKey {
            name: "test".into(),
            scopes: scopes.iter().map(ToString::to_string).collect(),
            instance_ids: instances,
            ..NewApiKey::default()
        };
        api_keys::create(&self.host.store, &new, self.host.clock.now()).await.expect("a key").1
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("the router answers");
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 1 << 24).await.expect("a body");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(!text.contains(TOKEN), "a secret is in an answer: {text}");
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, body, text }
    }

    async fn ask(&self, key: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.send(request(key, method, path, body)).await
    }

    /// A `GET` with the key of the configuration.
    async fn get(&self, path: &str) -> Answer {
        self.ask(KEY, Method::GET, path, None).await
    }

    /// A `POST` of JSON with the key of the configuration.
    async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(KEY, Method::POST, path, Some(body)).await
    }

    /// Events as a channel brings them, applied.
    async fn apply(&self, instance_id: Uuid, events: Vec<Event>) {
        let events = events.iter().map(AcceptEvent::from).collect();
        let accept =
            Accept { instance_id, channel: "test".into(), events, writes: Vec::new(), plugin_id: "test".into() };
        self.host.bus.accept(accept).await.expect("accepted");
        self.host.inbound.settle().await;
    }
}

fn request(key: &str, method: Method, path: &str, body: Option<Value>) -> Request<Body> {
    let path = if path.starts_with("/api") || path == "/health" { path.to_owned() } else { format!("/api/v2{path}") };
    let builder = Request::builder().method(method).uri(path);
    let builder = if key.is_empty() { builder } else { builder.header("x-api-key", key) };
    let request = match body {
        Some(body) => builder.header("content-type", "application/json").body(Body::from(body.to_string())),
        None => builder.body(Body::empty()),
    };
    request.expect("a request")
}

async fn add_instance(host: &Host, sealer: &crate::secrets::Sealer, name: &str) -> Uuid {
    let now = host.clock.now();
    let id = host.store.new_id(now);
    let mut secrets = serde_json::Map::new();
    secrets.insert("token".into(), TOKEN.into());
    let row = InstanceRow {
        id,
        name: name.to_owned(),
        channel: "test".to_owned(),
        private_fields: Json(Vec::new()),
        config: Json(serde_json::Map::new()),
        secrets: config::seal(sealer, id, &secrets),
        is_active: false,
        is_default: false,
        isolation: None,
        proxy: None,
        proxy_granted: false,
        state: Json(json!({"state": "disconnected", "reason": "never connected", "transient": false})),
        state_since: now,
        profile_name: None,
        profile_pic_url: None,
        owner_identifier: None,
        state_version: 0,
        last_message_at: None,
        created_at: now,
        updated_at: now,
    };
    let mut tx = host.store.begin().await.expect("begins");
    insert(&mut tx, &row).await.expect("an instance");
    tx.commit().await.expect("commits");
    id
}

/// Somebody writes into a group.
fn said(chat: &str, id: &str, who: &str, at: i64) -> Event {
    let message = Message::new(id, User::new(who).named(who), Content::text(format!("words of {id}")));
    Event::new(Chat::new(chat, ChatKind::Group).named(chat), at, message)
}

/// Every id of a list, page by page.
async fn walk(world: &World, key: &str, path: &str, limit: u32) -> Vec<String> {
    let join = if path.contains('?') { '&' } else { '?' };
    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = world.ask(key, Method::GET, &format!("{path}{join}limit={limit}{cursor}"), None).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {}", page.text);
        let items = page.body["items"].as_array().expect("items").clone();
        assert!(items.len() <= limit as usize, "{path} gives more than asked for");
        ids.extend(items.iter().map(|item| item["id"].as_str().expect("an id").to_owned()));
        match page.body["meta"]["cursor"].as_str() {
            Some(next) => {
                assert_eq!(page.body["meta"]["hasMore"], true);
                assert_eq!(items.len(), limit as usize, "a page that goes on is full");
                cursor = format!("&cursor={next}");
            }
            None => {
                assert_eq!(page.body["meta"]["hasMore"], false);
                return ids;
            }
        }
    }
}

/// How long a test waits for what should come at once.
const SOON: Duration = Duration::from_secs(20);
