//! Clients of echo instances: keep-alive connections, each with one message under way.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// An address on this machine where nobody listens.
pub fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").to_string()
}

/// Posts so many messages to instances in turn, round-robin over the chats of each, and returns when the last is
/// acknowledged.
pub async fn post(addresses: &[String], chats: u64, connections: u64, messages: u64) {
    let mut clients = JoinSet::new();
    for (client, address) in (0..connections).zip(addresses.iter().cycle()) {
        clients.spawn(talk(address.clone(), client, connections, chats, messages));
    }
    while let Some(done) = clients.join_next().await {
        done.expect("a client ends well");
    }
}

async fn talk(address: String, client: u64, connections: u64, chats: u64, messages: u64) {
    let mut stream = TcpStream::connect(&address).await.expect("echo listens");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    let mut answer = vec![0; 4_096];
    let step = usize::try_from(connections).expect("a sensible number");
    for number in (client..messages).step_by(step) {
        let body = format!(
            "{{\"chatId\":\"c{0}\",\"from\":\"u{0}\",\"externalId\":\"m{number}\",\"text\":\"{1}\"}}",
            number % chats,
            "the quick brown fox jumps over the lazy dog ".repeat(2),
        );
        let request = format!(
            "POST / HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len(),
        );
        stream.write_all(request.as_bytes()).await.expect("a request goes out");
        let mut got = 0;
        while !complete(&answer[..got]) {
            let read = stream.read(&mut answer[got..]).await.expect("an answer comes in");
            assert!(read > 0, "echo closed the connection");
            got += read;
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..got]));
    }
}

/// Whether a whole answer is there: its head, and as many bytes as that announces.
fn complete(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
    answer.len() >= end + 4 + length.unwrap_or(0)
}
