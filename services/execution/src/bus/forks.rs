//! Forks: planned from what the caller may read of the source, accepted by the owner of its shard.

use std::sync::Arc;
use std::time::Duration;

use mesh_api::endpoint::Access;
use mesh_api::execution::Invocation;
use mesh_api::steering::{Edit, ForkReply, ForkRequest};
use mesh_api::{Caller, Endpoint};
use mesh_types::{Code, InvocationId, Problem, Subject};
use tokio::sync::Semaphore;

use super::reads::not_found;
use crate::core::Meta;
use crate::directory::Owner;
use crate::lane::command::moved;
use crate::request::{self, ForkOrder};
use crate::shards::ShardId;
use crate::state::State;
use crate::store::read::{self, Phase};
use crate::store::{chain, prune};

/// Of one try; together a little less than the endpoint's deadline, and longer than a takeover.
const DEADLINE: Duration = Duration::from_secs(10);
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(150);
const KEY_MAX: usize = 256;
/// Forks that are accepted at the same time; each holds a connection until it is durable.
static AT_ONCE: Semaphore = Semaphore::const_new(2);

/// Endpoint of one instance, which the directory of another names as the owner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForkHere;

impl Endpoint for ForkHere {
    const SERVICE: &'static str = "execution";
    const NAME: &'static str = "fork";
    type Request = ForkOrder;
    type Reply = Invocation;
    const ACCESS: Access = Access::Service;
}

pub(super) async fn fork(state: &Arc<State>, caller: Caller, request: ForkRequest) -> Result<ForkReply, Problem> {
    let ForkRequest {
        id,
        from_step,
        edit,
        dry_run,
        idempotency_key,
    } = request;
    if let Some(key) = &idempotency_key
        && (key.is_empty() || key.len() > KEY_MAX || key.contains('\0'))
    {
        let rule = format!("idempotency_key must have 1 to {KEY_MAX} bytes and no U+0000");
        return Err(Problem::new(Code::InvalidRequest, rule).field("idempotency_key"));
    }
    let (shard, recorded) = {
        let read = async {
            let mut tx = mesh_store::tenant_tx(&state.readers, &caller.tenant).await?;
            let chain = chain::chain(&mut tx, id).await?;
            let heads = chain::heads(&mut tx, &chain).await?;
            Ok((!chain.is_empty()).then_some((chain.shard, heads)))
        };
        let read = read
            .await
            .map_err(|error| mesh_store::to_problem(error, "read the source"))?;
        read.ok_or_else(|| not_found(id))?
    };
    let steps = mesh_worker::plan_fork(&recorded, from_step, &edit)?;
    if dry_run {
        return Ok(ForkReply {
            invocation: None,
            steps,
        });
    }
    let key = idempotency_key.as_ref().map(|key| format!("fork/{id}/{key}"));
    let order = order(state, id, from_step, edit, key);
    let accepted = accept(state, &caller, shard, order).await;
    let invocation = accepted.map_err(|problem| match idempotency_key {
        Some(key) if problem.is(Code::KeyReused) => {
            let detail = format!("idempotency_key `{key}` was used for another fork of {id}");
            Problem { detail, ..problem }
        }
        _ => problem,
    })?;
    Ok(ForkReply {
        invocation: Some(invocation),
        steps,
    })
}

pub(super) fn order(state: &State, source: InvocationId, from_step: u32, edit: Edit, key: Option<String>) -> ForkOrder {
    ForkOrder {
        source,
        from_step,
        edit,
        key,
        id: state.context.ids.next(),
        is_repeat: false,
    }
}

/// Looks for the owner as long as a takeover lasts.
pub(super) async fn accept(
    state: &Arc<State>,
    caller: &Caller,
    shard: ShardId,
    mut order: ForkOrder,
) -> Result<Invocation, Problem> {
    let mut tries = 0;
    loop {
        let (problem, is_gone) = match state.directory.owner(shard) {
            Owner::Here => match here(state, caller.clone(), order.clone()).await {
                Err(problem) => (problem, false),
                done => return done,
            },
            Owner::There(instance) => match there(state, &instance, caller, &order).await {
                Err(problem) => {
                    let is_gone = problem.is(Code::Unavailable);
                    (problem, is_gone)
                }
                done => return done,
            },
            Owner::Nobody => match state.directory.refusal() {
                Some(refusal) => return Err(refusal),
                None => (moved(), false),
            },
        };
        tries += 1;
        if tries == TRIES || !(is_gone || problem.is(Code::Moved)) {
            return Err(problem);
        }
        // A try without an answer may be committed.
        order.is_repeat = true;
        state.directory.ring();
        tokio::time::sleep(PAUSE).await;
    }
}

async fn there(state: &Arc<State>, instance: &str, caller: &Caller, order: &ForkOrder) -> Result<Invocation, Problem> {
    let subject = Subject::Execution {
        instance: instance.parse()?,
        command: ForkHere::NAME.parse()?,
    };
    let bus = &state.context.bus;
    bus.call_at::<ForkHere>(&subject, caller, order, DEADLINE).await
}

/// By this very process. The source is not pruned until its fork is durable.
pub(super) async fn here(state: &Arc<State>, caller: Caller, order: ForkOrder) -> Result<Invocation, Problem> {
    let closed = |_| Problem::new(Code::Unavailable, "execution is shutting down");
    let _place = AT_ONCE.acquire().await.map_err(closed)?;
    let doing = |error| mesh_store::to_problem(error, "read the source");
    let mut tx = state.pool.begin().await.map_err(doing)?;
    let source = async {
        let Some((meta, _)) = source(&mut tx, &caller, order.source).await? else {
            return Ok(None);
        };
        prune::keep(&mut tx, meta.root()).await?;
        // As it is now that nobody can prune it.
        self::source(&mut tx, &caller, order.source).await
    };
    let (meta, seq) = source.await.map_err(doing)?.ok_or_else(|| not_found(order.source))?;
    if state.directory.owner(meta.shard) != Owner::Here {
        return Err(moved());
    }
    let spec = state.router.agents.artifact(&meta.tenant, &meta.artifact).await?;
    let now = state.context.clock.now();
    let mut prepared = request::prepare_fork(&caller, meta, seq, order, spec, now);
    prepared.belongs_to(mesh_trace::current_place());
    let accepted = state.router.accept_here(&prepared, false).await;
    // Nothing was written by it; an error gives the lock back all the same.
    tx.rollback().await.ok();
    Ok(accepted?.invocation)
}

/// With its highest record.
async fn source(
    connection: &mut sqlx::PgConnection,
    caller: &Caller,
    id: InvocationId,
) -> Result<Option<(Meta, u32)>, sqlx::Error> {
    let found = read::invocations(connection, &[id]).await?.pop();
    let own = found.filter(|(meta, _)| meta.tenant == caller.tenant);
    Ok(own.map(|(meta, phase)| {
        let seq = match phase {
            Phase::Open(row) => row.seq,
            Phase::Ended(row) => row.seq,
        };
        (meta, seq)
    }))
}
