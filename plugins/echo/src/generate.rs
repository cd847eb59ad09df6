//! Makes messages up, as fast as the host takes them: for benchmarks.
//!
//! The position is an entry that is written together with the messages, so that a restart goes on where it stopped.

use omni_channel_sdk::prelude::*;

/// The timer that calls for the next batch.
pub const TIMER: &str = "generate";
const POSITION: &str = "generated";
const BATCH: u64 = 512;
/// A batch at a fixed rate comes this often.
const TICK_MS: u64 = 10;

/// How many messages to make up.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Generate {
    /// How many.
    pub messages: u64,
    /// Over how many chats, in turn.
    pub chats: u64,
    /// How many in a second; as many as the host takes when absent.
    pub per_second: Option<u64>,
}

impl Generate {
    /// Emits the next messages and sets the timer again, until all are there.
    pub async fn next_batch(&self, ctx: &Context) -> Result<(), ChannelError> {
        let from = match ctx.get(POSITION).await? {
            Some(bytes) => serde_json::from_slice::<u64>(&bytes)?,
            None => 0,
        };
        let (batch, pause_ms) = match self.per_second {
            Some(rate) => ((rate * TICK_MS / 1_000).max(1), TICK_MS.max(1_000 / rate.max(1))),
            None => (BATCH, 0),
        };
        let to = from.saturating_add(batch).min(self.messages);
        for number in from..to {
            ctx.emit(message(number, number % self.chats.max(1), ctx.now()));
        }
        if to > from {
            ctx.set(POSITION, to.to_string());
        }
        if to < self.messages {
            ctx.set_timer(TIMER, pause_ms);
        }
        Ok(())
    }
}

fn message(number: u64, chat: u64, now: i64) -> Event {
    let text =
        format!("Message {number:08} in chat {chat:05}: the quick brown fox jumps over the lazy dog, once again.");
    let sender = User::new(format!("generated-{chat}"));
    let message = Message::new(format!("generated-{number}"), sender, Content::text(text));
    let chat = Chat::new(format!("generated-{chat}"), ChatKind::Direct);
    Event::new(chat, now, message).delivered_as(format!("generated-{number}"))
}
