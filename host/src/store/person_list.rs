//! Reading people and their accounts.

use super::page::{InstanceSet, Page, Position, one_more, pattern};
use super::{Result, Store, Time, Tx, on};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::FromRow;
use utoipa::ToSchema;
use uuid::Uuid;

/// A human as the API shows them.
#[derive(Clone, Debug, FromRow, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Person {
    /// Our id.
    pub id: Uuid,
    /// The name that people see.
    pub display_name: Option<String>,
    /// E-mail address.
    pub email: Option<String>,
    /// Phone number in E.164.
    pub phone: Option<String>,
    /// Their picture.
    pub avatar_url: Option<String>,
    /// What else is known.
    #[sqlx(json(nullable))]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Box<RawValue>>,
    /// When they were first seen.
    pub created_at: Time,
    /// When the row was last changed.
    pub updated_at: Time,
}

/// One account of a human on one network, as the API shows it.
#[derive(Clone, Debug, FromRow, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Our id.
    pub id: Uuid,
    /// Whose it is.
    pub person_id: Option<Uuid>,
    /// The id of its channel.
    pub channel: String,
    /// The instance that sees it.
    pub instance_id: Uuid,
    /// The network's id.
    pub platform_user_id: String,
    /// The handle, where the network has handles.
    pub platform_username: Option<String>,
    /// The name that people see.
    pub display_name: Option<String>,
    /// Its picture.
    pub profile_pic_url: Option<String>,
    /// How many messages it wrote.
    pub message_count: i64,
    /// When it was first seen.
    pub first_seen_at: Time,
    /// When it was last seen.
    pub last_seen_at: Option<Time>,
    /// How it came to this person: `initial`, `phone_match`, `email_match` or `manual`.
    pub linked_by: Option<String>,
    /// How sure that is, 0 to 100.
    pub confidence: i64,
    /// Why, when somebody said so.
    pub link_reason: Option<String>,
    /// When it was stored.
    pub created_at: Time,
    /// When the row was last changed.
    pub updated_at: Time,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select p.id, p.display_name, p.primary_email as email, p.primary_phone as phone, p.avatar_url, p.metadata, \
             p.created_at, p.updated_at from persons p ",
            $rest
        )
    };
}

macro_rules! select_identity {
    ($rest:literal) => {
        concat!(
            "select id, person_id, channel, instance_id, platform_user_id, platform_username, display_name, \
             profile_pic_url, message_count, first_seen_at, last_seen_at, linked_by, confidence, link_reason, \
             created_at, updated_at from platform_identities ",
            $rest
        )
    };
}

/// People, the one who was seen first last. `search` finds names, phone numbers, e-mail addresses and handles, and the
/// networks' ids when they are whole.
pub async fn list(
    store: &Store,
    search: Option<&str>,
    instances: &InstanceSet,
    from: Option<Position>,
    limit: u32,
) -> Result<Page<Person>> {
    const SQL: &str = select!(
        "where p.id < $1 \
         and ($2 is null or exists (select 1 from platform_identities i where i.person_id = p.id \
              and i.instance_id in (select unhex(value) from json_each($2)))) \
         and ($3 is null or lower(p.display_name) like lower($3) escape '\\' or p.primary_phone like $3 escape '\\' \
              or lower(p.primary_email) like lower($3) escape '\\' \
              or exists (select 1 from platform_identities i where i.person_id = p.id \
                   and (i.platform_user_id = $4 or lower(i.platform_username) like lower($3) escape '\\'))) \
         order by p.id desc limit $5"
    );
    let mut tx = store.read().await?;
    let rows: Vec<Person> = on!(&mut tx, conn => sqlx::query_as(SQL)
        .bind(from.unwrap_or(Position::START).id)
        .bind(instances.json())
        .bind(pattern(search))
        .bind(search)
        .bind(one_more(limit))
        .fetch_all(conn)
        .await)?;
    Ok(Page::cut(rows, limit, |row| Position { at: 0, id: row.id }))
}

/// One human with the accounts that may be seen; nobody when none may.
pub async fn get(store: &Store, id: Uuid, instances: &InstanceSet) -> Result<Option<(Person, Vec<Identity>)>> {
    const SQL: &str = select_identity!(
        "where person_id = $1 and ($2 is null or instance_id in (select unhex(value) from json_each($2))) order by id"
    );
    let mut tx = store.read().await?;
    let Some(person) = find(&mut tx, id).await? else { return Ok(None) };
    let identities: Vec<Identity> =
        on!(&mut tx, conn => sqlx::query_as(SQL).bind(id).bind(instances.json()).fetch_all(conn).await)?;
    let hidden = identities.is_empty() && *instances != InstanceSet::All;
    Ok((!hidden).then_some((person, identities)))
}

/// One human, within a transaction.
pub(crate) async fn find(tx: &mut Tx, id: Uuid) -> Result<Option<Person>> {
    const SQL: &str = select!("where p.id = $1");
    Ok(on!(tx, conn => sqlx::query_as(SQL).bind(id).fetch_optional(conn).await)?)
}

/// One account, within a transaction.
pub(crate) async fn find_identity(tx: &mut Tx, id: Uuid) -> Result<Option<Identity>> {
    const SQL: &str = select_identity!("where id = $1");
    Ok(on!(tx, conn => sqlx::query_as(SQL).bind(id).fetch_optional(conn).await)?)
}
