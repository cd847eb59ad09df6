//! The rules of jobs. How they run on a whole host is in `it::history`.

use super::job::{Failure, Plan, Progress, Wanted};
use super::rules::{Verdict, keep, portions, verdict};
use crate::instances::InstanceError;
use crate::store::Time;
use crate::store::sync_jobs::Place;
use omni_channel_sdk::SendError;
use omni_channel_sdk::chat::{Chat, ChatKind, User};
use omni_channel_sdk::content::Content;
use omni_channel_sdk::event::{Event, Message};
use omni_channel_sdk::outcome::{ErrorCode, NextActor};
use serde_json::json;
use serde_json::value::to_raw_value;
use std::time::Duration;

fn at(at: i64) -> Event {
    Event::new(
        Chat::new("c", ChatKind::Direct),
        at,
        Message::new(at.to_string(), User::new("ana"), Content::text("hi")),
    )
}

fn times(events: &[Event]) -> Vec<i64> {
    events.iter().map(|event| event.at).collect()
}

#[test]
fn of_a_page_is_kept_what_lies_in_the_time_and_its_edge_says_whether_more_does() {
    let page = || vec![at(1_000), at(2_000), at(3_000)];
    let wanted = |since: Option<i64>, until: Option<i64>| Wanted {
        since: since.map(Time::from_millis),
        until: until.map(Time::from_millis),
        ..Wanted::default()
    };
    for (since, until, forward, times_kept, is_end) in [
        (None, None, false, vec![1_000, 2_000, 3_000], false),
        (Some(2_000), None, false, vec![2_000, 3_000], true),
        (Some(500), None, false, vec![1_000, 2_000, 3_000], false),
        // Backwards it has to pass by what is too new, forwards by what is too old.
        (None, Some(2_000), false, vec![1_000, 2_000], false),
        (None, Some(2_000), true, vec![1_000, 2_000], true),
        (Some(2_000), None, true, vec![2_000, 3_000], false),
    ] {
        let kept = keep(page(), &wanted(since, until), forward);
        assert_eq!(times(&kept.events), times_kept, "{since:?} {until:?} {forward}");
        assert_eq!((kept.skipped, kept.is_end), (3 - times_kept.len() as u64, is_end), "{since:?} {until:?} {forward}");
    }
}

#[test]
fn a_change_from_long_ago_among_messages_is_not_the_end_of_them() {
    let gone = omni_channel_sdk::event::Delete { targets: vec!["1".into()], sender: None, only_for_me: false };
    let old = Event::new(Chat::new("c", ChatKind::Direct), 1_000, gone);
    let wanted = Wanted { since: Some(Time::from_millis(2_000)), ..Wanted::default() };
    let kept = keep(vec![old, at(3_000)], &wanted, false);
    assert_eq!((times(&kept.events), kept.skipped, kept.is_end), (vec![3_000], 1, false));
}

#[test]
fn portions_hold_everything_in_order_and_are_bounded_in_number_and_size() {
    let small: Vec<_> = (0..600).map(|number| to_raw_value(&number).expect("a number")).collect();
    let sizes: Vec<usize> = portions(small.clone()).iter().map(Vec::len).collect();
    assert_eq!(sizes, [256, 256, 88]);
    let joined: Vec<String> = portions(small).concat().iter().map(|event| event.get().to_owned()).collect();
    assert_eq!(joined, (0..600).map(|number| number.to_string()).collect::<Vec<_>>());
    let large: Vec<_> = (0..3).map(|_| to_raw_value(&"x".repeat(700 << 10)).expect("a text")).collect();
    assert_eq!(portions(large).iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1], "one of them alone is let through");
    assert!(portions(Vec::new()).is_empty());
}

#[test]
fn an_error_says_whether_the_page_the_chat_or_the_instance_is_the_matter() {
    let seconds = Duration::from_secs;
    let error = |code, next| InstanceError::Channel(SendError::new(code, next, "no"));
    for (error, tries, expected) in [
        (SendError::rate_limited(7_000, "slower").into(), 0, Verdict::Slower(seconds(7))),
        (SendError::rate_limited(0, "slower").into(), 0, Verdict::Slower(Duration::from_millis(250))),
        (error(ErrorCode::RateLimited, NextActor::Retry), 0, Verdict::Slower(seconds(5))),
        (SendError::transient("broken").into(), 0, Verdict::Again(seconds(2))),
        (SendError::transient("broken").into(), 3, Verdict::Again(seconds(16))),
        (SendError::uncertain("cut off").into(), 40, Verdict::Again(seconds(300))),
        (InstanceError::NotConnected("not now".into()), 0, Verdict::Rest(seconds(5))),
        (error(ErrorCode::NotConnected, NextActor::Retry), 0, Verdict::Rest(seconds(60))),
        (SendError::unauthorized("revoked").into(), 0, Verdict::Rest(seconds(60))),
        (error(ErrorCode::Forbidden, NextActor::Operator), 0, Verdict::NextChat),
        (error(ErrorCode::ChatNotFound, NextActor::Retry), 0, Verdict::NextChat),
        (SendError::unsupported("history").into(), 0, Verdict::NextChat),
        (SendError::internal("a bug").into(), 0, Verdict::NextChat),
    ] {
        assert_eq!(verdict(&error, tries), expected, "{error:?}");
    }
}

#[test]
fn the_chats_that_fail_are_counted_and_the_first_are_named() {
    let mut progress = Progress::default();
    for number in 0..30 {
        let failure = Failure { chat_id: number.to_string(), code: "forbidden".into(), message: "no".into() };
        progress.refused_chat(failure);
    }
    assert_eq!((progress.chats_done, progress.chats_failed, progress.failures.len()), (30, 30, 20));
}

#[test]
fn a_job_that_an_older_program_wrote_is_read() {
    assert_eq!(serde_json::from_value::<Progress>(json!({})).expect("progress"), Progress::default());
    let place = Place { chat: "c".into(), anchor: None };
    let plan: Plan = serde_json::from_value(json!({"chatId": "c", "plan": [{"chat": "c"}], "new": 1})).expect("a plan");
    assert_eq!((plan.wanted.chat_id.as_deref(), plan.plan), (Some("c"), vec![place]));
}
