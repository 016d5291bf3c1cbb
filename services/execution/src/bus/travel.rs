//! Two recordings side by side, and one held against an agent as it is now: nothing runs, nothing is written.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_api::Caller;
use mesh_api::journal::Record;
use mesh_api::page::{LIMIT_MAX, PageQuery};
use mesh_api::registry::{AgentVersions, VersionsRequest};
use mesh_api::steering::{CompareRequest, Comparison, ReplayReport, ReplayRequest};
use mesh_types::agent::AgentSpec;
use mesh_types::{Code, InvocationId, Problem};
use mesh_worker::{Input, Task};

use super::reads::not_found;
use crate::core::Meta;
use crate::state::State;
use crate::store::chain::{self, Chain};
use crate::store::load;
use crate::store::read::{self, Phase, view};
use crate::store::source::{self, step_of};

/// Records of one invocation that are read.
const RECORDS_MAX: i64 = 100_000;

struct Recording {
    meta: Meta,
    phase: Phase,
    chain: Chain,
    /// Of its steps, with those that it inherits before its own.
    steps: Vec<Record>,
}

pub(super) async fn compare(
    state: &Arc<State>,
    caller: Caller,
    request: CompareRequest,
) -> Result<Comparison, Problem> {
    let left = recording(state, &caller, request.left).await?;
    let right = recording(state, &caller, request.right).await?;
    let recorded = numbers(&left.steps);
    let shared = numbers(&right.steps)
        .intersection(&recorded)
        .take_while(|step| left.chain.recorder(**step) == right.chain.recorder(**step))
        .count();
    let steps = mesh_worker::compare(&left.steps, &right.steps);
    let differs = steps.iter().find(|step| !step.differs.is_empty());
    Ok(Comparison {
        left: view(&left.meta, &left.phase),
        right: view(&right.meta, &right.phase),
        shared_steps: u32::try_from(shared).unwrap_or(u32::MAX),
        first_difference: differs.map(|step| step.step),
        steps,
    })
}

async fn recording(state: &State, caller: &Caller, id: InvocationId) -> Result<Recording, Problem> {
    let read = async {
        let mut tx = mesh_store::tenant_tx(&state.readers, &caller.tenant).await?;
        let Some((meta, phase)) = read::invocations(&mut *tx, &[id]).await?.pop() else {
            return Ok(None);
        };
        Ok(Some(Recording {
            chain: chain::chain(&mut tx, id).await?,
            steps: source::steps(&mut tx, id, None).await?,
            meta,
            phase,
        }))
    };
    let read = read
        .await
        .map_err(|error| mesh_store::to_problem(error, "read a journal"))?;
    read.ok_or_else(|| not_found(id))
}

fn numbers(records: &[Record]) -> BTreeSet<u32> {
    let steps = records.iter().filter_map(|record| step_of(&record.fact));
    // What was told before the first step is no step.
    steps.filter(|step| *step > 0).collect()
}

pub(super) async fn replay(
    state: &Arc<State>,
    caller: Caller,
    request: ReplayRequest,
) -> Result<ReplayReport, Problem> {
    let id = request.id;
    let read = async {
        let mut tx = mesh_store::tenant_tx(&state.readers, &caller.tenant).await?;
        let Some((meta, _)) = read::invocations(&mut *tx, &[id]).await?.pop() else {
            return Ok(None);
        };
        let journal = load::journal(&mut tx, id, 0, RECORDS_MAX).await?;
        let source = source::of(&mut tx, &meta).await?;
        Ok(Some((meta, journal, source.inherited)))
    };
    let read = read
        .await
        .map_err(|error| mesh_store::to_problem(error, "read a journal"))?;
    let (meta, journal, inherited) = read.ok_or_else(|| not_found(id))?;
    let (version, spec) = version(state, &meta, request.version).await?;
    let input = Input {
        payload: meta.input.payload.value(),
        entrypoint: meta.entrypoint.clone(),
        context: meta.input.context.clone(),
        metadata: meta.input.metadata.clone(),
        session: meta.session.clone(),
    };
    let task = Task {
        invocation: id,
        agent: &meta.agent,
        spec: &spec,
        input: &input,
        depth: meta.depth().into(),
    };
    let steps = numbers(&journal).union(&numbers(&inherited)).count();
    Ok(ReplayReport {
        id,
        recorded_version: meta.version,
        version,
        steps: u32::try_from(steps).unwrap_or(u32::MAX),
        divergences: mesh_worker::replay(&journal, &inherited, task),
    })
}

/// The asked one, or the published one.
async fn version(state: &State, meta: &Meta, asked: Option<u32>) -> Result<(u32, Arc<AgentSpec>), Problem> {
    let agents = &state.router.agents;
    let Some(version) = asked else {
        let published = agents.published(&meta.tenant, &meta.agent).await?;
        return Ok((published.version, published.spec));
    };
    if version == meta.version {
        return Ok((version, agents.artifact(&meta.tenant, &meta.artifact).await?));
    }
    let caller = state.context.caller(meta.tenant.clone());
    let mut after = None;
    loop {
        let request = VersionsRequest {
            agent: meta.agent.clone(),
            page: PageQuery {
                limit: Some(LIMIT_MAX),
                after,
            },
        };
        let page = state.context.bus.call::<AgentVersions>(&caller, &request).await?;
        if let Some(found) = page.items.into_iter().find(|item| item.version == version) {
            return Ok((version, agents.artifact(&meta.tenant, &found.hash).await?));
        }
        if page.next.is_none() {
            let detail = format!("{} has no version {version}", meta.agent);
            return Err(Problem::new(Code::VersionNotFound, detail).field("version"));
        }
        after = page.next;
    }
}
