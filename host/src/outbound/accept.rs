//! A request becomes rows: the chat is found, the limits are checked, a long text is split, and all of it is durable in
//! one transaction before the caller hears of it.

use super::{Accepted, Action, Change, Inner, NewMessage, OutboundError, Target, allowed, limits};
use crate::instances::Instance;
use crate::store::outbox::{self, ChatTarget, MessageTarget, NewMessageRow, NewOutbox};
use crate::store::{StoreError, Time, Tx, fault};
use crate::traces::{self, SpanKind};
use omni_channel_sdk::chat::MessageRef;
use omni_channel_sdk::ids::{ChatId, ClientId};
use omni_channel_sdk::manifest::ChannelManifest;
use omni_channel_sdk::request::{DeleteMessage, EditMessage, React, Reply, Request, Resolve, Send};
use serde_json::Value;
use uuid::Uuid;

type Result<T, E = OutboundError> = std::result::Result<T, E>;

/// Longest id of a chat or message that anybody has.
const MAX_ID: usize = 1_024;

/// Accepts a message.
pub async fn message(outbound: &Inner, new: NewMessage) -> Result<Accepted> {
    told(accept_message(outbound, new)).await
}

/// Makes a step of the trace of it.
async fn told(accepting: impl Future<Output = Result<Accepted>>) -> Result<Accepted> {
    let step = traces::child("outbox.accept", SpanKind::Producer);
    let accepted = step.run(accepting).await;
    match &accepted {
        Ok(accepted) => {
            step.set("message.id", accepted.message_id.to_string());
            step.set("outbox.parts", i64::from(accepted.parts));
        }
        Err(_) => step.fail("it was refused"),
    }
    accepted
}

async fn accept_message(outbound: &Inner, new: NewMessage) -> Result<Accepted> {
    let instance = outbound.instances.get(new.instance_id).await?;
    let manifest = outbound.instances.manifest(&instance.channel)?;
    let fit = |content| limits::fit(content, &manifest.capabilities, &instance.channel);
    let (parts, album) = if new.album.is_empty() {
        (fit(new.content).map_err(OutboundError::Unsupported)?, false)
    } else {
        let items = std::iter::once(new.content).chain(new.album).collect();
        limits::album(items, &manifest.capabilities, &instance.channel).map_err(OutboundError::Unsupported)?
    };
    if new.reply_to.is_some() && !manifest.capabilities.reply {
        return Err(OutboundError::Unsupported(format!("channel {:?} cannot reply to a message", instance.channel)));
    }
    let Target::Any(to) = new.to;
    let found = find_chat(outbound, &instance, &manifest, &to).await?;
    let now = outbound.clock.now();
    let needs: Vec<String> = parts.iter().map(|content| allowed::sends(content.kind())).collect();
    let send_id = new.send_id.unwrap_or_else(Uuid::now_v7);
    let mut tx = outbound.store.begin().await?;
    if let Some(before) = accepted_before(&mut tx, new.send_id).await? {
        return Ok(before);
    }
    allowed_there(outbound, instance.id, found.external_id(), &needs, now)?;
    let chat = match found {
        Found::Known(chat) => chat,
        Found::New(external_id) => new_chat(&mut tx, &instance, external_id, now).await?,
    };
    let answers = match &new.reply_to {
        Some(message) => Some(reply_target(&mut tx, &chat, message).await?),
        None => None,
    };
    let mut first = None;
    let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    let mut others = if album { parts[1..].to_vec() } else { Vec::new() };
    for (part, content) in (0i64..).zip(parts) {
        let message_id = tx.new_id(now);
        first.get_or_insert(message_id);
        let client_id = message_id.simple().to_string();
        // Only the first part answers; the others follow it.
        let reply = answers.as_ref().filter(|_| part == 0);
        let request = Request::Send(Box::new(Send {
            chat: ChatId::new(&chat.external_id),
            client_id: ClientId::new(&client_id),
            content: content.clone(),
            // The first item takes the others along.
            album: std::mem::take(&mut others),
            reply_to: reply.map(|(_, message)| message.clone()),
            part: u32::try_from(part).unwrap_or(u32::MAX),
            follows: answers.as_ref().filter(|_| part > 0).map(|(_, message)| message.clone()),
            options: new.options.clone(),
        }));
        let row = NewMessageRow {
            id: message_id,
            chat_id: chat.id,
            client_id: client_id.clone(),
            content,
            reply_to: reply.map(|(id, message)| (*id, message.id.to_string())),
            at: now,
        };
        outbox::insert_message(&mut tx, &row).await?;
        let outbox_row = NewOutbox {
            id: Uuid::now_v7(),
            instance_id: instance.id,
            chat_key: chat.external_id.clone(),
            message_id,
            send_id,
            part,
            kind: "send",
            request: to_json(&request),
            client_id,
            trace: traces::current(),
        };
        outbox::enqueue(&mut tx, &outbox_row, now).await?;
    }
    commit(tx).await?;
    let message_id = first.ok_or_else(|| OutboundError::Invalid("there is nothing to send".into()))?;
    Ok(Accepted { send_id, message_id, parts: count, chat: chat.external_id, target: None })
}

