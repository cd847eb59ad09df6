//! The WebSocket ingress: the host holds the socket, the channel gets its frames and says what to write.
//!
//! Frames that wait are handed over together and committed together. A peer that is silent is asked (ping); one that
//! does not answer is dead. What the channel does with a socket from elsewhere (a timer, a request) comes over the
//! [`Switchboard`]. Deliberately not here: resuming. A frame that came but was not committed when the socket
//! broke is the network's to send again: the channel says where it stands when the socket opens.

use super::ingress::{Backoff, End, Line};
use crate::egress::proxy::Stream;
use crate::egress::tls;
use crate::plugins::session::CallError;
use futures_util::{FutureExt, SinkExt, StreamExt};
use omni_channel_sdk::ingress::{EventOutcome, IngressEvent, SocketAct, Websocket};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

const CONNECT_WITHIN: Duration = Duration::from_secs(20);
/// How long the peer may take to take what is written.
const WRITE_WITHIN: Duration = Duration::from_secs(20);
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
const DEFAULT_IDLE: Duration = Duration::from_secs(90);
/// A silent peer is asked so often before it is dead, in equal pieces of that time.
const PINGS: u32 = 2;
/// The largest frame that is taken.
const MAX_FRAME: usize = 16 << 20;
/// Frames that are handed over in one call, and about how many bytes they have together.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 4 << 20;
/// A connection that lasted so long was a good one: the next failure is a first one again.
const GOOD_LIFE_MS: i64 = 30_000;

type Socket = WebSocketStream<MaybeTlsStream<Stream>>;

/// Why a connection has ended: the close code if there was one, and a sentence.
type Closed = (Option<u16>, String);

/// What a channel may have waiting for one socket that does not take it.
const ACTS_AT_MOST: usize = 1_024;

/// Brings what a channel does with its sockets to each of them.
#[derive(Debug, Default)]
pub struct Switchboard(HashMap<String, mpsc::Sender<SocketAct>>);

impl Switchboard {
    /// The line to the socket with this tag.
    pub fn line(&mut self, tag: &str) -> mpsc::Receiver<SocketAct> {
        let (acts, line) = mpsc::channel(ACTS_AT_MOST);
        self.0.insert(tag.to_owned(), acts);
        line
    }

    /// Runs until the instance ends.
    pub async fn run(self, line: Line, mut acts: mpsc::UnboundedReceiver<SocketAct>) -> End {
        let warn = |what: String| tracing::warn!(instance.id = %line.services.instance_id(), "{what}");
        while let Some(act) = acts.recv().await {
            match self.0.get(&act.tag) {
                None => warn(format!("the channel turns to a socket {:?}, which it did not declare", act.tag)),
                Some(socket) => {
                    if let Err(mpsc::error::TrySendError::Full(act)) = socket.try_send(act) {
                        warn(format!("too much waits for the socket {:?}; something was dropped", act.tag));
                    }
                }
            }
        }
        End::Retry("the instance has ended".into())
    }
}

/// How the socket is opened the next time, as far as the channel said so.
#[derive(Debug, Default)]
struct Next {
    url: Option<String>,
    after: Option<Duration>,
}

impl Next {
    fn note(&mut self, act: &SocketAct) {
        if let Some(url) = &act.url {
            self.url = Some(url.clone()).filter(|url| !url.is_empty());
        }
        self.after = act.reopen_after_ms.map(Duration::from_millis).or(self.after);
    }
}

/// Opens the socket again and again, until the instance is to end.
pub async fn run(line: Line, socket: Websocket, mut acts: mpsc::Receiver<SocketAct>) -> End {
    let mut backoff = Backoff::new();
    let mut next = Next { url: socket.first_url.clone(), after: None };
    loop {
        let clock = line.services.clock();
        let reason = match connect(&line, &socket, next.url.as_deref()).await {
            Ok(open) => {
                let began = clock.now();
                let (code, reason) = match one_connection(&line, &socket, open, &mut acts, &mut next).await {
                    Ok(closed) => closed,
                    Err(end) => return end,
                };
                let closed = IngressEvent::SocketClosed { tag: socket.tag.clone(), code, reason: reason.clone() };
                if let Err(end) = hand_over(&line, vec![closed]).await {
                    return end;
                }
                if clock.now() >= began.plus_millis(GOOD_LIFE_MS) {
                    backoff.reset();
                }
                reason
            }
            Err(reason) => {
                // The ingress's own address is the one that is known to be good.
                next.url = None;
                reason
            }
        };
        line.reporter.poll_failed(&reason);
        let step = backoff.step();
        settle(&line, &mut acts, &mut next, step).await;
    }
}

