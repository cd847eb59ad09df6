//! Which account belongs to which human, as people say it: link, unlink, merge. Each is one transaction, in which the
//! accounts, their messages, memberships and events move together, and the domain events that tell of it are written.
//!
//! Deliberately not here: the guesses of the storage consumer by phone number or address.

use super::events::{self, NewDomainEvent};
use super::person_list::{Identity, Person, find, find_identity};
use super::{Result, Run, Store, Time, Tx, on};
use serde_json::{Value, json};
use uuid::Uuid;

/// What became of a change that names rows which may be missing.
#[derive(Clone, Debug)]
pub enum Linked<T> {
    /// It is done.
    Done(T),
    /// There is no such identity or person.
    Missing(Uuid),
}

/// Gives both accounts to one person: the first one's, else the second one's, else a new one. A person who is left
/// without an account is removed, and what was known of them goes along.
pub async fn link(store: &Store, first: Uuid, second: Uuid, now: Time) -> Result<Linked<Person>> {
    let mut tx = store.begin().await?;
    let Some(a) = find_identity(&mut tx, first).await? else { return Ok(Linked::Missing(first)) };
    let Some(b) = find_identity(&mut tx, second).await? else { return Ok(Linked::Missing(second)) };
    let person = match a.person_id.or(b.person_id) {
        Some(person) => person,
        None => create(&mut tx, a.display_name.as_deref().or(b.display_name.as_deref()), now).await?,
    };
    for identity in [&a, &b] {
        if identity.person_id != Some(person) {
            move_identity(&mut tx, identity, person, "linked by hand", now).await?;
            tell(&mut tx, linked(identity, person), now).await?;
        }
    }
    if let Some(left) = b.person_id.filter(|left| *left != person)
        && remove_if_bare(&mut tx, left, person, now).await?
    {
        tell(&mut tx, merged(left, person, &[second], None), now).await?;
    }
    finish(tx, person).await
}

/// Gives an account to a new person of its own.
pub async fn unlink(store: &Store, identity: Uuid, reason: &str, now: Time) -> Result<Linked<(Person, Identity)>> {
    let mut tx = store.begin().await?;
    let Some(found) = find_identity(&mut tx, identity).await? else { return Ok(Linked::Missing(identity)) };
    let person = create(&mut tx, found.display_name.as_deref(), now).await?;
    move_identity(&mut tx, &found, person, reason, now).await?;
    tell(&mut tx, unlinked(&found, person, reason), now).await?;
    let moved = find_identity(&mut tx, identity).await?;
    match (finish(tx, person).await?, moved) {
        (Linked::Done(person), Some(identity)) => Ok(Linked::Done((person, identity))),
        _ => Ok(Linked::Missing(identity)),
    }
}

/// A merge's result: the person that is left, and the accounts that moved.
pub type Merged = (Person, Vec<Uuid>);

/// Gives every account of one person to another and removes the first; what only the first had is kept.
pub async fn merge(
    store: &Store,
    source: Uuid,
    target: Uuid,
    reason: Option<&str>,
    now: Time,
) -> Result<Linked<Merged>> {
    let mut tx = store.begin().await?;
    for id in [source, target] {
        if find(&mut tx, id).await?.is_none() {
            return Ok(Linked::Missing(id));
        }
    }
    let ids: Vec<(Uuid,)> = on!(&mut tx, conn => sqlx::query_as(
        "select id from platform_identities where person_id = $1 order by id").bind(source).fetch_all(conn).await)?;
    for (id,) in &ids {
        if let Some(identity) = find_identity(&mut tx, *id).await? {
            move_identity(&mut tx, &identity, target, reason.unwrap_or("merged by hand"), now).await?;
            tell(&mut tx, linked(&identity, target), now).await?;
        }
    }
    remove_if_bare(&mut tx, source, target, now).await?;
    let moved: Vec<Uuid> = ids.iter().map(|(id,)| *id).collect();
    tell(&mut tx, merged(source, target, &moved, reason), now).await?;
    Ok(match finish(tx, target).await? {
        Linked::Done(person) => Linked::Done((person, ids.into_iter().map(|(id,)| id).collect())),
        Linked::Missing(id) => Linked::Missing(id),
    })
}

async fn finish(mut tx: Tx, person: Uuid) -> Result<Linked<Person>> {
    let Some(found) = find(&mut tx, person).await? else { return Ok(Linked::Missing(person)) };
    tx.people_move().await?;
    tx.commit().await?;
    Ok(Linked::Done(found))
}

