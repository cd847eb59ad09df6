//! TLS to a real server with an authority of its own: a WebSocket, a webhook; and each way in which a certificate can be
//! no good, told in a sentence; and what the doctor makes of them.

use crate::harness::{PATIENCE, Setup, TestHost, free_address};
use futures_util::{SinkExt, StreamExt};
use omni_host::clock::Clock;
use omni_host::doctor::{self, Finding, State};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

/// Who signs a server's certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Signed {
    ByTheAuthority,
    ByItself,
}

/// A server's certificate, as it should be or not.
pub struct Certificate {
    name: &'static str,
    until: i32,
    signed: Signed,
}

pub const GOOD: Certificate = Certificate { name: "localhost", until: 4_000, signed: Signed::ByTheAuthority };

/// An authority that only those trust who are told to.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("authority.pem");
        std::fs::write(&file, issuer.pem()).unwrap();
        Self { issuer, file, _folder: folder }
    }

    pub fn acceptor(&self, wanted: &Certificate) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![wanted.name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(wanted.until, 2, 3);
        let made = match wanted.signed {
            Signed::ByTheAuthority => params.signed_by(&key, &self.issuer).unwrap(),
            Signed::ByItself => params.self_signed(&key).unwrap(),
        };
        let chain = vec![CertificateDer::from(made.der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A server behind TLS.
pub struct Server {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Server {
    pub async fn start(authority: &Authority, certificate: &Certificate) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, acceptor: authority.acceptor(certificate) }
    }

    pub fn address(&self) -> String {
        format!("localhost:{}", self.listener.local_addr().unwrap().port())
    }

    /// The next connection that trusts it.
    pub async fn accept(&self) -> TlsStream<TcpStream> {
        timeout(PATIENCE, self.next()).await.expect("the host connects")
    }

    async fn next(&self) -> TlsStream<TcpStream> {
        loop {
            let (stream, _) = self.listener.accept().await.unwrap();
            if let Ok(open) = self.acceptor.accept(stream).await {
                return open;
            }
        }
    }

    /// Stands before a server that has no TLS, until the test ends. Counts the connections.
    pub fn lead_to(self, address: String) -> Arc<AtomicUsize> {
        let count = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&count);
        tokio::spawn(async move {
            loop {
                let mut stream = self.next().await;
                counted.fetch_add(1, Ordering::Relaxed);
                let mut there = TcpStream::connect(&address).await.unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut stream, &mut there).await });
            }
        });
        count
    }
}

fn trusting(authority: Option<&Authority>) -> Setup {
    let file = authority.map(|authority| authority.file.clone());
    let tune = move |config: &mut omni_host::config::Config| config.network.ca_file = file;
    Setup { plugins: vec!["faulty", "echo"], tune: Some(Box::new(tune)), ..Setup::default() }
}

