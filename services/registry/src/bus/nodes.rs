//! `node-register`, `node-configure`, `node-reported-mode`, `node-get`, `node-list`, `node-all`, `node-drain`,
//! `node-forget`: nodes as they are wanted. Who may see or change one is `fleet_policy`'s word alone.

use std::sync::Arc;

use mesh_api::fleet::{
    NodeConfigureRequest, NodeDrainRequest, NodeEntry, NodeGetRequest, NodeListRequest, NodeRegisterRequest,
    NodeReportedModeRequest, Viewer,
};
use mesh_api::node::Bell;
use mesh_api::{Caller, Page, PageQuery};
use mesh_types::event::{Change, Fact};
use mesh_types::{Code, EventId, Id as _, NodeId, Problem, Subject, Tenant, fleet_policy};
use serde_json::{Value, json};
use sqlx::{PgConnection, Postgres, Transaction};

use super::{agents, tenants};
use crate::nodes::{Known, Report};
use crate::state::{State, failed};
use crate::store::nodes as store;

/// A row that was in the way and is gone when it is looked for was forgotten between: once more.
const REGISTER_TRIES: u32 = 3;

pub(super) async fn register(
    state: Arc<State>,
    caller: Caller,
    mut request: NodeRegisterRequest,
) -> Result<NodeEntry, Problem> {
    let id = request.node_id.take().unwrap_or_else(|| mint(&state));
    let mut tx = state.begin(&caller.tenant).await?;
    tenants::require(&state, &mut tx, &caller).await?;
    let at = state.context.clock.now();
    let new = Known::new(id.clone(), caller.tenant.clone(), request.clone(), at)?;
    for _ in 0..REGISTER_TRIES {
        if store::insert(&mut tx, &new)
            .await
            .map_err(failed("registering a node"))?
        {
            let fact = registered(&new.entry);
            state.record(&mut tx, &caller, fact).await?;
            state.commit(tx).await?;
            return Ok(new.entry);
        }
        let Some(known) = lock(&mut tx, &caller.tenant, &id).await? else {
            continue;
        };
        if known.entry.owner != request.owner {
            break;
        }
        let renewed = known.clone().renewed(request)?;
        return change(&state, tx, &caller, &known, renewed).await;
    }
    Err(taken(&id))
}

pub(super) async fn configure(
    state: Arc<State>,
    caller: Caller,
    request: NodeConfigureRequest,
) -> Result<NodeEntry, Problem> {
    let NodeConfigureRequest {
        viewer,
        node_id,
        configuration,
        labels,
    } = request;
    let (tx, known) = lock_own(&state, &caller, &viewer, &node_id).await?;
    let configured = known.clone().configured(configuration, labels)?;
    let entry = change(&state, tx, &caller, &known, configured).await?;
    if entry.configuration != known.entry.configuration && caller.actor != actor_of(&node_id) {
        ring(&state, node_id).await;
    }
    Ok(entry)
}

/// What its owner changed here, the node takes on. One that does not hear it learns it at its next start.
async fn ring(state: &State, node: NodeId) {
    let bell = Bell {
        owner: "registry".into(),
        stops: false,
    };
    let body = serde_json::to_vec(&bell).expect("a bell is plain data");
    let subject = Subject::Bell { node };
    if let Err(error) = state.context.bus.publish(&subject, body.into()).await {
        tracing::debug!(%error, %subject, "a node was not rung");
    }
}

pub(super) async fn reported_mode(
    state: Arc<State>,
    _: Caller,
    request: NodeReportedModeRequest,
) -> Result<NodeEntry, Problem> {
    let NodeReportedModeRequest {
        node_id,
        mode,
        incarnation,
        seq,
    } = request;
    let beyond = |number: u64| i64::try_from(number).is_err();
    if beyond(incarnation) || beyond(seq) {
        let problem = Problem::new(
            Code::InvalidRequest,
            "incarnation and seq must lie below 9223372036854775808",
        );
        return Err(problem.field(if beyond(incarnation) { "incarnation" } else { "seq" }));
    }
    let caller = itself(&state, &node_id).await?;
    let mut tx = state.begin(&caller.tenant).await?;
    let known = lock(&mut tx, &caller.tenant, &node_id)
        .await?
        .ok_or_else(|| missing(&node_id))?;
    match known.clone().reported(Report { incarnation, seq }, mode) {
        Some(newer) => change(&state, tx, &caller, &known, newer).await,
        None => Ok(known.entry),
    }
}

