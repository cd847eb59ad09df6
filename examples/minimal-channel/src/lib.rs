//! An inbox over plain HTTP: the server holds `GET /messages?after=ID` until there is something to tell.

use omni_channel_sdk::prelude::*;

#[derive(Debug, Deserialize)]
pub struct Config {
    url: String,
    token: String,
}

#[derive(Debug)]
pub struct Inbox(Config);

#[derive(Deserialize)]
struct Letter {
    id: u64,
    chat: String,
    from: String,
    text: String,
    at: i64,
}

impl Inbox {
    fn authorized(&self, call: HttpCall) -> HttpCall {
        call.header("authorization", format!("Bearer {}", self.0.token))
    }
}

impl Channel for Inbox {
    type Config = Config;

    async fn start(ctx: &Context, config: Config) -> Result<Started<Self>, ChannelError> {
        ctx.state(ConnectionState::connected(None));
        Ok(Started::new(Self(config), LongPoll::default()))
    }

    async fn next_poll(&self, ctx: &Context, _tag: &str) -> Result<HttpCall, ChannelError> {
        let after = ctx.get("after").await?.unwrap_or_else(|| b"0".to_vec());
        let url = format!("{}/messages?after={}", self.0.url, String::from_utf8_lossy(&after));
        Ok(self.authorized(HttpCall::get(url)).timeout_ms(60_000))
    }

    async fn on_event(&self, ctx: &Context, event: IngressEvent) -> Result<EventOutcome, ChannelError> {
        let IngressEvent::PollResponse { response, .. } = event else { return Ok(EventOutcome::default()) };
        let letters: Vec<Letter> = match response.status {
            200 => response.json()?,
            401 => {
                return Err(ChannelError::logged_out(
                    "the server refuses the token",
                    "put a new token into the configuration",
                ));
            }
            status => return Err(ChannelError::transient(format!("the server answered {status}"))),
        };
        for letter in letters {
            let id = letter.id.to_string();
            let message = Message::new(id.clone(), User::new(letter.from), Content::text(letter.text));
            ctx.set("after", id.clone());
            ctx.emit(Event::new(Chat::new(letter.chat, ChatKind::Direct), letter.at, message).delivered_as(id));
        }
        Ok(EventOutcome::default())
    }

    async fn send(&self, ctx: &Context, send: request::Send) -> Result<SendReceipt, SendError> {
        let Content::Text(text) = send.content else { return Err(SendError::unsupported(send.content.kind())) };
        let json = json!({"chat": send.chat, "text": text.text, "clientId": send.client_id});
        let response = ctx.http(self.authorized(HttpCall::post_json(format!("{}/messages", self.0.url), json))).await?;
        match (response.status, response.json::<Value>()) {
            (200, Ok(answer)) if answer["id"].is_u64() => Ok(SendReceipt::new(answer["id"].to_string())),
            (401, _) => Err(SendError::unauthorized("the server refuses the token")),
            (429, _) => Err(SendError::rate_limited(1_000, "the server asks to wait")),
            (400..500, _) => Err(SendError::invalid(format!("the server refused it with {}", response.status))),
            (status, _) => Err(SendError::uncertain(format!("the server answered {status}"))),
        }
    }
}

export_channel!(Inbox, "../channel.json");
