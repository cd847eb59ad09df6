//! What an operator sets, as `channel.json` describes it.

use omni_channel_sdk::prelude::*;

/// Where the Graph API is.
pub const META: &str = "https://graph.facebook.com";
/// The version of it that this channel was written for.
pub const VERSION: &str = "v23.0";

/// The configuration of an instance. Secrets are placeholders.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    /// The access token of a system user.
    pub token: Option<String>,
    /// What Meta signs its calls with.
    pub app_secret: Option<String>,
    /// The number, by Meta's id.
    pub phone_number_id: Option<String>,
    /// The account that the number belongs to, by Meta's id.
    pub business_account_id: Option<String>,
    /// What Meta shows when it makes sure of a webhook that somebody else set.
    pub verify_token: Option<String>,
    /// Whether Meta is told where the host is.
    pub subscribe: bool,
    /// Whether links in texts get a preview.
    pub link_previews: bool,
    /// The Graph API's server.
    pub api_base_url: String,
    /// The version of the Graph API.
    pub api_version: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            token: None,
            app_secret: None,
            phone_number_id: None,
            business_account_id: None,
            verify_token: None,
            subscribe: true,
            link_previews: true,
            api_base_url: META.to_owned(),
            api_version: VERSION.to_owned(),
        }
    }
}
