//! Who is there: lists of people and groups, profiles, addresses; and the own profile.

use super::failed;
use super::groups::chat_of;
use crate::account::Account;
use crate::address;
use omni_channel_sdk::chat::Chat;
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::{
    AddressReply, Directory, DirectoryList, DirectoryPage, GetProfile, ProfileReply, Resolve, SetProfile,
};
use std::sync::Arc;
use wacore::iq::privacy::{PrivacyCategory, PrivacyValue};
use wacore_binary::Jid;
use whatsapp_rust::Client;

/// Most that a list gives at once.
const LIST_AT_ONCE: usize = 500;
/// The privacy settings of an account.
const CATEGORIES: &str = "last, online, profile, status, groupadd, readreceipts, calladd, messages, defense";

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
            page.users = users;
            sorted(&mut page, limit, &after, fits);
        }
        DirectoryList::Contacts => {
            use wacore::store::traits::ProtocolStore;
            // WhatsApp has no list of contacts to ask for: these are the accounts that were met.
            let known = account
                .store
                .get_all_lid_mappings()
                .await
                .map_err(|error| failed("the accounts could not be read", error))?;
            page.users = known
                .iter()
                .map(|entry| {
                    address::Party::new(&Jid::pn(entry.phone_number.as_str()), Some(&Jid::lid(entry.lid.as_str())))
                        .user()
                })
                .collect();
            sorted(&mut page, limit, &after, fits);
        }
        DirectoryList::Blocked => {
            let blocked = client.blocking().get_blocklist().await;
            let blocked = blocked.map_err(|error| failed("the block list could not be asked for", error))?;
            let mut users = Vec::with_capacity(blocked.len());
            for entry in &blocked {
                users.push(account.names.party(&entry.jid, None).await.user());
            }
            page.users = users;
            sorted(&mut page, limit, &after, fits);
        }
        other => return Err(SendError::unsupported(&format!("a list of {other}"))),
    }
    Ok(page)
}

/// Cuts a page out of all users: those after the last one that was given, by their ids.
fn sorted(page: &mut DirectoryPage, limit: usize, after: &str, fits: impl Fn(Option<&String>, &str) -> bool) {
    let users = &mut page.users;
    users.sort_by(|a, b| a.id.as_str().cmp(b.id.as_str()));
    users.dedup_by(|a, b| a.id == b.id);
    users.retain(|user| user.id.as_str() > after && fits(user.name.as_ref(), user.id.as_str()));
    page.cursor = (users.len() > limit).then(|| users[limit - 1].id.to_string());
    users.truncate(limit);
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
        ..ProfileReply::default()
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
    if asked.user.is_none() {
        let told = client.fetch_privacy_settings().await;
        let told = told.map_err(|error| failed("the privacy settings could not be asked for", error))?;
        reply.privacy = told.settings.iter().map(|one| (one.category.to_string(), one.value.to_string())).collect();
    }
    // Whoever hides the picture has none for us.
    if let Ok(Some(picture)) = client.contacts().get_profile_picture(&jid, false).await {
        reply.profile.avatar_url = Some(picture.url);
    }
    Ok(reply)
}

/// What is asked of the privacy settings, all of it known and fitting.
fn privacy(asked: &SetProfile) -> Result<Vec<(PrivacyCategory, PrivacyValue)>, SendError> {
    let known = |(name, value): (&String, &String)| {
        let (category, chosen) = (PrivacyCategory::from(name.as_str()), PrivacyValue::from(value.as_str()));
        if matches!(category, PrivacyCategory::Other(_)) {
            return Err(SendError::invalid(format!(
                "WhatsApp has no privacy setting {name:?}; there are {CATEGORIES}"
            )));
        }
        // Who is on such a list is not to be said here.
        if !category.is_valid_value(&chosen) || chosen == PrivacyValue::ContactBlacklist {
            return Err(SendError::invalid(format!("the privacy setting {name} cannot be {value:?}")));
        }
        Ok((category, chosen))
    };
    asked.privacy.iter().map(known).collect()
}

/// Changes the own profile.
pub async fn set_profile(account: Arc<Account>, client: Arc<Client>, asked: SetProfile) -> Result<(), SendError> {
    let settings = privacy(&asked)?;
    let own = client.profile();
    if let Some(name) = &asked.name {
        own.set_push_name(name).await.map_err(|error| failed("the name could not be changed", error))?;
    }
    if let Some(about) = &asked.about {
        own.set_status_text(about)
            .await
            .map_err(|error| failed("the words about the account could not be changed", error))?;
    }
    for (category, value) in settings {
        client
            .set_privacy_setting(category, value)
            .await
            .map_err(|error| failed("a privacy setting could not be changed", error))?;
    }
    if asked.remove_picture {
        own.remove_profile_picture().await.map_err(|error| failed("the picture could not be taken away", error))?;
    } else if let Some(picture) = &asked.picture {
        let bytes = super::picture(&account, picture).await?;
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
