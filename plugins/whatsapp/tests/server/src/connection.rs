//! One chat socket from its upgrade to its end: bytes to frames, frames to stanzas, and the other way round.

use crate::handshake::{self, Failure, Opened, Step};
use crate::server::Server;
use crate::stanza::Node;
use crate::{login, received};
use anyhow::{Context as _, bail};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};
use wacore_binary::marshal::{marshal, unmarshal_ref};
use wacore_binary::util::unpack;

/// How long a client that was told to go may stay.
const GRACE: Duration = Duration::from_secs(1);

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// What the rest of the server tells a connection.
pub enum Outgoing {
    /// Send this.
    Node(Node),
    /// Say goodbye and end.
    Close,
    /// End without a word, as a network that fails.
    Cut,
}

/// `GET /ws/chat`.
pub async fn upgrade(State(server): State<Arc<Server>>, mut request: Request) -> Response {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        return (StatusCode::BAD_REQUEST, "this is a WebSocket").into_response();
    };
    let accept = derive_accept_key(key.as_bytes());
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(stream) => {
                let socket = WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Server, None).await;
                serve(&server, socket).await;
            }
            Err(why) => server.world().log.note(0, format!("no upgrade: {why}")),
        }
    });
    let headers =
        [(header::CONNECTION, "upgrade"), (header::UPGRADE, "websocket"), (header::SEC_WEBSOCKET_ACCEPT, &accept)];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

async fn serve(server: &Server, socket: Socket) {
    let mut frames = Frames { socket, buffer: Vec::new(), header: None };
    let opened = match open(server, &mut frames).await {
        Ok(opened) => opened,
        Err(why) => return server.world().log.note(0, format!("no handshake: {why:#}")),
    };
    let (sender, mut outbox) = unbounded_channel();
    let id = login::opened(&mut server.world(), sender, &opened);
    let (mut sent, mut received) = (0, 0);
    let ended = loop {
        tokio::select! {
            biased;
            next = outbox.recv() => match next {
                Some(Outgoing::Node(node)) => match seal(&opened, &mut sent, &node) {
                    Ok(frame) => if let Err(why) = frames.send(&frame).await { break Err(why) },
                    Err(why) => break Err(why),
                },
                Some(Outgoing::Close) | None => {
                    frames.part().await;
                    break Ok(());
                }
                Some(Outgoing::Cut) => break Ok(()),
            },
            next = frames.next() => match next.and_then(|frame| frame.map(|frame| unseal(&opened, &mut received, frame)).transpose()) {
                Ok(Some(node)) => received::stanza(&mut server.world(), id, &node),
                Ok(None) => break Ok(()),
                Err(why) => break Err(why),
            },
        }
    };
    let mut world = server.world();
    if let Err(why) = ended {
        world.log.note(id, format!("ended: {why:#}"));
    }
    login::closed(&mut world, id);
}

async fn open(server: &Server, frames: &mut Frames) -> anyhow::Result<Opened> {
    let hello = frames.next().await?.context("it ended before it said hello")?;
    let header = frames.header.context("it has no intro")?;
    match handshake::hello(&server.certificate, header, &hello)? {
        Step::Open(answer, opened) => {
            frames.send(&answer).await?;
            Ok(*opened)
        }
        Step::Reply(answer, waiting) => {
            frames.send(&answer).await?;
            let finish = frames.next().await?.context("it ended within the handshake")?;
            Ok(waiting.finish(&finish)?)
        }
    }
}

fn seal(opened: &Opened, counter: &mut u32, node: &Node) -> anyhow::Result<Vec<u8>> {
    let sealed = opened.write.encrypt_with_counter(*counter, &marshal(node)?)?;
    *counter += 1;
    Ok(sealed)
}

fn unseal(opened: &Opened, counter: &mut u32, mut frame: Vec<u8>) -> anyhow::Result<Node> {
    opened.read.decrypt_in_place_with_counter(*counter, &mut frame)?;
    *counter += 1;
    let plain = unpack(&frame)?;
    Ok(unmarshal_ref(&plain).context("a stanza cannot be read")?.to_owned())
}

/// Frames within the messages of a WebSocket, whose limits mean nothing.
struct Frames {
    socket: Socket,
    buffer: Vec<u8>,
    header: Option<[u8; 4]>,
}

impl Frames {
    /// Lets the client go first, which reads what it was told before it sees the end; it may not want to.
    async fn part(&mut self) {
        let gone = async { while let Some(Ok(_)) = self.socket.next().await {} };
        if timeout(GRACE, gone).await.is_err() {
            let _ = self.socket.close(None).await;
        }
    }

    /// The next one; `None` when the client has closed. Cancelled, it loses nothing.
    async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(Some(frame));
            }
            match self.socket.next().await {
                Some(Ok(Message::Binary(bytes))) => self.buffer.extend_from_slice(&bytes),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Ok(None),
                Some(Ok(other)) => bail!("a frame that is not binary: {other}"),
                Some(Err(why)) => return Err(why.into()),
            }
        }
    }

    fn take(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        if self.header.is_none() {
            self.header = handshake::intro(&mut self.buffer)?;
        }
        if self.header.is_none() || self.buffer.len() < 3 {
            return Ok(None);
        }
        let length = usize::from(self.buffer[0]) << 16 | usize::from(self.buffer[1]) << 8 | usize::from(self.buffer[2]);
        if self.buffer.len() < 3 + length {
            return Ok(None);
        }
        let frame = self.buffer[3..3 + length].to_vec();
        self.buffer.drain(..3 + length);
        Ok(Some(frame))
    }

    async fn send(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        let Ok(length @ ..0x0100_0000) = u32::try_from(payload.len()) else {
            bail!("a frame of {} bytes", payload.len())
        };
        let frame = [&length.to_be_bytes()[1..], payload].concat();
        self.socket.send(Message::Binary(frame.into())).await?;
        Ok(())
    }
}
