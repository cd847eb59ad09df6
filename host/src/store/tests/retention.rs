//! Nothing grows for ever without somebody having said so.

use super::*;
use crate::config::{Retention, keys};
use crate::retention::sweep;
use crate::store::audit::{self, AuditFilter, AuditLine};
use crate::store::retention::{KEPT, Kept, tables};
use std::collections::BTreeSet;
use std::time::Duration;

async fn every_table_is_bounded_or_kept_on_purpose() {
    let world = World::open().await;
    let found: BTreeSet<String> = tables(&world.store).await.expect("reads").into_iter().collect();
    let told: BTreeSet<String> = KEPT.iter().map(|(table, _)| (*table).to_owned()).collect();
    assert_eq!(found, told, "a new table says in `store::retention::KEPT` what bounds it");
    for (table, kept) in KEPT {
        match kept {
            Kept::For(key) => assert!(keys::find(key).is_some(), "{table}: {key} is no key of the configuration"),
            Kept::UntilDeleted(why) => assert!(!why.is_empty(), "{table} says why it may stay"),
        }
    }
}

fn line(world: &World, at: Time) -> AuditLine {
    AuditLine {
        id: world.store.new_id(at),
        api_key_id: None,
        key_name: None,
        method: "POST".into(),
        path: "/x".into(),
        status_code: 200,
        ip_address: None,
        user_agent: None,
        response_time_ms: 1,
        timestamp: at,
    }
}

/// Rows of every table that is bounded by time, from long ago and from now.
async fn fill(world: &World, age: &str) {
    let id = Uuid::now_v7();
    for sql in [
        "insert into idempotency_keys (api_key_id, key, body_hash, created_at) values ($1, $2, $3, $4)",
        "insert into dead_letter_events (id, event_id, event_type, subject, consumer, accepted_at, payload, error, status, \
         created_at) values ($1, $1, 't', 's', $2, $4, $3, 'e', 'resolved', $4)",
        "insert into outbox (id, instance_id, chat_key, send_id, kind, request, client_id, status, available_at, created_at, \
         updated_at) select $1, id, $2, $1, 'send', '{}', 'c', 'delivered', $4, $4, $4 from instances where $3 is not null",
        "insert into delivery_keys (instance_id, key, seen_at) select $1, $2, $4 where $3 is not null",
    ] {
        let mut tx = world.store.begin().await.expect("begins");
        on!(&mut tx, conn => sqlx::query(sql)
            .bind(id)
            .bind(age)
            .bind(&b"x"[..])
            .bind(world.clock.now())
            .run(conn)
            .await)
        .expect(sql);
        tx.commit().await.expect("commits");
    }
    audit::append(&world.store, &[line(world, world.clock.now())]).await.expect("a line");
    world.apply([said(age, "hello")]).await;
}

async fn what_is_old_goes_and_what_is_not_stays() {
    let options = BusOptions { keep_log: Duration::from_secs(86_400), ..BusOptions::default() };
    let world = World::open_with(options).await;
    fill(&world, "old").await;
    world.manual.advance(Duration::from_secs(200 * 86_400));
    fill(&world, "new").await;
    let now = world.clock.now();
    sweep(&world.store, &Retention::default(), now).await.expect("sweeps");
    world.bus.trim(now).await.expect("trims");
    for (table, time) in [
        ("idempotency_keys", "created_at"),
        ("dead_letter_events", "created_at"),
        ("outbox", "created_at"),
        ("delivery_keys", "seen_at"),
        ("api_key_audit_logs", "timestamp"),
        ("inbound_log", "accepted_at"),
        ("omni_events", "received_at"),
    ] {
        let sql = format!("select count(*), count(case when {time} < $1 then 1 end) from {table}");
        let mut tx = world.store.read().await.expect("reads");
        let (all, old): (i64, i64) =
            on!(&mut tx, conn => sqlx::query_as(AssertSqlSafe(sql)).bind(Time(1_770_000_000_000_000)).fetch_one(conn).await)
                .expect("a count");
        assert!(all > 0 && old == 0, "{table}: {old} of {all} are old");
    }
    assert_eq!(world.number("select count(*) from messages").await, 2, "messages stay");
    let left = audit::list(&world.store, &AuditFilter::default(), None, 10).await.expect("lists");
    assert_eq!(left.items[0].timestamp, now);
    // Kept for ever, when that is said.
    let forever =
        Retention { audit_days: 0, event_days: 0, outbox_days: 0, dead_letter_days: 0, ..Retention::default() };
    world.manual.advance(Duration::from_secs(2_000 * 86_400));
    sweep(&world.store, &forever, world.clock.now()).await.expect("sweeps");
    assert_eq!(world.number("select count(*) from outbox").await, 1);
}

both!(every_table_is_bounded_or_kept_on_purpose, what_is_old_goes_and_what_is_not_stays,);
