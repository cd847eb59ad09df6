//! The store suite: what an accepted event does, through the bus and the storage consumer, to the rows that people read.
//!
//! Every test opens its store with [`World::open`], so that the suite can run on another database, too.

mod ahead;
mod bus;
mod early;
mod echo;
mod kv;
mod outbox;
mod people;
mod recovery;
mod retention;
mod semantics;
mod webhooks;

use super::{SqliteOptions, Store, Time, on};
use crate::bus::{Accept, AcceptError, AcceptEvent, Accepted, Bus, BusOptions};
use crate::clock::{Clock, ManualClock};
use crate::inbound::{self, Inbound};
use omni_channel_sdk::chat::{Chat, ChatKind, Sender, User};
use omni_channel_sdk::content::Content;
use omni_channel_sdk::event::{Event, EventBody, Message};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// 2026-01-01, in milliseconds.
const START: i64 = 1_767_225_600_000;

/// A store with its bus and its storage consumer.
struct World {
    dir: tempfile::TempDir,
    store: Store,
    clock: Clock,
    manual: ManualClock,
    bus: Bus,
    inbound: Inbound,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    instance: Uuid,
}

impl World {
    async fn open() -> Self {
        Self::open_with(BusOptions::default()).await
    }

    async fn open_with(options: BusOptions) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (clock, manual) = Clock::manual(Time::from_millis(START));
        let store = Store::open_sqlite(&dir.path().join("omni.db"), SqliteOptions::default()).await.expect("opens");
        let instance = add_instance(&store, "main", "test").await;
        Self::start(dir, store, clock, manual, instance, options).await
    }

    async fn start(
        dir: tempfile::TempDir,
        store: Store,
        clock: Clock,
        manual: ManualClock,
        instance: Uuid,
        options: BusOptions,
    ) -> Self {
        let bus = Bus::open(store.clone(), clock.clone(), options).await.expect("the bus opens");
        let (storage, inbound) =
            inbound::open(store.clone(), bus.clone(), clock.clone()).await.expect("the consumer opens");
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(storage.run(shutdown.clone()));
        Self { dir, store, clock, manual, bus, inbound, shutdown, task, instance }
    }

    /// Ends everything and begins again on the same file.
    async fn reopen(self) -> Self {
        self.shutdown.cancel();
        self.task.await.expect("the consumer ends well");
        self.bus.close().await;
        self.store.close().await;
        let store =
            Store::open_sqlite(&self.dir.path().join("omni.db"), SqliteOptions::default()).await.expect("opens again");
        Self::start(self.dir, store, self.clock, self.manual, self.instance, BusOptions::default()).await
    }

    async fn accept(&self, events: impl IntoIterator<Item = Event>) -> Result<Accepted, AcceptError> {
        self.accept_for(self.instance, events).await
    }

    async fn accept_for(
        &self,
        instance_id: Uuid,
        events: impl IntoIterator<Item = Event>,
    ) -> Result<Accepted, AcceptError> {
        let events = events.into_iter().map(|event| AcceptEvent::from(&event)).collect();
        self.bus.accept(call(instance_id, events)).await
    }

    /// Accepts and waits until it is applied.
    async fn apply(&self, events: impl IntoIterator<Item = Event>) -> Accepted {
        let accepted = self.accept(events).await.expect("accepted");
        self.inbound.settle().await;
        accepted
    }

    async fn number(&self, sql: &'static str) -> i64 {
        let mut tx = self.store.read().await.expect("reads");
        on!(&mut tx, conn => sqlx::query_scalar(sql).fetch_one(conn).await).expect(sql)
    }

    async fn text(&self, sql: &'static str) -> Option<String> {
        let mut tx = self.store.read().await.expect("reads");
        on!(&mut tx, conn => sqlx::query_scalar(sql).fetch_one(conn).await).expect(sql)
    }

    async fn texts(&self, sql: &'static str) -> Vec<String> {
        let mut tx = self.store.read().await.expect("reads");
        on!(&mut tx, conn => sqlx::query_scalar(sql).fetch_all(conn).await).expect(sql)
    }

    /// Types of the domain events, in order.
    async fn events(&self) -> Vec<String> {
        self.texts("select event_type from omni_events order by seq").await
    }

    async fn execute(&self, sql: &'static str) {
        let mut tx = self.store.begin().await.expect("begins");
        on!(&mut tx, conn => sqlx::query(sql).execute(conn).await).expect(sql);
        tx.commit().await.expect("commits");
    }
}

fn call(instance_id: Uuid, events: Vec<AcceptEvent>) -> Accept {
    Accept { instance_id, channel: "test".into(), events, writes: Vec::new(), plugin_id: "test".into() }
}

async fn add_instance(store: &Store, name: &str, channel: &str) -> Uuid {
    let id = store.new_id(Time::from_millis(START));
    let mut tx = store.begin().await.expect("begins");
    on!(&mut tx, conn => sqlx::query(
        "insert into instances (id, name, channel, state_since, created_at, updated_at) values ($1, $2, $3, 0, 0, 0)",
    )
    .bind(id)
    .bind(name)
    .bind(channel)
    .execute(conn)
    .await)
    .expect("an instance");
    tx.commit().await.expect("commits");
    id
}

fn group() -> Chat {
    Chat::new("g", ChatKind::Group).named("Group")
}

fn ana() -> User {
    User::new("ana").named("Ana")
}

fn me() -> Sender {
    Sender { user: User::new("me"), is_from_me: true, on_behalf_of: None }
}

fn event(body: impl Into<EventBody>) -> Event {
    Event::new(group(), START, body)
}

fn said(id: &str, text: &str) -> Event {
    event(Message::new(id, ana(), Content::text(text)))
}

/// A message of our own that needs a stored file, and how far its delivery is.
pub(crate) async fn needs(store: &Store, instance: Uuid, file: Uuid, delivery_status: &str) {
    use super::outbox::{self, NewMessageRow};
    use omni_channel_sdk::content::Media;
    let at = Time::from_millis(START);
    let mut tx = store.begin().await.expect("begins");
    let (chat_id, id) = (tx.new_id(at), tx.new_id(at));
    outbox::insert_chat(&mut tx, chat_id, instance, &id.to_string(), "test", at).await.expect("a chat");
    let media = Media { blob: Some(omni_channel_sdk::ids::BlobId::new(file)), ..Media::default() };
    let row =
        NewMessageRow { id, chat_id, client_id: id.to_string(), content: Content::Image(media), reply_to: None, at };
    outbox::insert_message(&mut tx, &row).await.expect("a message");
    let query = "update messages set delivery_status = $2 where id = $1";
    on!(&mut tx, conn => sqlx::query(query).bind(id).bind(delivery_status).execute(conn).await).expect("a status");
    tx.commit().await.expect("commits");
}