pub(super) async fn get(state: Arc<State>, caller: Caller, request: NodeGetRequest) -> Result<NodeEntry, Problem> {
    let NodeGetRequest { viewer, node_id } = request;
    // A service that asks for itself sees the whole fleet, as with `node-all`; for somebody, it says for whom.
    let is_for_itself = caller.actor.starts_with("service:") && viewer.owner.is_none();
    let mut tx = if is_for_itself {
        fleet(&state).await?
    } else {
        state.begin(&caller.tenant).await?
    };
    let known = store::get(&mut tx, &node_id).await.map_err(failed("reading a node"))?;
    let viewer = viewer.in_tenant(&caller.tenant);
    let seen = known.filter(|known| is_for_itself || fleet_policy::sees(viewer, known.entry.facts()));
    seen.map(|known| known.entry).ok_or_else(|| missing(&node_id))
}

pub(super) async fn list(
    state: Arc<State>,
    caller: Caller,
    request: NodeListRequest,
) -> Result<Page<NodeEntry>, Problem> {
    let NodeListRequest { viewer, page } = request;
    let after: Option<NodeId> = agents::cursor(page.after.as_deref())?;
    let viewer = viewer.in_tenant(&caller.tenant);
    let mut tx = state.begin(&caller.tenant).await?;
    tenants::check(&state, &mut tx, &caller.tenant).await?;
    let rows = store::list_seen(&mut tx, viewer, after.as_ref(), i64::from(page.limit()) + 1)
        .await
        .map_err(failed("listing nodes"))?;
    let mut page = cut(rows, page.limit());
    // The statement chose them; the policy has the last word.
    page.items.retain(|entry| fleet_policy::sees(viewer, entry.facts()));
    Ok(page)
}

pub(super) async fn all(state: Arc<State>, _: Caller, query: PageQuery) -> Result<Page<NodeEntry>, Problem> {
    let after: Option<NodeId> = agents::cursor(query.after.as_deref())?;
    let mut tx = fleet(&state).await?;
    let rows = store::list_all(&mut tx, after.as_ref(), i64::from(query.limit()) + 1)
        .await
        .map_err(failed("listing the fleet"))?;
    Ok(cut(rows, query.limit()))
}

pub(super) async fn drain(state: Arc<State>, caller: Caller, request: NodeDrainRequest) -> Result<NodeEntry, Problem> {
    let (tx, known) = lock_own(&state, &caller, &request.viewer, &request.node_id).await?;
    let mut drained = known.clone();
    drained.entry.drained = request.drained;
    change(&state, tx, &caller, &known, drained).await
}

pub(super) async fn forget(state: Arc<State>, caller: Caller, request: NodeGetRequest) -> Result<NodeEntry, Problem> {
    let (mut tx, known) = lock_own(&state, &caller, &request.viewer, &request.node_id).await?;
    let entry = known.entry;
    store::delete(&mut tx, &entry.tenant, &entry.node_id)
        .await
        .map_err(failed("forgetting a node"))?;
    let fact = Fact::NodeForgotten {
        node: entry.node_id.clone(),
        owner: entry.owner.clone(),
        mode: entry.configuration.mode,
    };
    let change = Change {
        before: shown(&entry),
        ..Change::default()
    };
    state.record_change(&mut tx, &caller, fact, change).await?;
    state.commit(tx).await?;
    Ok(entry)
}

/// What a person sets of a node, for the audit.
fn shown(entry: &NodeEntry) -> Value {
    json!({"owner": entry.owner, "drained": entry.drained, "configuration": entry.configuration, "labels": entry.labels})
}

/// For the node itself, by the name in its subject: in whatever tenant it is.
pub(super) async fn own_entry(state: &State, node_id: &NodeId) -> Result<NodeEntry, Problem> {
    let mut tx = fleet(state).await?;
    let known = store::get(&mut tx, node_id).await.map_err(failed("reading a node"))?;
    known.map(|known| known.entry).ok_or_else(|| missing(node_id))
}

