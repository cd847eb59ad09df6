//! The instances of Omni v1 and v2 among the rows of an [`ImportAuth`], for channels that log in with a token alone.
//!
//! Deliberately not here: reading those databases, which the host does, and whether a token is good, which only the network
//! knows.

use crate::outcome::SendError;
use crate::request::ImportAuth;
use serde_json::Value;
use std::fmt;

/// v1 "classic", v1 "ground zero", v2.
const TABLES: [&str; 3] = ["instance_configs", "omni_instance_configs", "instances"];
/// Rows that an error names.
const NAMED: usize = 5;

/// One instance of Omni v1 or v2. As words: `the row "sales" of instances`.
#[derive(Clone, Copy, Debug)]
pub struct OmniRow<'a> {
    table: &'static str,
    columns: &'a Value,
}

impl<'a> OmniRow<'a> {
    /// The only row that has a token in this column, and the token. Without one, or with several, the error is the caller's
    /// and names the column and the rows.
    pub fn with_token(asked: &'a ImportAuth, column: &str) -> Result<(Self, &'a str), SendError> {
        let of = |table| asked.rows.get(table).into_iter().flatten().map(move |columns| Self { table, columns });
        let rows: Vec<Self> = TABLES.into_iter().flat_map(of).collect();
        let bots: Vec<_> = rows.iter().filter_map(|row| Some((*row, row.text(column)?))).collect();
        let wrong = match bots.as_slice() {
            [bot] => return Ok(*bot),
            [] if rows.is_empty() => format!(
                "there is no bot token in what was found: a row of {} with {column} is needed",
                TABLES.join(", ")
            ),
            [] => format!("there is no bot token: {column} is empty in {}", named(&rows)),
            several => {
                let rows: Vec<Self> = several.iter().map(|(row, _)| *row).collect();
                format!("there are several bots in what was found ({}); hand over one row", named(&rows))
            }
        };
        Err(SendError::invalid(wrong))
    }

    /// What a column says, without blanks around it; `None` also when it is empty or no text.
    pub fn text(&self, column: &str) -> Option<&'a str> {
        self.columns.get(column)?.as_str().map(str::trim).filter(|text| !text.is_empty())
    }

    /// What is in a column.
    pub fn get(&self, column: &str) -> Option<&'a Value> {
        self.columns.get(column)
    }
}

impl fmt::Display for OmniRow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text("name") {
            Some(name) => write!(f, "the row {name:?} of {}", self.table),
            None => write!(f, "a row of {}", self.table),
        }
    }
}

fn named(rows: &[OmniRow<'_>]) -> String {
    let names: Vec<String> = rows.iter().take(NAMED).map(ToString::to_string).collect();
    let more = if rows.len() > NAMED { " and more" } else { "" };
    format!("{}{more}", names.join(", "))
}
