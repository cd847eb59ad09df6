//! People, and their accounts on networks. An account belongs to one instance; a person has one or more accounts.
//!
//! Deliberately not here: who is recognised as whom. `apply::people` decides that, and people do through the API.

use super::bulk::{self, Bulk};
use super::{Result, Time, Tx, on};
use std::sync::{Arc, LazyLock};
use uuid::Uuid;

/// An account that is stored.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Known {
    /// Of which instance.
    pub instance_id: Uuid,
    /// The network's id of it.
    pub platform_user_id: String,
    /// Our id of it.
    pub id: Uuid,
    /// Whose it is.
    pub person_id: Option<Uuid>,
}

static FIND: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "select i.instance_id, i.platform_user_id, i.id, i.person_id from (",
        "uuid text",
        ") v cross join platform_identities i where i.instance_id = v.column1 and i.platform_user_id = v.column2",
    )
});

/// The accounts among these that are stored.
pub async fn find(tx: &mut Tx, keys: &[(Uuid, &str)]) -> Result<Vec<Known>> {
    bulk::fetch(tx, &FIND, keys, |row, (instance, user)| {
        row.bind(*instance).bind(*user);
    })
    .await
}

/// A person by what they are recognised by.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Contact {
    /// Their id.
    pub id: Uuid,
    /// E.164 with `+`.
    pub primary_phone: Option<String>,
    /// In lower case.
    pub primary_email: Option<String>,
}

/// People with one of these phone numbers or addresses, oldest first.
pub async fn contacts(tx: &mut Tx, phones: &[&str], emails: &[&str]) -> Result<Vec<Contact>> {
    Ok(on!(tx, conn => sqlx::query_as(
        "select id, primary_phone, primary_email from persons
         where primary_phone in (select value from json_each($1))
         union
         select id, primary_phone, primary_email from persons
         where primary_email is not null and primary_email in (select value from json_each($2))
         order by id",
    )
    .bind(serde_json::Value::from(phones).to_string())
    .bind(serde_json::Value::from(emails).to_string())
    .fetch_all(conn)
    .await)?)
}

/// A person who was not known.
#[derive(Clone, Debug)]
pub struct NewPerson {
    /// Their id.
    pub id: Uuid,
    /// The name that people see.
    pub display_name: Option<String>,
    /// E.164 with `+`, vouched for by a network.
    pub primary_phone: Option<String>,
    /// In lower case, vouched for by a network.
    pub primary_email: Option<String>,
}

static INSERT_PERSONS: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "insert into persons (id, display_name, primary_phone, primary_email, created_at, updated_at)",
        "uuid text text text timestamptz timestamptz",
        "",
    )
});

/// Stores people.
pub async fn insert_persons(tx: &mut Tx, persons: &[NewPerson], now: Time) -> Result<()> {
    bulk::execute(tx, &INSERT_PERSONS, persons, |row, person| {
        row.bind(person.id)
            .bind(person.display_name.as_deref())
            .bind(person.primary_phone.as_deref())
            .bind(person.primary_email.as_deref())
            .bind(now)
            .bind(now);
    })
    .await?;
    Ok(())
}

static NOTE_CONTACT: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "update persons set
           primary_phone = case when primary_phone is null
             and not exists (select 1 from persons other where other.primary_phone = v.column2)
             then v.column2 else primary_phone end,
           primary_email = coalesce(primary_email, v.column3),
           updated_at = v.column4
         from (",
        "uuid text text timestamptz",
        ") v where persons.id = v.column1
           and ((v.column2 is not null and primary_phone is null) or (v.column3 is not null and primary_email is null))",
    )
});

/// Notes what a network vouches for, when the person has nothing of the kind and nobody else has it.
pub async fn note_contact(
    tx: &mut Tx,
    person: Uuid,
    phone: Option<&str>,
    email: Option<&str>,
    now: Time,
) -> Result<()> {
    bulk::execute(tx, &NOTE_CONTACT, &[person], |row, person| {
        row.bind(*person).bind(phone).bind(email).bind(now);
    })
    .await?;
    Ok(())
}

/// An account that was not known.
#[derive(Clone, Debug)]
pub struct NewIdentity<'a> {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub person_id: Uuid,
    /// The instance's channel.
    pub channel: Arc<str>,
    /// Of which instance.
    pub instance_id: Uuid,
    /// The network's id of it.
    pub platform_user_id: &'a str,
    /// `initial`, `phone_match` or `email_match`.
    pub linked_by: &'static str,
    /// How sure that is, of 100.
    pub confidence: i64,
}

static INSERT: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "insert into platform_identities (id, person_id, channel, instance_id, platform_user_id, linked_by, \
         confidence, first_seen_at, created_at, updated_at)",
        "uuid uuid text uuid text text bigint timestamptz timestamptz timestamptz",
        "",
    )
});

/// Stores accounts.
pub async fn insert(tx: &mut Tx, identities: &[NewIdentity<'_>], now: Time) -> Result<()> {
    bulk::execute(tx, &INSERT, identities, |row, identity| {
        row.bind(identity.id)
            .bind(identity.person_id)
            .bind(Arc::clone(&identity.channel))
            .bind(identity.instance_id)
            .bind(identity.platform_user_id)
            .word(identity.linked_by)
            .bind(identity.confidence)
            .bind(now)
            .bind(now)
            .bind(now);
    })
    .await?;
    Ok(())
}

/// What is new about an account. `None` is no news.
#[derive(Clone, Debug)]
pub struct Activity<'a> {
    /// Which.
    pub id: Uuid,
    /// Messages that came from it.
    pub messages: i64,
    /// When it was last heard of.
    pub seen_at: Option<Time>,
    /// Its name.
    pub display_name: Option<&'a str>,
    /// Its handle.
    pub username: Option<&'a str>,
    /// What else is known of it, as JSON.
    pub profile: Option<String>,
}

static UPDATE: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "update platform_identities set message_count = message_count + v.column2,
           last_seen_at = case when last_seen_at is null or v.column3 > last_seen_at then v.column3 else last_seen_at end,
           display_name = coalesce(v.column4, display_name),
           platform_username = coalesce(v.column5, platform_username),
           profile_data = coalesce(v.column6, profile_data),
           updated_at = v.column7
         from (",
        "uuid bigint timestamptz text text json timestamptz",
        ") v where platform_identities.id = v.column1",
    )
});

/// Notes what is new about accounts; each is named once.
pub async fn update(tx: &mut Tx, activities: &[Activity<'_>], now: Time) -> Result<()> {
    bulk::execute(tx, &UPDATE, activities, |row, activity| {
        row.bind(activity.id)
            .bind(activity.messages)
            .bind(activity.seen_at)
            .bind(activity.display_name)
            .bind(activity.username)
            .bind(activity.profile.as_deref())
            .bind(now);
    })
    .await?;
    Ok(())
}
