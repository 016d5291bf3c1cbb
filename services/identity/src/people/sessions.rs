//! Sessions of people: begun, gone on with, ended; and what a page gets of one.

use std::time::Duration;

use mesh_api::Role;
use mesh_api::identity::{AuditEntry, AuditOutcome, Membership, SessionView, SignedIn};
use mesh_types::id::{EventId, SessionId};
use mesh_types::{Code, Id, Problem, RequestId, Tenant, Timestamp};
use serde_json::{Value, json};
use sqlx::{Postgres, Transaction};

use super::access::Claims;
use super::rotation::{Verdict, decide};
use crate::credential;
use crate::state::{State, failed, random};
use crate::store::people::Known;
use crate::store::sessions::{self as store, Shown};
use crate::store::{people, turn_to};

/// How somebody came in, for the audit.
#[derive(Debug, Clone)]
pub(crate) struct Entrance<'a> {
    /// `password`, or the provider's id.
    pub(crate) by: &'a str,
    pub(crate) address: &'a str,
    pub(crate) request_id: Option<RequestId>,
}

/// Where somebody is to act: in the tenant that was named, else at home, else in the first of his.
///
/// # Errors
/// `Forbidden` when he is no member there, or nowhere.
pub(crate) fn choose(memberships: &[Membership], named: Option<&Tenant>, home: &Tenant) -> Result<Membership, Problem> {
    let of = |tenant: &Tenant| memberships.iter().find(|one| one.tenant == *tenant);
    let found = match named {
        Some(named) => of(named),
        None => of(home).or(memberships.first()),
    };
    found.cloned().ok_or_else(|| {
        let detail = match named {
            Some(named) => format!("you are no member of the tenant `{named}`"),
            None => "you are a member of no tenant".to_owned(),
        };
        Problem::new(Code::Forbidden, detail)
            .field("tenant")
            .next("leave the tenant out, or ask its owner: mesh users create")
    })
}

/// A new session, in the one transaction with its audit fact.
pub(crate) async fn begin(
    state: &State,
    known: &Known,
    named: Option<&Tenant>,
    entrance: &Entrance<'_>,
) -> Result<SignedIn, Problem> {
    let doing = "beginning a session";
    let mut tx = state.begin_for_all().await?;
    let memberships = people::memberships(&mut *tx, known.id).await.map_err(failed(doing))?;
    let acts = choose(&memberships, named, &known.home)?;
    let now = state.context.clock.now();
    let expires_at = now.plus(Duration::from_secs(u64::from(state.config.session_days) * 86_400));
    let session: SessionId = state.context.ids.next();
    let secret = credential::refresh_token(random());
    store::insert(&mut tx, session, known.id, &acts.tenant, (now, expires_at))
        .await
        .map_err(failed(doing))?;
    store::add_token(&mut tx, session, &credential::hash(&secret), 1)
        .await
        .map_err(failed(doing))?;
    turn_to(&mut tx, Some(&acts.tenant)).await.map_err(failed(doing))?;
    people::signed_in(&mut tx, known.id, now).await.map_err(failed(doing))?;
    let entry = fact(
        known,
        "session.begin",
        entrance.request_id,
        json!({"session": session, "by": entrance.by, "address": entrance.address}),
    );
    state.note(&mut tx, &acts.tenant, entry).await?;
    state.commit(tx).await?;
    let of = Of {
        known,
        memberships,
        acts,
        session,
    };
    signed_in(state, of, secret, expires_at).await
}

/// Whom and what a pair of tokens is for.
struct Of<'a> {
    known: &'a Known,
    memberships: Vec<Membership>,
    acts: Membership,
    session: SessionId,
}

async fn signed_in(state: &State, of: Of<'_>, secret: String, expires_at: Timestamp) -> Result<SignedIn, Problem> {
    let now = state.context.clock.now();
    // No token outlives its session.
    let left = expires_at.since(now).as_secs();
    let lasts = state.config.access_seconds.min(left);
    let iat = now.as_millis() / 1_000;
    let claims = Claims {
        sub: of.known.id,
        tenant: of.acts.tenant.clone(),
        role: of.acts.role,
        sid: of.session,
        iat,
        exp: iat + lasts,
        jti: state.context.ids.next::<EventId>().ulid().to_string(),
    };
    let access_token = state.keyring.sign(state, &claims).await?;
    Ok(SignedIn {
        session: SessionView {
            access_token,
            expires_in: lasts,
            tenant: of.acts.tenant,
            role: of.acts.role,
            user: of.known.person(),
            tenants: of.memberships,
        },
        refresh_token: secret,
        refresh_expires_in: left,
    })
}

