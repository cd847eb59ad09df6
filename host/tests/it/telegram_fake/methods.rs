//! What each method answers.

use super::hook::Hook;
use super::people::merge;
use super::sending;
use super::state::{Refusal, State, Uploaded};
use serde_json::{Value, json};

/// Largest file that Telegram gives to a bot.
const MAX_DOWNLOAD: usize = 20 * 1024 * 1024;

pub fn answer(state: &mut State, method: &str, params: &Value, files: &[Uploaded]) -> Result<Value, Refusal> {
    match method {
        "getMe" => Ok(state.me.clone()),
        "setWebhook" | "deleteWebhook" => webhook(state, params),
        "getWebhookInfo" => Ok(webhook_info(state)),
        "editMessageText"
        | "editMessageCaption"
        | "editMessageMedia"
        | "editMessageLiveLocation"
        | "editMessageReplyMarkup" => edit(state, method, params, files),
        "deleteMessage" => delete(state, params),
        "setMessageReaction" => react(state, params),
        "answerCallbackQuery" => answer_button(state, params),
        "getFile" => get_file(state, params),
        "getChat" => get_chat(state, params),
        "exportChatInviteLink" => chat(state, params).map(|id| json!(format!("https://t.me/+invite{}", id.abs()))),
        "setChatTitle" => set_chat(state, params, "title"),
        "setChatDescription" => set_chat(state, params, "description"),
        "sendChatAction"
        | "setChatPhoto"
        | "deleteChatPhoto"
        | "banChatMember"
        | "unbanChatMember"
        | "promoteChatMember"
        | "leaveChat"
        | "pinChatMessage"
        | "unpinChatMessage"
        | "unpinAllChatMessages" => chat(state, params).map(|_| json!(true)),
        "deleteBusinessMessages" | "readBusinessMessage" => Ok(json!(true)),
        "sendMediaGroup" => album(state, params, files),
        "getChatMember" => chat(state, params).map(|id| membership(state, id)),
        "getChatAdministrators" => chat(state, params).map(|_| json!([])),
        method if sending::is_send(method) => send(state, method, params, files),
        other => {
            state.violations.push(format!("the fake does not know the method {other}"));
            Err(Refusal::new(404, "Not Found: method not found"))
        }
    }
}

fn webhook(state: &mut State, params: &Value) -> Result<Value, Refusal> {
    let hook = Hook::new(params);
    // A server of one's own takes plain HTTP, too.
    if hook.as_ref().is_some_and(|hook| !hook.url.starts_with("https://") && !hook.is_here()) {
        return Err(Refusal::bad("bad webhook: An HTTPS URL must be provided for webhook"));
    }
    state.webhook = hook;
    state.allow(params);
    if params["drop_pending_updates"] == true {
        state.pending.clear();
    }
    Ok(json!(true))
}

fn webhook_info(state: &State) -> Value {
    let mut info = json!({"url": "", "has_custom_certificate": false, "pending_update_count": state.pending.len()});
    if let Some(hook) = &state.webhook {
        merge(&mut info, json!({"url": hook.url, "max_connections": hook.max_connections}));
        if let Some((at, why)) = &hook.failed {
            merge(&mut info, json!({"last_error_date": at, "last_error_message": why}));
        }
    }
    info
}

/// Several files in one call: as many messages, bound together.
fn album(state: &mut State, params: &Value, files: &[Uploaded]) -> Result<Value, Refusal> {
    let items = params["media"].as_array().cloned().unwrap_or_default();
    if !(2..=10).contains(&items.len()) {
        return Err(Refusal::bad("there must be 2 to 10 items in a media group"));
    }
    let group = state.fresh("139");
    let mut sent = Vec::with_capacity(items.len());
    for item in &items {
        let id = chat(state, params)?;
        let content = sending::edited_media(state, item, files)?;
        let mut message = begun(state, id, params)?;
        merge(&mut message, json!({"media_group_id": group}));
        sent.push(finished(state, id, message, content));
    }
    Ok(sent.into())
}