/// Waits until the socket is to be opened again; what the channel says meanwhile counts.
async fn settle(line: &Line, acts: &mut mpsc::Receiver<SocketAct>, next: &mut Next, step: Duration) {
    let clock = line.services.clock();
    let closed = clock.now();
    loop {
        while let Ok(act) = acts.try_recv() {
            next.note(&act);
        }
        tokio::select! {
            biased;
            act = acts.recv() => match act {
                Some(act) => next.note(&act),
                None => break,
            },
            () = clock.sleep_until(closed.plus(next.after.unwrap_or(step))) => break,
        }
    }
    next.after = None;
}

async fn connect(line: &Line, socket: &Websocket, elsewhere: Option<&str>) -> Result<Socket, String> {
    let address = elsewhere.unwrap_or(&socket.url);
    let secrets = line.services.secrets();
    let explain = |error: &dyn std::fmt::Display| secrets.redact(&format!("the WebSocket cannot be opened: {error}"));
    let because = |error: &(dyn std::error::Error + 'static)| explain(&tls::explain(error));
    let mut request = secrets.fill(address).into_client_request().map_err(|error| explain(&error))?;
    for header in &socket.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|error| explain(&error))?;
        let value = HeaderValue::from_str(&secrets.fill(&header.value)).map_err(|error| explain(&error))?;
        request.headers_mut().append(name, value);
    }
    let config = WebSocketConfig::default().max_message_size(Some(MAX_FRAME)).max_frame_size(Some(MAX_FRAME));
    let url = reqwest::Url::parse(&secrets.fill(address)).map_err(|error| explain(&error))?;
    line.services.origins().check(&url).map_err(|sentence| explain(&sentence))?;
    let destination = line.services.origins().destination(&url);
    let egress = line.services.http().egress();
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(443));
    let connecting = async {
        egress.check(&url, destination).map_err(|error| explain(&error))?;
        let stream = egress.connect(host, port, destination).await.map_err(|error| explain(&error))?;
        let connector = Connector::Rustls(egress.tls().map_err(|error| because(&error))?);
        let opened = client_async_tls_with_config(request, stream, Some(config), Some(connector)).await;
        opened.map_err(|error| because(&error))
    };
    match timeout(CONNECT_WITHIN, connecting).await {
        Ok(Ok((open, _))) => Ok(open),
        Ok(Err(sentence)) => Err(sentence),
        Err(_) => Err(explain(&"no answer in time")),
    }
}

/// Hands frames over until the socket closes.
async fn one_connection(
    line: &Line,
    socket: &Websocket,
    open: Socket,
    acts: &mut mpsc::Receiver<SocketAct>,
    next: &mut Next,
) -> Result<Closed, End> {
    // What was meant for the connection before is of no use to this one.
    while let Ok(act) = acts.try_recv() {
        next.note(&act);
    }
    let mut peer = Peer {
        open,
        tag: socket.tag.clone(),
        idle: socket.idle_ms.map_or(DEFAULT_IDLE, Duration::from_millis),
        unanswered: 0,
        closed: None,
    };
    let mut events = vec![IngressEvent::SocketOpen { tag: socket.tag.clone() }];
    loop {
        for outcome in hand_over(line, events).await? {
            if let Err(closed) = peer.say(line, &outcome.socket_send).await {
                return Ok(closed);
            }
        }
        line.reporter.poll_worked();
        events = loop {
            tokio::select! {
                biased;
                Some(act) = acts.recv() => {
                    next.note(&act);
                    if let Err(closed) = peer.act(line, act).await {
                        return Ok(closed);
                    }
                }
                events = peer.read() => break events,
            }
        };
        if events.is_empty() {
            return Ok(peer.closed.unwrap_or_else(|| (None, "the WebSocket was closed".into())));
        }
    }
}

/// The other side of an open socket.
struct Peer {
    open: Socket,
    tag: String,
    /// It is dead when nothing came for so long, although it was asked.
    idle: Duration,
    /// Pings since something came. Counted, so that a host that gets no turn for long does not blame the peer.
    unanswered: u32,
    /// Why nothing comes any more.
    closed: Option<Closed>,
}

impl Peer {
    /// Writes texts, with the secrets in place of the words for them.
    async fn say(&mut self, line: &Line, texts: &[String]) -> Result<(), Closed> {
        for text in texts {
            self.write(Message::text(line.services.secrets().fill(text))).await?;
        }
        Ok(())
    }

