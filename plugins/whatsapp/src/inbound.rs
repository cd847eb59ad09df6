//! Messages as they come in: each becomes what the SDK says of it, and all of a batch is stored before WhatsApp is told that it
//! arrived.
//!
//! What comes again (after a death between storing and acknowledging) has the same delivery key and is dropped by the host.

pub mod content;
pub mod history;
pub mod media;
pub mod notice;

use crate::address::{self, Party};
use crate::kv::{self, Write};
use crate::names::{Known, Names};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use omni_channel_sdk::chat::Forward;
use omni_channel_sdk::event::{ButtonAnswer, Delete, Edit, EventOrigin, PollVote, Reaction};
use omni_channel_sdk::prelude::*;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use wacore::proto_helpers::MessageExt;
use wacore::types::events::InboundMessage;
use wacore::types::message::{MessageInfo, MessageSource};
use wacore_binary::{Jid, JidExt};
use waproto::whatsapp as wa;
use whatsapp_rust::{Client, InboundDurabilityHook};

/// What a batch comes to.
#[derive(Debug, Default)]
pub struct Out {
    /// What happened.
    pub events: Vec<Event>,
    /// What is remembered.
    pub writes: Vec<Write>,
}

impl Out {
    /// Everything as one batch for the host.
    pub fn into_batch(self) -> Batch {
        let mut batch = Batch::new();
        for event in self.events {
            batch.event(event);
        }
        kv::add(&mut batch, self.writes);
        batch
    }
}

/// Which messages are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Status updates.
    pub status: bool,
    /// Posts of newsletters.
    pub newsletters: bool,
}

/// Turns messages into events.
pub struct Inbound {
    names: Arc<Names>,
    wanted: Wanted,
}

impl std::fmt::Debug for Inbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbound").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

/// Where a message was written and by whom, by the names that the host knows.
struct Scene {
    chat: Chat,
    sender: Sender,
    at: i64,
    /// What the network would deliver again.
    key: String,
}

impl Inbound {
    /// For one account.
    pub fn new(names: Arc<Names>, wanted: Wanted) -> Self {
        Self { names, wanted }
    }

    /// The account by its name, noted in what is given to the host.
    pub async fn party(&self, jid: &Jid, other: Option<&Jid>, at: i64, out: &mut Out) -> Party {
        let party = self.names.party(jid, other).await;
        self.names.note(&party, at, &mut out.events, &mut out.writes);
        party
    }

    /// The chat by its name.
    pub async fn chat(&self, jid: &Jid, other: Option<&Jid>, at: i64, out: &mut Out) -> Chat {
        if address::is_account(jid) {
            let party = self.party(jid, other, at, out).await;
            return Chat::new(party.id, ChatKind::Direct);
        }
        Chat::new(address::plain(jid).to_string(), address::kind(jid))
    }

    /// Where something happened and who did it.
    async fn who(&self, source: &MessageSource, at: i64, out: &mut Out) -> (Chat, Sender) {
        let other = if source.is_from_me { source.recipient_alt.as_ref() } else { source.sender_alt.as_ref() };
        let chat = self.chat(&source.chat, other.filter(|_| !source.is_group), at, out).await;
        let user = self.party(&source.sender, source.sender_alt.as_ref(), at, out).await.user();
        (chat, Sender { is_from_me: source.is_from_me, ..Sender::from(user) })
    }

    async fn scene(&self, info: &MessageInfo, out: &mut Out) -> Scene {
        let source = &info.source;
        let at = info.timestamp.timestamp_millis();
        let (mut chat, mut sender) = self.who(source, at, out).await;
        let name = Some(info.push_name.clone()).filter(|name| !name.is_empty() && name != "~");
        let business = info.verified_name.as_ref().and_then(|verified| verified.name.clone());
        if !source.is_from_me {
            sender.user.name = name.or(business);
            if chat.kind == ChatKind::Direct {
                chat.name.clone_from(&sender.user.name);
                self.names.wrote(chat.id.as_str(), &mut out.writes);
            }
        }
        let key = format!("{}/{}/{}", chat.id, sender.user.id, info.id);
        Scene { chat, sender, at, key }
    }

