//! Our own messages come back, and stay one.

use super::*;
use crate::store::messages;
use omni_channel_sdk::chat::Echo;

/// A message as the outbox writes it before it is sent.
async fn written(world: &World, client_id: &str) -> Uuid {
    let id = world.store.new_id(world.clock.now());
    let mut tx = world.store.begin().await.expect("begins");
    on!(&mut tx, conn => sqlx::query(
        "insert into messages (id, chat_id, client_id, source, is_from_me, message_type, text_content, content,
           delivery_status, platform_timestamp, received_at, created_at, updated_at)
         values ($1, (select id from chats), $2, 'api', true, 'text', 'hi', '{}', 'pending', $3, $3, $3, $3)",
    )
    .bind(id)
    .bind(client_id)
    .bind(Time(0))
    .run(conn)
    .await)
    .expect("a message");
    tx.commit().await.expect("commits");
    id
}

fn echo(id: &str, client_id: Option<&str>) -> Event {
    let mut message = Message::new(id, me(), Content::text("hi"));
    message.echo = client_id.map(|id| Echo { client_id: Some(id.into()) });
    event(message)
}

async fn an_echo_with_our_id_joins_the_row_that_we_wrote() {
    let world = World::open().await;
    world.apply([said("1", "hello")]).await;
    let id = written(&world, "ours").await;
    world.apply([echo("net-1", Some("ours"))]).await;
    let rows =
        "select count(*) from messages where external_id = 'net-1' and source = 'api' and delivery_status = 'sent'";
    assert_eq!(world.number(rows).await, 1);
    assert_eq!(world.number("select count(*) from messages").await, 2);
    assert_eq!(world.events().await, ["message.received"], "the one who settles the send says that it is sent");
    // The send settles after its echo.
    let mut tx = world.store.begin().await.expect("begins");
    messages::settle_sent(&mut tx, id, "net-1", "", None, world.clock.now()).await.expect("settles");
    tx.commit().await.expect("commits");
    world.apply([echo("net-1", Some("ours")).delivered_as("again"), echo("net-1", None).delivered_as("bare")]).await;
    assert_eq!(world.number("select count(*) from messages").await, 2);
}

async fn an_echo_that_only_has_the_networks_id_joins_a_send_that_is_settled() {
    let world = World::open().await;
    world.apply([said("1", "hello")]).await;
    let id = written(&world, "ours").await;
    let mut tx = world.store.begin().await.expect("begins");
    messages::settle_sent(&mut tx, id, "net-1", "", None, world.clock.now()).await.expect("settles");
    tx.commit().await.expect("commits");
    world.apply([echo("net-1", None)]).await;
    assert_eq!(world.number("select count(*) from messages").await, 2);
}

async fn an_echo_that_was_faster_than_its_send_becomes_one_with_it_when_the_send_settles() {
    let world = World::open().await;
    world.apply([said("1", "hello")]).await;
    let id = written(&world, "ours").await;
    world.apply([echo("net-1", None)]).await;
    assert_eq!(world.number("select count(*) from messages").await, 3);
    let mut tx = world.store.begin().await.expect("begins");
    messages::settle_sent(&mut tx, id, "net-1", "", None, world.clock.now()).await.expect("settles");
    tx.commit().await.expect("commits");
    let ours = "select count(*) from messages where external_id = 'net-1' and client_id = 'ours'";
    assert_eq!(world.number(ours).await, 1);
    assert_eq!(world.number("select count(*) from messages").await, 2);
}

async fn another_instances_client_id_joins_nothing() {
    let world = World::open().await;
    world.apply([said("1", "hello")]).await;
    written(&world, "ours").await;
    let other = add_instance(&world.store, "other", "test").await;
    world.accept_for(other, [echo("net-1", Some("ours"))]).await.expect("accepted");
    world.inbound.settle().await;
    assert_eq!(world.number("select count(*) from messages where client_id = 'ours' and external_id is null").await, 1);
    assert_eq!(world.number("select count(*) from messages where external_id = 'net-1'").await, 1);
}

both!(
    an_echo_with_our_id_joins_the_row_that_we_wrote,
    an_echo_that_only_has_the_networks_id_joins_a_send_that_is_settled,
    an_echo_that_was_faster_than_its_send_becomes_one_with_it_when_the_send_settles,
    another_instances_client_id_joins_nothing,
);
