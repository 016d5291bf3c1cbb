//! `enroll`: a node joins, or comes back. The credential says whose it is; the registry says whether the id is free for
//! that owner; then the node gets the secret that it connects with from now on.

use std::sync::Arc;

use mesh_api::Caller;
use mesh_api::fleet::{NodeEntry, NodeRegister, NodeRegisterRequest};
use mesh_api::identity::{AuditEntry, AuditOutcome, EnrollRequest, Enrolled, JoinTokenView, Principal, PrincipalKind};
use mesh_types::id::JoinTokenId;
use mesh_types::{Code, EventId, Id, NodeId, Problem, Tenant};
use serde_json::{Value, json};

use super::DEVELOPER;
use crate::credential;
use crate::state::{State, failed, random};
use crate::store::join_tokens::{self, Use};
use crate::store::node_secrets;
use crate::verify::verify;

const ACTION: &str = "node.enroll";

/// Who joins.
struct Joining {
    tenant: Tenant,
    owner: String,
    /// As the audit and the registry name it.
    actor: String,
    /// `None` in development mode.
    principal: Option<Principal>,
    join_token: Option<JoinTokenView>,
}

/// As services ask; the gateway passes on what it was given.
pub(super) async fn service(state: Arc<State>, caller: Caller, request: EnrollRequest) -> Result<Enrolled, Problem> {
    enroll(&state, None, &caller.tenant, request).await
}

/// As whoever joins asks, at the subject of its own name.
pub(super) async fn node(state: Arc<State>, name: NodeId, request: EnrollRequest) -> Result<Enrolled, Problem> {
    let tenant = request.tenant.clone().unwrap_or_default();
    enroll(&state, Some(name), &tenant, request).await
}

async fn enroll(
    state: &State,
    asked_as: Option<NodeId>,
    tenant: &Tenant,
    request: EnrollRequest,
) -> Result<Enrolled, Problem> {
    let joining = who(state, asked_as.as_ref(), tenant, &request).await?;
    let node = match node_id(state, &joining, request.node_id.as_ref()) {
        Ok(node) => node,
        Err((node, problem)) => {
            refuse(state, &joining, node.as_str(), &problem.detail).await;
            return Err(problem);
        }
    };
    if !credential::is_free_for_nodes(&node) {
        return Err(reserved(&node));
    }
    let counted = count_use(state, &joining, &node).await?;
    let entry = match register(state, &joining, node.clone(), request).await {
        Ok(entry) => entry,
        Err(problem) => {
            if counted == Some(Use::Counted) {
                uncount_use(state, &joining, &node).await;
            }
            if problem.is(Code::Forbidden) {
                refuse(state, &joining, node.as_str(), &problem.detail).await;
            }
            return Err(problem);
        }
    };
    let secret = issue(state, &joining, &entry).await?;
    let nats_url = Some(&state.config.nats_url).filter(|url| !url.is_empty()).cloned();
    Ok(Enrolled {
        node: entry,
        secret,
        nats_url,
    })
}

async fn who(
    state: &State,
    asked_as: Option<&NodeId>,
    tenant: &Tenant,
    request: &EnrollRequest,
) -> Result<Joining, Problem> {
    let Some(credential) = &request.credential else {
        if state.config.require_credentials {
            let entry = refusal("anonymous", asked_as.map_or("unknown", NodeId::as_str), "no credential");
            state.note_refused(tenant, entry).await;
            return Err(
                Problem::new(Code::Unauthorized, "a node joins with a join token or an API key")
                    .next("`mesh tokens create` makes a join token: MESH_NODE_TOKEN=… mesh node"),
            );
        }
        return Ok(Joining {
            tenant: request.tenant.clone().unwrap_or_else(|| tenant.clone()),
            owner: DEVELOPER.into(),
            actor: DEVELOPER.into(),
            principal: None,
            join_token: None,
        });
    };
    let verified = match verify(state, credential).await? {
        Ok(verified) => verified,
        Err(refused) => {
            let actor = asked_as.map_or("anonymous", NodeId::as_str);
            state.note_refused(&refused.tenant, refused.entry(actor, ACTION)).await;
            return Err(refused.problem());
        }
    };
    let principal = verified.principal;
    if let Some(name) = asked_as
        && name.as_str() != principal.id
    {
        // Where NATS has no users anybody may ask at any name; the credential still has to be the name's.
        let entry = refusal(name.as_str(), &principal.id, "the credential is another one's");
        state.note_refused(&principal.tenant, entry).await;
        return Err(Problem::new(
            Code::Forbidden,
            "the credential is not of the name that asks",
        ));
    }
    let actor = match principal.kind {
        PrincipalKind::Key => format!("user:{}", principal.owner),
        PrincipalKind::JoinToken => format!("join:{}", principal.id),
        PrincipalKind::Node => format!("node:{}", principal.id),
    };
    Ok(Joining {
        tenant: principal.tenant.clone(),
        owner: principal.owner.clone(),
        actor,
        principal: Some(principal),
        join_token: verified.join_token,
    })
}

