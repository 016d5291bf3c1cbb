//! The way of committed facts from a service's outbox to EVENTS: the one loop that knows both the store and the bus.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesh_bus::Headers;
use mesh_runtime::{Context, Doorbell, MetricName, PassReport, run_loop};
use mesh_store::{Outbox, Pending};
use mesh_types::{Subject, Timestamp};
use sqlx::PgPool;
use tokio::sync::Mutex;

/// Another process, or this one before it died, may have left events behind: looked for at least this often.
const TICK: Duration = Duration::from_secs(5);

/// What one service's relay works with.
struct Relay {
    outbox: Outbox,
    pool: PgPool,
    context: Context,
    bell: Doorbell,
    last_pruned: Mutex<Option<Timestamp>>,
}

/// Publishes the facts of `outbox` at each ring of `bell`, which follows each commit that wrote some, until the context's
/// shutdown. At least once: what is on its way then is published again by the next start, and its id tells.
pub async fn relay(outbox: Outbox, pool: PgPool, context: Context, bell: Doorbell) {
    let relay = Arc::new(Relay {
        outbox,
        pool,
        context: context.clone(),
        bell: bell.clone(),
        last_pruned: Mutex::new(None),
    });
    let pass = || {
        let relay = Arc::clone(&relay);
        async move {
            tokio::select! {
                report = relay.pass() => report,
                () = relay.context.shutdown.cancelled() => PassReport::default(),
            }
        }
    };
    run_loop(context, "event-relay", bell, TICK, pass).await;
}

impl Relay {
    async fn pass(&self) -> PassReport {
        let now = self.context.clock.now();
        let mut last_pruned = self.last_pruned.lock().await;
        let relayed = self
            .outbox
            .relay(&self.pool, now, &mut last_pruned, |pending| self.publish(pending));
        match relayed.await {
            Ok(report) => {
                if report.more {
                    self.bell.ring();
                }
                PassReport {
                    plan_size: report.published + report.failed,
                    error: report.error,
                }
            }
            Err(error) => PassReport::failed(error),
        }
    }

    async fn publish(&self, pending: Pending) -> Result<(), String> {
        let Pending { event, body } = pending;
        let subject = event.subject();
        let mut headers = Headers::new();
        headers.insert(Headers::MESH_TENANT, event.tenant.as_str());
        headers.insert(Headers::MESH_ACTOR, &event.actor);
        let (bus, id) = (&self.context.bus, event.id.to_string());
        let stored = bus.publish_durable(&subject, &id, headers, Bytes::from(body));
        stored.await.map_err(|error| error.to_string())?;
        if let Subject::Event { kind, verb, .. } = &subject {
            let published = self.context.metrics.counter(MetricName::EventsPublished);
            published.add(1, &[("event", &format!("{kind}.{verb}"))]);
        }
        Ok(())
    }
}
