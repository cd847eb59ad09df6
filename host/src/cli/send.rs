//! `omni send`: one message, and whether it arrived.

use super::client::Client;
use super::ui::{Ui, pick};
use super::{CliError, Exit, Result};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use uuid::Uuid;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Through which instance: its name or id
    instance: String,
    /// To whom: a chat's or person's id, or the network's own
    #[arg(allow_hyphen_values = true)]
    to: String,
    /// The text, or the caption of a file; - reads it from standard input
    #[arg(allow_hyphen_values = true)]
    text: Option<String>,
    /// Send a file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["media_url", "location"])]
    file: Option<PathBuf>,
    /// Send a file that the server fetches
    #[arg(long, value_name = "URL", conflicts_with = "location")]
    media_url: Option<String>,
    /// What the file is [default: by its name]
    #[arg(long = "type", value_name = "TYPE", value_parser = ["image", "audio", "video", "document"])]
    kind: Option<String>,
    /// Send audio as a voice note
    #[arg(long)]
    voice: bool,
    /// Send a place
    #[arg(long, value_name = "LAT,LON", allow_hyphen_values = true, conflicts_with = "text")]
    location: Option<String>,
    /// Answer this message: our id or the network's
    #[arg(long, value_name = "MESSAGE")]
    reply_to: Option<String>,
    /// Makes sure that a repeated command sends once
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

pub(super) async fn run(mut args: Args, client: &Client, ui: &mut Ui, folder: &Path) -> Result<()> {
    if args.text.as_deref() == Some("-") {
        let mut text = String::new();
        ui.input.read_to_string(&mut text)?;
        args.text = Some(text.trim_end_matches('\n').to_owned());
    }
    let (path, mut body) = message(&args)?;
    if let Some(file) = &args.file {
        body["mediaId"] = upload(&folder.join(file), &args.instance, client).await?.into();
    }
    body["instanceId"] = args.instance.clone().into();
    body["to"] = args.to.clone().into();
    if let Some(reply_to) = &args.reply_to {
        body["replyTo"] = reply_to.clone().into();
    }
    let key = args.idempotency_key.unwrap_or_else(|| Uuid::now_v7().to_string());
    let (status, sent) = client.post_once(path, &body, &key).await?;
    report(status, &sent, ui)
}

/// Where the message is posted, and what is said of its content.
fn message(args: &Args) -> Result<(&'static str, Value)> {
    if let Some(place) = &args.location {
        let (latitude, longitude) = coordinates(place)?;
        return Ok(("/messages/send/location", json!({ "latitude": latitude, "longitude": longitude })));
    }
    let mut media = match (&args.file, &args.media_url) {
        (Some(file), _) => json!({ "type": kind_of(&file.to_string_lossy()) }),
        (None, Some(url)) => json!({ "url": url, "type": kind_of(url) }),
        (None, None) => match &args.text {
            Some(text) if !text.is_empty() => return Ok(("/messages/send", json!({ "text": text }))),
            _ => {
                return Err(
                    CliError::usage("there is nothing to send").help("give a text, --file, --media-url or --location")
                );
            }
        },
    };
    if let Some(kind) = &args.kind {
        media["type"] = kind.clone().into();
    }
    if args.voice {
        media["type"] = "audio".into();
        media["voiceNote"] = true.into();
    }
    if let Some(caption) = args.text.as_ref().filter(|text| !text.is_empty()) {
        media["caption"] = caption.clone().into();
    }
    Ok(("/messages/send/media", media))
}

async fn upload(path: &Path, instance: &str, client: &Client) -> Result<String> {
    let unreadable = |error| CliError::usage(format!("failed to read {}: {error}", path.display()));
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let about = file.metadata().await.map_err(unreadable)?;
    if !about.is_file() {
        return Err(CliError::usage(format!("{} is not a file", path.display())));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    client.upload(instance, &name, file, about.len()).await
}

/// What a file is, by the end of its name.
fn kind_of(name: &str) -> &'static str {
    let name = name.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    match name.rsplit('.').next().unwrap_or_default() {
        "jpg" | "jpeg" | "png" | "webp" => "image",
        "mp4" | "mov" | "webm" | "mkv" => "video",
        "mp3" | "m4a" | "ogg" | "oga" | "opus" | "wav" | "flac" => "audio",
        _ => "document",
    }
}

fn coordinates(place: &str) -> Result<(f64, f64)> {
    let parse = || {
        let (latitude, longitude) = place.split_once(',')?;
        Some((latitude.trim().parse::<f64>().ok()?, longitude.trim().parse::<f64>().ok()?))
    };
    match parse() {
        Some((latitude, longitude)) if latitude.abs() <= 90.0 && longitude.abs() <= 180.0 => Ok((latitude, longitude)),
        _ => {
            Err(CliError::usage(format!("{place:?} is no place"))
                .help("write latitude,longitude, such as 52.52,13.405"))
        }
    }
}

fn report(status: StatusCode, sent: &Value, ui: &mut Ui) -> Result<()> {
    let id = pick(sent, &["/messageId", "/id"]);
    let word = pick(sent, &["/status"]);
    if ui.json {
        ui.json(sent)?;
    } else {
        let theirs = pick(sent, &["/externalMessageId"]);
        ui.pairs(&[("Message", id.clone()), ("Network's id", theirs), ("Status", word.clone())])?;
    }
    let follow = format!("`omni messages show {id}` says what became of it; it is not to be sent again");
    match word.as_str() {
        "failed" => Err(CliError::new(Exit::NotDelivered, "the message was not delivered")
            .help(format!("`omni messages show {id}` says why"))),
        "unknown" => {
            let what = "it is not known whether the message was delivered";
            Err(CliError::new(Exit::NotDelivered, with_why(what, sent)).help(follow))
        }
        _ if status == StatusCode::ACCEPTED => {
            let what = "the message was accepted, and is not delivered yet";
            Err(CliError::new(Exit::NotDelivered, with_why(what, sent)).help(follow))
        }
        _ => Ok(()),
    }
}

fn with_why(what: &str, sent: &Value) -> String {
    let why = pick(sent, &["/message"]);
    if why.is_empty() { what.to_owned() } else { format!("{what}: {why}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_name() {
        for (name, kind) in
            [("a.JPG", "image"), ("https://x/y.mp4?z=.png", "video"), ("v.ogg", "audio"), ("x", "document")]
        {
            assert_eq!(kind_of(name), kind, "{name}");
        }
    }

    #[test]
    fn a_place_is_two_numbers_on_earth() {
        assert_eq!(coordinates("-52.5, 13").expect("fits"), (-52.5, 13.0));
        for place in ["", "1", "1,2,3", "91,0", "0,181", "NaN,0", "a,b"] {
            assert!(coordinates(place).is_err(), "{place}");
        }
    }
}
