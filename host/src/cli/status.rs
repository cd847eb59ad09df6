//! `omni status`: whether the server is well.

use super::client::Client;
use super::ui::{Ui, pick};
use super::{CliError, Result};
use serde_json::Value;

pub(super) async fn run(client: &Client, ui: &mut Ui) -> Result<()> {
    let health = client.get("/health").await?;
    let status = pick(&health, &["/status"]);
    if ui.json {
        ui.json(&health)?;
    } else {
        let mut pairs = vec![
            ("Server", client.server().to_owned()),
            ("Status", status.clone()),
            ("Version", pick(&health, &["/version"])),
            ("Up for", pick(&health, &["/uptime"]).parse().map(duration).unwrap_or_default()),
            ("Connected", of(&health, "/instances/connected", "/instances/total")),
        ];
        for (name, check) in health["checks"].as_object().into_iter().flatten() {
            pairs.push((name, [pick(check, &["/status"]), pick(check, &["/error"])].join(" ").trim().to_owned()));
        }
        ui.pairs(&pairs)?;
    }
    match status.as_str() {
        "healthy" | "ok" | "degraded" => Ok(()),
        other => Err(CliError::failed(format!("the server says that it is {other:?}"))),
    }
}

fn of(value: &Value, part: &str, whole: &str) -> String {
    match (pick(value, &[part]), pick(value, &[whole])) {
        (part, whole) if whole.is_empty() => part,
        (part, whole) => format!("{part} of {whole} instances"),
    }
}

fn duration(seconds: f64) -> String {
    let seconds = seconds as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}
