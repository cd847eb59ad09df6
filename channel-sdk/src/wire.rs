//! The macro behind every open set of the wire: kinds may be added, and one that is not known keeps its raw JSON.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A member of an open set that this version does not know. Kept whole, so that it can be stored and passed on.
#[derive(Clone, Debug, PartialEq)]
pub struct Unknown {
    /// What its `type` field said.
    pub kind: String,
    /// All its other fields.
    pub fields: Map<String, Value>,
}

impl Serialize for Unknown {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(Some(self.fields.len() + 1))?;
        map.serialize_entry("type", &self.kind)?;
        for (key, value) in &self.fields {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// Splits an open set's JSON object into its `type` and its other fields.
pub(crate) fn split<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Unknown, D::Error> {
    use serde::de::Error;
    let mut fields = Map::deserialize(deserializer)?;
    match fields.shift_remove("type") {
        Some(Value::String(kind)) => Ok(Unknown { kind, fields }),
        Some(_) => Err(D::Error::custom("`type` is not a string")),
        None => Err(D::Error::missing_field("type")),
    }
}

#[derive(Serialize)]
pub(crate) struct Tagged<'a, T> {
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(flatten)]
    pub value: &'a T,
}

/// Declares an open set: an enum of one struct per kind, tagged by `type`, with an `Unknown` that keeps what came.
macro_rules! open_enum {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$vmeta:meta])* $tag:literal => $variant:ident($ty:ty)),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $name {
            $($(#[$vmeta])* $variant($ty),)*
            /// A kind that this version does not know, with its JSON as it came. Skip it, keep it, never fail on it.
            Unknown($crate::wire::Unknown),
        }

        impl $name {
            /// Every `type` that this version knows, in the order of the declaration.
            pub const KINDS: &'static [&'static str] = &[$($tag),*];

            /// The `type` as it is written on the wire.
            pub fn kind(&self) -> &str {
                match self {
                    $(Self::$variant(_) => $tag,)*
                    Self::Unknown(unknown) => &unknown.kind,
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $(Self::$variant(value) => $crate::wire::Tagged { kind: $tag, value }.serialize(serializer),)*
                    Self::Unknown(unknown) => unknown.serialize(serializer),
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let raw = $crate::wire::split(deserializer)?;
                match raw.kind.as_str() {
                    $($tag => serde_json::from_value(serde_json::Value::Object(raw.fields))
                        .map(Self::$variant)
                        .map_err(|error| serde::de::Error::custom(format_args!("{}: {error}", $tag))),)*
                    _ => Ok(Self::Unknown(raw)),
                }
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                #[derive(schemars::JsonSchema)]
                #[serde(tag = "type")]
                #[expect(dead_code, reason = "for its schema, which has the words of each kind")]
                $(#[$meta])*
                enum Known {
                    $($(#[$vmeta])* #[serde(rename = $tag)] $variant($ty),)*
                }

                $crate::schema::open(Known::json_schema(generator))
            }
        }
    };
}
pub(crate) use open_enum;

/// A closed set of words on the wire that may still grow: a word that is not known is kept as it came.
macro_rules! open_words {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$vmeta:meta])* $word:literal => $variant:ident),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$vmeta])* $variant,)*
            /// A word that this version does not know.
            Other(String),
        }

        impl $name {
            /// Every word that this version knows.
            pub const WORDS: &'static [&'static str] = &[$($word),*];

            /// The word as it is written on the wire.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Other(word) => word,
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)*
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)
                    .map(|word| Self::from(word.as_ref()))
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                #[derive(schemars::JsonSchema)]
                #[expect(dead_code, reason = "for its schema, which says what each word means")]
                $(#[$meta])*
                enum Known {
                    $($(#[$vmeta])* #[serde(rename = $word)] $variant,)*
                }

                $crate::schema::open(Known::json_schema(generator))
            }
        }
    };
}
pub(crate) use open_words;

/// `From` for the variants of an open set whose types are all different.
macro_rules! from_variants {
    ($name:ident: $($variant:ident($ty:ty)),* $(,)?) => {
        $(impl From<$ty> for $name {
            fn from(value: $ty) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}
pub(crate) use from_variants;
