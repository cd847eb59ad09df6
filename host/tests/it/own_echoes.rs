//! Our own messages come back from a network that makes their ids itself: each is one message and one `message.sent`,
//! whether the network shows it before it answers the send, afterwards, or never.

use crate::faults::program::{Launch, Program};
use crate::harness::{PATIENCE, Setup, TestHost, free_address, http_client, install, plugin_file};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Instant;

/// The network behind a faulty instance, as it is reached from outside.
struct Network {
    url: String,
    client: reqwest::Client,
}

impl Network {
    fn at(address: &str) -> Self {
        Self { url: format!("http://{address}"), client: http_client(PATIENCE) }
    }

    async fn post(&self, body: Value) {
        let answer = self.client.post(&self.url).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
    }

    /// Shows us our own message.
    async fn echo(&self, id: &str, text: &str) {
        self.post(json!({"chatId": "room", "from": "me", "externalId": id, "text": text, "fromMe": true})).await;
    }

    /// Answers the sends that it holds.
    async fn let_go(&self) {
        self.post(json!({"chatId": "", "from": "", "externalId": "", "text": "let go"})).await;
    }

    /// Waits for what the plugin has seen.
    async fn until(&self, what: &str, seen: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(10));
        loop {
            tick.tick().await;
            if let Ok(answer) = self.client.get(&self.url).send().await {
                let found: Value = answer.json().await.unwrap_or_default();
                if seen(&found) {
                    return found;
                }
            }
            assert!(began.elapsed() < PATIENCE, "the plugin never had {what}");
        }
    }

    /// Waits until the network has taken a message, and gives the id that it made.
    async fn taken(&self) -> String {
        let seen = self.until("a send", |seen| seen["sent"][0].is_object()).await;
        seen["sent"][0]["id"].as_str().unwrap().to_owned()
    }
}

async fn faulty() -> (TestHost, String, Network) {
    let host = TestHost::with(Setup { plugins: vec!["faulty"], ..Setup::default() }).await;
    let address = free_address();
    let id = host.instance("f", "faulty", json!({"listen": address})).await;
    host.until_state(&id, "connected").await;
    (host, id, Network::at(&address))
}

