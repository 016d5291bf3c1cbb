//! What a node that joins gets, and what its token pays for it.

use mesh_api::fleet::NodeEntry;
use mesh_api::identity::{AuditEntry, AuditOutcome, PrincipalKind};
use mesh_types::id::JoinTokenId;
use mesh_types::{Code, NodeId, Problem};
use serde_json::json;
use sqlx::PgConnection;

use super::enroll::{Joining, refusal, refuse, taken};
use crate::state::{State, failed, random};
use crate::store::join_tokens::{self, Use};
use crate::store::node_secrets::{self, Issue, Known as Secret};
use crate::{callout, credential};

/// The node's secret from now on, and the fact that it joined. None for who came back with its own, and none in
/// development mode.
pub(super) async fn issue(
    state: &State,
    joining: &Joining,
    entry: &NodeEntry,
    forgotten: Option<&Secret>,
) -> Result<Option<String>, Problem> {
    let node = &entry.node_id;
    let principal = joining.principal.as_ref();
    let gets_secret = principal.is_some_and(|principal| principal.kind != PrincipalKind::Node);
    let secret = gets_secret.then(|| credential::node_secret(random()));
    if secret.is_some() {
        strike_off_foreign(state, joining, node).await?;
    }
    let mut tx = state.begin(&joining.tenant).await?;
    let mut stored = Stored::First;
    if let Some(secret) = &secret {
        // Another try for the same node may have failed meanwhile, and taken the use back that this one goes by.
        if use_once(state, &mut tx, joining, node).await? == Some(Use::Exhausted) {
            drop(tx);
            return Err(exhausted(state, joining, node).await);
        }
        stored = store(state, &mut tx, joining, (node, secret), forgotten).await?;
        if stored == Stored::Taken {
            drop(tx);
            return Err(taken(state, joining, node).await);
        }
    }
    let with = principal.map(|principal| &principal.id);
    let fact = AuditEntry {
        outcome: AuditOutcome::Done,
        after: json!({"owner": joining.owner, "with": with, "new_secret": secret.is_some()}),
        ..refusal(&joining.actor, node.as_str(), "")
    };
    state.note(&mut tx, &joining.tenant, fact).await?;
    state.commit(tx).await?;
    if stored == Stored::Rotated {
        callout::cut_off(state, node.as_str()).await;
    }
    Ok(secret)
}

/// The secret of a node of this name that another tenant had, and that the registry has forgotten.
async fn strike_off_foreign(state: &State, joining: &Joining, node: &NodeId) -> Result<(), Problem> {
    let doing = "striking off a node's secret";
    let mut tx = state.begin_for_all().await?;
    node_secrets::strike_off(&mut tx, node, Some(&joining.tenant), state.context.clock.now())
        .await
        .map_err(failed(doing))?;
    tx.commit().await.map_err(failed(doing))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
    First,
    /// The one before is none any more.
    Rotated,
    /// Somebody else got one since it was looked at.
    Taken,
}

async fn store(
    state: &State,
    tx: &mut PgConnection,
    joining: &Joining,
    (node, secret): (&NodeId, &str),
    forgotten: Option<&Secret>,
) -> Result<Stored, Problem> {
    let doing = "storing a node's secret";
    let before = node_secrets::get(&mut *tx, node).await.map_err(failed(doing))?;
    let is_forgotten = |known: &Secret| forgotten.is_some_and(|forgotten| forgotten.hash == known.hash);
    if let Some(known) = &before
        && !is_forgotten(known)
        && !joining.may_replace(known)
    {
        return Ok(Stored::Taken);
    }
    let issue = Issue {
        node,
        tenant: &joining.tenant,
        owner: &joining.owner,
        hash: &credential::hash(secret),
        at: state.context.clock.now(),
        issued_for: &joining.actor,
    };
    let hash = before.as_ref().map(|known| known.hash.as_slice());
    if !node_secrets::replace(tx, &issue, hash).await.map_err(failed(doing))? {
        let problem = Problem::new(Code::Unavailable, format!("the node `{node}` joins elsewhere just now"));
        return Err(problem.field("node_id").next("try again"));
    }
    Ok(before.map_or(Stored::First, |_| Stored::Rotated))
}

/// Counts the join where a token is good for so many nodes; a use that is not left refuses it.
pub(super) async fn count_use(state: &State, joining: &Joining, node: &NodeId) -> Result<Option<Use>, Problem> {
    let mut tx = state.begin(&joining.tenant).await?;
    let counted = use_once(state, &mut tx, joining, node).await?;
    if counted == Some(Use::Exhausted) {
        drop(tx);
        return Err(exhausted(state, joining, node).await);
    }
    tx.commit().await.map_err(failed("counting a use of a join token"))?;
    Ok(counted)
}

/// `None` for whoever joins without a token.
async fn use_once(
    state: &State,
    tx: &mut PgConnection,
    joining: &Joining,
    node: &NodeId,
) -> Result<Option<Use>, Problem> {
    let Some(id) = token_id(joining) else {
        return Ok(None);
    };
    let counted = join_tokens::count_use(tx, id, &joining.tenant, node, state.context.clock.now()).await;
    counted.map(Some).map_err(failed("counting a use of a join token"))
}

async fn exhausted(state: &State, joining: &Joining, node: &NodeId) -> Problem {
    refuse(state, joining, node.as_str(), "the join token is used up").await;
    let detail = "as many nodes as the join token is for have joined with it";
    Problem::new(Code::Unauthorized, detail).next("`mesh tokens create` makes another one")
}

pub(super) async fn uncount_use(state: &State, joining: &Joining, node: &NodeId) {
    let Some(id) = token_id(joining) else {
        return;
    };
    let undone = async {
        let doing = "taking back a use of a join token";
        let mut tx = state.begin(&joining.tenant).await?;
        join_tokens::uncount_use(&mut tx, id, node, &joining.actor)
            .await
            .map_err(failed(doing))?;
        tx.commit().await.map_err(failed(doing))
    };
    // Logged where it failed; the token is good for one node less.
    let _: Result<(), Problem> = undone.await;
}

fn token_id(joining: &Joining) -> Option<JoinTokenId> {
    joining.join_token.as_ref()?.id.parse().ok()
}
