//! What each kind of event does to a message, its chat and the domain events.

use super::*;
use omni_channel_sdk::chat::MessageRef;
use omni_channel_sdk::content::{Media, Poll, PollOption};
use omni_channel_sdk::event::{
    ChatUpdate, Delete, Edit, Emoji, EmojiCount, Membership, MembershipChange, PollVote, Reaction, ReactionChange,
    Receipt, ReceiptKind, SendUpdate,
};
use omni_channel_sdk::ids::{MediaRef, UserId};
use omni_channel_sdk::outcome::SendError;

fn edit(id: &str, revision: i64, text: &str) -> Event {
    let target = MessageRef::from(id);
    let mut event = event(Edit { target, revision, content: Content::text(text), sender: Some(ana().into()) });
    event.at = START + revision;
    event
}

fn react(revision: i64, change: ReactionChange, emojis: &[&str]) -> Event {
    event(Reaction {
        target: "1".into(),
        sender: Some(ana().into()),
        emojis: emojis.iter().map(|emoji| Emoji::from(*emoji)).collect(),
        revision,
        change,
        counts: Vec::new(),
    })
}

async fn a_message_is_stored_with_its_chat_its_author_and_its_event() {
    let world = World::open().await;
    world.apply([said("1", "hello"), said("2", "again")]).await;
    assert_eq!(world.number("select count(*) from messages where not is_from_me and source = 'realtime'").await, 2);
    assert_eq!(world.number("select message_count from chats").await, 2);
    assert_eq!(world.number("select unread_count from chats").await, 2);
    assert_eq!(world.text("select last_message_preview from chats").await.as_deref(), Some("again"));
    assert_eq!(world.text("select chat_type from chats").await.as_deref(), Some("group"));
    assert_eq!(world.text("select name from chats").await.as_deref(), Some("Group"));
    assert_eq!(world.number("select message_count from platform_identities").await, 2);
    assert_eq!(world.number("select message_count from chat_participants where is_active").await, 2);
    assert_eq!(world.time("select last_message_at from instances").await, Time::from_millis(START));
    assert_eq!(world.events().await, ["message.received", "message.received"]);
    let linked = "select count(*) from omni_events e join messages m on m.id = e.message_id
        join platform_identities i on i.id = e.platform_identity_id and i.person_id = e.person_id
        where m.original_event_id = e.id and m.sender_person_id = e.person_id";
    assert_eq!(world.number(linked).await, 2);
}

async fn a_duplicate_changes_nothing_not_even_a_counter() {
    let world = World::open().await;
    world.apply([said("1", "hello").delivered_as("a")]).await;
    let state = "select c.message_count || '/' || c.unread_count || '/' || p.message_count || '/' ||
        i.message_count || '/' || (select count(*) from messages) || '/' || (select count(*) from omni_events)
        from chats c join chat_participants p on p.chat_id = c.id cross join platform_identities i";
    let before = world.text(state).await;
    assert_eq!(before.as_deref(), Some("1/1/1/1/1/1"));
    // The same delivery is dropped at the door; the same message in another delivery is dropped in the store.
    let again = world.apply([said("1", "hello").delivered_as("a")]).await;
    assert_eq!(again, Accepted { appended: 0, duplicates: 1, ephemeral: 0 });
    world.apply([said("1", "hello").delivered_as("b"), said("1", "hello").delivered_as("c")]).await;
    assert_eq!(world.text(state).await, before);
}

