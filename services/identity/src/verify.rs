//! Whose credential something is. The stored truth is read each time; who asks often remembers the answer for seconds.

use std::time::Duration;

use mesh_api::Role;
use mesh_api::identity::{AuditEntry, AuditOutcome, JoinTokenView, Principal, PrincipalKind};
use mesh_types::id::{JoinTokenId, KeyId};
use mesh_types::{Code, Problem, Tenant, Timestamp};
use serde_json::Value;

use crate::credential::{self, Claimed, Hash};
use crate::people::{access, sessions};
use crate::state::{State, failed};
use crate::store::{join_tokens, keys, node_secrets, people as stored_people};

/// `last_used_at` is written at most this often.
const USED_EVERY: Duration = Duration::from_secs(60);

/// A credential that is good.
#[derive(Debug, Clone)]
pub(crate) struct Verified {
    pub(crate) principal: Principal,
    pub(crate) join_token: Option<JoinTokenView>,
    /// The session or key that it stands on while a stream is open; `None` for nodes and who joins.
    pub(crate) standing: Option<String>,
    pub(crate) expires_at: Option<Timestamp>,
}

/// One that is not, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) tenant: Tenant,
    /// The id that it names, or `unknown`.
    pub(crate) subject: String,
    pub(crate) reason: &'static str,
}

impl Refused {
    fn unknown() -> Self {
        Self {
            tenant: Tenant::default(),
            subject: "unknown".into(),
            reason: "no credential of this mesh",
        }
    }

    /// What its holder is told.
    pub(crate) fn problem(&self) -> Problem {
        Problem::new(
            Code::Unauthorized,
            format!("the credential is refused: {}", self.reason),
        )
        .next("sign in again; for programs `mesh keys create`, for nodes `mesh tokens create` makes a new one")
    }

    pub(crate) fn entry(&self, actor: &str, action: &str) -> AuditEntry {
        AuditEntry {
            actor: actor.to_owned(),
            action: action.to_owned(),
            subject: self.subject.clone(),
            outcome: AuditOutcome::Refused,
            reason: self.reason.to_owned(),
            before: Value::Null,
            after: Value::Null,
            request_id: None,
        }
    }
}

/// The inner error says that the credential is none; the outer one that it could not be looked at.
pub(crate) async fn verify(state: &State, text: &str) -> Result<Result<Verified, Refused>, Problem> {
    if access::is_like(text) {
        return access_token(state, text).await;
    }
    let Some((claimed, hash)) = credential::parse(text) else {
        return Ok(Err(Refused::unknown()));
    };
    let verified = match claimed {
        Claimed::Key(id) => key(state, id, &hash).await?,
        Claimed::JoinToken(id) => join_token(state, id, &hash).await?,
        Claimed::Node => node(state, &hash).await?,
    };
    Ok(verified)
}

/// Why something that was good is not any more.
fn over(revoked_at: Option<Timestamp>, expires_at: Option<Timestamp>, now: Timestamp) -> Option<&'static str> {
    match (revoked_at, expires_at) {
        (Some(_), _) => Some("revoked"),
        (None, Some(at)) if at <= now => Some("expired"),
        _ => None,
    }
}

/// Only our signature, our form and our time, and the session and the person as they are stored now.
async fn access_token(state: &State, text: &str) -> Result<Result<Verified, Refused>, Problem> {
    let Some(token) = access::parse(text) else {
        return Ok(Err(Refused::unknown()));
    };
    let claims = match state.keyring.read(state, &token).await? {
        Ok(claims) => claims,
        Err(reason) => {
            return Ok(Err(Refused {
                reason,
                ..Refused::unknown()
            }));
        }
    };
    let refused = |reason| Refused {
        tenant: claims.tenant.clone(),
        subject: claims.sub.to_string(),
        reason,
    };
    let going = match sessions::going(state, claims.sid, &claims.tenant).await? {
        Ok(going) if going.live.person == claims.sub => going,
        Ok(_) => return Ok(Err(refused("of another person's session"))),
        Err(reason) => return Ok(Err(refused(reason))),
    };
    Ok(Ok(Verified {
        principal: Principal {
            role: Some(going.role),
            scopes: Vec::new(),
            id: claims.sub.to_string(),
            kind: PrincipalKind::User,
            owner: going.live.login,
            tenant: claims.tenant,
        },
        join_token: None,
        standing: Some(claims.sid.to_string()),
        expires_at: Some(going.live.expires_at),
    }))
}

async fn key(state: &State, id: KeyId, hash: &Hash) -> Result<Result<Verified, Refused>, Problem> {
    let known = known_key(state, id).await?;
    let is_its = |known: &keys::Known| credential::is_same(&known.hash, hash);
    match &known {
        Some(known) if !is_its(known) => Ok(Err(Refused {
            tenant: known.view.tenant.clone(),
            subject: known.view.id.clone(),
            reason: "not its secret",
        })),
        _ => stored_key(state, id, known).await,
    }
}

/// As [`verify`], for a key whose secret was seen before.
pub(crate) async fn key_by_id(state: &State, id: KeyId) -> Result<Result<Verified, Refused>, Problem> {
    let known = known_key(state, id).await?;
    stored_key(state, id, known).await
}

async fn known_key(state: &State, id: KeyId) -> Result<Option<keys::Known>, Problem> {
    let mut tx = state.begin_for_all().await?;
    keys::get(&mut *tx, id).await.map_err(failed("reading a key"))
}

