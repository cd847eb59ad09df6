//! The whole command line against a server that answers as the API does.

use super::*;
use crate::clock::Clock;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use clap::CommandFactory;
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

mod asking;
mod following;
mod logging_in;
mod offline;
mod sending;
mod syncing;

/// What the server was asked.
#[derive(Clone, Debug)]
struct Asked {
    /// `GET /instances?limit=1`, below `/api/v2`.
    line: String,
    key: Option<String>,
    last_event_id: Option<String>,
    idempotency_key: Option<String>,
    body: Value,
    raw: Bytes,
}

/// A server that gives prepared answers, in order.
#[derive(Clone, Debug, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<(u16, Answer)>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

#[derive(Clone, Debug)]
enum Answer {
    Json(Value),
    Text(String),
    /// Pieces of a stream, and whether it breaks after them instead of ending.
    Stream(Vec<String>, bool),
}

fn asked(request: &Request) -> Asked {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    Asked {
        line: format!("{} {}", request.method(), path.trim_start_matches("/api/v2")),
        key: header("x-api-key"),
        last_event_id: header("last-event-id"),
        idempotency_key: header("idempotency-key"),
        body: Value::Null,
        raw: Bytes::new(),
    }
}

async fn answer(State(script): State<Script>, request: Request) -> Response {
    let mut asked = asked(&request);
    let bytes = axum::body::to_bytes(request.into_body(), 1 << 24).await.expect("the request is whole");
    asked.body = serde_json::from_slice(&bytes).unwrap_or_default();
    asked.raw = bytes;
    script.asked.lock().expect("no panic").push(asked);
    let next = script.answers.lock().expect("no panic").pop_front();
    let (status, answer) = next.unwrap_or((500, Answer::Text("nothing was prepared".into())));
    let status = StatusCode::from_u16(status).expect("a status");
    match answer {
        Answer::Json(value) => (status, axum::Json(value)).into_response(),
        Answer::Text(text) => (status, text).into_response(),
        Answer::Stream(pieces, breaks) => {
            let mut pieces: Vec<io::Result<Bytes>> = pieces.into_iter().map(|piece| Ok(piece.into())).collect();
            if breaks {
                pieces.push(Err(io::Error::other("cut")));
            }
            // What came before a break has left by then.
            let pieces = futures_util::stream::iter(pieces).then(async |piece| {
                tokio::task::yield_now().await;
                piece
            });
            (status, Body::from_stream(pieces)).into_response()
        }
    }
}

/// What a command left behind.
#[derive(Debug)]
struct Ran {
    code: u8,
    out: String,
    err: String,
    asked: Vec<Asked>,
}

impl Ran {
    fn lines(&self) -> Vec<&str> {
        self.asked.iter().map(|asked| asked.line.as_str()).collect()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).expect("the output is JSON")
    }
}

#[derive(Clone, Debug, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("is text")
    }
}

/// A command in the making.
#[derive(Debug)]
struct Omni {
    home: tempfile::TempDir,
    env: BTreeMap<String, String>,
    answers: VecDeque<(u16, Answer)>,
    typed: String,
    width: Option<u16>,
    person: bool,
    /// Where no server is.
    nowhere: bool,
}

fn omni() -> Omni {
    // As `main` does; every test but the first finds it done.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Omni {
        home: tempfile::tempdir().expect("temporary folder"),
        env: BTreeMap::from([("OMNI_API_KEY".to_owned(), "omni_sk_test".to_owned())]),
        answers: VecDeque::new(),
        typed: String::new(),
        width: None,
        person: false,
        nowhere: false,
    }
}

impl Omni {
    fn answers(mut self, status: u16, body: Value) -> Self {
        self.answers.push_back((status, Answer::Json(body)));
        self
    }

    fn answers_with(mut self, status: u16, answer: Answer) -> Self {
        self.answers.push_back((status, answer));
        self
    }

    fn typing(mut self, text: &str) -> Self {
        text.clone_into(&mut self.typed);
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    fn folder(&self) -> &Path {
        self.home.path()
    }

    /// Runs `omni` with these words, against the prepared server when no other is named.
    fn run(mut self, words: &[&str]) -> Ran {
        let server = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runs");
        let script = Script { answers: Arc::new(Mutex::new(self.answers)), asked: Arc::default() };
        let listener = server.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        if self.nowhere {
            drop(listener);
        } else {
            let router = axum::Router::new().fallback(answer).with_state(script.clone());
            server.spawn(async move { axum::serve(listener, router).await });
        }
        self.env.entry("OMNI_API_URL".into()).or_insert_with(|| format!("http://{address}"));
        // Time runs for whoever waits, without anybody waiting.
        let (clock, time) = Clock::manual(crate::store::Time(0));
        server.spawn(async move {
            loop {
                time.advance(Duration::from_millis(100));
                tokio::task::yield_now().await;
            }
        });
        let (out, err) = (Captured::default(), Captured::default());
        let ui = Ui {
            out: Box::new(out.clone()),
            err: Box::new(err.clone()),
            input: Box::new(io::Cursor::new(self.typed.into_bytes())),
            terminal: Terminal { input: self.person, err: false, width: self.width },
            may_colour: false,
            colour: false,
            json: false,
        };
        let args = std::iter::once("omni").chain(words.iter().copied()).map(Into::into).collect();
        let mut world =
            World { args, env: self.env, folder: self.home.path().to_path_buf(), program: "omni".into(), ui, clock };
        let code = match parse(&mut world) {
            Ok(cli) => run(cli, &mut world),
            Err(code) => code,
        };
        server.shutdown_background();
        let asked = script.asked.lock().expect("no panic").clone();
        Ran { code, out: out.text(), err: err.text(), asked }
    }
}

fn refusal(code: &str, message: &str) -> Value {
    json!({ "error": { "code": code, "message": message } })
}

fn items(items: &Value, cursor: Option<&str>) -> Value {
    json!({ "items": items, "meta": { "hasMore": cursor.is_some(), "cursor": cursor } })
}

/// An id that needs no looking up.
const ID: &str = "0190a000-0000-7000-8000-000000000001";

#[test]
fn every_command_and_flag_is_explained_and_free_of_conflicts() {
    let mut command = Cli::command();
    command.build();
    command.clone().debug_assert();
    fn check(command: &clap::Command) {
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{} of {}", argument.get_id(), command.get_name());
        }
        for below in command.get_subcommands() {
            assert!(below.get_about().is_some(), "{}", below.get_name());
            check(below);
        }
    }
    check(&command);
}
