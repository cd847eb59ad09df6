//! WhatsApp end to end: an account that Baileys linked is taken over, and people who use Baileys talk with it.

use crate::harness::{PATIENCE, TestHost};
use crate::whatsapp_server::{ANN, BOB, OURS, World, jid, setup, text_of};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_on_where_the_other_program_left_it() {
    let Some(world) = World::start(json!({})).await else { return };
    let (host, people) = (&world.host, &world.people);
    people.send("bob", &jid(OURS), json!({"text": "are you still there?"})).await;
    let there = host.stored(&world.id, &jid(BOB), 1).await;
    assert_eq!(there[0]["textContent"], "are you still there?");
    assert_eq!(there[0]["isFromMe"], false);

    world.send(json!({"to": BOB.0, "text": "I am, with another program"})).await;
    let got = people.gets("bob", "I am, with another program").await;
    assert_eq!(got["key"]["fromMe"], false);
    let there = host.stored(&world.id, &jid(BOB), 2).await;
    assert_eq!((&there[1]["textContent"], &there[1]["isFromMe"]), (&json!("I am, with another program"), &json!(true)));
    assert_eq!(there[1]["externalId"], got["key"]["id"]);

    // It is delivered, and read.
    let ours = there[1]["id"].as_str().unwrap().to_owned();
    host.until(&format!("/messages/{ours}"), |body| body["data"]["deliveryStatus"] == "delivered").await;
    people.tell("bob", "read", json!({"keys": [got["key"]]})).await;
    host.until(&format!("/messages/{ours}"), |body| body["data"]["deliveryStatus"] == "read").await;
    world.host.stop().await;
}
