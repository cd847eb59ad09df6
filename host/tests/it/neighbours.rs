//! The messages of a good plugin are stored while another plugin does what no plugin should: they wait for no call of
//! the other's, however long that takes. How long each took, from when its network handed it over until it was stored, is
//! printed beside how long it takes when the host is calm; a clock decides nothing, for the tests beside this one have the
//! same processors.

use crate::harness::{Setup, TestHost, free_address};
use omni_host::config::Isolation;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::future::pending;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Messages that are measured at a time.
const SAMPLES: usize = 30;
/// How long the call of an attacker may take, in seconds: longer than anybody waits for a message of the neighbour's.
const CALL: u64 = 600;

/// How long messages took, shortest first.
struct Pace(Vec<Duration>);

impl Pace {
    async fn of(host: &TestHost, echo: &str, name: &str) -> Self {
        let mut times = Vec::with_capacity(SAMPLES);
        for number in 0..SAMPLES {
            let began = Instant::now();
            host.say(echo, "room", &format!("{name}-{number}"), "on time").await;
            host.settle().await;
            times.push(began.elapsed());
        }
        times.sort_unstable();
        Self(times)
    }

    fn usual(&self) -> Duration {
        self.0[SAMPLES / 2]
    }

    fn slowest(&self) -> Duration {
        self.0[SAMPLES * 99 / 100]
    }

    fn print(&self, what: &str) {
        println!("{what}: p50 {:?}, p99 {:?}", self.usual(), self.slowest());
    }
}

/// What an attacker does: its configuration, and what it is asked to do.
struct Attack {
    name: &'static str,
    config: Value,
    /// The text of a message that it is to send, which makes it go wrong.
    send: Option<&'static str>,
    /// Whether its network calls it again and again.
    called: bool,
    /// Whether it emits messages by itself.
    floods: bool,
    homes: &'static [Isolation],
}

const BOTH: &[Isolation] = &[Isolation::InProcess, Isolation::Process];
/// Who burns a processor in the host burns the host's: such code is not to be trusted with that home.
const APART: &[Isolation] = &[Isolation::Process];

fn attacks() -> Vec<Attack> {
    let quiet = || Attack { name: "", config: json!({}), send: None, called: false, floods: false, homes: BOTH };
    vec![
        Attack { name: "a flood of events", config: json!({"mode": "timer-flood", "n": 200}), floods: true, ..quiet() },
        Attack { name: "a panic in every call", config: json!({"mode": "event-panic"}), called: true, ..quiet() },
        Attack { name: "a blocked thread", send: Some("hang"), ..quiet() },
        Attack { name: "a burnt processor", send: Some("spin"), homes: APART, ..quiet() },
        Attack { name: "questions without end", send: Some("questions"), ..quiet() },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_goes_on_whatever_a_plugin_does() {
    for attack in attacks() {
        for home in attack.homes {
            let setup = Setup {
                plugins: vec!["echo", "faulty"],
                isolation: *home,
                call_seconds: CALL,
                // The attack's own request is under way until the end.
                configure: |config| config.http.shutdown_seconds = 1,
                ..Setup::default()
            };
            let host = TestHost::with(setup).await;
            let (_, echo) = host.echo("good").await;
            // Everything has been done once before it is measured.
            Pace::of(&host, &echo, "first").await;
            Pace::of(&host, &echo, "calm").await.print("calm");

            let address = free_address();
            let mut config = attack.config.clone();
            config["listen"] = json!(address);
            let id = host.instance("bad", "faulty", config).await;
            host.until_state(&id, "connected").await;
            let over = CancellationToken::new();
            let calling = tokio::spawn(call(format!("http://{address}"), attack.called, over.clone()));
            let asked = async {
                if let Some(text) = attack.send {
                    let send = json!({"instanceId": id, "to": "room", "text": text});
                    // Whoever sends is told after a while that it is still under way.
                    let (status, answer) = host.call(Method::POST, "/messages/send", Some(send)).await;
                    assert_eq!(
                        status,
                        StatusCode::ACCEPTED,
                        "the attack ended before the neighbour was through: {answer}"
                    );
                }
                pending::<Infallible>().await
            };
            let pace = tokio::select! {
                biased;
                pace = Pace::of(&host, &echo, "meanwhile") => pace,
                never = asked => match never {},
            };
            over.cancel();
            let calls = calling.await.unwrap();
            assert!(!attack.called || calls > 0, "it was called");
            if attack.floods {
                host.until(&format!("/messages?instanceId={id}"), |body| body["items"][0].is_object()).await;
            }
            pace.print(&format!("neighbour of {} ({home:?})", attack.name));
            host.stop().await;
        }
    }
}

/// Calls a channel without a pause; says how often.
async fn call(url: String, wanted: bool, over: CancellationToken) -> usize {
    let client = reqwest::Client::new();
    let body = json!({"chatId": "room", "from": "ann", "externalId": "m", "text": "x"});
    let mut calls = 0;
    while wanted && !over.is_cancelled() {
        // It answers that it panicked.
        let _ = client.post(&url).json(&body).send().await;
        calls += 1;
    }
    calls
}
