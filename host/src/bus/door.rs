//! What may come in. Whatever a plugin hands over is looked at here, once, before anything is written: it is an event,
//! it is not too large, its ids are ids. A refusal names the event and what is wrong with it.
//!
//! NUL is escaped (`\u0000` becomes `␀`): Postgres takes it neither in text nor in JSON.

use super::{Accept, AcceptError, AcceptEvent, BusOptions};
use crate::store::Time;
use crate::store::entry::{Body, Parsed, parse};
use crate::store::kv::KvWriteSealed;
use crate::store::ledger::Account;
use omni_channel_sdk::chat::{Chat, ChatKind, MessageRef, Sender, User};
use omni_channel_sdk::event::{Event, EventBody};
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

/// The longest id, in bytes.
const MAX_ID: usize = 1_024;
/// The longest key of a key-value entry, in bytes.
const MAX_KEY: usize = 400;
/// How many entries one list in an event may have.
const MAX_LIST: usize = 10_000;
/// How deep an event may nest. Whoever reads it has more around it, and serde_json, our command line with it, stops at 127.
const MAX_DEPTH: usize = 100;

/// A call that may be stored.
#[derive(Debug)]
pub(super) struct Checked {
    pub instance_id: Uuid,
    pub channel: String,
    pub plugin_id: String,
    pub events: Vec<CheckedEvent>,
    pub ephemeral: Vec<Event>,
    pub writes: Vec<KvWriteSealed>,
    /// Room that it takes in the queue.
    pub kib: u32,
}

impl Checked {
    /// As what its events are counted: those that were accepted before come from the dead letters.
    pub fn account(&self) -> Account {
        let is_again = self.events.iter().any(|event| event.again.is_some());
        if is_again { Account::Retried } else { Account::Accepted }
    }
}

/// An event that may be stored.
#[derive(Debug)]
pub(super) struct CheckedEvent {
    /// Absent when it is stored whatever came before.
    pub delivery_key: Option<String>,
    /// Our id for it, and when it was accepted, when it had them before.
    pub again: Option<(Uuid, Time)>,
    pub body: Arc<Body>,
    /// The chat's id, which says the lane. A thread shares that of its chat: a reaction may name either.
    pub chat: String,
}

impl CheckedEvent {
    fn new(delivery_key: Option<String>, again: Option<(Uuid, Time)>, payload: Vec<u8>, parsed: Parsed) -> Self {
        let chat = parsed.event.chat.as_ref().map_or_else(String::new, |chat| {
            let parent = chat.parent.as_ref().filter(|_| chat.kind == ChatKind::Thread);
            parent.unwrap_or(&chat.id).as_str().to_owned()
        });
        Self { delivery_key, again, body: Arc::new(Body { payload, parsed: Ok(parsed) }), chat }
    }
}

/// Looks at a call.
pub(super) fn check(accept: Accept, options: &BusOptions, now: Time) -> Result<Checked, AcceptError> {
    let mut checked = Checked {
        instance_id: accept.instance_id,
        channel: accept.channel,
        plugin_id: accept.plugin_id,
        events: Vec::with_capacity(accept.events.len()),
        ephemeral: Vec::new(),
        writes: Vec::new(),
        kib: 1,
    };
    let mut bytes = 0;
    for write in &accept.writes {
        bytes += write.key.len() + write.value.as_ref().map_or(0, Vec::len);
        check_key(&write.key)?;
    }
    for (index, AcceptEvent(payload)) in accept.events.into_iter().enumerate() {
        let refused = |reason: String| AcceptError::Refused { index, reason };
        bytes += payload.len();
        if payload.len() > options.max_event_bytes {
            return Err(refused(format!(
                "it has {} bytes, and {} are allowed; hand large content over as media",
                payload.len(),
                options.max_event_bytes
            )));
        }
        if bytes > options.max_accept_bytes {
            return Err(refused(format!(
                "the call has more than {} bytes; hand the events over in several calls",
                options.max_accept_bytes
            )));
        }
        checked.kib += 1 + u32::try_from(payload.len() / 1_024).unwrap_or(u32::MAX / 2);
        let (payload, parsed) = read(payload, now).map_err(refused)?;
        if matches!(parsed.event.body, EventBody::Typing(_) | EventBody::Presence(_)) {
            checked.ephemeral.push(parsed.event);
            continue;
        }
        let delivery_key = match &parsed.event.delivery_key {
            Some(key) => key.as_str().to_owned(),
            // Nothing that the network would repeat: the same content at the same time is the same event.
            None => format!("content:{:032x}", xxh3_128(&payload)),
        };
        checked.events.push(CheckedEvent::new(Some(delivery_key), None, payload, parsed));
    }
    if bytes > options.max_accept_bytes {
        return Err(AcceptError::RefusedWrite {
            key: accept.writes.last().map(|write| cut(&write.key)).unwrap_or_default(),
            reason: format!("the call has more than {} bytes", options.max_accept_bytes),
        });
    }
    checked.writes = accept.writes;
    Ok(checked)
}

