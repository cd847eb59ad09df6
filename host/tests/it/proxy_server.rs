//! An HTTP proxy: it opens ways (CONNECT) and passes requests on, writes down what it was asked, or refuses.

use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What it does with everybody.
#[derive(Clone)]
pub enum Does {
    /// Lets them through to where they want to go.
    LetThrough,
    /// Lets them through to one address, whatever they want: names that nobody else knows are its to look up.
    LeadTo(String),
    /// Says this and closes.
    Say(String),
}

/// What it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `CONNECT`, `GET` …
    pub method: String,
    /// Host and port.
    pub target: String,
    /// Who asked, as it was said.
    pub authorization: Option<String>,
}

/// A running one; it ends with the test's runtime.
pub struct ProxyServer {
    pub address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl ProxyServer {
    pub async fn start(does: Does) -> Self {
        Self::behind(does, None).await
    }

    /// One that speaks TLS itself.
    pub async fn behind_tls(does: Does, acceptor: TlsAcceptor) -> Self {
        Self::behind(does, Some(acceptor)).await
    }

    async fn behind(does: Does, acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let seen = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (does, seen, acceptor) = (does.clone(), Arc::clone(&seen), acceptor.clone());
                // Who hangs up is gone; there is nobody to tell.
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => serve(acceptor.accept(stream).await.ok()?, does, seen).await,
                        None => serve(stream, does, seen).await,
                    }
                });
            }
        });
        Self { address, asked }
    }

    /// Everything that it was asked for so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve<S>(mut stream: S, does: Does, seen: Arc<Mutex<Vec<Asked>>>) -> Option<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let text = String::from_utf8(head.clone()).unwrap();
    let mut line = text.split(' ');
    let (method, target) = (line.next()?.to_owned(), line.next()?);
    let target = target.strip_prefix("http://").unwrap_or(target).split('/').next()?.to_owned();
    let authorization = text.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("proxy-authorization").then(|| value.to_owned())
    });
    seen.lock().unwrap().push(Asked { method: method.clone(), target: target.clone(), authorization });
    let to = match does {
        Does::LetThrough => target,
        Does::LeadTo(address) => address,
        Does::Say(words) => {
            stream.write_all(words.as_bytes()).await.ok()?;
            return stream.shutdown().await.ok();
        }
    };
    let mut there = TcpStream::connect(to).await.ok()?;
    if method == "CONNECT" {
        stream.write_all(b"HTTP/1.1 200 Connection established\r\nVia: a test\r\n\r\n").await.ok()?;
    } else {
        // A server takes a request in the form that is meant for a proxy as well.
        there.write_all(&head).await.ok()?;
    }
    copy_bidirectional(&mut stream, &mut there).await.ok().map(drop)
}
