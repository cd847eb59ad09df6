//! Pages of long lists: by key, never by offset, so that a page costs the same however far down it is and no row is
//! skipped or seen twice while others are written.

use crate::store::Time;
use uuid::Uuid;

/// Where a page ended: the sort key of its last row, made unique by the row's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// A time in microseconds, or a sequence number.
    pub at: i64,
    /// The row.
    pub id: Uuid,
}

impl Position {
    /// Before everything, for lists that begin with the greatest key. The time is the last that RFC 3339 can write.
    pub const START: Self = Self { at: 253_402_300_799_999_999, id: Uuid::max() };

    /// Its sort key as a time.
    pub fn time(self) -> Time {
        Time(self.at)
    }
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// Its rows, in the list's order.
    pub items: Vec<T>,
    /// Where it ended, when more rows follow.
    pub next: Option<Position>,
}

impl<T> Page<T> {
    /// From `limit + 1` rows: the one too many says that more follow.
    pub fn cut(mut items: Vec<T>, limit: u32, position: impl Fn(&T) -> Position) -> Self {
        let limit = limit as usize;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(position);
        Self { items, next }
    }
}

/// How many rows to fetch for a page of `limit`.
pub(crate) fn one_more(limit: u32) -> i64 {
    i64::from(limit) + 1
}

/// The instances that somebody may see, or wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum InstanceSet {
    /// Every one.
    #[default]
    All,
    /// These only.
    Only(Vec<Uuid>),
}

impl InstanceSet {
    /// Whether an instance is in it.
    pub fn contains(&self, id: Uuid) -> bool {
        match self {
            Self::All => true,
            Self::Only(ids) => ids.contains(&id),
        }
    }

    /// As the statements take it: a JSON list of hex ids, nothing for every one.
    pub(crate) fn json(&self) -> Option<String> {
        match self {
            Self::All => None,
            Self::Only(ids) => Some(hex_list(ids)),
        }
    }
}

/// Ids as the statements take them: a JSON list of hex, for `select unhex(value) from json_each($1)`.
pub(crate) fn hex_list(ids: &[Uuid]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| format!("\"{}\"", id.simple())).collect();
    format!("[{}]", ids.join(","))
}

/// A search word as a `like` pattern that finds it anywhere, with `\` as its escape. Capitals make no difference where both
/// sides stand in a `lower`.
pub(crate) fn pattern(word: Option<&str>) -> Option<String> {
    word.map(|word| {
        let word = word.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        format!("%{word}%")
    })
}
