//! `omni events`: what happened, and with `--follow` what happens, from where it was left off when the line breaks.

use super::client::Client;
use super::replays;
use super::sse::SseReader;
use super::ui::{Ui, clean, pick, shorten, time};
use super::{CliError, Exit, Paging, Result, Wait};
use futures_util::StreamExt;
use serde_json::Value;
use std::collections::HashMap;
use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    /// Go on and print what happens
    #[arg(long, short)]
    follow: bool,
    /// Begin at this time (2026-01-31T12:00:00Z); with --follow also behind the event of this number, 0 for all
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only events of this type (message.received); with --follow several, with commas, and message.* for all of a kind
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only those of this instance
    #[arg(long)]
    instance: Option<String>,
    /// Most events to print [default: 50, or without end when following]
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    /// Print every event there is
    #[arg(long, conflicts_with_all = ["limit", "follow"])]
    all: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Hand a consumer once more what happened
    Replay {
        /// For whom: a webhook, by id or name
        #[arg(long)]
        consumer: String,
        #[command(flatten)]
        wanted: replays::Wanted,
    },
    /// List the last replays and how far they have come
    Replays,
    /// Cancel a replay that runs
    CancelReplay {
        /// Its id
        id: String,
    },
}

pub(super) async fn run(args: Args, client: &Client, ui: &mut Ui, clock: &Wait) -> Result<()> {
    match args.command {
        Some(Command::Replay { consumer, wanted }) => {
            return replays::start(&consumer, wanted, client, ui, clock).await;
        }
        Some(Command::Replays) => return replays::list(client, ui).await,
        Some(Command::CancelReplay { id }) => return replays::cancel(&id, client, ui).await,
        None => {}
    }
    let mut printer = Printer { names: names(client).await?, left: args.limit.unwrap_or(usize::MAX) };
    if args.follow {
        let after = match &args.since {
            Some(since) => place(since, args.instance.as_ref(), client).await?,
            None => None,
        };
        let query = [("type", args.kind), ("instanceId", args.instance), ("after", after)];
        return follow(&query, client, ui, clock, &mut printer).await;
    }
    let query = [("since", args.since), ("eventType", args.kind), ("instanceId", args.instance)];
    let paging = Paging { limit: args.limit.unwrap_or(50), all: args.all };
    let items = client.list("/events", &query, paging).await?;
    if ui.json {
        return ui.json(&items);
    }
    if items.is_empty() {
        return ui.note("nothing has happened");
    }
    // The API gives the latest first; people read down to it.
    for item in items.iter().rev() {
        ui.line(&printer.line(item))?;
    }
    Ok(())
}

/// The number of the event that lies just before `since`, which is a number already or a time. `None` when nothing has
/// happened since then.
async fn place(since: &str, instance: Option<&String>, client: &Client) -> Result<Option<String>> {
    if since.parse::<u64>().is_ok() {
        return Ok(Some(since.to_owned()));
    }
    let query = [("since", Some(since.to_owned())), ("instanceId", instance.cloned())];
    let oldest = client.last("/events", &query).await?;
    Ok(oldest.and_then(|event| event["seq"].as_i64()).map(|seq| (seq - 1).to_string()))
}

/// Instance id → name, so that a line says which one it was.
async fn names(client: &Client) -> Result<HashMap<String, String>> {
    match client.list("/instances", &[], Paging { limit: 0, all: true }).await {
        Ok(items) => Ok(items.iter().map(|item| (pick(item, &["/id"]), pick(item, &["/name"]))).collect()),
        // A key that may only read events sees ids.
        Err(error) if matches!(error.exit, Exit::NotAuthorised) => Ok(HashMap::new()),
        Err(error) => Err(error),
    }
}

struct Printer {
    names: HashMap<String, String>,
    /// How many more events are wanted.
    left: usize,
}

async fn follow(
    query: &[(&str, Option<String>)],
    client: &Client,
    ui: &mut Ui,
    clock: &Wait,
    printer: &mut Printer,
) -> Result<()> {
    let mut last: Option<String> = None;
    let mut response = client.stream("/events/stream", query, None).await?;
    let mut pause = FIRST_PAUSE;
    loop {
        let before = printer.left;
        let why = read(response, &mut last, ui, printer).await?;
        if printer.left == 0 {
            return Ok(());
        }
        if printer.left < before {
            pause = FIRST_PAUSE;
        }
        ui.note(&format!("{why}; trying again"))?;
        response = loop {
            clock.sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
            // Until there is an event to go on from, the place that was named holds.
            match client.stream("/events/stream", query, last.as_deref()).await {
                Ok(response) => break response,
                Err(error) if matches!(error.exit, Exit::Unreachable) => {}
                Err(error) => return Err(error),
            }
        };
        ui.note("connected again")?;
    }
}

