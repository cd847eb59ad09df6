//! A business number on the Cloud API end to end, against a Graph API of our own that is held to Meta's OpenAPI document.

use crate::auth_migration::tree;
use crate::graph_fake::{BUSINESS, Fault, Graph, PHONE, SECRET, TOKEN, written};
use crate::harness::{PATIENCE, PublicUrl, Setup, TestHost, http_client};
use crate::postgres_server::Server;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const ANA: &str = "16505551234";

fn setup() -> Setup {
    Setup { plugins: vec!["whatsapp_cloud"], public_url: Some(PublicUrl::Own), ..Setup::default() }
}

async fn instance(host: &TestHost, graph: &Graph) -> String {
    let config =
        json!({"apiBaseUrl": graph.url(), "phoneNumberId": PHONE, "businessAccountId": BUSINESS, "appSecret": SECRET});
    let new = json!({"name": "shop", "channel": "whatsapp-cloud", "token": TOKEN, "config": config});
    let made = host.post("/instances", new).await;
    assert!(!made.to_string().contains(TOKEN) && !made.to_string().contains(SECRET), "no secret is shown: {made}");
    made["data"]["id"].as_str().unwrap().to_owned()
}

/// A host with a number that is connected.
async fn number() -> (TestHost, Graph, String) {
    let graph = Graph::start().await;
    let host = TestHost::with(setup()).await;
    let id = instance(&host, &graph).await;
    host.until_state(&id, "connected").await;
    (host, graph, id)
}

async fn send(host: &TestHost, id: &str, body: Value) -> Value {
    let mut whole = json!({"instanceId": id, "to": ANA});
    whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    let sent = host.post("/messages/send", whole).await;
    assert_eq!(sent["data"]["status"], "sent", "{sent}");
    sent["data"].clone()
}

fn text(words: &str) -> Value {
    json!({"type": "text", "text": {"body": words}})
}

/// The words of messages, in the order of the alphabet.
fn texts(messages: &[Value]) -> Vec<&str> {
    let mut texts: Vec<_> = messages.iter().map(|message| message["textContent"].as_str().unwrap()).collect();
    texts.sort_unstable();
    texts
}

