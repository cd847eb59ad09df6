//! Traces for OpenTelemetry: how long a message took where, sent to a collector over OTLP. Off unless one is configured.
//!
//! ```text
//! in    ingress (what a network brought) → bus.accept (durable) → storage.store
//! out   POST … (the caller's traceparent is honoured) → outbox.accept → outbox.deliver → channel.request, outbox.settle
//! ```
//!
//! A step is made current while it runs, and what is made below it finds it there; where the way leads through the
//! database, a row carries the trace along. So a trace goes on after a restart, and a retry is part of it. What is in a
//! span is chosen here and at its place: names, ids of ours, counts and outcomes; never what people wrote, who they are,
//! or a secret. Deliberately not made of the log's spans, which hold what an operator needs on his own machine.

use crate::config::Telemetry;
use opentelemetry::trace::{
    FutureExt, SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    Sampler, SdkTracer, SdkTracerProvider, Span as SdkSpan, SpanData, SpanExporter as _, SpanProcessor,
};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use opentelemetry::trace::SpanKind;

/// Spans that wait to be sent; what is more is dropped and counted.
const QUEUE: usize = 4_096;
/// Spans of one request to the collector, and how long it waits to be full.
const BATCH: usize = 512;
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector may take.
const WITHIN: Duration = Duration::from_secs(10);

/// Makes spans, or none. Cheap to clone.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<SdkTracer>>);

impl std::fmt::Debug for Traces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Traces(on)" } else { "Traces(off)" })
    }
}

/// Sends spans to the collector.
#[derive(Debug)]
pub struct Collector {
    spans: mpsc::Receiver<SpanData>,
    exporter: SpanExporter,
    endpoint: String,
    is_away: bool,
}

/// Starts tracing as it is configured; `None` when it is off.
pub fn start(config: &Telemetry) -> anyhow::Result<(Traces, Option<Collector>)> {
    let Some(endpoint) = &config.otlp_endpoint else { return Ok((Traces::default(), None)) };
    let endpoint = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    let client = reqwest::Client::builder().timeout(WITHIN).redirect(reqwest::redirect::Policy::none()).no_proxy();
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client.build()?)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(&endpoint)
        .with_timeout(WITHIN)
        .build()?;
    let resource = Resource::builder_empty()
        .with_service_name("omni")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    exporter.set_resource(&resource);
    let (queue, spans) = mpsc::channel(QUEUE);
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample)));
    let provider = SdkTracerProvider::builder()
        .with_span_processor(Queue(queue))
        .with_sampler(sampler)
        .with_resource(resource)
        .build();
    let collector = Collector { spans, exporter, endpoint, is_away: false };
    Ok((Traces(Some(Arc::new(provider.tracer("omni")))), Some(collector)))
}

/// Where ended spans wait. Nobody waits for room.
#[derive(Debug)]
struct Queue(mpsc::Sender<SpanData>);

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut SdkSpan, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.0.try_send(span).is_err() {
            count("dropped", 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn count(outcome: &'static str, spans: usize) {
    metrics::counter!("omni_trace_spans_total", "outcome" => outcome).increment(spans as u64);
}

impl Collector {
    /// Sends what comes until it is told to stop, and then what is left.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let more = tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.spans.close();
                    self.spans.recv_many(&mut batch, BATCH).await > 0
                }
                count = self.spans.recv_many(&mut batch, BATCH) => count > 0,
            };
            if !more {
                return;
            }
            let gathering = async {
                while batch.len() < BATCH {
                    let room = BATCH - batch.len();
                    if self.spans.recv_many(&mut batch, room).await == 0 {
                        return;
                    }
                }
            };
            // Whether it is full or the time is up.
            let _ = tokio::time::timeout(GATHER, stop.run_until_cancelled(gathering)).await;
            self.send(std::mem::take(&mut batch)).await;
            if stop.is_cancelled() && self.is_away {
                return;
            }
        }
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        let spans = batch.len();
        match self.exporter.export(batch).await {
            Ok(()) => {
                count("sent", spans);
                if std::mem::take(&mut self.is_away) {
                    tracing::info!(endpoint = self.endpoint, "the collector of traces takes them again");
                }
            }
            Err(error) => {
                count("lost", spans);
                if !std::mem::replace(&mut self.is_away, true) {
                    tracing::warn!(
                        endpoint = self.endpoint,
                        "the collector takes no traces ({error}); they are lost until it does, and nothing else is"
                    );
                }
            }
        }
    }
}

/// A span that is under way. It ends when this is dropped. Without tracing it is nothing.
#[derive(Debug)]
pub struct Step(Option<Context>);

