//! A person is erased: nothing of them is found anywhere, and nothing else is lost.

use super::*;
use crate::store::erasures::{self, Erasure};
use crate::store::{dead_letters, person_export, retention, webhook_queue};
use omni_channel_sdk::content::{Poll, PollOption};
use serde_json::{Value, json};

/// What nobody but Ana wrote, is called or was quoted with. Each is in the database before.
const HERS: &[&str] =
    &["quagga", "okapi", "numbat", "dugong", "axolotl", "Anastasia", "pangolin", "tapir", "narwhal", "+15550001234"];

fn wire(event: Value) -> Event {
    serde_json::from_value(event).expect("an event")
}

fn hers(chat: &str, kind: &str, id: &str, text: &str) -> Event {
    let ana = json!({"id": "ana-77", "name": "Anastasia", "phone": "+15550001234"});
    let name = if kind == "direct" { "Anastasia" } else { "Group" };
    wire(json!({
        "chat": {"id": chat, "kind": kind, "name": name}, "at": START, "raw": {"from": {"id": "ana-77"}, "body": text},
        "body": {"type": "message", "id": id, "sender": ana, "content": {"type": "text", "text": text}},
    }))
}

fn bobs(id: &str, text: &str, more: Value) -> Event {
    let mut event = json!({
        "chat": {"id": "g", "kind": "group", "name": "Group"}, "at": START + 1, "raw": {"body": text, "more": more},
        "body": {"type": "message", "id": id, "sender": {"id": "bob", "name": "Bob"},
          "content": {"type": "text", "text": text}},
    });
    event["body"].as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    wire(event)
}

fn reaction(user: &str, name: &str, target: &str) -> Event {
    wire(json!({
        "chat": {"id": "g", "kind": "group"}, "at": START + 2, "raw": {"who": name},
        "body": {"type": "reaction", "target": {"id": target}, "sender": {"id": user, "name": name},
          "emojis": [{"emoji": "👍"}], "revision": 1, "change": "set"},
    }))
}

fn edit(revision: i64, text: &str) -> Event {
    wire(json!({
        "chat": {"id": "g", "kind": "group"}, "at": START + 10 + revision, "raw": {"new": text},
        "body": {"type": "edit", "target": {"id": "a1"}, "revision": revision, "content": {"type": "text", "text": text},
          "sender": {"id": "ana-77", "name": "Anastasia"}},
    }))
}

/// Ana and Bob in a group, and Ana alone with us; more of hers than one step takes.
async fn lived_in() -> (World, Uuid) {
    let world = World::open().await;
    world.apply([hers("g", "group", "a1", "quagga"), hers("ana-77", "direct", "d1", "okapi")]).await;
    world.apply((0..450).map(|n| hers("g", "group", &format!("m{n}"), "numbat"))).await;
    world.apply([edit(1, "dugong"), edit(2, "axolotl")]).await;
    let quoting =
        json!({"replyTo": {"id": "a1", "quotedText": "axolotl", "sender": {"id": "ana-77", "name": "Anastasia"}}});
    world.apply([bobs("b1", "words of Bob", json!({})), bobs("b2", "an answer of Bob", quoting)]).await;
    world
        .apply([reaction("ana-77", "Anastasia", "b1"), reaction("bob", "Bob", "b1"), reaction("bob", "Bob", "a1")])
        .await;
    let poll = Poll {
        id: Some("p".into()),
        question: "a poll of Bob".into(),
        options: vec![PollOption { id: "0".into(), text: "yes".into(), ..PollOption::default() }],
        ..Poll::default()
    };
    world.apply([event(Message::new("p1", User::new("bob").named("Bob"), Content::Poll(poll)))]).await;
    world
        .apply([wire(json!({"chat": {"id": "g", "kind": "group"}, "at": START + 3,
            "body": {"type": "pollVote", "pollId": "p", "sender": {"id": "ana-77"}, "optionIds": ["0"]}}))])
        .await;
    // About a message that has not come.
    world.apply([reaction("ana-77", "Anastasia pangolin", "later"), reaction("bob", "Bob", "later")]).await;
    let person = world.person("Anastasia").await;
    let letter = |words: &str, user: &str| dead_letters::NewDeadLetter {
        event_id: world.store.new_id(world.clock.now()),
        event_type: "message.received".into(),
        consumer: "storage".into(),
        instance_id: Some(world.instance),
        accepted_at: world.clock.now(),
        payload: json!({"chat": {"id": "g"}, "body": {"sender": {"id": user}, "text": words}}).to_string().into(),
        error: "no".into(),
        next_auto_retry_at: None,
    };
    let envelope = |words: &str, person: Uuid| {
        json!({"type": "message.received", "payload": {"text": words}, "metadata": {"personId": person}}).to_string()
    };
    let queued = |payload: String| webhook_queue::Queued {
        event_seq: 1,
        event_id: Uuid::max(),
        event_type: "message.received".into(),
        instance_id: world.instance,
        chat_key: "x".into(),
        payload: Some(payload.into()),
    };
    let mut tx = world.store.begin().await.expect("begins");
    for letter in [letter("tapir", "ana-77"), letter("a letter of Bob", "bob")] {
        dead_letters::insert(&mut tx, &letter, world.clock.now()).await.expect("a letter");
    }
    let hook = tx.new_id(world.clock.now());
    on!(&mut tx, conn => sqlx::query(
        "insert into webhooks (id, name, url, secrets, created_at, updated_at) values ($1, 'w', 'https://w', $2, $3, $3)")
        .bind(hook).bind(vec![0u8]).bind(Time(0)).run(conn).await)
    .expect("a webhook");
    let rows = [queued(envelope("narwhal", person)), queued(envelope("an envelope of Bob", Uuid::max()))];
    webhook_queue::enqueue(&mut tx, hook, &rows, world.clock.now()).await.expect("queued");
    tx.commit().await.expect("commits");
    (world, person)
}