/// Refuses what a chat does not take, as far as that is known without asking.
fn allowed_there(outbound: &Inner, instance: Uuid, chat: &str, needs: &[String], now: Time) -> Result<()> {
    match outbound.allowed.refusal(instance, chat, needs, now) {
        Some(error) => Err(OutboundError::NotHere(error)),
        None => Ok(()),
    }
}

async fn commit(tx: Tx) -> Result<(), StoreError> {
    fault!("outbox.enqueue.before");
    tx.commit().await?;
    fault!("outbox.enqueue.after");
    Ok(())
}

/// What a call with this id made before, if there was one.
async fn accepted_before(tx: &mut Tx, send_id: Option<Uuid>) -> Result<Option<Accepted>> {
    let Some(send_id) = send_id else { return Ok(None) };
    let before = outbox::call(tx, send_id).await?;
    Ok(before.map(|before| Accepted {
        send_id,
        message_id: before.message_id,
        parts: u32::try_from(before.parts).unwrap_or(u32::MAX),
        chat: before.chat_key,
        target: None,
    }))
}

/// Accepts a change of a message.
pub async fn change(outbound: &Inner, change: Change) -> Result<Accepted> {
    told(accept_change(outbound, change)).await
}

async fn accept_change(outbound: &Inner, change: Change) -> Result<Accepted> {
    let mut tx = outbound.store.read().await?;
    let target = find_message(&mut tx, &change).await?;
    drop(tx);
    let instance = outbound.instances.get(target.instance_id).await?;
    let manifest = outbound.instances.manifest(&instance.channel)?;
    let now = outbound.clock.now();
    let reference = MessageRef {
        id: target.external_id.clone().unwrap_or_default().into(),
        part: (!target.part.is_empty()).then(|| target.part.clone().into()),
    };
    let request = change_request(&target, &manifest, &instance.channel, change.action, &reference, now)?;
    allowed_there(outbound, instance.id, &target.chat_external_id, &allowed::needs(&request), now)?;
    let kind = match &request {
        Request::Edit(_) => "edit",
        Request::Delete(_) => "delete",
        _ => "react",
    };
    let send_id = change.send_id.unwrap_or_else(Uuid::now_v7);
    let row = NewOutbox {
        id: Uuid::now_v7(),
        instance_id: instance.id,
        chat_key: target.chat_external_id.clone(),
        message_id: target.id,
        send_id,
        part: 0,
        kind,
        request: to_json(&request),
        client_id: Uuid::now_v7().simple().to_string(),
        trace: traces::current(),
    };
    let mut tx = outbound.store.begin().await?;
    if let Some(before) = accepted_before(&mut tx, change.send_id).await? {
        return Ok(Accepted { target: Some(reference), ..before });
    }
    outbox::enqueue(&mut tx, &row, now).await?;
    tx.commit().await?;
    Ok(Accepted { send_id, message_id: target.id, parts: 1, chat: target.chat_external_id, target: Some(reference) })
}

