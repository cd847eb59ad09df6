//! A WhatsApp server for tests: the chat socket, the files, and an interface by which a test acts as the phone, as the
//! network that fails, or as whoever looks at what was said.
//!
//! It never sees a plaintext. What clients encrypt for each other it only passes on, so that a test in which two clients
//! understand each other says something about the clients. It knows nothing of the project's own channel either, and
//! keeps everything in memory: a server that is started anew has no accounts.

mod accounts;
mod admin;
mod calls;
mod certificate;
mod clock;
mod connection;
mod devices;
mod groups;
mod handshake;
mod iq;
mod log;
mod login;
mod media;
mod messages;
mod pairing;
mod pairing_code;
mod passkey;
mod phone;
mod presence;
mod receipts;
mod received;
mod server;
mod stanza;
mod world;

use clap::Parser;
use serde_json::json;
use server::Server;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

/// A WhatsApp server for tests. It says where it listens in one line of JSON, and ends when its standard input does.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind(arguments.listen).await?;
    let address = listener.local_addr()?;
    let server = Arc::new(Server::new(address)?);
    println!(
        "{}",
        json!({
            "webSocketUrl": format!("ws://{address}/ws/chat"),
            "admin": format!("http://{address}/admin"),
            "media": format!("http://{address}"),
            "serverCertChain": server.certificate.cached(),
            "rootPublicKey": server.certificate.root(),
        })
    );
    tokio::select! {
        ended = axum::serve(listener, server::router(server)) => ended?,
        () = input_ends() => {}
    }
    Ok(())
}

async fn input_ends() {
    let mut ignored = Vec::new();
    let _ = tokio::io::stdin().read_to_end(&mut ignored).await;
}
