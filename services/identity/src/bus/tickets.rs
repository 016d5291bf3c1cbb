//! `ticket-create`, `ticket-redeem`, `standing`: what a stream is opened with, and whether it is still good.

use std::sync::Arc;
use std::time::Duration;

use mesh_api::identity::{
    Principal, PrincipalKind, Redeemed, StandingRequest, StandingView, TicketCreated, TicketRedeemRequest,
    TicketRequest,
};
use mesh_api::{Caller, Role};
use mesh_types::id::{KeyId, SessionId};
use mesh_types::{Code, Id, Problem, Tenant, Timestamp};

use crate::credential;
use crate::people::sessions;
use crate::state::{State, failed, random};
use crate::store::tickets::{self as store, Taken};
use crate::verify::{self, verify};

const LIFE: Duration = Duration::from_secs(30);
const DEVELOPER: &str = "dev";

pub(super) async fn create(
    state: Arc<State>,
    caller: Caller,
    request: TicketRequest,
) -> Result<TicketCreated, Problem> {
    let now = state.context.clock.now();
    let mut ticket = Taken {
        acts_in: caller.tenant.clone(),
        standing: None,
        expires_at: now.plus(LIFE),
    };
    match &request.credential {
        Some(credential) => {
            let verified = verify(&state, credential).await?.map_err(|refused| refused.problem())?;
            if verified.standing.is_none() {
                let detail = "tickets are for people and keys";
                return Err(Problem::new(Code::Forbidden, detail));
            }
            ticket.acts_in = verified.principal.tenant;
            ticket.standing = verified.standing;
        }
        None if state.config.require_credentials => {
            return Err(Problem::new(Code::Unauthorized, "the request carries no credential").next("sign in"));
        }
        None => {}
    }
    let secret = credential::ticket(random());
    let doing = "keeping a ticket";
    let mut tx = state.begin_for_all().await?;
    store::insert(&mut tx, &credential::hash(&secret), &ticket)
        .await
        .map_err(failed(doing))?;
    tx.commit().await.map_err(failed(doing))?;
    Ok(TicketCreated {
        ticket: secret,
        expires_in: LIFE.as_secs(),
    })
}

pub(super) async fn redeem(state: Arc<State>, _: Caller, request: TicketRedeemRequest) -> Result<Redeemed, Problem> {
    let used = || {
        Problem::new(
            Code::Unauthorized,
            "the ticket is none, was used, or is older than 30 s",
        )
        .next("ask for another one: POST /api/v1/auth/tickets")
    };
    let hash = credential::parse_ticket(&request.ticket).ok_or_else(used)?;
    let doing = "taking a ticket";
    let mut tx = state.begin_for_all().await?;
    let taken = store::take(&mut tx, &hash).await.map_err(failed(doing))?;
    tx.commit().await.map_err(failed(doing))?;
    let now = state.context.clock.now();
    let taken = taken.filter(|taken| taken.expires_at > now).ok_or_else(used)?;
    let Some(standing) = taken.standing else {
        // One of before the mesh demanded credentials.
        if state.config.require_credentials {
            return Err(used());
        }
        return Ok(Redeemed {
            actor: DEVELOPER.into(),
            tenant: taken.acts_in,
            role: Role::Owner,
            scopes: Vec::new(),
            principal: None,
            standing: None,
            expires_at: None,
        });
    };
    let (principal, expires_at) = stands(&state, &standing, &taken.acts_in).await?;
    let role = principal.role.ok_or_else(used)?;
    Ok(Redeemed {
        actor: format!("user:{}", principal.owner),
        tenant: principal.tenant.clone(),
        role,
        scopes: principal.scopes.clone(),
        principal: Some(principal),
        standing: Some(standing),
        expires_at,
    })
}

/// In the caller's tenant.
pub(super) async fn standing(
    state: Arc<State>,
    caller: Caller,
    request: StandingRequest,
) -> Result<StandingView, Problem> {
    let (principal, expires_at) = stands(&state, &request.id, &caller.tenant).await?;
    let role = principal.role.ok_or_else(sessions::over)?;
    Ok(StandingView {
        tenant: principal.tenant,
        role,
        scopes: principal.scopes,
        expires_at,
    })
}

/// Whom a session or a key stands for now, and until when at the latest.
async fn stands(state: &State, id: &str, tenant: &Tenant) -> Result<(Principal, Option<Timestamp>), Problem> {
    if id.starts_with(KeyId::PREFIX) {
        let id: KeyId = super::parse(id, "id")?;
        let known = verify::key_by_id(state, id)
            .await?
            .map_err(|refused| refused.problem())?;
        if known.principal.tenant != *tenant {
            return Err(sessions::over());
        }
        return Ok((known.principal, known.expires_at));
    }
    let id: SessionId = super::parse(id, "id")?;
    let going = sessions::going(state, id, tenant)
        .await?
        .map_err(|_| sessions::over())?;
    let principal = Principal {
        id: going.live.person.to_string(),
        kind: PrincipalKind::User,
        owner: going.live.login,
        tenant: tenant.clone(),
        role: Some(going.role),
        scopes: Vec::new(),
    };
    Ok((principal, Some(going.live.expires_at)))
}
