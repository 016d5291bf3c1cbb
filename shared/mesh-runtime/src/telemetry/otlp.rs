//! Spans and metrics to a collector, OTLP over HTTP. Failing to reach it is told once and harms nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{MetricExporter, Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, Temporality};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span, SpanData, SpanProcessor};
use tracing::{Metadata, Subscriber};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::registry::LookupSpan;

use super::service::{self, with_current_service};
use super::{TelemetryError, TelemetryOptions};
use crate::metrics::SERVICE_LABEL;

/// How often metrics are sent.
const METRICS_INTERVAL: Duration = Duration::from_secs(30);

pub(crate) type MetricReader = PeriodicReader<Telling<MetricExporter>>;
pub(super) type Exporters = (Telling<SpanExporter>, MetricReader);

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
        // The protocol is given, so that OTEL_EXPORTER_OTLP_PROTOCOL=grpc is no error.
        let spans = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{base}/v1/traces"))
            .build()
            .map_err(|source| TelemetryError::Exporter {
                signal: "traces",
                source,
            })?;
        let metrics = MetricExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{base}/v1/metrics"))
            .build()
            .map_err(|source| TelemetryError::Exporter {
                signal: "metrics",
                source,
            })?;
        let reader = PeriodicReader::builder(Telling::new("metrics", metrics))
            .with_interval(METRICS_INTERVAL)
            .build();
        Ok((Telling::new("traces", spans), reader))
    };
    std::thread::spawn(build).join().map_err(|_| TelemetryError::Thread)?
}

pub(super) fn tracer_provider(resource: Resource, exporter: Telling<SpanExporter>) -> SdkTracerProvider {
    SdkTracerProvider::builder()
        .with_resource(resource)
        .with_span_processor(SaysService)
        .with_batch_exporter(exporter)
        .build()
}

/// Our spans from level info on; never those of the exporters' own HTTP client.
pub(super) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let ours = |metadata: &Metadata<'_>| {
        let target = metadata.target();
        let is_plumbing = ["opentelemetry", "hyper", "reqwest", "h2", "rustls", "tower::"]
            .iter()
            .any(|prefix| target.starts_with(prefix));
        target != service::TARGET && !is_plumbing && *metadata.level() <= tracing::Level::INFO
    };
    OpenTelemetryLayer::<S, SdkTracer>::new(provider.tracer("mesh"))
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(filter_fn(ours).with_max_level_hint(LevelFilter::INFO))
}

/// Writes the service's name on every span as it starts.
#[derive(Debug)]
struct SaysService;

impl SpanProcessor for SaysService {
    fn on_start(&self, span: &mut Span, _context: &Context) {
        use opentelemetry::trace::Span as _;
        with_current_service(|service| {
            if let Some(service) = service {
                span.set_attribute(KeyValue::new(SERVICE_LABEL, service.to_owned()));
            }
        });
    }

    fn on_end(&self, _span: SpanData) {}

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// A span may have the name as a field of its own and from [`SaysService`]; a key may be there once.
fn say_service_once(span: &mut SpanData) {
    let mut is_said = false;
    span.attributes
        .retain(|attribute| attribute.key.as_str() != SERVICE_LABEL || !std::mem::replace(&mut is_said, true));
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

impl<E: opentelemetry_sdk::trace::SpanExporter> opentelemetry_sdk::trace::SpanExporter for Telling<E> {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        batch.iter_mut().for_each(say_service_once);
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
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::metrics::{MetricName, Metrics};
    use crate::telemetry::Guard;

    #[tokio::test]
    async fn a_collector_that_is_not_there_harms_nothing() {
        // A port that was free a moment ago: nobody listens.
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let resource = resource(&TelemetryOptions::default());
        let started = Instant::now();
        let (spans, reader) = exporters(&format!("http://{free}/")).unwrap();
        let provider = tracer_provider(resource.clone(), spans);
        let subscriber = tracing_subscriber::registry().with(layer(&provider));
        let guard = Guard {
            metrics: Metrics::new(resource, Some(reader)),
            tracer: Some(provider),
        };
        tracing::subscriber::with_default(subscriber, || tracing::info_span!("work").in_scope(|| {}));
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
