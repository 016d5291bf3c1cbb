//! Whose credential something is. The stored truth is read each time; who asks often remembers the answer for seconds.

use std::time::Duration;

use mesh_api::identity::{AuditEntry, AuditOutcome, JoinTokenView, Principal, PrincipalKind};
use mesh_types::id::{JoinTokenId, KeyId};
use mesh_types::{Code, Problem, Tenant, Timestamp};
use serde_json::Value;

use crate::credential::{self, Claimed, Hash};
use crate::state::{State, failed};
use crate::store::{join_tokens, keys, node_secrets};

/// `last_used_at` is written at most this often.
const USED_EVERY: Duration = Duration::from_secs(60);

/// A credential that is good.
#[derive(Debug, Clone)]
pub(crate) struct Verified {
    pub(crate) principal: Principal,
    pub(crate) join_token: Option<JoinTokenView>,
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
        .next("`mesh keys create` and `mesh tokens create` make new ones")
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

async fn key(state: &State, id: KeyId, hash: &Hash) -> Result<Result<Verified, Refused>, Problem> {
    let mut tx = state.begin_for_all().await?;
    let known = keys::get(&mut *tx, id).await.map_err(failed("reading a key"))?;
    drop(tx);
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
    let now = state.context.clock.now();
    if let Some(reason) = over(view.revoked_at, view.expires_at, now) {
        return Ok(Err(refused(reason)));
    }
    if is_stale(view.last_used_at, now) {
        let mut tx = state.begin(&view.tenant).await?;
        let doing = "noting that a key is used";
        keys::used(&mut tx, id, now).await.map_err(failed(doing))?;
        tx.commit().await.map_err(failed(doing))?;
    }
    Ok(Ok(Verified {
        principal: Principal {
            id: view.id,
            kind: PrincipalKind::Key,
            owner: view.owner,
            tenant: view.tenant,
        },
        join_token: None,
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
    let principal = Principal {
        id: view.id.clone(),
        kind: PrincipalKind::JoinToken,
        owner: view.owner.clone(),
        tenant: view.tenant.clone(),
    };
    Ok(Ok(Verified {
        principal,
        join_token: Some(view),
    }))
}

async fn node(state: &State, hash: &Hash) -> Result<Result<Verified, Refused>, Problem> {
    let mut tx = state.begin_for_all().await?;
    let known = node_secrets::by_hash(&mut *tx, hash)
        .await
        .map_err(failed("reading a node's secret"))?;
    drop(tx);
    let Some(known) = known else {
        return Ok(Err(Refused::unknown()));
    };
    let now = state.context.clock.now();
    if let Some(reason) = over(known.revoked_at, None, now) {
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
            id: known.node.to_string(),
            kind: PrincipalKind::Node,
            owner: known.owner,
            tenant: known.tenant,
        },
        join_token: None,
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
