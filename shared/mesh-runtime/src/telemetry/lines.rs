//! Log lines to a collector, OTLP over HTTP: those of stdout, with the ids of their trace. A line that finds the queue
//! full is dropped and counted; nobody waits, and lines about the sending are never sent.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use mesh_types::{Clock, SystemClock};
use opentelemetry::Key;
use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::trace::{SpanId, TraceFlags, TraceId};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{
    BatchConfigBuilder, BatchLogProcessor, LogBatch, LogExporter as LogExport, SdkLogRecord, SdkLogger,
    SdkLoggerProvider,
};
use serde_json::Value;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::format::Fields;
use super::service::with_current_service;

/// Lines that wait to be sent.
const QUEUE_MAX: usize = 2_048;
/// Longest text of a message or field, in bytes: storage takes no more of one line than some tens of these.
const TEXT_BYTES_MAX: usize = 8 * 1024;
/// Crates through which lines are sent. A line of theirs, at `debug`, would make the next one.
const SENDING: [&str; 5] = ["opentelemetry", "reqwest", "hyper", "h2", "rustls"];

#[derive(Debug, Default)]
struct Queue {
    waiting: AtomicUsize,
    dropped: AtomicU64,
}

impl Queue {
    fn enter(&self) -> bool {
        let has_room = self.waiting.fetch_add(1, Ordering::Relaxed) < QUEUE_MAX;
        if !has_room {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }
}

/// Where log lines go: a bounded queue that a thread of its own empties.
#[derive(Debug)]
pub(super) struct Lines {
    provider: SdkLoggerProvider,
    logger: SdkLogger,
    queue: Arc<Queue>,
}

impl Lines {
    pub(super) fn new(resource: &Resource, exporter: impl LogExport + 'static) -> Self {
        let queue = Arc::new(Queue::default());
        let exporter = Counting {
            inner: exporter,
            queue: Arc::clone(&queue),
        };
        let config = BatchConfigBuilder::default().with_max_queue_size(QUEUE_MAX).build();
        let processor = BatchLogProcessor::builder(exporter).with_batch_config(config).build();
        let provider = SdkLoggerProvider::builder()
            .with_resource(resource.clone())
            .with_log_processor(processor)
            .build();
        Self {
            logger: provider.logger("mesh"),
            provider,
            queue,
        }
    }

    /// Sends what is left; waits for it, so not on a thread of the runtime.
    pub(super) fn shutdown(&self, patience: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(patience) {
            tracing::debug!(%error, "the last log lines were not sent");
        }
    }
}

/// Hands lines over. Belongs behind the filter of stdout.
pub(super) struct LineLayer(pub(super) Arc<Lines>);

impl<S> Layer<S> for LineLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            // Its lines repeat them.
            span.extensions_mut().replace(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        let Some(known) = extensions.get_mut::<Fields>() else {
            return;
        };
        let mut fields = Fields::default();
        values.record(&mut fields);
        known
            .0
            .retain(|(name, _)| !fields.0.iter().any(|(later, _)| later == name));
        known.0.append(&mut fields.0);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        // A thread that sends telemetry.
        if opentelemetry::Context::is_current_telemetry_suppressed() {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut fields = fields.0;
        let target = target(event, &mut fields);
        if SENDING.iter().any(|name| target.starts_with(name)) || !self.0.queue.enter() {
            return;
        }
        let mut line = self.0.logger.create_log_record();
        describe(&mut line, *event.metadata().level(), target, fields);
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            let extensions = span.extensions();
            let Some(Fields(fields)) = extensions.get() else {
                continue;
            };
            // The service is said already.
            for (name, value) in fields.iter().filter(|(name, _)| *name != SERVICE) {
                add(&mut line, format!("{}.{name}", span.name()), value.clone());
            }
        }
        self.0.logger.emit(line);
    }
}

const SERVICE: &str = "mesh.service";

