//! One commit of the leader: the epoch first, then everything that a pass or a probe changes, with its events.

use mesh_api::reconciler::Pass;
use mesh_store::{IdExt as _, Outbox, every_tenant_tx};
use mesh_types::event::Event;
use mesh_types::{PassId, Timestamp};
use sqlx::{PgConnection, PgPool};

use super::services::ServiceRow;
use super::{big, body, leader, services};
use crate::core::Changes;

/// What is committed together.
#[derive(Default)]
pub(crate) struct Commit<'a> {
    pub(crate) changes: Option<&'a Changes>,
    pub(crate) pass: Option<&'a Pass>,
    /// The pass before, which said the same and is replaced.
    pub(crate) replaces: Option<PassId>,
    /// Passes before are forgotten.
    pub(crate) prune_before: Option<Timestamp>,
    pub(crate) services: &'a [ServiceRow],
    pub(crate) events: &'a [Event],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Committed {
    Done,
    /// Somebody else leads: nothing was written.
    Stale,
}

/// Writes all of it, or nothing when the epoch is over.
pub(crate) async fn commit(pool: &PgPool, epoch: u64, what: &Commit<'_>) -> Result<Committed, sqlx::Error> {
    let mut tx = every_tenant_tx(pool).await?;
    if !leader::fence(&mut tx, epoch).await? {
        return Ok(Committed::Stale);
    }
    if let Some(changes) = what.changes {
        write(&mut tx, changes).await?;
    }
    if let Some(pass) = what.pass {
        write_pass(&mut tx, pass, what.replaces).await?;
    }
    if let Some(before) = what.prune_before {
        sqlx::query("DELETE FROM reconciler.pass WHERE at < $1")
            .bind(before.to_chrono())
            .execute(&mut *tx)
            .await?;
    }
    for service in what.services {
        services::put(&mut tx, service).await?;
    }
    for event in what.events {
        Outbox::RECONCILER.append(&mut tx, event).await?;
    }
    tx.commit().await?;
    Ok(Committed::Done)
}

async fn write(tx: &mut PgConnection, changes: &Changes) -> Result<(), sqlx::Error> {
    write_replicas(tx, changes).await?;
    write_nodes(tx, changes).await?;
    write_agents(tx, changes).await
}

async fn write_replicas(tx: &mut PgConnection, changes: &Changes) -> Result<(), sqlx::Error> {
    let (mut ids, mut tenants, mut nodes, mut bodies) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for replica in changes.replicas.values() {
        ids.push(replica.id.to_uuid());
        tenants.push(replica.tenant.as_str());
        nodes.push(replica.node.as_str());
        bodies.push(body(replica)?);
    }
    if !ids.is_empty() {
        sqlx::query(
            "INSERT INTO reconciler.replica (id, tenant, node, body) \
             SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) \
             ON CONFLICT (id) DO UPDATE SET body = excluded.body",
        )
        .bind(ids)
        .bind(tenants)
        .bind(nodes)
        .bind(bodies)
        .execute(&mut *tx)
        .await?;
    }
    if !changes.removed.is_empty() {
        let removed: Vec<_> = changes.removed.iter().map(|id| id.to_uuid()).collect();
        sqlx::query("DELETE FROM reconciler.replica WHERE id = ANY($1)")
            .bind(removed)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

async fn write_nodes(tx: &mut PgConnection, changes: &Changes) -> Result<(), sqlx::Error> {
    let (mut ids, mut generations, mut epochs, mut bodies) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (node, kept) in &changes.nodes {
        ids.push(node.as_str());
        generations.push(big(kept.generation));
        epochs.push(big(kept.epoch));
        bodies.push(body(kept)?);
    }
    if !ids.is_empty() {
        sqlx::query(
            "INSERT INTO reconciler.node (id, generation, epoch, body) \
             SELECT * FROM unnest($1::text[], $2::int8[], $3::int8[], $4::text[]) \
             ON CONFLICT (id) DO UPDATE SET generation = excluded.generation, epoch = excluded.epoch, \
                 body = excluded.body",
        )
        .bind(ids)
        .bind(generations)
        .bind(epochs)
        .bind(bodies)
        .execute(&mut *tx)
        .await?;
    }
    if !changes.forgotten.is_empty() {
        let forgotten: Vec<_> = changes.forgotten.iter().map(|node| node.as_str()).collect();
        sqlx::query("DELETE FROM reconciler.node WHERE id = ANY($1)")
            .bind(forgotten)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

async fn write_agents(tx: &mut PgConnection, changes: &Changes) -> Result<(), sqlx::Error> {
    let (mut tenants, mut agents, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
    for ((tenant, agent), kept) in &changes.agents {
        tenants.push(tenant.as_str());
        agents.push(agent.as_str());
        bodies.push(body(kept)?);
    }
    if !tenants.is_empty() {
        sqlx::query(
            "INSERT INTO reconciler.agent (tenant, agent, body) \
             SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) \
             ON CONFLICT ON CONSTRAINT agent_key DO UPDATE SET body = excluded.body",
        )
        .bind(tenants)
        .bind(agents)
        .bind(bodies)
        .execute(&mut *tx)
        .await?;
    }
    if !changes.dropped.is_empty() {
        let (tenants, agents): (Vec<_>, Vec<_>) = changes
            .dropped
            .iter()
            .map(|(tenant, agent)| (tenant.as_str(), agent.as_str()))
            .unzip();
        sqlx::query(
            "DELETE FROM reconciler.agent AS a USING unnest($1::text[], $2::text[]) AS gone (tenant, agent) \
             WHERE a.tenant = gone.tenant AND a.agent = gone.agent",
        )
        .bind(tenants)
        .bind(agents)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

async fn write_pass(tx: &mut PgConnection, pass: &Pass, replaces: Option<PassId>) -> Result<(), sqlx::Error> {
    let Some(id) = pass.id else {
        return Ok(());
    };
    if let Some(replaced) = replaces {
        sqlx::query("DELETE FROM reconciler.pass WHERE id = $1")
            .bind(replaced.to_uuid())
            .execute(&mut *tx)
            .await?;
    }
    sqlx::query("INSERT INTO reconciler.pass (id, at, body) VALUES ($1, $2, $3)")
        .bind(id.to_uuid())
        .bind(pass.at.to_chrono())
        .bind(body(pass)?)
        .execute(&mut *tx)
        .await
        .map(drop)
}
