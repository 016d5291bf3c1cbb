//! Spans, metrics and log lines to a collector, OTLP over HTTP. Failing to reach it is told once and harms nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mesh_trace::{Kind, Record, TraceContext};
use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{Array, InstrumentationScope, KeyValue, Value};
use opentelemetry_otlp::{LogExporter, MetricExporter, Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter as LogExport};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, Temporality};
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, SpanData, SpanEvents, SpanExporter as SpanExport, SpanLinks, SpanProcessor,
};

use super::service::current_service;
use super::{TelemetryError, TelemetryOptions};

/// How often metrics are sent.
const METRICS_INTERVAL: Duration = Duration::from_secs(30);

pub(crate) type MetricReader = PeriodicReader<Telling<MetricExporter>>;

pub(super) struct Exporters {
    pub(super) spans: Telling<SpanExporter>,
    pub(super) metrics: MetricReader,
    pub(super) lines: Telling<LogExporter>,
}

pub(super) fn resource(options: &TelemetryOptions) -> Resource {
    let name = if options.service_name.is_empty() {
        "mesh"
    } else {
        &options.service_name
    };
    Resource::builder()
        .with_service_name(name.to_owned())
        .with_attribute(KeyValue::new("service.version", options.service_version.clone()))
        .build()
}

/// Built on a thread of their own: the blocking HTTP client must not be made on a runtime's thread.
pub(super) fn exporters(endpoint: &str) -> Result<Exporters, TelemetryError> {
    let base = endpoint.trim_end_matches('/').to_owned();
    let build = move || {
        let failed = |signal| move |source| TelemetryError::Exporter { signal, source };
        // The protocol is given, so that OTEL_EXPORTER_OTLP_PROTOCOL=grpc is no error.
        let spans = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{base}/v1/traces"))
            .build()
            .map_err(failed("traces"))?;
        let metrics = MetricExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{base}/v1/metrics"))
            .build()
            .map_err(failed("metrics"))?;
        let lines = LogExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{base}/v1/logs"))
            .build()
            .map_err(failed("logs"))?;
        let reader = PeriodicReader::builder(Telling::new("metrics", metrics))
            .with_interval(METRICS_INTERVAL)
            .build();
        Ok(Exporters {
            spans: Telling::new("traces", spans),
            metrics: reader,
            lines: Telling::new("logs", lines),
        })
    };
    std::thread::spawn(build).join().map_err(|_| TelemetryError::Thread)?
}

/// Where recorded spans go: a bounded queue that a thread of its own empties; what finds it full is dropped.
#[derive(Debug)]
pub(super) struct Spans {
    queue: BatchSpanProcessor,
    scope: InstrumentationScope,
}

impl Spans {
    pub(super) fn new(resource: &Resource, exporter: impl SpanExport + 'static) -> Self {
        let mut queue = BatchSpanProcessor::builder(exporter).build();
        queue.set_resource(resource);
        Self {
            queue,
            scope: InstrumentationScope::builder("mesh").build(),
        }
    }

    /// Sends what is left; waits for it, so not on a thread of the runtime.
    pub(super) fn shutdown(&self, patience: Duration) {
        if let Err(error) = self.queue.shutdown_with_timeout(patience) {
            tracing::debug!(%error, "the last spans were not sent");
        }
    }
}

impl mesh_trace::Sink for Spans {
    fn service(&self) -> Option<String> {
        current_service()
    }

    fn ended(&self, record: Record) {
        self.queue.on_end(span_data(record, self.scope.clone()));
    }
}

fn span_data(record: Record, instrumentation_scope: InstrumentationScope) -> SpanData {
    let (parent, is_remote) = record.parent.unwrap_or_default();
    let mut links = SpanLinks::default();
    links.links = record
        .links
        .into_iter()
        .map(|context| Link::with_context(span_context(context)))
        .collect();
    let attributes = record.attributes.into_iter();
    SpanData {
        span_context: span_context(record.context),
        parent_span_id: SpanId::from(parent),
        parent_span_is_remote: is_remote,
        span_kind: match record.kind {
            Kind::Internal => SpanKind::Internal,
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
            Kind::Producer => SpanKind::Producer,
            Kind::Consumer => SpanKind::Consumer,
        },
        name: record.name,
        start_time: record.started_at,
        end_time: record.ended_at,
        attributes: attributes
            .map(|(name, value)| KeyValue::new(name, value_of(value)))
            .collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links,
        // Without a text: what failed is told by `error.type`, a code.
        status: if record.is_error {
            Status::error("")
        } else {
            Status::Unset
        },
        instrumentation_scope,
    }
}

