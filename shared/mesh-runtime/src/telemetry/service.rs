//! Which service speaks: a span field, `mesh.service`, known on every thread that runs inside that span.
//! Several services share a process, so the process's own name does not say it.

use std::cell::RefCell;
use std::sync::Arc;

use tracing::span::{Attributes, Id};
use tracing::{Level, Metadata, Span};
use tracing_subscriber::filter::{FilterFn, LevelFilter, filter_fn};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// Target of the spans that only carry the name; logs and traces leave them out.
pub(super) const TARGET: &str = "mesh_runtime::service";
const FIELD: &str = "mesh.service";

/// A span that gives its name to everything inside. At level error, so that no filter of levels takes it away.
pub fn service_span(service: &'static str) -> Span {
    tracing::error_span!(target: TARGET, parent: None, "service", "mesh.service" = service)
}

/// The service whose span this thread is in.
pub fn current_service() -> Option<String> {
    with_current_service(|service| service.map(str::to_owned))
}

/// The same without a copy.
pub(super) fn with_current_service<T>(with: impl FnOnce(Option<&str>) -> T) -> T {
    CURRENT.with_borrow(|stack| with(stack.last().map(|(_, name)| &**name)))
}

thread_local! {
    /// Innermost last. A span may be entered twice, so its id is kept to leave the right one.
    static CURRENT: RefCell<Vec<(u64, Arc<str>)>> = const { RefCell::new(Vec::new()) };
}

/// Sees only spans that have the field, which are few, and of the levels that the hint names: a lower one would cost
/// every debug callsite a look.
pub(super) fn filter() -> FilterFn<fn(&Metadata<'_>) -> bool> {
    let has_field: fn(&Metadata<'_>) -> bool =
        |metadata| metadata.is_span() && *metadata.level() <= Level::INFO && metadata.fields().field(FIELD).is_some();
    filter_fn(has_field).with_max_level_hint(LevelFilter::INFO)
}

pub(super) struct ServiceLayer;

struct Name(Arc<str>);

impl<S> Layer<S> for ServiceLayer
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut read = Read(None);
        attributes.record(&mut read);
        if let (Some(name), Some(span)) = (read.0, context.span(id)) {
            span.extensions_mut().insert(Name(name.into()));
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(Name(name)) = span.extensions().get::<Name>() {
            CURRENT.with_borrow_mut(|stack| stack.push((id.into_u64(), Arc::clone(name))));
        }
    }

    fn on_exit(&self, id: &Id, _context: Context<'_, S>) {
        CURRENT.with_borrow_mut(|stack| {
            if let Some(at) = stack.iter().rposition(|(own, _)| *own == id.into_u64()) {
                stack.remove(at);
            }
        });
    }
}

struct Read(Option<String>);

impl tracing::field::Visit for Read {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        if field.name() == FIELD {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == FIELD {
            self.0 = Some(format!("{value:?}").trim_matches('"').to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn the_innermost_service_speaks_and_leaves_in_any_order() {
        let subscriber = tracing_subscriber::registry().with(ServiceLayer.with_filter(filter()));
        tracing::subscriber::with_default(subscriber, || {
            assert_eq!(current_service(), None);
            let (outer, inner) = (service_span("mesh"), service_span("registry"));
            let outer_entered = outer.enter();
            let inner_entered = inner.enter();
            assert_eq!(current_service().as_deref(), Some("registry"));
            let other = tracing::info_span!("request", id = 1);
            other.in_scope(|| assert_eq!(current_service().as_deref(), Some("registry")));
            drop(outer_entered);
            assert_eq!(current_service().as_deref(), Some("registry"));
            drop(inner_entered);
            assert_eq!(current_service(), None);
        });
    }

    #[tokio::test]
    async fn a_task_speaks_for_its_own_service_across_its_waits() {
        let subscriber = tracing_subscriber::registry().with(ServiceLayer.with_filter(filter()));
        let _guard = tracing::subscriber::set_default(subscriber);
        let metrics = crate::Metrics::default();
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let mut all = Vec::new();
        for service in ["registry", "memory"] {
            let tasks = crate::Tasks::new(service_span(service), &metrics);
            let sender = sender.clone();
            tasks.spawn("speak", async move {
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                    sender.send((service, current_service())).unwrap();
                }
            });
            all.push(tasks);
        }
        drop(sender);
        let mut heard = 0;
        while let Some((service, said)) = receiver.recv().await {
            assert_eq!(said.as_deref(), Some(service));
            heard += 1;
        }
        assert_eq!(heard, 6);
    }
}
