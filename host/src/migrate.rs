//! Reading the stores in which other programs keep what an account logs in with: the machine of the command line reads, the
//! host only sees what is handed in. Nothing is ever written into a source, and a database is read in one snapshot.
//!
//! ```text
//! database   rows of other programs' databases, as JSON: Postgres, MySQL, SQLite
//! evolution  Evolution's stores, of which several may be there: which is the newest, and what each is used for
//! omni       Omni v1 and v2: a row with a token
//! records    files and exports, peeled: a name and its bytes
//! ```
//!
//! Deliberately not here: what a record means. That is the plugin's.

mod database;
mod evolution;
mod omni;
mod records;

pub use records::{Content, Record};

use crate::auth_state::Head;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Why a source could not be read. Each sentence says which, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// It is said wrongly.
    #[error("{0}")]
    Usage(String),
    /// What was looked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// It cannot be read.
    #[error("failed to read {place}: {reason}")]
    Unreadable {
        /// Which source, without its password.
        place: String,
        /// Why not.
        reason: String,
    },
}

type Result<T, E = MigrateError> = std::result::Result<T, E>;

fn unreadable(place: impl std::fmt::Display, reason: impl std::fmt::Display) -> MigrateError {
    MigrateError::Unreadable { place: place.to_string(), reason: reason.to_string() }
}

/// One place to read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A folder of Baileys' multi-file auth state.
    Baileys(PathBuf),
    /// Evolution's database.
    EvolutionDatabase(String),
    /// What Evolution had in Redis, exported as JSON.
    EvolutionRedis(PathBuf),
    /// What Evolution had with its provider, as JSON.
    EvolutionProvider(PathBuf),
    /// What Evolution had in MongoDB, as JSON.
    EvolutionMongo(PathBuf),
    /// The database of Omni v1.
    OmniV1(String),
    /// The database of Omni v2.
    OmniV2(String),
}

/// How sources are written.
pub const KINDS: &str = "baileys:DIR, evolution-postgres:URL, evolution-mysql:URL, evolution-redis:FILE, \
                         evolution-provider:FILE, evolution-mongo:FILE, omni-v1:URL_OR_FILE, omni-v2:URL";

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, place) = text.split_once(':').ok_or_else(|| format!("expected one of {KINDS}"))?;
        if place.is_empty() {
            return Err(format!("{kind}: says no place"));
        }
        let of = |schemes: &[&str]| match schemes.iter().any(|scheme| place.starts_with(scheme)) {
            true => Ok(place.to_owned()),
            false => Err(format!("{kind}: takes an address that begins with {}", schemes.join(" or "))),
        };
        const POSTGRES: &[&str] = &["postgres://", "postgresql://"];
        Ok(match kind {
            "baileys" => Self::Baileys(place.into()),
            "evolution-postgres" => Self::EvolutionDatabase(of(POSTGRES)?),
            "evolution-mysql" => Self::EvolutionDatabase(of(&["mysql://", "mariadb://"])?),
            "evolution-redis" => Self::EvolutionRedis(place.into()),
            "evolution-provider" => Self::EvolutionProvider(place.into()),
            "evolution-mongo" => Self::EvolutionMongo(place.into()),
            "omni-v1" => Self::OmniV1(place.to_owned()),
            "omni-v2" => Self::OmniV2(of(POSTGRES)?),
            _ => return Err(format!("{kind:?} is no source; expected one of {KINDS}")),
        })
    }
}

impl Source {
    /// The same, with files that are named from a folder on.
    pub fn within(self, folder: &Path) -> Self {
        match self {
            Self::Baileys(path) => Self::Baileys(folder.join(path)),
            Self::EvolutionRedis(path) => Self::EvolutionRedis(folder.join(path)),
            Self::EvolutionProvider(path) => Self::EvolutionProvider(folder.join(path)),
            Self::EvolutionMongo(path) => Self::EvolutionMongo(folder.join(path)),
            Self::OmniV1(place) if !place.contains("://") && !place.starts_with("sqlite:") => {
                Self::OmniV1(folder.join(place).display().to_string())
            }
            other => other,
        }
    }
}

/// What is looked for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The instance in the other program, by name or id, if somebody said.
    pub source_instance: Option<String>,
    /// The instance here, which may be called the same.
    pub instance: String,
    /// Its channel here.
    pub channel: String,
    /// The folder in which Evolution keeps files.
    pub files: Option<PathBuf>,
    /// What Evolution had in Redis, exported as JSON.
    pub redis: Option<PathBuf>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Gathered {
    /// What goes before the files.
    pub head: Head,
    /// The files.
    pub records: Vec<Record>,
    /// The name of the instance in the other program, where it has one.
    pub name: Option<String>,
}

/// Reads everything that is looked for.
pub async fn gather(sources: &[Source], wanted: &Wanted) -> Result<Gathered> {
    let has = |found: fn(&Source) -> bool| sources.iter().any(found);
    let is_baileys = has(|source| matches!(source, Source::Baileys(_)));
    let is_omni = has(|source| matches!(source, Source::OmniV1(_) | Source::OmniV2(_)));
    match sources {
        [] => Err(MigrateError::Usage(format!("nobody says from where: --from takes {KINDS}"))),
        [Source::Baileys(folder)] => baileys(folder, wanted),
        [Source::OmniV1(place)] => omni::read(place, "omni-v1", wanted).await,
        [Source::OmniV2(place)] => omni::read(place, "omni-v2", wanted).await,
        _ if is_baileys || is_omni => Err(MigrateError::Usage(
            "baileys:, omni-v1: and omni-v2: stand alone; only stores of Evolution are read together".into(),
        )),
        _ => evolution::read(sources, wanted).await,
    }
}

fn baileys(folder: &Path, wanted: &Wanted) -> Result<Gathered> {
    let names: Vec<&str> =
        wanted.source_instance.iter().map(String::as_str).chain([wanted.instance.as_str()]).collect();
    let folder = records::folder_of(folder, &names)?;
    let records = records::in_folder(&folder)?;
    if !records.iter().any(|record| record.name == "creds.json") {
        return Err(MigrateError::NotFound(format!("{} holds no creds.json", folder.display())));
    }
    let used = json!({
        "store": "files", "place": folder.display().to_string(), "records": records.len(), "for": "credentials and keys",
    });
    let head = Head { source: "baileys".into(), used: vec![used], ..Head::default() };
    Ok(Gathered { head, records, name: None })
}

/// An address without user, password and options, to be shown.
fn shown(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let rest = rest.split('?').next().unwrap_or_default();
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }
}

fn text<'a>(row: &'a Value, column: &str) -> Option<&'a str> {
    row.get(column).and_then(Value::as_str).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_and_what_is_wrong_with_one_is_said() {
        assert_eq!("baileys:/a:b".parse(), Ok(Source::Baileys("/a:b".into())));
        let url = "postgres://u:p@h/d";
        assert_eq!(format!("evolution-postgres:{url}").parse(), Ok(Source::EvolutionDatabase(url.into())));
        for (bad, told) in [
            ("baileys", "expected one of"),
            ("baileys:", "says no place"),
            ("redis:x", "is no source"),
            ("evolution-postgres:mysql://x", "begins with postgres://"),
            ("evolution-mysql:postgres://x", "begins with mysql://"),
        ] {
            assert!(bad.parse::<Source>().expect_err("is refused").contains(told), "{bad}");
        }
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        assert_eq!(
            shown("postgres://user:p%40ss@db.example:5432/evolution?sslmode=require"),
            "postgres://db.example:5432/evolution"
        );
        assert_eq!(shown("/var/lib/omni.db"), "/var/lib/omni.db");
    }
}
