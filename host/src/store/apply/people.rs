//! Who somebody is: an account that is new to us belongs to the person with the same phone number or address, where a
//! network vouches for it, and else to a person of its own.

use super::cache::{self, Cache};
use super::content;
use super::work::{UserWork, Work};
use crate::store::events::NewDomainEvent;
use crate::store::identity::{self, Activity, Contact, NewIdentity, NewPerson};
use crate::store::{Result, Tx};
use omni_channel_sdk::chat::User;
use serde::Serialize;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use uuid::Uuid;

/// How a new account came to its person.
pub(super) enum Link {
    /// Nobody was recognised: a person of its own.
    Initial(NewPerson),
    /// By a phone number.
    Phone,
    /// By an address.
    Email,
}

impl Link {
    /// The word for it and how sure it is.
    fn words(&self) -> (&'static str, i64) {
        match self {
            Self::Initial(_) => ("initial", 100),
            Self::Phone => ("phone_match", 90),
            Self::Email => ("email_match", 90),
        }
    }
}

/// A phone number that people are recognised by: E.164 with `+` and 7 to 15 digits.
fn phone(user: &User) -> Option<&str> {
    let phone = user.phone.as_deref()?;
    let digits = phone.strip_prefix('+')?;
    ((7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())).then_some(phone)
}

/// An address that people are recognised by, in lower case.
fn email(user: &User) -> Option<String> {
    let email = user.email.as_deref()?.trim();
    let (name, domain) = email.rsplit_once('@')?;
    (!name.is_empty() && domain.contains('.') && email.len() <= 254).then(|| email.to_ascii_lowercase())
}

