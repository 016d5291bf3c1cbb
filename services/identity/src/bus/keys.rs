//! `key-create`, `key-list`, `key-revoke`; a node's id in place of a key's revokes that node's secret.

use std::sync::Arc;

use mesh_api::identity::{AuditEntry, AuditOutcome, KeyCreated, KeyRequest, KeyView, RevokeRequest};
use mesh_api::{Caller, Page, PageQuery, Role};
use mesh_types::id::KeyId;
use mesh_types::{Code, Id, NodeId, Problem, Tenant};
use serde_json::{Value, json};

use super::{ADMIN, Reach, check_life, check_owner, parse};
use crate::callout::ROUTER_SCOPE;
use crate::credential;
use crate::state::{State, failed, random};
use crate::store::{keys as store, node_secrets};
use crate::{callout, store::node_secrets::Known as KnownNode};

/// Characters of a key's name.
const NAME_CHARS_MAX: usize = 200;
const SCOPES_MAX: usize = 64;

pub(super) async fn create(state: Arc<State>, caller: Caller, request: KeyRequest) -> Result<KeyCreated, Problem> {
    let reach = Reach::of(&caller)?;
    check_owner(&request.owner)?;
    let tenant = request.tenant.clone().unwrap_or_else(|| caller.tenant.clone());
    // Whoever stands for `admin` there runs the installation.
    let is_everybody = request.owner == ADMIN && tenant == Tenant::default();
    if !reach.covers(&request.owner) || ((tenant != caller.tenant || is_everybody) && reach != Reach::All) {
        let subject = format!("{} of {tenant}", request.owner);
        let entry = fact(&caller, "key.create", &subject, "for somebody else", Value::Null);
        state.note_refused(&caller.tenant, entry).await;
        return Err(Problem::new(Code::Forbidden, "only an administrator makes keys for others").field("owner"));
    }
    if request.name.chars().count() > NAME_CHARS_MAX {
        return Err(Problem::new(
            Code::InvalidRequest,
            format!("a name has at most {NAME_CHARS_MAX} characters"),
        )
        .field("name"));
    }
    let role = role_of(&caller, &request)?;
    check_scopes(&request.scopes)?;
    if reach != Reach::All && request.scopes.iter().any(|scope| scope == ROUTER_SCOPE) {
        let detail = format!("`{ROUTER_SCOPE}` publishes for every tenant: only who runs the installation grants it");
        return Err(Problem::new(Code::Forbidden, detail)
            .field("scopes")
            .next("publish to mesh.invoke.<tenant>.<agent>, which needs no grant"));
    }
    let life = request.expires_in_seconds.map(check_life).transpose()?;
    let now = state.context.clock.now();
    let id: KeyId = state.context.ids.next();
    let key = KeyView {
        id: id.to_string(),
        owner: request.owner,
        tenant,
        name: request.name,
        role: Some(role),
        scopes: request.scopes,
        created_at: now,
        expires_at: life.map(|life| now.plus(life)),
        revoked_at: None,
        last_used_at: None,
    };
    let secret = credential::key_secret(id, random());
    let mut tx = state.begin(&key.tenant).await?;
    store::insert(&mut tx, id, &key, &credential::hash(&secret), &caller.actor)
        .await
        .map_err(failed("storing a key"))?;
    let after = json!({"owner": key.owner, "name": key.name, "role": role, "scopes": key.scopes,
        "expires_at": key.expires_at});
    let entry = done(&caller, "key.create", &key.id, after);
    state.note(&mut tx, &key.tenant, entry).await?;
    state.commit(tx).await?;
    Ok(KeyCreated { key, secret })
}

/// What the key may do: what is asked for, never more than the maker may.
fn role_of(caller: &Caller, request: &KeyRequest) -> Result<Role, Problem> {
    let most = super::role_of(caller);
    let usual = if request.owner == ADMIN {
        Role::Owner
    } else {
        Role::Developer
    };
    let usual = if most.covers(usual) { usual } else { most };
    match request.role {
        None => Ok(usual),
        Some(role) if most.covers(role) => Ok(role),
        Some(role) => {
            let detail = format!("a {} makes no key of the role {}", most.as_str(), role.as_str());
            Err(Problem::new(Code::Forbidden, detail)
                .field("role")
                .next("ask an owner of the tenant"))
        }
    }
}

/// `<tag>:read` or `<tag>:write`. A tag that no route has allows nothing.
fn check_scopes(scopes: &[String]) -> Result<(), Problem> {
    let is_scope = |scope: &String| {
        let tag = scope.strip_suffix(":read").or_else(|| scope.strip_suffix(":write"));
        tag.is_some_and(|tag| tag.parse::<mesh_types::Token>().is_ok())
    };
    if scopes.len() <= SCOPES_MAX && scopes.iter().all(is_scope) {
        return Ok(());
    }
    let detail = format!("scopes are at most {SCOPES_MAX} of the form memories:read or agents:write");
    Err(Problem::new(Code::InvalidRequest, detail).field("scopes"))
}

pub(super) async fn list(state: Arc<State>, caller: Caller, query: PageQuery) -> Result<Page<KeyView>, Problem> {
    let reach = Reach::of(&caller)?;
    let after = query.after.as_deref();
    let before = after.map(|text| parse::<KeyId>(text, "after")).transpose()?;
    let limit = query.limit();
    let mut tx = state.begin(&caller.tenant).await?;
    let keys = store::list(&mut *tx, reach.owner(), before, i64::from(limit) + 1)
        .await
        .map_err(failed("listing keys"))?;
    Ok(Page::cut(keys, limit, |key| key.id.clone()))
}