fn change_request(
    target: &MessageTarget,
    manifest: &ChannelManifest,
    channel: &str,
    action: Action,
    reference: &MessageRef,
    now: Time,
) -> Result<Request> {
    let kind = match &action {
        Action::Edit(_) => "edit",
        Action::Delete => "delete",
        Action::React(_) => "react",
    };
    let Some(allowed) = manifest.capabilities.requests.get(kind) else {
        return Err(OutboundError::Unsupported(format!("channel {channel:?} cannot {kind} a message")));
    };
    let age = now.millis().saturating_sub(target.platform_timestamp.millis()) / 1_000;
    if let Some(limit) = allowed.max_age_seconds
        && age > i64::try_from(limit).unwrap_or(i64::MAX)
    {
        let sentence = format!("the message is {age} s old; channel {channel:?} can {kind} one for {limit} s");
        return Err(OutboundError::Unsupported(sentence));
    }
    let (chat, target_ref) = (ChatId::new(&target.chat_external_id), reference.clone());
    Ok(match action {
        Action::Edit(content) => {
            if !target.is_from_me {
                return Err(OutboundError::Invalid("only messages of our own can be edited".into()));
            }
            let mut parts =
                limits::fit(*content, &manifest.capabilities, channel).map_err(OutboundError::Unsupported)?;
            if parts.len() != 1 {
                return Err(OutboundError::Unsupported("the new text is longer than one message may be".into()));
            }
            Request::Edit(Box::new(EditMessage { chat, target: target_ref, content: parts.remove(0) }))
        }
        Action::Delete => Request::Delete(DeleteMessage { chat, target: target_ref, only_for_me: false }),
        Action::React(emojis) => {
            let most = allowed.max_items.unwrap_or(1) as usize;
            if emojis.len() > most {
                let sentence = format!("{} reactions are too many; channel {channel:?} takes {most}", emojis.len());
                return Err(OutboundError::Unsupported(sentence));
            }
            let takes = |emoji: &str| allowed.allowed.iter().any(|allowed| bare(allowed) == bare(emoji));
            if let Some(refused) = emojis
                .iter()
                .find(|emoji| emoji.custom_id.is_none() && !allowed.allowed.is_empty() && !takes(&emoji.emoji))
            {
                let sentence = format!("{:?} is no reaction that channel {channel:?} takes", refused.emoji);
                return Err(OutboundError::Unsupported(sentence));
            }
            Request::React(React { chat, target: target_ref, emojis })
        }
    })
}

/// An emoji without the variation selector, which some keyboards add and some networks leave out: the same emoji.
fn bare(emoji: &str) -> String {
    emoji.replace('\u{fe0f}', "")
}

enum Found {
    Known(ChatTarget),
    New(String),
}

impl Found {
    /// The network's id of it.
    fn external_id(&self) -> &str {
        match self {
            Self::Known(chat) => &chat.external_id,
            Self::New(external_id) => external_id,
        }
    }
}

