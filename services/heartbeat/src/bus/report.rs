//! `report` and `health`: what a node says over HTTP, taken in as what it publishes. The edge has checked whose node it
//! is; a node's own credential speaks for that node only.

use mesh_api::Caller;
use mesh_api::heartbeat::{HealthReportRequest, Reported};
use mesh_types::fleet::Heartbeat;
use mesh_types::{Code, NodeId, Problem};

use super::database;
use crate::nodes::Taken;
use crate::report::{Beat, Health, Refused};
use crate::state::State;
use crate::store::observed::{self, Row};

const DOING: &str = "reading what is known of the node";

pub(super) async fn heartbeat(state: &State, caller: &Caller, request: Heartbeat) -> Result<Reported, Problem> {
    let now = state.now();
    own(state, caller, &request.node_id, "node.heartbeat")?;
    let beat = Beat::checked(request, now).map_err(|refused| match refused {
        Refused::Invalid(reason) => Problem::new(Code::InvalidRequest, reason),
        Refused::Forged(node) => forbidden(&node),
    })?;
    let node = beat.heartbeat.node_id.clone();
    if state.nodes().get(&node).0.is_none()
        && let Some(known) = row(state, &node).await?
        && known.order().is_some_and(|known| known >= beat.order())
    {
        return Ok(Reported { taken: false });
    }
    let taken = state.nodes().beat(beat);
    answer(state, taken)
}

pub(super) async fn health(state: &State, caller: &Caller, request: HealthReportRequest) -> Result<Reported, Problem> {
    let HealthReportRequest { node_id, health } = request;
    own(state, caller, &node_id, "node.health")?;
    let health = Health {
        node: node_id,
        snapshot: health,
        at: state.now(),
    };
    if state.nodes().get(&health.node).1.is_none()
        && let Some(row) = row(state, &health.node).await?
        && let (Some(at), Some(snapshot)) = (row.health_at(), row.health())
    {
        let node = health.node.clone();
        let known = Health { node, snapshot, at };
        if !health.is_newer_than(&known) {
            return Ok(Reported { taken: false });
        }
    }
    let taken = state.nodes().health(health);
    answer(state, taken)
}

async fn row(state: &State, node: &NodeId) -> Result<Option<Row>, Problem> {
    let rows = observed::of(&state.pool, std::slice::from_ref(node)).await;
    Ok(rows.map_err(database(DOING))?.pop())
}

fn answer(state: &State, taken: Taken) -> Result<Reported, Problem> {
    match taken {
        Taken::Newest(write) => {
            if let Some(write) = write {
                state.write_key(write);
            }
            Ok(Reported { taken: true })
        }
        Taken::Late => Ok(Reported { taken: false }),
        Taken::Full => Err(Problem::new(Code::Busy, "too many nodes are known")),
    }
}

fn own(state: &State, caller: &Caller, named: &NodeId, action: &str) -> Result<(), Problem> {
    match caller.actor.strip_prefix("node:") {
        Some(node) if node != named.as_str() => {
            state.audit.forged(node, named, action, state.now());
            Err(forbidden(named))
        }
        _ => Ok(()),
    }
}

fn forbidden(node: &NodeId) -> Problem {
    Problem::new(Code::Forbidden, format!("only node `{node}` itself reports for it")).field("node_id")
}
