//! The smallest channel: takes messages over HTTP and keeps a record of what was sent.
//!
//! `POST /` with `{"chatId", "from", "externalId", "text", "name"?}` brings a message in; `GET /sent` lists what went
//! out. For demonstrations, and with [`generate`](Config::generate) for benchmarks. Deliberately no network behind it.

mod auth_state;
mod generate;
mod record;

use generate::Generate;
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::{AuthExport, AuthReport};
use record::Record;

/// A running echo.
#[derive(Debug)]
pub struct Echo {
    record: Record,
    generate: Option<Generate>,
}

/// Its configuration.
#[derive(Debug, Deserialize)]
pub struct Config {
    /// The address to take messages on; only the host's own webhook path when absent.
    pub listen: Option<String>,
    /// Makes messages up.
    pub generate: Option<Generate>,
}

/// A message as it is posted.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    chat_id: String,
    from: String,
    external_id: String,
    text: String,
    name: Option<String>,
}

impl Channel for Echo {
    type Config = Config;

    async fn start(ctx: &Context, config: Config) -> Result<Started<Self>, ChannelError> {
        let channel = Self { record: Record::load(ctx).await?, generate: config.generate };
        if channel.generate.is_some() {
            ctx.set_timer(generate::TIMER, 0);
        }
        ctx.state(ConnectionState::connected(Profile { id: "echo".into(), ..Profile::default() }));
        Ok(Started::new(channel, Webhook { listen: config.listen, ..Webhook::default() }))
    }

    // The default `on_events` does for a batch: nothing is awaited for a message, and all are stored together.
    async fn on_event(&self, ctx: &Context, event: IngressEvent) -> Result<EventOutcome, ChannelError> {
        match event {
            IngressEvent::Webhook { request } => match (request.method.as_str(), request.path.as_str()) {
                ("POST", "/" | "") => Ok(match posted(&request.body) {
                    Ok(posted) => take(ctx, posted),
                    Err(problem) => refuse(400, &problem),
                }),
                ("GET", "/sent") => Ok(EventOutcome::reply_json(200, &json!({"sent": self.record.list(ctx).await?}))),
                _ => Ok(refuse(404, "there is POST / and GET /sent")),
            },
            IngressEvent::Timer { tag } if tag == generate::TIMER => {
                if let Some(generate) = &self.generate {
                    generate.next_batch(ctx).await?;
                }
                Ok(EventOutcome::default())
            }
            _ => Ok(EventOutcome::default()),
        }
    }

    async fn send(&self, ctx: &Context, send: request::Send) -> Result<SendReceipt, SendError> {
        if let Content::LiveLocation(_) | Content::Buttons(_) | Content::System(_) | Content::Unknown(_) = send.content
        {
            return Err(SendError::unsupported(send.content.kind()));
        }
        self.record.write(ctx, "send", json!(send));
        Ok(SendReceipt::new(send.client_id.as_str()))
    }

    async fn edit(&self, ctx: &Context, edit: request::EditMessage) -> Result<(), SendError> {
        self.record.write(ctx, "edit", json!(edit));
        Ok(())
    }

    async fn delete(&self, ctx: &Context, delete: request::DeleteMessage) -> Result<(), SendError> {
        self.record.write(ctx, "delete", json!(delete));
        Ok(())
    }

    async fn react(&self, ctx: &Context, react: request::React) -> Result<(), SendError> {
        self.record.write(ctx, "react", json!(react));
        Ok(())
    }

    async fn typing(&self, ctx: &Context, typing: request::ShowTyping) -> Result<(), SendError> {
        self.record.write(ctx, "typing", json!(typing));
        Ok(())
    }

    async fn mark_read(&self, ctx: &Context, read: request::MarkRead) -> Result<(), SendError> {
        self.record.write(ctx, "markRead", json!(read));
        Ok(())
    }

    async fn import_auth(&self, ctx: &Context, asked: request::ImportAuth) -> Result<AuthReport, SendError> {
        auth_state::import(ctx, asked).await
    }

    async fn export_auth(&self, ctx: &Context, _: request::Nothing) -> Result<AuthExport, SendError> {
        auth_state::export(ctx).await.map_err(|error| SendError::transient(error.to_string()))
    }
}

/// Reads what was posted. The error is a sentence for the one who posted it.
fn posted(body: &[u8]) -> Result<Posted, String> {
    let posted: Posted = serde_json::from_slice(body)
        .map_err(|error| format!("the body is not {{chatId, from, externalId, text, name?}}: {error}"))?;
    for (field, value) in [("chatId", &posted.chat_id), ("from", &posted.from), ("externalId", &posted.external_id)] {
        if value.is_empty() || value.len() > 200 {
            return Err(format!("{field} has {} bytes; it takes 1 to 200", value.len()));
        }
    }
    if posted.text.len() > 65_536 || posted.name.as_ref().is_some_and(|name| name.len() > 1_000) {
        return Err("text takes at most 65,536 bytes and name 1,000".into());
    }
    Ok(posted)
}

fn take(ctx: &Context, posted: Posted) -> EventOutcome {
    let Posted { chat_id, from, external_id, text, name } = posted;
    // Written as JSON so that no two pairs of ids make one key.
    let key = json!([chat_id, external_id]).to_string();
    let answer = json!({"ok": true, "messageId": external_id});
    let user = User { name, ..User::new(from) };
    let message = Message::new(external_id, user, Content::text(text));
    ctx.emit(Event::new(Chat::new(chat_id, ChatKind::Direct), ctx.now(), message).delivered_as(key));
    EventOutcome::reply_json(200, &answer)
}

fn refuse(status: u16, problem: &str) -> EventOutcome {
    EventOutcome::reply_json(status, &json!({"ok": false, "error": problem}))
}

export_channel!(Echo, "../channel.json");