    fn is_wanted(&self, chat: &Jid) -> bool {
        if chat.is_status_broadcast() {
            self.wanted.status
        } else if chat.is_newsletter() {
            self.wanted.newsletters
        } else {
            true
        }
    }

    /// Adds what one message comes to.
    pub async fn take(&self, message: &wa::Message, info: &MessageInfo, origin: Option<EventOrigin>, out: &mut Out) {
        if !self.is_wanted(&info.source.chat) {
            return;
        }
        let scene = self.scene(info, out).await;
        let base = message.get_base_message();
        let first = out.events.len();
        let told = match self.about_another(base, info, &scene).await {
            Some(event) => event,
            None => self.said(message, info, &scene, out).await,
        };
        let Some(body) = told else { return };
        let event =
            Event { origin: origin.clone(), raw: Some(raw(message, info)), ..Event::new(scene.chat, scene.at, body) };
        out.events.push(event.delivered_as(scene.key));
        if let Some(origin) = origin {
            for event in &mut out.events[first..] {
                event.origin = Some(origin.clone());
            }
        }
    }

    /// What changes another message. `None` when it is a message of its own; `Some(None)` when it is nothing to a person.
    async fn about_another(&self, base: &wa::Message, info: &MessageInfo, scene: &Scene) -> Option<Option<EventBody>> {
        use wa::message::protocol_message::Type;
        if let Some(reaction) = base.reaction_message.as_option() {
            let target = reaction.key.as_option().and_then(|key| key.id.clone())?;
            let emoji = reaction.text.clone().filter(|emoji| !emoji.is_empty());
            let reaction = Reaction {
                target: target.into(),
                sender: Some(scene.sender.clone()),
                emojis: emoji.as_deref().map(Into::into).into_iter().collect(),
                revision: reaction.sender_timestamp_ms.unwrap_or(scene.at),
                change: Default::default(),
                counts: Vec::new(),
            };
            return Some(Some(reaction.into()));
        }
        if let Some(vote) = base.poll_update_message.as_option() {
            return Some(self.vote(vote, info, scene).await);
        }
        let edited = base.edited_message.as_option().and_then(|wrapper| wrapper.message.as_option());
        let protocol = base
            .protocol_message
            .as_option()
            .or_else(|| edited.and_then(|inner| inner.protocol_message.as_option()))?;
        let target = protocol.key.as_option().and_then(|key| key.id.clone());
        match (protocol.r#type, target) {
            (Some(Type::REVOKE), Some(target)) => {
                let delete =
                    Delete { targets: vec![target.into()], sender: Some(scene.sender.clone()), only_for_me: false };
                Some(Some(delete.into()))
            }
            (Some(Type::MESSAGE_EDIT), Some(target)) => {
                let content = content::content(protocol.edited_message.as_option()?);
                Some(content.map(|content| {
                    let revision = protocol.timestamp_ms.unwrap_or(scene.at);
                    Edit { target: target.into(), revision, content, sender: Some(scene.sender.clone()) }.into()
                }))
            }
            (Some(Type::EPHEMERAL_SETTING), _) => {
                let seconds = protocol.ephemeral_expiration.unwrap_or(0);
                let words = if seconds == 0 { "off".to_owned() } else { format!("{seconds} s") };
                let system = omni_channel_sdk::content::System {
                    event: "disappearing_messages".into(),
                    text: Some(words),
                    message: None,
                };
                Some(Some(Message::new(info.id.as_str(), scene.sender.clone(), Content::System(system)).into()))
            }
            _ => Some(None),
        }
    }

