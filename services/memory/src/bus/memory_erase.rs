//! `memory-erase`: all that match, and a receipt. An erasure that was interrupted goes on, by a repeat or by the loop.

use mesh_api::Caller;
use mesh_api::memory::{ForgetRequest, Receipt};
use mesh_store::{Outbox, tenant_tx};
use mesh_types::event::Fact;
use mesh_types::{Code, Problem, ReceiptId, Tenant};
use sqlx::PgConnection;

use super::database;
use crate::request::{check_erase, erase_hash};
use crate::state::State;
use crate::store::erase;
use crate::store::erasures::{self, Erasure};

const DOING: &str = "erasing memories";
/// Memories of one transaction: about a quarter of a second, so that nobody waits long for one of them.
const BATCH: i64 = 1_000;
/// Of larger erasures only the receipt is told.
const TOLD_MAX: u64 = 1_000;

pub(super) async fn handle(state: &State, caller: Caller, request: ForgetRequest) -> Result<Receipt, Problem> {
    check_erase(&request)?;
    let tenant = &caller.tenant;
    let erasure = Erasure {
        id: request.id.unwrap_or_else(|| state.context.ids.next()),
        body_hash: erase_hash(&request)?,
        keep_derived: request.keep_derived,
        at: state.now(),
        by: caller.actor.clone(),
    };
    if request.dry_run {
        return rehearse(state, tenant, erasure, &request).await;
    }
    let mut tx = erasures::begin(&state.pool, tenant, erasure.id)
        .await
        .map_err(database(DOING))?;
    if let Some((receipt, hash)) = erasures::receipt(&mut tx, tenant, erasure.id)
        .await
        .map_err(database(DOING))?
    {
        return if hash == erasure.body_hash {
            Ok(receipt)
        } else {
            Err(conflict(erasure.id))
        };
    }
    match erasures::get(&mut tx, tenant, erasure.id)
        .await
        .map_err(database(DOING))?
    {
        Some(begun) if begun.body_hash != erasure.body_hash => return Err(conflict(erasure.id)),
        Some(_) => {}
        None => erasures::plan(&mut tx, tenant, &erasure, &request.filter)
            .await
            .map_err(database(DOING))?,
    }
    tx.commit().await.map_err(database(DOING))?;
    run(state, tenant, erasure.id).await
}

/// What an erasure would take: it is planned, read, and not committed.
async fn rehearse(
    state: &State,
    tenant: &Tenant,
    erasure: Erasure,
    request: &ForgetRequest,
) -> Result<Receipt, Problem> {
    let planned = Erasure {
        id: state.context.ids.next(),
        ..erasure
    };
    let mut tx = tenant_tx(&state.pool, tenant).await.map_err(database(DOING))?;
    erasures::plan(&mut tx, tenant, &planned, &request.filter)
        .await
        .map_err(database(DOING))?;
    let receipt = erasures::attest(&mut tx, tenant, &planned)
        .await
        .map_err(database(DOING))?;
    tx.rollback().await.map_err(database(DOING))?;
    Ok(Receipt {
        id: request.id.unwrap_or(receipt.id),
        dry_run: true,
        ..receipt
    })
}

/// Erases what is listed, batch by batch, each in a transaction of its own, and answers with the receipt.
pub(crate) async fn run(state: &State, tenant: &Tenant, id: ReceiptId) -> Result<Receipt, Problem> {
    loop {
        if let Some(receipt) = step(state, tenant, id).await? {
            return Ok(receipt);
        }
    }
}

/// One batch; the receipt once nothing is left.
async fn step(state: &State, tenant: &Tenant, id: ReceiptId) -> Result<Option<Receipt>, Problem> {
    let mut tx = erasures::begin(&state.pool, tenant, id)
        .await
        .map_err(database(DOING))?;
    let Some(erasure) = erasures::get(&mut tx, tenant, id).await.map_err(database(DOING))? else {
        // Somebody else brought it to its end.
        let known = erasures::receipt(&mut tx, tenant, id).await.map_err(database(DOING))?;
        let lost = || Problem::new(Code::Internal, format!("erasure `{id}` has no receipt"));
        return known.map(|(receipt, _)| Some(receipt)).ok_or_else(lost);
    };
    let batch = erasures::batch(&mut tx, tenant, &erasure, BATCH)
        .await
        .map_err(database(DOING))?;
    if batch.is_empty() {
        let receipt = close(state, &mut tx, tenant, &erasure).await?;
        tx.commit().await.map_err(database(DOING))?;
        state.outbox_bell.ring();
        return Ok(Some(receipt));
    }
    let gone = erase::remove(&mut tx, tenant, &batch, erasure.at)
        .await
        .map_err(database(DOING))?;
    let waiting = erase::free(&mut tx, tenant, &batch, erasure.at)
        .await
        .map_err(database(DOING))?;
    erasures::settle(&mut tx, tenant, &erasure, &batch, &gone)
        .await
        .map_err(database(DOING))?;
    tx.commit().await.map_err(database(DOING))?;
    if waiting > 0 {
        state.embed_bell.ring();
    }
    Ok(None)
}

async fn close(state: &State, tx: &mut PgConnection, tenant: &Tenant, erasure: &Erasure) -> Result<Receipt, Problem> {
    let receipt = erasures::attest(tx, tenant, erasure).await.map_err(database(DOING))?;
    let mut facts = Vec::new();
    if receipt.forgotten <= TOLD_MAX {
        for (memory, agent) in erasures::first(tx, tenant, erasure, BATCH)
            .await
            .map_err(database(DOING))?
        {
            let agent = agent.parse()?;
            facts.push(Fact::MemoryForgotten { memory, agent });
        }
    }
    facts.push(Fact::MemoryErased {
        receipt: erasure.id,
        forgotten: receipt.forgotten,
    });
    for fact in facts {
        let event = state.event(tenant, &erasure.by, fact);
        Outbox::MEMORY.append(tx, &event).await.map_err(database(DOING))?;
    }
    erasures::close(tx, tenant, erasure, &receipt)
        .await
        .map_err(database(DOING))?;
    Ok(receipt)
}

fn conflict(id: ReceiptId) -> Problem {
    Problem::new(Code::MemoryConflict, format!("receipt `{id}` is of another request"))
        .field("id")
        .next("leave the id out, or send a new one")
}
