//! A Graph API for one business number, on loopback: it makes sure of webhooks and signs what it sends there as Meta does,
//! holds every message against Meta's OpenAPI document, and fails when it is told to.

mod spec;

use crate::harness::{PATIENCE, http_client};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Path, Query, Request, State as Extract};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

/// The number, by Meta's id, and the account that it belongs to.
pub const PHONE: &str = "106540352242922";
pub const BUSINESS: &str = "102290129340398";
/// What Evolution's row of it has.
pub const TOKEN: &str = "EAATESTTOKEN";
/// What it signs with.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// What goes wrong with the next call of an edge.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is refused: the status, Meta's code, and words.
    Refuse(u16, i64, &'static str),
    /// It is done, and the connection is cut before the answer.
    DoneThenCut,
}

/// The server.
#[derive(Debug)]
pub struct Graph {
    address: String,
    shared: Arc<Shared>,
    serving: tokio::task::JoinHandle<()>,
    client: reqwest::Client,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    spec: Option<spec::Spec>,
}

#[derive(Debug, Default)]
struct State {
    token: String,
    /// The address that was set for the number, and what has to be shown there.
    hook: Option<String>,
    subscribed: bool,
    /// What was sent, in order, with the id that it got.
    messages: Vec<(String, Value)>,
    files: BTreeMap<String, Vec<u8>>,
    about: String,
    blocked: Vec<String>,
    faults: HashMap<&'static str, VecDeque<Fault>>,
    violations: Vec<String>,
    next: u64,
}

impl Drop for Graph {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }
}

