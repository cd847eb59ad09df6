//! Commands, buttons, menus and forms → messages and touched buttons.
//!
//! What a person typed as a command arrives as a message of theirs, `/ask question: why`, under the interaction's own id; an
//! answer to that message is the answer to the command; files given to it are further parts of that message. A form that a
//! command showed arrives the same way.

use crate::api;
use crate::convert::{Scene, content, message, people};
use crate::interactions;
use omni_channel_sdk::chat::Reply;
use omni_channel_sdk::content::{Entity, EntityKind, Plain, Text};
use omni_channel_sdk::event::ButtonAnswer;
use omni_channel_sdk::prelude::*;

/// An option of a command that is a file, by Discord's number.
const FILE: u8 = 11;

/// What kinds of interaction there are, by Discord's numbers.
pub mod kind {
    /// A command was given.
    pub const COMMAND: u8 = 2;
    /// A button or a menu was touched.
    pub const COMPONENT: u8 = 3;
    /// Somebody types a command and wants proposals.
    pub const AUTOCOMPLETE: u8 = 4;
    /// A form was filled in.
    pub const MODAL: u8 = 5;
}

/// The events of an interaction: what it says, if it is one that says something, and the files that go with it.
pub fn events(raw: &Value, interaction: &api::Interaction, scene: Scene<'_>) -> Vec<Event> {
    let Some(mut first) = event(raw, interaction, scene) else { return Vec::new() };
    let EventBody::Message(said) = &mut first.body else { return vec![first] };
    let files = files(interaction);
    said.album = (!files.is_empty()).then(|| interaction.id.clone());
    let said = said.clone();
    let parts = files.into_iter().enumerate().map(|(index, content)| {
        let mut file = said.clone();
        (file.message.part, file.content, file.reply_to) = (message::part(index + 1), content, None);
        let key = format!("interaction/{}/{}", interaction.id, index + 1);
        Event {
            delivery_key: None,
            at: first.at,
            chat: first.chat.clone(),
            body: EventBody::Message(file),
            origin: None,
            raw: None,
        }
        .delivered_as(key)
    });
    let parts: Vec<Event> = parts.collect();
    std::iter::once(first).chain(parts).collect()
}

/// The files that were given to a command, in the order of its options.
fn files(interaction: &api::Interaction) -> Vec<Content> {
    let Some(data) = &interaction.data else { return Vec::new() };
    let place = api::Message {
        id: interaction.id.clone(),
        channel_id: interaction.channel_id.clone().unwrap_or_default(),
        ..api::Message::default()
    };
    let given = data.resolved.as_ref().and_then(|resolved| resolved.get("attachments"));
    let mut ids = Vec::new();
    named_files(&data.options, &mut ids);
    let found = ids.into_iter().filter_map(|id| serde_json::from_value(given?.get(id)?.clone()).ok());
    found.map(|file: api::Attachment| content::attachment(&place, &file, false)).collect()
}

fn named_files<'a>(options: &'a [api::CommandOption], ids: &mut Vec<&'a str>) {
    for option in options {
        ids.extend(option.value.as_ref().filter(|_| option.kind == FILE).and_then(Value::as_str));
        named_files(&option.options, ids);
    }
}

fn event(raw: &Value, interaction: &api::Interaction, scene: Scene<'_>) -> Option<Event> {
    let data = interaction.data.as_ref()?;
    let user = interaction.member.as_ref().and_then(|member| member.user.as_ref()).or(interaction.user.as_ref())?;
    let sender = people::sender(user, interaction.member.as_ref(), scene.me);
    let channel = interaction.channel_id.as_deref()?;
    let mut chat = scene.names.chat(channel, interaction.guild_id.as_deref());
    if chat.kind == ChatKind::Direct {
        chat.name.clone_from(&sender.user.name);
    }
    let at = api::time_of(&interaction.id).unwrap_or(scene.now);
    let body: EventBody = match interaction.kind {
        kind::COMMAND => command(interaction, data, sender, scene).into(),
        kind::MODAL => match data.custom_id.as_deref().and_then(interactions::command_of_modal) {
            Some(name) => {
                let lines =
                    std::iter::once(format!("/{name}")).chain(entered(&data.components, data.resolved.as_ref()));
                Message::new(
                    interaction.id.as_str(),
                    sender,
                    as_command(lines.collect::<Vec<_>>().join("\n"), name.encode_utf16().count()),
                )
                .into()
            }
            None => {
                let entered = entered(&data.components, data.resolved.as_ref());
                touched(interaction, data, sender, entered.join("\n")).into()
            }
        },
        kind::COMPONENT => touched(interaction, data, sender, labels(interaction, data).join(", ")).into(),
        _ => return None,
    };
    let mut event = Event::new(chat, at, body).delivered_as(format!("interaction/{}", interaction.id));
    event.raw = Some(without_token(raw));
    Some(event)
}

/// The token of an interaction is good for a quarter of an hour and for all that the bot may: it is not stored with it.
pub fn without_token(raw: &Value) -> Value {
    let mut raw = raw.clone();
    if let Some(fields) = raw.as_object_mut() {
        fields.remove("token");
    }
    raw
}

