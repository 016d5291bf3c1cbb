//! Logs to stdout (text or JSON), spans and metrics to a collector where one is named. Everything says its service.

mod format;
mod otlp;
mod propagation;
mod service;

use std::fs::File;
use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

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

/// What is on by default: ourselves, and of others only what needs somebody's attention. Failures of
/// the exporters are told by [`otlp`], once, instead of at every attempt.
const DEFAULT_FILTER: &str = "info,sqlx=warn,hyper=warn,h2=warn,tower=warn,rustls=warn,async_nats=warn,opentelemetry=off,opentelemetry_sdk=off,opentelemetry-otlp=off,opentelemetry-http=off,opentelemetry-prometheus=off";

/// Keeps telemetry alive; dropping it sends what is left (at most about 2 s).
pub struct Guard {
    metrics: Metrics,
    tracer: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

impl Guard {
    /// For the first [`crate::Context`] of the process.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(tracer) = self.tracer.take() else {
            return;
        };
        let metrics = self.metrics.clone();
        // A thread of its own: shutting down waits, which a runtime's thread must not.
        let flush = std::thread::spawn(move || {
            let _unsent = tracer.shutdown_with_timeout(Duration::from_secs(2));
            metrics.shutdown();
        });
        let _panicked = flush.join();
    }
}

/// Sets up logs, spans and metrics of the process. Once per process, before the first log.
pub fn init(options: &TelemetryOptions) -> Result<Guard, TelemetryError> {
    let resource = otlp::resource(options);
    let exporters = options.otlp_endpoint.as_deref().map(otlp::exporters).transpose()?;
    let (tracer, push) = match exporters {
        Some((spans, reader)) => (Some(otlp::tracer_provider(resource.clone(), spans)), Some(reader)),
        None => (None, None),
    };
    let spans_layer = tracer.as_ref().map(otlp::layer);
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
            .with_filter(log_filter(options))
            .boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(writer)
            .fmt_fields(JsonFields::new())
            .event_format(format::Json)
            .with_filter(log_filter(options))
            .boxed(),
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
        .with(logs)
        .with(attention)
        .with(spans_layer)
        .try_init()?;
    propagation::install();
    Ok(Guard {
        metrics: Metrics::new(resource, push),
        tracer,
    })
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
