//! The storage consumer works ahead of its turn to write, and nobody else's writes are lost by it.

use super::*;
use omni_channel_sdk::event::{Emoji, Reaction, ReactionChange};

fn react(who: &str) -> Event {
    event(Reaction {
        target: "1".into(),
        sender: Some(User::new(who).into()),
        emojis: vec![Emoji::from("👍")],
        revision: 1,
        change: ReactionChange::Set,
        counts: Vec::new(),
    })
}

// On Postgres nobody works ahead.
#[tokio::test]
async fn a_transaction_that_began_since_is_noticed_whether_it_is_over_or_not() {
    let world = World::open().await;
    let sketch = world.store.ahead().await.expect("reads").expect("nobody is writing");
    let ahead = sketch.done();
    assert!(world.store.is_undisturbed(&ahead));
    let quiet = world.store.begin_quietly().await.expect("begins");
    assert!(world.store.is_undisturbed(&ahead), "the log of the bus is not read by the storage consumer");
    quiet.commit().await.expect("commits");

    let tx = world.store.begin().await.expect("begins");
    assert!(!world.store.is_undisturbed(&ahead), "somebody is writing");
    assert!(world.store.ahead().await.expect("reads").is_none(), "what is read now may not be true for long");
    tx.commit().await.expect("commits");
    assert!(!world.store.is_undisturbed(&ahead), "somebody has written");
    assert!(world.store.ahead().await.expect("reads").is_some(), "they are through");
}

async fn what_others_write_to_a_message_while_it_is_reacted_to_is_kept() {
    const TIMES: usize = 150;
    let world = World::open().await;
    world.apply([said("1", "text")]).await;
    let reactions = async {
        for number in 0..TIMES {
            world.apply([react(&format!("user-{number}"))]).await;
        }
    };
    let others = async {
        for _ in 0..TIMES {
            world.execute("update messages set text_content = text_content || '.'").await;
        }
    };
    futures_util::future::join(reactions, others).await;
    let text = world.text("select text_content from messages").await.expect("a text");
    assert_eq!(text, format!("text{}", ".".repeat(TIMES)));
    let reacted = world.pick(
        "select count(*) from messages m, json_each(m.reaction_revisions)",
        "select count(*) from messages m, json_object_keys(m.reaction_revisions)",
    );
    assert_eq!(world.number(reacted).await, i64::try_from(TIMES).expect("a number"));
}

both!(what_others_write_to_a_message_while_it_is_reacted_to_is_kept,);
