//! Everything that is asked beside sending: receipts, typing, groups, profiles, lists, history, addresses.

use crate::account::Account;
use crate::address;
use crate::outbound;
use omni_channel_sdk::chat::Chat;
use omni_channel_sdk::event::Activity;
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::{
    AddressReply, ChatAction, Directory, DirectoryList, DirectoryPage, GetProfile, GroupAction, GroupChange,
    GroupReply, History, HistoryPage, MarkRead, ProfileReply, Resolve, SetChat, SetProfile, ShowTyping,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use wacore_binary::{Jid, JidExt};
use whatsapp_rust::Client;
use whatsapp_rust::features as wa;

/// How long the phone may take to send older messages.
const HISTORY_WITHIN: Duration = Duration::from_secs(45);
/// Most messages that the phone is asked for at once.
const HISTORY_AT_ONCE: u32 = 50;
/// Most that a list gives at once.
const LIST_AT_ONCE: usize = 500;

fn failed(what: &str, error: impl std::fmt::Display) -> SendError {
    SendError::transient(format!("{what}: {error}"))
}

/// Shows that we write.
pub async fn typing(client: Arc<Client>, asked: ShowTyping) -> Result<(), SendError> {
    let chat = address::parse(asked.chat.as_str())?;
    let state = client.chatstate();
    let done = match asked.activity {
        Activity::Paused => state.send_paused(&chat).await,
        Activity::Recording => state.send_recording(&chat).await,
        _ => state.send_composing(&chat).await,
    };
    done.map_err(|error| failed("the other side could not be shown that somebody writes", error))
}

/// Tells the other side what was read.
pub async fn mark_read(account: Arc<Account>, client: Arc<Client>, asked: MarkRead) -> Result<(), SendError> {
    let chat = address::parse(asked.chat.as_str())?;
    if asked.messages.is_empty() {
        let done = client.chat_actions().mark_chat_as_read(&chat, true, None).await;
        return done.map_err(|error| failed("the chat could not be marked as read", error));
    }
    // A receipt is for one author's messages.
    let mut by_author: BTreeMap<Option<String>, Vec<String>> = BTreeMap::new();
    for message in &asked.messages {
        let known = account.names.message(message.id.as_str()).await?;
        if known.as_ref().is_some_and(|known| known.m) {
            continue;
        }
        let author = known.map(|known| known.s).or_else(|| message.sender.as_ref().map(ToString::to_string));
        by_author
            .entry(author.filter(|_| chat.is_group() || chat.is_status_broadcast()))
            .or_default()
            .push(message.id.to_string());
    }
    for (author, ids) in by_author {
        let author = author
            .map(|author| author.parse::<Jid>())
            .transpose()
            .map_err(|error| SendError::invalid(error.to_string()))?;
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let done = client.mark_as_read(&chat, author.as_ref(), &ids).await;
        done.map_err(|error| failed("the receipt could not be sent", error))?;
    }
    Ok(())
}

/// A group as the host knows it.
pub fn chat_of(group: &wa::GroupMetadata) -> Chat {
    let mut chat = Chat::new(group.id.to_string(), ChatKind::Group);
    chat.name = Some(group.subject.clone());
    chat.description.clone_from(&group.description);
    chat.participants = Some(group.participants.len() as u64);
    chat.parent = group.parent_group_jid.as_ref().map(|parent| ChatId::new(parent.to_string()));
    chat
}

fn users_of(asked: &GroupChange) -> Result<Vec<Jid>, SendError> {
    asked.users.iter().map(|user| address::parse(user.as_str())).collect()
}

/// Makes or changes a group.
pub async fn group(account: Arc<Account>, client: Arc<Client>, asked: GroupChange) -> Result<GroupReply, SendError> {
    let groups = client.groups();
    let words = asked.text.clone().unwrap_or_default();
    let wrong = |error: wa::GroupError| match error {
        wa::GroupError::InvalidRequest(why) => SendError::invalid(format!("WhatsApp does not take this: {why}")),
        other => {
            let mut error = failed("the group could not be changed", other);
            error.next = NextActor::Caller;
            error
        }
    };
    if asked.action == GroupAction::Create {
        let participants = users_of(&asked)?.into_iter().map(wa::GroupParticipantOptions::new).collect();
        let options = wa::GroupCreateOptions::builder().subject(words).participants(participants).build();
        let made = groups.create_group(options).await.map_err(wrong)?;
        return Ok(GroupReply { chat: chat_of(&made.metadata), invite: None });
    }
    if asked.action == GroupAction::Join {
        let joined = groups.join_with_invite_code(&words).await.map_err(wrong)?;
        let jid = joined.group_jid();
        return Ok(GroupReply { chat: Chat::new(jid.to_string(), ChatKind::Group), invite: None });
    }
    let Some(chat) = &asked.chat else { return Err(SendError::invalid("nobody says which group")) };
    let jid = address::parse(chat.as_str())?;
    if !jid.is_group() {
        return Err(SendError::invalid(format!("{chat} is no group")));
    }
    let mut invite = None;
    match asked.action {
        GroupAction::Leave => {
            groups.leave(&jid).await.map_err(wrong)?;
            return Ok(GroupReply { chat: Chat::new(jid.to_string(), ChatKind::Group), invite: None });
        }
        GroupAction::Add => check(&groups.add_participants(&jid, &users_of(&asked)?).await.map_err(wrong)?)?,
        GroupAction::Remove => check(&groups.remove_participants(&jid, &users_of(&asked)?).await.map_err(wrong)?)?,
        GroupAction::Promote => check(&groups.promote_participants(&jid, &users_of(&asked)?).await.map_err(wrong)?)?,
        GroupAction::Demote => check(&groups.demote_participants(&jid, &users_of(&asked)?).await.map_err(wrong)?)?,
        GroupAction::SetName => {
            let subject = wa::GroupSubject::new(words).map_err(|error| SendError::invalid(error.to_string()))?;
            groups.set_subject(&jid, subject).await.map_err(wrong)?;
        }
        GroupAction::SetDescription => {
            let description = match words.as_str() {
                "" => None,
                words => Some(wa::GroupDescription::new(words).map_err(|error| SendError::invalid(error.to_string()))?),
            };
            groups.set_description(&jid, description, wa::PreviousDescription::Resolve).await.map_err(wrong)?;
        }
        GroupAction::SetPicture => match &asked.picture {
            Some(picture) => {
                let blob = picture
                    .blob
                    .as_ref()
                    .ok_or_else(|| SendError::invalid("the picture is not among the host's files"))?;
                let bytes = outbound::read(&account.host, blob).await?;
                groups.set_profile_picture(&jid, bytes).await.map_err(wrong)?;
            }
            None => {
                groups.remove_profile_picture(&jid).await.map_err(wrong)?;
            }
        },
        GroupAction::GetInvite => invite = Some(groups.get_invite_link(&jid, false).await.map_err(wrong)?),
        GroupAction::RevokeInvite => invite = Some(groups.get_invite_link(&jid, true).await.map_err(wrong)?),
        other => return Err(SendError::unsupported(&format!("{other} of a group"))),
    }
    let group = groups.get_metadata(&jid).await.map_err(wrong)?;
    Ok(GroupReply { chat: chat_of(&group), invite })
}

/// Whether all of them were changed.
fn check(answers: &[wa::ParticipantChangeResponse]) -> Result<(), SendError> {
    let refused: Vec<String> = answers
        .iter()
        .filter(|answer| !answer.is_ok())
        .map(|answer| {
            format!("{} ({})", answer.jid, answer.status.as_deref().or(answer.error.as_deref()).unwrap_or("refused"))
        })
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    Err(SendError::new(ErrorCode::Forbidden, NextActor::Caller, format!("WhatsApp refused: {}", refused.join(", "))))
}

/// Lists chats, contacts or members.
pub async fn directory(
    account: Arc<Account>,
    client: Arc<Client>,
    asked: Directory,
) -> Result<DirectoryPage, SendError> {
    let words = asked.search.as_deref().map(str::to_lowercase);
    let fits = |name: Option<&String>, id: &str| match &words {
        Some(words) => name.is_some_and(|name| name.to_lowercase().contains(words)) || id.contains(words.as_str()),
        None => true,
    };
    let limit = (asked.limit as usize).clamp(1, LIST_AT_ONCE);
    let after = asked.cursor.clone().unwrap_or_default();
    let mut page = DirectoryPage::default();
    match asked.list {
        DirectoryList::Chats | DirectoryList::Spaces => {
            let groups = client
                .groups()
                .get_participating()
                .await
                .map_err(|error| failed("the groups could not be listed", error))?;
            let is_space = asked.list == DirectoryList::Spaces;
            let mut chats: Vec<Chat> =
                groups.values().filter(|group| group.is_parent_group == is_space).map(chat_of).collect();
            chats.sort_by(|a, b| a.id.as_str().cmp(b.id.as_str()));
            chats.retain(|chat| chat.id.as_str() > after.as_str() && fits(chat.name.as_ref(), chat.id.as_str()));
            page.cursor = (chats.len() > limit).then(|| chats[limit - 1].id.to_string());
            chats.truncate(limit);
            page.chats = chats;
        }
        DirectoryList::Members => {
            let chat = asked.chat.as_ref().ok_or_else(|| SendError::invalid("nobody says of which group"))?;
            let jid = address::parse(chat.as_str())?;
            let group = client
                .groups()
                .get_metadata(&jid)
                .await
                .map_err(|error| failed("the group could not be asked for", error))?;
            let mut users = Vec::with_capacity(group.participants.len());
            for member in &group.participants {
                let other = member.phone_number.as_ref().or(member.lid.as_ref());
                let mut user = account.names.party(&member.jid, other).await.user();
                user.username = member.username.as_ref().map(ToString::to_string);
                users.push(user);
            }
            users.sort_by(|a, b| a.id.as_str().cmp(b.id.as_str()));
            users.retain(|user| user.id.as_str() > after.as_str() && fits(user.name.as_ref(), user.id.as_str()));
            page.cursor = (users.len() > limit).then(|| users[limit - 1].id.to_string());
            users.truncate(limit);
            page.users = users;
        }
        DirectoryList::Contacts => {
            use wacore::store::traits::ProtocolStore;
            // WhatsApp has no list of contacts to ask for: these are the accounts that were met.
            let known = account
                .store
                .get_all_lid_mappings()
                .await
                .map_err(|error| failed("the accounts could not be read", error))?;
            let mut users: Vec<User> = known
                .iter()
                .map(|entry| {
                    address::Party::new(&Jid::pn(entry.phone_number.as_str()), Some(&Jid::lid(entry.lid.as_str())))
                        .user()
                })
                .collect();
            users.sort_by(|a, b| a.id.as_str().cmp(b.id.as_str()));
            users.dedup_by(|a, b| a.id == b.id);
            users.retain(|user| user.id.as_str() > after.as_str() && fits(None, user.id.as_str()));
            page.cursor = (users.len() > limit).then(|| users[limit - 1].id.to_string());
            users.truncate(limit);
            page.users = users;
        }
        other => return Err(SendError::unsupported(&format!("a list of {other}"))),
    }
    Ok(page)
}

/// Tells about an account.
pub async fn profile(account: Arc<Account>, client: Arc<Client>, asked: GetProfile) -> Result<ProfileReply, SendError> {
    let own = client.pn().map(|pn| pn.to_non_ad());
    let jid = match &asked.user {
        Some(user) => address::parse(user.as_str())?,
        None => own.clone().ok_or_else(|| SendError::transient("the account is not connected yet"))?,
    };
    let party = account.names.party(&jid, None).await;
    let mut reply = ProfileReply {
        profile: Profile { id: party.id.clone(), username: party.phone.clone(), ..Profile::default() },
        about: None,
    };
    if own.as_ref().is_some_and(|own| own.is_same_chat_as(&jid)) {
        reply.profile.name = Some(client.push_name()).filter(|name| !name.is_empty());
    }
    if address::is_account(&jid) {
        let found = client.contacts().get_user_info(std::slice::from_ref(&jid)).await;
        let found = found.map_err(|error| failed("the profile could not be asked for", error))?;
        if let Some(info) = found.into_values().next() {
            reply.about = info.status;
            reply.profile.name = reply.profile.name.or(info.verified_name.and_then(|verified| verified.name.clone()));
        }
    }
    // Whoever hides the picture has none for us.
    if let Ok(Some(picture)) = client.contacts().get_profile_picture(&jid, false).await {
        reply.profile.avatar_url = Some(picture.url);
    }
    Ok(reply)
}

/// Changes the own profile.
pub async fn set_profile(account: Arc<Account>, client: Arc<Client>, asked: SetProfile) -> Result<(), SendError> {
    let own = client.profile();
    if let Some(name) = &asked.name {
        own.set_push_name(name).await.map_err(|error| failed("the name could not be changed", error))?;
    }
    if let Some(about) = &asked.about {
        own.set_status_text(about)
            .await
            .map_err(|error| failed("the words about the account could not be changed", error))?;
    }
    if let Some(picture) = &asked.picture {
        let blob =
            picture.blob.as_ref().ok_or_else(|| SendError::invalid("the picture is not among the host's files"))?;
        let bytes = outbound::read(&account.host, blob).await?;
        own.set_profile_picture(bytes).await.map_err(|error| failed("the picture could not be changed", error))?;
    }
    Ok(())
}

/// Tells who or what an address is.
pub async fn resolve(account: Arc<Account>, client: Arc<Client>, asked: Resolve) -> Result<AddressReply, SendError> {
    let typed = asked.address.trim();
    if let Some(code) = typed.split("chat.whatsapp.com/").nth(1) {
        let group = client.groups().get_invite_info(code).await.map_err(|error| {
            let mut error = failed("the invitation cannot be read", error);
            error.code = ErrorCode::ChatNotFound;
            error
        })?;
        return Ok(AddressReply { user: None, chat: Some(chat_of(&group)) });
    }
    let jid = address::parse(typed)?;
    if !address::is_account(&jid) {
        let chat = Chat::new(jid.to_string(), address::kind(&jid));
        return Ok(AddressReply { user: None, chat: Some(chat) });
    }
    let found = client.contacts().is_on_whatsapp(std::slice::from_ref(&jid)).await;
    let found = found.map_err(|error| failed("WhatsApp could not be asked for the number", error))?;
    let Some(there) = found.into_iter().find(|one| one.is_registered) else { return Ok(AddressReply::default()) };
    let other = there.lid.as_ref().or(there.pn_jid.as_ref());
    let party = account.names.party(&there.jid, other).await;
    let mut user = party.user();
    user.name = there.verified_name.and_then(|verified| verified.name.clone());
    Ok(AddressReply { user: Some(user), chat: Some(Chat::new(party.id, ChatKind::Direct)) })
}

/// Changes how the account keeps a chat.
pub async fn set_chat(account: Arc<Account>, client: Arc<Client>, asked: SetChat) -> Result<(), SendError> {
    let chat = address::parse(asked.chat.as_str())?;
    let actions = client.chat_actions();
    let wrong = |error: wa::AppStateError| failed("the chat could not be changed on the account's devices", error);
    match asked.action {
        ChatAction::Archive => actions.archive_chat(&chat, None).await.map_err(wrong),
        ChatAction::Unarchive => actions.unarchive_chat(&chat, None).await.map_err(wrong),
        ChatAction::Pin => actions.pin_chat(&chat).await.map_err(wrong),
        ChatAction::Unpin => actions.unpin_chat(&chat).await.map_err(wrong),
        ChatAction::Mute => match asked.until {
            Some(until) => actions.mute_chat_until(&chat, until).await.map_err(wrong),
            None => actions.mute_chat(&chat).await.map_err(wrong),
        },
        ChatAction::Unmute => actions.unmute_chat(&chat).await.map_err(wrong),
        ChatAction::Block => {
            client.blocking().block(&chat).await.map_err(|error| failed("the account could not be blocked", error))
        }
        ChatAction::Unblock => {
            client.blocking().unblock(&chat).await.map_err(|error| failed("the account could not be unblocked", error))
        }
        ChatAction::Star | ChatAction::Unstar => {
            let id = asked.message.as_ref().ok_or_else(|| SendError::invalid("nobody says which message"))?;
            let known = account.names.message(id.id.as_str()).await?;
            let known =
                known.ok_or_else(|| SendError::invalid(format!("the message {} is not known any more", id.id)))?;
            let author = known.s.parse::<Jid>().ok().filter(|_| chat.is_group() && !known.m);
            let done = match asked.action {
                ChatAction::Star => actions.star_message(&chat, author.as_ref(), &known.i, known.m).await,
                _ => actions.unstar_message(&chat, author.as_ref(), &known.i, known.m).await,
            };
            done.map_err(wrong)
        }
        ChatAction::SetDisappearing => {
            let seconds = asked.seconds.unwrap_or(0);
            if chat.is_group() {
                let done = client.groups().set_ephemeral(&chat, seconds).await;
                return done.map_err(|error| failed("the group could not be changed", error));
            }
            let done = client.set_chat_disappearing_timer(chat, seconds).await.map(|_| ());
            done.map_err(|error| failed("the chat could not be changed", error))
        }
        other => Err(SendError::unsupported(&format!("{other} of a chat"))),
    }
}

/// Asks the phone for older messages.
pub async fn history(account: Arc<Account>, client: Arc<Client>, asked: History) -> Result<HistoryPage, SendError> {
    if asked.forward {
        return Err(SendError::unsupported(
            "history towards newer messages; WhatsApp delivers what was missed by itself",
        ));
    }
    let chat = address::parse(asked.chat.as_str())?;
    let (id, is_from_me, at) = match (&asked.cursor, &asked.anchor) {
        (Some(cursor), _) => {
            let mut parts = cursor.splitn(3, '|');
            let at = parts.next().and_then(|at| at.parse::<i64>().ok());
            let (Some(at), Some(mine), Some(id)) = (at, parts.next(), parts.next()) else {
                return Err(SendError::invalid(format!("{cursor:?} is no place in a history of WhatsApp's")));
            };
            (id.to_owned(), mine == "1", at)
        }
        (None, Some(anchor)) => {
            let known = account.names.message(anchor.id.as_str()).await?;
            let known =
                known.ok_or_else(|| SendError::invalid(format!("the message {} is not known any more", anchor.id)))?;
            (known.i, known.m, known.a)
        }
        (None, None) => {
            return Err(SendError::invalid(
                "WhatsApp gives older messages only before one that is known; name one as the anchor",
            ));
        }
    };
    let count = i32::try_from(asked.limit.clamp(1, HISTORY_AT_ONCE)).unwrap_or(1);
    let session = client.fetch_message_history(&chat, &id, is_from_me, at, count).await;
    let session = session.map_err(|error| failed("the phone could not be asked for older messages", error))?;
    let told = account.expect_history(&session);
    match tokio::time::timeout(HISTORY_WITHIN, told).await {
        Ok(Ok(answer)) => {
            let cursor =
                answer.oldest.map(|oldest| format!("{}|{}|{}", oldest.at, u8::from(oldest.is_from_me), oldest.id));
            // One that does not lead further is the end.
            let cursor = cursor.filter(|cursor| asked.cursor.as_ref() != Some(cursor) && !answer.events.is_empty());
            Ok(HistoryPage { events: answer.events, cursor })
        }
        _ => Err(SendError::transient("the phone did not answer in time; it has to be online to give older messages")),
    }
}
