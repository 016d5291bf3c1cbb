//! What handlers and loops of `identity` share; the only holder of clock, ids and randomness.

use std::sync::Mutex;

use mesh_api::identity::{AuditEntry, AuditFact, AuditOutcome};
use mesh_bus::Bus;
use mesh_runtime::{Context, Doorbell};
use mesh_store::Outbox;
use mesh_types::event::{Event, Fact};
use mesh_types::{EventId, Problem, Tenant};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use crate::callout::{Connections, Issuer};
use crate::config::Config;
use crate::people::keyring::Keyring;
use crate::refusals::Refusals;
use crate::store;

pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) context: Context,
    pub(crate) pool: PgPool,
    /// Rung after each commit that wrote an event.
    pub(crate) relay_bell: Doorbell,
    /// Rung after each commit that wrote an audit fact.
    pub(crate) chain_bell: Doorbell,
    pub(crate) refusals: Mutex<Refusals>,
    /// `None`: nats-server has no users.
    pub(crate) issuer: Option<Issuer>,
    pub(crate) connections: Connections,
    /// nats-server's system account.
    pub(crate) system: Option<Bus>,
    pub(crate) keyring: Keyring,
    /// One permit per password that is looked at.
    pub(crate) password_places: tokio::sync::Semaphore,
}

impl State {
    pub(crate) async fn begin(&self, tenant: &Tenant) -> Result<Transaction<'static, Postgres>, Problem> {
        mesh_store::tenant_tx(&self.pool, tenant)
            .await
            .map_err(failed("beginning a transaction"))
    }

    /// For the questions whose credential something is.
    pub(crate) async fn begin_for_all(&self) -> Result<Transaction<'static, Postgres>, Problem> {
        mesh_store::every_tenant_tx(&self.pool)
            .await
            .map_err(failed("beginning a transaction"))
    }

    /// Writes an audit fact, and its event, beside the change that makes it true.
    pub(crate) async fn note(&self, tx: &mut PgConnection, tenant: &Tenant, entry: AuditEntry) -> Result<(), Problem> {
        let id: EventId = self.context.ids.next();
        let at = self.context.clock.now();
        let event = Event {
            request_id: None,
            change: None,
            id,
            tenant: tenant.clone(),
            at,
            actor: entry.actor.clone(),
            fact: Fact::AuditNoted {
                action: entry.action.clone(),
                subject: entry.subject.clone(),
                outcome: store::audit::outcome_text(entry.outcome).to_owned(),
                reason: entry.reason.clone(),
            },
        };
        let fact = AuditFact {
            id: id.to_string(),
            tenant: tenant.clone(),
            at,
            entry,
        };
        let doing = "noting an audit fact";
        store::audit::insert(&mut *tx, id, &fact).await.map_err(failed(doing))?;
        Outbox::IDENTITY.append(tx, &event).await.map_err(failed(doing))
    }

    /// Commits, then rings the relay.
    pub(crate) async fn commit(&self, tx: Transaction<'static, Postgres>) -> Result<(), Problem> {
        tx.commit().await.map_err(failed("committing"))?;
        self.relay_bell.ring();
        self.chain_bell.ring();
        Ok(())
    }

    /// Notes a fact that stands alone.
    pub(crate) async fn note_alone(&self, tenant: &Tenant, entry: AuditEntry) -> Result<(), Problem> {
        let mut tx = self.begin(tenant).await?;
        self.note(&mut tx, tenant, entry).await?;
        self.commit(tx).await
    }

    /// Notes a refusal; the same one again within a second is counted. That it cannot be noted is logged: the refusal
    /// stands.
    pub(crate) async fn note_refused(&self, tenant: &Tenant, entry: AuditEntry) {
        let entry = AuditEntry {
            outcome: AuditOutcome::Refused,
            ..entry
        };
        let now = self.context.clock.monotonic();
        let to_write = self.refusals().take(tenant, entry, now);
        if let Some((tenant, entry)) = to_write {
            self.write_refused(&tenant, entry).await;
        }
    }

    pub(crate) async fn write_refused(&self, tenant: &Tenant, entry: AuditEntry) {
        let told = format!(
            "{} of {} by {}: {}",
            entry.action, entry.subject, entry.actor, entry.reason
        );
        tracing::info!(%tenant, told, "refused");
        if let Err(problem) = self.note_alone(tenant, entry).await {
            tracing::warn!(%problem, told, "a refusal is not in the audit");
        }
    }

    pub(crate) fn refusals(&self) -> std::sync::MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// 256 unpredictable bits.
#[expect(
    clippy::disallowed_methods,
    reason = "a secret that a seed could give again would be none"
)]
pub(crate) fn random() -> [u8; 32] {
    rand::random()
}

/// A database error where it is handled: logged once, and as the problem that the caller gets.
pub(crate) fn failed(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Problem {
    move |error| {
        tracing::warn!(%error, doing, "the database failed a request");
        mesh_store::to_problem(error, doing)
    }
}
