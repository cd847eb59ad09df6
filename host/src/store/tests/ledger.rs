//! The ledger balances whatever happens in the ordinary way, and says where it does not when rows are taken away.

use super::*;
use crate::config::Retention;
use crate::store::dead_letters::{self, By, Mark};
use crate::store::ledger::{self, Account, Line, Side};
use crate::store::outbox::{self, NewMessageRow, NewOutbox, Settlement};
use serde_json::json;

/// The line of the only instance.
async fn line(world: &World) -> Line {
    let mut found = ledger::look(&world.store, true).await.expect("looks");
    assert_eq!(found.lines.len(), 1);
    found.lines.remove(0)
}

async fn balanced(world: &World) -> Line {
    let line = line(world).await;
    assert!(line.balances(), "{:?}: {line:?}", line.gaps());
    line
}

async fn gap(world: &World) -> Vec<(Side, i64)> {
    line(world).await.gaps().into_iter().filter(|(_, gap)| *gap != 0).collect()
}

/// A part that waits to be sent.
async fn ask(world: &World) {
    let (store, now) = (&world.store, world.clock.now());
    let mut tx = store.begin().await.expect("a transaction");
    let (chat_id, id) = (tx.new_id(now), tx.new_id(now));
    let chat_key = id.to_string();
    outbox::insert_chat(&mut tx, chat_id, world.instance, &chat_key, "test", now).await.expect("a chat");
    let (client_id, content) = (id.to_string(), Content::text("hello"));
    let row = NewMessageRow { id, chat_id, client_id: client_id.clone(), content, reply_to: None, at: now };
    outbox::insert_message(&mut tx, &row).await.expect("a message");
    let row = NewOutbox {
        id,
        instance_id: world.instance,
        chat_key,
        message_id: id,
        send_id: id,
        part: 0,
        kind: "send",
        request: json!({}),
        client_id,
        trace: None,
    };
    outbox::enqueue(&mut tx, &row, now).await.expect("a row");
    tx.commit().await.expect("committed");
}

async fn what_comes_in_is_counted_once_wherever_it_goes() {
    let world = World::open().await;
    world.apply([said("1", "a"), said("2", "b"), said("2", "b")]).await;
    world.apply([said("2", "b")]).await;
    poison(&world.store).await;
    world.apply([said("3", "poison"), said("4", "c")]).await;
    let line = balanced(&world).await;
    assert_eq!((line.amount(Account::Accepted), line.amount(Account::Stored), line.dead()), (4, 3, 1));
    assert_eq!((line.messages, line.letters, line.waiting), (Some(3), 1, Some(0)));

    // Tried again it leaves the dead letters, and comes back or is stored.
    let letter =
        dead_letters::list(&mut world.store.read().await.expect("reads"), &dead_letters::Filter::default(), None, 10)
            .await
            .expect("lists")
            .remove(0);
    for is_healed in [false, true] {
        if is_healed {
            heal(&world.store).await;
        }
        let mut tx = world.store.begin().await.expect("begins");
        dead_letters::retrying(&mut tx, letter.id, By::Hand, world.clock.now()).await.expect("marks");
        tx.commit().await.expect("commits");
        world.bus.retry(&letter).await.expect("appended");
        world.inbound.settle().await;
        let line = balanced(&world).await;
        assert_eq!((line.amount(Account::Accepted), line.dead()), (4, i64::from(!is_healed)));
    }

    // What waits is counted where it is, also when the host ends.
    world.shutdown.cancel();
    world.accept([said("5", "d"), said("6", "e")]).await.expect("accepted");
    assert_eq!(balanced(&world).await.waiting, Some(2));
    let world = world.reopen().await;
    world.inbound.settle().await;
    assert_eq!(balanced(&world).await.waiting, Some(0));
}

async fn what_goes_out_has_an_end() {
    let world = World::open().await;
    for _ in 0..4 {
        ask(&world).await;
    }
    assert_eq!(balanced(&world).await.pending, 4);
    let rows = outbox::claim(&world.store, &[world.instance], world.clock.now(), 10).await.expect("claims");
    let error = json!({"message": "no"});
    let ends = [
        Settlement::Delivered(Some(omni_channel_sdk::SendReceipt::new("net-1"))),
        Settlement::Failed { error: error.clone() },
        Settlement::Unknown { at: world.clock.now(), error: error.clone(), by_content: false },
        Settlement::Retry { at: world.clock.now(), error, tried: true },
    ];
    for (row, end) in rows.iter().zip(&ends) {
        for _ in 0..2 {
            // A second time there is nothing to settle.
            outbox::settle(&world.store, "test", row, end, world.clock.now()).await.expect("settles");
        }
    }
    let line = balanced(&world).await;
    assert_eq!((line.amount(Account::Delivered), line.amount(Account::Failed)), (1, 1));
    assert_eq!((line.unknown, line.pending), (1, 1));
}

