//! Telegram in webhook mode against a Bot API server that others wrote: PyPI `telemelya`, over `fakeredis` and `moto`.
//!
//! The test command installs them and says where in `OMNI_TEST_TELEMELYA`; without that the test says that it is left out.
//! telemelya passes over `secret_token`. So a front stands between, which does with it what Telegram does: it takes it
//! from `setWebhook` and shows it to the host.

use crate::harness::{PATIENCE, PublicUrl, Setup, TestHost, free_address};
use crate::telegram::stored;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

const TOKEN: &str = "123456:a-token-for-the-test-server";
const SECRET_HEADER: &str = "x-telegram-bot-api-secret-token";

/// The servers; they end with this value.
struct Servers {
    url: String,
    client: reqwest::Client,
    _processes: [Child; 3],
}

impl Servers {
    /// Starts them, when they are installed.
    async fn start() -> Option<Self> {
        let folder = std::env::vars().find(|(name, _)| name == "OMNI_TEST_TELEMELYA");
        let Some((_, folder)) = folder else {
            println!("left out: telemelya is not installed (OMNI_TEST_TELEMELYA)");
            return None;
        };
        let python = |words: &[&str]| {
            let mut command = Command::new(Path::new(&folder).join("bin/python"));
            command.args(words).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
            command
        };
        let (redis, files, bot) = (free_address(), free_address(), free_address());
        let port = |address: &str| address.rsplit(':').next().unwrap().to_owned();
        let script = format!(
            "from fakeredis import TcpFakeServer; \
             TcpFakeServer(('127.0.0.1', {}), server_type='redis').serve_forever()",
            port(&redis)
        );
        let redis_server = python(&["-c", &script]).spawn().expect("python starts");
        let moto = ["-m", "moto.server", "-H", "127.0.0.1", "-p", &port(&files)];
        let file_server = python(&moto).spawn().expect("python starts");
        listening(&redis).await;
        listening(&files).await;
        let bot_server = python(&["-m", "telemelya.server.app"])
            .envs([
                ("MOCK_SERVER_HOST", "127.0.0.1".to_owned()),
                ("MOCK_SERVER_PORT", port(&bot)),
                ("MOCK_SERVER_URL", format!("http://{bot}")),
                ("REDIS_URL", format!("redis://{redis}/0")),
                ("MINIO_ENDPOINT", files.clone()),
                ("MINIO_ACCESS_KEY", "a".to_owned()),
                ("MINIO_SECRET_KEY", "b".to_owned()),
                ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
                ("STRICT_EDIT", "true".to_owned()),
                ("AUTH_KEYS", "k1".to_owned()),
            ])
            .spawn()
            .expect("python starts");
        listening(&bot).await;
        let _processes = [redis_server, file_server, bot_server];
        Some(Self { url: format!("http://{bot}"), client: reqwest::Client::new(), _processes })
    }

    /// Something happens to the bot: what telemelya says of its delivery.
    async fn happens(&self, what: Value) -> Value {
        let url = format!("{}/api/v1/test/send_update?bot_token={TOKEN}", self.url);
        let answer = self.client.post(url).bearer_auth("k1").json(&what).send().await.unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        assert!(status.is_success(), "{status} {body}");
        body["delivery"].clone()
    }

    /// What the bot has done, as telemelya recorded it.
    async fn recorded(&self) -> Value {
        let url = format!("{}/api/v1/test/responses", self.url);
        self.client.get(url).bearer_auth("k1").send().await.unwrap().json().await.unwrap()
    }
}

/// Waits until somebody listens there.
async fn listening(address: &str) {
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    while tokio::net::TcpStream::connect(address).await.is_err() {
        assert!(began.elapsed() < PATIENCE * 2, "nobody listens at {address}");
        tick.tick().await;
    }
}

/// What stands between telemelya and the host.
#[derive(Clone)]
struct Front {
    telemelya: String,
    client: reqwest::Client,
    world: Arc<Mutex<World>>,
}

#[derive(Default)]
struct World {
    host: String,
    secret: Option<String>,
    keeps_secret: bool,
}

