//! `omni events`: the list, and the stream with its resume.

use super::*;

fn event(id: u32, text: &str) -> String {
    let data = json!({
        "id": id.to_string(), "type": "message.received", "metadata": { "instanceId": ID },
        "payload": { "chatId": "42", "from": "Ann", "content": { "type": "text", "text": text } },
    });
    format!("id: {id}\nevent: message.received\ndata: {data}\n\n")
}

fn instances() -> Value {
    items(&json!([{ "id": ID, "name": "support" }]), None)
}

#[test]
fn a_stream_that_breaks_is_resumed_behind_the_last_event() {
    let ran = omni()
        .answers(200, instances())
        .answers_with(
            200,
            Answer::Stream(vec![": hi\n\n".into(), event(1, "one"), event(2, "two"), "id: 3\nda".into()], true),
        )
        .answers(503, refusal("UNAVAILABLE", "starting"))
        .answers_with(200, Answer::Stream(vec![event(3, "three"), event(4, "four")], false))
        .run(&["events", "--follow", "--limit", "3", "--type", "message.received"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!(
        lines,
        [
            "message.received  support  42  Ann  one",
            "message.received  support  42  Ann  two",
            "message.received  support  42  Ann  three",
        ]
    );
    let resumed: Vec<_> = ran.asked[1..].iter().map(|asked| asked.last_event_id.as_deref()).collect();
    assert_eq!(resumed, [None, Some("2"), Some("2")]);
    assert!(ran.lines()[1].starts_with("GET /events/stream?") && ran.lines()[1].contains("type=message.received"));
    assert!(ran.err.contains("trying again") && ran.err.contains("connected again"), "{}", ran.err);
}

#[test]
fn following_begins_where_it_was_told_and_says_what_is_missing() {
    let gap = "event: gap\ndata: {\"after\":6,\"next\":9}\n\n".to_owned();
    let ran = omni()
        .answers(200, instances())
        .answers(200, items(&json!([{ "seq": 9 }, { "seq": 8 }]), Some("c")))
        .answers(200, items(&json!([{ "seq": 7 }]), None))
        .answers_with(200, Answer::Stream(vec![gap, event(9, "nine")], false))
        .run(&["events", "--follow", "--since", "2026-01-01T00:00:00Z", "--limit", "1"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.lines()[3], "GET /events/stream?after=6");
    assert!(ran.err.contains("some events are missing") && ran.out.contains("nine"), "{ran:?}");
    let ran = omni()
        .answers(200, instances())
        .answers_with(200, Answer::Stream(vec![event(1, "one")], false))
        .run(&["events", "-f", "--since", "0", "--limit", "1"]);
    assert_eq!(ran.lines()[1], "GET /events/stream?after=0");
}

#[test]
fn json_is_one_event_a_line() {
    let ran = omni()
        .answers(200, instances())
        .answers_with(200, Answer::Stream(vec![event(1, "a\nb")], false))
        .run(&["events", "--follow", "--limit", "1", "--json"]);
    assert_eq!(ran.out.lines().count(), 1);
    assert_eq!(ran.json()["payload"]["content"]["text"], "a\nb");
}

#[test]
fn a_key_that_stops_being_good_ends_the_stream() {
    let ran = omni()
        .answers(200, instances())
        .answers_with(200, Answer::Stream(Vec::new(), false))
        .answers(401, refusal("UNAUTHORIZED", "the key was revoked"))
        .run(&["events", "--follow"]);
    assert!(ran.code == 4 && ran.err.contains("the key was revoked"), "{}", ran.err);
}

#[test]
fn the_list_reads_down_to_the_latest() {
    let row = |text: &str| json!({ "eventType": "message.received", "instanceId": ID, "textContent": text });
    let ran = omni()
        .answers(403, refusal("FORBIDDEN", "no instances for you"))
        .answers(200, items(&json!([row("late"), row("early")]), None))
        .run(&["events", "--since", "2026-01-01T00:00:00Z"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.out, format!("message.received  {ID}  early\nmessage.received  {ID}  late\n"));
    assert!(ran.lines()[1].contains("since=2026-01-01T00%3A00%3A00Z"), "{:?}", ran.lines());
}
