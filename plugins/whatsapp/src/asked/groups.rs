//! Groups and communities: made, changed, left.

use super::failed;
use crate::account::Account;
use crate::address;
use omni_channel_sdk::chat::Chat;
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::{GroupAction, GroupChange, GroupReply};
use std::sync::Arc;
use wacore_binary::{Jid, JidExt};
use whatsapp_rust::Client;
use whatsapp_rust::features as wa;

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
    if matches!(asked.action, GroupAction::Create | GroupAction::CreateSpace) {
        let participants = users_of(&asked)?.into_iter().map(wa::GroupParticipantOptions::new).collect();
        let is_space = asked.action == GroupAction::CreateSpace;
        let options = wa::GroupCreateOptions {
            subject: words,
            participants,
            is_parent: is_space,
            create_general_chat: is_space,
            linked_parent: asked.parent.as_ref().map(|parent| address::parse(parent.as_str())).transpose()?,
            ..wa::GroupCreateOptions::default()
        };
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
                let bytes = super::picture(&account, picture).await?;
                groups.set_profile_picture(&jid, bytes).await.map_err(wrong)?;
            }
            None => {
                groups.remove_profile_picture(&jid).await.map_err(wrong)?;
            }
        },
        GroupAction::GetInvite => invite = Some(groups.get_invite_link(&jid, false).await.map_err(wrong)?),
        GroupAction::RevokeInvite => invite = Some(groups.get_invite_link(&jid, true).await.map_err(wrong)?),
        GroupAction::SetParent => set_parent(&client, &jid, asked.parent.as_ref()).await?,
        other => return Err(SendError::unsupported(&format!("{other} of a group"))),
    }
    let group = groups.get_metadata(&jid).await.map_err(wrong)?;
    Ok(GroupReply { chat: chat_of(&group), invite })
}

/// Puts a group under a community, or takes it out of the one that it is in.
async fn set_parent(client: &Client, group: &Jid, parent: Option<&ChatId>) -> Result<(), SendError> {
    let wrong = |error: wa::CommunityError| failed("the community could not be changed", error);
    let refused = match parent {
        Some(parent) => {
            let parent = address::parse(parent.as_str())?;
            let done = client.community().link_subgroups(&parent, std::slice::from_ref(group)).await.map_err(wrong)?;
            done.failed_groups
        }
        None => {
            let told = client.groups().get_metadata(group).await;
            let told = told.map_err(|error| failed("the group could not be asked for", error))?;
            let Some(parent) = told.parent_group_jid else { return Ok(()) };
            let done = client.community().unlink_subgroups(&parent, std::slice::from_ref(group), false).await;
            done.map_err(wrong)?.failed_groups
        }
    };
    match refused.first() {
        Some((group, code)) => {
            let words = format!("WhatsApp refused to change the community of {group} ({code})");
            Err(SendError::new(ErrorCode::Forbidden, NextActor::Caller, words))
        }
        None => Ok(()),
    }
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
