//! `sign-in`, `refresh`, `sign-out`, `me`, `sign-in-methods`.

use std::sync::Arc;

use mesh_api::Caller;
use mesh_api::identity::{
    AuditEntry, AuditOutcome, MeRequest, MeView, MethodsRequest, Mode, ProviderView, RefreshRequest, SignInMethods,
    SignInRequest, SignOutRequest, SignedIn, SignedOut,
};
use mesh_types::id::UserId;
use mesh_types::{Code, Problem, Tenant};
use serde_json::{Value, json};

use super::parse;
use crate::people::attempts::{Attempt, End};
use crate::people::password;
use crate::people::sessions::{self, Entrance};
use crate::state::{State, failed};
use crate::store::people::{self as store, Known};

/// Longest password that is hashed, in bytes; a longer one is nobody's.
const PASSWORD_BYTES_MAX: usize = 1_024;

pub(super) async fn sign_in(state: Arc<State>, caller: Caller, request: SignInRequest) -> Result<SignedIn, Problem> {
    let login = request.login.trim().to_lowercase();
    let known = find(&state, &login).await?;
    let checked = check(&state, known.as_ref(), (&login, &request.address), &request.password).await;
    let refused = match (&checked, &known) {
        (Err(problem), _) if problem.is(Code::TooManyAttempts) => Some("locked out"),
        (Ok(false), None) => Some("unknown login"),
        (Ok(false), Some(known)) if known.disabled => Some("the person is disabled"),
        (Ok(false), Some(_)) => Some("wrong password"),
        _ => None,
    };
    if let Some(reason) = refused {
        note_refused(&state, known.as_ref(), &caller, &request.address, reason).await;
    }
    // One answer for every cause: who guesses learns no logins.
    let known = known.filter(|_| matches!(checked, Ok(true)));
    checked?;
    let Some(known) = known else {
        return Err(
            Problem::new(Code::Unauthorized, "there is no such login with that password")
                .next("try again; an owner of your tenant can set a new password: mesh users password LOGIN"),
        );
    };
    let entrance = Entrance {
        by: "password",
        address: &request.address,
        request_id: caller.request_id,
    };
    sessions::begin(&state, &known, request.tenant.as_ref(), &entrance).await
}

/// Whether it is the password of somebody who may sign in; counted as an attempt, and as long for nobody's.
///
/// # Errors
/// `TooManyAttempts`, and what is `Busy` or `Unavailable`.
pub(super) async fn check(
    state: &State,
    known: Option<&Known>,
    (login, address): (&str, &str),
    given: &str,
) -> Result<bool, Problem> {
    let Ok(_place) = state.password_places.try_acquire() else {
        return Err(Problem::new(Code::Busy, "too many sign-ins at once").next("try again in a second"));
    };
    let attempt = Attempt::begin(state, login, address).await?;
    let stored = known.and_then(|known| known.password.clone());
    let is_taken = given.len() <= PASSWORD_BYTES_MAX;
    let given = if is_taken { given.to_owned() } else { String::new() };
    let work = state
        .context
        .blocking
        .run(move || password::verify(&given, stored.as_deref()));
    let checked = match work.await {
        Ok(checked) => checked,
        Err(error) => Err(error.into()),
    };
    let checked = checked.map(|is_right| is_right && is_taken && known.is_some_and(|known| !known.disabled));
    let end = match &checked {
        Ok(true) => End::Right,
        Ok(false) => End::Wrong,
        Err(_) => End::Broken,
    };
    attempt.end(state, end).await?;
    checked
}

async fn find(state: &State, login: &str) -> Result<Option<Known>, Problem> {
    let mut tx = state.begin_for_all().await?;
    store::by_login(&mut *tx, login)
        .await
        .map_err(failed("reading a person"))
}

async fn note_refused(state: &State, known: Option<&Known>, caller: &Caller, address: &str, reason: &str) {
    let entry = AuditEntry {
        actor: "anonymous".into(),
        action: "session.begin".into(),
        // What a stranger typed may be a password in the wrong field.
        subject: known.map_or_else(|| "unknown".to_owned(), |known| known.id.to_string()),
        outcome: AuditOutcome::Refused,
        reason: reason.to_owned(),
        before: Value::Null,
        after: json!({"address": address}),
        request_id: caller.request_id.map(|id| id.to_string()),
    };
    let tenant = known.map_or_else(Tenant::default, |known| known.home.clone());
    state.note_refused(&tenant, entry).await;
}

pub(super) async fn refresh(state: Arc<State>, caller: Caller, request: RefreshRequest) -> Result<SignedIn, Problem> {
    let named = request.tenant.as_ref();
    sessions::go_on(&state, &request.refresh_token, named, caller.request_id).await
}

pub(super) async fn sign_out(state: Arc<State>, caller: Caller, request: SignOutRequest) -> Result<SignedOut, Problem> {
    let ended = sessions::end(&state, &request.refresh_token, caller.request_id).await?;
    Ok(SignedOut { ended })
}

pub(super) async fn me(state: Arc<State>, _: Caller, request: MeRequest) -> Result<MeView, Problem> {
    let id: UserId = parse(&request.user, "user")?;
    let doing = "reading a person";
    let mut tx = state.begin_for_all().await?;
    let known = store::by_id(&mut *tx, id).await.map_err(failed(doing))?;
    let known = known.ok_or_else(|| super::users::missing(&request.user))?;
    Ok(MeView {
        user: known.person(),
        tenants: store::memberships(&mut *tx, id).await.map_err(failed(doing))?,
    })
}

pub(super) async fn methods(state: Arc<State>, _: Caller, _: MethodsRequest) -> Result<SignInMethods, Problem> {
    let demanded = state.config.require_credentials;
    let provider = |provider: &crate::providers::Provider| ProviderView {
        id: provider.id.clone(),
        name: provider.shown_name().to_owned(),
    };
    Ok(SignInMethods {
        mode: if demanded { Mode::Credentials } else { Mode::Development },
        password: demanded,
        providers: state.config.providers.iter().map(provider).collect(),
    })
}