/// Waits until a message of the chat is as wanted.
async fn some(host: &TestHost, id: &str, seen: impl Fn(&Value) -> bool) -> Value {
    let path = format!("/messages?instanceId={id}&chatId={ANA}");
    let find = |body: &Value| body["items"].as_array().and_then(|items| items.iter().find(|item| seen(item)).cloned());
    let body = host.until(&path, |body| find(body).is_some()).await;
    find(&body).expect("it was there a moment ago")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_both_ways_and_over_a_restart() {
    let (host, graph, id) = number().await;
    assert_eq!(graph.hook(), Some(format!("{}/api/v2/channels/{id}/webhook", host.url)));
    assert!(graph.is_subscribed());
    let status = host.get(&format!("/instances/{id}/status")).await;
    assert!(status.to_string().contains("Jasper's Market"), "{status}");

    graph.says(ANA, "wamid.IN1", text("¿Viene en otro color? 🌵")).await;
    let messages = host.stored(&id, ANA, 1).await;
    assert_eq!(messages[0]["textContent"], "¿Viene en otro color? 🌵");
    assert_eq!(
        (&messages[0]["externalId"], &messages[0]["senderDisplayName"]),
        (&json!("wamid.IN1"), &json!("Sheena")),
        "{messages:?}"
    );
    let sent = send(&host, &id, json!({"text": "yes, in red", "replyTo": "wamid.IN1"})).await;
    let (wamid, there) = graph.messages().pop().unwrap();
    assert_eq!((&there["text"]["body"], &there["context"]["message_id"]), (&json!("yes, in red"), &json!("wamid.IN1")));
    // Meta tells in any order, and more than once.
    for status in ["read", "sent", "delivered", "read"] {
        graph.status(&wamid, ANA, status, json!({})).await;
    }
    let read = some(&host, &id, |message| message["deliveryStatus"] == "read").await;
    assert_eq!(read["id"], sent["messageId"], "{read}");

    let host = host.restart(setup()).await;
    host.until_state(&id, "connected").await;
    // What Meta was not sure of comes again.
    graph.says(ANA, "wamid.IN1", text("¿Viene en otro color? 🌵")).await;
    graph.says(ANA, "wamid.IN2", text("good")).await;
    assert_eq!(texts(&host.stored(&id, ANA, 3).await), ["good", "yes, in red", "¿Viene en otro color? 🌵"]);
    some(&host, &id, |message| message["id"] == sent["messageId"] && message["deliveryStatus"] == "read").await;
    let person = host.get("/persons").await;
    assert!(person.to_string().contains(&format!("+{ANA}")), "a person is known by the number: {person}");
    graph.assert_by_the_book();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_do_and_what_is_done_with_it() {
    let (host, graph, id) = number().await;
    graph.says(ANA, "wamid.IN1", text("hi")).await;
    graph.says(ANA, "wamid.IN1b", text("anybody there?")).await;
    let unread = host.stored(&id, ANA, 2).await;
    host.post(&format!("/chats/{}/read", unread[0]["chatId"].as_str().unwrap()), json!({})).await;
    let read = graph.messages().pop().unwrap().1;
    assert_eq!((&read["status"], &read["message_id"]), (&json!("read"), &json!("wamid.IN1b")), "up to the newest");
    let named = json!({"instanceId": id, "chatId": ANA, "messageIds": [unread[1]["id"], unread[0]["id"]]});
    host.post("/messages/read", named).await;
    assert_eq!(graph.messages().pop().unwrap().1["message_id"], "wamid.IN1b", "in whatever order they are named");
    send(&host, &id, json!({"text": "which?"})).await;
    let (asked, _) = graph.messages().pop().unwrap();
    graph.says(ANA, "wamid.R", json!({"type": "reaction", "reaction": {"message_id": asked, "emoji": "👍"}})).await;
    some(&host, &id, |message| message["reactions"][0]["emoji"] == "👍").await;
    let answer = json!({"type": "button_reply", "button_reply": {"id": "red", "title": "Red"}});
    let context = json!({"from": "15550783881", "id": asked});
    graph.says(ANA, "wamid.B", json!({"type": "interactive", "context": context, "interactive": answer})).await;
    let chosen = some(&host, &id, |message| message["externalId"] == "wamid.B").await;
    assert_eq!(chosen["textContent"], "Red");
    let told = host.get(&format!("/events?instanceId={id}&limit=50")).await;
    assert!(told.to_string().contains("\"red\""), "what the button carries is told: {told}");

    let post = async |path: &str, body: Value| host.post(path, body).await;
    post("/messages/send/reaction", json!({"instanceId": id, "to": ANA, "messageId": "wamid.IN1", "emoji": "❤️"}))
        .await;
    assert_eq!(graph.messages().pop().unwrap().1["reaction"], json!({"message_id": "wamid.IN1", "emoji": "❤️"}));
    post("/messages/send/presence", json!({"instanceId": id, "to": ANA, "type": "typing"})).await;
    let shown = graph.messages().pop().unwrap().1;
    assert_eq!((&shown["message_id"], &shown["typing_indicator"]["type"]), (&json!("wamid.B"), &json!("text")));
    post("/messages/send/location", json!({"instanceId": id, "to": ANA, "latitude": 37.5, "longitude": -122.25})).await;
    assert_eq!(graph.messages().pop().unwrap().1["location"], json!({"latitude": "37.5", "longitude": "-122.25"}));
    graph.assert_by_the_book();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_down_with_the_token_and_go_up() {
    let (host, graph, id) = number().await;
    let picture = vec![42u8; 70_000];
    graph.put_file("1003383421387256", &picture);
    let image = json!({"id": "1003383421387256", "mime_type": "image/jpeg", "sha256": "x", "caption": "look"});
    graph.says(ANA, "wamid.IN1", json!({"type": "image", "image": image})).await;
    let message = some(&host, &id, |message| message["mediaUrl"].is_string()).await;
    assert_eq!((&message["messageType"], &message["textContent"]), (&json!("image"), &json!("look")), "{message}");
    let url = format!("{}{}", host.url, message["mediaUrl"].as_str().unwrap());
    let file = http_client(PATIENCE).get(url).header("x-api-key", &host.key).send().await.unwrap();
    assert_eq!(file.bytes().await.unwrap(), picture);

    let data = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [7u8; 5_000]);
    let document = json!({"instanceId": id, "to": ANA, "type": "document", "base64": data, "filename": "a.pdf", "mimeType": "application/pdf", "caption": "here"});
    let sent = host.post("/messages/send/media", document).await;
    assert_eq!(sent["data"]["status"], "sent", "{sent}");
    let (_, there) = graph.messages().pop().unwrap();
    assert_eq!(
        (&there["document"]["filename"], &there["document"]["caption"]),
        (&json!("a.pdf"), &json!("here")),
        "{there}"
    );
    assert_eq!(graph.file(there["document"]["id"].as_str().unwrap()), vec![7u8; 5_000]);
    graph.assert_by_the_book();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_signed_is_refused_and_only_the_token_is_answered() {
    let (host, graph, id) = number().await;
    let hook = graph.hook().unwrap();
    let client = http_client(PATIENCE);
    let (signature, body) = Graph::call(&written(ANA, "wamid.LIE", text("lies")));
    let bare = client.post(&hook).body(body.clone()).send().await.unwrap();
    assert_eq!(bare.status(), StatusCode::UNAUTHORIZED);
    let other = body.replace("lies", "lied");
    let changed = client.post(&hook).header("x-hub-signature-256", &signature).body(other).send().await.unwrap();
    assert_eq!(changed.status(), StatusCode::UNAUTHORIZED);
    let asked = |token: &str| {
        let query = [("hub.mode", "subscribe"), ("hub.challenge", "1"), ("hub.verify_token", token)];
        client.get(&hook).query(&query).send()
    };
    assert_eq!(asked("guessed").await.unwrap().status(), StatusCode::FORBIDDEN);
    let nothing = client.get(&hook).send().await.unwrap();
    assert_eq!(nothing.status(), StatusCode::UNAUTHORIZED, "what is no challenge has to be signed");
    graph.says(ANA, "wamid.IN1", text("the truth")).await;
    let messages = host.stored(&id, ANA, 1).await;
    assert_eq!(messages[0]["textContent"], "the truth");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_later_and_what_is_not_known_ends_as_what_it_was() {
    let (host, graph, id) = number().await;
    send(&host, &id, json!({"text": "too late"})).await;
    let (wamid, _) = graph.messages().pop().unwrap();
    let errors = json!([{"code": 131_047, "title": "Re-engagement message", "message": "Re-engagement message"}]);
    graph.status(&wamid, ANA, "failed", json!({ "errors": errors })).await;
    let failed = some(&host, &id, |message| message["deliveryStatus"] == "failed").await;
    assert!(failed.to_string().contains("template"), "it says what to do: {failed}");

    let template = json!({"name": "hello_world", "language": "en_US"});
    send(&host, &id, json!({"text": "Hello World", "options": {"template": template}})).await;
    let (_, there) = graph.messages().pop().unwrap();
    assert_eq!(there["template"], json!({"name": "hello_world", "language": {"code": "en_US"}}), "{there}");

    // The answer is lost. Meta tells of the message all the same, by our own id.
    graph.fail("messages", Fault::DoneThenCut);
    let body = json!({"instanceId": id, "to": ANA, "text": "once"});
    let sending = host.call(Method::POST, "/messages/send", Some(body));
    let telling = async {
        let began = Instant::now();
        let (wamid, there) = loop {
            let last = graph.messages().pop().unwrap();
            if last.1["text"]["body"] == "once" {
                break last;
            }
            assert!(began.elapsed() < PATIENCE);
            tokio::task::yield_now().await;
        };
        let own = there["biz_opaque_callback_data"].clone();
        graph.status(&wamid, ANA, "sent", json!({"biz_opaque_callback_data": own})).await;
        wamid
    };
    let (_, wamid) = tokio::join!(sending, telling);
    let sent = some(&host, &id, |message| message["externalId"] == wamid.as_str()).await;
    assert_eq!((&sent["textContent"], &sent["deliveryStatus"]), (&json!("once"), &json!("sent")), "{sent}");
    let times = graph.messages().iter().filter(|(_, message)| message["text"]["body"] == "once").count();
    assert_eq!(times, 1, "it is not sent again");

    // Meta writes some numbers otherwise than people do: it is one chat.
    let sent = host.post("/messages/send", json!({"instanceId": id, "to": "5511999990001", "text": "oi"})).await;
    assert_eq!(sent["data"]["status"], "sent", "{sent}");
    graph.says("551199990001", "wamid.BR", text("oi!")).await;
    assert_eq!(texts(&host.stored(&id, "5511999990001", 2).await), ["oi", "oi!"]);
    graph.assert_by_the_book();
    host.stop().await;
}

/// The host's clock moves on by so much while a state is waited for.
const STEP: Duration = Duration::from_secs(61);

#[tokio::test(flavor = "multi_thread")]
async fn the_webhook_is_set_until_it_holds_looked_after_and_taken_back() {
    let graph = Graph::start().await;
    let host = TestHost::with(Setup { manual_clock: true, ..setup() }).await;
    graph.fail("", Fault::Refuse(400, 2200, "Callback verification failed"));
    let id = instance(&host, &graph).await;
    let told = host.until_state(&id, "disconnected").await.to_string();
    assert!(told.contains("http.public_url"), "{told}");
    host.in_time(&id, "connected", STEP).await;

    graph.move_hook("https://thief.example/secret");
    let told = host.in_time(&id, "disconnected", STEP).await.to_string();
    assert!(told.contains("thief.example") && !told.contains("/secret"), "{told}");
    host.post(&format!("/instances/{id}/restart"), json!({})).await;
    host.until_state(&id, "connected").await;
    assert!(graph.hook().unwrap().starts_with(&host.url));

    let (status, answer) = host.call(Method::DELETE, &format!("/instances/{id}"), None).await;
    assert!(status.is_success(), "{answer}");
    assert_eq!(graph.hook(), None, "Meta calls the app's own webhook again");

    let id = instance(&host, &graph).await;
    host.until_state(&id, "connected").await;
    graph.revoke();
    let told = host.in_time(&id, "logged_out", STEP).await.to_string();
    assert!(told.contains("--token-stdin"), "{told}");
    graph.assert_by_the_book();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_account_is_seen_and_changed_and_people_are_blocked() {
    let (host, graph, id) = number().await;
    let put = async |path: &str, body: Value| {
        let (status, answer) = host.call(Method::PUT, &format!("/instances/{id}{path}"), Some(body)).await;
        assert!(status.is_success(), "{path}: {answer}");
    };
    put("/profile/status", json!({"status": "We sell cacti"})).await;
    host.post(&format!("/instances/{id}/block"), json!({"contactId": ANA})).await;
    assert_eq!(graph.about(), ("We sell cacti".to_owned(), vec![ANA.to_owned()]));
    let blocked = host.get(&format!("/instances/{id}/blocklist")).await;
    assert!(blocked.to_string().contains(ANA), "{blocked}");
    let (status, answer) =
        host.call(Method::PUT, &format!("/instances/{id}/profile/name"), Some(json!({"name": "Other"}))).await;
    assert!(!status.is_success() && answer.to_string().contains("WhatsApp Manager"), "{status} {answer}");
    graph.assert_by_the_book();
    host.stop().await;
}

/// Evolution's tables as far as they matter here, in the database of an Omni v1.
const EVOLUTION: &str = r#"
create table "evo_Instance" (id text primary key, name text, "connectionStatus" text, integration text, number text, "businessId" text,
    token text, "clientName" text, "updatedAt" timestamp);
create table "evo_Session" (id text primary key, "sessionId" text unique, creds text);
create table omni_instance_configs (id int, name text, whatsapp_instance text);
insert into "evo_Instance" values
    ('u-1', 'phone', 'open', 'WHATSAPP-BAILEYS', null, null, 'A1B2', 'evolution', now()),
    ('u-3', 'cloud-api', 'open', 'WHATSAPP-BUSINESS', '106540352242922', '102290129340398', 'EAATESTTOKEN', 'evolution', now());
insert into "evo_Session" values ('s1', 'u-1', '"{}"');
insert into omni_instance_configs values (1, 'shop', 'cloud-api');
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_number_of_evolution_goes_on_with_its_token() {
    let Some(server) = Server::start(&["fsync = off"]) else { return };
    server.create("v1", None);
    server.ask("v1", EVOLUTION);
    let graph = Graph::start().await;
    let host = TestHost::with(setup()).await;
    let from = format!("evolution-postgres:{}", server.url("v1"));
    let config = json!({"apiBaseUrl": graph.url()});
    let new = json!({"name": "shop", "channel": "whatsapp-cloud", "config": config});
    let id = host.post("/instances", new).await["data"]["id"].as_str().unwrap().to_owned();
    host.until_state(&id, "waiting_for_login").await;

    let args = ["migrate", "auth", "--json", "--channel", "whatsapp-cloud", "--instance", "shop", "--from", &from];
    let (said, status) = host.cli(&[&args[..], &["--dry-run"]].concat()).await;
    assert!(status.success() && said.contains("app secret"), "{said}");
    let (said, status) = host.cli(&args).await;
    assert!(!status.success() && said.contains("--source-stopped"), "{said}");
    graph.fail("GET", Fault::Refuse(401, 190, "Session has expired"));
    let (said, status) = host.cli(&[&args[..], &["--source-stopped", "--replace"]].concat()).await;
    assert!(!status.success() && said.contains("Session has expired"), "a token that is no good is refused: {said}");
    let (said, status) = host.cli(&[&args[..], &["--source-stopped", "--replace", "--connect"]].concat()).await;
    assert!(status.success(), "{said}");
    let report: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(report["written"], json!({"token": 1, "phoneNumberId": 1, "businessAccountId": 1}), "{report}");
    assert_eq!((&report["paired"], &report["source"][0]["for"]), (&json!(true), &json!("credentials")), "{report}");
    assert!(!said.contains(TOKEN), "{said}");

    // Only what Evolution does not keep is asked for.
    host.until_state(&id, "waiting_for_login").await;
    let login = format!("/instances/{id}/login");
    let step = host.post(&login, json!({"action": "start"})).await;
    let fields: Vec<_> =
        step["data"]["show"]["fields"].as_array().unwrap().iter().map(|field| field["id"].clone()).collect();
    assert_eq!(fields, [json!("appSecret")], "{step}");
    let filled = json!({"action": "submit", "stepId": "credentials", "fields": {"appSecret": SECRET}});
    assert_eq!(host.post(&login, filled).await["data"]["show"]["type"], "done");
    host.until_state(&id, "connected").await;
    assert!(graph.hook().is_some() && graph.is_subscribed());
    graph.says(ANA, "wamid.IN1", text("still there?")).await;
    host.stored(&id, ANA, 1).await;
    send(&host, &id, json!({"text": "yes"})).await;

    // A linked device is another channel's, and is not taken for one of these.
    let other = [
        "migrate",
        "auth",
        "--channel",
        "whatsapp-cloud",
        "--instance",
        "shop2",
        "--from",
        &from,
        "--source-instance",
        "phone",
        "--source-stopped",
    ];
    let (said, status) = host.cli(&other).await;
    assert!(!status.success() && said.contains("whatsapp-baileys"), "{said}");
    let home = tempfile::tempdir().unwrap();
    tree(home.path(), &["creds.json"]);
    let folder = format!("baileys:{}", home.path().display());
    let folder = [
        "migrate",
        "auth",
        "--channel",
        "whatsapp-cloud",
        "--instance",
        "shop3",
        "--from",
        &folder,
        "--source-stopped",
    ];
    let (said, status) = host.cli(&folder).await;
    assert!(!status.success() && said.contains("no number of the Cloud API"), "{said}");
    host.stop().await;
}
