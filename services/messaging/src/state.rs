//! What handlers and loops of `messaging` share; the only holder of clock and ids.

use mesh_api::Caller;
use mesh_runtime::{Context, Doorbell};
use mesh_store::Outbox;
use mesh_types::event::{Event, Fact};
use mesh_types::{EventId, Id as _, MessageId, Problem, Tenant};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use crate::config::Config;

pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) context: Context,
    pub(crate) pool: PgPool,
    /// Rung after each commit that wrote an event.
    pub(crate) relay_bell: Doorbell,
}

impl State {
    pub(crate) async fn begin(&self, tenant: &Tenant) -> Result<Transaction<'static, Postgres>, Problem> {
        mesh_store::tenant_tx(&self.pool, tenant)
            .await
            .map_err(failed("beginning a transaction"))
    }

    /// Writes the fact beside the change that makes it true.
    pub(crate) async fn record(&self, tx: &mut PgConnection, caller: &Caller, fact: Fact) -> Result<(), Problem> {
        let event = Event {
            request_id: caller.request_id,
            change: None,
            id: self.context.ids.next(),
            tenant: caller.tenant.clone(),
            at: self.context.clock.now(),
            actor: caller.actor.clone(),
            fact,
        };
        Outbox::MESSAGING
            .append(tx, &event)
            .await
            .map_err(failed("recording an event"))
    }

    /// Commits, then rings the relay.
    pub(crate) async fn commit(&self, tx: Transaction<'static, Postgres>) -> Result<(), Problem> {
        tx.commit().await.map_err(failed("committing"))?;
        self.relay_bell.ring();
        Ok(())
    }

    /// `msg_` and a ULID of this moment.
    pub(crate) fn mint(&self) -> MessageId {
        let ulid = self.context.ids.next::<EventId>().ulid();
        format!("msg_{ulid}").parse().expect("a prefix and a ULID are a token")
    }
}

/// A database error where it is handled: logged once, and as the problem that the caller gets.
pub(crate) fn failed(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Problem {
    move |error| {
        tracing::warn!(%error, doing, "the database failed a request");
        mesh_store::to_problem(error, doing)
    }
}
