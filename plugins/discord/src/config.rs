//! What an operator configures for one bot.
//!
//! The token and the other secrets are never seen here: they arrive as placeholders, which the host replaces in a header or
//! in what is written to the gateway.

use omni_channel_sdk::prelude::*;
use serde_json::Map;

/// Where Discord serves its API.
pub const DEFAULT_API: &str = "https://discord.com";

/// The configuration of one instance, as `configSchema` in `channel.json` says.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// The placeholder of the bot's token. Absent or empty until somebody has put one in.
    #[serde(default)]
    pub token: Option<String>,
    /// The API's server, without `/api/v10`.
    #[serde(default = "default_api")]
    pub api_base_url: String,
    /// Where the gateway is, instead of where Discord says; it counts for resuming, too.
    #[serde(default)]
    pub gateway_url: Option<String>,
    /// The only guilds that this instance is for; all that the bot is in when empty. Direct messages always are.
    #[serde(default)]
    pub guild_ids: GuildIds,
    /// The channel that the address `default` stands for.
    #[serde(default)]
    pub default_channel_id: Option<String>,
    /// How many shards there are; as many as Discord recommends when absent.
    #[serde(default)]
    pub shards: Option<u32>,
    /// What is asked of the gateway.
    #[serde(default)]
    pub intents: IntentChoice,
    /// What members see of the bot.
    #[serde(default)]
    pub presence: Option<Presence>,
    /// Whether `commands` are registered; yes when absent.
    #[serde(default)]
    pub slash_commands: Option<bool>,
    /// Application commands as Discord takes them. Beside its fields one may have a `modal`, which is shown instead of an
    /// answer, and `ephemeral`, with which only the person who gave it sees the answer.
    #[serde(default)]
    pub commands: Vec<Map<String, Value>>,
    /// The application's id; asked of Discord when absent.
    #[serde(default)]
    pub client_id: Option<String>,
    /// The placeholder of the application's secret. With it an installation is confirmed with Discord.
    #[serde(default)]
    pub client_secret: Option<String>,
    /// Permission bits that the install link asks for; [`default_permissions`] when absent.
    #[serde(default)]
    pub permissions: Option<u64>,
    /// The placeholder of a webhook's address, which messages under another name go out by in its channel.
    #[serde(default)]
    pub webhook_url: Option<String>,
}

/// Guilds by their ids. That there are none may have been said, or nothing was said of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct GuildIds(pub Option<Vec<String>>);

impl std::ops::Deref for GuildIds {
    type Target = [String];

    fn deref(&self) -> &[String] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// What is asked of the gateway beside what every bot needs.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IntentChoice {
    /// The words of messages that do not mention the bot. Privileged.
    pub message_content: bool,
    /// Members who join, leave or change. Privileged; when not said, asked for where the application may.
    pub members: Option<bool>,
    /// Who is online. Privileged.
    pub presences: bool,
    /// Who is writing.
    pub typing: bool,
}

impl Default for IntentChoice {
    fn default() -> Self {
        Self { message_content: true, members: None, presences: false, typing: true }
    }
}

/// What members see of the bot.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Presence {
    /// `online`, `idle`, `dnd` or `invisible`.
    pub status: Option<String>,
    /// What it does, in words.
    pub activity: Option<String>,
    /// `playing`, `streaming`, `listening`, `watching`, `custom` or `competing`.
    pub activity_type: Option<String>,
}

impl Config {
    /// Whether this instance is for a guild.
    pub fn takes_guild(&self, guild: Option<&str>) -> bool {
        let Some(guild) = guild else { return true };
        self.guild_ids.is_empty() || self.guild_ids.iter().any(|taken| taken == guild)
    }
}

fn default_api() -> String {
    DEFAULT_API.to_owned()
}

/// View channels, send messages (in threads, with embeds and files), read history, react, use external emoji, manage
/// messages, webhooks and threads, make threads, send voice messages and polls.
pub fn default_permissions() -> u64 {
    use crate::permissions as bit;
    bit::VIEW_CHANNEL
        | bit::SEND_MESSAGES
        | bit::SEND_MESSAGES_IN_THREADS
        | bit::EMBED_LINKS
        | bit::ATTACH_FILES
        | bit::READ_MESSAGE_HISTORY
        | bit::ADD_REACTIONS
        | bit::USE_EXTERNAL_EMOJIS
        | bit::MANAGE_MESSAGES
        | bit::MANAGE_WEBHOOKS
        | bit::MANAGE_THREADS
        | bit::CREATE_PUBLIC_THREADS
        | bit::SEND_VOICE_MESSAGES
        | bit::SEND_POLLS
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("api_base_url", &self.api_base_url)
            .field("gateway_url", &self.gateway_url)
            .field("guild_ids", &self.guild_ids)
            .field("shards", &self.shards)
            .field("intents", &self.intents)
            .finish_non_exhaustive()
    }
}