async fn what_is_taken_away_in_the_ordinary_way_leaves_no_gap() {
    let world = World::open().await;
    poison(&world.store).await;
    world.apply([said("1", "a"), said("2", "poison"), said("3", "poison")]).await;
    ask(&world).await;
    let rows = outbox::claim(&world.store, &[world.instance], world.clock.now(), 10).await.expect("claims");
    let error = json!({"message": "no"});
    outbox::settle(&world.store, "test", &rows[0], &Settlement::Failed { error }, world.clock.now())
        .await
        .expect("settles");
    let mut tx = world.store.begin().await.expect("begins");
    let letters = dead_letters::list(&mut tx, &dead_letters::Filter::default(), None, 10).await.expect("lists");
    let mark = Mark::Abandoned { by: "somebody".into(), note: None };
    dead_letters::mark(&mut tx, letters[0].id, &mark, world.clock.now()).await.expect("marks");
    tx.commit().await.expect("commits");
    world.manual.advance(std::time::Duration::from_secs(86_400 * 4_000));
    crate::retention::sweep(&world.store, &Retention::default(), world.clock.now()).await.expect("sweeps");
    world.bus.trim(world.clock.now()).await.expect("trims");
    assert_eq!(world.number("select count(*) from outbox").await, 0);
    assert_eq!(world.number("select count(*) from inbound_log").await, 0);
    let line = balanced(&world).await;
    assert_eq!((line.letters, line.dead()), (1, 2));

    // Two chats that become one, with a message that both have.
    let mut elsewhere = said("1", "a");
    elsewhere.chat = Some(Chat::new("other", ChatKind::Group));
    world.apply([elsewhere.delivered_as("elsewhere")]).await;
    let mut joined = said("9", "b");
    joined.chat = Some(Chat { also_known_as: Some("other".into()), ..group() });
    world.apply([joined]).await;
    assert_eq!(world.number("select count(*) from chats where external_id <> ''").await, 2);
    balanced(&world).await;

    // And an instance that goes, with what is still accepted for it.
    let mut tx = world.store.begin().await.expect("begins");
    crate::store::instances::delete(&mut tx, world.instance).await.expect("deletes");
    tx.commit().await.expect("commits");
    world.apply([said("10", "late")]).await;
    assert!(ledger::look(&world.store, true).await.expect("looks").lines.is_empty());
    assert_eq!(world.number("select count(*) from ledger").await, 0);
}

async fn what_is_taken_away_behind_the_hosts_back_is_a_gap_on_its_side() {
    let world = World::open().await;
    poison(&world.store).await;
    world.apply([said("1", "a"), said("2", "b"), said("3", "poison")]).await;
    ask(&world).await;
    balanced(&world).await;
    world.execute("delete from messages where external_id = '1'").await;
    assert_eq!(gap(&world).await, [(Side::Messages, 1)]);
    world.execute("delete from outbox").await;
    assert_eq!(gap(&world).await, [(Side::Outbound, 1), (Side::Messages, 1)]);
    world.execute("delete from dead_letter_events").await;
    assert_eq!(gap(&world).await, [(Side::Outbound, 1), (Side::Messages, 1), (Side::DeadLetters, 1)]);
    world.shutdown.cancel();
    world.accept([said("4", "c"), said("5", "d")]).await.expect("accepted");
    world.execute("delete from inbound_log where seq = (select max(seq) from inbound_log)").await;
    let all = [(Side::Inbound, 1), (Side::Outbound, 1), (Side::Messages, 1), (Side::DeadLetters, 1)];
    assert_eq!(gap(&world).await, all);
    // It does not go away by itself.
    let world = world.reopen().await;
    world.inbound.settle().await;
    assert_eq!(gap(&world).await, all);
}

async fn what_was_there_before_is_counted_by_the_step_that_makes_the_ledger() {
    let world = World::open().await;
    poison(&world.store).await;
    world.apply([said("1", "a"), said("2", "b"), said("3", "poison")]).await;
    ask(&world).await;
    ask(&world).await;
    let rows = outbox::claim(&world.store, &[world.instance], world.clock.now(), 1).await.expect("claims");
    let error = json!({"message": "no"});
    outbox::settle(&world.store, "test", &rows[0], &Settlement::Failed { error }, world.clock.now())
        .await
        .expect("settles");
    world.shutdown.cancel();
    world.accept([said("4", "c")]).await.expect("accepted");
    world.execute("delete from ledger").await;
    assert!(!line(&world).await.balances());
    let step = world.pick(
        include_str!("../../../../migrations/sqlite/0009_ledger.sql"),
        include_str!("../../../../migrations/postgres/0009_ledger.sql"),
    );
    let counted = step.split(';').map(str::trim).filter(|statement| statement.starts_with("insert"));
    for statement in counted {
        world.execute(statement).await;
    }
    let line = balanced(&world).await;
    assert_eq!((line.waiting, line.pending, line.messages, line.letters), (Some(1), 1, Some(4), 1));
    // And goes on from there.
    let world = world.reopen().await;
    world.inbound.settle().await;
    assert_eq!(balanced(&world).await.messages, Some(5));
}

async fn what_does_not_happen_is_not_counted() {
    let world = World::open().await;
    let mut tx = world.store.begin().await.expect("begins");
    tx.count(world.instance, Account::Stored, 1);
    tx.rollback().await.expect("rolls back");
    let mut tx = world.store.begin().await.expect("begins");
    tx.count(world.instance, Account::Stored, 1);
    tx.count(world.instance, Account::Stored, -1);
    tx.count(Uuid::now_v7(), Account::Stored, 1);
    tx.commit().await.expect("commits");
    assert_eq!(balanced(&world).await.amount(Account::Stored), 0);
    assert_eq!(world.number("select count(*) from ledger where amount <> 0").await, 0);
}

both!(
    what_comes_in_is_counted_once_wherever_it_goes,
    what_goes_out_has_an_end,
    what_is_taken_away_in_the_ordinary_way_leaves_no_gap,
    what_is_taken_away_behind_the_hosts_back_is_a_gap_on_its_side,
    what_was_there_before_is_counted_by_the_step_that_makes_the_ledger,
    what_does_not_happen_is_not_counted,
);
