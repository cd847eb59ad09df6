//! The bytes of a frame: what was written can be read, and what is broken is an error and nothing worse.

use omni_channel_sdk::frame::{FrameError, Op, ToChannel, decode, encode, encode_events, event_body};
use omni_channel_sdk::http::HttpResponse;
use omni_channel_sdk::ingress::{IngressEvent, WebhookRequest};
use serde_json::{Value, json};

/// A fixed sequence that looks random: a failure can be repeated.
struct Sequence(u64);

impl Sequence {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.next(most + 1);
        (0..length).map(|_| self.next(256) as u8).collect()
    }
}

#[test]
fn what_was_written_can_be_read() {
    let mut sequence = Sequence(1);
    for round in 0..500 {
        let head = json!({"round": round, "text": "ü\u{0}\"", "list": [sequence.next(9)]});
        let tails: Vec<Vec<u8>> = (0..sequence.next(6)).map(|_| sequence.bytes(300)).collect();
        let (read, mut found) = decode::<Value>(&encode(&head, &tails)).expect("a frame that was written can be read");
        assert_eq!(read, head);
        assert_eq!(found.remaining(), tails.len());
        for tail in tails {
            assert_eq!(found.next_bytes().expect("as many as were written"), tail);
        }
        assert!(matches!(found.next_bytes(), Err(FrameError::MissingBytes)));
    }
}

#[test]
fn a_frame_that_is_cut_off_is_an_error_at_every_byte() {
    let tails = [b"one".to_vec(), Vec::new(), vec![7; 300]];
    let frame = encode(&json!({"ping": {"nonce": 1}}), &tails);
    // Where a byte string ends, what is left is a frame with fewer of them: who reads them finds out.
    let mut whole = Vec::new();
    for count in 0..=tails.len() {
        whole.push(encode(&json!({"ping": {"nonce": 1}}), &tails[..count]).len());
    }
    for length in 0..=frame.len() {
        let read = decode::<ToChannel>(&frame[..length]);
        if whole.contains(&length) {
            let (_, found) = read.expect("it ends where a byte string ends");
            assert_eq!(found.remaining(), whole.iter().position(|end| *end == length).expect("it is one of them"));
        } else {
            assert!(matches!(read, Err(FrameError::Truncated(..))), "{length} of {} bytes", frame.len());
        }
    }
}

#[test]
fn a_length_that_lies_reserves_no_memory() {
    let mut frame = u32::MAX.to_le_bytes().to_vec();
    frame.extend_from_slice(b"{}");
    assert!(matches!(decode::<Value>(&frame), Err(FrameError::Truncated(needed, 2)) if needed == u32::MAX as usize));
}

#[test]
fn random_bytes_are_an_error() {
    let mut sequence = Sequence(2);
    for _ in 0..5_000 {
        let bytes = sequence.bytes(60);
        assert!(decode::<ToChannel>(&bytes).is_err(), "{bytes:?}");
        // A head that is there, but is not what it should be.
        assert!(matches!(decode::<ToChannel>(&encode(&json!([bytes]), &[])), Err(FrameError::Json(_))));
    }
}

#[test]
fn bodies_of_events_travel_beside_them_in_order() {
    let body = |text: &str| text.as_bytes().to_vec();
    let response = HttpResponse { status: 200, headers: Vec::new(), body: body("first") };
    let request =
        WebhookRequest { method: "POST".into(), path: "/".into(), body: body("second"), ..Default::default() };
    let events = vec![
        IngressEvent::PollResponse { tag: "a".into(), response },
        IngressEvent::Timer { tag: "b".into() },
        IngressEvent::Webhook { request },
        IngressEvent::SocketBinary { tag: "c".into(), bytes: body("third") },
    ];
    let frame = encode_events(7, 1, events.clone());
    let (head, mut tails) = decode::<ToChannel>(&frame).expect("it can be read");
    let ToChannel::Begin { call: 7, now: 1, op: Op::Events { events: mut read } } = head else {
        panic!("it begins a call: {head:?}");
    };
    assert_ne!(read, events, "the bodies are not in the JSON");
    for event in &mut read {
        if let Some(body) = event_body(event) {
            *body = tails.next_bytes().expect("one for each event that has a body");
        }
    }
    assert_eq!(read, events);
    assert_eq!(tails.remaining(), 0);
}