impl World {
    async fn person(&self, name: &str) -> Uuid {
        let mut tx = self.store.read().await.expect("reads");
        on!(&mut tx, conn => sqlx::query_scalar("select id from persons where display_name = $1")
            .bind(name).fetch_one(conn).await)
        .expect("a person")
    }

    /// Everything in every table, as text.
    async fn everything(&self) -> String {
        let mut all = String::new();
        for table in retention::tables(&self.store).await.expect("tables") {
            let mut tx = self.store.read().await.expect("reads");
            let columns: Vec<String> = on!(&mut tx, conn => sqlx::query_scalar(AssertSqlSafe(self.place.pick(
                format!("select name from pragma_table_info('{table}')"),
                format!("select cast(column_name as text) from information_schema.columns where table_name = '{table}'
                    and table_schema = current_schema()"),
            ))).fetch_all(conn).await)
            .expect("columns");
            for column in columns {
                let as_text = self.place.pick(
                    format!(
                        "select case when typeof({column}) = 'blob' then '\\x' || lower(hex({column}))
                        else coalesce(cast({column} as text), '') end from {table}"
                    ),
                    // A text that is bytes is written as what they say.
                    format!(
                        "select coalesce(case when pg_typeof({column}) = 'bytea'::regtype
                        then encode(({column}::text)::bytea, 'escape') else {column}::text end, '') from {table}"
                    ),
                );
                let values: Vec<String> =
                    on!(&mut tx, conn => sqlx::query_scalar(AssertSqlSafe(as_text)).fetch_all(conn).await)
                        .expect("text");
                for value in values {
                    let bytes = value.trim_start_matches('\\').strip_prefix('x').and_then(|hex| hex::decode(hex).ok());
                    all.push_str(&bytes.map_or(value.clone(), |bytes| String::from_utf8_lossy(&bytes).into_owned()));
                    all.push('\n');
                }
            }
        }
        all
    }

    async fn finish(&self, mut erasure: Erasure) -> Erasure {
        while erasure.completed_at.is_none() {
            erasures::step(&self.store, &mut erasure, self.clock.now()).await.expect("a step");
        }
        erasure
    }
}

