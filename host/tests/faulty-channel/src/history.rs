//! A history that is said by hand: what is answered when one chat is asked for, by the place from which it goes on.
//!
//! `POST /` with `{"history": {chat: {place: [answer, …]}}}` says it, and it is kept. A place is a cursor, `before X`, `after X`
//! for an anchor, or `newest`. An answer is a page (`{"events", "cursor"?}`) or `{"error"}`; of several the first is given
//! first, and the last again and again. `GET /sent` lists under `asked` the places that were asked for since the start.

use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::HistoryPage;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

const KEY: &str = "history";

/// What is said of a history.
#[derive(Deserialize)]
pub struct Said {
    history: Value,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Answer {
    Error { error: SendError },
    Page(HistoryPage),
}

/// What was asked for.
#[derive(Debug, Default)]
pub struct Asked(Mutex<Vec<Value>>);

impl Asked {
    /// All of it, in order: chat and place.
    pub fn list(&self) -> Vec<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes a question, and says how often it was asked before.
    fn note(&self, chat: &ChatId, place: &str) -> usize {
        let asked = json!([chat, place]);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.iter().filter(|other| **other == asked).count();
        all.push(asked);
        before
    }
}

impl Said {
    /// Keeps it.
    pub fn keep(&self, ctx: &Context) {
        ctx.set(KEY, self.history.to_string());
    }
}

/// Answers as it was said.
pub async fn answer(ctx: &Context, asked: &Asked, ask: request::History) -> Result<HistoryPage, SendError> {
    let side = if ask.forward { "after" } else { "before" };
    let place = match (&ask.cursor, &ask.anchor) {
        (Some(cursor), _) => cursor.clone(),
        (None, Some(anchor)) => format!("{side} {}", anchor.id),
        (None, None) => "newest".to_owned(),
    };
    let before = asked.note(&ask.chat, &place);
    let said = ctx.get(KEY).await.map_err(|error| SendError::transient(error.to_string()))?.unwrap_or_default();
    let mut said: HashMap<String, HashMap<String, Vec<Answer>>> =
        serde_json::from_slice(&said).map_err(|error| SendError::invalid(format!("no history was said: {error}")))?;
    let answers = said.remove(ask.chat.as_str()).and_then(|mut chat| chat.remove(&place)).unwrap_or_default();
    match answers.get(before).or(answers.last()) {
        Some(Answer::Page(page)) => Ok(page.clone()),
        Some(Answer::Error { error }) => Err(error.clone()),
        None => {
            Err(SendError::new(ErrorCode::ChatNotFound, NextActor::Caller, format!("nothing was said of {place:?}")))
        }
    }
}