impl Graph {
    /// Starts it.
    pub async fn start() -> Self {
        let spec = spec::Spec::load(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
        let state = Mutex::new(State { token: TOKEN.to_owned(), ..State::default() });
        let shared = Arc::new(Shared { state, spec });
        let router = Router::new()
            .route("/{version}/{object}", any(object))
            .route("/{version}/{object}/{edge}", any(edge))
            .route("/files/{id}", get(file))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it has an address").to_string();
        let serving = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Self { address, shared, serving, client: http_client(PATIENCE) }
    }

    /// What an instance's `apiBaseUrl` is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The webhook of the number.
    pub fn hook(&self) -> Option<String> {
        self.shared.lock().hook.clone()
    }

    /// Moves the webhook, as another program does.
    pub fn move_hook(&self, url: &str) {
        self.shared.lock().hook = Some(url.to_owned());
    }

    /// Whether the app is subscribed to the account.
    pub fn is_subscribed(&self) -> bool {
        self.shared.lock().subscribed
    }

    /// What was sent, in order: the id that it got, and the message.
    pub fn messages(&self) -> Vec<(String, Value)> {
        self.shared.lock().messages.clone()
    }

    /// What the number says about itself, and whom it has blocked.
    pub fn about(&self) -> (String, Vec<String>) {
        let state = self.shared.lock();
        (state.about.clone(), state.blocked.clone())
    }

    /// What was uploaded.
    pub fn file(&self, id: &str) -> Vec<u8> {
        self.shared.lock().files[id].clone()
    }

    /// Puts a file there that somebody sends.
    pub fn put_file(&self, id: &str, bytes: &[u8]) {
        self.shared.lock().files.insert(id.to_owned(), bytes.to_vec());
    }

    /// The next call of an edge (`messages`, `media`, or empty for the number itself) goes wrong so.
    pub fn fail(&self, edge: &'static str, fault: Fault) {
        self.shared.lock().faults.entry(edge).or_default().push_back(fault);
    }

    /// Takes the token away.
    pub fn revoke(&self) {
        self.shared.lock().token = String::new();
    }

    /// What was not as Meta's document has it.
    pub fn assert_by_the_book(&self) {
        assert_eq!(self.shared.lock().violations, Vec::<String>::new());
    }

    /// The call that Meta makes: a change of the number's, signed.
    pub fn call(value: &Value) -> (String, String) {
        let mut value = value.clone();
        value["messaging_product"] = "whatsapp".into();
        value["metadata"] = json!({"display_phone_number": "15550783881", "phone_number_id": PHONE});
        let change = json!({"field": "messages", "value": value});
        let payload = json!({"object": "whatsapp_business_account", "entry": [{"id": BUSINESS, "changes": [change]}]});
        // Meta writes what is not ASCII as escapes, which whoever writes it anew would not.
        let escape = |letter: char| match letter.is_ascii() {
            true => letter.to_string(),
            false => letter.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
        };
        let body: String = payload.to_string().chars().map(escape).collect();
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any key is good");
        mac.update(body.as_bytes());
        (format!("sha256={}", hex::encode(mac.finalize().into_bytes())), body)
    }

    /// Tells the webhook once; what it answers.
    pub async fn tell(&self, value: &Value) -> StatusCode {
        for message in value["messages"].as_array().into_iter().flatten() {
            self.shared.judge(|spec| spec.received(message));
        }
        for status in value["statuses"].as_array().into_iter().flatten() {
            let mut status = status.clone();
            // Meta's guides have it, and its document nowhere.
            status.as_object_mut().expect("it is an object").remove("biz_opaque_callback_data");
            self.shared.judge(|spec| spec.object("Statuses", &status));
        }
        let hook = self.hook().expect("there is a webhook");
        let (signature, body) = Self::call(value);
        let call = self.client.post(hook).header("x-hub-signature-256", signature).body(body).send().await;
        call.map_or(StatusCode::BAD_GATEWAY, |answer| answer.status())
    }

    /// Tells it until it is taken, as Meta does.
    pub async fn told(&self, value: &Value) {
        let began = Instant::now();
        let mut last = StatusCode::OK;
        while began.elapsed() < PATIENCE {
            last = self.tell(value).await;
            if last.is_success() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("never taken; last: {last}");
    }

    /// Somebody writes.
    pub async fn says(&self, from: &str, id: &str, message: Value) {
        self.told(&written(from, id, message)).await;
    }

    /// What became of a message of the number's.
    pub async fn status(&self, message: &str, to: &str, status: &str, more: Value) {
        let mut told = json!({"id": message, "status": status, "timestamp": "1767225900", "recipient_id": to});
        told.as_object_mut().expect("it is an object").extend(more.as_object().cloned().unwrap_or_default());
        self.told(&json!({ "statuses": [told] })).await;
    }
}

/// A change with a message that somebody wrote.
pub fn written(from: &str, id: &str, mut message: Value) -> Value {
    message["from"] = from.into();
    message["id"] = id.into();
    message["timestamp"] = "1767225800".into();
    json!({"contacts": [{"profile": {"name": "Sheena"}, "wa_id": from}], "messages": [message]})
}

impl Shared {
    fn judge(&self, judge: impl FnOnce(&spec::Spec) -> Vec<String>) {
        if let Some(spec) = &self.spec {
            let wrong = judge(spec);
            self.lock().violations.extend(wrong);
        }
    }

    /// Whether a call shows the token.
    fn may(&self, headers: &HeaderMap) -> bool {
        let token = self.lock().token.clone();
        let shown = headers.get(header::AUTHORIZATION).and_then(|shown| shown.to_str().ok()).unwrap_or_default();
        !token.is_empty() && shown == format!("Bearer {token}")
    }

    fn fault(&self, edge: &str) -> Option<Fault> {
        self.lock().faults.get_mut(edge)?.pop_front()
    }
}

fn refused(status: u16, code: i64, words: &str) -> Response {
    let error = json!({"error": {"message": words, "type": "OAuthException", "code": code, "fbtrace_id": "A"}});
    (StatusCode::from_u16(status).expect("a status"), axum::Json(error)).into_response()
}

fn unknown_token() -> Response {
    refused(401, 190, "Invalid OAuth access token")
}

fn json_answer(json: Value) -> Response {
    axum::Json(json).into_response()
}

/// An answer that breaks off.
fn cut() -> Response {
    let broken = futures_util::stream::once(async { Err::<Bytes, _>(std::io::Error::other("cut")) });
    axum::body::Body::from_stream(broken).into_response()
}

async fn file(Extract(shared): Extract<Arc<Shared>>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    if !shared.may(&headers) {
        return unknown_token();
    }
    match shared.lock().files.get(&id) {
        Some(bytes) => bytes.clone().into_response(),
        None => refused(404, 100, "no such file"),
    }
}

/// The number, or a file.
async fn object(
    Extract(shared): Extract<Arc<Shared>>,
    Path((_version, object)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !shared.may(&headers) {
        return unknown_token();
    }
    if let Some(Fault::Refuse(status, code, words)) = shared.fault(if method == Method::POST { "" } else { "GET" }) {
        return refused(status, code, words);
    }
    if object != PHONE {
        let known = shared.lock().files.contains_key(&object);
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let url = format!("http://{host}/files/{object}");
        return match known && query.get("phone_number_id").map(String::as_str) == Some(PHONE) {
            true => json_answer(
                json!({"id": object, "url": url, "mime_type": "image/jpeg", "sha256": "x", "file_size": "3"}),
            ),
            false => refused(400, 100, "Unsupported get request. Object does not exist"),
        };
    }
    if method == Method::GET {
        let hook = shared.lock().hook.clone();
        let mut number = json!({"id": PHONE, "display_phone_number": "+1 555-078-3881", "verified_name": "Jasper's Market",
            "quality_rating": "GREEN"});
        shared.judge(|spec| spec.object("PhoneNumberInfo", &number));
        number["webhook_configuration"] = json!({"application": "https://app.example/hook"});
        if let Some(hook) = hook {
            number["webhook_configuration"]["phone_number"] = hook.into();
        }
        return json_answer(number);
    }
    let Ok(change) = serde_json::from_slice::<Value>(&body) else { return refused(400, 100, "no JSON") };
    shared.judge(|spec| spec.object("PhoneNumberStatusUpdateRequest", &change));
    let wanted = &change["webhook_configuration"];
    let url = wanted["override_callback_uri"].as_str().unwrap_or_default();
    if url.is_empty() {
        shared.lock().hook = None;
        return json_answer(json!({"success": true}));
    }
    // Meta makes sure of it before it says yes.
    let token = wanted["verify_token"].as_str().unwrap_or_default();
    let asked = [("hub.mode", "subscribe"), ("hub.challenge", "1158201444"), ("hub.verify_token", token)];
    let answered = match http_client(PATIENCE).get(url).query(&asked).send().await {
        Ok(answer) if answer.status() == StatusCode::OK => answer.text().await.unwrap_or_default(),
        Ok(answer) => format!("HTTP {}", answer.status()),
        Err(error) => error.to_string(),
    };
    if answered != "1158201444" {
        return refused(400, 2200, "Callback verification failed");
    }
    shared.lock().hook = Some(url.to_owned());
    json_answer(json!({"success": true}))
}

async fn edge(
    Extract(shared): Extract<Arc<Shared>>,
    Path((_version, object, edge)): Path<(String, String, String)>,
    request: Request,
) -> Response {
    if !shared.may(request.headers()) {
        return unknown_token();
    }
    let method = request.method().clone();
    let fault = shared.fault(&edge);
    if let Some(Fault::Refuse(status, code, words)) = fault {
        return refused(status, code, words);
    }
    if edge == "media" {
        return upload(&shared, request).await;
    }
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    let answer = match (object.as_str(), edge.as_str(), method) {
        (PHONE, "messages", Method::POST) => message(&shared, json),
        (PHONE, "whatsapp_business_profile", Method::GET) => {
            json!({"data": [{"about": shared.lock().about, "messaging_product": "whatsapp"}]})
        }
        (PHONE, "whatsapp_business_profile", _) => {
            shared.judge(|spec| spec.object("WhatsAppBusinessProfileUpdateRequest", &json));
            json["about"].as_str().unwrap_or_default().clone_into(&mut shared.lock().about);
            json!({"success": true})
        }
        (PHONE, "block_users", Method::GET) => {
            let blocked = shared.lock().blocked.clone();
            let blocked: Vec<_> =
                blocked.iter().map(|user| json!({"messaging_product": "whatsapp", "wa_id": user})).collect();
            json!({"data": blocked, "paging": {"cursors": {"after": "a", "before": "b"}}})
        }
        (PHONE, "block_users", method) => {
            let users = json["block_users"].as_array().cloned().unwrap_or_default();
            let users: Vec<String> = users.iter().filter_map(|user| Some(user["user"].as_str()?.to_owned())).collect();
            let mut state = shared.lock();
            state.blocked.retain(|blocked| !users.contains(blocked));
            if method == Method::POST {
                state.blocked.extend(users);
            }
            json!({"messaging_product": "whatsapp"})
        }
        (BUSINESS, "subscribed_apps", Method::POST) => {
            shared.lock().subscribed = true;
            json!({"success": true})
        }
        _ => return refused(400, 100, "Unsupported request"),
    };
    match fault {
        Some(Fault::DoneThenCut) => cut(),
        _ => json_answer(answer),
    }
}

fn message(shared: &Shared, message: Value) -> Value {
    shared.judge(|spec| spec.sent(&message));
    if message["status"] == "read" {
        let mut state = shared.lock();
        state.messages.push((String::new(), message));
        return json!({"success": true});
    }
    let mut state = shared.lock();
    state.next += 1;
    let id = format!("wamid.OUT{}", state.next);
    // Brazilian numbers have a digit more than WhatsApp knows them by.
    let input = message["to"].as_str().unwrap_or_default().to_owned();
    let known = if input == "5511999990001" { "551199990001".to_owned() } else { input.clone() };
    state.messages.push((id.clone(), message));
    json!({"messaging_product": "whatsapp", "contacts": [{"input": input, "wa_id": known}], "messages": [{"id": id}]})
}

async fn upload(shared: &Shared, request: Request) -> Response {
    let Ok(mut form) = Multipart::from_request(request, &()).await else { return refused(400, 100, "no form") };
    let mut fields = BTreeMap::new();
    while let Ok(Some(field)) = form.next_field().await {
        let name = field.name().unwrap_or_default().to_owned();
        fields.insert(name, field.bytes().await.unwrap_or_default().to_vec());
    }
    let (Some(file), Some(b"whatsapp")) = (fields.get("file"), fields.get("messaging_product").map(Vec::as_slice))
    else {
        return refused(400, 100, "a file and messaging_product are needed");
    };
    let mut state = shared.lock();
    state.next += 1;
    let id = format!("{}", 4_490_709_327_384_033 + state.next);
    state.files.insert(id.clone(), file.clone());
    json_answer(json!({"id": id}))
}
