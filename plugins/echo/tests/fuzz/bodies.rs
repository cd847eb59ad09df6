//! What strangers may post to the echo: a message, or something that is refused with a word. A fuzz target, and a test
//! over its seeds.

use omni_channel_echo::Echo;
use omni_channel_sdk::frame::{Op, Output};
use omni_channel_sdk::ingress::{IngressEvent, WebhookRequest};
use omni_channel_sdk::testkit::{InProcess, ScriptedHost};
use serde_json::{Value, json};

/// The bytes as the body of a request.
pub fn check(data: &[u8]) {
    let mut host = ScriptedHost::new(Box::new(InProcess::<Echo>::open()), 1);
    host.start(json!({})).expect("it starts").result.expect("it starts well");
    let request = WebhookRequest { method: "POST".into(), path: "/".into(), body: data.to_vec(), ..Default::default() };
    let done = host.call(Op::Events { events: vec![IngressEvent::Webhook { request }] }).expect("the call ends");
    let Ok(Output::Events { outcomes, .. }) = done.result else { panic!("it fails: {:?}", done.result) };
    let status = outcomes[0].reply.as_ref().expect("an answer").status;
    let answer: Value = serde_json::from_slice(&done.bodies[0]).expect("it answers in JSON");
    match status {
        200 => assert_eq!((done.events.len(), &answer["ok"]), (1, &json!(true))),
        400 => {
            assert_eq!(done.events.len(), 0, "what is refused is not taken");
            assert!(answer["error"].as_str().is_some_and(|error| !error.is_empty()), "refused without a word");
        }
        other => panic!("answered {other}"),
    }
}
