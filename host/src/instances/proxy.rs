//! The proxy of an instance's own, which wins over the configuration's. Its address may hold a user and a password, so it is
//! sealed like a secret and shown without them.
//!
//! Deliberately not here: going by way of it (`egress`). Whatever cannot be read or may not be used ends the instance: it
//! never connects past its proxy.

use super::{InstanceError, grants};
use crate::egress::{Destination, Egress, proxy};
use crate::plugins::http_calls::HttpCalls;
use crate::secrets::Sealer;
use crate::store::instances::InstanceRow;
use reqwest::Url;

/// Takes it away.
const NONE: &str = "none";

/// What a sealed address is bound to.
fn context(row: &InstanceRow) -> String {
    format!("instance-proxy:{}", row.id)
}

/// Sets the proxy of a row, or takes it away (`none`).
pub(super) async fn set(
    row: &mut InstanceRow,
    text: &str,
    egress: &Egress,
    sealer: &Sealer,
    by_operator: bool,
) -> Result<(), InstanceError> {
    if text == NONE {
        row.proxy = None;
        row.proxy_granted = false;
        return Ok(());
    }
    // It may hold a password, so it is not repeated.
    let wrong = |what| InstanceError::Invalid(format!("proxy {what}, or \"{NONE}\""));
    let url = proxy::parse(text).map_err(wrong)?;
    let is_same = open(row, sealer).is_ok_and(|before| before.as_ref() == Some(&url));
    if !is_same || by_operator {
        row.proxy_granted = grants::may_lead_to(egress, "proxy", &url, by_operator).await?;
    }
    row.proxy = Some(sealer.seal(&context(row), url.as_str().as_bytes()));
    Ok(())
}

fn open(row: &InstanceRow, sealer: &Sealer) -> Result<Option<Url>, String> {
    let Some(sealed) = &row.proxy else { return Ok(None) };
    let plain = sealer.open(&context(row), sealed).map_err(|error| error.to_string())?;
    let text = std::str::from_utf8(&plain).map_err(|_| "the stored address is damaged".to_owned())?;
    proxy::parse(text).map(Some).map_err(|what| format!("the stored address {what}"))
}

/// Its address as it may be shown.
pub(super) fn shown(row: &InstanceRow, sealer: &Sealer) -> Option<String> {
    match open(row, sealer) {
        Ok(url) => url.map(|url| proxy::shown(&url)),
        Err(reason) => Some(format!("({reason})")),
    }
}

/// The calls of an instance: by way of its own proxy if it has one. Or why that cannot be, in a sentence.
pub(super) fn calls(row: &InstanceRow, sealer: &Sealer, shared: &HttpCalls) -> Result<HttpCalls, String> {
    let again = |reason: String| format!("its proxy cannot be used: {reason}");
    let url = open(row, sealer).map_err(|reason| again(format!("{reason}; set it again with --proxy")))?;
    let Some(url) = url else { return Ok(shared.clone()) };
    let egress = shared.egress().by_way_of(url, Destination::granted(row.proxy_granted));
    let egress = egress.map_err(|error| again(error.to_string()))?;
    shared.through(egress).map_err(|error| again(error.to_string()))
}
