//! `omni send`: what is posted, and what its outcome means to a script.

use super::*;

fn sent(status: &str) -> Value {
    json!({ "data": { "messageId": "m1", "externalMessageId": "77", "status": status } })
}

#[test]
fn a_text_is_sent_with_a_key_of_its_own() {
    let ran = omni().answers(201, sent("sent")).run(&["send", ID, "-100123", "-hello", "--reply-to", "m0"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.lines(), ["POST /messages/send"]);
    assert_eq!(ran.asked[0].body, json!({ "text": "-hello", "instanceId": ID, "to": "-100123", "replyTo": "m0" }));
    assert!(ran.asked[0].idempotency_key.is_some());
    assert!(ran.out.contains("m1") && ran.out.contains("77"), "{}", ran.out);
    let ran = omni().answers(201, sent("sent")).typing("two\nlines\n").run(&[
        "send",
        ID,
        "1",
        "-",
        "--idempotency-key",
        "k",
        "--json",
    ]);
    assert_eq!(ran.asked[0].body["text"], "two\nlines");
    assert_eq!(ran.asked[0].idempotency_key.as_deref(), Some("k"));
    assert_eq!(ran.json(), sent("sent")["data"]);
}

#[test]
fn files_addresses_and_places_go_where_they_belong() {
    let with_file = omni().answers(201, json!({ "data": { "id": "b1" } })).answers(201, sent("sent"));
    std::fs::write(with_file.folder().join("a b.png"), b"PNG").expect("writes");
    let ran = with_file.run(&["send", "support", "1", "look", "--file", "a b.png"]);
    assert_eq!(ran.lines(), ["POST /media?instanceId=support&filename=a+b.png", "POST /messages/send/media"]);
    assert_eq!(ran.asked[0].raw, b"PNG"[..]);
    let body = json!({ "mediaId": "b1", "type": "image", "caption": "look", "instanceId": "support", "to": "1" });
    assert_eq!(ran.asked[1].body, body);
    let ran =
        omni().answers(201, sent("sent")).run(&["send", ID, "1", "--media-url", "https://x/v.bin", "--type", "video"]);
    assert_eq!(ran.asked[0].body, json!({ "url": "https://x/v.bin", "type": "video", "instanceId": ID, "to": "1" }));
    let ran = omni().answers(201, sent("sent")).run(&["send", ID, "1", "--location", "-1.5,2"]);
    assert_eq!(ran.lines(), ["POST /messages/send/location"]);
    assert_eq!(ran.asked[0].body, json!({ "latitude": -1.5, "longitude": 2.0, "instanceId": ID, "to": "1" }));
    let ran = omni().run(&["send", ID, "1"]);
    assert!(ran.code == 2 && ran.err.contains("there is nothing to send"), "{}", ran.err);
    let ran = omni().run(&["send", ID, "1", "--file", "no.png"]);
    assert!(ran.code == 2 && ran.err.contains("failed to read"), "{}", ran.err);
}

#[test]
fn what_was_not_delivered_or_is_not_known_is_its_own_exit_code() {
    for (status, word, told) in [
        (202, "pending", "not delivered yet"),
        (201, "unknown", "not known whether"),
        (201, "failed", "was not delivered"),
    ] {
        let ran = omni().answers(status, sent(word)).run(&["send", ID, "1", "x"]);
        assert!(ran.code == 6 && ran.err.contains(told) && ran.err.contains("omni messages show m1"), "{}", ran.err);
    }
    let mut failed = refusal("CHANNEL_REFUSED", "the chat is gone");
    failed["error"]["details"] = json!({ "messageId": "m1" });
    let ran = omni().answers(422, failed).run(&["send", ID, "1", "x"]);
    assert!(ran.code == 6 && ran.err.contains("omni messages show m1"), "{}", ran.err);
    let ran = omni().answers_with(201, Answer::Stream(vec!["{\"da".into()], true)).run(&["send", ID, "1", "x"]);
    let key = ran.asked[0].idempotency_key.clone().expect("a key was sent");
    assert!(ran.code == 6 && ran.err.contains(&format!("--idempotency-key {key}")), "{}", ran.err);
    let mut away = omni();
    away.nowhere = true;
    assert_eq!(away.run(&["send", ID, "1", "x"]).code, 5, "nothing was sent, and that is known");
}
