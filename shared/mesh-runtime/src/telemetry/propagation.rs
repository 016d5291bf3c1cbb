//! Trace context in the headers of messages (W3C), given to the bus as two hooks.

use mesh_bus::Headers;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// From here on the bus carries trace context.
pub(super) fn install() {
    mesh_bus::set_trace_hooks(inject, extract);
}

/// Writes the current span; nothing where no collector listens.
fn inject(headers: &mut Headers) {
    struct Outgoing<'a>(&'a mut Headers);
    impl Injector for Outgoing<'_> {
        fn set(&mut self, key: &str, value: String) {
            // The propagator writes an empty `tracestate`; an empty header says nothing.
            let known = [Headers::TRACEPARENT, Headers::TRACESTATE]
                .into_iter()
                .find(|name| *name == key);
            if let Some(name) = known.filter(|_| !value.is_empty()) {
                self.0.insert(name, value);
            }
        }
    }
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut Outgoing(headers));
}

/// Makes the sender's span the parent of `span`, which must not have been entered yet.
fn extract(headers: &Headers, span: &Span) {
    struct Incoming<'a>(&'a Headers);
    impl Extractor for Incoming<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            self.0.get(key)
        }
        fn keys(&self) -> Vec<&str> {
            self.0.iter().map(|(name, _)| name).collect()
        }
    }
    if headers.get(Headers::TRACEPARENT).is_some() {
        // An error says that no collector listens, so that there is nothing to link.
        let _unlinked = span.set_parent(TraceContextPropagator::new().extract(&Incoming(headers)));
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{TraceContextExt, TracerProvider};
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn a_trace_goes_on_behind_the_headers() {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let mut headers = Headers::new();
            let sender = tracing::info_span!("sender");
            sender.in_scope(|| inject(&mut headers));
            let sent = sender.context().span().span_context().trace_id();
            assert!(headers.get(Headers::TRACEPARENT).unwrap().contains(&sent.to_string()));

            let receiver = tracing::info_span!(parent: None, "receiver");
            extract(&headers, &receiver);
            assert_eq!(receiver.context().span().span_context().trace_id(), sent);
        });
    }

    #[test]
    fn without_a_collector_there_are_no_headers() {
        let mut headers = Headers::new();
        tracing::info_span!("sender").in_scope(|| inject(&mut headers));
        assert!(headers.is_empty());
    }
}