async fn create(tx: &mut Tx, name: Option<&str>, now: Time) -> Result<Uuid> {
    let id = tx.new_id(now);
    on!(tx, conn => sqlx::query(
        "insert into persons (id, display_name, created_at, updated_at) values ($1, $2, $3, $3)")
        .bind(id).bind(name).bind(now).run(conn).await)?;
    Ok(id)
}

/// Moves an account with everything that names its person.
async fn move_identity(tx: &mut Tx, identity: &Identity, person: Uuid, reason: &str, now: Time) -> Result<()> {
    on!(tx, conn => sqlx::query(
        "update platform_identities set person_id = $2, linked_by = 'manual', confidence = 100, link_reason = $3, \
         updated_at = $4 where id = $1")
        .bind(identity.id).bind(person).bind(reason).bind(now).run(conn).await)?;
    // By way of the chats, because messages are indexed by chat and not by account.
    on!(tx, conn => sqlx::query(
        "update messages set sender_person_id = $2 where sender_platform_identity_id = $1 and chat_id in \
         (select chat_id from chat_participants where platform_identity_id = $1)")
        .bind(identity.id).bind(person).run(conn).await)?;
    on!(tx, conn => sqlx::query("update chat_participants set person_id = $2 where platform_identity_id = $1")
        .bind(identity.id).bind(person).run(conn).await)?;
    if let Some(before) = identity.person_id {
        on!(tx, conn => sqlx::query(
            "update omni_events set person_id = $2 where person_id = $3 and platform_identity_id = $1")
            .bind(identity.id).bind(person).bind(before).run(conn).await)?;
    }
    Ok(())
}

/// What is told of a change, in Omni v2's names and shapes. One that is about several accounts belongs to no instance.
struct Told<'a> {
    event_type: &'static str,
    about: Option<&'a Identity>,
    payload: Value,
}

fn linked(identity: &Identity, person: Uuid) -> Told<'_> {
    let payload = json!({
        "personId": person, "platformIdentityId": identity.id, "channelType": identity.channel,
        "platformUserId": identity.platform_user_id, "linkedBy": "manual", "confidence": 100,
    });
    Told { event_type: "identity.linked", about: Some(identity), payload }
}

fn unlinked<'a>(identity: &'a Identity, person: Uuid, reason: &str) -> Told<'a> {
    let payload = json!({
        "personId": identity.person_id, "platformIdentityId": identity.id, "reason": reason, "newPersonId": person,
        "channelType": identity.channel, "platformUserId": identity.platform_user_id,
    });
    Told { event_type: "identity.unlinked", about: Some(identity), payload }
}

fn merged(source: Uuid, target: Uuid, moved: &[Uuid], note: Option<&str>) -> Told<'static> {
    let payload = json!({
        "sourcePersonId": source, "targetPersonId": target, "mergedIdentityIds": moved, "reason": "admin_linked",
        "note": note,
    });
    Told { event_type: "identity.merged", about: None, payload }
}

async fn tell(tx: &mut Tx, told: Told<'_>, now: Time) -> Result<()> {
    let event = NewDomainEvent {
        channel: told.about.map_or("", |identity| identity.channel.as_str()).into(),
        instance_id: told.about.map(|identity| identity.instance_id).unwrap_or_default(),
        // Not the person's: a timeline is what they did.
        platform_identity_id: told.about.map(|identity| identity.id),
        ..NewDomainEvent::new(tx.new_id(now), told.event_type, "outbound", told.payload.to_string(), now)
    };
    events::append(tx, &[event], now).await
}

/// Removes a person without accounts, and gives what was known of them to another who lacks it; says whether it did.
async fn remove_if_bare(tx: &mut Tx, person: Uuid, heir: Uuid, now: Time) -> Result<bool> {
    let (left,): (i64,) = on!(tx, conn => sqlx::query_as(
        "select count(*) from platform_identities where person_id = $1").bind(person).fetch_one(conn).await)?;
    let Some(gone) = find(tx, person).await?.filter(|_| left == 0) else { return Ok(false) };
    on!(tx, conn => sqlx::query("delete from persons where id = $1").bind(person).run(conn).await)?;
    on!(tx, conn => sqlx::query(
        "update persons set display_name = coalesce(display_name, $2), primary_phone = coalesce(primary_phone, $3), \
         primary_email = coalesce(primary_email, $4), avatar_url = coalesce(avatar_url, $5), updated_at = $6 \
         where id = $1")
        .bind(heir)
        .bind(gone.display_name)
        .bind(gone.phone)
        .bind(gone.email)
        .bind(gone.avatar_url)
        .bind(now)
        .run(conn)
        .await)?;
    Ok(true)
}