/// One message in the chat, one `message.sent` about it, and nothing received.
fn assert_once(messages: &Value, events: &Value, id: &str) {
    let items = messages["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "{messages}");
    assert_eq!((&items[0]["id"], &items[0]["deliveryStatus"]), (&json!(id), &json!("sent")), "{messages}");
    let of = |kind: &str| -> Vec<Value> {
        let events = events["items"].as_array().unwrap();
        events.iter().filter(|event| event["eventType"] == kind).cloned().collect()
    };
    assert_eq!((of("message.sent").len(), of("message.received").len()), (1, 0), "{events}");
    assert_eq!(of("message.sent")[0]["payload"]["messageId"], id, "the event is about that message: {events}");
}

async fn assert_stored_once(host: &TestHost, instance: &str, id: &str) {
    host.settle().await;
    let messages = host.get(&format!("/messages?instanceId={instance}&chatId=room&limit=100")).await;
    let events = host.get("/events?limit=100").await;
    assert_once(&messages, &events, id);
    let chats = host.get(&format!("/chats?instanceId={instance}")).await;
    assert_eq!(chats["items"][0]["messageCount"], 1, "{chats}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_echo_that_comes_before_the_answer_waits_for_it() {
    let (host, id, network) = faulty().await;
    let send = json!({"instanceId": id, "to": "room", "text": "held"});
    let sending = host.call(Method::POST, "/messages/send", Some(send));
    let echoing = async {
        let name = network.taken().await;
        tokio::join!(network.echo(&name, "held"), async {
            host.until(&format!("/instances/{id}/status"), |body| body["data"]["profileName"] == "saw an echo").await;
            // Whatever would be stored of it now is stored now.
            host.settle().await;
            network.let_go().await;
        });
    };
    let ((status, sent), ()) = tokio::join!(sending, echoing);
    assert_eq!(sent["data"]["status"], "sent", "{status} {sent}");
    assert_stored_once(&host, &id, sent["data"]["messageId"].as_str().unwrap()).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_echo_that_comes_after_the_answer_is_known_again() {
    let (host, id, network) = faulty().await;
    let sent = host.post("/messages/send", json!({"instanceId": id, "to": "room", "text": "hello"})).await;
    let name = network.taken().await;
    assert_eq!(sent["data"]["externalMessageId"], json!(name), "{sent}");
    network.echo(&name, "hello").await;
    // Networks show things twice.
    network.echo(&name, "hello").await;
    assert_stored_once(&host, &id, sent["data"]["messageId"].as_str().unwrap()).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_without_echoes_is_not_waited_for() {
    let (host, id, _network) = faulty().await;
    let sent = host.post("/messages/send", json!({"instanceId": id, "to": "room", "text": "hello"})).await;
    assert_eq!(sent["data"]["status"], "sent", "{sent}");
    assert_stored_once(&host, &id, sent["data"]["messageId"].as_str().unwrap()).await;
    host.stop().await;
}

/// A host that was killed when the network had a message and had not answered, and started again.
struct Killed {
    program: Program,
    network: Network,
    /// The instance.
    id: String,
    /// The id that the network made.
    name: String,
    _folder: tempfile::TempDir,
}

impl Killed {
    /// `reconcile` is what the network can tell of it.
    async fn with(reconcile: &str) -> Self {
        Self::slowed(reconcile, None).await
    }

    /// The same, and the second start dawdles somewhere.
    async fn slowed(reconcile: &str, at: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        install(&data, &plugin_file("faulty"));
        let (listen, address) = (free_address(), free_address());
        let network = Network::at(&address);
        let mut program = Launch::new(&data, &listen).start().await;
        let new = json!({"name": "f", "channel": "faulty", "config": {"listen": address, "reconcile": reconcile}});
        let (status, made) = program.post("/instances", &new, None).await.unwrap();
        assert_eq!(status, 201, "{made}");
        let id = made["data"]["id"].as_str().unwrap().to_owned();
        let send = json!({"instanceId": id, "to": "room", "text": "held"});
        let sending = async {
            // Whoever sends is told after a while that it is still under way.
            let answer = program.post("/messages/send", &send, None).await;
            assert_eq!(answer.as_ref().map(|(status, _)| *status), Some(202), "it is held, and yet {answer:?}");
            std::future::pending().await
        };
        let name = tokio::select! {
            name = network.taken() => name,
            never = sending => never,
        };
        program.kill().await;
        // Long enough for whatever the network still says.
        let fail_at = at.map(str::to_owned);
        let program = Launch { reconcile_seconds: 60, fail_at, ..Launch::new(&data, &listen) }.start().await;
        Self { program, network, id, name, _folder: folder }
    }

    fn page(&self) -> String {
        format!("/messages?instanceId={}&chatId=room&limit=100", self.id)
    }

    async fn until(&self, path: &str, what: &str, seen: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(20));
        loop {
            tick.tick().await;
            let found = self.program.get(path).await.unwrap_or_default();
            if seen(&found) {
                return found;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: {found}");
        }
    }

    /// Waits until all that the network has said so far is applied.
    async fn applied(&self) {
        // What is answered is durable, and stored in the order in which it came.
        self.network.post(json!({"chatId": "other", "from": "ann", "externalId": "1", "text": "next"})).await;
        let path = format!("/messages?instanceId={}&chatId=other", self.id);
        self.until(&path, "what comes next is never stored", |found| found["items"][0].is_object()).await;
    }

    /// The events of the chat.
    async fn events(&self) -> Value {
        let mut events = self.program.get("/events?limit=100").await.unwrap();
        events["items"].as_array_mut().unwrap().retain(|event| event["payload"]["chatId"] == "room");
        events
    }
}

fn is_sent(messages: &Value) -> bool {
    messages["items"].as_array().is_some_and(|items| items.iter().any(|item| item["deliveryStatus"] == "sent"))
}

/// Afterwards the network can tell that it has it, and shows it, too.
#[tokio::test(flavor = "multi_thread")]
async fn an_echo_that_comes_after_a_kill_is_the_message_that_was_under_way() {
    let mut killed = Killed::with("sent").await;
    let messages = killed.until(&killed.page(), "its outcome is never known", is_sent).await;
    killed.network.until("a start", Value::is_object).await;
    killed.network.echo(&killed.name, "held").await;
    killed.applied().await;
    let ours = messages["items"][0]["id"].as_str().unwrap();
    assert_once(&killed.program.get(&killed.page()).await.unwrap(), &killed.events().await, ours);
    killed.program.kill().await;
}

/// The network cannot tell, and shows it as one of ours, first of all.
#[tokio::test(flavor = "multi_thread")]
async fn an_echo_of_which_nobody_can_tell_is_known_by_its_words() {
    known_by_its_words(Killed::with("").await).await;
}

/// On a busy machine any of the parts of a host may be the last to be there.
#[tokio::test(flavor = "multi_thread")]
async fn an_echo_is_known_by_its_words_in_whatever_order_the_parts_of_the_host_are_there() {
    for late in ["instances.spawned=sleep(1500)", "outbound.recover=sleep(1500)"] {
        known_by_its_words(Killed::slowed("", Some(late)).await).await;
    }
}

async fn known_by_its_words(mut killed: Killed) {
    killed.network.until("a start", Value::is_object).await;
    let before = killed.program.get(&killed.page()).await.unwrap();
    let ours = before["items"][0]["id"].as_str().unwrap().to_owned();
    killed.network.echo(&killed.name, "held").await;
    killed.applied().await;
    let told = |events: &Value| {
        let mut items = events["items"].as_array().into_iter().flatten();
        items.any(|event| event["eventType"] == "message.sent")
    };
    killed.until("/events?limit=100", "nobody is told that it is sent", told).await;
    assert_once(&killed.program.get(&killed.page()).await.unwrap(), &killed.events().await, &ours);
    // Somebody types the same words on the phone: that is another message.
    killed.network.echo("typed", "held").await;
    let two = |found: &Value| found["items"].as_array().is_some_and(|items| items.len() == 2);
    let messages = killed.until(&killed.page(), "what is typed is stored", two).await;
    let ids: Vec<&Value> = messages["items"].as_array().unwrap().iter().map(|item| &item["externalId"]).collect();
    assert!(ids.contains(&&json!("typed")) && ids.contains(&&json!(killed.name)), "{messages}");
    killed.program.kill().await;
}
