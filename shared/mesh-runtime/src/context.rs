//! What a service is given to live with. One per service; those of one process share bus, clock, pool and health.

use std::sync::Arc;

use mesh_api::Caller;
use mesh_bus::Bus;
use mesh_types::{Clock, IdSource, SystemClock, Tenant};
use tokio_util::sync::CancellationToken;

use crate::blocking::Blocking;
use crate::health::{self, Health};
use crate::loops::Loops;
use crate::metrics::Metrics;
use crate::road_figures;
use crate::tasks::Tasks;
use crate::telemetry;

#[derive(Clone)]
pub struct Context {
    pub service: &'static str,
    pub bus: Bus,
    pub clock: Arc<dyn Clock>,
    pub ids: IdSource,
    /// Cancelled when the service is to drain. A service's own; the process's cancels all of them.
    pub shutdown: CancellationToken,
    pub tasks: Tasks,
    pub health: Health,
    pub metrics: Metrics,
    pub blocking: Blocking,
    pub loops: Loops,
}

impl Context {
    /// The first context of a process. Reads the machine's clock and randomness.
    pub fn new(service: &'static str, bus: Bus, metrics: Metrics) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let ids = IdSource::new(Arc::clone(&clock), Arc::new(random));
        let shutdown = CancellationToken::new();
        let health = Health::new(service, shutdown.clone());
        let probed = bus.clone();
        health.register_with(health::NATS, move || {
            let connected = probed.is_connected();
            async move {
                if connected {
                    Ok(())
                } else {
                    Err("not connected".to_owned())
                }
            }
        });
        let metrics = metrics.for_service(service);
        road_figures::count(&bus, &metrics);
        Self {
            service,
            bus,
            clock,
            ids,
            shutdown,
            tasks: Tasks::new(telemetry::service_span(service), &metrics),
            health,
            metrics,
            blocking: Blocking::default(),
            loops: Loops::default(),
        }
    }

    /// Another clock and source of ids, for tests.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>, ids: IdSource) -> Self {
        self.clock = clock;
        self.ids = ids;
        self
    }

    /// A context for another service (or another run of one) in this process: its own tasks, its own
    /// shutdown token below this one's; bus, clock, pool, probes, loops and registry are shared.
    #[must_use]
    pub fn for_service(&self, service: &'static str) -> Self {
        let metrics = self.metrics.for_service(service);
        Self {
            service,
            shutdown: self.shutdown.child_token(),
            tasks: Tasks::new(telemetry::service_span(service), &metrics),
            health: self.health.for_service(service),
            metrics,
            ..self.clone()
        }
    }

    /// Who asks when this service asks another in the name of a tenant.
    pub fn caller(&self, tenant: Tenant) -> Caller {
        Caller::service(self.service, tenant)
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where ids get their randomness")]
fn random() -> u128 {
    rand::random()
}

/// A context whose bus reaches nobody.
#[cfg(test)]
pub(crate) async fn unconnected(service: &'static str) -> Context {
    let options = mesh_bus::BusOptions {
        url: "nats://127.0.0.1:1".to_owned(),
        name: service.to_owned(),
        monitor_url: None,
        user: None,
    };
    let bus = Bus::connect(options).await.expect("it connects in the background");
    Context::new(service, bus, Metrics::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn services_of_one_process_stop_alone_or_all_together() {
        let process = unconnected("mesh").await;
        let (registry, memory) = (process.for_service("registry"), process.for_service("memory"));
        registry.shutdown.cancel();
        assert!(!memory.shutdown.is_cancelled() && !process.shutdown.is_cancelled());
        process.shutdown.cancel();
        assert!(memory.shutdown.is_cancelled());
        assert_eq!(memory.caller(Tenant::default()).actor, "service:memory");
    }

    #[tokio::test]
    async fn without_nats_nobody_is_well() {
        let process = unconnected("mesh").await;
        let report = process.for_service("registry").health.check().await;
        assert!(!report.nats_connected() && report.database_connected());
    }

    #[tokio::test]
    async fn ids_differ() {
        let process = unconnected("mesh").await;
        assert_ne!(
            process.ids.next::<mesh_types::EventId>(),
            process.ids.next::<mesh_types::EventId>()
        );
    }
}
