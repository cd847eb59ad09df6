//! Calls of the Graph API over the host's HTTP, and how it says no.
//!
//! The token stands in a header: as a placeholder that only the host can fill, or as it is, when it was put in or taken over.

use crate::account::Account;
use crate::config::Config;
use omni_channel_sdk::prelude::*;
use serde::de::DeserializeOwned;

/// How long a call may take, in milliseconds. Uploads stream and may take longer.
const CALL_MS: u64 = 30_000;
const UPLOAD_MS: u64 = 300_000;
const DOWNLOAD_MS: u64 = 600_000;
/// A longer word in what Meta says of a token is taken for the token.
const LONGEST_WORD: usize = 30;
/// Where Meta gives out files, beside the API's own server.
const FILE_HOSTS: [&str; 2] = ["fbsbx.com", "facebook.com"];

/// One number at one Graph API.
#[derive(Clone)]
pub struct Client {
    origin: String,
    base: String,
    token: String,
    phone: String,
    business: Option<String>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base).field("phone", &self.phone).finish_non_exhaustive()
    }
}

impl Client {
    /// A client for an account.
    pub fn new(config: &Config, account: &Account) -> Self {
        let origin = config.api_base_url.trim_end_matches('/').to_owned();
        Self {
            base: format!("{origin}/{}", config.api_version),
            origin,
            token: account.token.clone(),
            phone: account.phone_number_id.clone(),
            business: account.business_account_id.clone(),
        }
    }

    /// The same for another number, with the same token.
    pub fn of(&self, phone: &str) -> Self {
        Self { phone: phone.to_owned(), ..self.clone() }
    }

    /// Meta's id of the number.
    pub fn phone(&self) -> &str {
        &self.phone
    }

    fn signed(&self, call: HttpCall) -> HttpCall {
        call.header("authorization", format!("Bearer {}", self.token))
    }

    /// Asks about an object: its id, `/` and an edge, a query.
    pub fn get(&self, path: &str) -> HttpCall {
        self.signed(HttpCall::get(format!("{}/{path}", self.base))).timeout_ms(CALL_MS)
    }

    /// Posts to an edge of the number, or to the number itself when it is empty.
    pub fn post(&self, edge: &str, json: Value) -> HttpCall {
        let url = format!("{}/{}{}{edge}", self.base, self.phone, if edge.is_empty() { "" } else { "/" });
        self.signed(HttpCall::post_json(url, json)).timeout_ms(CALL_MS)
    }

    /// Subscribes the app to the account's events, where it is known which account that is.
    pub fn subscription(&self) -> Option<HttpCall> {
        let url = format!("{}/{}/subscribed_apps", self.base, self.business.as_ref()?);
        Some(self.signed(HttpCall::post_json(url, json!({}))).timeout_ms(CALL_MS))
    }

    /// Uploads a file of the host's.
    pub fn upload(&self, blob: BlobId, file_name: String, mime_type: String) -> HttpCall {
        let parts = vec![
            FormPart::text("messaging_product", "whatsapp"),
            FormPart::text("type", mime_type.as_str()),
            FormPart::blob("file", blob, Some(file_name), Some(mime_type)),
        ];
        let url = format!("{}/{}/media", self.base, self.phone);
        self.signed(HttpCall::post_multipart(url, parts)).timeout_ms(UPLOAD_MS)
    }

    /// Downloads a file from where Meta said. The token goes along, so it goes to Meta alone.
    pub fn download(&self, url: &str) -> Result<HttpCall, SendError> {
        let authority = |url: &str| -> Option<(String, String)> {
            let (scheme, rest) = url.split_once("://")?;
            let place = rest.split(['/', '?', '#', '\\']).next().filter(|place| !place.contains('@'))?;
            Some((scheme.to_ascii_lowercase(), place.to_ascii_lowercase()))
        };
        let found = authority(url);
        let is_own = found.is_some() && found == authority(&self.origin);
        let is_of_meta = found.is_some_and(|(scheme, host)| {
            let below =
                |known: &&str| host.strip_suffix(*known).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
            scheme == "https" && FILE_HOSTS.iter().any(below)
        });
        if !is_own && !is_of_meta {
            let what = "WhatsApp says that this file lies with somebody else than Meta; the token is not shown there";
            return Err(SendError::new(ErrorCode::Media, NextActor::Us, what));
        }
        Ok(self.signed(HttpCall::get(url)).timeout_ms(DOWNLOAD_MS))
    }

    /// Makes a call and reads its answer.
    pub async fn ask<T: DeserializeOwned>(&self, ctx: &Context, call: HttpCall) -> Result<T, ApiError> {
        let response = ctx.http(call).await.map_err(ApiError::Failed)?;
        let answer = read(&response)?;
        serde_json::from_value(answer).map_err(|error| ApiError::Garbage {
            status: response.status,
            what: format!("an unexpected answer: {error}"),
        })
    }
}

