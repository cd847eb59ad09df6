//! Who is recognised as whom.

use super::*;
use omni_channel_sdk::event::UserUpdate;

fn from(id: &str, user: User) -> Event {
    event(Message::new(id, user, Content::text("x")))
}

fn with_phone(id: &str, phone: &str) -> User {
    let mut user = User::new(id);
    user.phone = Some(phone.into());
    user
}

async fn the_same_phone_on_two_instances_and_channels_is_one_person() {
    let world = World::open().await;
    let other = add_instance(&world.store, "other", "sms").await;
    world.apply([from("1", with_phone("a", "+5511999990000"))]).await;
    world.accept_for(other, [from("1", with_phone("b", "+5511999990000"))]).await.expect("accepted");
    world.inbound.settle().await;
    assert_eq!(world.number("select count(*) from persons").await, 1);
    let links = "select channel || linked_by || confidence from platform_identities order by platform_user_id";
    assert_eq!(world.texts(links).await, ["testinitial100", "smsphone_match90"]);
    // That it was recognised is an event, as when people link it by hand.
    assert_eq!(world.events().await, ["message.received", "identity.linked", "message.received"]);
    let told = "select (payload->>'linkedBy') || ' ' || (payload->>'platformUserId') || ' ' || channel from omni_events
        where event_type = 'identity.linked'";
    assert_eq!(world.text(told).await.as_deref(), Some("phone_match b sms"));
}

async fn the_same_phone_twice_in_one_batch_is_one_person() {
    let world = World::open().await;
    world.apply([from("1", with_phone("a", "+15550001111")), from("2", with_phone("b", "+15550001111"))]).await;
    assert_eq!(world.number("select count(*) from persons").await, 1);
    assert_eq!(world.number("select count(*) from platform_identities").await, 2);
}

async fn the_same_address_in_other_letters_is_one_person_and_the_same_name_is_not() {
    let world = World::open().await;
    let with_email = |id: &str, email: &str| {
        let mut user = User::new(id).named("Ana");
        user.email = Some(email.into());
        user
    };
    world.apply([from("1", with_email("a", "Ana@Example.org"))]).await;
    world.apply([from("2", with_email("b", "ana@example.ORG"))]).await;
    world.apply([from("3", User::new("c").named("Ana"))]).await;
    assert_eq!(world.number("select count(*) from persons").await, 2);
    let links = "select linked_by from platform_identities order by platform_user_id";
    assert_eq!(world.texts(links).await, ["initial", "email_match", "initial"]);
}

async fn what_is_no_phone_number_recognises_nobody() {
    let world = World::open().await;
    for (n, phone) in ["", "+", "5511999990000", "+12", "+1555000111122223", "+1555ABC1111"].into_iter().enumerate() {
        let one = from(&format!("{n}a"), with_phone(&format!("{n}a"), phone));
        world.apply([one, from(&format!("{n}b"), with_phone(&format!("{n}b"), phone))]).await;
    }
    assert_eq!(world.number("select count(*) from persons").await, 12);
    assert_eq!(world.number("select count(*) from persons where primary_phone is not null").await, 0);
}

async fn a_phone_that_is_learned_later_recognises_the_next_account() {
    let world = World::open().await;
    world.apply([from("1", User::new("a"))]).await;
    let mut learned = event(UserUpdate { user: with_phone("a", "+15550002222") });
    learned.chat = None;
    world.apply([learned]).await;
    world.apply([from("2", with_phone("b", "+15550002222"))]).await;
    assert_eq!(world.number("select count(*) from persons").await, 1);
}

async fn a_new_name_is_kept_and_no_news_takes_nothing_away() {
    let world = World::open().await;
    world.apply([from("1", ana()), from("2", User::new("ana")), from("3", ana().named("Ana Maria"))]).await;
    world.apply([from("4", User::new("ana"))]).await;
    assert_eq!(world.text("select display_name from platform_identities").await.as_deref(), Some("Ana Maria"));
    assert_eq!(world.text("select display_name from chat_participants").await.as_deref(), Some("Ana Maria"));
    assert_eq!(world.number("select message_count from platform_identities").await, 4);
}

async fn our_own_account_is_nobody() {
    let world = World::open().await;
    world.apply([event(Message::new("1", me(), Content::text("typed on the phone")))]).await;
    assert_eq!(world.number("select count(*) from persons").await, 0);
    assert_eq!(world.number("select unread_count from chats").await, 0);
    assert_eq!(world.text("select source || delivery_status from messages").await.as_deref(), Some("realtimesent"));
    assert_eq!(world.events().await, ["message.sent"]);
    assert_eq!(world.text("select direction from omni_events").await.as_deref(), Some("outbound"));
}

both!(
    the_same_phone_on_two_instances_and_channels_is_one_person,
    the_same_phone_twice_in_one_batch_is_one_person,
    the_same_address_in_other_letters_is_one_person_and_the_same_name_is_not,
    what_is_no_phone_number_recognises_nobody,
    a_phone_that_is_learned_later_recognises_the_next_account,
    a_new_name_is_kept_and_no_news_takes_nothing_away,
    our_own_account_is_nobody,
);
