//! `user-password`: one's own, or anybody's for the owner.

use std::sync::Arc;

use mesh_api::Caller;
use mesh_api::identity::{PasswordRequest, PasswordSet};
use mesh_types::id::SessionId;
use mesh_types::{Code, Problem};
use serde_json::json;

use super::keys::done;
use super::users::{Found, check_alone, check_home, check_reserved, find, hashed, missing};
use super::{Reach, sign_in};
use crate::people::password;
use crate::state::{State, failed, random};
use crate::store::{people as store, sessions, turn_to};
use crate::verify::verify;

pub(super) async fn set(state: Arc<State>, caller: Caller, request: PasswordRequest) -> Result<PasswordSet, Problem> {
    let reach = Reach::of(&caller)?;
    let Found { tx, known, .. } = find(&state, &caller, &request.id).await?;
    // Not held while passwords are hashed.
    drop(tx);
    if !reach.covers(&known.login) {
        return Err(missing(&request.id));
    }
    let is_own = caller.actor == format!("user:{}", known.login);
    if is_own {
        let current = request.current.as_deref().unwrap_or_default();
        let names = (known.login.as_str(), request.address.as_str());
        if !sign_in::check(&state, Some(&known), names, current).await? {
            let entry = super::keys::fact(&caller, "user.password", &request.id, "wrong password", json!(null));
            state.note_refused(&caller.tenant, entry).await;
            return Err(Problem::new(Code::Forbidden, "`current` is not your password").field("current"));
        }
    } else {
        check_reserved(&known, &reach)?;
        check_home(&known, &caller, &reach)?;
        check_alone(&mut *state.begin(&caller.tenant).await?, &known, &caller, &reach).await?;
    }
    if is_own && request.password.is_none() {
        return Err(Problem::new(Code::InvalidRequest, "give the new password").field("password"));
    }
    let made = request.password.is_none().then(|| password::made(random()));
    let plain = made.clone().or(request.password).unwrap_or_default();
    let hash = hashed(&state, plain, &known.login).await?;
    let keep = match &request.credential {
        Some(credential) if is_own => session_of(&state, credential).await?,
        _ => None,
    };
    let doing = "setting a password";
    let now = state.context.clock.now();
    let mut tx = state.begin(&known.home).await?;
    store::set_password(&mut tx, known.id, &hash)
        .await
        .map_err(failed(doing))?;
    turn_to(&mut tx, None).await.map_err(failed(doing))?;
    let sessions_ended = sessions::end_all(&mut tx, known.id, keep, now)
        .await
        .map_err(failed(doing))?;
    turn_to(&mut tx, Some(&caller.tenant)).await.map_err(failed(doing))?;
    let entry = done(
        &caller,
        "user.password",
        &request.id,
        json!({"sessions_ended": sessions_ended}),
    );
    state.note(&mut tx, &caller.tenant, entry).await?;
    state.commit(tx).await?;
    Ok(PasswordSet {
        password: made,
        sessions_ended,
    })
}

/// The session of an access token, which a key has none of.
async fn session_of(state: &State, credential: &str) -> Result<Option<SessionId>, Problem> {
    let verified = verify(state, credential).await?;
    let standing = verified.ok().and_then(|verified| verified.standing);
    Ok(standing.and_then(|standing| standing.parse().ok()))
}