async fn find_chat(outbound: &Inner, instance: &Instance, manifest: &ChannelManifest, to: &str) -> Result<Found> {
    let to = to.trim();
    if to.is_empty() || to.len() > MAX_ID {
        return Err(OutboundError::Invalid(format!("to has {} bytes; 1 to {MAX_ID} are allowed", to.len())));
    }
    let mut tx = outbound.store.read().await?;
    if let Ok(id) = to.parse::<Uuid>() {
        if let Some(chat) = outbox::chat_by_id(&mut tx, id).await? {
            if chat.instance_id != instance.id {
                return Err(OutboundError::Invalid(format!("chat {id} belongs to another instance")));
            }
            return Ok(Found::Known(chat));
        }
        if outbox::person_exists(&mut tx, id).await? {
            let chat = outbox::chat_of_person(&mut tx, instance.id, id).await?;
            let sentence =
                || format!("person {id} has no direct chat on instance {:?}; give the network's id", instance.name);
            return chat.map(Found::Known).ok_or_else(|| OutboundError::NotFound(sentence()));
        }
    }
    if let Some(chat) = outbox::chat_by_external(&mut tx, instance.id, to).await? {
        return Ok(Found::Known(chat));
    }
    drop(tx);
    // A handle or a phone number is no id yet: the network knows whose it is.
    let is_address =
        to.starts_with(['@', '+']) || manifest.addresses.iter().any(|begins| to.starts_with(begins.as_str()));
    if is_address && manifest.capabilities.can("resolve") {
        let request = Request::Resolve(Resolve { address: to.to_owned() });
        if let Reply::Address(found) = outbound.instances.request(instance.id, request).await? {
            let external = found.chat.map(|chat| chat.id.0).or(found.user.map(|user| user.id.0));
            let external = external
                .ok_or_else(|| OutboundError::NotFound(format!("there is nobody {to:?} on {}", instance.channel)))?;
            let mut tx = outbound.store.read().await?;
            let known = outbox::chat_by_external(&mut tx, instance.id, &external).await?;
            return Ok(known.map_or(Found::New(external), Found::Known));
        }
    }
    Ok(Found::New(to.to_owned()))
}

async fn new_chat(tx: &mut Tx, instance: &Instance, external_id: String, now: Time) -> Result<ChatTarget> {
    if let Some(chat) = outbox::chat_by_external(tx, instance.id, &external_id).await? {
        return Ok(chat);
    }
    let id = tx.new_id(now);
    outbox::insert_chat(tx, id, instance.id, &external_id, &instance.channel, now).await?;
    Ok(ChatTarget { id, instance_id: instance.id, external_id })
}

/// The message that is answered: our id of it if we have it, and the network's.
async fn reply_target(tx: &mut Tx, chat: &ChatTarget, message: &str) -> Result<(Option<Uuid>, MessageRef)> {
    let ours = match message.parse::<Uuid>() {
        Ok(id) => outbox::message_by_id(tx, id).await?,
        Err(_) => outbox::message_by_external(tx, chat.id, message).await?,
    };
    match ours {
        Some(found) if found.chat_id != chat.id => {
            Err(OutboundError::Invalid(format!("replyTo {message:?} is a message of another chat")))
        }
        Some(found) => match found.external_id {
            Some(external) => {
                let part = (!found.part.is_empty()).then(|| found.part.into());
                Ok((Some(found.id), MessageRef { id: external.into(), part }))
            }
            None => Err(OutboundError::Invalid(format!("replyTo {message:?} was not sent yet"))),
        },
        // The network may know messages that we do not.
        None if message.parse::<Uuid>().is_err() && !message.is_empty() && message.len() <= MAX_ID => {
            Ok((None, MessageRef::from(message)))
        }
        None => Err(OutboundError::NotFound(format!("there is no message {message:?} to reply to"))),
    }
}

async fn find_message(tx: &mut Tx, change: &Change) -> Result<MessageTarget> {
    let missing = || OutboundError::NotFound(format!("there is no message {:?}", change.message));
    let found = match (change.message.parse::<Uuid>(), &change.chat, change.instance_id) {
        (Ok(id), _, _) => outbox::message_by_id(tx, id).await?,
        (Err(_), Some(chat), Some(instance_id)) => {
            let chat = match chat.parse::<Uuid>() {
                Ok(id) => outbox::chat_by_id(tx, id).await?,
                Err(_) => outbox::chat_by_external(tx, instance_id, chat).await?,
            };
            let chat = chat.ok_or_else(|| OutboundError::NotFound("there is no such chat".into()))?;
            outbox::message_by_external(tx, chat.id, &change.message).await?
        }
        _ => {
            let sentence = "a message is named by its UUID, or by the network's id together with chat and instance";
            return Err(OutboundError::Invalid(sentence.into()));
        }
    };
    let found = found.ok_or_else(missing)?;
    match change.instance_id {
        Some(instance_id) if instance_id != found.instance_id => Err(missing()),
        _ => Ok(found),
    }
}

fn to_json(request: &Request) -> Value {
    serde_json::to_value(request).expect("wire types are plain JSON")
}
