//! Which fields of an instance's configuration lead into the private network, and who may point them there.
//!
//! A field whose schema has the format `uri` is an address that the host will call on behalf of the channel. The operator
//! (the key that may do everything) grants a private one by setting it; everybody else is refused, so that a key which
//! may make instances cannot point a plugin at the inside of the network.
//!
//! The address of a proxy is subject to the same.
//!
//! Deliberately not here: the guard itself, which looks at every connection as it is made (`egress`).

use super::InstanceError;
use crate::egress::address::Reach;
use crate::egress::{Egress, EgressError, Origins};
use omni_channel_sdk::manifest::ChannelManifest;
use reqwest::Url;
use serde_json::{Map, Value};

/// A change of a configuration.
pub(super) struct Asked<'a> {
    /// The fields that are set; `null` takes one away.
    pub fields: &'a Map<String, Value>,
    /// What they were.
    pub before: &'a Map<String, Value>,
    /// Whether the operator asks.
    pub by_operator: bool,
}

/// The names of the fields that are addresses.
fn address_fields(manifest: &ChannelManifest) -> impl Iterator<Item = &str> {
    let properties = manifest.config_schema.get("properties").and_then(Value::as_object);
    let is_address = |schema: &Value| schema.get("format").and_then(Value::as_str) == Some("uri");
    properties.into_iter().flatten().filter(move |(_, schema)| is_address(schema)).map(|(name, _)| name.as_str())
}

/// The fields that may lead to private addresses after the change, from those that might before.
pub(super) async fn settle(
    egress: &Egress,
    manifest: &ChannelManifest,
    asked: Asked<'_>,
    mut granted: Vec<String>,
) -> Result<Vec<String>, InstanceError> {
    for field in address_fields(manifest) {
        let Some(value) = asked.fields.get(field) else { continue };
        if asked.before.get(field) == Some(value) && !asked.by_operator {
            continue;
        }
        granted.retain(|name| name != field);
        // What is no address at all is the schema's to refuse.
        let Some(url) = value.as_str().and_then(|text| Url::parse(text).ok()) else { continue };
        if may_lead_to(egress, &format!("config.{field}"), &url, asked.by_operator).await? {
            granted.push(field.to_owned());
        }
    }
    Ok(granted)
}

/// Whether setting an address grants that it leads to a private one; an error when who asks may not set it. `name` is
/// what it is called by whoever sets it.
pub(super) async fn may_lead_to(
    egress: &Egress,
    name: &str,
    url: &Url,
    by_operator: bool,
) -> Result<bool, InstanceError> {
    match egress.reach_of(url).await {
        Ok(Reach::Public) => Ok(false),
        Ok(Reach::Private) if by_operator => Ok(true),
        Ok(Reach::Private) => Err(InstanceError::NotAllowed(format!(
            "{name} leads to a private address; only the key that may do everything can set that, \
             or the operator grants the range in network.allow_private"
        ))),
        Ok(Reach::Special) => Err(InstanceError::Invalid(format!(
            "{name} leads to an address that is refused to everybody (link-local, metadata, \
             multicast); the operator can grant it in network.allow_private"
        ))),
        // A name that leads nowhere now is looked at again when it is called.
        Err(EgressError::Unresolved { .. }) => Ok(false),
        Err(error) => Err(InstanceError::Invalid(format!("{name}: {error}"))),
    }
}

/// What the granted fields of a configuration lead to.
pub(super) fn origins(config: &Map<String, Value>, granted: &[String]) -> Origins {
    Origins::of(granted.iter().filter_map(|field| config.get(field)?.as_str()))
}

/// The same for a plugin in a sandbox: it goes only to the hosts that its manifest names, and to those that it was pointed
/// at.
pub(super) fn sandboxed(manifest: &ChannelManifest, config: &Map<String, Value>, granted: &[String]) -> Origins {
    let pointed_at = address_fields(manifest).filter_map(|field| config.get(field)?.as_str());
    let hosts = pointed_at.filter_map(|url| Url::parse(url).ok()?.host_str().map(str::to_owned));
    origins(config, granted).only(manifest.hosts.iter().cloned().chain(hosts))
}