/// An event that was accepted before, to be stored again as if then.
pub(super) fn again(
    instance_id: Uuid,
    event_id: Uuid,
    accepted_at: Time,
    payload: &[u8],
) -> Result<Checked, AcceptError> {
    let (payload, parsed) =
        read(payload.to_vec(), accepted_at).map_err(|reason| AcceptError::Refused { index: 0, reason })?;
    let kib = 1 + u32::try_from(payload.len() / 1_024).unwrap_or(u32::MAX / 2);
    let event = CheckedEvent::new(None, Some((event_id, accepted_at)), payload, parsed);
    Ok(Checked {
        instance_id,
        channel: String::new(),
        plugin_id: String::new(),
        events: vec![event],
        ephemeral: Vec::new(),
        writes: Vec::new(),
        kib,
    })
}

/// Reads one event: its bytes as they are stored, and what they say.
pub(crate) fn read(payload: Vec<u8>, now: Time) -> Result<(Vec<u8>, Parsed), String> {
    let payload = match escape_nul(&payload) {
        Cow::Borrowed(_) => payload,
        Cow::Owned(escaped) => escaped,
    };
    // Where a word is passed over, serde_json does not look whether it is text.
    std::str::from_utf8(&payload).map_err(|error| format!("it is not an event: {error}"))?;
    let parsed = parse(&payload, now).map_err(|error| format!("it is not an event: {error}"))?;
    if depth(&payload) > MAX_DEPTH {
        return Err(format!("it nests deeper than {MAX_DEPTH}"));
    }
    // In `raw`, in a word that is not known, in a name: whatever passes an event on passes all of it on.
    if !is_plain(&payload)
        && let Err(error) = serde_json::from_slice::<Value>(&payload)
    {
        return Err(format!("it holds what not every reader of JSON can read: {error}"));
    }
    check_event(&parsed.event)?;
    Ok((payload, parsed))
}

/// Replaces every escaped NUL in JSON. A NUL that is not escaped is no JSON.
pub(crate) fn escape_nul(json: &[u8]) -> Cow<'_, [u8]> {
    const NUL: &[u8] = br"\u0000";
    if !contains(json, NUL) {
        return Cow::Borrowed(json);
    }
    let mut out = Vec::with_capacity(json.len());
    let mut place = 0;
    while place < json.len() {
        if json[place..].starts_with(NUL) {
            out.extend_from_slice(br"\u2400");
            place += NUL.len();
        } else {
            // An escape is two bytes at least, so that `\\u0000` is a backslash and five characters.
            let step = if json[place] == b'\\' { 2.min(json.len() - place) } else { 1 };
            out.extend_from_slice(&json[place..place + step]);
            place += step;
        }
    }
    Cow::Owned(out)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    // Backslashes are rare, so this is one fast pass.
    let mut rest = haystack;
    while let Some(at) = rest.iter().position(|byte| *byte == needle[0]) {
        if rest[at..].starts_with(needle) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// How deep well-formed JSON nests.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Whether well-formed JSON has none of what some readers refuse: half a character (`\ud800`), a number beyond all measure.
/// It is passed over when it is read for its place alone, and nearly nothing needs the closer look.
fn is_plain(json: &[u8]) -> bool {
    let (mut in_string, mut escaped, mut digits) = (false, false, 0_u32);
    for byte in json {
        let before = digits;
        digits = if byte.is_ascii_digit() { digits + 1 } else { 0 };
        match (in_string, byte) {
            (true, b'u') if escaped => return false,
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'e' | b'E') if before > 0 => return false,
            (false, _) if digits > 100 => return false,
            _ => {}
        }
    }
    true
}

fn check_key(key: &str) -> Result<(), AcceptError> {
    let reason = match key {
        "" => "a key may not be empty".to_owned(),
        key if key.len() > MAX_KEY => format!("a key may have {MAX_KEY} bytes, and it has {}", key.len()),
        key if key.contains('\0') => "a key may not contain NUL".to_owned(),
        _ => return Ok(()),
    };
    Err(AcceptError::RefusedWrite { key: cut(key), reason })
}

fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

fn id(what: &str, id: &str) -> Result<(), String> {
    match id.len() {
        0 => Err(format!("{what} is empty")),
        1..=MAX_ID => Ok(()),
        long => Err(format!("{what} has {long} bytes, and {MAX_ID} are allowed")),
    }
}

fn list(what: &str, len: usize) -> Result<(), String> {
    if len > MAX_LIST { Err(format!("{what} has {len} entries, and {MAX_LIST} are allowed")) } else { Ok(()) }
}

fn check_chat(chat: &Chat) -> Result<(), String> {
    id("the chat's id", chat.id.as_str())?;
    for (what, other) in [("the chat's `parent`", &chat.parent), ("the chat's `alsoKnownAs`", &chat.also_known_as)] {
        if let Some(other) = other {
            id(what, other.as_str())?;
        }
    }
    Ok(())
}

fn check_user(user: &User) -> Result<(), String> {
    id("a user's id", user.id.as_str())
}