/// Finds the accounts that events name, and makes those that are new.
pub(super) async fn resolve<'a>(
    work: &mut Work<'a>,
    tx: &mut Tx,
    cache: &Cache,
    wanted: &[(Uuid, &'a User)],
) -> Result<()> {
    let mut missing: Vec<(Uuid, &'a str)> = Vec::new();
    for (instance, user) in wanted {
        let key = (*instance, user.id.as_str());
        if work.user_of.contains_key(&key) {
            continue;
        }
        match cache.user(key.0, key.1) {
            Some(known) => add(work, key, known, None),
            None => missing.push(key),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    missing.sort_unstable();
    missing.dedup();
    for known in identity::find(tx, &missing).await? {
        let key = missing.iter().find(|key| key.0 == known.instance_id && key.1 == known.platform_user_id);
        if let Some(key) = key {
            add(work, *key, cache::User { id: known.id, person_id: known.person_id, seen: 0 }, None);
        }
    }
    let mut strangers: Vec<(Uuid, &'a User)> = Vec::new();
    let mut met = HashSet::new();
    for (instance, user) in wanted {
        let key = (*instance, user.id.as_str());
        if !work.user_of.contains_key(&key) {
            if met.insert(key) {
                strangers.push((*instance, user));
            } else if let Some(stranger) = strangers.iter_mut().find(|(one, other)| (*one, other.id.as_str()) == key) {
                // The one who says more is believed.
                if phone(user).is_some() || (email(user).is_some() && phone(stranger.1).is_none()) {
                    stranger.1 = user;
                }
            }
        }
    }
    recognise(work, tx, &strangers).await
}

/// Gives every stranger a person: one with the same phone number or address, or one of their own.
async fn recognise<'a>(work: &mut Work<'a>, tx: &mut Tx, strangers: &[(Uuid, &'a User)]) -> Result<()> {
    let phones: Vec<&str> = strangers.iter().filter_map(|(_, user)| phone(user)).collect();
    let emails: Vec<String> = strangers.iter().filter_map(|(_, user)| email(user)).collect();
    let mut by_phone: HashMap<String, Uuid> = HashMap::new();
    let mut by_email: HashMap<String, Uuid> = HashMap::new();
    if !phones.is_empty() || !emails.is_empty() {
        let emails: Vec<&str> = emails.iter().map(String::as_str).collect();
        for Contact { id, primary_phone, primary_email } in identity::contacts(tx, &phones, &emails).await? {
            by_phone.extend(primary_phone.map(|phone| (phone, id)));
            // Of several with one address the oldest, who comes first.
            if let Some(email) = primary_email {
                by_email.entry(email).or_insert(id);
            }
        }
    }
    for (instance, user) in strangers {
        let (phone, email) = (phone(user), email(user));
        let (person, link) = if let Some(person) = phone.and_then(|phone| by_phone.get(phone)) {
            (*person, Link::Phone)
        } else if let Some(person) = email.as_ref().and_then(|email| by_email.get(email)) {
            (*person, Link::Email)
        } else {
            let id = tx.new_id(work.now);
            let name = user.name.as_ref().or(user.username.as_ref()).cloned();
            let person = NewPerson {
                id,
                display_name: name,
                primary_phone: phone.map(str::to_owned),
                primary_email: email.clone(),
            };
            (id, Link::Initial(person))
        };
        // The next stranger in this batch with the same number is the same person.
        if let Some(phone) = phone {
            by_phone.entry(phone.to_owned()).or_insert(person);
        }
        if let Some(email) = email {
            by_email.entry(email).or_insert(person);
        }
        let known = cache::User { id: tx.new_id(work.now), person_id: Some(person), seen: 0 };
        add(work, (*instance, user.id.as_str()), known, Some(link));
    }
    Ok(())
}

fn add<'a>(work: &mut Work<'a>, key: (Uuid, &'a str), known: cache::User, new: Option<Link>) {
    let channel = work.instances.get(&key.0).map_or_else(|| Arc::from(""), Arc::clone);
    work.user_of.insert(key, work.users.len());
    work.users.push(UserWork {
        instance_id: key.0,
        channel,
        external_id: key.1,
        id: known.id,
        person_id: known.person_id,
        new,
        seen: known.seen,
        news: None,
        messages: 0,
        seen_at: None,
    });
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Profile<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avatar: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_bot: bool,
}

fn profile(user: &User) -> Option<String> {
    let profile = Profile {
        phone: user.phone.as_deref(),
        email: user.email.as_deref(),
        language: user.language.as_deref(),
        avatar: user.avatar.as_ref().map(|avatar| avatar.as_str()),
        is_bot: user.is_bot,
    };
    let text = content::json(&profile);
    (text != "{}").then_some(text)
}

impl<'a> Work<'a> {
    /// What an event says about an account is news when it is not what was said last.
    pub(super) fn user_news(&mut self, instance: Uuid, user: &'a User) {
        let Some(index) = self.user_of.get(&(instance, user.id.as_str())) else { return };
        let mut hasher = DefaultHasher::new();
        (&user.name, &user.username, &user.phone, &user.email, &user.language, user.is_bot).hash(&mut hasher);
        user.avatar.hash(&mut hasher);
        let seen = hasher.finish() | 1;
        let work = &mut self.users[*index];
        if work.seen != seen {
            work.seen = seen;
            work.news = Some(user);
        }
    }
}

/// Writes people and accounts: the new ones, and what is new about the others.
pub(super) async fn write(work: &mut Work<'_>, tx: &mut Tx, cache: &mut Cache) -> Result<()> {
    let mut persons: Vec<NewPerson> = Vec::new();
    let mut identities: Vec<NewIdentity<'_>> = Vec::new();
    let mut activities: Vec<Activity<'_>> = Vec::new();
    let mut vouched: Vec<(Uuid, &User)> = Vec::new();
    let mut recognised: Vec<NewDomainEvent<'_>> = Vec::new();
    for user in &mut work.users {
        let is_new = user.new.is_some();
        if let (Some(link), Some(person_id)) = (user.new.take(), user.person_id) {
            let (linked_by, confidence) = link.words();
            identities.push(NewIdentity {
                id: user.id,
                person_id,
                channel: Arc::clone(&user.channel),
                instance_id: user.instance_id,
                platform_user_id: user.external_id,
                linked_by,
                confidence,
            });
            match link {
                Link::Initial(person) => persons.push(person),
                Link::Phone | Link::Email => {
                    let payload = json!({
                        "personId": person_id, "platformIdentityId": user.id, "channelType": &*user.channel,
                        "platformUserId": user.external_id, "linkedBy": linked_by, "confidence": confidence,
                    });
                    recognised.push(NewDomainEvent {
                        channel: Arc::clone(&user.channel),
                        instance_id: user.instance_id,
                        platform_identity_id: Some(user.id),
                        ..NewDomainEvent::new(
                            tx.new_id(work.now),
                            "identity.linked",
                            "outbound",
                            payload.to_string(),
                            work.now,
                        )
                    });
                }
            }
        }
        if user.news.is_some() || user.messages > 0 || user.seen_at.is_some() {
            activities.push(Activity {
                id: user.id,
                messages: user.messages,
                seen_at: user.seen_at,
                display_name: user.news.and_then(|news| news.name.as_deref()),
                username: user.news.and_then(|news| news.username.as_deref()),
                profile: user.news.and_then(profile),
            });
        }
        if let (false, Some(person), Some(news)) = (is_new, user.person_id, user.news) {
            vouched.push((person, news));
        }
        let now = cache::User { id: user.id, person_id: user.person_id, seen: user.seen };
        if cache.user(user.instance_id, user.external_id) != Some(now) {
            cache.learn_user(user.instance_id, user.external_id, now);
        }
    }
    // Who somebody is, before what they did.
    work.events.splice(0..0, recognised);
    activities.sort_unstable_by_key(|activity| activity.id);
    identity::insert_persons(tx, &persons, work.now).await?;
    identity::insert(tx, &identities, work.now).await?;
    identity::update(tx, &activities, work.now).await?;
    for (person, news) in vouched {
        let (phone, email) = (phone(news), email(news));
        if phone.is_some() || email.is_some() {
            identity::note_contact(tx, person, phone, email.as_deref(), work.now).await?;
        }
    }
    Ok(())
}
