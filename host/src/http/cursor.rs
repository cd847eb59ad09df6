//! Cursors: opaque to callers, a position inside. One that is not ours is refused, never guessed at.

use super::error::ApiError;
use crate::store::page::Position;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

/// The position of a page's end, as text.
pub(crate) fn encode(position: Position) -> String {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&position.at.to_be_bytes());
    bytes[8..].copy_from_slice(position.id.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// And back.
pub(crate) fn decode(cursor: Option<&str>) -> Result<Option<Position>, ApiError> {
    cursor.map(|cursor| position(cursor).ok_or_else(broken)).transpose()
}

fn position(cursor: &str) -> Option<Position> {
    let bytes: [u8; 24] = URL_SAFE_NO_PAD.decode(cursor).ok()?.try_into().ok()?;
    let (at, id) = bytes.split_at(8);
    Some(Position { at: i64::from_be_bytes(at.try_into().ok()?), id: Uuid::from_slice(id).ok()? })
}

/// The same for a list that is sorted by words.
pub(crate) fn encode_word(word: &str) -> String {
    URL_SAFE_NO_PAD.encode(word)
}

/// And back.
pub(crate) fn decode_word(cursor: Option<&str>) -> Result<Option<String>, ApiError> {
    let word = |cursor| String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok();
    cursor.map(|cursor| word(cursor).ok_or_else(broken)).transpose()
}

fn broken() -> ApiError {
    ApiError::field("cursor", "not a cursor of this list; leave it out to begin anew, or give `meta.cursor` unchanged")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_anything_else_is_refused() {
        let position = Position { at: -5, id: Uuid::now_v7() };
        assert_eq!(decode(Some(&encode(position))).expect("ours"), Some(position));
        for broken in ["", "x", "2026-01-01T00:00:00Z", &encode(position)[1..], &format!("{}A", encode(position))] {
            assert_eq!(decode(Some(broken)).expect_err(broken).status(), axum::http::StatusCode::BAD_REQUEST);
        }
    }
}