/// The next pair for whoever shows a refresh token.
///
/// # Errors
/// `Unauthorized` for a token that is none, or over, or was used before; the last one ends the session.
pub(crate) async fn go_on(
    state: &State,
    token: &str,
    named: Option<&Tenant>,
    request_id: Option<RequestId>,
) -> Result<SignedIn, Problem> {
    let doing = "going on with a session";
    let hash = credential::parse_refresh(token).ok_or_else(over)?;
    let now = state.context.clock.now();
    let mut tx = state.begin_for_all().await?;
    let shown = store::shown(&mut tx, &hash).await.map_err(failed(doing))?;
    let shown = shown.ok_or_else(over)?;
    let known = people::by_id(&mut *tx, shown.person).await.map_err(failed(doing))?;
    let known = known.filter(|known| !known.disabled).ok_or_else(over)?;
    let generation = match decide(&shown.family, &hash, shown.generation, now) {
        Verdict::Next(generation) => generation,
        Verdict::Over => return Err(over()),
        Verdict::Reused => return Err(end_reused(state, tx, &shown, &known, request_id).await?),
    };
    let memberships = people::memberships(&mut *tx, known.id).await.map_err(failed(doing))?;
    // Who is no member any more where he was goes on at home.
    let was_there = memberships.iter().any(|one| one.tenant == shown.acts_in);
    let wanted = named.or_else(|| was_there.then_some(&shown.acts_in));
    let acts = choose(&memberships, wanted, &known.home)?;
    let secret = credential::refresh_token(random());
    store::used(&mut tx, &shown, &hash, &acts.tenant, now)
        .await
        .map_err(failed(doing))?;
    store::add_token(&mut tx, shown.session, &credential::hash(&secret), generation)
        .await
        .map_err(failed(doing))?;
    tx.commit().await.map_err(failed(doing))?;
    let of = Of {
        known: &known,
        memberships,
        acts,
        session: shown.session,
    };
    signed_in(state, of, secret, shown.family.expires_at).await
}

/// Ends the family, and says so where the session acted.
async fn end_reused(
    state: &State,
    mut tx: Transaction<'static, Postgres>,
    shown: &Shown,
    known: &Known,
    request_id: Option<RequestId>,
) -> Result<Problem, Problem> {
    let doing = "ending a session";
    store::end(&mut tx, shown.session, state.context.clock.now())
        .await
        .map_err(failed(doing))?;
    turn_to(&mut tx, Some(&shown.acts_in)).await.map_err(failed(doing))?;
    let entry = AuditEntry {
        reason: "a refresh token was used twice".into(),
        ..fact(known, "session.revoke", request_id, json!({"session": shown.session}))
    };
    state.note(&mut tx, &shown.acts_in, entry).await?;
    state.commit(tx).await?;
    Ok(over())
}

/// Whether there was a session to end.
pub(crate) async fn end(state: &State, token: &str, request_id: Option<RequestId>) -> Result<bool, Problem> {
    let doing = "ending a session";
    let Some(hash) = credential::parse_refresh(token) else {
        return Ok(false);
    };
    let mut tx = state.begin_for_all().await?;
    let Some(shown) = store::shown(&mut tx, &hash).await.map_err(failed(doing))? else {
        return Ok(false);
    };
    let ended = store::end(&mut tx, shown.session, state.context.clock.now())
        .await
        .map_err(failed(doing))?;
    let known = people::by_id(&mut *tx, shown.person).await.map_err(failed(doing))?;
    if let Some(known) = known.filter(|_| ended) {
        turn_to(&mut tx, Some(&shown.acts_in)).await.map_err(failed(doing))?;
        let entry = fact(&known, "session.end", request_id, json!({"session": shown.session}));
        state.note(&mut tx, &shown.acts_in, entry).await?;
    }
    state.commit(tx).await?;
    Ok(ended)
}

/// A session that goes on, as a token or a ticket of it finds it.
pub(crate) struct Going {
    pub(crate) live: store::Live,
    pub(crate) role: Role,
}

/// The inner error says why it does not.
pub(crate) async fn going(
    state: &State,
    session: SessionId,
    tenant: &Tenant,
) -> Result<Result<Going, &'static str>, Problem> {
    let mut tx = state.begin_for_all().await?;
    let live = store::live(&mut *tx, session, tenant)
        .await
        .map_err(failed("reading a session"))?;
    drop(tx);
    let now = state.context.clock.now();
    Ok(match live {
        None => Err("of no session"),
        Some(live) if live.disabled => Err("the person is disabled"),
        Some(live) if live.ended => Err("signed out"),
        Some(live) if live.expires_at <= now => Err("expired"),
        Some(live) => match live.role {
            Some(role) => Ok(Going { live, role }),
            None => Err("no member of the tenant any more"),
        },
    })
}

pub(crate) fn over() -> Problem {
    Problem::new(Code::Unauthorized, "the session is over").next("sign in again")
}

fn fact(known: &Known, action: &str, request_id: Option<RequestId>, after: Value) -> AuditEntry {
    AuditEntry {
        actor: format!("user:{}", known.login),
        action: action.to_owned(),
        subject: known.id.to_string(),
        outcome: AuditOutcome::Done,
        reason: String::new(),
        before: Value::Null,
        after,
        request_id: request_id.map(|id| id.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_no_tenant_acts_at_home_or_in_the_first_of_his() {
        let tenant = |name: &str| name.parse::<Tenant>().unwrap();
        let member = |name: &str| Membership {
            tenant: tenant(name),
            role: Role::Viewer,
        };
        let all = [member("a"), member("b")];
        let of = |named: Option<&str>, home: &str| {
            let named = named.map(tenant);
            choose(&all, named.as_ref(), &tenant(home)).map(|one| one.tenant.to_string())
        };
        assert_eq!(of(None, "b").unwrap(), "b");
        assert_eq!(of(None, "c").unwrap(), "a");
        assert_eq!(of(Some("a"), "b").unwrap(), "a");
        assert!(of(Some("c"), "b").unwrap_err().is(Code::Forbidden));
        assert!(choose(&[], None, &tenant("a")).is_err());
    }
}
