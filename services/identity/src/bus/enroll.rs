//! `enroll`: a node joins, or comes back. The credential says whose it is; the registry says whether the id is free for
//! that owner; then the node gets the secret that it connects with from now on.

use std::sync::Arc;

use mesh_api::fleet::{NodeEntry, NodeGet, NodeGetRequest, NodeRegister, NodeRegisterRequest, Viewer};
use mesh_api::identity::{AuditEntry, AuditOutcome, EnrollRequest, Enrolled, JoinTokenView, Principal, PrincipalKind};
use mesh_api::{Caller, Role};
use mesh_types::{Code, EventId, Id, NodeId, Problem, Tenant};
use serde_json::Value;

use super::DEVELOPER;
use super::issue::{count_use, issue, uncount_use};
use crate::credential;
use crate::state::{State, failed};
use crate::store::join_tokens::Use;
use crate::store::node_secrets::{self, Known as Secret};
use crate::verify::verify;

const ACTION: &str = "node.enroll";

/// Who joins.
pub(super) struct Joining {
    pub(super) tenant: Tenant,
    pub(super) owner: String,
    /// As the audit and the registry name it.
    pub(super) actor: String,
    /// `None` in development mode.
    pub(super) principal: Option<Principal>,
    pub(super) join_token: Option<JoinTokenView>,
}

impl Joining {
    /// A token that is for no node in particular is no key to those that have joined, with it or otherwise.
    fn is_for_new_nodes(&self) -> bool {
        self.join_token.as_ref().is_some_and(|token| token.node_id.is_none())
    }

    /// Whether it may give a node that has this secret another one. That of another owner is one that the registry has
    /// forgotten, or it refuses who joins.
    pub(super) fn may_replace(&self, known: &Secret) -> bool {
        !self.is_for_new_nodes() || known.owner != self.owner || self.may_repeat(known)
    }

    /// Whether this token let the node in, and nobody has seen it since: the answer may have been lost on its way.
    fn may_repeat(&self, known: &Secret) -> bool {
        known.issued_for == self.actor && known.last_used_at.is_none() && known.revoked_at.is_none()
    }
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
    let forgotten = check_new(state, &joining, &node).await?;
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
    let secret = match issue(state, &joining, &entry, forgotten.as_ref()).await {
        Ok(secret) => secret,
        Err(problem) => {
            if counted == Some(Use::Counted) && !problem.is_transient() {
                uncount_use(state, &joining, &entry.node_id).await;
            }
            return Err(problem);
        }
    };
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
    if !may_join(&principal) {
        let reason = "its role or its scopes do not suffice";
        let entry = refusal(&format!("user:{}", principal.owner), &principal.id, reason);
        state.note_refused(&principal.tenant, entry).await;
        let detail = "joining a node takes the role operator and, of a key with scopes, `nodes:write`";
        return Err(Problem::new(Code::Forbidden, detail));
    }
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
        PrincipalKind::Key | PrincipalKind::User => format!("user:{}", principal.owner),
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

/// What the edge asks of who registers a node counts on NATS, too.
fn may_join(principal: &Principal) -> bool {
    match principal.kind {
        PrincipalKind::JoinToken | PrincipalKind::Node => true,
        PrincipalKind::Key | PrincipalKind::User => {
            let scopes = &principal.scopes;
            let is_in_scope = scopes.is_empty() || scopes.iter().any(|scope| scope == "nodes:write");
            is_in_scope && principal.role.is_some_and(|role| role.covers(Role::Operator))
        }
    }
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
        role: None,
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

/// Refuses to take over a node of the same owner; whose it is otherwise is the registry's word. Answers a secret that is
/// left of a node which the registry has forgotten.
async fn check_new(state: &State, joining: &Joining, node: &NodeId) -> Result<Option<Secret>, Problem> {
    if !joining.is_for_new_nodes() {
        return Ok(None);
    }
    let mut tx = state.begin(&joining.tenant).await?;
    let known = node_secrets::get(&mut *tx, node)
        .await
        .map_err(failed("reading a node's secret"))?;
    drop(tx);
    let Some(known) = known.filter(|known| !joining.may_replace(known)) else {
        return Ok(None);
    };
    let request = NodeGetRequest {
        viewer: Viewer::default(),
        node_id: known.node.clone(),
    };
    let caller = Caller::service("identity", joining.tenant.clone());
    match state.context.bus.call::<NodeGet>(&caller, &request).await {
        Ok(_) => Err(taken(state, joining, node).await),
        Err(problem) if problem.is(Code::NodeNotFound) => Ok(Some(known)),
        Err(problem) => Err(problem),
    }
}

pub(super) async fn taken(state: &State, joining: &Joining, node: &NodeId) -> Problem {
    let detail = format!("the node `{node}` has joined already, and the token is not its own");
    refuse(state, joining, node.as_str(), &detail).await;
    Problem::new(Code::Forbidden, detail).field("node_id").next(format!(
        "join with an API key of its owner, or with a token made for this node: mesh tokens create --node {node}"
    ))
}

pub(super) async fn refuse(state: &State, joining: &Joining, node: &str, reason: &str) {
    state
        .note_refused(&joining.tenant, refusal(&joining.actor, node, reason))
        .await;
}

pub(super) fn refusal(actor: &str, node: &str, reason: &str) -> AuditEntry {
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
        format!("`{node}` is no name for a node: key_, jtk_ and usr_ are for credentials"),
    )
    .field("node_id")
}
