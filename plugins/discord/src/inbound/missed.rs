//! What was said while there was no session, where the host need not know of it: in channels and threads that are new, or in
//! which nothing was said for long. (Of the others the host asks by itself.) Discord lists all servers when a session begins,
//! with the last message of each channel. Direct messages it does not list.

use crate::Discord;
use crate::api::{self, Channel, Guild};
use crate::gateway::Dispatch;
use crate::known::{kind, takes_posts};
use omni_channel_sdk::prelude::*;

/// Chats of one server that are looked into, those with the newest messages first: each costs a question at least.
const AT_MOST: usize = 50;
/// How far Discord's clock may be from the host's, in milliseconds.
const CLOCKS_APART_MS: i64 = 60_000;

/// Looks at a server that is listed at the beginning of a session.
pub fn look(ctx: &Context, bot: &Discord, dispatch: &Dispatch) {
    let Some(since) = bot.gateway.gap_since(dispatch.shard, ctx.now()) else { return };
    let Ok(guild) = Guild::deserialize(&dispatch.data) else { return };
    let after = api::id_at(since - CLOCKS_APART_MS);
    for chat in written_in(&guild, &after).into_iter().take(AT_MOST) {
        ctx.missed_in(chat.id.as_str(), Some(MessageId::from(after.as_str())));
    }
}

/// Where something was written behind an id; the newest first.
fn written_in<'a>(guild: &'a Guild, after: &str) -> Vec<&'a Channel> {
    let number = |id: &str| id.parse::<u64>().unwrap_or(0);
    let last = |channel: &Channel| channel.last_message_id.as_deref().map_or(0, number);
    // The last message of a forum is the last of its posts.
    let all = guild.channels.iter().chain(&guild.threads).filter(|channel| !takes_posts(channel.kind));
    let mut written: Vec<&Channel> =
        all.filter(|channel| channel.kind != kind::CATEGORY && last(channel) > number(after)).collect();
    written.sort_by_key(|channel| std::cmp::Reverse(last(channel)));
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_something_was_written_since_then() {
        let channel = |id: &str, kind: u8, last: Option<&str>| json!({"id": id, "type": kind, "name": "c", "last_message_id": last});
        let guild: Guild = serde_json::from_value(json!({
            "id": "100",
            "channels": [
                channel("1", 0, Some("500")), channel("2", 0, Some("900")), channel("3", 4, Some("900")),
                channel("4", 15, Some("900")), channel("5", 0, None), channel("6", 2, Some("700")),
            ],
            "threads": [channel("7", 11, Some("950"))],
        }))
        .expect("it is read");
        let found: Vec<&str> = written_in(&guild, "500").iter().map(|channel| channel.id.as_str()).collect();
        assert_eq!(found, ["7", "2", "6"]);
    }
}