/// The chat that a call is about: known, not moved away, and not closed to the bot.
fn chat(state: &State, params: &Value) -> Result<i64, Refusal> {
    let wanted = &params["chat_id"];
    let by_name = |name: &str| {
        let name = name.strip_prefix('@')?;
        state.chats.iter().find(|(_, chat)| chat["username"] == name).map(|(id, _)| *id)
    };
    let number =
        wanted.as_i64().or_else(|| wanted.as_str().and_then(|words| words.parse().ok().or_else(|| by_name(words))));
    let Some(id) = number.filter(|id| state.chats.contains_key(id)) else { return Err(Refusal::bad("chat not found")) };
    if let Some(to) = state.moved.get(&id) {
        let mut refusal = Refusal::bad("group chat was upgraded to a supergroup chat");
        refusal.parameters = Some(json!({"migrate_to_chat_id": to}));
        return Err(refusal);
    }
    if state.blocked.contains(&id) {
        return Err(Refusal::new(403, "Forbidden: bot was blocked by the user"));
    }
    Ok(id)
}

/// What the bot is in a chat.
fn membership(state: &State, id: i64) -> Value {
    let mut member = json!({"status": "member", "user": me(state)});
    merge(&mut member, state.membership.get(&id).cloned().unwrap_or_else(|| json!({})));
    member
}

/// Refuses what the bot has no right to send.
fn allow(state: &State, id: i64, method: &str) -> Result<(), Refusal> {
    let member = membership(state, id);
    if state.chats[&id]["type"] == "channel" && member["can_post_messages"] == false {
        return Err(Refusal::bad("need administrator rights in the channel chat"));
    }
    let (right, what) = match method {
        "sendPhoto" => ("can_send_photos", "photos"),
        "sendVideo" => ("can_send_videos", "videos"),
        "sendDocument" => ("can_send_documents", "documents"),
        "sendPoll" => ("can_send_polls", "polls"),
        "sendSticker" => ("can_send_other_messages", "stickers"),
        _ => ("can_send_messages", "text messages"),
    };
    let permissions = state.permissions.get(&id).filter(|_| member["status"] == "member");
    if permissions.is_some_and(|permissions| permissions[right] == false) {
        return Err(Refusal::bad(&format!("not enough rights to send {what} to the chat")));
    }
    Ok(())
}

fn send(state: &mut State, method: &str, params: &Value, files: &[Uploaded]) -> Result<Value, Refusal> {
    let id = chat(state, params)?;
    allow(state, id, method)?;
    let content = sending::content(state, method, params, files)?;
    let message = begun(state, id, params)?;
    Ok(finished(state, id, message, content))
}

/// A message of the bot's without what it is made of.
fn begun(state: &State, id: i64, params: &Value) -> Result<Value, Refusal> {
    let mut message = json!({"message_id": 0, "from": me(state), "chat": state.chats[&id], "date": 0});
    if let Some(reply) = params.get("reply_parameters") {
        let answered = reply["message_id"].as_i64().and_then(|number| state.messages.get(&(id, number)));
        match answered {
            Some(answered) => {
                let mut answered = answered.clone();
                answered.as_object_mut().expect("messages are objects").remove("reply_to_message");
                message["reply_to_message"] = answered;
            }
            None if reply["allow_sending_without_reply"] == true => {}
            None => return Err(Refusal::bad("message to be replied not found")),
        }
    }
    if let Some(thread) = params.get("message_thread_id") {
        merge(&mut message, json!({"message_thread_id": thread, "is_topic_message": true}));
    }
    if let Some(connection) = params.get("business_connection_id") {
        merge(&mut message, json!({"business_connection_id": connection}));
    }
    if params["reply_markup"].get("inline_keyboard").is_some() {
        message["reply_markup"] = params["reply_markup"].clone();
    }
    Ok(message)
}

/// Puts a message of the bot's into its chat.
fn finished(state: &mut State, id: i64, mut message: Value, content: Value) -> Value {
    merge(&mut message, content);
    let number = state.message_id();
    message["message_id"] = number.into();
    message["date"] = state.tick().into();
    state.messages.insert((id, number), message.clone());
    message
}

/// The bot as the author of a message.
fn me(state: &State) -> Value {
    json!({"id": state.me["id"], "is_bot": true, "first_name": state.me["first_name"], "username": state.me["username"]})
}

fn own_message(state: &State, params: &Value, to: &str) -> Result<(i64, i64), Refusal> {
    let id = chat(state, params)?;
    let key = (id, params["message_id"].as_i64().unwrap_or_default());
    match state.messages.get(&key) {
        None => Err(Refusal::bad(&format!("message to {to} not found"))),
        Some(message) if to != "react" && message["from"]["id"] != state.me["id"] => {
            Err(Refusal::bad(&format!("message can't be {to}ed")))
        }
        Some(_) => Ok(key),
    }
}

