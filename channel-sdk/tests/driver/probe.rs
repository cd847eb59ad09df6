//! A channel that does what the text of a message says.

use omni_channel_sdk::prelude::*;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

#[derive(Debug)]
pub struct Probe;

#[derive(Debug, Deserialize)]
pub struct Config {
    how: String,
}

/// Says in the log that it was dropped, or panics.
struct Guard(Context, bool);

impl Drop for Guard {
    fn drop(&mut self) {
        assert!(!self.1, "on purpose, in a destructor");
        self.0.log(LogLevel::Info, "dropped");
    }
}

impl Channel for Probe {
    type Config = Config;

    async fn start(_ctx: &Context, config: Config) -> Result<Started<Self>, ChannelError> {
        assert_ne!(config.how, "panic", "on purpose, in the start");
        Ok(Started { channel: Self, ingress: Vec::new() })
    }

    async fn on_events(&self, _ctx: &Context, events: Vec<IngressEvent>) -> Result<Vec<EventOutcome>, ChannelError> {
        Ok(events.iter().skip(1).map(|_| EventOutcome::default()).collect())
    }

    async fn send(&self, ctx: &Context, send: request::Send) -> Result<SendReceipt, SendError> {
        let text = send.client_id.as_str();
        let id = match text {
            "panic" => panic!("on purpose"),
            "ask" => ask(ctx).await?,
            "ask then panic" => {
                ask(ctx).await?;
                panic!("on purpose, behind a question")
            }
            "wait with a guard" | "wait with a bad guard" => {
                let _guard = Guard(ctx.clone(), text.contains("bad"));
                ask(ctx).await?
            }
            "thread" => thread().await,
            "yield" => {
                yields(3).await;
                "yielded".into()
            }
            "both" => both(ctx).await?,
            "read" => format!("{:?}", ctx.get("key").await?),
            "write" | "write and fail" | "write and panic" => {
                ctx.set("written", format!("by {text}"));
                ctx.emit(Event::new(
                    Chat::new("c", ChatKind::Direct),
                    5,
                    Message::new("m", User::new("u"), send.content),
                ));
                assert!(!text.ends_with("panic"), "on purpose, after writing");
                if text.ends_with("fail") {
                    return Err(SendError::transient("on purpose"));
                }
                text.into()
            }
            text if text.starts_with('{') => look(ctx, text).await?,
            text => text.into(),
        };
        Ok(SendReceipt::new(id))
    }
}

async fn ask(ctx: &Context) -> Result<String, HttpFailure> {
    let response = ctx.http(HttpCall::get("https://api.example/")).await?;
    Ok(String::from_utf8_lossy(&response.body).into_owned())
}

async fn both(ctx: &Context) -> Result<String, HttpFailure> {
    let (mut first, mut second) = (pin!(ask(ctx)), pin!(ask(ctx)));
    let (mut a, mut b) = (None, None);
    poll_fn(|cx| {
        if a.is_none()
            && let Poll::Ready(answer) = first.as_mut().poll(cx)
        {
            a = Some(answer);
        }
        if b.is_none()
            && let Poll::Ready(answer) = second.as_mut().poll(cx)
        {
            b = Some(answer);
        }
        if a.is_some() && b.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    Ok(format!("{}+{}", a.expect("both are there")?, b.expect("both are there")?))
}

async fn thread() -> String {
    let (sender, receiver) = std::sync::mpsc::channel();
    let mut sender = Some(sender);
    poll_fn(move |cx| {
        if let Some(sender) = sender.take() {
            let waker = cx.waker().clone();
            std::thread::spawn(move || {
                if sender.send("woken").is_ok() {
                    waker.wake();
                }
            });
            return Poll::Pending;
        }
        match receiver.try_recv() {
            Ok(word) => Poll::Ready(word.to_owned()),
            Err(_) => Poll::Pending,
        }
    })
    .await
}

async fn yields(mut times: u32) {
    poll_fn(move |cx| {
        if times == 0 {
            return Poll::Ready(());
        }
        times -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn look(ctx: &Context, text: &str) -> Result<String, SendError> {
    let look: Value = serde_json::from_str(text).map_err(|error| SendError::invalid(error.to_string()))?;
    for step in look["steps"].as_array().into_iter().flatten() {
        match (step["set"].as_str(), step["delete"].as_str()) {
            (Some(key), _) => ctx.set(key, "written"),
            (_, Some(key)) => ctx.delete(key),
            _ => {}
        }
    }
    let words = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let limit = u32::try_from(look["limit"].as_u64().unwrap_or_default()).unwrap_or(u32::MAX);
    let scan = ctx.scan(look["prefix"].as_str().unwrap_or_default(), look["after"].as_str(), limit).await?;
    let scan: Vec<(String, String)> = scan.into_iter().map(|(key, value)| (key, words(value))).collect();
    let get = ctx.get(look["get"].as_str().unwrap_or_default()).await?.map(words);
    Ok(json!({"scan": scan, "get": get}).to_string())
}
