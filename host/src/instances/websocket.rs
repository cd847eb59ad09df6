//! The WebSocket ingress: the host holds the socket, the channel gets its frames and says what to write.

use super::ingress::{Backoff, End, Line};
use crate::plugins::session::CallError;
use futures_util::{SinkExt, StreamExt};
use omni_channel_sdk::ingress::{IngressEvent, Websocket};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

const CONNECT_WITHIN: Duration = Duration::from_secs(20);
const DEFAULT_IDLE: Duration = Duration::from_secs(90);
const MAX_FRAME: usize = 16 << 20;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Opens the socket again and again, until the instance is to end.
pub async fn run(line: Line, socket: Websocket) -> End {
    let mut backoff = Backoff::new();
    loop {
        let reason = match connect(&line, &socket).await {
            Ok(mut open) => match one_connection(&line, &socket, &mut open, &mut backoff).await {
                Ok((code, reason)) => {
                    let closed = IngressEvent::SocketClosed { tag: socket.tag.clone(), code, reason: reason.clone() };
                    if let Err(end) = hand_over(&line, closed).await {
                        return end;
                    }
                    reason
                }
                Err(end) => return end,
            },
            Err(reason) => reason,
        };
        line.reporter.poll_failed(&reason);
        line.services.clock().sleep(backoff.step()).await;
    }
}

async fn connect(line: &Line, socket: &Websocket) -> Result<Socket, String> {
    let secrets = line.services.secrets();
    let explain = |error: &dyn std::fmt::Display| secrets.redact(&format!("the WebSocket cannot be opened: {error}"));
    let mut request = secrets.fill(&socket.url).into_client_request().map_err(|error| explain(&error))?;
    for header in &socket.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|error| explain(&error))?;
        let value = HeaderValue::from_str(&secrets.fill(&header.value)).map_err(|error| explain(&error))?;
        request.headers_mut().append(name, value);
    }
    let config = WebSocketConfig::default().max_message_size(Some(MAX_FRAME)).max_frame_size(Some(MAX_FRAME));
    let url = reqwest::Url::parse(&secrets.fill(&socket.url)).map_err(|error| explain(&error))?;
    let destination = line.services.origins().destination(&url);
    let egress = line.services.http().egress();
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(443));
    let connecting = async {
        egress.check(&url, destination).map_err(|error| explain(&error))?;
        let stream = egress.connect(host, port, destination).await.map_err(|error| explain(&error))?;
        stream.set_nodelay(true).map_err(|error| explain(&error))?;
        let opened = client_async_tls_with_config(request, stream, Some(config), None).await;
        opened.map_err(|error| explain(&error))
    };
    match tokio::time::timeout(CONNECT_WITHIN, connecting).await {
        Ok(Ok((open, _))) => Ok(open),
        Ok(Err(sentence)) => Err(sentence),
        Err(_) => Err(explain(&"no answer in time")),
    }
}

/// Hands frames over until the socket closes; gives back the code and the reason.
async fn one_connection(
    line: &Line,
    socket: &Websocket,
    open: &mut Socket,
    backoff: &mut Backoff,
) -> Result<(Option<u16>, String), End> {
    let idle = socket.idle_ms.map_or(DEFAULT_IDLE, Duration::from_millis);
    let mut event = IngressEvent::SocketOpen { tag: socket.tag.clone() };
    loop {
        for text in hand_over(line, event).await? {
            let text = line.services.secrets().fill(&text);
            if let Err(error) = open.send(Message::text(text)).await {
                return Ok((None, format!("the WebSocket broke: {error}")));
            }
        }
        backoff.reset();
        let tag = socket.tag.clone();
        event = loop {
            match tokio::time::timeout(idle, open.next()).await {
                Err(_) => return Ok((None, format!("nothing came for {} s", idle.as_secs()))),
                Ok(None) => return Ok((None, "the WebSocket was closed".into())),
                Ok(Some(Err(error))) => return Ok((None, format!("the WebSocket broke: {error}"))),
                Ok(Some(Ok(Message::Text(text)))) => break IngressEvent::SocketText { tag, text: text.to_string() },
                Ok(Some(Ok(Message::Binary(bytes)))) => break IngressEvent::SocketBinary { tag, bytes: bytes.into() },
                Ok(Some(Ok(Message::Close(frame)))) => {
                    let code = frame.as_ref().map(|frame| frame.code.into());
                    let reason = frame.map(|frame| frame.reason.to_string()).unwrap_or_default();
                    return Ok((code, if reason.is_empty() { "the WebSocket was closed".into() } else { reason }));
                }
                // Pings are answered by the library.
                Ok(Some(Ok(_))) => {}
            }
        };
    }
}

/// Hands one event over, as often as it takes; gives back what is to be written.
async fn hand_over(line: &Line, event: IngressEvent) -> Result<Vec<String>, End> {
    let mut backoff = Backoff::new();
    loop {
        match line.session.events(vec![event.clone()], line.within).await {
            Ok(mut taken) => return Ok(taken.outcomes.pop().map(|outcome| outcome.socket_send).unwrap_or_default()),
            Err(CallError::NotStored(reason)) => {
                tracing::warn!(instance.id = %line.services.instance_id(), "a frame could not be stored: {reason}");
                line.services.clock().sleep(backoff.step()).await;
            }
            Err(error) => match line.verdict(error) {
                Err(end) => return Err(end),
                Ok(reason) => {
                    // The channel could not take this frame; the next may be good.
                    tracing::warn!(instance.id = %line.services.instance_id(), "a frame was not taken: {reason}");
                    return Ok(Vec::new());
                }
            },
        }
    }
}
