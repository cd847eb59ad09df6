//! Ingresses that hold a connection: the WebSocket that the host keeps open, against a real server, and a channel's own.

use crate::harness::{PATIENCE, Setup, TestHost, free_address};
use futures_util::{SinkExt, StreamExt};
use omni_host::config::Isolation;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_async};

/// The network's side of a WebSocket.
pub struct Network {
    listener: TcpListener,
    url: String,
}

impl Network {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/gateway", listener.local_addr().unwrap());
        Self { listener, url }
    }

    pub fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// The next connection of the host, before a word is said.
    pub async fn stream(&self) -> TcpStream {
        timeout(PATIENCE, self.listener.accept()).await.expect("the host connects").unwrap().0
    }

    /// The next connection of the host.
    pub async fn accept(&self) -> Connection {
        Connection(accept_async(self.stream().await).await.unwrap())
    }
}

pub struct Connection(WebSocketStream<TcpStream>);

impl Connection {
    /// The next text that the channel wrote.
    pub async fn text(&mut self) -> String {
        loop {
            let next = timeout(PATIENCE, self.0.next()).await.expect("something comes");
            match next.expect("the socket is open").expect("the socket is good") {
                Message::Text(text) => return text.to_string(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?} is no text"),
            }
        }
    }

    async fn message(&mut self, seq: u64) {
        let text = json!({"chatId": "room", "from": "ann", "externalId": format!("m{seq}"), "text": format!("{seq}"), "seq": seq});
        self.0.send(Message::text(text.to_string())).await.unwrap();
    }

    /// Waits until the host has closed it; gives back the close code if it said one.
    async fn closed(&mut self) -> Option<u16> {
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("it is closed") {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
                None | Some(Err(_)) => return None,
                Some(Ok(_)) => {}
            }
        }
    }
}

/// A channel that holds a socket to the network, and the address on which it tells what it did.
async fn connected(host: &TestHost, network: &Network, more: Value) -> (String, String) {
    let address = free_address();
    let mut config = json!({"listen": address, "socketUrl": network.url});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let id = host.instance("socket", "faulty", config).await;
    (id, format!("http://{address}"))
}

async fn texts(host: &TestHost, id: &str) -> Vec<String> {
    host.settle().await;
    let messages = host.messages(id, "room").await;
    messages.iter().map(|message| message["textContent"].as_str().unwrap().to_owned()).collect()
}

async fn batches(address: &str) -> Vec<usize> {
    let told: Value = reqwest::get(address).await.unwrap().json().await.unwrap();
    serde_json::from_value(told["batches"].clone()).unwrap()
}