async fn two_edits_in_one_second_are_two_an_equal_one_is_none_and_an_older_one_goes_before() {
    let world = World::open().await;
    world.apply([said("1", "one")]).await;
    world.apply([edit("1", 5, "two"), edit("1", 5, "three"), edit("1", 5, "three").delivered_as("x")]).await;
    world.apply([edit("1", 4, "old"), edit("1", 9, "three").delivered_as("y")]).await;
    assert_eq!(world.text("select text_content from messages").await.as_deref(), Some("three"));
    assert_eq!(world.text("select original_text from messages").await.as_deref(), Some("one"));
    assert_eq!(world.text("select status from messages").await.as_deref(), Some("edited"));
    assert_eq!(world.number("select edit_count from messages").await, 3);
    let history = world.pick(
        "select group_concat(j.value->>'text') from messages, json_each(edit_history) j",
        "select string_agg(j.value->>'text', ',') from messages, json_array_elements(edit_history) j",
    );
    assert_eq!(world.text(history).await.as_deref(), Some("one,old,two"));
    assert_eq!(world.events().await, ["message.received", "message.edited", "message.edited"], "nobody saw the older");
    assert_eq!(world.number("select message_count from chats").await, 1);
    // What only said again what is known has moved the revision: older ones stay out.
    world.apply([edit("1", 8, "late")]).await;
    assert_eq!(world.text("select text_content from messages").await.as_deref(), Some("three"));
}

async fn an_edit_of_an_unknown_message_makes_it() {
    let world = World::open().await;
    world.apply([edit("77", 3, "now")]).await;
    assert_eq!(world.text("select status || text_content from messages").await.as_deref(), Some("editednow"));
    assert_eq!(world.number("select message_count from chats").await, 1);
    assert_eq!(world.events().await, ["message.received"]);
}

async fn a_deleted_message_is_marked_and_kept() {
    let world = World::open().await;
    let delete = |ids: &[&str]| {
        event(Delete { targets: ids.iter().map(|id| (*id).into()).collect(), sender: None, only_for_me: false })
    };
    world.apply([said("1", "secret"), delete(&["1", "unknown"])]).await;
    world.apply([delete(&["1"]).delivered_as("again")]).await;
    assert_eq!(world.text("select status || text_content from messages").await.as_deref(), Some("deletedsecret"));
    assert_eq!(world.number("select count(*) from messages where deleted_at is not null").await, 1);
    assert_eq!(world.events().await, ["message.received", "message.deleted", "message.deleted"]);
    let known = world.pick(
        "select group_concat(payload->>'known') from omni_events where event_type = 'message.deleted'",
        "select string_agg(((payload->>'known')::boolean::int)::text, ',' order by seq) from omni_events
         where event_type = 'message.deleted'",
    );
    assert_eq!(world.text(known).await.as_deref(), Some("1,0"));
    // It stays deleted, whatever comes late.
    world.apply([edit("1", 9, "other"), said("1", "secret").delivered_as("late")]).await;
    assert_eq!(world.text("select status from messages").await.as_deref(), Some("deleted"));
}

