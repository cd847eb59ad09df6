//! `omni audit`: who asked what of the API.

use super::client::Client;
use super::ui::{Ui, pick, time};
use super::{Paging, Result};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only by this key: its id or name
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Not older (2026-12-31T00:00:00Z)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Older
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only what was refused or failed
    #[arg(long)]
    failed: bool,
    #[command(flatten)]
    paging: Paging,
}

pub(super) async fn run(args: Args, client: &Client, ui: &mut Ui) -> Result<()> {
    let key = match &args.key {
        Some(key) => Some(super::keys::find(key, client).await?),
        None => None,
    };
    let query = [
        ("keyId", key),
        ("since", args.since),
        ("until", args.until),
        ("minStatus", args.failed.then(|| "400".to_owned())),
    ];
    let items = client.list("/audit", &query, args.paging).await?;
    ui.list(&items, &["TIME", "KEY", "ASKED", "ANSWER", "FROM"], "nothing was asked yet", |item| {
        vec![
            time(item, &["/timestamp"]),
            pick(item, &["/keyName"]),
            format!("{} {}", pick(item, &["/method"]), pick(item, &["/path"])),
            pick(item, &["/statusCode"]),
            pick(item, &["/ipAddress"]),
        ]
    })
}