/// The id that it joins under: its own, the one that the token is for, the one it names, else a new one.
fn node_id(state: &State, joining: &Joining, named: Option<&NodeId>) -> Result<NodeId, (NodeId, Problem)> {
    let fixed = match &joining.principal {
        Some(principal) if principal.kind == PrincipalKind::Node => principal.id.parse().ok(),
        _ => joining.join_token.as_ref().and_then(|token| token.node_id.clone()),
    };
    match (fixed, named) {
        (Some(fixed), Some(named)) if fixed != *named => {
            let detail = format!("the credential is for the node `{fixed}`");
            Err((named.clone(), Problem::new(Code::Forbidden, detail).field("node_id")))
        }
        (Some(fixed), _) => Ok(fixed),
        (None, Some(named)) => Ok(named.clone()),
        (None, None) => {
            let ulid = state.context.ids.next::<EventId>().ulid();
            Ok(format!("nod_{ulid}").parse().expect("a ULID is a token"))
        }
    }
}

async fn register(
    state: &State,
    joining: &Joining,
    node: NodeId,
    request: EnrollRequest,
) -> Result<NodeEntry, Problem> {
    let caller = Caller {
        tenant: joining.tenant.clone(),
        actor: joining.actor.clone(),
        request_id: None,
    };
    let request = NodeRegisterRequest {
        node_id: Some(node),
        owner: joining.owner.clone(),
        name: request.name,
        mode: request.mode,
        labels: request.labels,
        capabilities: request.capabilities,
        slots: request.slots,
    };
    state.context.bus.call::<NodeRegister>(&caller, &request).await
}

/// The node's secret from now on, and the fact that it joined. None for who came back with its own, and none in
/// development mode.
async fn issue(state: &State, joining: &Joining, entry: &NodeEntry) -> Result<Option<String>, Problem> {
    let node = &entry.node_id;
    let principal = joining.principal.as_ref();
    let gets_secret = principal.is_some_and(|principal| principal.kind != PrincipalKind::Node);
    let secret = gets_secret.then(|| credential::node_secret(random()));
    let doing = "storing a node's secret";
    if secret.is_some() {
        // Of a node of this name that another tenant had, and that the registry has forgotten.
        let mut tx = state.begin_for_all().await?;
        node_secrets::strike_off(&mut tx, node, Some(&joining.tenant))
            .await
            .map_err(failed(doing))?;
        tx.commit().await.map_err(failed(doing))?;
    }
    let mut tx = state.begin(&joining.tenant).await?;
    if let Some(secret) = &secret {
        let hash = credential::hash(secret);
        let (by, at) = (joining.actor.as_str(), state.context.clock.now());
        let of = (&joining.tenant, joining.owner.as_str());
        node_secrets::replace(&mut tx, node, of, &hash, (at, by))
            .await
            .map_err(failed(doing))?;
    }
    let with = principal.map(|principal| &principal.id);
    let fact = AuditEntry {
        outcome: AuditOutcome::Done,
        after: json!({"owner": joining.owner, "with": with, "new_secret": secret.is_some()}),
        ..refusal(&joining.actor, node.as_str(), "")
    };
    state.note(&mut tx, &joining.tenant, fact).await?;
    state.commit(tx).await?;
    Ok(secret)
}

/// Counts the join where a token is good for so many nodes; a use that is not left refuses it.
async fn count_use(state: &State, joining: &Joining, node: &NodeId) -> Result<Option<Use>, Problem> {
    let Some(id) = token_id(joining) else {
        return Ok(None);
    };
    let doing = "counting a use of a join token";
    let mut tx = state.begin(&joining.tenant).await?;
    let counted = join_tokens::count_use(&mut tx, id, &joining.tenant, node, state.context.clock.now())
        .await
        .map_err(failed(doing))?;
    if counted == Use::Exhausted {
        drop(tx);
        refuse(state, joining, node.as_str(), "the join token is used up").await;
        return Err(Problem::new(
            Code::Unauthorized,
            "as many nodes as the join token is for have joined with it",
        )
        .next("`mesh tokens create` makes another one"));
    }
    tx.commit().await.map_err(failed(doing))?;
    Ok(Some(counted))
}

async fn uncount_use(state: &State, joining: &Joining, node: &NodeId) {
    let Some(id) = token_id(joining) else {
        return;
    };
    let undone = async {
        let doing = "taking back a use of a join token";
        let mut tx = state.begin(&joining.tenant).await?;
        join_tokens::uncount_use(&mut tx, id, node)
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

async fn refuse(state: &State, joining: &Joining, node: &str, reason: &str) {
    state
        .note_refused(&joining.tenant, refusal(&joining.actor, node, reason))
        .await;
}

fn refusal(actor: &str, node: &str, reason: &str) -> AuditEntry {
    AuditEntry {
        actor: actor.to_owned(),
        action: ACTION.to_owned(),
        subject: node.to_owned(),
        outcome: AuditOutcome::Refused,
        reason: reason.to_owned(),
        before: Value::Null,
        after: Value::Null,
        request_id: None,
    }
}

pub(super) fn reserved(node: &NodeId) -> Problem {
    Problem::new(
        Code::InvalidName,
        format!("`{node}` is no name for a node: key_ and jtk_ are for credentials"),
    )
    .field("node_id")
}
