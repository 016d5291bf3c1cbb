//! What the servers under the mesh show: nats-server and PostgreSQL, looked at every 15 s. Every reconciler process looks
//! and says the same, whether it leads or not: a leader needs the very servers that this is about. Who reads the figures
//! takes `max by` over processes. A look that fails is told once in the log and as `up` 0, and harms nothing.

mod nats;
mod postgres;

use std::time::Duration;

use mesh_runtime::Context;
use sqlx::PgPool;

const EVERY: Duration = Duration::from_secs(15);

/// Before the service is ready: that it cannot be is what is to be seen.
pub(crate) fn start(context: &Context, pool: &PgPool) {
    context.tasks.spawn("watch-nats", nats::watch(context.clone()));
    context
        .tasks
        .spawn("watch-postgres", postgres::watch(context.clone(), pool.clone()));
}

/// Says a change in the log, once: what was well fails, or is well again.
#[derive(Default)]
struct Said(Option<String>);

impl Said {
    fn say(&mut self, what: &str, error: Option<String>) {
        match (&self.0, &error) {
            (None, Some(error)) => tracing::warn!(error, "{what} does not show how it is; looking again"),
            (Some(_), None) => tracing::info!("{what} shows how it is again"),
            _ => {}
        }
        self.0 = error;
    }
}
