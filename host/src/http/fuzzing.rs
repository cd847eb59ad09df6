//! What [`crate::fuzzing`] reaches of the API: places in lists and streams, and what comes in from networks.

use super::extract::{Paging, Query, parse};
use super::{cursor, plugin_listener, stream};
use crate::cli::sse::SseReader;
use crate::fuzzing::{event, way};
use crate::instances::verify::verify;
use crate::store::Time;
use axum::extract::FromRequestParts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use futures_util::FutureExt;
use hmac::{Hmac, KeyInit, Mac};
use omni_channel_sdk::content::Content;
use omni_channel_sdk::http::Header;
use omni_channel_sdk::ingress::{HeaderEquals, HmacSha256, TimestampWindow, Verify, Webhook, WebhookRequest};
use omni_channel_sdk::request;
use serde_json::Value;
use sha2::Sha256;

/// A place that a caller gives: a cursor of either kind, a query with one, `Last-Event-ID`, or a stream of events as our
/// own command line reads it.
pub fn cursors(data: &[u8]) {
    let Some((way, rest)) = way(data, 5) else { return };
    match (way, std::str::from_utf8(rest)) {
        (0, Ok(text)) => {
            if let Ok(Some(position)) = cursor::decode(Some(text)) {
                assert_eq!(cursor::encode(position), text, "a cursor is what we gave");
                let _ = position.time().to_string();
            }
        }
        (1, Ok(text)) => {
            if let Ok(Some(word)) = cursor::decode_word(Some(text)) {
                assert_eq!(cursor::encode_word(&word), text, "a cursor is what we gave");
            }
        }
        (2, Ok(text)) => query(text),
        (3, _) => last_event_id(rest),
        (4, _) => server_sent(rest),
        _ => {}
    }
}

fn query(text: &str) {
    let Ok(uri) = format!("/api/v2/events?{text}").parse::<Uri>() else { return };
    let (mut parts, ()) = Request::builder().uri(uri).body(()).expect("a request").into_parts();
    let read = Query::<Paging>::from_request_parts(&mut parts, &()).now_or_never().expect("nothing to wait for");
    let Ok(Query(paging)) = read else { return };
    if let Ok(limit) = paging.limit() {
        assert!((1..=100).contains(&limit), "a page of {limit}");
    }
    let _ = cursor::decode(paging.cursor.as_deref());
}

/// Two bytes say what is kept, the rest is the header.
fn last_event_id(data: &[u8]) {
    let [oldest, kept, header @ ..] = data else { return };
    let Ok(value) = HeaderValue::from_bytes(header) else { return };
    let headers = HeaderMap::from_iter([(HeaderName::from_static("last-event-id"), value)]);
    let Ok(after) = stream::last_event_id(&headers) else { return };
    let oldest = i64::from(*oldest) + 1;
    let newest = oldest - 1 + i64::from(*kept);
    let (place, gap) = stream::start(after, oldest, newest);
    assert!((0..=newest).contains(&place), "begins at {place} of {newest}");
    let wanted = after.expect("a header was given");
    // Who wants what is kept gets it, from there; who does not is told.
    assert_eq!(gap.is_none(), wanted <= 0 || (oldest - 1..=newest).contains(&wanted), "{wanted} of {oldest}-{newest}");
    assert!(gap.is_some() || place == wanted.max(0));
}

/// In pieces of a length that the first byte says, and whole.
fn server_sent(data: &[u8]) {
    let Some((size, rest)) = data.split_first() else { return };
    let read = |size: usize| {
        let mut reader = SseReader::default();
        rest.chunks(size.max(1)).map(|piece| reader.push(piece).expect("it is small")).collect::<Vec<_>>().concat()
    };
    assert_eq!(read(usize::from(*size)), read(rest.len()), "events are the same in whatever pieces they come");
}

/// What comes in from a network or a caller: a request that has to prove itself, an event, a JSON body.
pub fn requests(data: &[u8]) {
    match way(data, 5) {
        Some((0, rest)) => proof(rest),
        Some((1, rest)) => event(rest),
        Some((2, rest)) => body(rest),
        Some((3, rest)) => head(rest),
        Some((_, rest)) => declared(rest),
        None => {}
    }
}