/// Lines of the crate `log` say theirs in a field.
fn target(event: &Event<'_>, fields: &mut Vec<(&'static str, Value)>) -> Cow<'static, str> {
    let Some(Value::String(target)) = take(fields, "log.target") else {
        return event.metadata().target().into();
    };
    fields.retain(|(name, _)| !["log.module_path", "log.file", "log.line"].contains(name));
    target.into()
}

fn take(fields: &mut Vec<(&'static str, Value)>, name: &str) -> Option<Value> {
    let place = fields.iter().position(|(own, _)| *own == name)?;
    Some(fields.remove(place).1)
}

fn describe(line: &mut SdkLogRecord, level: Level, target: Cow<'static, str>, mut fields: Vec<(&'static str, Value)>) {
    let now = u64::try_from(SystemClock::default().now().as_micros()).unwrap_or_default();
    line.set_timestamp(SystemTime::UNIX_EPOCH + Duration::from_micros(now));
    line.set_severity_text(level.as_str());
    line.set_severity_number(severity(level));
    line.set_target(target);
    if let Some(message) = take(&mut fields, "message").and_then(any) {
        line.set_body(message);
    }
    if let Some(trace) = mesh_trace::current() {
        let flags = if trace.is_sampled() {
            TraceFlags::SAMPLED
        } else {
            TraceFlags::NOT_SAMPLED
        };
        let (trace_id, span_id) = (TraceId::from(trace.trace_id()), SpanId::from(trace.span_id()));
        line.set_trace_context(trace_id, span_id, Some(flags));
    }
    with_current_service(|service| {
        if let Some(service) = service {
            line.add_attribute(SERVICE, service.to_owned());
        }
    });
    for (name, value) in fields {
        add(line, name, value);
    }
}

const fn severity(level: Level) -> Severity {
    match level {
        Level::ERROR => Severity::Error,
        Level::WARN => Severity::Warn,
        Level::INFO => Severity::Info,
        Level::DEBUG => Severity::Debug,
        Level::TRACE => Severity::Trace,
    }
}

fn add(line: &mut SdkLogRecord, name: impl Into<Key>, value: Value) {
    if let Some(value) = any(value) {
        line.add_attribute(name, value);
    }
}

/// Fields are texts, numbers and yes or no; OTLP knows no larger number.
fn any(value: Value) -> Option<AnyValue> {
    Some(match value {
        Value::String(mut text) => {
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
            text.into()
        }
        Value::Bool(is_so) => is_so.into(),
        Value::Number(number) => match number.as_i64() {
            Some(number) => number.into(),
            None => number.as_f64()?.into(),
        },
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    })
}

/// An exporter that knows how many lines wait, and tells how many were dropped.
#[derive(Debug)]
struct Counting<E> {
    inner: E,
    queue: Arc<Queue>,
}