impl Front {
    /// Starts one; gives it and its address.
    async fn start(servers: &Servers) -> (Self, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let front = Self { telemelya: servers.url.clone(), client: servers.client.clone(), world: Arc::default() };
        let router = Router::new().route("/{*path}", any(pass)).with_state(front.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (front, url)
    }
}

/// `/omni/…` goes to the host, with the secret; everything else to telemelya, from which the secret is read.
async fn pass(State(front): State<Front>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let path = parts.uri.path_and_query().unwrap().as_str();
    let (to, secret) = {
        let mut world = front.world.lock().unwrap();
        if path.ends_with("/setWebhook") {
            let call: Value = serde_json::from_slice(&body).unwrap();
            world.secret = call["secret_token"].as_str().map(str::to_owned);
        }
        match path.strip_prefix("/omni") {
            Some(rest) => (format!("{}{rest}", world.host), world.secret.clone().filter(|_| !world.keeps_secret)),
            None => (format!("{}{path}", front.telemelya), None),
        }
    };
    let mut call = front.client.request(parts.method, to).body(body);
    if let Some(kind) = parts.headers.get("content-type") {
        call = call.header("content-type", kind);
    }
    if let Some(secret) = secret {
        call = call.header(SECRET_HEADER, secret);
    }
    match call.send().await {
        Ok(answer) => (answer.status(), answer.bytes().await.unwrap()).into_response(),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_of_a_server_that_others_wrote() {
    let Some(servers) = Servers::start().await else { return };
    let (front, url) = Front::start(&servers).await;
    let setup = || Setup {
        plugins: vec!["telegram"],
        public_url: Some(PublicUrl::Front(format!("{url}/omni"))),
        ..Setup::default()
    };
    let host = TestHost::with(setup()).await;
    front.world.lock().unwrap().host.clone_from(&host.url);
    let config = json!({"apiBaseUrl": url, "mode": "webhook", "chatPerSecond": 0});
    let new = json!({"name": "bot", "channel": "telegram", "token": TOKEN, "config": config});
    let id = host.post("/instances", new).await["data"]["id"].as_str().unwrap().to_owned();
    host.until_state(&id, "connected").await;
    let chat = json!({"id": 77});

    // Words, both ways.
    let delivery = servers.happens(json!({"chat_id": 77, "text": "hello from outside"})).await;
    assert_eq!(delivery["status_code"], 200, "{delivery}");
    assert_eq!(stored(&host, &id, &chat, 1).await[0]["textContent"], "hello from outside");
    let sent = host.post("/messages/send", json!({"instanceId": id, "to": "77", "text": "hello from Omni"})).await;
    assert_eq!(sent["data"]["status"], "sent", "{sent}");
    assert!(servers.recorded().await.to_string().contains("hello from Omni"));

    // Without the secret nothing comes in.
    front.world.lock().unwrap().keeps_secret = true;
    let delivery = servers.happens(json!({"chat_id": 77, "text": "from a stranger"})).await;
    assert_eq!(delivery["status_code"], 401, "{delivery}");
    front.world.lock().unwrap().keeps_secret = false;

    // A picture goes up, and comes down again.
    let data = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode([42u8; 5_000])
    };
    let send = json!({"instanceId": id, "to": "77", "type": "image", "base64": data, "filename": "a.jpg"});
    assert_eq!(host.post("/messages/send/media", send).await["data"]["status"], "sent");
    let recorded = servers.recorded().await;
    let file = find(&recorded, "file_id").unwrap_or_else(|| panic!("no file in {recorded}"));
    let delivery = servers.happens(json!({"chat_id": 77, "photo_file_id": file, "photo_caption": "the same"})).await;
    assert_eq!(delivery["status_code"], 200, "{delivery}");
    let page = format!("/messages?instanceId={id}&chatId=77");
    let body = host.until(&page, |body| body["items"][0]["mediaUrl"].is_string()).await;
    let picture = format!("{}{}", host.url, body["items"][0]["mediaUrl"].as_str().unwrap());
    let picture = servers.client.get(picture).header("x-api-key", &host.key).send().await.unwrap();
    assert_eq!(picture.bytes().await.unwrap().as_ref(), [42u8; 5_000].as_slice());

    // A touched button, and the same again after a restart.
    let touch = json!({"chat_id": 77, "callback_data": "yes", "callback_message_id": 1});
    assert_eq!(servers.happens(touch).await["status_code"], 200);
    let clicks = "/events?eventType=message.button_click";
    host.until(clicks, |events| events["items"].as_array().is_some_and(|items| items.len() == 1)).await;
    let host = host.restart(setup()).await;
    front.world.lock().unwrap().host.clone_from(&host.url);
    host.until_state(&id, "connected").await;
    let delivery = servers.happens(json!({"chat_id": 77, "text": "and after a restart"})).await;
    assert_eq!(delivery["status_code"], 200, "{delivery}");
    let messages = stored(&host, &id, &chat, 5).await;
    assert_eq!(messages[4]["textContent"], "and after a restart");
    let sent = host.post("/messages/send", json!({"instanceId": id, "to": "77", "text": "still here"})).await;
    assert_eq!(sent["data"]["status"], "sent", "{sent}");
    assert!(servers.recorded().await.to_string().contains("still here"));
    host.stop().await;
}

/// The first field of a name, however deep.
fn find(json: &Value, name: &str) -> Option<String> {
    match json {
        Value::Object(fields) => match fields.get(name).and_then(Value::as_str) {
            Some(found) => Some(found.to_owned()),
            None => fields.values().find_map(|value| find(value, name)),
        },
        Value::Array(items) => items.iter().find_map(|item| find(item, name)),
        _ => None,
    }
}
