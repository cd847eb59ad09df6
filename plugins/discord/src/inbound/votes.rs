//! Votes in polls: who has chosen what is kept as long as a poll goes on.

use super::read;
use crate::Discord;
use crate::convert::Scene;
use crate::convert::content::option_id;
use crate::convert::happening::{self, About};
use crate::gateway::Dispatch;
use omni_channel_sdk::prelude::*;

/// Votes that are read at once.
const AT_ONCE: u32 = 1_000;

fn vote_key(message: &str, user: &str) -> String {
    format!("vote/{message}/{user}")
}

/// Discord says of each answer by itself that it was chosen or no longer is; what somebody's vote is now is put together.
pub async fn voted(ctx: &Context, bot: &Discord, dispatch: &Dispatch) -> Result<(), ChannelError> {
    let Some(about) = read::<About>(ctx, dispatch) else { return Ok(()) };
    if about.message_id.is_empty() || about.channel_id.is_empty() {
        return Ok(());
    }
    let key = vote_key(&about.message_id, about.user_id.as_deref().unwrap_or_default());
    let kept = ctx.get(&key).await?;
    let mut chosen: Vec<String> = kept.and_then(|kept| serde_json::from_slice(&kept).ok()).unwrap_or_default();
    let answer = option_id(about.answer_id);
    chosen.retain(|other| *other != answer);
    if dispatch.kind == "MESSAGE_POLL_VOTE_ADD" {
        chosen.push(answer);
        chosen.sort_unstable();
    }
    match chosen.is_empty() {
        true => ctx.delete(key),
        false => ctx.set(key, json!(chosen).to_string()),
    }
    let names = bot.known.names();
    let scene =
        Scene { names: &names, me: &bot.me.id, application: &bot.application, key: &dispatch.key, now: ctx.now() };
    ctx.emit(happening::vote(&dispatch.data, &about, chosen, scene));
    Ok(())
}

/// A poll has ended: nobody changes a vote any more.
pub async fn forget(ctx: &Context, message: &str) -> Result<(), ChannelError> {
    let mut after = None;
    loop {
        let page = ctx.scan(&vote_key(message, ""), after.as_deref(), AT_ONCE).await?;
        let is_last = page.len() < AT_ONCE as usize;
        after = page.last().map(|(key, _)| key.clone());
        for (key, _) in page {
            ctx.delete(key);
        }
        if is_last {
            return Ok(());
        }
    }
}