    /// Does what the channel wants; an error when that ends the connection.
    async fn act(&mut self, line: &Line, act: SocketAct) -> Result<(), Closed> {
        self.say(line, &act.send).await?;
        let Some(code) = act.close else { return Ok(()) };
        let named = Some(CloseCode::from(code)).filter(|code| code.is_allowed()).unwrap_or(CloseCode::Normal);
        let frame = CloseFrame { code: named, reason: "".into() };
        // A peer that does not listen is left all the same.
        let _ = timeout(CLOSE_WITHIN, self.open.close(Some(frame))).await;
        Err((Some(code), "the channel closed it".into()))
    }

    /// Waits for frames and takes all that are there; none when the socket has closed. Nothing is lost when it is given up.
    async fn read(&mut self) -> Vec<IngressEvent> {
        let mut events = Vec::new();
        let mut bytes = 0;
        while self.closed.is_none() && events.len() < BATCH && bytes < BATCH_BYTES {
            let next = if events.is_empty() {
                timeout(self.idle / (PINGS + 1), self.open.next()).await.ok()
            } else {
                self.open.next().now_or_never()
            };
            let Some(message) = next else {
                if !events.is_empty() {
                    break;
                }
                self.ask().await;
                continue;
            };
            self.unanswered = 0;
            let tag = self.tag.clone();
            match message {
                Some(Ok(Message::Text(text))) => {
                    bytes += text.len();
                    events.push(IngressEvent::SocketText { tag, text: text.to_string() });
                }
                Some(Ok(Message::Binary(body))) => {
                    bytes += body.len();
                    events.push(IngressEvent::SocketBinary { tag, bytes: body.into() });
                }
                // Pings are answered by the library.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(frame))) => self.closed = Some(closed_by(frame)),
                Some(Err(error)) => self.broken(error).await,
                None => self.closed = Some((None, "the WebSocket was closed".into())),
            }
        }
        events
    }

    /// Asks a silent peer whether it is there; one that owes an answer for too long is dead.
    async fn ask(&mut self) {
        if self.unanswered >= PINGS {
            let seconds = self.idle.as_secs_f64();
            self.closed = Some((None, format!("nothing came for {seconds} s, and no ping was answered")));
        } else if let Err(closed) = self.write(Message::Ping(Bytes::new())).await {
            self.closed = Some(closed);
        }
        self.unanswered += 1;
    }

    async fn write(&mut self, message: Message) -> Result<(), Closed> {
        match timeout(WRITE_WITHIN.min(self.idle), self.open.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err((None, format!("the WebSocket broke: {error}"))),
            Err(_) => Err((None, "the other side of the WebSocket does not read".into())),
        }
    }

    async fn broken(&mut self, error: Error) {
        let Error::Capacity(CapacityError::MessageTooLong { size, max_size }) = error else {
            self.closed = Some((None, format!("the WebSocket broke: {error}")));
            return;
        };
        let what = format!("a frame of {size} bytes came; {max_size} are taken");
        self.closed = Some((Some(u16::from(CloseCode::Size)), what));
        let reason = "larger than is taken here".into();
        let close = self.open.close(Some(CloseFrame { code: CloseCode::Size, reason }));
        // It is told why, if it listens.
        let _ = timeout(CLOSE_WITHIN, close).await;
    }
}

fn closed_by(frame: Option<CloseFrame>) -> Closed {
    let code = frame.as_ref().map(|frame| frame.code.into());
    let reason = frame.map(|frame| frame.reason.to_string()).filter(|reason| !reason.is_empty());
    (code, reason.unwrap_or_else(|| "the WebSocket was closed".into()))
}

/// Hands events over, as often as it takes, and singly when they cannot be taken together.
async fn hand_over(line: &Line, events: Vec<IngressEvent>) -> Result<Vec<EventOutcome>, End> {
    if let Some(outcomes) = offer(line, &events).await? {
        return Ok(outcomes);
    }
    let mut outcomes = Vec::new();
    if events.len() > 1 {
        for event in events {
            outcomes.extend(offer(line, &[event]).await?.unwrap_or_default());
        }
    }
    Ok(outcomes)
}

/// Offers events to the channel until they are stored; nothing when the channel cannot take them.
async fn offer(line: &Line, events: &[IngressEvent]) -> Result<Option<Vec<EventOutcome>>, End> {
    let mut backoff = Backoff::new();
    loop {
        match line.events("websocket", events.to_vec()).await {
            Ok(taken) => return Ok(Some(taken.outcomes)),
            Err(CallError::NotStored(reason)) => {
                tracing::warn!(instance.id = %line.services.instance_id(), "frames could not be stored: {reason}");
                line.services.clock().sleep(backoff.step()).await;
            }
            Err(error) => {
                let reason = line.verdict(error)?;
                // The channel could not take these frames; the next may be good.
                tracing::warn!(
                    instance.id = %line.services.instance_id(), frames = events.len(), "frames were not taken: {reason}"
                );
                return Ok(None);
            }
        }
    }
}
