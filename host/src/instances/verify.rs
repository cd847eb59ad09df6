//! Proves that a request is from the network, before the channel sees it.

use super::live::WebhookRefused;
use crate::store::Time;
use hmac::{Hmac, KeyInit, Mac};
use omni_channel_sdk::http::{Header, HttpResponse};
use omni_channel_sdk::ingress::{HubChallenge, Verify, Webhook, WebhookRequest};
use sha2::Sha256;
use std::collections::HashMap;
use subtle::ConstantTimeEq;

/// Largest body when the channel does not say.
pub const DEFAULT_MAX_BODY: u64 = 1 << 20;
/// Most bytes of a challenge that are given back, and parameters that are looked at for one.
const MAX_CHALLENGE: usize = 1024;
const MAX_PARAMETERS: usize = 16;

/// The largest body that a webhook takes, in bytes.
pub fn max_body(webhook: &Webhook) -> u64 {
    webhook.max_body_bytes.unwrap_or(DEFAULT_MAX_BODY)
}

/// Holds a request against everything that the channel asks for. Secrets in `webhook` are filled in.
pub fn verify(webhook: &Webhook, request: &WebhookRequest, now: Time) -> Result<(), WebhookRefused> {
    let limit = max_body(webhook);
    if request.body.len() as u64 > limit {
        return Err(WebhookRefused::TooLarge(limit));
    }
    webhook.verify.iter().try_for_each(|proof| holds(proof, request, now)).map_err(WebhookRefused::NotVerified)
}

/// Holds what comes before the body against what the channel asks for, so that nobody's body is read who cannot be the
/// network. `announced` is the body's length, where the request says it.
pub fn verify_head(
    webhook: &Webhook,
    head: &WebhookRequest,
    announced: Option<u64>,
    now: Time,
) -> Result<(), WebhookRefused> {
    if asked(webhook, head).is_some() {
        return Ok(());
    }
    let limit = max_body(webhook);
    if announced.is_some_and(|bytes| bytes > limit) {
        return Err(WebhookRefused::TooLarge(limit));
    }
    let needs_no_body = |proof: &&Verify| !matches!(proof, Verify::HmacSha256(_));
    let mut proofs = webhook.verify.iter().filter(needs_no_body);
    proofs.try_for_each(|proof| holds(proof, head, now)).map_err(WebhookRefused::NotVerified)
}

/// Answers a network that makes sure of the address. `None` when the request is none of that kind: it is verified then.
pub fn challenged(webhook: &Webhook, request: &WebhookRequest) -> Option<HttpResponse> {
    let (challenge, asked) = asked(webhook, request)?;
    let given = asked.get("hub.verify_token").map(String::as_bytes).unwrap_or_default();
    let same = bool::from(given.ct_eq(challenge.token.as_bytes())) && !challenge.token.is_empty();
    let words = asked.get("hub.challenge").filter(|words| words.len() <= MAX_CHALLENGE);
    let (status, body) = match words {
        Some(words) if same => (200, words.clone()),
        Some(_) => (403, "hub.verify_token is not the one of this webhook".to_owned()),
        None => (400, format!("hub.challenge is missing, or has more than {MAX_CHALLENGE} bytes")),
    };
    let header = |name: &str, value: &str| Header { name: name.to_owned(), value: value.to_owned() };
    let headers =
        vec![header("content-type", "text/plain; charset=utf-8"), header("x-content-type-options", "nosniff")];
    Some(HttpResponse { status, headers, body: body.into_bytes() })
}

/// What a network asks that makes sure of the address.
fn asked<'a>(webhook: &'a Webhook, head: &WebhookRequest) -> Option<(&'a HubChallenge, HashMap<String, String>)> {
    let challenge = webhook.challenge.as_ref().filter(|_| head.method.eq_ignore_ascii_case("GET"))?;
    let url = reqwest::Url::parse(&format!("http://webhook/?{}", head.query)).ok()?;
    let asked: HashMap<_, _> = url.query_pairs().into_owned().take(MAX_PARAMETERS).collect();
    (asked.get("hub.mode").map(String::as_str) == Some("subscribe")).then_some((challenge, asked))
}

fn holds(proof: &Verify, request: &WebhookRequest, now: Time) -> Result<(), String> {
    match proof {
        Verify::HeaderEquals(equals) => {
            let given = header(request, &equals.header)?;
            // An empty secret would be a proof that everybody has.
            let same = bool::from(given.as_bytes().ct_eq(equals.value.as_bytes())) && !equals.value.is_empty();
            same.then_some(()).ok_or_else(|| format!("header {} is not the shared secret", equals.header))
        }
        Verify::HmacSha256(signed) => {
            let given = header(request, &signed.header)?;
            let wrong = || format!("header {} is not the signature of the body", signed.header);
            let digits = given.strip_prefix(signed.prefix.as_str()).ok_or_else(wrong)?;
            let signature = hex::decode(digits).map_err(|_| wrong())?;
            if signed.key.is_empty() {
                return Err("the instance has no key to verify signatures with".into());
            }
            let mut mac = Hmac::<Sha256>::new_from_slice(signed.key.as_bytes()).map_err(|_| wrong())?;
            mac.update(&request.body);
            mac.verify_slice(&signature).map_err(|_| wrong())
        }
        Verify::TimestampWindow(window) => {
            let given = header(request, &window.header)?;
            let seconds: i64 = given.parse().map_err(|_| format!("header {} is no time", window.header))?;
            let off = now.millis().div_euclid(1_000).abs_diff(seconds);
            (off <= window.seconds).then_some(()).ok_or_else(|| {
                format!("the time in header {} is {off} s off; {} s are allowed", window.header, window.seconds)
            })
        }
        Verify::Unknown(unknown) => Err(format!("this host cannot verify by {:?}", unknown.kind)),
    }
}