impl Traces {
    /// Begins a trace, or goes on with that of somebody else, by their `traceparent`.
    pub fn root(&self, name: impl Into<std::borrow::Cow<'static, str>>, kind: SpanKind, parent: Option<&str>) -> Step {
        let Some(tracer) = &self.0 else { return Step(None) };
        let above = match parent.and_then(parse) {
            Some(parent) => Context::new().with_remote_span_context(parent),
            None => Context::new(),
        };
        let above = above.with_value(self.clone());
        let span = tracer.span_builder(name).with_kind(kind).start_with_context(&**tracer, &above);
        Step(Some(above.with_span(span)))
    }

    /// Goes on with the trace that a row belongs to; nothing when it belongs to none.
    pub fn resumed(&self, name: &'static str, kind: SpanKind, trace: Option<&str>) -> Step {
        match trace {
            Some(trace) => self.root(name, kind, Some(trace)),
            None => Step(None),
        }
    }

    /// A step of a trace that began then and ends now.
    pub fn since(&self, name: &'static str, trace: &str, began: SystemTime, fields: &[(&'static str, String)]) {
        let (Some(tracer), Some(parent)) = (&self.0, parse(trace)) else { return };
        let above = Context::new().with_remote_span_context(parent);
        let fields = fields.iter().map(|(name, value)| KeyValue::new(*name, value.clone()));
        let span = tracer.span_builder(name).with_start_time(began).with_attributes(fields);
        drop(span.start_with_context(&**tracer, &above));
    }
}

/// Begins a step below the current one; nothing when there is none.
pub fn child(name: &'static str, kind: SpanKind) -> Step {
    Context::map_current(|current| {
        let Some(Traces(Some(tracer))) = current.get::<Traces>() else { return Step(None) };
        let span = tracer.span_builder(name).with_kind(kind).start_with_context(&**tracer, current);
        Step(Some(current.with_span(span)))
    })
}

/// The current step as a row carries it along; nothing when nobody looks at its trace.
pub fn current() -> Option<Arc<str>> {
    Context::map_current(|current| written(current.span().span_context())).map(Arc::from)
}

/// What runs on another task goes on with the current step.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    work.with_current_context()
}

impl Step {
    /// Says something about it.
    pub fn set(&self, name: &'static str, value: impl Into<Value>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(name, value));
        }
    }

    /// Says that it failed, in words of ours.
    pub fn fail(&self, why: &'static str) {
        if let Some(context) = &self.0 {
            context.span().set_status(Status::error(why));
        }
    }

    /// Does some of it.
    pub async fn run<F: Future>(&self, work: F) -> F::Output {
        match &self.0 {
            Some(context) => work.with_context(context.clone()).await,
            None => work.await,
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

/// `00-{32 hex}-{16 hex}-{2 hex}`.
fn parse(text: &str) -> Option<SpanContext> {
    let mut parts = text.trim().split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    // A later version may have more behind; 255 is none.
    let fits = is_hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
    if !fits || !is_hex(trace, 32) || !is_hex(span, 16) || !is_hex(flags, 2) {
        return None;
    }
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()? & 1);
    let found = SpanContext::new(trace, span, flags, true, TraceState::NONE);
    found.is_valid().then_some(found)
}

fn written(context: &SpanContext) -> Option<String> {
    let is_looked_at = context.is_valid() && context.is_sampled();
    is_looked_at.then(|| format!("00-{}-{}-01", context.trace_id(), context.span_id()))
}

/// The id of the trace of a row.
pub fn id(trace: &str) -> Option<&str> {
    trace.split('-').nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_as_the_w3c_has_it() {
        assert_eq!(written(&parse(GOOD).expect("good")).as_deref(), Some(GOOD));
        let later = format!("cc-{}-what-comes", &GOOD[3..]);
        assert_eq!(written(&parse(&later).expect("later")).as_deref(), Some(GOOD));
        let unwatched = parse(&GOOD.replace("-01", "-00")).expect("good");
        assert!(!unwatched.is_sampled() && written(&unwatched).is_none());
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
        assert_eq!(id(GOOD), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
    }

    #[tokio::test]
    async fn without_a_collector_there_is_nothing() {
        let (traces, collector) = start(&Telemetry::default()).expect("is off");
        assert!(collector.is_none());
        let step = traces.root("x", SpanKind::Internal, Some(GOOD));
        step.run(async {
            assert!(current().is_none());
            assert!(child("y", SpanKind::Internal).0.is_none());
        })
        .await;
    }
}