/// Prints what comes until the stream ends, and says why it did.
async fn read(
    response: reqwest::Response,
    last: &mut Option<String>,
    ui: &mut Ui,
    printer: &mut Printer,
) -> Result<String> {
    let mut reader = SseReader::default();
    let mut bytes = response.bytes_stream();
    while let Some(piece) = bytes.next().await {
        let Ok(piece) = piece else { return Ok("the connection broke".into()) };
        for event in reader.push(&piece).map_err(|error| CliError::failed(error.to_string()))? {
            if let Some(id) = event.id {
                *last = Some(id);
            }
            if event.name == "gap" {
                ui.note(&format!("warning: some events are missing here: {}", clean(&event.data)))?;
                continue;
            }
            if event.name == "end" {
                let end: Value = serde_json::from_str(&event.data).unwrap_or_default();
                return Ok(format!("the server ended the stream: {}", clean(&pick(&end, &["/reason"]))));
            }
            let Ok(content) = serde_json::from_str::<Value>(&event.data) else { continue };
            if ui.json {
                ui.json_line(&content)?;
            } else {
                ui.line(&printer.line(&content))?;
                ui.out.flush()?;
            }
            printer.left -= 1;
            if printer.left == 0 {
                return Ok(String::new());
            }
        }
    }
    Ok("the server ended the stream".into())
}

/// What goes through one channel, a line each.
pub(super) struct Traffic {
    channel: String,
    bytes: futures_util::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    reader: SseReader,
    waiting: std::collections::VecDeque<String>,
    printer: Printer,
}

impl Traffic {
    /// From now on.
    pub async fn of(channel: &str, client: &Client) -> Result<Self> {
        let printer = Printer { names: names(client).await?, left: usize::MAX };
        let bytes = client.stream("/events/stream", &[], None).await?.bytes_stream().boxed();
        let (reader, waiting) = (SseReader::default(), std::collections::VecDeque::new());
        Ok(Self { channel: channel.to_owned(), bytes, reader, waiting, printer })
    }

    /// The next line; nothing when the stream has ended.
    pub async fn next(&mut self, client: &Client) -> Result<Option<String>> {
        loop {
            if let Some(line) = self.waiting.pop_front() {
                return Ok(Some(line));
            }
            let Some(Ok(piece)) = self.bytes.next().await else { return Ok(None) };
            for event in self.reader.push(&piece).map_err(|error| CliError::failed(error.to_string()))? {
                let Ok(content) = serde_json::from_str::<Value>(&event.data) else { continue };
                if pick(&content, &["/metadata/channelType", "/channel"]) == self.channel {
                    // It may have been made a moment ago.
                    if !self.printer.names.contains_key(&pick(&content, &["/metadata/instanceId", "/instanceId"])) {
                        self.printer.names = names(client).await?;
                    }
                    self.waiting.push_back(self.printer.line(&content));
                }
            }
        }
    }
}

impl Printer {
    /// One event in one line: time, type, instance, chat, sender, text.
    fn line(&self, event: &Value) -> String {
        let instance = pick(event, &["/metadata/instanceId", "/instanceId"]);
        let instance = self.names.get(&instance).cloned().unwrap_or(instance);
        let chat = pick(event, &["/payload/chatName", "/chatName", "/payload/chatId", "/chatId", "/payload/chat/id"]);
        let sender =
            ["/payload/fromName", "/senderName", "/payload/from", "/payload/sender/name", "/from", "/payload/to"];
        let text = [
            "/payload/content/text",
            "/payload/text",
            "/textContent",
            "/textPreview",
            "/payload/emoji",
            "/payload/error",
            "/payload/reason",
            "/errorMessage",
        ];
        let kind = pick(event, &["/payload/content/type", "/contentType"]);
        let mut text = shorten(&pick(event, &text), 100);
        if !kind.is_empty() && kind != "text" {
            text = format!("[{}] {text}", clean(&kind));
        }
        let parts = [
            time(event, &["/timestamp", "/receivedAt", "/createdAt"]),
            pick(event, &["/type", "/eventType"]),
            instance,
            chat,
            shorten(&pick(event, &sender), 30),
            text,
        ];
        let parts: Vec<_> =
            parts.iter().map(|part| clean(part).trim().to_owned()).filter(|part| !part.is_empty()).collect();
        parts.join("  ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_one_line_that_cannot_paint_over_the_terminal() {
        let printer = Printer { names: HashMap::from([("i1".into(), "support".into())]), left: 1 };
        let event = json!({
            "id": "1", "type": "message.received",
            "metadata": { "instanceId": "i1" },
            "payload": { "chatId": "42", "from": "Ann", "content": { "type": "text", "text": "a\nb\u{1b}[2Jc" } },
        });
        assert_eq!(printer.line(&event), "message.received  support  42  Ann  a b\u{fffd}[2Jc");
        let row =
            json!({ "eventType": "message.sent", "instanceId": "i2", "contentType": "image", "textContent": "x" });
        assert_eq!(printer.line(&row), "message.sent  i2  [image] x");
    }
}