async fn stored_key(
    state: &State,
    id: KeyId,
    known: Option<keys::Known>,
) -> Result<Result<Verified, Refused>, Problem> {
    let Some(known) = known else {
        let subject = id.to_string();
        return Ok(Err(Refused {
            subject,
            ..Refused::unknown()
        }));
    };
    let view = known.view;
    let now = state.context.clock.now();
    let is_over = over(view.revoked_at, view.expires_at, now);
    if let Some(reason) = is_over.or(known.owner_disabled.then_some("the person is disabled")) {
        return Ok(Err(Refused {
            tenant: view.tenant,
            subject: view.id,
            reason,
        }));
    }
    if is_stale(view.last_used_at, now) {
        let mut tx = state.begin(&view.tenant).await?;
        let doing = "noting that a key is used";
        keys::used(&mut tx, id, now).await.map_err(failed(doing))?;
        tx.commit().await.map_err(failed(doing))?;
    }
    // A person's key does no more than the person does by now.
    let role = match (view.role, known.owner_role) {
        (Some(role), Some(owner)) if !owner.covers(role) => Some(owner),
        (role, _) => role,
    };
    Ok(Ok(Verified {
        principal: Principal {
            role,
            scopes: view.scopes,
            id: view.id.clone(),
            kind: PrincipalKind::Key,
            owner: view.owner,
            tenant: view.tenant,
        },
        join_token: None,
        standing: Some(view.id),
        expires_at: view.expires_at,
    }))
}

async fn join_token(state: &State, id: JoinTokenId, hash: &Hash) -> Result<Result<Verified, Refused>, Problem> {
    let mut tx = state.begin_for_all().await?;
    let known = join_tokens::get(&mut *tx, id)
        .await
        .map_err(failed("reading a join token"))?;
    let Some(known) = known else {
        let subject = id.to_string();
        return Ok(Err(Refused {
            subject,
            ..Refused::unknown()
        }));
    };
    let view = known.view;
    let refused = |reason| Refused {
        tenant: view.tenant.clone(),
        subject: view.id.clone(),
        reason,
    };
    if !credential::is_same(&known.hash, hash) {
        return Ok(Err(refused("not its secret")));
    }
    if let Some(reason) = over(view.revoked_at, Some(view.expires_at), state.context.clock.now()) {
        return Ok(Err(refused(reason)));
    }
    // As a key, it does no more than the person who made it may by now.
    let standing = stored_people::standing_of(&mut *tx, &view.owner, &view.tenant)
        .await
        .map_err(failed("reading a token's owner"))?;
    if standing.is_some_and(|(role, disabled)| disabled || !role.covers(Role::Operator)) {
        return Ok(Err(refused("its owner may not any more")));
    }
    let principal = Principal {
        role: None,
        scopes: Vec::new(),
        id: view.id.clone(),
        kind: PrincipalKind::JoinToken,
        owner: view.owner.clone(),
        tenant: view.tenant.clone(),
    };
    Ok(Ok(Verified {
        principal,
        join_token: Some(view),
        standing: None,
        expires_at: None,
    }))
}

async fn node(state: &State, hash: &Hash) -> Result<Result<Verified, Refused>, Problem> {
    let mut tx = state.begin_for_all().await?;
    let known = node_secrets::by_hash(&mut *tx, hash)
        .await
        .map_err(failed("reading a node's secret"))?;
    let Some(known) = known else {
        return Ok(Err(Refused::unknown()));
    };
    // An owner that is no person, such as a program, is not disabled.
    let standing = stored_people::standing_of(&mut *tx, &known.owner, &known.tenant)
        .await
        .map_err(failed("reading a node's owner"))?;
    drop(tx);
    let is_disabled = standing.is_some_and(|(_, disabled)| disabled);
    let now = state.context.clock.now();
    let is_over = over(known.revoked_at, None, now);
    if let Some(reason) = is_over.or(is_disabled.then_some("the person is disabled")) {
        return Ok(Err(Refused {
            tenant: known.tenant,
            subject: known.node.to_string(),
            reason,
        }));
    }
    if is_stale(known.last_used_at, now) {
        let mut tx = state.begin(&known.tenant).await?;
        let doing = "noting that a node's secret is used";
        node_secrets::used(&mut tx, &known.node, now)
            .await
            .map_err(failed(doing))?;
        tx.commit().await.map_err(failed(doing))?;
    }
    Ok(Ok(Verified {
        principal: Principal {
            role: None,
            scopes: Vec::new(),
            id: known.node.to_string(),
            kind: PrincipalKind::Node,
            owner: known.owner,
            tenant: known.tenant,
        },
        join_token: None,
        standing: None,
        expires_at: None,
    }))
}

fn is_stale(last_used_at: Option<Timestamp>, now: Timestamp) -> bool {
    last_used_at.is_none_or(|at| now.since(at) >= USED_EVERY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_good_until_it_is_revoked_or_its_time_is_over() {
        let at = Timestamp::from_millis;
        assert_eq!(over(None, None, at(5)), None);
        assert_eq!(over(None, Some(at(6)), at(5)), None);
        assert_eq!(over(None, Some(at(5)), at(5)), Some("expired"));
        assert_eq!(over(Some(at(1)), Some(at(9)), at(5)), Some("revoked"));
    }
}