fn check_sender(sender: &Sender) -> Result<(), String> {
    // Our own account need not be named.
    if sender.is_from_me && sender.user.id.as_str().is_empty() { Ok(()) } else { check_user(&sender.user) }
}

fn check_target(target: &MessageRef) -> Result<(), String> {
    id("a message's id", target.id.as_str())?;
    target.part.as_ref().map_or(Ok(()), |part| id("a message's `part`", part.as_str()))
}

fn check_event(event: &Event) -> Result<(), String> {
    if let Some(key) = &event.delivery_key {
        id("its `deliveryKey`", key.as_str())?;
    }
    match &event.chat {
        Some(chat) => check_chat(chat)?,
        None if needs_chat(&event.body) => return Err(format!("a `{}` needs a `chat`", event.body.kind())),
        None => {}
    }
    match &event.body {
        EventBody::Message(message) => {
            check_target(&message.message)?;
            check_sender(&message.sender)?;
            if let Some(reply) = &message.reply_to {
                check_target(&reply.message)?;
            }
            if let Some(client) = message.echo.as_ref().and_then(|echo| echo.client_id.as_ref()) {
                id("the echo's `clientId`", client.as_str())?;
            }
            Ok(())
        }
        EventBody::Edit(edit) => {
            check_target(&edit.target)?;
            edit.sender.as_ref().map_or(Ok(()), check_sender)
        }
        EventBody::Delete(delete) => {
            list("`targets`", delete.targets.len())?;
            delete.targets.iter().try_for_each(check_target)?;
            delete.sender.as_ref().map_or(Ok(()), check_sender)
        }
        EventBody::Reaction(reaction) => {
            check_target(&reaction.target)?;
            list("`emojis`", reaction.emojis.len())?;
            list("`counts`", reaction.counts.len())?;
            reaction.sender.as_ref().map_or(Ok(()), check_sender)
        }
        EventBody::PollVote(vote) => {
            vote.target.as_ref().map_or(Ok(()), check_target)?;
            vote.poll_id.as_ref().map_or(Ok(()), |poll| id("its `pollId`", poll))?;
            list("`optionIds`", vote.option_ids.len())?;
            vote.sender.as_ref().map_or(Ok(()), check_sender)
        }
        EventBody::ButtonAnswer(answer) => {
            answer.target.as_ref().map_or(Ok(()), check_target)?;
            check_sender(&answer.sender)
        }
        EventBody::Receipt(receipt) => {
            list("`targets`", receipt.targets.len())?;
            receipt.targets.iter().try_for_each(check_target)
        }
        EventBody::Membership(membership) => {
            list("`users`", membership.users.len())?;
            membership.users.iter().try_for_each(check_user)
        }
        EventBody::ChatUpdate(update) => update.moved_to.as_ref().map_or(Ok(()), |to| id("its `movedTo`", to.as_str())),
        EventBody::UserUpdate(update) => check_user(&update.user),
        EventBody::SendUpdate(update) => check_target(&update.target),
        EventBody::Call(call) => check_sender(&call.sender),
        EventBody::Typing(typing) => check_sender(&typing.sender),
        EventBody::Presence(presence) => check_user(&presence.user),
        EventBody::Unknown(_) => Ok(()),
    }
}

fn needs_chat(body: &EventBody) -> bool {
    matches!(
        body,
        EventBody::Message(_)
            | EventBody::Edit(_)
            | EventBody::Delete(_)
            | EventBody::Reaction(_)
            | EventBody::Receipt(_)
            | EventBody::Typing(_)
            | EventBody::Membership(_)
            | EventBody::ChatUpdate(_)
            | EventBody::SendUpdate(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_nul_is_replaced_and_an_escaped_backslash_before_u0000_is_left() {
        for (given, expected) in [
            (r#"{"a":"x\u0000y"}"#, r#"{"a":"x\u2400y"}"#),
            (r#"{"a":"x\\u0000y"}"#, r#"{"a":"x\\u0000y"}"#),
            (r#"{"a":"x\\\u0000"}"#, r#"{"a":"x\\\u2400"}"#),
            (r#"{"a":"plain \n"}"#, r#"{"a":"plain \n"}"#),
        ] {
            assert_eq!(String::from_utf8_lossy(&escape_nul(given.as_bytes())), expected);
        }
    }

    #[test]
    fn what_some_readers_refuse_is_looked_at_closely() {
        for plain in [r#"{"a":[true,false,null,-12.5,"1e9 \n"],"b":"\"E"}"#, "7"] {
            assert!(is_plain(plain.as_bytes()), "{plain}");
        }
        let long = "1".repeat(400);
        for other in [r#"{"a":"\ud800"}"#, r#"{"a":1e999}"#, "[1E5]", "[-1.5e+5]", long.as_str()] {
            assert!(!is_plain(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        assert_eq!(depth(br#"{"a":["[[[[\"[",{"b":[]}]}"#), 4);
        assert_eq!(depth(b"1"), 0);
    }
}
