//! The store suite: what an accepted event does, through the bus and the storage consumer, to the rows that people read.
//!
//! Every test opens its store with [`World::open`] and runs on each database, by [`both`].

mod ahead;
mod auth_imports;
pub(crate) mod both;
mod bus;
mod early;
mod echo;
mod erasures;
mod every_bus;
mod hosts;
mod kv;
mod ledger;
mod moving;
mod outbox;
mod people;
mod recovery;
mod retention;
mod schema;
mod semantics;
mod sync_jobs;
mod webhooks;

use super::{Run, Store, Time, on};
use crate::bus::{Accept, AcceptError, AcceptEvent, Accepted, Bus, BusOptions};
use crate::clock::{Clock, ManualClock};
use crate::inbound::{self, Inbound};
use both::{Database, both, every_bus};
use omni_channel_sdk::chat::{Chat, ChatKind, Sender, User};
use omni_channel_sdk::content::Content;
use omni_channel_sdk::event::{Event, EventBody, Message};
use sqlx::AssertSqlSafe;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// 2026-01-01, in milliseconds.
const START: i64 = 1_767_225_600_000;

/// A store with its bus and its storage consumer.
struct World {
    place: Database,
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
        let place = Database::new().await;
        let (clock, manual) = Clock::manual(Time::from_millis(START));
        let store = place.open().await;
        let instance = add_instance(&store, "main", "test").await;
        Self::start(place, store, clock, manual, instance, options).await
    }

    async fn start(
        place: Database,
        store: Store,
        clock: Clock,
        manual: ManualClock,
        instance: Uuid,
        options: BusOptions,
    ) -> Self {
        let bus = place.open_bus(store.clone(), clock.clone(), options).await;
        let (storage, inbound) =
            inbound::open(store.clone(), bus.clone(), clock.clone()).await.expect("the consumer opens");
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(storage.run(shutdown.clone()));
        Self { place, store, clock, manual, bus, inbound, shutdown, task, instance }
    }

    /// Ends everything and begins again on the same database.
    async fn reopen(self) -> Self {
        self.shutdown.cancel();
        self.task.await.expect("the consumer ends well");
        self.bus.close().await;
        drop(self.bus);
        self.store.close().await;
        let store = self.place.open().await;
        Self::start(self.place, store, self.clock, self.manual, self.instance, BusOptions::default()).await
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

    async fn time(&self, sql: &'static str) -> Time {
        let mut tx = self.store.read().await.expect("reads");
        on!(&mut tx, conn => sqlx::query_scalar(sql).fetch_one(conn).await).expect(sql)
    }

    async fn text(&self, sql: &'static str) -> Option<String> {
        let text = self.as_text(sql);
        let mut tx = self.store.read().await.expect("reads");
        on!(&mut tx, conn => sqlx::query_scalar(AssertSqlSafe(text)).fetch_one(conn).await).expect(sql)
    }

    async fn texts(&self, sql: &'static str) -> Vec<String> {
        let text = self.as_text(sql);
        let mut tx = self.store.read().await.expect("reads");
        on!(&mut tx, conn => sqlx::query_scalar(AssertSqlSafe(text)).fetch_all(conn).await).expect(sql)
    }

    /// Reads numbers and JSON as text, which they are on SQLite already.
    fn as_text(&self, sql: &'static str) -> String {
        self.place.pick(sql.to_owned(), format!("select cast(x as text) from ({sql}) t (x)"))
    }

    /// The text for the database that this is on.
    fn pick(&self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        self.place.pick(sqlite, postgres)
    }

    /// Types of the domain events, in order.
    async fn events(&self) -> Vec<String> {
        self.texts("select event_type from omni_events order by seq").await
    }

    async fn execute(&self, sql: &'static str) {
        let mut tx = self.store.begin().await.expect("begins");
        on!(&mut tx, conn => sqlx::query(sql).run(conn).await).expect(sql);
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
        "insert into instances (id, name, channel, state_since, created_at, updated_at) values ($1, $2, $3, $4, $4, $4)",
    )
    .bind(id)
    .bind(name)
    .bind(channel)
    .bind(Time(0))
    .run(conn)
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
    on!(&mut tx, conn => sqlx::query(query).bind(id).bind(delivery_status).run(conn).await).expect("a status");
    tx.commit().await.expect("commits");
}

/// Makes the database refuse messages that say `poison`.
pub(crate) async fn poison(store: &Store) {
    let mut tx = store.begin().await.expect("begins");
    let steps: &[&'static str] = tx.pick(
        &["create trigger poison before insert on messages when new.text_content = 'poison'
           begin select raise(abort, 'poisoned'); end"],
        &[
            "create function poison() returns trigger language plpgsql as $$ begin raise exception 'poisoned'; end $$",
            "create trigger poison before insert on messages for each row when (new.text_content = 'poison')
             execute function poison()",
        ],
    );
    for step in steps {
        on!(&mut tx, conn => sqlx::query(*step).run(conn).await).expect(step);
    }
    tx.commit().await.expect("commits");
}

/// Takes that back.
pub(crate) async fn heal(store: &Store) {
    let mut tx = store.begin().await.expect("begins");
    let step = tx.pick("drop trigger poison", "drop function poison cascade");
    on!(&mut tx, conn => sqlx::query(step).run(conn).await).expect(step);
    tx.commit().await.expect("commits");
}