async fn nothing_of_a_person_is_found_after_a_death_in_the_middle() {
    let (world, person) = lived_in().await;
    let before = world.everything().await;
    for word in HERS {
        assert!(before.contains(word), "{word} is in no table before");
    }
    let counts = "select count(*) || ' ' || (select sum(message_count) from chats) from messages";
    let shape = world.texts(counts).await;
    let mut erasure =
        erasures::begin(&world.store, person, "test", world.clock.now()).await.expect("begins").expect("is known");
    assert_eq!(world.number("select count(*) from persons where display_name = 'Anastasia'").await, 0);
    // Two steps are done, and the one after them not.
    for _ in 0..2 {
        erasures::step(&world.store, &mut erasure, world.clock.now()).await.expect("a step");
    }
    assert!((1..450).contains(&world.number("select count(*) from messages where status = 'erased'").await));
    let world = world.reopen().await;
    let running = erasures::running(&world.store).await.expect("reads");
    assert_eq!(
        running.iter().map(|one| (one.person_id, one.messages)).collect::<Vec<_>>(),
        [(person, erasure.messages)]
    );
    let done = world.finish(running.into_iter().next().expect("one")).await;
    assert_eq!(done.messages, 452);
    assert!(erasures::running(&world.store).await.expect("reads").is_empty());

    let after = world.everything().await;
    for word in HERS.iter().chain(&["\"ana-77\""]) {
        let place = after.lines().find(|line| line.contains(word));
        assert_eq!(place, None, "{word} is still there");
    }
    for kept in
        ["words of Bob", "an answer of Bob", "a poll of Bob", "a letter of Bob", "an envelope of Bob", "\"Bob\""]
    {
        assert!(after.contains(kept), "{kept} is lost");
    }
    assert_eq!(world.texts(counts).await, shape, "the chats keep their shape");
    assert_eq!(
        world.texts("select reaction_counts from messages where external_id in ('a1', 'b1')").await,
        [r#"{"👍":1}"#; 2]
    );
    assert_eq!(world.text("select poll_votes from messages where external_id = 'p1'").await, None);
    assert_eq!(world.number("select count(*) from early_events").await, 1, "Bob's word waits on");
    assert_eq!(world.events().await.last().map(String::as_str), Some("identity.erased"));
    let told = "select payload from omni_events where event_type = 'identity.erased'";
    assert!(world.text(told).await.expect("told").contains(&person.to_string()));
    world.the_file_holds_none_of(HERS).await;
}

async fn what_was_erased_does_not_come_back_and_who_writes_anew_is_new() {
    let (world, person) = lived_in().await;
    let erasure =
        erasures::begin(&world.store, person, "test", world.clock.now()).await.expect("begins").expect("is known");
    // While it runs: the network says it all again, changes it, quotes it.
    let again = || {
        let quote = json!({"replyTo": {"id": "a1", "quotedText": "axolotl", "sender": {"id": "ana-77"}}});
        [hers("g", "group", "a1", "quagga"), edit(3, "axolotl"), bobs("b9", "another answer", quote)]
    };
    let done = world.finish(erasure).await;
    let events = world.events().await.len();
    world.apply(again()).await;
    assert_eq!(world.number("select count(*) from messages where status = 'erased'").await, 452);
    let hers_again =
        "select count(*) from messages where text_content in ('quagga', 'axolotl') or quoted_text is not null";
    assert_eq!(world.number(hers_again).await, 0);
    assert_eq!(world.events().await[events..], ["message.received"], "nobody is told of what was erased");
    let raw = "select count(*) from omni_events where cast(raw_payload as text) like '%axolotl%'";
    assert_eq!(world.number(raw).await, 0);
    // What she writes from now on is somebody else's, whom nobody knew.
    world.apply([hers("g", "group", "new", "hello again")]).await;
    let new = world.person("Anastasia").await;
    assert_ne!(new, person);
    assert_eq!(
        world
            .number("select count(*) from messages where sender_person_id is not null and text_content = 'hello again'")
            .await,
        1
    );
    // Asked for again it is the same, and the new one is another.
    let same =
        erasures::begin(&world.store, person, "test", world.clock.now()).await.expect("reads").expect("is known");
    assert_eq!((same.id, same.completed_at), (done.id, done.completed_at));
    assert!(erasures::begin(&world.store, Uuid::nil(), "test", world.clock.now()).await.expect("reads").is_none());
}

async fn everything_of_a_person_is_in_their_export_and_nothing_of_others() {
    let (world, person) = lived_in().await;
    let mut export =
        person_export::begin(&world.store, person, world.clock.now()).await.expect("begins").expect("is known");
    let mut text = Vec::new();
    while let Some(page) = export.next().await.expect("a page") {
        assert!(page.len() < 1 << 20, "a page is {} bytes", page.len());
        text.extend(page);
    }
    let lines: Vec<Value> = text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("a line of JSON"))
        .collect();
    let of = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).count();
    assert_eq!(["person", "identity", "seat", "message", "reaction", "vote", "end"].map(of), [1, 1, 2, 452, 1, 1, 1]);
    assert_eq!(lines.last().map(|end| &end["lines"]), Some(&json!(lines.len() - 1)));
    assert!(of("event") >= 455, "{}", of("event"));
    let text = String::from_utf8(text).expect("text");
    for word in ["quagga", "okapi", "numbat", "dugong", "axolotl", "Anastasia", "+15550001234"] {
        assert!(text.contains(word), "{word} is not in the export");
    }
    assert!(text.contains("rawPayload") && !text.contains("of Bob"));
    assert!(person_export::begin(&world.store, Uuid::nil(), world.clock.now()).await.expect("reads").is_none());
}

impl World {
    /// Looks into the bytes of the file, where there is one.
    async fn the_file_holds_none_of(self, words: &[&str]) {
        self.shutdown.cancel();
        self.task.await.expect("the consumer ends well");
        self.bus.close().await;
        self.store.close().await;
        for entry in std::fs::read_dir(self.place.dir.path()).expect("a folder").flatten() {
            let bytes = std::fs::read(entry.path()).unwrap_or_default();
            for word in words {
                let found = bytes.windows(word.len()).filter(|window| *window == word.as_bytes()).count();
                assert_eq!(found, 0, "{word} is in {}", entry.path().display());
            }
        }
    }
}

both!(
    nothing_of_a_person_is_found_after_a_death_in_the_middle,
    what_was_erased_does_not_come_back_and_who_writes_anew_is_new,
    everything_of_a_person_is_in_their_export_and_nothing_of_others,
);