async fn a_reaction_given_taken_back_and_given_again_is_three_events() {
    let world = World::open().await;
    world.apply([said("1", "hi")]).await;
    for (revision, emojis) in [(1, &["👍"][..]), (2, &[]), (3, &["👍"])] {
        world.apply([react(revision, ReactionChange::Set, emojis)]).await;
    }
    assert_eq!(
        world.events().await,
        ["message.received", "reaction.received", "reaction.removed", "reaction.received"]
    );
    assert_eq!(world.text("select reaction_counts from messages").await.as_deref(), Some(r#"{"👍":1}"#));
    // An equal state and an older one change nothing.
    world
        .apply([
            react(3, ReactionChange::Set, &["👍"]).delivered_as("x"),
            react(2, ReactionChange::Set, &[]).delivered_as("y"),
        ])
        .await;
    assert_eq!(world.events().await.len(), 4);
    world.apply([react(4, ReactionChange::Set, &[])]).await;
    assert_eq!(world.text("select reactions from messages").await, None);
    assert_eq!(world.text("select reaction_counts from messages").await, None);
}

async fn reactions_can_be_added_and_removed_singly_and_counted() {
    let world = World::open().await;
    world
        .apply([said("1", "hi"), react(1, ReactionChange::Add, &["👍"]), react(2, ReactionChange::Add, &["🎉"])])
        .await;
    assert_eq!(world.text("select reaction_counts from messages").await.as_deref(), Some(r#"{"🎉":1,"👍":1}"#));
    world.apply([react(3, ReactionChange::Remove, &["👍"])]).await;
    assert_eq!(world.text("select reaction_counts from messages").await.as_deref(), Some(r#"{"🎉":1}"#));
    let shape = world.pick(
        "select group_concat((j.value->>'platformUserId') || (j.value->>'emoji') || (j.value->>'displayName'))
         from messages, json_each(reactions) j",
        "select string_agg((j.value->>'platformUserId') || (j.value->>'emoji') || (j.value->>'displayName'), ',')
         from messages, json_array_elements(reactions) j",
    );
    assert_eq!(world.text(shape).await.as_deref(), Some("ana🎉Ana"));
    let counted = Reaction {
        target: "1".into(),
        sender: None,
        emojis: Vec::new(),
        revision: 7,
        change: ReactionChange::Set,
        counts: vec![EmojiCount { emoji: "❤".into(), count: 12 }],
    };
    world.apply([event(counted)]).await;
    assert_eq!(world.text("select reaction_counts from messages").await.as_deref(), Some(r#"{"❤":12}"#));
    let last = "select event_type from omni_events order by seq desc limit 1";
    assert_eq!(world.text(last).await.as_deref(), Some("reaction.received"));
}

async fn reactions_of_everybody_can_be_taken_away() {
    let world = World::open().await;
    let given = [
        react(1, ReactionChange::Add, &["👍"]),
        react(2, ReactionChange::Add, &["🎉"]),
        react(9, ReactionChange::Add, &["❤"]),
    ];
    world.apply([said("1", "hi")].into_iter().chain(given)).await;
    let taken = |revision: i64, change: ReactionChange, emojis: &[&str]| {
        let emojis = emojis.iter().map(|emoji| Emoji::from(*emoji)).collect();
        event(Reaction { target: "1".into(), sender: None, emojis, revision, change, counts: Vec::new() })
    };
    world.apply([taken(3, ReactionChange::Remove, &["👍"])]).await;
    assert_eq!(world.text("select reaction_counts from messages").await.as_deref(), Some(r#"{"❤":1,"🎉":1}"#));
    world.apply([taken(4, ReactionChange::Set, &[])]).await;
    let left = world.text("select reaction_counts from messages").await;
    assert_eq!(left.as_deref(), Some(r#"{"❤":1}"#), "what was given later stays");
    world
        .apply([taken(10, ReactionChange::Set, &[]), react(9, ReactionChange::Add, &["❤"]).delivered_as("late")])
        .await;
    assert_eq!(world.text("select reactions from messages").await, None);
    let last = "select event_type from omni_events order by seq desc limit 1";
    assert_eq!(world.text(last).await.as_deref(), Some("reaction.removed"));
}

async fn a_reaction_to_an_unknown_message_is_still_an_event() {
    let world = World::open().await;
    world.apply([react(1, ReactionChange::Set, &["👍"])]).await;
    assert_eq!(world.events().await, ["reaction.received"]);
    assert_eq!(world.number("select count(*) from messages").await, 0);
}

fn receipt(kind: ReceiptKind, targets: &[&str], up_to: Option<i64>) -> Event {
    let targets = targets.iter().map(|id| (*id).into()).collect();
    event(Receipt { kind, targets, up_to, sender: Some(ana().into()) })
}

async fn delivery_only_goes_forward() {
    let world = World::open().await;
    let mine = |id: &str| event(Message::new(id, me(), Content::text("mine")));
    world.apply([mine("1"), mine("2"), said("3", "theirs")]).await;
    world.apply([receipt(ReceiptKind::Read, &["1", "3"], None)]).await;
    world.apply([receipt(ReceiptKind::Delivered, &["1", "2"], None)]).await;
    let states = world.pick(
        "select group_concat(external_id || coalesce(delivery_status, '-'), ',' order by external_id) from messages",
        "select string_agg(external_id || coalesce(delivery_status, '-'), ',' order by external_id) from messages",
    );
    assert_eq!(world.text(states).await.as_deref(), Some("1read,2delivered,3-"));
    world.apply([receipt(ReceiptKind::Read, &[], Some(START))]).await;
    assert_eq!(world.text(states).await.as_deref(), Some("1read,2read,3-"));
    world.apply([receipt(ReceiptKind::Read, &[], Some(START)).delivered_as("again")]).await;
    assert_eq!(
        world.events().await[3..],
        ["message.read", "message.delivered", "message.read"],
        "each says what moved, once"
    );
}

async fn what_we_read_elsewhere_is_no_longer_unread() {
    let world = World::open().await;
    let mut read = receipt(ReceiptKind::Read, &[], None);
    if let EventBody::Receipt(receipt) = &mut read.body {
        receipt.sender = Some(me());
    }
    world.apply([said("1", "a"), said("2", "b"), read, said("3", "c")]).await;
    assert_eq!(world.number("select unread_count from chats").await, 1);
}

async fn a_send_that_failed_later_is_failed_with_its_reason() {
    let world = World::open().await;
    world.apply([event(Message::new("1", me(), Content::text("mine")))]).await;
    let update = SendUpdate { target: "1".into(), error: Some(SendError::invalid("no such number")) };
    world.apply([event(update)]).await;
    assert_eq!(
        world.text("select delivery_status || error from messages").await.as_deref(),
        Some("failedno such number")
    );
    assert_eq!(world.events().await, ["message.sent", "message.failed"]);
}

async fn a_vote_is_found_by_the_polls_own_id_without_a_chat() {
    let world = World::open().await;
    let poll = Poll {
        id: Some("poll-1".into()),
        question: "Lunch?".into(),
        options: vec![PollOption { id: "0".into(), text: "Yes".into(), votes: None }],
        ..Poll::default()
    };
    world.apply([event(Message::new("1", ana(), Content::Poll(poll)))]).await;
    let vote = |options: &[&str], key: &str| {
        let body = PollVote {
            target: None,
            poll_id: Some("poll-1".into()),
            sender: Some(User::new("ben").into()),
            option_ids: options.iter().map(|id| (*id).to_owned()).collect(),
            poll: None,
        };
        Event { delivery_key: Some(key.into()), at: START, chat: None, body: body.into(), origin: None, raw: None }
    };
    world.apply([vote(&["0"], "a")]).await;
    assert_eq!(world.text("select poll_votes from messages").await.as_deref(), Some(r#"{"ben":["0"]}"#));
    world.apply([vote(&["0"], "b"), vote(&[], "c")]).await;
    assert_eq!(world.text("select poll_votes from messages").await, None);
    assert_eq!(world.events().await, ["message.received", "message.poll_vote", "message.poll_vote"]);
}

async fn members_come_and_go() {
    let world = World::open().await;
    let change = |change, role: Option<&str>| {
        let role = role.map(str::to_owned);
        event(Membership { users: vec![ana(), User::new("ben")], change, by: None, role, is_me: false })
    };
    world.apply([change(MembershipChange::Joined, None)]).await;
    assert_eq!(world.number("select count(*) from chat_participants where is_active").await, 2);
    world
        .apply([change(MembershipChange::Promoted, Some("administrator")), change(MembershipChange::Left, None)])
        .await;
    let gone = "select count(*) from chat_participants
        where not is_active and left_at is not null and role = 'administrator' and person_id is not null";
    assert_eq!(world.number(gone).await, 2);
    world.apply([change(MembershipChange::Joined, None).delivered_as("back")]).await;
    let back = "select count(*) from chat_participants where is_active and left_at is null";
    assert_eq!(world.number(back).await, 2);
}

async fn a_moved_chat_stays_one_chat_under_both_ids() {
    let world = World::open().await;
    let moved = ChatUpdate { moved_to: Some("super".into()), ..ChatUpdate::default() };
    let in_super = |id: &str| {
        let mut said = said(id, "there");
        said.chat = Some(Chat::new("super", ChatKind::Group));
        said
    };
    world.apply([said("1", "here"), event(moved.clone()), in_super("2"), said("3", "late, under the old id")]).await;
    assert_eq!(world.number("select count(*) from chats").await, 1);
    assert_eq!(world.number("select message_count from chats").await, 3);
    assert_eq!(world.text("select external_id || '/' || canonical_id from chats").await.as_deref(), Some("super/g"));
    assert_eq!(world.text("select external_id from chat_id_mappings").await.as_deref(), Some("g"));
    // Told again, after a restart, too.
    let world = world.reopen().await;
    world.apply([event(moved).delivered_as("again"), said("4", "still")]).await;
    assert_eq!(world.number("select message_count from chats").await, 4);
}

/// The new chat has another message under the same number: both are kept, from whichever end the move is told first.
async fn a_moved_chat_counts_its_messages_anew() {
    let there = |id: &str| {
        let mut said = said(id, "there").delivered_as(format!("there-{id}"));
        said.chat = Some(Chat::new("super", ChatKind::Group));
        said
    };
    let told = |update: ChatUpdate, chat: &str| Event::new(Chat::new(chat, ChatKind::Group), START, update);
    let leaves = told(ChatUpdate { moved_to: Some("super".into()), ..ChatUpdate::default() }, "g");
    let arrives = told(ChatUpdate { moved_from: Some("g".into()), ..ChatUpdate::default() }, "super");
    for order in [
        vec![said("1", "here"), leaves.clone(), arrives.clone(), there("1")],
        vec![said("1", "here"), there("1"), arrives.clone(), leaves.clone()],
        vec![said("1", "here"), arrives, there("1"), leaves],
    ] {
        let world = World::open().await;
        for event in order {
            world.apply([event]).await;
        }
        assert_eq!(world.text("select external_id from chats").await.as_deref(), Some("super"));
        let messages = world.pick(
            "select group_concat(external_id || ' ' || text_content, ', ' order by id) from messages",
            "select string_agg(external_id || ' ' || text_content, ', ' order by id) from messages",
        );
        assert_eq!(world.text(messages).await.as_deref(), Some("g/1 here, 1 there"));
        assert_eq!(world.number("select message_count from chats").await, 2);
    }
}

/// What is told late, under the id that the chat had, is about messages of before: it is told apart from what has the same
/// number now, in the same batch and after a restart.
async fn what_comes_late_under_the_old_id_of_a_moved_chat_is_not_taken_for_what_is_new() {
    let there = |id: &str| {
        let mut said = said(id, "there").delivered_as(format!("there-{id}"));
        said.chat = Some(Chat::new("super", ChatKind::Group));
        said
    };
    let leaves = event(ChatUpdate { moved_to: Some("super".into()), ..ChatUpdate::default() });
    let world = World::open().await;
    let messages = world.pick(
        "select group_concat(external_id || ' ' || text_content, ', ' order by rowid) from messages",
        "select string_agg(m.external_id || ' ' || m.text_content, ', ' order by e.seq) from messages m
         join omni_events e on e.id = m.original_event_id",
    );
    world.apply([said("1", "here"), leaves.clone(), there("1"), there("2"), said("2", "late")]).await;
    assert_eq!(world.text(messages).await.as_deref(), Some("g/1 here, 1 there, 2 there, g/2 late"));
    let world = world.reopen().await;
    world.apply([edit("1", 1, "better"), said("3", "later"), there("3"), react(1, ReactionChange::Set, &["👍"])]).await;
    let expected = "g/1 better, 1 there, 2 there, g/2 late, g/3 later, 3 there";
    assert_eq!(world.text(messages).await.as_deref(), Some(expected));
    let reacted = "select external_id from messages where reactions is not null";
    assert_eq!(world.text(reacted).await.as_deref(), Some("g/1"));
    assert_eq!(world.number("select count(*) from chats").await, 1);
    assert_eq!(world.number("select message_count from chats").await, 6);
    // Moved once more, each id stays what it is.
    let mut again = event(ChatUpdate { moved_to: Some("giga".into()), ..ChatUpdate::default() }).delivered_as("again");
    again.chat = Some(Chat::new("super", ChatKind::Group));
    world.apply([again, edit("2", 1, "on time"), there("4")]).await;
    let expected = "g/1 better, super/1 there, super/2 there, g/2 on time, g/3 later, super/3 there, super/4 there";
    assert_eq!(world.text(messages).await.as_deref(), Some(expected));
}

async fn a_reaction_that_names_the_forum_finds_the_message_in_its_topic() {
    let in_topic = || {
        let mut chat = Chat::new("g/7", ChatKind::Thread);
        chat.parent = Some("g".into());
        let mut said = said("1", "in a topic");
        said.chat = Some(chat);
        said
    };
    let emoji = "select (reactions -> 0) ->> 'emoji' from messages";
    let world = World::open().await;
    world.apply([in_topic(), react(1, ReactionChange::Set, &["👍"])]).await;
    assert_eq!(world.text(emoji).await.as_deref(), Some("👍"), "in one batch");
    assert_eq!(world.number("select count(distinct lane) from inbound_log").await, 1, "their order is kept");
    let world = world.reopen().await;
    world.apply([react(2, ReactionChange::Set, &["🔥"])]).await;
    assert_eq!(world.text(emoji).await.as_deref(), Some("🔥"), "long after");
    // A message of the forum itself goes before one of a topic.
    world.apply([said("1", "in the forum").delivered_as("general"), react(3, ReactionChange::Set, &["🎉"])]).await;
    assert_eq!(world.text(emoji).await.as_deref(), Some("🔥"));
    assert_eq!(world.number("select count(*) from messages where reactions is not null").await, 2);
}

async fn two_chats_that_turn_out_to_be_one_are_joined_without_losing_or_doubling_a_message() {
    let world = World::open().await;
    let other = |id: &str, alias: Option<&str>| {
        let mut said = said(id, "x");
        let mut chat = Chat::new("lid", ChatKind::Direct);
        chat.also_known_as = alias.map(Into::into);
        said.chat = Some(chat);
        said.delivered_as(format!("lid-{id}"))
    };
    world.apply([said("1", "a"), said("both", "b"), other("2", None), other("both", None)]).await;
    assert_eq!(world.number("select count(*) from chats").await, 2);
    world.apply([other("3", Some("g")), other("4", Some("g"))]).await;
    assert_eq!(world.number("select count(*) from chats").await, 1);
    assert_eq!(world.number("select count(*) from messages").await, 5);
    assert_eq!(world.number("select message_count from chats").await, 5);
    assert_eq!(world.number("select count(*) from chat_participants").await, 1);
    world.apply([said("5", "old id"), other("6", None)]).await;
    assert_eq!(world.number("select count(*) from messages").await, 7);
    assert_eq!(world.number("select count(*) from chats").await, 1);
}

async fn a_topic_knows_its_group() {
    let world = World::open().await;
    let mut said = said("1", "in a topic");
    let mut chat = Chat::new("g/7", ChatKind::Thread).named("Topic");
    chat.parent = Some("g".into());
    said.chat = Some(chat);
    world.apply([said]).await;
    let parent =
        "select p.external_id from chats c join chats p on p.id = c.parent_chat_id where c.chat_type = 'thread'";
    assert_eq!(world.text(parent).await.as_deref(), Some("g"));
}

async fn a_reply_finds_its_message_in_the_same_batch_and_later() {
    let world = World::open().await;
    let answer = |id: &str| {
        let mut message = Message::new(id, ana(), Content::text("answer"));
        message.reply_to = Some("1".into());
        event(message)
    };
    world.apply([said("1", "question"), answer("2")]).await;
    world.apply([answer("3")]).await;
    let found = "select count(*) from messages m join messages t on t.id = m.reply_to_message_id
        where m.quoted_text = 'question' and m.quoted_sender_name = 'Ana' and t.external_id = '1'";
    assert_eq!(world.number(found).await, 2);
}

async fn a_file_waits_to_be_fetched_and_its_message_says_what_it_is() {
    let world = World::open().await;
    let media = Media {
        reference: Some(MediaRef::from("file-9")),
        mime_type: Some("audio/ogg".into()),
        duration_ms: Some(2_500),
        voice: true,
        size: Some(77),
        ..Media::default()
    };
    world.apply([event(Message::new("1", ana(), Content::Audio(media)))]).await;
    let seconds = "select cast(media_metadata->>'durationSeconds' as text) from messages";
    assert_eq!(world.text(seconds).await.as_deref(), Some("2.5"));
    let voice = world.pick(
        "select cast(media_metadata->>'isVoiceNote' as text) from messages",
        "select (media_metadata->>'isVoiceNote')::boolean::int from messages",
    );
    assert_eq!(world.text(voice).await.as_deref(), Some("1"));
    assert_eq!(world.text("select last_message_preview from chats").await.as_deref(), Some("[audio]"));
    let now = world.clock.now();
    let mut tx = world.store.begin().await.expect("begins");
    let claim = |tx| async move {
        crate::store::media::claim_due(tx, world.instance, now, now.plus_millis(1_000), 10).await.expect("claims")
    };
    let due = claim(&mut tx).await;
    assert_eq!(due.iter().map(|due| due.reference.as_str()).collect::<Vec<_>>(), ["file-9"]);
    assert!(
        crate::store::media::claim_due(&mut tx, Uuid::nil(), now.plus_millis(5_000), now, 10)
            .await
            .expect("claims")
            .is_empty()
    );
    let stored = crate::store::media::Stored {
        path: "ab/cd".into(),
        url: "/api/v2/media/x".into(),
        mime_type: None,
        size: 77,
        sha256: "00".into(),
    };
    crate::store::media::settle_stored(&mut tx, due[0].id, &stored, now).await.expect("settles");
    tx.commit().await.expect("commits");
    assert_eq!(world.text("select media_local_path from messages").await.as_deref(), Some("ab/cd"));
    assert_eq!(world.number("select count(*) from media where status = 'stored' and next_attempt_at is null").await, 1);
}

async fn a_kind_that_is_not_known_is_kept_whole() {
    let world = World::open().await;
    let json = format!(
        r#"{{"at":{START},"chat":{{"id":"g","kind":"group"}},"body":{{"type":"gift","value":7}},"raw":{{"a":[1]}}}}"#
    );
    world.bus.accept(call(world.instance, vec![AcceptEvent(json.into_bytes())])).await.expect("accepted");
    world.inbound.settle().await;
    assert_eq!(world.events().await, ["custom.test.gift"]);
    assert_eq!(
        world.text("select (payload -> 'fields' ->> 'value') || raw_payload from omni_events").await.as_deref(),
        Some(r#"7{"a":[1]}"#)
    );
}

async fn messages_of_one_chat_have_ids_in_the_order_in_which_they_came() {
    let world = World::open().await;
    for batch in 0..5 {
        world.apply((0..40).map(|n| said(&format!("{}", batch * 40 + n), "x"))).await;
    }
    let order = world.texts("select external_id from messages order by platform_timestamp, id").await;
    assert_eq!(order, (0..200).map(|n| n.to_string()).collect::<Vec<_>>());
    let order = world.texts("select external_id from omni_events order by seq").await;
    assert_eq!(order, (0..200).map(|n| n.to_string()).collect::<Vec<_>>());
}

async fn parts_of_one_message_are_rows_of_their_own() {
    let world = World::open().await;
    let part = |part: &str| {
        let mut message = Message::new("1", ana(), Content::text(part));
        message.message.part = Some(part.into());
        event(message)
    };
    world.apply([part("a"), part("b"), part("a").delivered_as("again")]).await;
    let one = Delete {
        targets: vec![MessageRef { id: "1".into(), part: Some("b".into()) }],
        sender: None,
        only_for_me: false,
    };
    world.apply([event(one)]).await;
    assert_eq!(world.texts("select part || status from messages order by part").await, ["aactive", "bdeleted"]);
    assert_eq!(world.number("select message_count from chats").await, 2);
}

async fn a_user_without_an_id_is_refused_unless_it_is_us() {
    let world = World::open().await;
    let mut nobody = said("1", "x");
    if let EventBody::Message(message) = &mut nobody.body {
        message.sender.user.id = UserId::from("");
    }
    let error = world.accept([nobody.clone()]).await.expect_err("refused");
    assert_eq!(error.to_string(), "event 0 was refused: a user's id is empty");
    if let EventBody::Message(message) = &mut nobody.body {
        message.sender.is_from_me = true;
    }
    world.apply([nobody]).await;
    assert_eq!(world.number("select count(*) from platform_identities").await, 0);
}

async fn a_file_that_the_host_holds_already_belongs_to_the_message_that_brings_it() {
    use crate::store::files::{self, FileRow};
    use omni_channel_sdk::content::Media;
    use omni_channel_sdk::ids::BlobId;
    let world = World::open().await;
    let id = world.store.new_id(world.clock.now());
    let row = FileRow {
        id,
        instance_id: world.instance,
        mime_type: None,
        file_name: None,
        size: Some(1),
        path: Some("x".into()),
        status: "stored".into(),
    };
    files::insert_stored(&world.store, &row, "00", world.clock.now()).await.expect("stored");
    let picture = Content::Image(Media { blob: Some(BlobId::new(id)), ..Media::default() });
    world.apply([event(Message::new("m", ana(), picture))]).await;
    assert_eq!(world.number("select count(*) from media where message_id = (select id from messages)").await, 1);
}

both!(
    a_message_is_stored_with_its_chat_its_author_and_its_event,
    a_duplicate_changes_nothing_not_even_a_counter,
    two_edits_in_one_second_are_two_an_equal_one_is_none_and_an_older_one_goes_before,
    an_edit_of_an_unknown_message_makes_it,
    a_deleted_message_is_marked_and_kept,
    a_reaction_given_taken_back_and_given_again_is_three_events,
    reactions_can_be_added_and_removed_singly_and_counted,
    reactions_of_everybody_can_be_taken_away,
    a_reaction_to_an_unknown_message_is_still_an_event,
    delivery_only_goes_forward,
    what_we_read_elsewhere_is_no_longer_unread,
    a_send_that_failed_later_is_failed_with_its_reason,
    a_vote_is_found_by_the_polls_own_id_without_a_chat,
    members_come_and_go,
    a_moved_chat_stays_one_chat_under_both_ids,
    a_moved_chat_counts_its_messages_anew,
    what_comes_late_under_the_old_id_of_a_moved_chat_is_not_taken_for_what_is_new,
    a_reaction_that_names_the_forum_finds_the_message_in_its_topic,
    two_chats_that_turn_out_to_be_one_are_joined_without_losing_or_doubling_a_message,
    a_topic_knows_its_group,
    a_reply_finds_its_message_in_the_same_batch_and_later,
    a_file_waits_to_be_fetched_and_its_message_says_what_it_is,
    a_kind_that_is_not_known_is_kept_whole,
    messages_of_one_chat_have_ids_in_the_order_in_which_they_came,
    parts_of_one_message_are_rows_of_their_own,
    a_user_without_an_id_is_refused_unless_it_is_us,
    a_file_that_the_host_holds_already_belongs_to_the_message_that_brings_it,
);
