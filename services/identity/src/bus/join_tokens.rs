//! `join-token-create`, `join-token-list`, `join-token-revoke`.

use std::sync::Arc;
use std::time::Duration;

use mesh_api::identity::{JoinTokenCreated, JoinTokenRequest, JoinTokenView, RevokeRequest};
use mesh_api::{Caller, Page, PageQuery};
use mesh_types::id::JoinTokenId;
use mesh_types::{Code, Problem, Tenant};
use serde_json::{Value, json};

use super::keys::{done, fact, missing};
use super::{ADMIN, Reach, check_life, check_owner, owner_of, parse};
use crate::state::{State, failed, random};
use crate::store::join_tokens as store;
use crate::{callout, credential};

const LIFE: Duration = Duration::from_secs(86_400);
const USES_MAX: u32 = 1_000_000;

pub(super) async fn create(
    state: Arc<State>,
    caller: Caller,
    request: JoinTokenRequest,
) -> Result<JoinTokenCreated, Problem> {
    let reach = Reach::of(&caller)?;
    let owner = request.owner.unwrap_or_else(|| owner_of(&caller));
    check_owner(&owner)?;
    // As with keys: what is of `admin` there is of who runs the installation.
    let is_everybodys = owner == ADMIN && caller.tenant == Tenant::default() && reach != Reach::All;
    if is_everybodys || !reach.covers(&owner) {
        let entry = fact(&caller, "join-token.create", &owner, "for somebody else", Value::Null);
        state.note_refused(&caller.tenant, entry).await;
        let detail = "only an administrator makes join tokens for others";
        return Err(Problem::new(Code::Forbidden, detail).field("owner"));
    }
    if request.uses_max.is_some_and(|uses| !(1..=USES_MAX).contains(&uses)) {
        let detail = format!("uses_max must lie between 1 and {USES_MAX}");
        return Err(Problem::new(Code::InvalidRequest, detail).field("uses_max"));
    }
    if let Some(node) = request.node_id.as_ref()
        && !credential::is_free_for_nodes(node)
    {
        return Err(super::enroll::reserved(node));
    }
    let life = request.expires_in_seconds.map_or(Ok(LIFE), check_life)?;
    let now = state.context.clock.now();
    let id: JoinTokenId = state.context.ids.next();
    let join_token = JoinTokenView {
        id: id.to_string(),
        owner,
        tenant: caller.tenant.clone(),
        created_at: now,
        expires_at: now.plus(life),
        revoked_at: None,
        uses: 0,
        uses_max: request.uses_max,
        node_id: request.node_id,
    };
    let secret = credential::join_token_secret(id, random());
    let mut tx = state.begin(&caller.tenant).await?;
    store::insert(&mut tx, id, &join_token, &credential::hash(&secret), &caller.actor)
        .await
        .map_err(failed("storing a join token"))?;
    let after = json!({"owner": join_token.owner, "expires_at": join_token.expires_at,
        "uses_max": join_token.uses_max, "node_id": join_token.node_id});
    let entry = done(&caller, "join-token.create", &join_token.id, after);
    state.note(&mut tx, &caller.tenant, entry).await?;
    state.commit(tx).await?;
    Ok(JoinTokenCreated { join_token, secret })
}

pub(super) async fn list(state: Arc<State>, caller: Caller, query: PageQuery) -> Result<Page<JoinTokenView>, Problem> {
    let reach = Reach::of(&caller)?;
    let after = query.after.as_deref();
    let before = after.map(|text| parse::<JoinTokenId>(text, "after")).transpose()?;
    let limit = query.limit();
    let mut tx = state.begin(&caller.tenant).await?;
    let tokens = store::list(&mut *tx, reach.owner(), before, i64::from(limit) + 1)
        .await
        .map_err(failed("listing join tokens"))?;
    Ok(Page::cut(tokens, limit, |token| token.id.clone()))
}

pub(super) async fn revoke(
    state: Arc<State>,
    caller: Caller,
    request: RevokeRequest,
) -> Result<JoinTokenView, Problem> {
    let reach = Reach::of(&caller)?;
    let id: JoinTokenId = parse(&request.id, "id")?;
    let mut tx = state.begin(&caller.tenant).await?;
    let known = store::get(&mut *tx, id).await.map_err(failed("reading a join token"))?;
    let known = known.filter(|known| reach.covers(&known.view.owner));
    let Some(mut token) = known.map(|known| known.view) else {
        return Err(missing("join token", &request.id));
    };
    let now = state.context.clock.now();
    if store::revoke(&mut tx, id, now)
        .await
        .map_err(failed("revoking a join token"))?
    {
        token.revoked_at = Some(now);
        let entry = done(&caller, "join-token.revoke", &token.id, json!({"owner": token.owner}));
        state.note(&mut tx, &caller.tenant, entry).await?;
    }
    state.commit(tx).await?;
    callout::cut_off(&state, &token.id).await;
    Ok(token)
}
