//! Commands, context menus, buttons, menus and forms of Discord end to end: what people do with them arrives, and is answered.

use crate::discord_server::{Discord, bot, has, send, setup};
use crate::harness::TestHost;
use reqwest::Method;
use serde_json::{Value, json};

/// A host with a connected bot that has these commands.
async fn with_commands(commands: Value) -> Option<(TestHost, Discord, String)> {
    let discord = Discord::start(&[]).await?;
    let host = TestHost::with(setup()).await;
    let id = discord.instance(&host, json!({"commands": commands})).await;
    host.until_state(&id, "connected").await;
    Some((host, discord, id))
}

/// Waits until Discord has heard the first word about an interaction: that the answer comes later.
async fn waits(discord: &Discord, interaction: &Value) {
    let waiting = |found: &Value| found["loading"].as_bool().filter(|loading| *loading);
    discord.until("interaction", json!({"id": interaction["id"]}), waiting).await;
}

/// Sends buttons or a menu; gives Discord's id of the message.
async fn offer(host: &TestHost, body: Value) -> Value {
    let (status, sent) = host.call(Method::POST, "/messages/send/buttons", Some(body)).await;
    assert_eq!(sent["data"]["status"], "sent", "{status} {sent}");
    sent["data"]["externalMessageId"].clone()
}

