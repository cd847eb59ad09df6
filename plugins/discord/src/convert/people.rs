//! Users and members.

use crate::api;
use omni_channel_sdk::ids::MediaRef;
use omni_channel_sdk::prelude::*;

/// A user, by the name that people see: the one in the guild, or their own, or their handle.
pub fn user(user: &api::User, member: Option<&api::Member>) -> User {
    let nick = member.and_then(|member| member.nick.clone());
    let name = nick.or_else(|| user.global_name.clone()).or_else(|| user.username.clone());
    User {
        name: name.filter(|name| !name.is_empty()),
        username: user.username.clone(),
        avatar: user.avatar.as_ref().map(|hash| MediaRef::from(format!("avatar/{}/{hash}", user.id))),
        is_bot: user.bot,
        ..User::new(user.id.as_str())
    }
}

/// The author of something; of the bot itself it is said so.
pub fn sender(author: &api::User, member: Option<&api::Member>, me: &str) -> Sender {
    Sender { is_from_me: author.id == me, ..Sender::from(user(author, member)) }
}

/// A member with their user in them.
pub fn member(member: &api::Member) -> Option<User> {
    member.user.as_ref().map(|found| user(found, Some(member)))
}