const NOW: Time = Time(1_767_225_600_000_000);

/// Cuts at the first line ends; what is missing is empty.
fn lines<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut pieces = data.splitn(N, |byte| *byte == b'\n');
    std::array::from_fn(|_| pieces.next().unwrap_or_default())
}

/// Three lines and a body: the secret, what the request shows, and a time.
fn proof(data: &[u8]) {
    let [secret, shown, time, body] = lines(data);
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (secret, shown, time) = (words(secret), words(shown), words(time));
    let header = |name: &str, value: &str| Header { name: name.into(), value: value.into() };
    let with = |shown: &str, time: &str| WebhookRequest {
        method: "POST".into(),
        headers: vec![header("X-Proof", shown), header("X-Time", time)],
        body: body.to_vec(),
        ..WebhookRequest::default()
    };
    let hook = |proofs: Vec<Verify>| Webhook { verify: proofs, ..Webhook::default() };
    let request = with(&shown, &time);

    let equals = hook(vec![HeaderEquals { header: "x-proof".into(), value: secret.clone() }.into()]);
    assert_eq!(verify(&equals, &request, NOW).is_ok(), shown == secret && !secret.is_empty());

    let signed = hook(vec![HmacSha256 { header: "x-proof".into(), prefix: "v=".into(), key: secret.clone() }.into()]);
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length");
    mac.update(body);
    let good = format!("v={}", hex::encode(mac.finalize().into_bytes()));
    let same = shown.strip_prefix("v=").is_some_and(|digits| digits.eq_ignore_ascii_case(&good[2..]));
    assert_eq!(verify(&signed, &request, NOW).is_ok(), same && !secret.is_empty());
    assert_eq!(verify(&signed, &with(&good, &time), NOW).is_ok(), !secret.is_empty(), "a good signature is good");

    let near = hook(vec![TimestampWindow { header: "x-time".into(), seconds: 300 }.into()]);
    let seconds = time.parse::<i64>().ok();
    let is_near = seconds.is_some_and(|seconds| seconds.abs_diff(NOW.millis() / 1_000) <= 300);
    assert_eq!(verify(&near, &request, NOW).is_ok(), is_near);
}

/// A webhook as a channel declares it, held against a request: whatever it asks for, somebody without it is refused.
fn declared(data: &[u8]) {
    let Ok(webhook) = serde_json::from_slice::<Webhook>(data) else { return };
    let stranger = WebhookRequest { method: "POST".into(), path: "/".into(), ..WebhookRequest::default() };
    assert_eq!(verify(&webhook, &stranger, NOW).is_ok(), webhook.verify.is_empty());
}

/// A JSON body of the API: what it is refused for says where.
fn body(data: &[u8]) {
    let _ = parse::<request::Send>(data);
    let _ = parse::<Webhook>(data);
    if let Ok(content) = parse::<Content>(data) {
        let written = serde_json::to_vec(&content).expect("a content can be written");
        let again = parse::<Content>(&written).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&written)));
        assert_eq!(again, content, "a content is read as it was written");
    }
    if let Ok(value) = parse::<Value>(data) {
        let without_nul = crate::bus::door::escape_nul(data);
        assert_eq!(serde_json::from_slice::<Value>(&without_nul).ok(), Some(value));
    }
}

/// The head of a request on its way to a channel: three lines and a body.
fn head(data: &[u8]) {
    let [method, path, value, body] = lines(data);
    let request = Request::builder().method(method).uri(path).header("x-any", value).body(());
    let Ok((parts, ())) = request.map(Request::into_parts) else { return };
    let request = plugin_listener::webhook_request(&parts, parts.uri.path().to_owned(), body.to_vec());
    assert_eq!(request.body, body);
    assert_eq!(request.query, parts.uri.query().unwrap_or_default());
    let json = serde_json::to_value(&request).expect("a request can be written");
    let read: WebhookRequest = serde_json::from_value(json).expect("a request that was written can be read");
    assert_eq!(read.headers, request.headers);
}