/// What was told of the touch of a button or a menu, once it was.
async fn touched(host: &TestHost, interaction: &Value) -> Value {
    let of = |event: &Value| event["payload"]["id"] == interaction["id"];
    let list = host.until("/events?eventType=message.button_click&limit=20", |list| has(list, of)).await;
    list["items"].as_array().unwrap().iter().find(|event| of(event)).unwrap()["payload"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_answered_and_a_form_comes_back() {
    let ask = json!({"name": "ask", "description": "Asks", "options": [
        {"type": 3, "name": "question", "description": "What", "required": true}]});
    let note = json!({"name": "note", "description": "Takes a note",
        "modal": {"title": "A note", "fields": [{"id": "words", "label": "Words", "paragraph": true}]}});
    let Some((host, discord, id)) = with_commands(json!([ask, note])).await else { return };
    let known = discord.happens("commands", json!({})).await;
    let names: Vec<&Value> = known["commands"].as_array().unwrap().iter().map(|command| &command["name"]).collect();
    assert_eq!(names, ["ask", "note"]);

    let asked =
        discord.happens("interact", json!({"kind": "slash", "name": "ask", "options": {"question": "why?"}})).await;
    let there = host.stored(&id, &discord.channel, 1).await;
    assert_eq!(there[0]["textContent"], "/ask question: why?");
    waits(&discord, &asked).await;
    send(&host, json!({"instanceId": id, "to": discord.channel, "text": "because"})).await;
    let answered = discord.happens("interaction", json!({"id": asked["id"]})).await;
    assert_eq!((&answered["original"]["content"], &answered["loading"]), (&json!("because"), &json!(false)));

    let form = discord.happens("interact", json!({"kind": "slash", "name": "note"})).await;
    discord.until("interaction", json!({"id": form["id"]}), |found| found["modal"].as_object().cloned()).await;
    discord.happens("interact", json!({"kind": "modal", "interaction": form["id"], "fields": {"words": "milk"}})).await;
    let path = format!("/messages?instanceId={id}&chatId={}", discord.channel);
    host.until(&path, |body| has(body, |message| message["textContent"] == "/note\nwords: milk")).await;
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_on_a_person_or_a_message_says_on_which_and_each_gets_its_own_answer() {
    let commands = json!([{"name": "Greet", "type": 2}, {"name": "Report this", "type": 3}]);
    let Some((host, discord, id)) = with_commands(commands).await else { return };
    let said = discord.says("buy now").await;
    let greeting = json!({"kind": "user", "name": "Greet", "target": discord.user});
    let greeting = discord.happens("interact", greeting).await;
    let report = discord.happens("interact", json!({"kind": "message", "name": "Report this", "target": said})).await;
    let there = host.stored(&id, &discord.channel, 3).await;
    let texts: Vec<&Value> = there.iter().map(|message| &message["textContent"]).collect();
    assert_eq!(texts, ["buy now", "/Greet @Alice", "/Report this"]);
    assert_eq!((&there[1]["replyToMessageId"], &there[2]["replyToMessageId"]), (&Value::Null, &there[0]["id"]));
    assert_eq!((&there[2]["quotedText"], &there[2]["quotedSenderName"]), (&json!("buy now"), &json!("Alice")));

    // The younger one is answered first: an answer goes to what it names.
    for (interaction, message, text) in [(&report, &there[2], "reported"), (&greeting, &there[1], "hello Alice")] {
        waits(&discord, interaction).await;
        send(&host, json!({"instanceId": id, "to": discord.channel, "text": text, "replyTo": message["id"]})).await;
        let answered = discord.happens("interaction", json!({"id": interaction["id"]})).await;
        assert_eq!((&answered["original"]["content"], &answered["followups"]), (&json!(text), &json!([])));
    }
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_button_is_touched_and_of_a_menu_it_counts_what_was_chosen() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    let rows = json!([[{"text": "yes", "data": "tea:yes"}, {"text": "no", "data": "tea:no"}]]);
    let tea = offer(&host, json!({"instanceId": id, "to": discord.channel, "text": "tea?", "rows": rows})).await;
    let touch = json!({"kind": "button", "message": tea, "custom_id": "tea:yes"});
    let touch = discord.happens("interact", touch).await;
    let told = touched(&host, &touch).await;
    let who = json!(discord.user);
    assert_eq!((&told["data"], &told["text"], &told["from"]), (&json!("tea:yes"), &json!("yes"), &who), "{told}");
    assert_eq!(told["externalId"], tea);

    // What answers the touch is said to it, and not to everybody.
    let heard = |found: &Value| (found["kind"] != Value::Null).then_some(());
    discord.until("interaction", json!({"id": touch["id"]}), heard).await;
    let options = json!({"ephemeral": true});
    let answer = json!({"instanceId": id, "to": discord.channel, "text": "here you are", "replyTo": touch["id"],
        "options": options});
    send(&host, answer).await;
    let answered = discord.happens("interaction", json!({"id": touch["id"]})).await;
    assert_eq!(answered["followups"][0]["content"], "here you are", "{answered}");
    assert_eq!(answered["followups"][0]["flags"].as_u64().unwrap() & 64, 64, "{answered}");

    let rows = json!([[{"text": "Apples", "data": "a"}], [{"text": "Bananas", "data": "b", "description": "ripe"}]]);
    let fruit = json!({"instanceId": id, "to": discord.channel, "text": "fruit?", "rows": rows, "listTitle": "Choose"});
    let fruit = offer(&host, fruit).await;
    let choice = json!({"kind": "select", "message": fruit, "custom_id": "omni:menu", "values": ["b"]});
    let choice = discord.happens("interact", choice).await;
    let told = touched(&host, &choice).await;
    assert_eq!((&told["data"], &told["text"], &told["externalId"]), (&json!("b"), &json!("Bananas"), &fruit), "{told}");

    // A menu of people, in Discord's own words.
    let people = json!([{"type": 1, "components": [{"type": 5, "custom_id": "who", "placeholder": "Whom?"}]}]);
    let asked = json!({"instanceId": id, "to": discord.channel, "text": "whom?", "options": {"components": people}});
    let asked = send(&host, asked).await;
    let choice =
        json!({"kind": "select", "message": asked["externalMessageId"], "custom_id": "who", "values": [discord.user]});
    let choice = discord.happens("interact", choice).await;
    assert_eq!(touched(&host, &choice).await["data"], who);
    host.stop().await;
    discord.assert_by_the_book().await;
}

/// The plugin has nothing to propose, and says so: else Discord would show an error to whoever types.
#[tokio::test(flavor = "multi_thread")]
async fn who_still_types_a_command_hears_that_there_are_no_proposals() {
    let what = json!({"type": 3, "name": "what", "description": "What", "required": true, "autocomplete": true});
    let find = json!({"name": "find", "description": "Finds", "options": [what]});
    let Some((host, discord, id)) = with_commands(json!([find])).await else { return };
    let typed = json!({"kind": "autocomplete", "name": "find", "options": {"what": "ke"}, "focused": "what"});
    let typed = discord.happens("interact", typed).await;
    let choices = |found: &Value| found["choices"].as_array().cloned();
    assert_eq!(discord.until("interaction", json!({"id": typed["id"]}), choices).await, Vec::<Value>::new());
    discord.says("and on").await;
    assert_eq!(host.stored(&id, &discord.channel, 1).await[0]["textContent"], "and on", "who types has said nothing");
    host.stop().await;
    discord.assert_by_the_book().await;
}
