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
            .finish()
    }
}
