//! What each part is told, out of the configuration.

use crate::bus::{BusOptions, Sizes};
use crate::clock::Clock;
use crate::config::Config;
use crate::data::DataFolder;
use crate::http::{ServeLimits, TrustedProxies};
use crate::plugins::signature::Key;
use crate::plugins::trust::TrustOptions;
use crate::plugins::wasm::Sandbox;
use crate::plugins::{Limits, PluginOptions};
use crate::webhooks::WebhookOptions;
use anyhow::Context;
use std::path::PathBuf;
use std::time::Duration;

/// What goes from host to host may be as large as what goes in and out of the API.
pub(super) fn sizes(config: &Config) -> Sizes {
    // Around a body is a little that says what it is.
    const AROUND: usize = 64 << 10;
    let http = &config.http;
    let largest = http.body_limit.as_usize().max(http.media_limit.as_usize()).saturating_add(AROUND);
    Sizes { largest, memory: http.request_memory.as_usize() / 2 }
}

pub(super) fn serve_limits(config: &Config) -> anyhow::Result<ServeLimits> {
    let proxies = TrustedProxies::new(&config.http.trusted_proxies).map_err(anyhow::Error::msg);
    Ok(ServeLimits {
        connections: config.http.max_connections,
        per_address: config.http.max_connections_per_address,
        proxies: proxies.context("failed to read `http.trusted_proxies`")?,
        header_timeout: Duration::from_secs(config.http.header_timeout_seconds.max(1)),
        body_timeout: Duration::from_secs(config.http.body_timeout_seconds.max(1)),
        write_timeout: Duration::from_secs(config.http.write_timeout_seconds.max(1)),
        drain: Duration::from_secs(config.http.shutdown_seconds),
    })
}

pub(super) fn webhook_options(config: &Config) -> WebhookOptions {
    WebhookOptions {
        within: Duration::from_secs(config.webhooks.timeout_seconds.max(1)),
        concurrency: config.webhooks.concurrency.max(1),
        disable_after: Duration::from_secs(86_400) * config.webhooks.disable_after_days.max(1),
        ..WebhookOptions::default()
    }
}

pub(super) fn bus_options(config: &Config) -> BusOptions {
    const DAY: Duration = Duration::from_secs(86_400);
    let days = |days: u32| if days == 0 { Duration::MAX } else { DAY * days };
    BusOptions {
        keep_log: days(config.retention.log_days),
        keep_keys: days(config.retention.delivery_key_days),
        ..BusOptions::default()
    }
}

pub(super) fn plugin_options(
    config: &Config,
    data: &DataFolder,
    bundled: Option<PathBuf>,
    program: PathBuf,
    clock: Clock,
) -> anyhow::Result<PluginOptions> {
    let folder = config.plugins_dir();
    std::fs::create_dir_all(&folder).with_context(|| format!("failed to make the folder {}", folder.display()))?;
    let cache = data.path.join("plugin-cache");
    std::fs::create_dir_all(&cache).with_context(|| format!("failed to make the folder {}", cache.display()))?;
    Ok(PluginOptions {
        sandbox: Sandbox::new(cache.join("compiled")),
        frame_within: Duration::from_secs(config.plugins.call_timeout_seconds.max(1)) / 2,
        folder: folder.canonicalize().with_context(|| format!("failed to find the folder {}", folder.display()))?,
        bundled,
        cache,
        isolation: config.plugins.isolation,
        limits: Limits::from(&config.plugins),
        grants: config.plugins_grants(),
        channels: config.plugins.channel.clone(),
        trust: TrustOptions {
            level: config.plugins.trust,
            keys: config
                .plugins
                .keys
                .iter()
                .map(|key| Key::parse(key))
                .collect::<Result<_, _>>()
                .map_err(anyhow::Error::msg)?,
            lock: config.plugins_lock(),
            versions: data.path.join("plugin-versions.toml"),
        },
        program,
        clock,
    })
}