fn as_command(text: String, name: usize) -> Content {
    let length = u32::try_from(name + 1).unwrap_or(0);
    let entities = vec![Entity { offset: 0, length, kind: EntityKind::Command(Plain {}) }];
    Content::Text(Text { text, entities })
}

fn command(interaction: &api::Interaction, data: &api::InteractionData, sender: Sender, scene: Scene<'_>) -> Message {
    let name = data.name.clone().unwrap_or_default();
    let length = name.encode_utf16().count();
    let mut text = format!("/{name}");
    options(&data.options, data.resolved.as_ref(), &mut text);
    let target = data.target_id.as_deref();
    let resolved = |list: &str| data.resolved.as_ref()?.get(list)?.get(target?);
    if data.kind == 2
        && let Some(user) = resolved("users").and_then(|user| serde_json::from_value::<api::User>(user.clone()).ok())
    {
        let user = people::user(&user, None);
        text.push_str(&format!(" @{}", user.name.as_deref().unwrap_or(user.id.as_str())));
    }
    let mut message = Message::new(interaction.id.as_str(), sender, as_command(text, length));
    if let Some(target) = target.filter(|_| data.kind == 3) {
        let mut reply = Reply::from(target);
        let answered =
            resolved("messages").and_then(|found| serde_json::from_value::<api::Message>(found.clone()).ok());
        if let Some(answered) = answered {
            reply.quoted_text = message::quoted(&answered, scene);
            reply.sender = answered.author.as_ref().map(|author| people::user(author, None));
        }
        message.reply_to = Some(reply);
    }
    message
}

/// What was written behind a command, as a person would read it.
fn options(list: &[api::CommandOption], resolved: Option<&Value>, text: &mut String) {
    for option in list {
        match &option.value {
            Some(value) => {
                let words = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let words = named(&words, option.kind, resolved).unwrap_or(words);
                text.push_str(&format!(" {}: {words}", option.name));
            }
            // A command below a command.
            None => {
                text.push_str(&format!(" {}", option.name));
                options(&option.options, resolved, text);
            }
        }
    }
}

/// Who or what an option names by its id: a person, a channel, a role, any of those that can be addressed, a file.
fn named(id: &str, kind: u8, resolved: Option<&Value>) -> Option<String> {
    let name = |list: &str, fields: &[&str]| {
        let found = resolved?.get(list)?.get(id)?;
        fields.iter().find_map(|field| found.get(*field)?.as_str().map(str::to_owned))
    };
    let user = || name("users", &["global_name", "username"]).map(|name| format!("@{name}"));
    let role = || name("roles", &["name"]).map(|name| format!("@{name}"));
    match kind {
        6 => user(),
        7 => name("channels", &["name"]).map(|name| format!("#{name}")),
        8 => role(),
        9 => user().or_else(role),
        FILE => name("attachments", &["filename"]),
        _ => None,
    }
}

/// What was chosen in a menu of people, roles, any of those, or channels, as a person would read it.
fn chosen(component: &api::Component, values: &[String], resolved: Option<&Value>) -> Vec<String> {
    let option = match component.kind {
        5 => 6,
        6 => 8,
        7 => 9,
        8 => 7,
        _ => 0,
    };
    values.iter().map(|id| named(id, option, resolved).unwrap_or_else(|| id.clone())).collect()
}

/// What was entered into a form, a line for each field.
fn entered(components: &[api::Component], resolved: Option<&Value>) -> Vec<String> {
    let mut lines = Vec::new();
    content::each(components, &mut |component| {
        let chosen = || chosen(component, &component.values, resolved).join(", ");
        let said = component.value.clone().or_else(|| (!component.values.is_empty()).then(chosen));
        if let (Some(field), Some(said)) = (&component.custom_id, said) {
            lines.push(format!("{field}: {said}"));
        }
    });
    lines
}

fn touched(interaction: &api::Interaction, data: &api::InteractionData, sender: Sender, text: String) -> ButtonAnswer {
    // Of a menu it is what was chosen that counts, of a button what it carries.
    let chosen = (!data.values.is_empty()).then(|| data.values.join(","));
    ButtonAnswer {
        id: interaction.id.clone(),
        target: interaction
            .message
            .as_ref()
            .filter(|message| !message.id.is_empty())
            .map(|message| MessageRef::from(message.id.as_str())),
        sender,
        data: chosen.or_else(|| data.custom_id.clone()),
        text: Some(text).filter(|text| !text.is_empty()),
    }
}

/// The words on what was touched.
fn labels(interaction: &api::Interaction, data: &api::InteractionData) -> Vec<String> {
    let mut touched = None;
    if let Some(message) = &interaction.message {
        content::each(&message.components, &mut |component| {
            if component.custom_id.is_some() && component.custom_id == data.custom_id {
                touched = Some(component.clone());
            }
        });
    }
    // The message may be one that says nothing, and what was chosen is said all the same.
    let touched = touched.unwrap_or_else(|| api::Component { kind: data.component_type, ..api::Component::default() });
    match touched.kind {
        3 => {
            let chosen = touched.options.into_iter().filter(|choice| data.values.contains(&choice.value));
            chosen.map(|choice| choice.label).collect()
        }
        5..=8 => chosen(&touched, &data.values, data.resolved.as_ref()),
        _ => touched.label.into_iter().collect(),
    }
}
