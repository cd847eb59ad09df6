//! What is said about messages before they come.

use super::*;
use omni_channel_sdk::event::{Delete, Edit, Reaction, ReactionChange, Receipt, ReceiptKind};

fn react(target: &str) -> Event {
    event(Reaction {
        target: target.into(),
        sender: Some(ana().into()),
        emojis: vec!["👍".into()],
        revision: 1,
        change: ReactionChange::Set,
        counts: Vec::new(),
    })
}

fn delete(target: &str) -> Event {
    event(Delete { targets: vec![target.into()], sender: None, only_for_me: false })
}

fn edit(target: &str, revision: i64, text: &str) -> Event {
    event(Edit { target: target.into(), revision, content: Content::text(text), sender: None })
}

fn read(target: &str) -> Event {
    event(Receipt { kind: ReceiptKind::Read, targets: vec![target.into()], up_to: None, sender: None })
}

/// A message of our own.
fn ours(id: &str) -> Event {
    event(Message::new(id, me(), Content::text("ours")))
}

/// In one batch, and in one batch each.
async fn both(events: &[Event], check: impl AsyncFn(&World, &str)) {
    let together = World::open().await;
    together.apply(events.iter().cloned()).await;
    check(&together, "together").await;
    let singly = World::open().await;
    for event in events {
        singly.apply([event.clone()]).await;
    }
    check(&singly, "singly").await;
}

