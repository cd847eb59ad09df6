//! What crosses the boundary: frames in both directions, and what the host makes of those that a channel sends.

use super::events::event;
use super::way;
use crate::http::plugin_listener;
use crate::outbound::limits;
use crate::plugins::fuzzing::{call, message};
use crate::plugins::session::CallError;
use omni_channel_sdk::capabilities::Capabilities;
use omni_channel_sdk::content::{Content, Text};
use omni_channel_sdk::frame::{
    CallResult, Commit, HostRequest, OutcomeHead, Output, ToChannel, ToHost, decode, encode, event_body,
};
use omni_channel_sdk::http::HttpResponse;
use omni_channel_sdk::request::Reply;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A frame of a channel's, a frame for a channel, a message of a plugin's process, or what a channel says it can do.
pub fn frame(data: &[u8]) {
    match way(data, 4) {
        Some((0, bytes)) => to_host(bytes),
        Some((1, bytes)) => to_channel(bytes),
        Some((2, bytes)) => message(bytes),
        Some((_, bytes)) => {
            if let Ok(able) = serde_json::from_slice(bytes) {
                capabilities(&able);
            }
        }
        None => {}
    }
}

/// Reads a frame and writes it, twice: what was written once is written the same ever after.
fn again<H: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<(H, Vec<Vec<u8>>)> {
    let read = |bytes: &[u8]| {
        let (head, mut tails) = decode::<H>(bytes)?;
        let count = tails.remaining();
        let tails: Vec<Vec<u8>> = std::iter::from_fn(|| tails.next_bytes().ok()).collect();
        assert_eq!(tails.len(), count, "as many byte strings as there are");
        Ok::<_, omni_channel_sdk::frame::FrameError>((head, tails))
    };
    let (head, tails) = read(bytes).ok()?;
    let written = encode(&head, &tails);
    let (second, second_tails) = match read(&written) {
        Ok(read) => read,
        Err(error) => panic!("{error}: {}", String::from_utf8_lossy(&written)),
    };
    assert_eq!(second_tails, tails, "byte strings are read as they were written");
    let rewritten = encode(&second, &second_tails);
    assert_eq!(String::from_utf8_lossy(&rewritten), String::from_utf8_lossy(&written), "a frame is what it was");
    Some((head, tails))
}

fn to_channel(bytes: &[u8]) {
    let Some((ToChannel::Begin { op: omni_channel_sdk::frame::Op::Events { mut events }, .. }, tails)) = again(bytes)
    else {
        return;
    };
    let bodies = events.iter_mut().filter_map(|event| event_body(event).map(|body| body.len())).count();
    assert!(bodies <= events.len() && tails.len() <= bytes.len());
}

fn to_host(bytes: &[u8]) {
    let Some((head, mut tails)) = again::<ToHost>(bytes) else { return };
    match head {
        ToHost::Call { request: HostRequest::Http { http }, .. } => call(&http),
        ToHost::Call { request: HostRequest::Commit { commit: stored }, .. } => commit(&stored),
        ToHost::Done { result: CallResult::Ok(output), commit: stored, .. } => {
            commit(&stored);
            ended(output, &mut tails);
        }
        ToHost::Done { result: CallResult::Err(failure), .. } => {
            let words = failure.error.message.clone();
            assert_eq!(CallError::Failed(failure).into_send_error().message, words);
        }
        _ => {}
    }
}

fn commit(commit: &Commit) {
    for one in &commit.events {
        event(one.get().as_bytes());
    }
}

fn ended(output: Output, tails: &mut Vec<Vec<u8>>) {
    match output {
        Output::Started { polls, .. } => polls.iter().for_each(|poll| call(&poll.call)),
        Output::Events { outcomes, polls } => {
            polls.iter().for_each(|poll| call(&poll.call));
            for OutcomeHead { reply, .. } in outcomes {
                let Some(reply) = reply else { continue };
                answered(HttpResponse { body: tails.pop().unwrap_or_default(), ..reply });
            }
        }
        Output::Reply { reply } => {
            if let Reply::Capabilities(able) = *reply {
                capabilities(&able);
            }
        }
        _ => {}
    }
}

/// What a channel answers a webhook with is HTTP, whatever it wrote, and says nothing of the connection.
fn answered(reply: HttpResponse) {
    let length = reply.body.len();
    let response = plugin_listener::answer(reply);
    for name in ["connection", "transfer-encoding", "upgrade", "keep-alive", "content-length"] {
        assert!(response.headers().get(name).is_none(), "{name} is the server's to say");
    }
    drop((length, response));
}

/// Whatever a channel says that it can do: what is cut to fit is all there, and is not for ever in the cutting.
fn capabilities(able: &Capabilities) {
    const WORDS: &str = "Zoë wrote: naïve – ünïcödé 🎉🎉 and more.\n\nTwo lines\nof 👩‍👩‍👧 words, onewordthatisverylongindeedandhasnospaces.";
    let Ok(parts) = limits::fit(Content::Text(Text::plain(WORDS)), able, "x") else { return };
    let squeezed = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let joined: String = parts
        .iter()
        .map(|part| match part {
            Content::Text(text) => squeezed(&text.text),
            other => panic!("a text became {other:?}"),
        })
        .collect();
    assert_eq!(joined, squeezed(WORDS), "no word is lost");
}
