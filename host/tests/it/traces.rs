//! Traces, as a collector of OpenTelemetry gets them: what goes through the database goes on as one trace, nothing that
//! people wrote is in them, and a collector that is away harms nobody.

use crate::harness::{PATIENCE, Setup, TestHost, free_address, impatient};
use crate::receiver::{Got, Receiver, Reply};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Instant;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

fn traced(collector: &str, sample: f64) -> Setup {
    let endpoint = format!("http://{collector}");
    let tune = move |config: &mut omni_host::config::Config| {
        config.telemetry.otlp_endpoint = Some(endpoint);
        config.telemetry.sample = sample;
    };
    Setup { tune: Some(Box::new(tune)), configure: impatient, ..Setup::default() }
}

fn spans(got: &[Got]) -> Vec<Span> {
    let of = |got: &Got| {
        let request = ExportTraceServiceRequest::decode(&*got.body).expect("protobuf");
        request.resource_spans.into_iter().flat_map(|of| of.scope_spans).flat_map(|of| of.spans).collect::<Vec<_>>()
    };
    got.iter().flat_map(of).collect()
}

fn named<'a>(spans: &'a [Span], name: &str, trace: &[u8]) -> Option<&'a Span> {
    spans.iter().find(|span| span.name == name && span.trace_id == trace)
}

fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|found| found.value.clone()?.value) {
        Some(Any::StringValue(text)) => text,
        Some(Any::IntValue(number)) => number.to_string(),
        other => panic!("{} has no {key}: {other:?}", span.name),
    }
}

/// Waits until a trace has all of these.
async fn until(collector: &Receiver, trace: &[u8], names: &[&str]) -> Vec<Span> {
    let got = collector
        .until(|got| {
            let spans = spans(got);
            names.iter().all(|name| named(&spans, name, trace).is_some())
        })
        .await;
    spans(&got)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_and_a_message_out_are_one_trace_each() {
    let collector = Receiver::start().await;
    collector.answer(|_| Reply::Status(200));
    let host = TestHost::with(traced(&collector.address, 1.0)).await;
    let (instance, echo) = host.echo("demo").await;
    host.say(&echo, "room", "m1", "shibboleth in").await;
    host.settle().await;

    // In: the network's batch, durable, stored. The domain event says which trace it belongs to.
    let events = host.until("/events?limit=20", |body| body.to_string().contains("message.received")).await;
    let items = events["items"].as_array().unwrap();
    let event = items.iter().find(|item| item["type"] == "message.received" || item["eventType"] == "message.received");
    let event = event.unwrap_or_else(|| panic!("{events}"));
    let trace = event["metadata"]["traceId"].as_str().unwrap_or_else(|| panic!("{event}"));
    let trace = hex::decode(trace).unwrap();
    let all = until(&collector, &trace, &["ingress", "bus.accept", "storage.store"]).await;
    let step = |name: &str| named(&all, name, &trace).unwrap();
    assert!(step("ingress").parent_span_id.is_empty());
    assert_eq!(step("bus.accept").parent_span_id, step("ingress").span_id);
    assert_eq!(step("storage.store").parent_span_id, step("bus.accept").span_id);
    assert_eq!(attribute(step("ingress"), "ingress.kind"), "webhook");
    assert_eq!(attribute(step("storage.store"), "event.type"), "message.received");

    // Out, below what the caller began: sent while its instance is away, and through a restart of the host.
    host.post(&format!("/instances/{instance}/disconnect"), json!({})).await;
    let body = json!({"instanceId": instance, "to": "room", "text": "shibboleth out"});
    let request = reqwest::Client::new().post(format!("{}/api/v2/messages/send", host.url));
    let request = request.header("x-api-key", &host.key).header("traceparent", format!("00-{TRACE}-{CALLER}-01"));
    let sent: Value = request.json(&body).send().await.unwrap().json().await.unwrap();
    assert!(sent["data"]["messageId"].is_string(), "{sent}");
    let host = host.restart(traced(&collector.address, 0.0)).await;
    host.post(&format!("/instances/{instance}/connect"), json!({})).await;
    let trace = hex::decode(TRACE).unwrap();
    let api = "POST /api/v2/messages/send";
    let all = until(&collector, &trace, &[api, "outbox.deliver", "channel.request", "outbox.settle"]).await;
    let step = |name: &str| named(&all, name, &trace).unwrap();
    assert_eq!(step(api).parent_span_id, hex::decode(CALLER).unwrap());
    assert_eq!(attribute(step(api), "http.response.status_code"), "202");
    assert_eq!(step("outbox.deliver").parent_span_id, step("outbox.accept").span_id);
    assert_eq!(step("outbox.accept").parent_span_id, step(api).span_id);
    for below in ["channel.request", "outbox.settle"] {
        assert_eq!(step(below).parent_span_id, step("outbox.deliver").span_id, "{below}");
    }
    assert_eq!(attribute(step("outbox.deliver"), "outcome"), "delivered");
    assert_eq!(attribute(step("outbox.deliver"), "message.id"), sent["data"]["messageId"].as_str().unwrap());
    let events = host.until("/events?limit=50", |body| body.to_string().contains(TRACE)).await;
    assert!(events.to_string().contains("message.sent"), "{events}");

    // Nothing of what was said, by whom, or of a key.
    let key = host.key.clone();
    drop(host.stop().await);
    for got in collector.got() {
        let text = String::from_utf8_lossy(&got.body).into_owned();
        for secret in ["shibboleth", &key] {
            assert!(!text.contains(secret), "{secret:?} is in a span");
        }
        assert_eq!(got.header("content-type"), "application/x-protobuf");
    }
    // What is short may be in an id by chance.
    for span in spans(&collector.got()) {
        let words = format!("{} {:?} {:?} {:?}", span.name, span.attributes, span.events, span.status);
        assert!(!words.contains("Ann") && !words.contains("room"), "{words}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_or_hangs_costs_nothing() {
    for hangs in [false, true] {
        let collector = Receiver::start().await;
        collector.answer(|_| Reply::Hang);
        let address = if hangs { collector.address.clone() } else { free_address() };
        let host = TestHost::with(traced(&address, 1.0)).await;
        let (instance, echo) = host.echo("demo").await;
        let began = Instant::now();
        for number in 0..50 {
            host.say(&echo, "room", &format!("m{number}"), &number.to_string()).await;
        }
        host.settle().await;
        assert_eq!(host.messages(&instance, "room").await.len(), 50);
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        drop(host.stop().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_samples_is_not_sent_unless_the_caller_says_so() {
    let collector = Receiver::start().await;
    collector.answer(|_| Reply::Status(200));
    let host = TestHost::with(traced(&collector.address, 0.0)).await;
    let (_, echo) = host.echo("demo").await;
    host.say(&echo, "room", "m1", "hello").await;
    host.settle().await;
    let ask = |flags: &str| {
        let request = reqwest::Client::new().request(Method::GET, format!("{}/api/v2/chats", host.url));
        request.header("x-api-key", &host.key).header("traceparent", format!("00-{TRACE}-{CALLER}-{flags}")).send()
    };
    assert!(ask("00").await.unwrap().status().is_success());
    assert!(ask("01").await.unwrap().status().is_success());
    let got = collector.count(1).await;
    let names: Vec<String> = spans(&got).into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["GET /api/v2/chats"]);
    drop(host.stop().await);
    assert_eq!(spans(&collector.got()).len(), 1);
}