fn faulty(isolation: Isolation) -> Setup {
    Setup { plugins: vec!["faulty"], isolation, ..Setup::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_come_in_together_and_the_channel_goes_on_where_it_was() {
    for isolation in [Isolation::InProcess, Isolation::Process] {
        let host = TestHost::with(faulty(isolation)).await;
        let network = Network::start().await;
        let (id, address) = connected(&host, &network, json!({})).await;
        let mut first = network.accept().await;
        assert_eq!(first.text().await, "resume 0");
        for seq in 1..=500 {
            first.message(seq).await;
        }
        for seq in 1..=500 {
            // What is acknowledged is durable.
            assert_eq!(first.text().await, format!("ack {seq}"));
        }
        let expected: Vec<String> = (1..=500).map(|seq| seq.to_string()).collect();
        assert_eq!(texts(&host, &id).await, expected);
        let batches = batches(&address).await;
        assert_eq!(batches.iter().sum::<usize>(), 500);
        assert!(batches.len() < 500, "frames that wait are handed over together: {batches:?}");

        let close = CloseFrame { code: 4_009.into(), reason: "session timed out".into() };
        first.0.close(Some(close)).await.unwrap();
        let mut second = network.accept().await;
        assert_eq!(second.text().await, "resume 500", "what it kept was committed with the frames");
        host.until_state(&id, "connected").await;
        second.message(500).await;
        second.message(501).await;
        assert_eq!(second.text().await, "ack 500");
        assert_eq!(second.text().await, "ack 501");
        assert_eq!(texts(&host, &id).await.len(), 501, "what came again is stored once");
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_is_no_good_does_not_take_its_neighbours_along() {
    let host = TestHost::with(faulty(Isolation::InProcess)).await;
    let network = Network::start().await;
    let (id, _) = connected(&host, &network, json!({})).await;
    let mut socket = network.accept().await;
    socket.text().await;
    for seq in 1..=3 {
        socket.message(seq).await;
        let bad = json!({"chatId": "room", "from": "ann", "externalId": format!("bad{seq}"), "text": "invalid"});
        socket.0.send(Message::text(bad.to_string())).await.unwrap();
    }
    socket.0.send(Message::binary(vec![0xff; 1_000])).await.unwrap();
    socket.message(4).await;
    for seq in 1..=4 {
        assert_eq!(socket.text().await, format!("ack {seq}"));
    }
    assert_eq!(texts(&host, &id).await, ["1", "2", "3", "4"]);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_answers_pings_is_kept_and_a_dead_one_is_not() {
    let host = TestHost::with(faulty(Isolation::InProcess)).await;
    let network = Network::start().await;
    let (id, _) = connected(&host, &network, json!({"socketIdleMs": 1_500})).await;
    let mut alive = network.accept().await;
    alive.text().await;
    // Silent for far longer than is allowed, but for the answers to pings, which the library gives while it is read.
    let mut pings = 0;
    while pings < 6 {
        if let Message::Ping(_) = timeout(PATIENCE, alive.0.next()).await.expect("pings come").unwrap().unwrap() {
            pings += 1;
        }
    }
    alive.message(1).await;
    assert_eq!(alive.text().await, "ack 1", "it is the same connection");
    // Now nobody reads, so nobody answers.
    let mut again = network.accept().await;
    assert_eq!(again.text().await, "resume 1");
    assert_eq!(texts(&host, &id).await, ["1"]);
    drop(alive);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_is_too_large_ends_the_connection_and_says_so() {
    let host = TestHost::with(faulty(Isolation::InProcess)).await;
    let network = Network::start().await;
    let (id, _) = connected(&host, &network, json!({})).await;
    let mut socket = network.accept().await;
    socket.text().await;
    let (mut write, read) = socket.0.split();
    let sending = tokio::spawn(async move {
        // It may be cut off before all of it is out.
        let _ = write.send(Message::text("x".repeat((16 << 20) + 1))).await;
        write
    });
    let mut socket = Connection(read.reunite(sending.await.unwrap()).unwrap());
    assert!(matches!(socket.closed().await, Some(1_009) | None), "message too big, if it could still be said");
    let mut again = network.accept().await;
    again.text().await;
    host.until_state(&id, "connected").await;
    again.message(1).await;
    assert_eq!(again.text().await, "ack 1");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_closes_at_once_is_not_hammered() {
    let host = TestHost::with(Setup { manual_clock: true, ..faulty(Isolation::InProcess) }).await;
    let clock = host.clock.clone().unwrap();
    let network = Network::start().await;
    let (id, _) = connected(&host, &network, json!({})).await;
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let server = tokio::spawn(async move {
        loop {
            let mut socket = network.accept().await;
            socket.text().await;
            // It may be gone already.
            let _ = socket.0.close(None).await;
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    for _ in 0..240 {
        clock.advance(Duration::from_millis(250));
        host.until_state(&id, "disconnected").await;
    }
    // A minute with 0.5, 1, 2, 4 … s between two attempts, less the jitter; without backoff it were more than a hundred.
    let connections = connections.load(Ordering::Relaxed);
    assert!((2..=12).contains(&connections), "{connections} connections in a minute");
    server.abort();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_or_none_at_all_says_so_and_is_tried_again() {
    let host = TestHost::start().await;
    let address = free_address();
    let taken = TcpListener::bind(&address).await.unwrap();
    let id = host.instance("taken", "echo", json!({"listen": address})).await;
    let status = host.until_state(&id, "disconnected").await;
    let message = status["message"].as_str().unwrap();
    assert!(message.contains(&format!("the address {address} cannot be opened")), "{status}");
    drop(taken);
    host.until_state(&id, "connected").await;
    host.say(&format!("http://{address}"), "room", "m1", "free now").await;
    let id = host.instance("none", "echo", json!({"listen": "everywhere"})).await;
    let status = host.until_state(&id, "disconnected").await;
    assert!(status["message"].as_str().unwrap().contains("write it like 127.0.0.1:9040"), "{status}");
    host.stop().await;
}

/// Hands a line to a channel that listens by itself; gives back its answer.
fn line(connection: &std::net::TcpStream, id: &str) -> String {
    let line = json!({"chatId": "room", "from": "ann", "externalId": id, "text": id});
    (&mut &*connection).write_all(format!("{line}\n").as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(connection).read_line(&mut answer).unwrap();
    answer.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_with_its_own_ingress_is_told_when_its_events_are_durable() {
    for isolation in [Isolation::InProcess, Isolation::Process] {
        let host = TestHost::with(faulty(isolation)).await;
        let own = free_address();
        let id = host.instance("own", "faulty", json!({"own": own})).await;
        host.until_state(&id, "connected").await;
        let connection = std::net::TcpStream::connect(&own).unwrap();
        for n in 0..50 {
            assert_eq!(line(&connection, &format!("m{n}")), "ok");
        }
        assert_eq!(line(&connection, "m49"), "ok", "what the network sends again is taken again");
        drop(connection);
        let expected: Vec<String> = (0..50).map(|n| format!("m{n}")).collect();
        assert_eq!(texts(&host, &id).await, expected);

        // Acknowledged is durable: a host that starts on the same folder has it, whatever became of the first.
        host.post(&format!("/instances/{id}/disconnect"), json!({})).await;
        let refused = timeout(PATIENCE, async {
            while TcpStream::connect(&own).await.is_ok() {
                tokio::task::yield_now().await;
            }
        });
        refused.await.expect("a stop ends its ingress");
        let host = host.restart(faulty(isolation)).await;
        assert_eq!(texts(&host, &id).await, expected);
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_that_outlives_its_instance_is_heard_by_nobody() {
    for isolation in [Isolation::InProcess, Isolation::Process] {
        let host = TestHost::with(faulty(isolation)).await;
        let own = free_address();
        let id = host.instance("own", "faulty", json!({"own": own, "mode": "ownLingers"})).await;
        host.until_state(&id, "connected").await;
        let connection = std::net::TcpStream::connect(&own).unwrap();
        assert_eq!(line(&connection, "before"), "ok");
        host.post(&format!("/instances/{id}/disconnect"), json!({})).await;
        if isolation == Isolation::InProcess {
            // The thread cannot be ended; what it says is not taken, and it is told so.
            let answer = line(&connection, "after");
            assert!(answer.starts_with("failed: "), "{answer}");
        } else {
            // It went with its process.
            let mut rest = String::new();
            let read = BufReader::new(&connection).read_line(&mut rest);
            assert!(matches!(read, Ok(0) | Err(_)), "{rest:?}");
        }
        assert_eq!(texts(&host, &id).await, ["before"]);
        host.stop().await;
    }
}
