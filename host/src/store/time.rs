//! A point in time as it is stored: microseconds since 1970 on SQLite, `timestamptz` on Postgres.

use chrono::{DateTime, TimeZone, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::sqlite::{SqliteArgumentsBuffer, SqliteTypeInfo, SqliteValueRef};
use sqlx::{Decode, Encode, Postgres, Sqlite, Type};
use std::time::Duration;

/// Microseconds since 1970, UTC. Written to JSON as RFC 3339 with milliseconds, as Omni v2 does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

impl Time {
    /// From milliseconds since 1970, as the wire has them; what is out of range is cut to what RFC 3339 can write.
    pub fn from_millis(millis: i64) -> Self {
        const YEAR_9999: i64 = 253_402_300_799_999;
        Self(millis.clamp(-62_135_596_800_000, YEAR_9999) * 1_000)
    }

    /// Milliseconds since 1970.
    pub fn millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// So many milliseconds later.
    pub fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis.saturating_mul(1_000)))
    }

    /// So much later, cut to milliseconds.
    pub fn plus(self, wait: Duration) -> Self {
        self.plus_millis(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
    }

    /// As chrono has it.
    pub fn datetime(self) -> DateTime<Utc> {
        Utc.timestamp_micros(self.0).single().unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.datetime().to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DateTime::<Utc>::deserialize(deserializer).map(|at| Self(at.timestamp_micros()))
    }
}

impl Type<Sqlite> for Time {
    fn type_info() -> SqliteTypeInfo {
        <i64 as Type<Sqlite>>::type_info()
    }
}

impl Encode<'_, Sqlite> for Time {
    fn encode_by_ref(&self, buffer: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        <i64 as Encode<'_, Sqlite>>::encode_by_ref(&self.0, buffer)
    }
}

impl<'r> Decode<'r, Sqlite> for Time {
    fn decode(value: SqliteValueRef<'r>) -> Result<Self, BoxDynError> {
        <i64 as Decode<'r, Sqlite>>::decode(value).map(Self)
    }
}

/// 2000, from where Postgres counts, in microseconds since 1970.
const MILLENNIUM: i64 = 946_684_800_000_000;
/// The first and the last time that Postgres knows, in microseconds since 2000: 4714 BC and 294276.
const KNOWN: (i64, i64) = (-211_813_488_000_000_000, 9_223_371_331_199_999_999);

impl Time {
    /// As Postgres has it on the wire: microseconds since 2000. What is out of its range is cut.
    pub(super) fn since_2000(self) -> i64 {
        self.0.saturating_sub(MILLENNIUM).clamp(KNOWN.0, KNOWN.1)
    }
}

impl Type<Postgres> for Time {
    fn type_info() -> PgTypeInfo {
        <DateTime<Utc> as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Time {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <i64 as Encode<'_, Postgres>>::encode_by_ref(&self.since_2000(), buffer)
    }
}

impl<'r> Decode<'r, Postgres> for Time {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        match value.format() {
            PgValueFormat::Binary => {
                let micros = <i64 as Decode<'r, Postgres>>::decode(value)?;
                Ok(Self(micros.saturating_add(MILLENNIUM)))
            }
            PgValueFormat::Text => {
                <DateTime<Utc> as Decode<'r, Postgres>>::decode(value).map(|at| Self(at.timestamp_micros()))
            }
        }
    }
}

impl utoipa::PartialSchema for Time {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
        let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
        ObjectBuilder::new().schema_type(Type::String).format(Some(format)).into()
    }
}

impl utoipa::ToSchema for Time {}