fn span_context(context: TraceContext) -> SpanContext {
    let flags = if context.is_sampled() {
        TraceFlags::SAMPLED
    } else {
        TraceFlags::NOT_SAMPLED
    };
    let (trace_id, span_id) = (TraceId::from(context.trace_id()), SpanId::from(context.span_id()));
    SpanContext::new(trace_id, span_id, flags, false, TraceState::default())
}

fn value_of(value: mesh_trace::Value) -> Value {
    match value {
        mesh_trace::Value::Text(text) => text.into(),
        mesh_trace::Value::Texts(texts) => Value::Array(Array::String(texts.into_iter().map(Into::into).collect())),
        mesh_trace::Value::Int(number) => number.into(),
        mesh_trace::Value::Float(number) => number.into(),
        mesh_trace::Value::Bool(is_so) => is_so.into(),
    }
}

/// An exporter that logs when it begins to fail and when it is well again, not at every attempt.
#[derive(Debug)]
pub(crate) struct Telling<E> {
    signal: &'static str,
    inner: E,
    is_failing: AtomicBool,
}

impl<E> Telling<E> {
    fn new(signal: &'static str, inner: E) -> Self {
        Self {
            signal,
            inner,
            is_failing: AtomicBool::new(false),
        }
    }

    fn tell(&self, result: OTelSdkResult) -> OTelSdkResult {
        let failed = result.is_err();
        let failed_before = self.is_failing.swap(failed, Ordering::Relaxed);
        match &result {
            Err(error) if !failed_before => {
                tracing::warn!(signal = self.signal, %error, "the collector cannot be reached; the mesh works on without it");
            }
            Ok(()) if failed_before => {
                tracing::info!(signal = self.signal, "the collector takes telemetry again")
            }
            _ => {}
        }
        result
    }
}

impl<E: SpanExport> SpanExport for Telling<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.tell(self.inner.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: LogExport> LogExport for Telling<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        self.tell(self.inner.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Telling<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.tell(self.inner.export(metrics).await)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use opentelemetry_sdk::error::OTelSdkError;
    use tracing::Subscriber;
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::metrics::{MetricName, Metrics};
    use crate::telemetry::lines::{LineLayer, Lines};
    use crate::telemetry::{Guard, Queues};

    #[tokio::test]
    async fn a_collector_that_is_not_there_harms_nothing() {
        // A port that was free a moment ago: nobody listens.
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let resource = resource(&TelemetryOptions::default());
        let started = Instant::now();
        let Exporters { spans, metrics, lines } = exporters(&format!("http://{free}/")).unwrap();
        let spans = Arc::new(Spans::new(&resource, spans));
        let lines = Arc::new(Lines::new(&resource, lines));
        let at = std::time::UNIX_EPOCH;
        let work = Record {
            name: "work".into(),
            kind: Kind::Internal,
            context: TraceContext::new(1, 2, true),
            parent: None,
            started_at: at,
            ended_at: at,
            attributes: Vec::new(),
            links: Vec::new(),
            is_error: false,
        };
        mesh_trace::Sink::ended(&*spans, work);
        let layer = LineLayer(Arc::clone(&lines));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || tracing::info!("said"));
        let guard = Guard {
            metrics: Metrics::new(resource, Some(metrics)),
            queues: Some(Queues { spans, lines }),
        };
        guard.metrics().counter(MetricName::Commits).add(1, &[]);
        assert!(guard.metrics().render().unwrap().contains("mesh_commits_total 1"));
        tokio::task::spawn_blocking(move || drop(guard)).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    }

    #[test]
    fn a_collector_s_absence_is_told_once() {
        #[derive(Clone, Default)]
        struct Levels(Arc<Mutex<Vec<tracing::Level>>>);
        impl<S: Subscriber> Layer<S> for Levels {
            fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
                self.0.lock().unwrap().push(*event.metadata().level());
            }
        }
        let levels = Levels::default();
        let telling = Telling::new("traces", ());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(levels.clone()), || {
            let failed = || Err(OTelSdkError::InternalFailure("refused".to_owned()));
            for result in [Ok(()), failed(), failed(), failed(), Ok(()), Ok(())] {
                let _passed_on = telling.tell(result);
            }
        });
        assert_eq!(*levels.0.lock().unwrap(), [tracing::Level::WARN, tracing::Level::INFO]);
    }
}
