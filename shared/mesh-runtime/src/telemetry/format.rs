//! The two forms of a log line. Both say time, level, service, where from, what, and the spans around it.

use std::fmt;

use mesh_types::{Clock, SystemClock};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::service::with_current_service;

/// `2026-11-21T12:00:00.000000Z  INFO registry agents: published agent=sofia in request{id=…}`.
pub(super) struct Text;

/// One object a line; `mesh.service`, `trace_id` and `span_id` at the top, spans outermost first.
pub(super) struct Json;

/// Time is an argument elsewhere; a log line is written when it is written.
fn now() -> String {
    SystemClock::default().now().to_string()
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let paint = Paint(writer.has_ansi_escapes());
        write!(writer, "{} ", paint.faint(&now()))?;
        write!(writer, "{} ", paint.level(*metadata.level()))?;
        with_current_service(|service| match service {
            Some(service) => write!(writer, "{} ", paint.bold(service)),
            None => Ok(()),
        })?;
        write!(writer, "{} ", paint.faint(&format!("{}:", metadata.target())))?;
        context.format_fields(writer.by_ref(), event)?;
        for span in context.event_scope().into_iter().flatten() {
            write!(writer, " {} {}", paint.faint("in"), paint.faint(span.name()))?;
            let extensions = span.extensions();
            if let Some(fields) = extensions.get::<FormattedFields<N>>()
                && !fields.is_empty()
            {
                write!(writer, "{{{fields}}}")?;
            }
        }
        if let Some(trace) = mesh_trace::current() {
            let ids = format!("trace_id={:032x} span_id={:016x}", trace.trace_id(), trace.span_id());
            write!(writer, " {}", paint.faint(&ids))?;
        }
        writeln!(writer)
    }
}

struct Paint(bool);

impl Paint {
    fn faint(&self, text: &str) -> String {
        self.with("2", text)
    }

    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    fn level(&self, level: Level) -> String {
        let color = match level {
            Level::ERROR => "31",
            Level::WARN => "33",
            Level::INFO => "32",
            Level::DEBUG => "34",
            Level::TRACE => "35",
        };
        self.with(color, &format!("{level:>5}"))
    }

    fn with(&self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let mut line = Map::new();
        line.insert("timestamp".into(), now().into());
        line.insert("level".into(), metadata.level().as_str().into());
        with_current_service(|service| {
            if let Some(service) = service {
                line.insert("mesh.service".into(), service.into());
            }
        });
        line.insert("target".into(), metadata.target().into());
        let mut fields = Fields::default();
        event.record(&mut fields);
        for (name, value) in fields.0 {
            // A field of an event may be called like one of ours; neither is lost.
            let free = if line.contains_key(name) {
                format!("field.{name}")
            } else {
                name.to_owned()
            };
            line.insert(free, value);
        }
        if let Some(trace) = mesh_trace::current() {
            line.insert("trace_id".into(), format!("{:032x}", trace.trace_id()).into());
            line.insert("span_id".into(), format!("{:016x}", trace.span_id()).into());
        }
        let spans = context
            .event_scope()
            .into_iter()
            .flat_map(|scope| scope.from_root())
            .map(|span| {
                let extensions = span.extensions();
                let fields = extensions.get::<FormattedFields<N>>();
                let mut named: Map<_, _> = fields
                    .and_then(|text| serde_json::from_str(text).ok())
                    .unwrap_or_default();
                named.insert("name".into(), span.name().into());
                Value::Object(named)
            });
        let spans: Vec<_> = spans.collect();
        if !spans.is_empty() {
            line.insert("spans".into(), spans.into());
        }
        writer.write_str(&Value::Object(line).to_string())?;
        writer.write_char('\n')
    }
}

/// Fields of an event or span, in their order.
#[derive(Default)]
pub(super) struct Fields(pub(super) Vec<(&'static str, Value)>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        // `r#type` is how code spells the field `type`.
        let name = field.name();
        self.0.push((name.strip_prefix("r#").unwrap_or(name), value.into()));
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let causes = std::iter::successors(Some(value), |error| error.source());
        let text: Vec<_> = causes.map(ToString::to_string).collect();
        self.put(field, text.join(": "));
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::Layer;
    use tracing_subscriber::fmt::format::JsonFields;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::telemetry::service::{self, ServiceLayer, service_span};
    use crate::telemetry::{TelemetryOptions, log_filter};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("could not read the agent")]
    struct Outer(#[source] io::Error);

    fn speak() {
        let request = service_span("registry").in_scope(|| tracing::info_span!("request", id = "req_1"));
        let error = Outer(io::Error::other("disk gone"));
        let speak = || {
            tracing::warn!(
                agent = "sofia",
                tries = 3,
                target = "x",
                error = &error as &dyn std::error::Error,
                "said \"no\""
            );
            tracing::debug!("not shown");
        };
        service_span("registry").in_scope(|| request.in_scope(speak));
    }

    #[test]
    fn a_json_line_says_its_service_at_the_top() {
        let lines = Lines::default();
        let out = lines.clone();
        let logs = tracing_subscriber::fmt::layer()
            .fmt_fields(JsonFields::new())
            .event_format(Json)
            .with_writer(move || out.clone())
            .with_filter(log_filter(&TelemetryOptions::default()));
        let services = ServiceLayer.with_filter(service::filter());
        // Also of a trace that is not recorded: the ids are there to find what belongs together.
        let trace = mesh_trace::TraceContext::new(0xabc, 0xde, false);
        let speak = || mesh_trace::enter(Some(trace.into()), speak);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(services).with(logs), speak);
        let text = lines.take();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["trace_id"], "00000000000000000000000000000abc");
        assert_eq!(line["span_id"], "00000000000000de");
        assert_eq!(line["mesh.service"], "registry");
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["message"], "said \"no\"");
        assert_eq!((&line["agent"], &line["tries"]), (&"sofia".into(), &3.into()));
        assert_eq!(line["error"], "could not read the agent: disk gone");
        assert_eq!(line["field.target"], "x");
        assert_eq!(line["spans"], serde_json::json!([{"id": "req_1", "name": "request"}]));
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn a_text_line_is_for_people() {
        let lines = Lines::default();
        let out = lines.clone();
        let logs = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .event_format(Text)
            .with_writer(move || out.clone())
            .with_filter(log_filter(&TelemetryOptions::default()));
        let services = ServiceLayer.with_filter(service::filter());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(services).with(logs), speak);
        let text = lines.take();
        assert!(
            text.contains("  WARN registry mesh_runtime::telemetry::format::tests: said \"no\" agent=\"sofia\""),
            "{text}"
        );
        assert!(text.ends_with(" in request{id=\"req_1\"}\n"), "{text}");
        let trace = mesh_trace::TraceContext::new(0xabc, 0xde, true);
        let out = lines.clone();
        let logs = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .event_format(Text)
            .with_writer(move || out.clone());
        let subscriber = tracing_subscriber::registry().with(logs);
        let speak = || mesh_trace::enter(Some(trace.into()), || tracing::info!("hello"));
        tracing::subscriber::with_default(subscriber, speak);
        let ids = " trace_id=00000000000000000000000000000abc span_id=00000000000000de\n";
        let traced = lines.take();
        assert!(traced.ends_with(&format!("hello{ids}")), "{traced}");
        assert!(!text.contains('\x1b') && !text.contains("not shown"), "{text}");
    }
}
