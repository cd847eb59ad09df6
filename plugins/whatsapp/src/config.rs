//! The configuration of an instance, as `configSchema` in `channel.json` describes it.

use omni_channel_sdk::prelude::*;
use serde::Deserialize;
use wacore::store::device::{CachedNoiseCert, CachedServerCertChain};

/// What an operator may set.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Config {
    /// The name under "linked devices" on the phone; counts when the device is linked.
    pub device_name: String,
    /// The version of WhatsApp Web that is told to the server, `2.3000.1035194821`; the newest is looked up when absent.
    pub version: Option<String>,
    /// Whether status updates of contacts come as messages of the chat `status@broadcast`.
    pub status_updates: bool,
    /// Whether posts of channels that the account follows come as messages.
    pub newsletters: bool,
    /// Whether the history that the phone sends after linking is taken.
    pub history: bool,
    /// Whether calls are declined at once.
    pub reject_calls: bool,
    /// Whether the account is shown as online as long as the instance is connected.
    pub show_online: bool,
    /// How fast it may send.
    pub pacing: Pacing,
    /// Another server; only on this machine.
    pub web_socket_url: Option<String>,
    /// Where that server keeps files.
    pub media_url: Option<String>,
    /// The certificate of that server, so that a device that is registered with it needs no other proof.
    pub server_cert_chain: Option<ServerCertChain>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            device_name: "Omni".into(),
            version: None,
            status_updates: false,
            newsletters: true,
            history: true,
            reject_calls: false,
            show_online: false,
            pacing: Pacing::default(),
            web_socket_url: None,
            media_url: None,
            server_cert_chain: None,
        }
    }
}

/// How fast an account may send. WhatsApp restricts accounts that write to many strangers in a short time.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Pacing {
    /// Messages in a minute; 0 for any number.
    pub per_minute: u32,
    /// Chats in a day that were never written in before; 0 for any number.
    pub new_chats_per_day: u32,
    /// Days after linking in which a quarter of both holds.
    pub warm_up_days: u32,
}

impl Default for Pacing {
    fn default() -> Self {
        Self { per_minute: 60, new_chats_per_day: 0, warm_up_days: 0 }
    }
}

/// What is known of a server's certificate: its key, that of the certificate above it, and for how long both hold.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerCertChain {
    leaf: String,
    intermediate: String,
    not_before: i64,
    not_after: i64,
}

impl Config {
    /// Refuses what would send an account to somebody else's server.
    pub fn check(&self) -> Result<(), ChannelError> {
        for (name, url) in [("webSocketUrl", &self.web_socket_url), ("mediaUrl", &self.media_url)] {
            if url.as_deref().is_some_and(|url| !is_loopback(url)) {
                return Err(ChannelError::stopped(format!(
                    "config.{name} leads away from this machine; only a server on a loopback address may stand in for WhatsApp's"
                )));
            }
        }
        if self.server_cert_chain.is_some() && self.web_socket_url.is_none() {
            return Err(ChannelError::stopped(
                "config.serverCertChain is for a server that config.webSocketUrl names; WhatsApp's own proves itself",
            ));
        }
        if let Some(version) = &self.version {
            parse_version(version).ok_or_else(|| {
                ChannelError::stopped(format!("config.version {version:?} is no version like 2.3000.1035194821"))
            })?;
        }
        self.cert_chain()?;
        Ok(())
    }

    /// The version to tell, when it is not to be looked up.
    pub fn version(&self) -> Option<(u32, u32, u32)> {
        let told = self.version.as_deref().and_then(parse_version);
        // A stand-in has nothing to be looked up at.
        told.or_else(|| self.web_socket_url.is_some().then_some((2, 3000, 1_035_194_821)))
    }

    /// The certificate of a stand-in server.
    pub fn cert_chain(&self) -> Result<Option<CachedServerCertChain>, ChannelError> {
        let Some(chain) = &self.server_cert_chain else { return Ok(None) };
        let key = |name: &str, digits: &str| {
            let bytes = hex::decode(digits).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            bytes.ok_or_else(|| ChannelError::stopped(format!("config.serverCertChain.{name} is not 64 hex digits")))
        };
        let cert = |key| CachedNoiseCert { key, not_before: chain.not_before, not_after: chain.not_after };
        Ok(Some(CachedServerCertChain {
            leaf: cert(key("leaf", &chain.leaf)?),
            intermediate: cert(key("intermediate", &chain.intermediate)?),
        }))
    }
}

fn parse_version(version: &str) -> Option<(u32, u32, u32)> {
    let mut parts = version.split('.').map(str::parse);
    let version = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    parts.next().is_none().then_some(version)
}

/// Whether a URL leads to this machine. Names are not looked up, except for `localhost`.
fn is_loopback(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: serde_json::Value) -> Config {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn only_this_machine_may_stand_in_for_whatsapp() {
        for url in ["ws://127.0.0.1:9/ws/chat", "ws://[::1]:9/", "ws://localhost/"] {
            assert!(config(json!({"webSocketUrl": url})).check().is_ok(), "{url}");
        }
        for url in [
            "ws://10.0.0.1/",
            "wss://evil.example/",
            "ws://127.0.0.1.evil.example/",
            "ws://localhost@evil.example/",
            "nonsense",
        ] {
            let refused = config(json!({"webSocketUrl": url})).check().expect_err(url);
            assert!(refused.to_string().contains("leads away"), "{url}: {refused}");
        }
    }

    #[test]
    fn a_certificate_is_for_a_stand_in_only() {
        let chain = json!({"leaf": "aa".repeat(32), "intermediate": "bb".repeat(32), "notBefore": 1, "notAfter": 2});
        assert!(config(json!({"serverCertChain": chain})).check().is_err());
        let with_server = config(json!({"serverCertChain": chain, "webSocketUrl": "ws://127.0.0.1:1/"}));
        assert_eq!(with_server.cert_chain().unwrap().unwrap().leaf.key, [0xAA; 32]);
        let short = json!({"leaf": "aa", "intermediate": "bb".repeat(32), "notBefore": 1, "notAfter": 2});
        let refused =
            config(json!({"serverCertChain": short, "webSocketUrl": "ws://127.0.0.1:1/"})).check().expect_err("short");
        assert!(refused.to_string().contains("serverCertChain.leaf"), "{refused}");
    }

    #[test]
    fn a_version_has_three_numbers() {
        assert_eq!(config(json!({"version": "2.3000.5"})).version(), Some((2, 3000, 5)));
        for version in ["2.3000", "2.3000.5.1", "two", ""] {
            assert!(config(json!({"version": version})).check().is_err(), "{version}");
        }
    }
}