    async fn vote(
        &self,
        update: &wa::message::PollUpdateMessage,
        info: &MessageInfo,
        scene: &Scene,
    ) -> Option<EventBody> {
        let key = update.poll_creation_message_key.as_option()?;
        let poll = key.id.clone()?;
        let vote = update.vote.as_option()?;
        let client = self.names.client()?;
        let chosen = open_vote(&client, key, vote, info, &poll).await;
        // One that cannot be opened is told without what was chosen only by its raw words: no vote is better than a wrong one.
        let chosen = chosen?;
        let vote = PollVote {
            target: Some(poll.into()),
            poll_id: None,
            sender: Some(scene.sender.clone()),
            option_ids: chosen.into_iter().map(hex::encode).collect(),
            poll: None,
        };
        Some(vote.into())
    }

    /// A message of its own.
    async fn said(&self, message: &wa::Message, info: &MessageInfo, scene: &Scene, out: &mut Out) -> Option<EventBody> {
        let base = message.get_base_message();
        if let Some((answer, text)) = touched(base, info, scene) {
            out.events
                .push(Event::new(scene.chat.clone(), scene.at, answer).delivered_as(format!("{}/touched", scene.key)));
            return Some(self.written(Content::text(text), message, info, scene, out).await);
        }
        let content = content::content(message)?;
        Some(self.written(content, message, info, scene, out).await)
    }

    async fn written(
        &self,
        content: Content,
        message: &wa::Message,
        info: &MessageInfo,
        scene: &Scene,
        out: &mut Out,
    ) -> EventBody {
        let words = content.words().map(|text| text.text.clone());
        let source = &info.source;
        let known = Known::new(&info.id, (&source.chat, &source.sender), source.is_from_me, scene.at, words.as_deref());
        out.writes.push(known.write());
        let mut content = content;
        if let Some(file) = content.media_mut() {
            media::came_with(file, info);
        }
        self.name_mentions(&mut content, scene.at, out).await;
        let mut written = Message::new(info.id.as_str(), scene.sender.clone(), content);
        let Some(context) = content::context(message) else { return written.into() };
        if let Some(id) = context.stanza_id.as_ref().filter(|id| !id.is_empty()) {
            let mut reply = ReplyTo::from(id.as_str());
            let quoted = context.quoted_message.as_option().and_then(content::content);
            reply.quoted_text = quoted.and_then(|content| content.words().map(|text| text.text.clone()));
            if let Some(author) = context.participant.as_ref().and_then(|author| author.parse::<Jid>().ok()) {
                reply.sender = Some(self.party(&author, None, scene.at, out).await.user());
            }
            written.reply_to = Some(reply);
        }
        if context.is_forwarded == Some(true) {
            written.forward = Some(Forward { count: context.forwarding_score, ..Forward::default() });
        }
        written.expires_at =
            context.expiration.filter(|seconds| *seconds > 0).map(|seconds| scene.at + i64::from(seconds) * 1_000);
        written.into()
    }

    /// Mentions name people as the message addressed them.
    async fn name_mentions(&self, content: &mut Content, at: i64, out: &mut Out) {
        use omni_channel_sdk::content::EntityKind;
        let text = match content {
            Content::Text(text) => Some(text),
            Content::Image(media) | Content::Video(media) | Content::Document(media) => media.caption.as_mut(),
            _ => None,
        };
        for entity in text.into_iter().flat_map(|text| &mut text.entities) {
            if let EntityKind::Mention(mention) = &mut entity.kind
                && let Some(jid) = mention.user.as_ref().and_then(|user| user.id.as_str().parse::<Jid>().ok())
            {
                mention.user = Some(self.party(&jid, None, at, out).await.user());
            }
        }
    }
}

/// The network's own words: WhatsApp's protobuf, from which everything else was read.
fn raw(message: &wa::Message, info: &MessageInfo) -> Value {
    json!({
        "message": STANDARD.encode(waproto::codec::message_to_vec(message)),
        "id": info.id,
        "chat": info.source.chat.to_string(),
        "sender": info.source.sender.to_string(),
        "pushName": info.push_name,
    })
}