fn edit(state: &mut State, method: &str, params: &Value, files: &[Uploaded]) -> Result<Value, Refusal> {
    let key = own_message(state, params, "edit")?;
    let before = state.messages[&key].clone();
    let mut after = before.clone();
    let fields = after.as_object_mut().expect("messages are objects");
    let content = match method {
        "editMessageText" if !fields.contains_key("text") => {
            return Err(Refusal::bad("there is no text in the message to edit"));
        }
        "editMessageText" => {
            fields.remove("entities");
            sending::content(state, "sendMessage", params, files)?
        }
        "editMessageCaption" => {
            fields.remove("caption");
            fields.remove("caption_entities");
            sending::caption(params)?
        }
        "editMessageMedia" => {
            fields.retain(|name, _| sending::AROUND.contains(&name.as_str()));
            sending::edited_media(state, &params["media"], files)?
        }
        "editMessageLiveLocation" => sending::content(state, "sendLocation", params, files)?,
        _ => json!({}),
    };
    fields.remove("reply_markup");
    merge(&mut after, content);
    if params["reply_markup"]["inline_keyboard"].as_array().is_some_and(|rows| !rows.is_empty()) {
        after["reply_markup"] = params["reply_markup"].clone();
    }
    if after == before {
        let what = "message is not modified: specified new message content and reply markup are exactly the same as a \
                    current content and reply markup of the message";
        return Err(Refusal::bad(what));
    }
    after["edit_date"] = state.tick().into();
    state.messages.insert(key, after.clone());
    Ok(after)
}

fn delete(state: &mut State, params: &Value) -> Result<Value, Refusal> {
    let key = (chat(state, params)?, params["message_id"].as_i64().unwrap_or_default());
    match state.messages.remove(&key) {
        Some(_) => Ok(json!(true)),
        None => Err(Refusal::bad("message to delete not found")),
    }
}

fn react(state: &mut State, params: &Value) -> Result<Value, Refusal> {
    let key = own_message(state, params, "react")?;
    let reactions = params.get("reaction").cloned().unwrap_or_else(|| json!([]));
    if reactions.as_array().is_some_and(|reactions| reactions.len() > 1) {
        return Err(Refusal::bad("REACTIONS_TOO_MANY"));
    }
    state.reactions.insert(key, reactions);
    Ok(json!(true))
}

fn answer_button(state: &mut State, params: &Value) -> Result<Value, Refusal> {
    if state.callbacks.remove(params["callback_query_id"].as_str().unwrap_or_default()) {
        return Ok(json!(true));
    }
    Err(Refusal::bad("query is too old and response timeout expired or query ID is invalid"))
}

fn get_file(state: &State, params: &Value) -> Result<Value, Refusal> {
    let id = params["file_id"].as_str().unwrap_or_default();
    let Some(file) = state.files.get(id) else {
        return Err(Refusal::bad("wrong file_id or the file is temporarily unavailable"));
    };
    if file.bytes.len() > MAX_DOWNLOAD {
        return Err(Refusal::bad("file is too big"));
    }
    Ok(
        json!({"file_id": id, "file_unique_id": format!("u{id}"), "file_size": file.bytes.len(), "file_path": file.path}),
    )
}

fn get_chat(state: &State, params: &Value) -> Result<Value, Refusal> {
    let mut full = state.chats[&chat(state, params)?].clone();
    let gifts = json!({"unlimited_gifts": true, "limited_gifts": true, "unique_gifts": true,
        "premium_subscription": true, "gifts_from_channels": true});
    if let Some(permissions) = full["id"].as_i64().and_then(|id| state.permissions.get(&id)) {
        merge(&mut full, json!({"permissions": permissions}));
    }
    merge(&mut full, json!({"accent_color_id": 0, "max_reaction_count": 11, "accepted_gift_types": gifts}));
    Ok(full)
}

fn set_chat(state: &mut State, params: &Value, field: &str) -> Result<Value, Refusal> {
    let id = chat(state, params)?;
    let value = params[field].clone();
    if let Some(chat) = state.chats.get_mut(&id).filter(|_| field == "title") {
        chat[field] = value;
    }
    Ok(json!(true))
}
