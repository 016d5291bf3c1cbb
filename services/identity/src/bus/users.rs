//! `user-create`, `user-list`, `user-get`, `user-update`, `user-delete`: the people of a tenant.

use std::sync::Arc;

use mesh_api::identity::{
    AuditEntry, Membership, UserChange, UserCreated, UserDeleted, UserRef, UserRequest, UserUpdateRequest, UserView,
};
use mesh_api::{Caller, Page, PageQuery, Role};
use mesh_types::id::UserId;
use mesh_types::{Code, Problem, Token};
use serde_json::{Value, json};
use sqlx::{PgConnection, Postgres, Transaction};

use super::keys::done;
use super::{ADMIN, DEVELOPER, Reach, parse};
use crate::callout;
use crate::people::password;
use crate::state::{State, failed, random};
use crate::store::people::{self as store, Known};
use crate::store::{sessions, turn_to};

/// Characters of a person's name.
const NAME_CHARS_MAX: usize = 200;

pub(super) async fn create(state: Arc<State>, caller: Caller, request: UserRequest) -> Result<UserCreated, Problem> {
    let reach = owners_reach(&state, &caller, "user.create", &request.login).await?;
    let login = check_login(&request.login, &reach)?;
    check_name(&request.name)?;
    let membership = Membership {
        tenant: request.tenant.clone().unwrap_or_else(|| caller.tenant.clone()),
        role: request.role,
    };
    if membership.tenant != caller.tenant && reach != Reach::All {
        let detail = "only who runs the installation makes people in another tenant";
        return Err(Problem::new(Code::Forbidden, detail).field("tenant"));
    }
    if let Some(known) = elsewhere(&state, &login, &reach).await? {
        return bring_in(&state, &caller, &known, &membership).await;
    }
    let made = request.password.is_none().then(|| password::made(random()));
    let plain = made.clone().or(request.password).unwrap_or_default();
    let known = Known {
        id: state.context.ids.next(),
        home: membership.tenant.clone(),
        password: Some(hashed(&state, plain, &login).await?),
        login,
        name: request.name,
        disabled: false,
    };
    let mut tx = state.begin(&membership.tenant).await?;
    add(&mut tx, &known, &membership, state.context.clock.now(), &caller.actor).await?;
    let user = created(&state, tx, &caller, &known, &membership).await?;
    Ok(UserCreated { user, password: made })
}

/// Somebody of that login, for whoever may bring him into a tenant.
async fn elsewhere(state: &State, login: &str, reach: &Reach) -> Result<Option<Known>, Problem> {
    if *reach != Reach::All {
        return Ok(None);
    }
    let mut tx = state.begin_for_all().await?;
    store::by_login(&mut *tx, login)
        .await
        .map_err(failed("reading a person"))
}

async fn bring_in(
    state: &State,
    caller: &Caller,
    known: &Known,
    membership: &Membership,
) -> Result<UserCreated, Problem> {
    let mut tx = state.begin(&membership.tenant).await?;
    let now = state.context.clock.now();
    let added = store::add_member(&mut tx, known.id, membership, now, &caller.actor).await;
    added.map_err(|error| match mesh_store::constraint(&error) {
        Some("membership_key") => taken(&known.login),
        _ => failed("storing a membership")(error),
    })?;
    let user = created(state, tx, caller, known, membership).await?;
    Ok(UserCreated { user, password: None })
}

/// Notes and commits it.
async fn created(
    state: &State,
    mut tx: Transaction<'static, Postgres>,
    caller: &Caller,
    known: &Known,
    membership: &Membership,
) -> Result<UserView, Problem> {
    let id = known.id.to_string();
    let after = json!({"login": known.login, "name": known.name, "role": membership.role});
    let entry = done(caller, "user.create", &id, after);
    state.note(&mut tx, &membership.tenant, entry).await?;
    let user = store::view(&mut *tx, known.id)
        .await
        .map_err(failed("reading a person"))?;
    state.commit(tx).await?;
    user.ok_or_else(|| missing(&id))
}

