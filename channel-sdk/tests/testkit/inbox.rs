//! A small long-poll channel, with one fault that its configuration asks for.

use omni_channel_sdk::capabilities::Capabilities;
use omni_channel_sdk::content::{Entity, EntityKind, Plain};
use omni_channel_sdk::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug)]
pub struct Inbox {
    config: Config,
    /// For the faults that keep in memory what belongs into the store.
    memory: AtomicU64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    token: String,
    base_url: String,
    fault: String,
}

#[derive(Deserialize)]
struct Updates {
    updates: Vec<Update>,
}

#[derive(Deserialize)]
struct Update {
    id: u64,
    chat: String,
    from: String,
    text: String,
    at: Value,
}

impl Inbox {
    fn fault(&self, name: &str) -> bool {
        self.config.fault == name
    }

    fn event(&self, ctx: &Context, update: Update) -> Event {
        let at = update.at.as_i64();
        let at = if self.fault("panics on odd values") { at.expect("odd") } else { at.unwrap_or(ctx.now()) };
        let key = match self.config.fault.as_str() {
            "keys by clock" => format!("{}-{}", update.id, ctx.now()),
            "keys by count" => self.memory.fetch_add(1, Ordering::Relaxed).to_string(),
            "says too much" => update.id.to_string().repeat(1_100),
            _ => update.id.to_string(),
        };
        let from = if self.fault("names nobody") { String::new() } else { update.from };
        let mut text = Text::plain(update.text);
        if self.fault("formats beyond the end") {
            text.entities.push(Entity { offset: 3, length: 3, kind: EntityKind::Bold(Plain {}) });
        }
        let message = Message::new(update.id.to_string(), User::new(from), Content::Text(text));
        let at = if self.fault("counts in seconds") { at / 1_000 } else { at };
        Event::new(Chat::new(update.chat, ChatKind::Direct), at, message).delivered_as(key)
    }

    async fn take(&self, ctx: &Context, body: &[u8]) -> Result<EventOutcome, ChannelError> {
        let updates = serde_json::from_slice::<Updates>(body);
        if updates.is_err() {
            self.garbage(ctx);
        }
        let known = self.memory.load(Ordering::Relaxed);
        for update in updates?.updates {
            if self.fault("remembers what failed") && update.id <= known {
                continue;
            }
            if self.fault("remembers what failed") {
                self.memory.store(update.id, Ordering::Relaxed);
            }
            ctx.set("after", update.id.to_string());
            let event = self.event(ctx, update);
            if self.fault("stores early") {
                let mut batch = Batch::new();
                batch.event(event);
                ctx.accept(batch).await?;
            } else {
                ctx.emit(event);
            }
        }
        Ok(EventOutcome::default())
    }

    fn garbage(&self, ctx: &Context) {
        assert!(!self.fault("panics on garbage"), "what is this?");
        if self.fault("emits garbage") {
            ctx.emit(Event::new(
                Chat::new("c", ChatKind::Direct),
                5,
                Message::new("m", User::new("u"), Content::text("?")),
            ));
        }
        if self.fault("forgets its position") {
            ctx.delete("after");
        }
    }
}

impl Channel for Inbox {
    type Config = Config;

    async fn start(ctx: &Context, config: Config) -> Result<Started<Self>, ChannelError> {
        match config.fault.as_str() {
            "logs its token" => ctx.log(LogLevel::Info, format!("logging in with {}", config.token)),
            "stores its token" => ctx.set("token", config.token.clone()),
            _ => {}
        }
        Ok(Started::new(Self { config, memory: AtomicU64::new(0) }, LongPoll::default()))
    }

    async fn next_poll(&self, ctx: &Context, _tag: &str) -> Result<HttpCall, ChannelError> {
        let after = ctx.get("after").await?.unwrap_or_default();
        let url = format!("{}/updates?after={}", self.config.base_url, String::from_utf8_lossy(&after));
        Ok(HttpCall::get(url).header("authorization", format!("Bearer {}", self.config.token)))
    }

    async fn on_event(&self, ctx: &Context, event: IngressEvent) -> Result<EventOutcome, ChannelError> {
        match event {
            IngressEvent::PollResponse { response, .. } if response.is_success() => {
                let taken = self.take(ctx, &response.body).await;
                // These go on as if nothing had happened.
                let careless = self.fault("emits garbage") || self.fault("forgets its position");
                if careless { Ok(taken.unwrap_or_default()) } else { taken }
            }
            IngressEvent::PollResponse { response, .. } => {
                Err(ChannelError::transient(format!("the network answered {}", response.status)))
            }
            _ => Ok(EventOutcome::default()),
        }
    }

    async fn send(&self, ctx: &Context, send: request::Send) -> Result<SendReceipt, SendError> {
        if self.fault("never ends a send") {
            loop {
                ctx.get("after").await?;
            }
        }
        let Some(text) = send.content.words().filter(|_| matches!(send.content, Content::Text(_))) else {
            if self.fault("sends anything") {
                return Ok(SendReceipt::new("1"));
            }
            return Err(SendError::unsupported(send.content.kind()));
        };
        let reply_to = send.reply_to.map(|message| message.id);
        let mut json = json!({"chat": send.chat, "text": text.text, "replyTo": reply_to});
        if self.fault("posts its token") {
            json["token"] = json!(self.config.token);
        }
        let call = HttpCall::post_json(format!("{}/messages", self.config.base_url), json);
        let response = match ctx.http(call).await {
            Ok(response) => response,
            Err(failure) if self.fault("is always certain") => return Err(SendError::transient(failure.message)),
            Err(failure) => return Err(failure.into()),
        };
        if response.status == 429 {
            let seconds: u64 = response.header("retry-after").and_then(|value| value.parse().ok()).unwrap_or(1);
            return Err(SendError::rate_limited(seconds * 1_000, "the network asks to wait"));
        }
        let id = response.json::<Value>().ok().and_then(|json| json["id"].as_u64());
        match id.filter(|_| response.is_success()) {
            Some(id) => Ok(SendReceipt::new(id.to_string())),
            None if self.fault("tells its token when it fails") => {
                Err(SendError::uncertain(format!("{} is not good", self.config.token)))
            }
            None => Err(SendError::uncertain(format!("the network answered {}", response.status))),
        }
    }

    async fn capabilities(&self, _: &Context, _: request::ChatCapabilities) -> Result<Capabilities, SendError> {
        if self.fault("says yes to everything") {
            return Ok(Capabilities::default());
        }
        Err(SendError::unsupported("capabilities per chat"))
    }

    async fn stop(&self, _ctx: &Context) {
        assert!(!self.fault("panics when it stops"), "not now");
    }
}