fn header<'a>(request: &'a WebhookRequest, name: &str) -> Result<&'a str, String> {
    request.header(name).ok_or_else(|| format!("header {name} is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use omni_channel_sdk::ingress::{HeaderEquals, HmacSha256, TimestampWindow};

    fn request(header: &str, value: &str, body: &[u8]) -> WebhookRequest {
        let headers = vec![Header { name: header.into(), value: value.into() }];
        WebhookRequest { method: "POST".into(), headers, body: body.to_vec(), ..WebhookRequest::default() }
    }

    fn webhook(proof: impl Into<Verify>) -> Webhook {
        Webhook { verify: vec![proof.into()], ..Webhook::default() }
    }

    const NOW: Time = Time(1_000_000_000_000);

    #[test]
    fn a_header_must_equal_the_secret() {
        let hook = webhook(HeaderEquals { header: "x-secret".into(), value: "abc".into() });
        assert_eq!(verify(&hook, &request("X-Secret", "abc", b""), NOW), Ok(()));
        assert!(verify(&hook, &request("X-Secret", "abd", b""), NOW).is_err());
        assert!(verify(&hook, &request("other", "abc", b""), NOW).is_err());
        let empty = webhook(HeaderEquals { header: "x-secret".into(), value: String::new() });
        assert!(verify(&empty, &request("x-secret", "", b""), NOW).is_err());
    }

    /// The key and text of RFC 4231, test case 2.
    #[test]
    fn a_signature_covers_the_raw_body() {
        let digits = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let hook = webhook(HmacSha256 { header: "sig".into(), prefix: "sha256=".into(), key: "Jefe".into() });
        let body = b"what do ya want for nothing?";
        assert_eq!(verify(&hook, &request("sig", &format!("sha256={digits}"), body), NOW), Ok(()));
        assert!(verify(&hook, &request("sig", digits, body), NOW).is_err());
        assert!(verify(&hook, &request("sig", &format!("sha256={digits}"), b"something else"), NOW).is_err());
        assert!(verify(&hook, &request("sig", "sha256=zz", body), NOW).is_err());
    }

    #[test]
    fn a_challenge_is_answered_to_whoever_shows_the_token_and_proves_nothing_else() {
        let signed = HmacSha256 { header: "sig".into(), prefix: String::new(), key: "k".into() };
        let mut hook = webhook(signed);
        hook.challenge = Some(HubChallenge { token: "t/1".into() });
        let asks = |method: &str, query: &str| WebhookRequest {
            method: method.into(),
            query: query.into(),
            ..WebhookRequest::default()
        };
        let answer = |query: &str| challenged(&hook, &asks("GET", query)).map(|answer| (answer.status, answer.body));
        let right = "hub.mode=subscribe&hub.challenge=1158201444%3Cb%3E&hub.verify_token=t%2F1";
        assert_eq!(answer(right), Some((200, b"1158201444<b>".to_vec())));
        let told = challenged(&hook, &asks("GET", right)).expect("it is one");
        assert_eq!(told.header("content-type"), Some("text/plain; charset=utf-8"), "and is no page in a browser");
        assert_eq!(verify_head(&hook, &asks("GET", right), None, NOW), Ok(()));
        assert_eq!(
            answer("hub.mode=subscribe&hub.challenge=1&hub.verify_token=t").map(|(status, _)| status),
            Some(403)
        );
        assert_eq!(answer("hub.mode=subscribe&hub.challenge=1").map(|(status, _)| status), Some(403));
        assert_eq!(answer("hub.mode=subscribe&hub.verify_token=t%2F1").map(|(status, _)| status), Some(400));
        let long = format!("hub.mode=subscribe&hub.verify_token=t%2F1&hub.challenge={}", "1".repeat(MAX_CHALLENGE + 1));
        assert_eq!(answer(&long).map(|(status, _)| status), Some(400));
        // What is none is verified like all else.
        assert_eq!(answer("hub.mode=unsubscribe&hub.challenge=1&hub.verify_token=t%2F1"), None);
        assert!(challenged(&hook, &asks("POST", right)).is_none());
        assert!(verify(&hook, &asks("POST", right), NOW).is_err());
        let empty = Webhook { challenge: Some(HubChallenge { token: String::new() }), ..Webhook::default() };
        let nobody = asks("GET", "hub.mode=subscribe&hub.challenge=1&hub.verify_token=");
        assert_eq!(challenged(&empty, &nobody).map(|answer| answer.status), Some(403), "no token is nobody's proof");
        assert!(challenged(&Webhook::default(), &asks("GET", right)).is_none());
    }

    #[test]
    fn a_time_must_be_near() {
        let hook = webhook(TimestampWindow { header: "t".into(), seconds: 300 });
        assert_eq!(verify(&hook, &request("t", "1000300", b""), NOW), Ok(()));
        assert!(verify(&hook, &request("t", "1000301", b""), NOW).is_err());
        assert!(verify(&hook, &request("t", "999699", b""), NOW).is_err());
        assert!(verify(&hook, &request("t", "-9223372036854775808", b""), NOW).is_err());
    }

    #[test]
    fn a_large_body_and_an_unknown_proof_are_refused() {
        let hook = Webhook { max_body_bytes: Some(3), ..Webhook::default() };
        assert_eq!(verify(&hook, &request("a", "b", b"1234"), NOW), Err(WebhookRefused::TooLarge(3)));
        let json = serde_json::json!({"verify": [{"type": "blessing"}]});
        let hook: Webhook = serde_json::from_value(json).expect("an unknown proof is kept");
        assert!(verify(&hook, &request("a", "b", b""), NOW).is_err());
    }
}