/// A person with one membership, in a transaction of his own tenant.
///
/// # Errors
/// `UserAlreadyExists` when the login is taken.
pub(super) async fn add(
    tx: &mut PgConnection,
    known: &Known,
    membership: &Membership,
    at: mesh_types::Timestamp,
    by: &str,
) -> Result<(), Problem> {
    store::insert(tx, known, at, by)
        .await
        .map_err(|error| match mesh_store::constraint(&error) {
            Some("person_login") => taken(&known.login),
            _ => failed("storing a person")(error),
        })?;
    store::add_member(tx, known.id, membership, at, by)
        .await
        .map_err(failed("storing a membership"))
}

pub(super) async fn list(state: Arc<State>, caller: Caller, query: PageQuery) -> Result<Page<UserView>, Problem> {
    owners_reach(&state, &caller, "user.list", caller.tenant.as_str()).await?;
    let after = query.after.as_deref();
    let before = after.map(|text| parse::<UserId>(text, "after")).transpose()?;
    let limit = query.limit();
    let mut tx = state.begin(&caller.tenant).await?;
    let users = store::list(&mut *tx, before, i64::from(limit) + 1)
        .await
        .map_err(failed("listing people"))?;
    Ok(Page::cut(users, limit, |user| user.id.clone()))
}

pub(super) async fn get(state: Arc<State>, caller: Caller, request: UserRef) -> Result<UserView, Problem> {
    let reach = Reach::of(&caller)?;
    let id: UserId = parse(&request.id, "id")?;
    let mut tx = state.begin(&caller.tenant).await?;
    let user = store::view(&mut *tx, id).await.map_err(failed("reading a person"))?;
    user.filter(|user| reach.covers(&user.login))
        .ok_or_else(|| missing(&request.id))
}

pub(super) async fn update(state: Arc<State>, caller: Caller, request: UserUpdateRequest) -> Result<UserView, Problem> {
    let reach = owners_reach(&state, &caller, "user.update", &request.id).await?;
    let Found { mut tx, known, before } = find(&state, &caller, &request.id).await?;
    check_reserved(&known, &reach)?;
    let UserChange { name, role, disabled } = request.change;
    if name.is_some() || disabled.is_some() {
        check_home(&known, &caller, &reach)?;
    }
    if disabled.is_some() {
        check_alone(&mut tx, &known, &caller, &reach).await?;
    }
    let stops_owning = role.is_some_and(|role| role != Role::Owner) || disabled == Some(true);
    if stops_owning {
        check_left(&mut tx, &before, known.id, &reach).await?;
    }
    let doing = "changing a person";
    if let Some(role) = role {
        store::set_role(&mut tx, known.id, role).await.map_err(failed(doing))?;
    }
    turn_to(&mut tx, Some(&known.home)).await.map_err(failed(doing))?;
    if let Some(name) = &name {
        check_name(name)?;
        store::set_name(&mut tx, known.id, name).await.map_err(failed(doing))?;
    }
    let now = state.context.clock.now();
    if let Some(disabled) = disabled {
        store::set_disabled(&mut tx, known.id, disabled.then_some(now))
            .await
            .map_err(failed(doing))?;
    }
    turn_to(&mut tx, None).await.map_err(failed(doing))?;
    if disabled == Some(true) {
        sessions::end_all(&mut tx, known.id, None, now)
            .await
            .map_err(failed(doing))?;
    }
    let standing = store::credentials_of(&mut tx, &known.login)
        .await
        .map_err(failed(doing))?;
    turn_to(&mut tx, Some(&caller.tenant)).await.map_err(failed(doing))?;
    let after = store::view(&mut *tx, known.id).await.map_err(failed(doing))?;
    let after = after.ok_or_else(|| missing(&request.id))?;
    let entry = AuditEntry {
        before: shown(&before),
        ..done(&caller, "user.update", &request.id, shown(&after))
    };
    state.note(&mut tx, &caller.tenant, entry).await?;
    state.commit(tx).await?;
    // They come back with what is left to them, or not at all.
    if role.is_some() || disabled == Some(true) {
        callout::cut_off_all(&state, &standing).await;
    }
    Ok(after)
}

