//! What an operator configures for one bot.
//!
//! The token is never seen here: it arrives as a placeholder, which the host replaces in the URL of a call.

use serde::Deserialize;

/// Where Telegram serves the Bot API.
pub const DEFAULT_API: &str = "https://api.telegram.org";

/// The configuration of one instance, as `configSchema` in `channel.json` says.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// The placeholder of the bot's token. Absent or empty until somebody has put one in.
    #[serde(default)]
    pub token: Option<String>,
    /// The Bot API server, without the `/bot…` part.
    #[serde(default = "default_api")]
    pub api_base_url: String,
    /// Where files are fetched from, when that is not the Bot API server itself: a server that runs with `--local`
    /// keeps them on disk, and a web server in front of that folder gives them out.
    #[serde(default)]
    pub file_base_url: Option<String>,
    /// Whether what waited on Telegram before the first start is forgotten.
    #[serde(default)]
    pub drop_pending_updates: bool,
    /// How updates come in.
    #[serde(default)]
    pub mode: Mode,
    /// Most calls that Telegram makes to the webhook at the same time, 1 to 100.
    #[serde(default = "default_connections")]
    pub max_connections: u32,
    /// Whether a webhook that another program has set is taken away.
    #[serde(default)]
    pub take_over: bool,
    /// Messages to one chat in a second; 0 for no limit.
    #[serde(default = "default_chat_pace")]
    pub chat_per_second: u32,
    /// Messages to one group or channel in a minute; 0 for no limit.
    #[serde(default = "default_group_pace")]
    pub group_per_minute: u32,
    /// Messages of the bot in a second; 0 for no limit.
    #[serde(default = "default_total_pace")]
    pub total_per_second: u32,
}

/// How updates come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// The host asks Telegram: needs no public address.
    #[default]
    Poll,
    /// Telegram calls the host, which needs a public address.
    Webhook,
}

fn default_connections() -> u32 {
    40
}

fn default_chat_pace() -> u32 {
    1
}

fn default_group_pace() -> u32 {
    20
}

fn default_total_pace() -> u32 {
    30
}

impl Config {
    /// Whether the Bot API server runs with `--local`, and so without Telegram's limits on files.
    pub fn is_local(&self) -> bool {
        self.file_base_url.as_deref().is_some_and(|url| !url.is_empty())
    }
}

fn default_api() -> String {
    DEFAULT_API.to_owned()
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("api_base_url", &self.api_base_url)
            .field("file_base_url", &self.file_base_url)
            .field("drop_pending_updates", &self.drop_pending_updates)
            .field("mode", &self.mode)
            .field("max_connections", &self.max_connections)
            .field("take_over", &self.take_over)
            .field("chat_per_second", &self.chat_per_second)
            .field("group_per_minute", &self.group_per_minute)
            .field("total_per_second", &self.total_per_second)
            .finish()
    }
}
