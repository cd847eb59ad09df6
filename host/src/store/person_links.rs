//! Which account belongs to which human, as people say it: link, unlink, merge. Each is one transaction, in which the
//! accounts, their messages, memberships and events move together.
//!
//! Deliberately not here: the guesses of the storage consumer by phone number or address.

use super::person_list::{Identity, Person, find, find_identity};
use super::{Result, Store, Time, Tx, on};
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
        }
    }
    if let Some(left) = b.person_id.filter(|left| *left != person) {
        remove_if_bare(&mut tx, left, person, now).await?;
    }
    finish(tx, person).await
}

/// Gives an account to a new person of its own.
pub async fn unlink(store: &Store, identity: Uuid, reason: &str, now: Time) -> Result<Linked<(Person, Identity)>> {
    let mut tx = store.begin().await?;
    let Some(found) = find_identity(&mut tx, identity).await? else { return Ok(Linked::Missing(identity)) };
    let person = create(&mut tx, found.display_name.as_deref(), now).await?;
    move_identity(&mut tx, &found, person, reason, now).await?;
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
        }
    }
    remove_if_bare(&mut tx, source, target, now).await?;
    Ok(match finish(tx, target).await? {
        Linked::Done(person) => Linked::Done((person, ids.into_iter().map(|(id,)| id).collect())),
        Linked::Missing(id) => Linked::Missing(id),
    })
}

async fn finish(mut tx: Tx, person: Uuid) -> Result<Linked<Person>> {
    let Some(found) = find(&mut tx, person).await? else { return Ok(Linked::Missing(person)) };
    tx.people_move();
    tx.commit().await?;
    Ok(Linked::Done(found))
}

async fn create(tx: &mut Tx, name: Option<&str>, now: Time) -> Result<Uuid> {
    let id = tx.new_id(now);
    on!(tx, conn => sqlx::query(
        "insert into persons (id, display_name, created_at, updated_at) values ($1, $2, $3, $3)")
        .bind(id).bind(name).bind(now).execute(conn).await)?;
    Ok(id)
}

/// Moves an account with everything that names its person.
async fn move_identity(tx: &mut Tx, identity: &Identity, person: Uuid, reason: &str, now: Time) -> Result<()> {
    on!(tx, conn => sqlx::query(
        "update platform_identities set person_id = $2, linked_by = 'manual', confidence = 100, link_reason = $3, \
         updated_at = $4 where id = $1")
        .bind(identity.id).bind(person).bind(reason).bind(now).execute(conn).await)?;
    // By way of the chats, because messages are indexed by chat and not by account.
    on!(tx, conn => sqlx::query(
        "update messages set sender_person_id = $2 where sender_platform_identity_id = $1 and chat_id in \
         (select chat_id from chat_participants where platform_identity_id = $1)")
        .bind(identity.id).bind(person).execute(conn).await)?;
    on!(tx, conn => sqlx::query("update chat_participants set person_id = $2 where platform_identity_id = $1")
        .bind(identity.id).bind(person).execute(conn).await)?;
    if let Some(before) = identity.person_id {
        on!(tx, conn => sqlx::query(
            "update omni_events set person_id = $2 where person_id = $3 and platform_identity_id = $1")
            .bind(identity.id).bind(person).bind(before).execute(conn).await)?;
    }
    Ok(())
}

/// Removes a person without accounts, and gives what was known of them to another who lacks it.
async fn remove_if_bare(tx: &mut Tx, person: Uuid, heir: Uuid, now: Time) -> Result<()> {
    let (left,): (i64,) = on!(tx, conn => sqlx::query_as(
        "select count(*) from platform_identities where person_id = $1").bind(person).fetch_one(conn).await)?;
    let Some(gone) = find(tx, person).await?.filter(|_| left == 0) else { return Ok(()) };
    on!(tx, conn => sqlx::query("delete from persons where id = $1").bind(person).execute(conn).await)?;
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
        .execute(conn)
        .await)?;
    Ok(())
}