/// A touched button or a chosen row, and the words that stand in the chat for it.
fn touched(base: &wa::Message, info: &MessageInfo, scene: &Scene) -> Option<(EventBody, String)> {
    use wa::__buffa::oneof::message as oneof;
    let (data, text, context) = if let Some(answer) = base.buttons_response_message.as_option() {
        let oneof::buttons_response_message::Response::SelectedDisplayText(words) = answer.response.as_ref()?;
        (answer.selected_button_id.clone(), words.clone(), answer.context_info.as_option())
    } else if let Some(answer) = base.list_response_message.as_option() {
        let row = answer.single_select_reply.as_option().and_then(|reply| reply.selected_row_id.clone());
        (row, answer.title.clone().unwrap_or_default(), answer.context_info.as_option())
    } else if let Some(answer) = base.template_button_reply_message.as_option() {
        (
            answer.selected_id.clone(),
            answer.selected_display_text.clone().unwrap_or_default(),
            answer.context_info.as_option(),
        )
    } else {
        let answer = base.interactive_response_message.as_option()?;
        let words = answer.body.as_option().and_then(|body| body.text.clone()).unwrap_or_default();
        let oneof::interactive_response_message::InteractiveResponseMessage::NativeFlowResponseMessage(flow) =
            answer.interactive_response_message.as_ref()?;
        (flow.params_json.clone(), words, answer.context_info.as_option())
    };
    let target = context.and_then(|context| context.stanza_id.clone()).map(Into::into);
    let answer =
        ButtonAnswer { id: info.id.clone(), target, sender: scene.sender.clone(), data, text: Some(text.clone()) };
    Some((answer.into(), text))
}

/// The hashes of the options that a vote chose.
async fn open_vote(
    client: &Arc<Client>,
    key: &wa::MessageKey,
    vote: &wa::message::PollEncValue,
    info: &MessageInfo,
    poll: &str,
) -> Option<Vec<Vec<u8>>> {
    let (payload, iv) = (vote.enc_payload.as_deref()?, vote.enc_iv.as_deref()?);
    let me = client.lid().or_else(|| client.pn())?;
    let creator: Jid = if key.from_me == Some(true) {
        // From the voter's point of view: the voter's own poll; ours when the vote is our own.
        info.source.sender.clone()
    } else if let Some(author) = &key.participant {
        author.parse().ok()?
    } else if info.source.is_from_me {
        info.source.chat.clone()
    } else {
        me.clone()
    };
    let backend = client.persistence_manager().backend();
    let chat = info.source.chat.to_non_ad_string();
    let mut authors = vec![creator.clone()];
    authors.extend(client.pn());
    authors.extend(client.lid());
    for author in authors {
        let secret = backend.get_msg_secret(&chat, &author.to_non_ad_string(), poll).await.ok().flatten();
        let Some(secret) = secret else { continue };
        let cipher = whatsapp_rust::features::PollVoteCiphertext { enc_payload: payload, enc_iv: iv };
        let opened = client.polls().decrypt_vote(cipher, &secret, poll, &author, &info.source.sender).await;
        if let Ok(chosen) = opened {
            return Some(chosen);
        }
    }
    None
}

/// How long it is tried to store a batch.
const PATIENCE: Duration = Duration::from_secs(600);

/// Stores a batch before it is acknowledged.
#[derive(Debug)]
pub struct Hook {
    /// Turns it into events.
    pub inbound: Arc<Inbound>,
    /// Where it is stored.
    pub host: Host,
    /// Whose clock is waited on.
    pub runtime: Handle,
}

#[async_trait::async_trait]
impl InboundDurabilityHook for Hook {
    async fn on_messages(&self, _client: Arc<Client>, batch: &[InboundMessage]) -> anyhow::Result<()> {
        let mut out = Out::default();
        for one in batch {
            self.inbound.take(&one.message, &one.info, None, &mut out).await;
        }
        if out.events.is_empty() && out.writes.is_empty() {
            return Ok(());
        }
        // What the host will never take must not hold up everything else for ever: it comes again after the next connect.
        kv::patiently(&self.host, &self.runtime, out.into_batch(), Some(PATIENCE)).await?;
        Ok(())
    }
}