pub(super) async fn delete(state: Arc<State>, caller: Caller, request: UserRef) -> Result<UserDeleted, Problem> {
    let reach = owners_reach(&state, &caller, "user.delete", &request.id).await?;
    let Found { mut tx, known, before } = find(&state, &caller, &request.id).await?;
    check_reserved(&known, &reach)?;
    check_left(&mut tx, &before, known.id, &reach).await?;
    let doing = "removing a person";
    let is_home = known.home == caller.tenant;
    if is_home {
        check_alone(&mut tx, &known, &caller, &reach).await?;
    }
    let now = state.context.clock.now();
    let mut left = vec![caller.tenant.clone()];
    if is_home {
        turn_to(&mut tx, None).await.map_err(failed(doing))?;
        let memberships = store::memberships(&mut *tx, known.id).await.map_err(failed(doing))?;
        left = memberships.into_iter().map(|one| one.tenant).collect();
    }
    // What stood for the person stands for nobody.
    let mut revoked = Vec::new();
    for tenant in &left {
        turn_to(&mut tx, Some(tenant)).await.map_err(failed(doing))?;
        revoked.extend(
            store::revoke_credentials(&mut tx, &known.login, now)
                .await
                .map_err(failed(doing))?,
        );
    }
    turn_to(&mut tx, Some(&caller.tenant)).await.map_err(failed(doing))?;
    if is_home {
        store::delete(&mut tx, known.id).await.map_err(failed(doing))?;
    } else {
        store::remove_member(&mut tx, known.id).await.map_err(failed(doing))?;
    }
    let entry = AuditEntry {
        before: shown(&before),
        ..done(&caller, "user.delete", &request.id, json!({"revoked": revoked}))
    };
    state.note(&mut tx, &caller.tenant, entry).await?;
    state.commit(tx).await?;
    callout::cut_off_all(&state, &revoked).await;
    Ok(UserDeleted {
        id: request.id,
        deleted: true,
    })
}

/// A member of the caller's tenant, and the transaction that read him.
pub(super) struct Found {
    pub(super) tx: Transaction<'static, Postgres>,
    pub(super) known: Known,
    pub(super) before: UserView,
}

pub(super) async fn find(state: &State, caller: &Caller, id: &str) -> Result<Found, Problem> {
    let user: UserId = parse(id, "id")?;
    let doing = "reading a person";
    let mut tx = state.begin(&caller.tenant).await?;
    let before = store::view(&mut *tx, user).await.map_err(failed(doing))?;
    let known = store::by_id(&mut *tx, user).await.map_err(failed(doing))?;
    match (known, before) {
        (Some(known), Some(before)) => Ok(Found { tx, known, before }),
        _ => Err(missing(id)),
    }
}

/// The reach of an owner of the tenant; a try of anybody else is noted.
async fn owners_reach(state: &State, caller: &Caller, action: &str, subject: &str) -> Result<Reach, Problem> {
    let reach = Reach::of(caller)?;
    if !matches!(reach, Reach::Own(_)) {
        return Ok(reach);
    }
    let entry = AuditEntry {
        reason: "no owner of the tenant".into(),
        ..done(caller, action, subject, Value::Null)
    };
    state.note_refused(&caller.tenant, entry).await;
    Err(Problem::new(Code::Forbidden, "only an owner of the tenant does that").next("ask one of its owners"))
}

/// Somebody of another tenant is changed there, apart from his role here.
pub(super) fn check_home(known: &Known, caller: &Caller, reach: &Reach) -> Result<(), Problem> {
    if known.home == caller.tenant || *reach == Reach::All {
        return Ok(());
    }
    let detail = format!("`{}` belongs to another tenant, whose owner does that", known.login);
    Err(Problem::new(Code::Forbidden, detail))
}