async fn a_reaction_finds_its_message_when_that_comes() {
    both(&[react("1"), said("1", "hi")], async |world, how| {
        let counts = world.text("select reaction_counts from messages").await;
        assert_eq!(counts.as_deref(), Some(r#"{"👍":1}"#), "{how}");
        assert_eq!(world.events().await, ["reaction.received", "message.received"], "{how}: told once");
        assert_eq!(world.number("select count(*) from early_events").await, 0, "{how}: nothing waits any more");
    })
    .await;
}

async fn a_message_that_was_taken_back_before_it_came_is_deleted() {
    both(&[delete("1"), said("1", "secret")], async |world, how| {
        assert_eq!(world.text("select status from messages").await.as_deref(), Some("deleted"), "{how}");
        let events = ["message.deleted", "message.received", "message.deleted"];
        assert_eq!(world.events().await, events, "{how}: whoever follows along hears it behind the message");
    })
    .await;
}

async fn a_receipt_that_comes_behind_an_edit_waits_for_the_message_itself() {
    // Nobody said whose message it is that was edited: that shows when it comes.
    both(&[edit("1", 1, "changed"), read("1"), ours("1")], async |world, how| {
        assert_eq!(world.text("select delivery_status from messages").await.as_deref(), Some("read"), "{how}");
        let told = world.events().await.into_iter().filter(|event| event == "message.read").count();
        assert_eq!(told, 1, "{how}");
        assert_eq!(world.number("select count(*) from early_events").await, 0, "{how}: nothing waits any more");
    })
    .await;
}

async fn a_receipt_waits_for_the_message_and_is_told_then() {
    both(&[read("1"), ours("1")], async |world, how| {
        assert_eq!(world.text("select delivery_status from messages").await.as_deref(), Some("read"), "{how}");
        assert_eq!(world.events().await, ["message.sent", "message.read"], "{how}");
    })
    .await;
}

async fn a_message_that_its_edits_overtook_has_its_own_words_in_the_history() {
    let events = [edit("1", 2, "three"), edit("1", 1, "two"), said("1", "one")];
    both(&events, async |world, how| {
        let state = "select text_content || ' ' || original_text || ' ' || edit_count || ' ' || status || ' ' ||
            sender_platform_user_id from messages";
        assert_eq!(world.text(state).await.as_deref(), Some("three one 2 edited ana"), "{how}");
        let history = world.pick(
            "select group_concat(j.value->>'text') from messages, json_each(edit_history) j",
            "select string_agg(j.value->>'text', ',') from messages, json_array_elements(edit_history) j",
        );
        assert_eq!(world.text(history).await.as_deref(), Some("one,two"), "{how}");
        assert_eq!(world.number("select message_count + unread_count from chats").await, 2, "{how}: it is one message");
        assert_eq!(world.events().await, ["message.received"], "{how}");
    })
    .await;
}

async fn what_never_comes_is_not_waited_for_for_ever() {
    let world = World::open().await;
    world.apply([react("never")]).await;
    assert_eq!(world.number("select count(*) from early_events").await, 1);
    let retention = crate::config::Retention { delivery_key_days: 1, ..Default::default() };
    let later = world.clock.now().plus_millis(2 * 24 * 3_600 * 1_000);
    crate::retention::sweep(&world.store, &retention, later).await.expect("sweeps");
    assert_eq!(world.number("select count(*) from early_events").await, 0);
}

/// The same event at another time.
fn at(mut event: Event, at: i64) -> Event {
    event.at = START + at;
    event
}

fn up_to(kind: ReceiptKind, time: i64, sender: Sender) -> Event {
    let receipt = Receipt { kind, targets: Vec::new(), up_to: Some(START + time), sender: Some(sender) };
    at(event(receipt), time)
}

async fn everything_up_to_then_is_also_what_comes_later_and_is_older() {
    let delivered = up_to(ReceiptKind::Delivered, 30, ana().into());
    let read = up_to(ReceiptKind::Read, 20, ana().into());
    let events = [delivered, read, at(ours("1"), 10), at(ours("2"), 25), at(ours("3"), 40)];
    both(&events, async |world, how| {
        let found = "select string_agg(delivery_status, ',') from (select * from messages order by external_id) t";
        assert_eq!(world.text(found).await.as_deref(), Some("read,delivered,sent"), "{how}");
        let told = ["message.sent", "message.read", "message.sent", "message.delivered", "message.sent"];
        assert_eq!(world.events().await, told, "{how}");
    })
    .await;
}

async fn what_we_had_read_elsewhere_before_it_came_is_not_unread() {
    let read = up_to(ReceiptKind::Read, 20, me());
    let events = [read, at(said("1", "old"), 10), at(said("2", "new"), 30), at(said("3", "older"), 5)];
    both(&events, async |world, how| {
        assert_eq!(world.number("select unread_count from chats").await, 1, "{how}");
    })
    .await;
    let late = up_to(ReceiptKind::Read, 20, me());
    both(&[at(said("1", "old"), 10), at(said("2", "new"), 30), late], async |world, how| {
        assert_eq!(world.number("select unread_count from chats").await, 1, "{how}: what is newer stays unread");
    })
    .await;
}

fn one_emoji(change: ReactionChange, revision: i64) -> Event {
    let mut event = at(react("1"), revision);
    if let EventBody::Reaction(reaction) = &mut event.body {
        (reaction.change, reaction.revision) = (change, revision);
    }
    event
}

async fn the_newest_word_about_an_emoji_counts_whatever_comes_last() {
    use ReactionChange::{Add, Remove, Set};
    let counts = "select coalesce(cast(reaction_counts as text), 'none') from messages";
    for (words, expected) in [
        ([(Add, 1), (Remove, 2)], "none"),
        ([(Remove, 2), (Add, 1)], "none"),
        ([(Add, 3), (Remove, 2)], r#"{"👍":1}"#),
        ([(Remove, 2), (Set, 1)], "none"),
        ([(Set, 3), (Remove, 2)], r#"{"👍":1}"#),
        ([(Remove, 2), (Set, 3)], r#"{"👍":1}"#),
    ] {
        let mut events = vec![said("1", "hi")];
        events.extend(words.map(|(change, revision)| one_emoji(change, revision)));
        both(&events, async |world, how| {
            assert_eq!(world.text(counts).await.as_deref(), Some(expected), "{how}: {words:?}");
        })
        .await;
    }
}

async fn of_two_edits_of_one_revision_the_later_counts_and_a_repeated_one_changes_nothing() {
    let (first, second) = (at(edit("1", 1, "two"), 10), at(edit("1", 1, "three"), 20));
    let state = "select text_content || ' ' || edit_count from messages";
    for events in [[said("1", "one"), first.clone(), second.clone()], [said("1", "one"), second, first]] {
        both(&events, async |world, how| {
            assert_eq!(world.text(state).await.as_deref(), Some("three 2"), "{how}");
        })
        .await;
    }
    // At the same moment: in the order in which they come, and one that is told again was overtaken before.
    let same = |text: &str| at(edit("1", 1, text), 10);
    both(&[said("1", "one"), same("two"), same("three"), same("two"), same("one")], async |world, how| {
        assert_eq!(world.text(state).await.as_deref(), Some("one 3"), "{how}");
    })
    .await;
}

both!(
    a_reaction_finds_its_message_when_that_comes,
    a_message_that_was_taken_back_before_it_came_is_deleted,
    a_receipt_that_comes_behind_an_edit_waits_for_the_message_itself,
    a_receipt_waits_for_the_message_and_is_told_then,
    a_message_that_its_edits_overtook_has_its_own_words_in_the_history,
    what_never_comes_is_not_waited_for_for_ever,
    everything_up_to_then_is_also_what_comes_later_and_is_older,
    what_we_had_read_elsewhere_before_it_came_is_not_unread,
    the_newest_word_about_an_emoji_counts_whatever_comes_last,
    of_two_edits_of_one_revision_the_later_counts_and_a_repeated_one_changes_nothing,
);
