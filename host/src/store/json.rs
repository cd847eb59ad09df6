//! A value that is stored as JSON: text on SQLite, `json` on Postgres, as it was written and in that order. (sqlx's own type
//! is `jsonb` there, which orders and spaces anew.)

use serde::{Deserialize, Serialize};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, PgValueRef};
use sqlx::sqlite::{SqliteArgumentsBuffer, SqliteTypeInfo, SqliteValueRef};
use sqlx::types::Json as Sqlx;
use sqlx::{Decode, Encode, Postgres, Sqlite, Type};

/// JSON in a column.
#[derive(Clone, Debug, PartialEq)]
pub struct Json<T>(pub T);

impl<T> Type<Sqlite> for Json<T> {
    fn type_info() -> SqliteTypeInfo {
        <Sqlx<T> as Type<Sqlite>>::type_info()
    }

    fn compatible(found: &SqliteTypeInfo) -> bool {
        <Sqlx<T> as Type<Sqlite>>::compatible(found)
    }
}

impl<T: Serialize> Encode<'_, Sqlite> for Json<T> {
    fn encode_by_ref(&self, buffer: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        <Sqlx<&T> as Encode<'_, Sqlite>>::encode_by_ref(&Sqlx(&self.0), buffer)
    }
}

impl<'r, T: Deserialize<'r> + 'r> Decode<'r, Sqlite> for Json<T> {
    fn decode(value: SqliteValueRef<'r>) -> Result<Self, BoxDynError> {
        <Sqlx<T> as Decode<'r, Sqlite>>::decode(value).map(|json| Self(json.0))
    }
}

impl<T> Type<Postgres> for Json<T> {
    fn type_info() -> PgTypeInfo {
        // It is this in every server; by name sqlx would ask.
        PgTypeInfo::with_oid(Oid(114))
    }

    fn compatible(found: &PgTypeInfo) -> bool {
        <Sqlx<T> as Type<Postgres>>::compatible(found)
    }
}

impl<T: Serialize> Encode<'_, Postgres> for Json<T> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        serde_json::to_writer(&mut **buffer, &self.0)?;
        Ok(IsNull::No)
    }
}

impl<'r, T: Deserialize<'r> + 'r> Decode<'r, Postgres> for Json<T> {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        <Sqlx<T> as Decode<'r, Postgres>>::decode(value).map(|json| Self(json.0))
    }
}
