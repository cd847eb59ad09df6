//! Telegram against a Bot API server that others wrote: npm `telegram-test-api`.
//!
//! The test command installs it and says where in `OMNI_TEST_TELEGRAM_TEST_API`; without that the test says that it is
//! left out.

use crate::harness::{Setup, TestHost, free_address};
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const TOKEN: &str = "123456:a-token-for-the-test-server";

/// A running server; it ends with this value.
struct Server {
    url: String,
    client: reqwest::Client,
    _process: Child,
}

impl Server {
    /// Starts it, when it is installed.
    async fn start() -> Option<Self> {
        let folder = std::env::vars().find(|(name, _)| name == "OMNI_TEST_TELEGRAM_TEST_API");
        let Some((_, folder)) = folder else {
            println!("left out: telegram-test-api is not installed (OMNI_TEST_TELEGRAM_TEST_API)");
            return None;
        };
        let address = free_address();
        let port = address.rsplit(':').next().unwrap();
        let script = format!(
            "const S = require('telegram-test-api'); const s = new S({{port: {port}, host: '127.0.0.1', \
             storage: 'RAM', storeTimeout: 600}}); s.start().then(() => console.log('ready'));"
        );
        let mut process = Command::new("node")
            .args(["-e", &script])
            .current_dir(folder)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node starts");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            if line == "ready" {
                break;
            }
        }
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Some(Self { url: format!("http://{address}"), client: reqwest::Client::new(), _process: process })
    }

    /// Somebody types a message to the bot.
    async fn types(&self, text: &str) {
        let message = json!({
            "botToken": TOKEN, "text": text, "date": 1,
            "from": {"id": 77, "is_bot": false, "first_name": "Ann"},
            "chat": {"id": 77, "type": "private", "first_name": "Ann"},
        });
        let answer = self.client.post(format!("{}/sendMessage", self.url)).json(&message).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    /// What the bot has said, as the person's side sees it.
    async fn heard(&self) -> Value {
        let ask = json!({"token": TOKEN, "chatId": 77});
        let answer = self.client.post(format!("{}/getUpdatesHistory", self.url)).json(&ask).send().await.unwrap();
        answer.json().await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_with_a_server_that_others_wrote() {
    let Some(server) = Server::start().await else { return };
    let setup = || Setup { plugins: vec!["telegram"], ..Setup::default() };
    let host = TestHost::with(setup()).await;
    let new = json!({"name": "bot", "channel": "telegram", "token": TOKEN, "config": {"apiBaseUrl": server.url}});
    let id = host.post("/instances", new).await["data"]["id"].as_str().unwrap().to_owned();
    host.until_state(&id, "connected").await;

    server.types("hello from outside").await;
    let page = format!("/messages?instanceId={id}&chatId=77");
    let has = |text: &'static str| {
        move |body: &Value| {
            body["items"].as_array().is_some_and(|items| items.iter().any(|item| item["textContent"] == text))
        }
    };
    host.until(&page, has("hello from outside")).await;
    let sent = host.post("/messages/send", json!({"instanceId": id, "to": "77", "text": "hello from Omni"})).await;
    assert_eq!(sent["data"]["status"], "sent", "{sent}");
    assert!(server.heard().await.to_string().contains("hello from Omni"));

    let host = host.restart(setup()).await;
    host.until_state(&id, "connected").await;
    server.types("and after a restart").await;
    host.until(&page, has("and after a restart")).await;
    host.post("/messages/send", json!({"instanceId": id, "to": "77", "text": "still here"})).await;
    assert!(server.heard().await.to_string().contains("still here"));
    let all = host.messages(&id, "77").await;
    assert_eq!(all.len(), 4, "nothing twice: {all:?}");
    host.stop().await;
}
