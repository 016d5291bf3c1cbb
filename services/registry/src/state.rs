//! What handlers and loops of `registry` share; the only holder of clock and ids.

use mesh_api::Caller;
use mesh_runtime::{Context, Doorbell};
use mesh_store::Outbox;
use mesh_types::event::{Change, Event, Fact};
use mesh_types::{Problem, Tenant};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use crate::config::Config;
use crate::pointers::Pointers;

pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) context: Context,
    pub(crate) pool: PgPool,
    pub(crate) pointers: Pointers,
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
        self.append(tx, caller, fact, None).await
    }

    /// As [`Self::record`], with what the object was and became, for the audit.
    pub(crate) async fn record_change(
        &self,
        tx: &mut PgConnection,
        caller: &Caller,
        fact: Fact,
        change: Change,
    ) -> Result<(), Problem> {
        self.append(tx, caller, fact, Some(Box::new(change))).await
    }

    async fn append(
        &self,
        tx: &mut PgConnection,
        caller: &Caller,
        fact: Fact,
        change: Option<Box<Change>>,
    ) -> Result<(), Problem> {
        let event = Event {
            id: self.context.ids.next(),
            tenant: caller.tenant.clone(),
            at: self.context.clock.now(),
            actor: caller.actor.clone(),
            request_id: caller.request_id,
            change,
            fact,
        };
        Outbox::REGISTRY
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
}

/// A database error where it is handled: logged once, and as the problem that the caller gets.
pub(crate) fn failed(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Problem {
    move |error| {
        tracing::warn!(%error, doing, "the database failed a request");
        mesh_store::to_problem(error, doing)
    }
}
