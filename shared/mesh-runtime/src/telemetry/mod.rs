//! Logs to stdout (text or JSON); they, spans and metrics to a collector where one is named. Everything says its service.

mod format;
mod lines;
mod otlp;
mod service;

use std::fs::File;
use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

pub use mesh_trace::Sampling;
use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use lines::{LineLayer, Lines};
pub(crate) use otlp::MetricReader;
pub use service::{current_service, service_span};

use crate::metrics::Metrics;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people: one line, in colour on a terminal unless `NO_COLOR` is set.
    #[default]
    Text,
    /// For machines: one JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("is neither `text` nor `json`".to_owned()),
        }
    }
}

/// What [`init`] is told.
#[derive(Debug, Clone, Default)]
pub struct TelemetryOptions {
    /// `service.name` of the process; `mesh` when empty.
    pub service_name: String,
    pub service_version: String,
    pub log_format: LogFormat,
    /// A `RUST_LOG` filter; what does not parse in it is ignored with a warning.
    pub log_filter: Option<String>,
    /// Where logs go instead of stdout, which then only gets warnings and errors, as text.
    pub log_file: Option<Arc<File>>,
    /// Base URL of a collector that takes OTLP over HTTP, such as `http://localhost:4318`. Without it nothing is sent.
    pub otlp_endpoint: Option<String>,
    /// Which traces are recorded, where there is a collector.
    pub sampling: Sampling,
}

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("the OTLP exporter for {signal} could not be set up")]
    Exporter {
        signal: &'static str,
        #[source]
        source: opentelemetry_otlp::ExporterBuildError,
    },
    #[error("telemetry is set up already in this process")]
    Again(#[from] tracing_subscriber::util::TryInitError),
    #[error("the thread that sets up the exporters ended early")]
    Thread,
}

/// What is on by default: ourselves, and of others only what needs somebody's attention. Failures of the exporters are
/// told by [`otlp`], once, instead of at every attempt; of connecting to NATS, by whoever connects.
const DEFAULT_FILTER: &str = "info,sqlx=warn,hyper=warn,h2=warn,tower=warn,rustls=warn,async_nats=warn,async_nats::connector=off,opentelemetry=off,opentelemetry_sdk=off,opentelemetry-otlp=off,opentelemetry-http=off,opentelemetry-prometheus=off";

/// Keeps telemetry alive; dropping it sends what is left (at most about 2 s).
pub struct Guard {
    metrics: Metrics,
    queues: Option<Queues>,
}

/// What waits to be sent.
struct Queues {
    spans: Arc<otlp::Spans>,
    lines: Arc<Lines>,
}

/// How long the last of it may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

impl Guard {
    /// For the first [`crate::Context`] of the process.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(Queues { spans, lines }) = self.queues.take() else {
            return;
        };
        let metrics = &self.metrics;
        // Threads of their own: shutting down waits, which a runtime's thread must not; and all at the same time.
        std::thread::scope(|scope| {
            let all = [
                scope.spawn(|| spans.shutdown(FLUSH_TIMEOUT)),
                scope.spawn(|| lines.shutdown(FLUSH_TIMEOUT)),
                scope.spawn(|| metrics.shutdown()),
            ];
            for flush in all {
                let _panicked = flush.join();
            }
        });
    }
}

/// Sets up logs, spans and metrics of the process. Once per process, before the first log.
pub fn init(options: &TelemetryOptions) -> Result<Guard, TelemetryError> {
    let resource = otlp::resource(options);
    let exporters = options.otlp_endpoint.as_deref().map(otlp::exporters).transpose()?;
    let (queues, push) = match exporters {
        Some(exporters) => {
            let queues = Queues {
                spans: Arc::new(otlp::Spans::new(&resource, exporters.spans)),
                lines: Arc::new(Lines::new(&resource, exporters.lines)),
            };
            (Some(queues), Some(exporters.metrics))
        }
        None => (None, None),
    };
    show(options, queues.as_ref().map(|queues| &queues.lines))?;
    if let Some(queues) = &queues {
        // The first in this process, or the logs would have been refused.
        mesh_trace::install(Box::new(Arc::clone(&queues.spans)), options.sampling);
    }
    Ok(Guard {
        metrics: Metrics::new(resource, push),
        queues,
    })
}

/// Log lines from here on, to stdout or the file, and to the collector if there is one.
fn show(options: &TelemetryOptions, lines: Option<&Arc<Lines>>) -> Result<(), TelemetryError> {
    let is_colored =
        std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let writer = options
        .log_file
        .clone()
        .map_or_else(|| BoxMakeWriter::new(std::io::stdout), BoxMakeWriter::new);
    let logs = match options.log_format {
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .with_ansi(is_colored && options.log_file.is_none())
            .with_writer(writer)
            .event_format(format::Text)
            .boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(writer)
            .fmt_fields(JsonFields::new())
            .event_format(format::Json)
            .boxed(),
    };
    // One filter for both: each of them costs every line, and every span, a look.
    let logs = match lines {
        Some(lines) => logs.and_then(LineLayer(Arc::clone(lines))).boxed(),
        None => logs,
    };
    // After the file's layer, which formats the fields of spans for both, without colours.
    let attention = options.log_file.as_ref().map(|_| {
        tracing_subscriber::fmt::layer()
            .with_ansi(is_colored)
            .event_format(format::Text)
            .with_filter(log_filter(options).and(LevelFilter::WARN))
    });
    tracing_subscriber::registry()
        .with(service::ServiceLayer.with_filter(service::filter()))
        .with(logs.with_filter(log_filter(options)))
        .with(attention)
        .try_init()?;
    Ok(())
}

/// Spans that only carry the service's name are for the layers, not for readers.
fn log_filter<S>(options: &TelemetryOptions) -> impl tracing_subscriber::layer::Filter<S> + use<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let text = options
        .log_filter
        .as_deref()
        .filter(|text| !text.trim().is_empty())
        .unwrap_or(DEFAULT_FILTER);
    EnvFilter::builder()
        .parse_lossy(text)
        .and(filter_fn(|metadata| metadata.target() != service::TARGET))
}