/// The node as the caller of its own changes, in its own tenant.
async fn itself(state: &State, node_id: &NodeId) -> Result<Caller, Problem> {
    let mut tx = fleet(state).await?;
    let tenant = store::tenant_of(&mut tx, node_id)
        .await
        .map_err(failed("reading a node"))?;
    Ok(Caller {
        role: None,
        tenant: tenant.ok_or_else(|| missing(node_id))?,
        actor: actor_of(node_id),
        request_id: None,
    })
}

fn actor_of(node_id: &NodeId) -> String {
    format!("node:{node_id}")
}

/// Locks a node that the viewer may change.
async fn lock_own(
    state: &State,
    caller: &Caller,
    viewer: &Viewer,
    node_id: &NodeId,
) -> Result<(Transaction<'static, Postgres>, Known), Problem> {
    let mut tx = state.begin(&caller.tenant).await?;
    let known = lock(&mut tx, &caller.tenant, node_id).await?;
    let may = |known: &Known| fleet_policy::may_configure(viewer.in_tenant(&caller.tenant), known.entry.facts());
    match known {
        Some(known) if may(&known) => Ok((tx, known)),
        _ if viewer.owner.is_none() => Err(missing(node_id)),
        // Whether there is such a node is not said.
        _ => Err(
            Problem::new(Code::Forbidden, format!("`{node_id}` is no node of yours"))
                .field("node_id")
                .next("mesh nodes lists your nodes; a new one registers first"),
        ),
    }
}

async fn lock(tx: &mut PgConnection, tenant: &Tenant, id: &NodeId) -> Result<Option<Known>, Problem> {
    store::get_locked(tx, tenant, id)
        .await
        .map_err(failed("locking a node"))
}

/// Writes what changed, with its event; the same again is no change. A report that changes nothing but its own number
/// is no event.
async fn change(
    state: &State,
    mut tx: Transaction<'static, Postgres>,
    caller: &Caller,
    known: &Known,
    mut wanted: Known,
) -> Result<NodeEntry, Problem> {
    if *known == wanted {
        return Ok(wanted.entry);
    }
    let is_told = known.entry != wanted.entry;
    if is_told {
        wanted.entry.updated_at = state.context.clock.now();
    }
    store::replace(&mut tx, &wanted)
        .await
        .map_err(failed("changing a node"))?;
    if is_told {
        let fact = Fact::NodeUpdated {
            node: wanted.entry.node_id.clone(),
            owner: wanted.entry.owner.clone(),
            mode: wanted.entry.configuration.mode,
        };
        let change = Change {
            before: shown(&known.entry),
            after: shown(&wanted.entry),
        };
        state.record_change(&mut tx, caller, fact, change).await?;
    }
    state.commit(tx).await?;
    Ok(wanted.entry)
}

/// Reads across tenants, writes nothing.
async fn fleet(state: &State) -> Result<Transaction<'static, Postgres>, Problem> {
    mesh_store::every_tenant_tx(&state.pool)
        .await
        .map_err(failed("beginning a transaction"))
}

/// A page that fits into a reply.
fn cut(rows: Vec<Known>, limit: u32) -> Page<NodeEntry> {
    let entries: Vec<NodeEntry> = rows.into_iter().map(|known| known.entry).collect();
    let size = |entry: &NodeEntry| serde_json::to_vec(entry).map_or(0, |json| json.len());
    let keep = super::fitting(entries.iter().map(size), limit);
    Page::cut(entries, keep, |entry| entry.node_id.to_string())
}

/// `nod_` and a ULID of this moment.
fn mint(state: &State) -> NodeId {
    let ulid = state.context.ids.next::<EventId>().ulid();
    format!("nod_{ulid}").parse().expect("a prefix and a ULID are a token")
}

fn registered(entry: &NodeEntry) -> Fact {
    Fact::NodeRegistered {
        node: entry.node_id.clone(),
        owner: entry.owner.clone(),
        mode: entry.configuration.mode,
    }
}

fn taken(id: &NodeId) -> Problem {
    Problem::new(Code::Forbidden, format!("the node id `{id}` is another owner's"))
        .field("node_id")
        .next("choose another id (AGENT_NODE_ID), or leave it out and get one")
}

fn missing(id: &NodeId) -> Problem {
    Problem::new(Code::NodeNotFound, format!("there is no node `{id}`"))
        .field("node_id")
        .next("mesh nodes lists the nodes there are; mesh node makes this machine one")
}