/// What would reach into other tenants that somebody belongs to is not for the owner of one.
pub(super) async fn check_alone(
    tx: &mut PgConnection,
    known: &Known,
    caller: &Caller,
    reach: &Reach,
) -> Result<(), Problem> {
    if *reach == Reach::All {
        return Ok(());
    }
    let doing = "reading memberships";
    turn_to(&mut *tx, None).await.map_err(failed(doing))?;
    let all = store::memberships(&mut *tx, known.id).await.map_err(failed(doing))?;
    turn_to(tx, Some(&caller.tenant)).await.map_err(failed(doing))?;
    if all.iter().all(|one| one.tenant == caller.tenant) {
        return Ok(());
    }
    let detail = format!("`{}` belongs to other tenants, too", known.login);
    Err(Problem::new(Code::Forbidden, detail).next("change the role here; the rest does who runs the installation"))
}

/// Who runs the installation is nobody's but his own to change.
pub(super) fn check_reserved(known: &Known, reach: &Reach) -> Result<(), Problem> {
    if known.login != ADMIN || *reach == Reach::All {
        return Ok(());
    }
    Err(Problem::new(
        Code::Forbidden,
        "`admin` runs the installation, not only this tenant",
    ))
}

/// No tenant is left without an owner who can sign in; who runs the installation may.
async fn check_left(tx: &mut PgConnection, before: &UserView, id: UserId, reach: &Reach) -> Result<(), Problem> {
    if before.role != Role::Owner || before.disabled || *reach == Reach::All {
        return Ok(());
    }
    let others = store::other_owners(tx, id).await.map_err(failed("counting owners"))?;
    if others > 0 {
        return Ok(());
    }
    Err(
        Problem::new(Code::Forbidden, "the tenant would have no owner who can sign in")
            .next("make somebody else an owner first"),
    )
}

/// The login as it is kept.
fn check_login(login: &str, reach: &Reach) -> Result<String, Problem> {
    let token: Token = parse(login, "login")?;
    let login = token.as_str().to_lowercase();
    // Names that stand for more than a person.
    if [ADMIN, DEVELOPER].contains(&login.as_str()) && *reach != Reach::All {
        return Err(taken(&login));
    }
    Ok(login)
}

fn check_name(name: &str) -> Result<(), Problem> {
    if name.chars().count() <= NAME_CHARS_MAX && !name.contains('\0') {
        return Ok(());
    }
    let detail = format!("a name has at most {NAME_CHARS_MAX} characters");
    Err(Problem::new(Code::InvalidRequest, detail).field("name"))
}

/// Checks a new password and hashes it, off the runtime's threads.
pub(super) async fn hashed(state: &State, plain: String, login: &str) -> Result<String, Problem> {
    password::check(&plain, login)?;
    let work = state.context.blocking.run(move || password::hash(&plain, random()));
    work.await.map_err(Problem::from)?
}

fn shown(user: &UserView) -> Value {
    json!({"login": user.login, "name": user.name, "role": user.role, "disabled": user.disabled})
}

fn taken(login: &str) -> Problem {
    Problem::new(Code::UserAlreadyExists, format!("the login `{login}` is taken"))
        .field("login")
        .next("choose another one; logins are unique in the installation")
}

pub(super) fn missing(id: &str) -> Problem {
    Problem::new(Code::UserNotFound, format!("there is no user `{id}` in this tenant"))
        .field("id")
        .next("`mesh users list` lists them")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_lower_case_and_stands_for_a_person() {
        assert_eq!(check_login("Ann", &Reach::Tenant).unwrap(), "ann");
        for wrong in ["", "user:ann", "ann@example.org", "a b", &"x".repeat(65)] {
            assert!(check_login(wrong, &Reach::All).is_err(), "{wrong}");
        }
        for reserved in ["admin", "Admin", "dev"] {
            assert!(
                check_login(reserved, &Reach::Tenant)
                    .unwrap_err()
                    .is(Code::UserAlreadyExists)
            );
            assert!(check_login(reserved, &Reach::All).is_ok());
        }
        assert!(check_name(&"x".repeat(201)).is_err() && check_name("Ann Ä").is_ok());
    }
}