impl<E: LogExport> LogExport for Counting<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        self.queue.waiting.fetch_sub(batch.iter().count(), Ordering::Relaxed);
        let result = self.inner.export(batch).await;
        let dropped = self.queue.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(
                dropped,
                "log lines were not sent: there were more than the collector takes"
            );
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::telemetry::service::{self, ServiceLayer, service_span};
    use crate::telemetry::{TelemetryOptions, log_filter};

    /// Keeps what it is given, once it is let.
    #[derive(Debug)]
    struct Kept {
        seen: Arc<Mutex<Vec<SdkLogRecord>>>,
        let_go: Mutex<Receiver<()>>,
    }

    impl LogExport for Kept {
        async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
            let _ended = self.let_go.lock().unwrap().recv();
            let lines = batch.iter().map(|(line, _)| line.clone());
            self.seen.lock().unwrap().extend(lines);
            Ok(())
        }
    }

    fn lines() -> (Arc<Lines>, Arc<Mutex<Vec<SdkLogRecord>>>, Sender<()>) {
        let (go, let_go) = channel();
        let seen = Arc::<Mutex<Vec<SdkLogRecord>>>::default();
        let exporter = Kept {
            seen: Arc::clone(&seen),
            let_go: Mutex::new(let_go),
        };
        (Arc::new(Lines::new(&Resource::builder().build(), exporter)), seen, go)
    }

    fn said(line: &SdkLogRecord, name: &str) -> Option<AnyValue> {
        let mut all = line.attributes_iter();
        all.find(|(key, _)| key.as_str() == name)
            .map(|(_, value)| value.clone())
    }

    fn speaking(lines: &Arc<Lines>, speak: impl FnOnce()) {
        let layer = LineLayer(Arc::clone(lines)).with_filter(log_filter(&TelemetryOptions::default()));
        let services = ServiceLayer.with_filter(service::filter());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(services).with(layer), speak);
    }

    #[test]
    fn a_line_says_what_stdout_says_and_its_trace() {
        let (lines, seen, go) = lines();
        drop(go);
        speaking(&lines, || {
            let trace = mesh_trace::TraceContext::new(0xabc, 0xde, true);
            let request = || tracing::info_span!("request", id = "req_1", mesh.service = "registry");
            let speak = || {
                let key = crate::Secret::new("hunter2".to_owned());
                tracing::warn!(agent = "sofia", tries = 3, ?key, "said \"no\"");
                tracing::debug!("not shown on stdout");
                tracing::info!(target: "hyper::client", "of who sends");
            };
            let speak = || mesh_trace::enter(Some(trace.into()), speak);
            service_span("registry").in_scope(|| request().in_scope(speak));
            {
                let _sending = opentelemetry::Context::enter_telemetry_suppressed_scope();
                tracing::error!("of a thread that sends");
            }
            tracing::info!(text = "é".repeat(TEXT_BYTES_MAX), "outside");
        });
        lines.shutdown(Duration::from_secs(10));
        let seen = seen.lock().unwrap().clone();
        let [inside, outside] = &seen[..] else {
            panic!("{seen:?}")
        };
        assert_eq!(inside.body(), Some(&"said \"no\"".into()));
        assert_eq!(inside.severity_text(), Some("WARN"));
        assert_eq!(inside.target().map(AsRef::as_ref), Some(module_path!()));
        let trace = inside.trace_context().unwrap();
        assert_eq!(
            (trace.trace_id, trace.span_id, trace.trace_flags),
            (
                TraceId::from(0xabc_u128),
                SpanId::from(0xde_u64),
                Some(TraceFlags::SAMPLED)
            )
        );
        for (name, expected) in [
            ("mesh.service", AnyValue::from("registry")),
            ("agent", "sofia".into()),
            ("tries", 3.into()),
            ("request.id", "req_1".into()),
            ("key", "***".into()),
        ] {
            assert_eq!(said(inside, name), Some(expected), "{name}");
        }
        assert_eq!(said(inside, "request.mesh.service"), None);
        assert!(outside.trace_context().is_none());
        let Some(AnyValue::String(text)) = said(outside, "text") else {
            panic!("{outside:?}")
        };
        assert_eq!(text.as_str().len(), TEXT_BYTES_MAX);
    }

    #[test]
    fn a_collector_that_does_not_answer_costs_lines_and_nobody_waits() {
        let (lines, seen, go) = lines();
        let count = 3 * QUEUE_MAX;
        speaking(&lines, || {
            (0..count).for_each(|number| tracing::info!(number, "spoken"))
        });
        // The exporter holds its first batch, and the queue is full behind it.
        drop(go);
        lines.shutdown(Duration::from_secs(10));
        let (told, dropped) = (seen.lock().unwrap().len(), lines.queue.dropped.load(Ordering::Relaxed));
        assert!((QUEUE_MAX..count).contains(&told), "{told}");
        // What it told of those that it dropped is told before the last batch.
        assert_eq!((dropped, lines.queue.waiting.load(Ordering::Relaxed)), (0, 0));
    }
}