/// Why a call did not succeed.
#[derive(Clone, Debug, PartialEq)]
pub enum ApiError {
    /// No answer came.
    Failed(HttpFailure),
    /// Meta said no.
    Refused(Refusal),
    /// Something answered that is not the Graph API, or not as we know it.
    Garbage {
        /// The HTTP status.
        status: u16,
        /// What was wrong with it.
        what: String,
    },
}

/// Meta's no. In webhooks it comes as `title` and `message`, in answers as `message` alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status; 0 in a webhook.
    pub status: u16,
    /// Meta's code, which tells what it is about.
    pub code: i64,
    /// In words.
    pub message: String,
    /// Whether Meta says that it passes by itself.
    pub is_transient: bool,
}

impl Refusal {
    /// Reads an `error` object, or one of `errors` in a webhook.
    pub fn read(error: &Value, status: u16) -> Self {
        let words = |name: &str| error.get(name).and_then(Value::as_str).filter(|words| !words.is_empty());
        let details = error.get("error_data").and_then(|data| data.get("details")).and_then(Value::as_str);
        let mut said: Vec<&str> = Vec::new();
        for part in [words("message").or(words("title")), details, words("error_user_msg")].into_iter().flatten() {
            if !said.iter().any(|before| before.contains(part)) {
                said.push(part);
            }
        }
        let message = if said.is_empty() { "no reason given".to_owned() } else { said.join(": ") };
        let code = error.get("code").and_then(Value::as_i64).unwrap_or(-1);
        Self {
            status,
            code,
            message: if is_about_the_token(code) {
                without_long_words(&message)
            } else {
                message.chars().take(500).collect()
            },
            is_transient: error.get("is_transient").and_then(Value::as_bool) == Some(true),
        }
    }
}

/// Whether a code says that the token is no good.
pub fn is_about_the_token(code: i64) -> bool {
    matches!(code, 0 | 102 | 190)
}

/// Meta may repeat a token that it cannot read.
fn without_long_words(message: &str) -> String {
    let words = message.split_whitespace().map(|word| if word.len() > LONGEST_WORD { "…" } else { word });
    words.take(100).collect::<Vec<_>>().join(" ")
}

/// The answer, if it is a good one.
fn read(response: &HttpResponse) -> Result<Value, ApiError> {
    let garbage = |what: &str| ApiError::Garbage { status: response.status, what: what.to_owned() };
    let Ok(answer @ Value::Object(_)) = response.json::<Value>() else {
        return Err(garbage("an answer that is no JSON object"));
    };
    match answer.get("error").filter(|error| error.is_object()) {
        Some(error) => Err(ApiError::Refused(Refusal::read(error, response.status))),
        None if !response.is_success() => Err(garbage("no reason")),
        None if answer.get("success").and_then(Value::as_bool) == Some(false) => {
            Err(garbage("that it did not succeed, without a reason"))
        }
        None => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_meta_repeats_is_not_told_on() {
        let token = format!("EAAB{}", "x".repeat(180));
        let error = json!({"code": 190, "message": format!("Malformed access token {token}")});
        assert_eq!(Refusal::read(&error, 400).message, "Malformed access token …");
        let other = json!({"code": 131_026, "message": "Message undeliverable", "error_data": {"details": "No."}});
        assert_eq!(Refusal::read(&other, 400).message, "Message undeliverable: No.");
    }

    #[test]
    fn the_token_goes_to_meta_and_to_nobody_else() {
        let account = Account { token: "t".into(), phone_number_id: "12345".into(), ..Account::default() };
        let client = Client::new(&Config::default(), &account);
        for good in ["https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=1", "https://GRAPH.facebook.com/x"]
        {
            assert!(client.download(good).is_ok(), "{good}");
        }
        for bad in [
            "http://lookaside.fbsbx.com/x",
            "https://fbsbx.com.evil.example/x",
            "https://evilfbsbx.com/x",
            "https://lookaside.fbsbx.com@evil.example/x",
            "https://evil.example\\.fbsbx.com/x",
            "https://evil.example/?fbsbx.com",
            "fbsbx.com",
            "",
        ] {
            assert!(client.download(bad).is_err(), "{bad}");
        }
        let own = Config { api_base_url: "http://127.0.0.1:9/".into(), ..Config::default() };
        let client = Client::new(&own, &account);
        assert!(client.download("http://127.0.0.1:9/media/1").is_ok());
        assert!(client.download("http://127.0.0.1:91/media/1").is_err());
    }
}