/// An instance that holds a WebSocket to a server.
async fn socket(host: &TestHost, server: &Server) -> String {
    let config = json!({"listen": free_address(), "socketUrl": format!("wss://{}/gateway", server.address())});
    host.instance("socket", "faulty", config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_behind_tls_is_held_when_its_authority_is_trusted() {
    let authority = Authority::new();
    let host = TestHost::with(trusting(Some(&authority))).await;
    let server = Server::start(&authority, &GOOD).await;
    let id = socket(&host, &server).await;
    let mut open = accept_async(server.accept().await).await.unwrap();
    let hello = timeout(PATIENCE, open.next()).await.expect("it says where it is").unwrap().unwrap();
    assert_eq!(hello, Message::text("resume 0"));
    let said = json!({"chatId": "room", "from": "ann", "externalId": "m1", "text": "secretly", "seq": 1});
    open.send(Message::text(said.to_string())).await.unwrap();
    let told = timeout(PATIENCE, open.next()).await.expect("it acknowledges").unwrap().unwrap();
    assert_eq!(told, Message::text("ack 1"));
    host.settle().await;
    assert_eq!(host.messages(&id, "room").await[0]["textContent"], "secretly");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_certificate_is_told_in_a_sentence() {
    let authority = Authority::new();
    for (trusted, certificate, told) in [
        (
            true,
            Certificate { name: "other.example", ..GOOD },
            "its certificate is not for localhost, but for other.example",
        ),
        (true, Certificate { until: 2_002, ..GOOD }, "its certificate has expired on 2002-02-03"),
        (true, Certificate { signed: Signed::ByItself, ..GOOD }, "issued by nobody who is trusted here"),
        (false, GOOD, "put that authority's certificate into network.ca_file"),
    ] {
        let host = TestHost::with(trusting(trusted.then_some(&authority))).await;
        let server = Server::start(&authority, &certificate).await;
        let id = socket(&host, &server).await;
        let webhook = json!({"name": "hook", "url": format!("https://{}/hook", server.address())});
        let webhook = host.post("/webhooks", webhook).await["data"]["id"].as_str().unwrap().to_owned();
        // It refuses whoever comes, as long as somebody may.
        let refused = tokio::spawn(async move { server.accept().await });
        let path = format!("/instances/{id}/status");
        let says = |body: &serde_json::Value| body["data"]["message"].as_str().is_some_and(|said| said.contains(told));
        let status = host.until(&path, says).await;
        assert!(status["data"]["message"].as_str().unwrap().contains("the WebSocket cannot be opened"), "{status}");
        let tried = host.post(&format!("/webhooks/{webhook}/test"), json!({})).await;
        assert!(tried.to_string().contains(told), "{tried} does not say {told:?}");
        assert!(!refused.is_finished(), "nobody talks to it");
        refused.abort();
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_behind_tls_is_sent_to_when_its_authority_is_trusted() {
    let authority = Authority::new();
    let host = TestHost::with(trusting(Some(&authority))).await;
    let server = Server::start(&authority, &GOOD).await;
    let (_, echo) = host.echo("demo").await;
    let new = json!({"name": "hook", "url": format!("https://{}/hook", server.address()), "eventTypes": ["message.received"]});
    host.post("/webhooks", new).await;
    host.say(&echo, "room", "m1", "secretly").await;
    let mut open = server.accept().await;
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).contains("secretly") {
        let mut piece = [0; 4_096];
        let read = timeout(PATIENCE, open.read(&mut piece)).await.expect("it is sent").unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&piece[..read]);
    }
    open.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    assert!(String::from_utf8_lossy(&got).starts_with("POST /hook"));
    host.stop().await;
}

#[test]
fn a_file_of_authorities_that_is_none_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let said = || omni_host::egress::tls::read(&file).expect_err("it is no such file").to_string();
    assert!(said().contains("cannot be read"), "{}", said());
    std::fs::write(&file, "words").unwrap();
    assert!(said().contains("holds no certificate"), "{}", said());
    std::fs::write(&file, "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n").unwrap();
    assert!(said().contains("is no PEM"), "{}", said());
}

/// What the doctor says of the network.
pub async fn network_finding(config: &omni_host::config::Config) -> Finding {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let found = doctor::examine(config, &[], &Clock::system()).await;
    found.into_iter().find(|finding| finding.check == "network").expect("it looks at the network")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_trusts_whom_the_host_trusts_and_goes_where_it_may_go() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = Server::start(&authority, &GOOD).await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = omni_host::config::Config::default();
    config.data.dir = folder.path().join("data");
    config.http.public_url = Some(format!("https://{}", server.address()));
    let serving = tokio::spawn(async move {
        loop {
            let mut open = server.accept().await;
            let mut request = [0; 4_096];
            let read = open.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /health"));
            open.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        }
    });
    let help = |found: &Finding| found.help.clone().unwrap_or_default();

    let found = network_finding(&config).await;
    assert_eq!(found.state, State::Warn, "{found:?}");
    assert!(found.message.contains("private address") && help(&found).contains("network.allow_private"), "{found:?}");
    config.network.allow_private = vec!["127.0.0.1".into(), "::1".into()];
    let found = network_finding(&config).await;
    assert_eq!(found.state, State::Warn, "{found:?}");
    assert!(found.message.contains("issued by nobody who is trusted here"), "{found:?}");
    assert!(help(&found).contains("name the file in `network.ca_file`"), "{found:?}");
    config.network.ca_file = Some(other.file.clone());
    let found = network_finding(&config).await;
    assert_eq!(found.state, State::Warn, "{found:?}");
    assert!(help(&found).contains("does not hold the authority"), "{found:?}");
    config.network.ca_file = Some(authority.file.clone());
    let found = network_finding(&config).await;
    assert_eq!((found.state, found.message.ends_with("answers (200)")), (State::Ok, true), "{found:?}");
    config.network.ca_file = Some(folder.path().join("none.pem"));
    let found = network_finding(&config).await;
    assert_eq!(found.state, State::Fail, "{found:?}");
    assert!(found.message.contains("cannot be read"), "{found:?}");
    serving.abort();
}