pub(super) async fn revoke(state: Arc<State>, caller: Caller, request: RevokeRequest) -> Result<KeyView, Problem> {
    let reach = Reach::of(&caller)?;
    if !request.id.starts_with(KeyId::PREFIX) {
        return revoke_node(&state, &caller, &reach, &request.id).await;
    }
    let id: KeyId = parse(&request.id, "id")?;
    let mut tx = state.begin(&caller.tenant).await?;
    let known = store::get(&mut *tx, id).await.map_err(failed("reading a key"))?;
    let known = known.filter(|known| reach.covers(&known.view.owner));
    let Some(mut key) = known.map(|known| known.view) else {
        return Err(missing("key", &request.id));
    };
    let now = state.context.clock.now();
    if store::revoke(&mut tx, id, now)
        .await
        .map_err(failed("revoking a key"))?
    {
        key.revoked_at = Some(now);
        let entry = done(&caller, "key.revoke", &key.id, json!({"owner": key.owner}));
        state.note(&mut tx, &key.tenant, entry).await?;
    }
    state.commit(tx).await?;
    callout::cut_off(&state, &key.id).await;
    Ok(key)
}

async fn revoke_node(state: &State, caller: &Caller, reach: &Reach, id: &str) -> Result<KeyView, Problem> {
    let node: NodeId = parse(id, "id")?;
    let mut tx = state.begin(&caller.tenant).await?;
    let known = node_secrets::get(&mut *tx, &node)
        .await
        .map_err(failed("reading a node's secret"))?;
    let Some(mut known) = known.filter(|known| reach.covers(&known.owner)) else {
        return Err(missing("key or node's secret", id));
    };
    let now = state.context.clock.now();
    if node_secrets::revoke(&mut tx, &node, now)
        .await
        .map_err(failed("revoking a node's secret"))?
    {
        known.revoked_at = Some(now);
        let entry = done(caller, "node.revoke", id, json!({"owner": known.owner}));
        state.note(&mut tx, &known.tenant, entry).await?;
    }
    state.commit(tx).await?;
    callout::cut_off(state, id).await;
    Ok(as_key(known))
}

fn as_key(known: KnownNode) -> KeyView {
    KeyView {
        id: known.node.to_string(),
        owner: known.owner,
        tenant: known.tenant,
        name: "secret of the node".into(),
        role: None,
        scopes: Vec::new(),
        created_at: known.issued_at,
        expires_at: None,
        revoked_at: known.revoked_at,
        last_used_at: known.last_used_at,
    }
}

pub(super) fn missing(what: &str, id: &str) -> Problem {
    Problem::new(Code::CredentialNotFound, format!("there is no {what} `{id}`"))
        .field("id")
        .next("`mesh keys` and `mesh tokens` list them")
}

pub(super) fn done(caller: &Caller, action: &str, subject: &str, after: Value) -> AuditEntry {
    fact(caller, action, subject, "", after)
}

pub(super) fn fact(caller: &Caller, action: &str, subject: &str, reason: &str, after: Value) -> AuditEntry {
    AuditEntry {
        actor: caller.actor.clone(),
        action: action.to_owned(),
        subject: subject.to_owned(),
        outcome: AuditOutcome::Done,
        reason: reason.to_owned(),
        before: Value::Null,
        after,
        request_id: caller.request_id.map(|id| id.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(actor: &str, role: Option<Role>, owner: &str, wanted: Option<Role>) -> Option<Role> {
        let caller = Caller {
            tenant: Tenant::default(),
            actor: actor.into(),
            role,
            request_id: None,
        };
        let request = KeyRequest {
            owner: owner.into(),
            name: String::new(),
            expires_in_seconds: None,
            tenant: None,
            role: wanted,
            scopes: Vec::new(),
        };
        role_of(&caller, &request).ok()
    }

    #[test]
    fn a_key_never_gets_more_than_its_maker_has() {
        use Role::{Developer, Operator, Owner, Viewer};
        assert_eq!(asked("user:ann", Some(Operator), "ann", None), Some(Operator));
        assert_eq!(asked("user:ann", Some(Operator), "ann", Some(Developer)), None);
        assert_eq!(asked("user:ann", Some(Owner), "bob", None), Some(Developer));
        assert_eq!(asked("user:ann", Some(Owner), "bob", Some(Owner)), Some(Owner));
        assert_eq!(asked("user:ann", Some(Developer), "ann", Some(Viewer)), Some(Viewer));
        assert_eq!(asked("user:ann", None, "ann", Some(Owner)), None);
        assert_eq!(asked("service:mesh", None, "admin", None), Some(Owner));
    }

    #[test]
    fn a_scope_is_a_tag_and_what_may_be_done_there() {
        let all = |scopes: &[&str]| check_scopes(&scopes.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>());
        assert!(all(&[]).is_ok() && all(&["memories:read", "agents:write"]).is_ok());
        for wrong in ["", "memories", ":read", "memories:delete", "a b:read", "*:read"] {
            assert!(all(&[wrong]).is_err(), "{wrong}");
        }
        assert!(all(&["a:read"; 65]).is_err());
    }
}
