//! Settings that hold for the whole host, by name.

use super::{Result, Run, Store, Time, Tx, on};
use serde_json::Value;
use sqlx::FromRow;

/// A setting as it is stored.
#[derive(Clone, Debug, FromRow)]
pub struct Setting {
    /// Its name.
    pub key: String,
    /// Its value, in the words of its type.
    pub value: Option<String>,
    /// `string`, `integer`, `boolean` or `json`.
    pub value_type: String,
    /// What it belongs to.
    pub category: Option<String>,
    /// Whether its value must not be shown.
    pub is_secret: bool,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

impl Setting {
    /// Its value as JSON.
    pub fn json(&self) -> Value {
        let Some(value) = &self.value else { return Value::Null };
        match self.value_type.as_str() {
            "string" => Value::String(value.clone()),
            _ => serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.clone())),
        }
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select key, value, value_type, category, is_secret, created_at, updated_at from global_settings ",
            $rest
        )
    };
}

/// Every setting, by name; `category` narrows. They are few.
pub async fn list(store: &Store, category: Option<&str>) -> Result<Vec<Setting>> {
    const SQL: &str = select!("where ($1 is null or category = $1) order by key limit 1000");
    let mut tx = store.read().await?;
    Ok(on!(&mut tx, conn => sqlx::query_as(SQL).bind(category).fetch_all(conn).await)?)
}

/// One setting.
pub async fn get(store: &Store, key: &str) -> Result<Option<Setting>> {
    let mut tx = store.read().await?;
    find(&mut tx, key).await
}

async fn find(tx: &mut Tx, key: &str) -> Result<Option<Setting>> {
    const SQL: &str = select!("where key = $1");
    Ok(on!(tx, conn => sqlx::query_as(SQL).bind(key).fetch_optional(conn).await)?)
}

/// Sets several, all or none. The category of a new one is what stands before the first dot of its name.
pub async fn set<'a>(
    store: &Store,
    values: impl IntoIterator<Item = (&'a String, &'a Value)>,
    now: Time,
) -> Result<()> {
    let mut tx = store.begin().await?;
    for (key, value) in values {
        let (text, value_type) = match value {
            Value::Null => (None, "json"),
            Value::String(text) => (Some(text.clone()), "string"),
            Value::Bool(_) => (Some(value.to_string()), "boolean"),
            Value::Number(number) if number.is_i64() => (Some(value.to_string()), "integer"),
            _ => (Some(value.to_string()), "json"),
        };
        let id = tx.new_id(now);
        on!(&mut tx, conn => sqlx::query(
            "insert into global_settings (id, key, value, value_type, category, created_at, updated_at) \
             values ($1, $2, $3, $4, $5, $6, $6) on conflict (key) do update set value = excluded.value, \
             value_type = excluded.value_type, updated_at = excluded.updated_at")
            .bind(id)
            .bind(key)
            .bind(text)
            .bind(value_type)
            .bind(key.split_once('.').map(|(category, _)| category))
            .bind(now)
            .run(conn)
            .await)?;
    }
    tx.commit().await
}

/// Takes a setting away; tells whether there was one.
pub async fn delete(store: &Store, key: &str) -> Result<bool> {
    let mut tx = store.begin().await?;
    let done = on!(&mut tx, conn => sqlx::query("delete from global_settings where key = $1")
        .bind(key).run(conn).await)?;
    tx.commit().await?;
    Ok(done > 0)
}
