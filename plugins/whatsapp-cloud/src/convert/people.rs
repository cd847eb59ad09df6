//! Accounts and chats, and the ids that we give them.
//!
//! A person has a number (`wa_id`), a business-scoped user id (`US.13491208655302741918`), or both; since 2026 the number may
//! be hidden. A chat is called by the number as long as that is known, as everywhere before, and by the user id else: the host
//! is told that both are one. An account is called by the user id where there is one, for a number can pass to somebody else;
//! its phone number ties it to what was known by the number.

use super::Scene;
use crate::api::ContactEntry;
use omni_channel_sdk::lenient::Id;
use omni_channel_sdk::prelude::*;

/// A person, as a message or a status names them.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    number: Option<&'a Id>,
    user: Option<&'a Id>,
    name: Option<&'a str>,
    username: Option<&'a str>,
}

impl<'a> Party<'a> {
    /// Whom these ids name, with what the webhook says of them.
    pub(super) fn find(scene: &Scene<'a>, number: Option<&'a Id>, user: Option<&'a Id>) -> Option<Self> {
        // What stands in the place of a number may be a user id.
        let (number, user) = match number {
            Some(id) if !is_number(id.as_str()) => (None, user.or(Some(id))),
            number => (number, user),
        };
        if number.is_none() && user.is_none() {
            return None;
        }
        let same = |a: Option<&Id>, b: Option<&Id>| a.is_some() && a == b;
        let is = |entry: &&ContactEntry| same(entry.wa_id.as_ref(), number) || same(entry.user_id.as_ref(), user);
        let entry = scene.contacts.iter().find(is);
        let profile = entry.and_then(|entry| entry.profile.as_ref());
        Some(Self {
            number: number.or_else(|| entry?.wa_id.as_ref().filter(|id| is_number(id.as_str()))),
            user: user.or_else(|| entry?.user_id.as_ref()),
            name: profile.and_then(|profile| profile.name.as_deref()).filter(|name| !name.is_empty()),
            username: profile.and_then(|profile| profile.username.as_deref()).filter(|name| !name.is_empty()),
        })
    }

    /// The account.
    pub fn account(&self) -> User {
        let mut found = User::new(self.user.or(self.number).map(Id::as_str).unwrap_or_default());
        found.name = self.name.map(str::to_owned);
        found.username = self.username.map(|name| name.trim_start_matches('@').to_owned());
        found.phone = self.number.map(|number| format!("+{}", number.as_str()));
        found
    }

    /// The chat with them.
    pub fn chat(&self) -> Chat {
        let mut chat = Chat::new(self.number.or(self.user).map(Id::as_str).unwrap_or_default(), ChatKind::Direct);
        chat.name = self.name.map(str::to_owned);
        chat.also_known_as = self.number.and(self.user).map(|user| ChatId::new(user.as_str()));
        chat
    }
}

/// Whether an id is a phone number: digits, as Meta writes them.
pub fn is_number(id: &str) -> bool {
    (5..=20).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether an id is a business-scoped user id: a country, a dot, letters and digits.
pub fn is_user_id(id: &str) -> bool {
    id.split_once('.').is_some_and(|(country, rest)| {
        country.len() == 2
            && country.bytes().all(|byte| byte.is_ascii_uppercase())
            && !rest.is_empty()
            && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
    })
}
