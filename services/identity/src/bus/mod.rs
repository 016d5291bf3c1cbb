//! Everything that `identity` answers, as one table.

mod audit;
mod edge_secrets;
mod enroll;
mod issue;
mod join_tokens;
mod keys;
mod password;
mod providers;
mod sign_in;
mod tickets;
mod users;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use mesh_api::audit::AuditVerify;
use mesh_api::identity::{
    AuditList, AuditNote, CredentialVerify, EdgeSecret, Enroll, JoinTokenCreate, JoinTokenList, JoinTokenRevoke,
    KeyCreate, KeyList, KeyRevoke, Me, Methods, ProviderFinish, ProviderStart, Refresh, Required, Requirement,
    RequirementRequest, SignIn, SignOut, Standing, TicketCreate, TicketRedeem, UserCreate, UserDelete, UserGet,
    UserList, UserPassword, UserUpdate,
};
use mesh_api::{Caller, Role};
use mesh_bus::ServiceBuilder;
use mesh_types::subject::Filter;
use mesh_types::{Code, Problem};

use crate::callout;
use crate::state::State;

/// Instances share what nats-server asks.
const CALLOUT_GROUP: &str = "identity";
/// Longest life of a credential: ten years.
const LIFE_MAX: Duration = Duration::from_secs(10 * 366 * 86_400);

pub(crate) fn serve(service: ServiceBuilder, state: &Arc<State>) -> ServiceBuilder {
    let (of_node, at_node, required) = (Arc::clone(state), Arc::clone(state), state.config.require_credentials);
    let service = service
        .endpoint::<CredentialVerify, _, _>(with(state, verify::credential))
        .node_endpoint::<CredentialVerify, _, _>(move |node, request| {
            verify::at_node(Arc::clone(&at_node), node, request)
        })
        .endpoint::<KeyCreate, _, _>(with(state, keys::create))
        .endpoint::<KeyList, _, _>(with(state, keys::list))
        .endpoint::<KeyRevoke, _, _>(with(state, keys::revoke))
        .endpoint::<JoinTokenCreate, _, _>(with(state, join_tokens::create))
        .endpoint::<JoinTokenList, _, _>(with(state, join_tokens::list))
        .endpoint::<JoinTokenRevoke, _, _>(with(state, join_tokens::revoke))
        .endpoint::<Enroll, _, _>(with(state, enroll::service))
        .node_endpoint::<Enroll, _, _>(move |node, request| enroll::node(Arc::clone(&of_node), node, request))
        .endpoint::<AuditNote, _, _>(with(state, audit::note))
        .endpoint::<AuditList, _, _>(with(state, audit::list))
        .endpoint::<AuditVerify, _, _>(with(state, audit::verify))
        .endpoint::<EdgeSecret, _, _>(with(state, edge_secrets::held))
        .endpoint::<Requirement, _, _>(move |_: Caller, _: RequirementRequest| async move {
            Ok(Required { credentials: required })
        });
    let service = serve_people(service, state);
    if state.issuer.is_none() {
        return service;
    }
    let asked = Arc::clone(state);
    service.raw("nats-users", &Filter::UserAuth, Some(CALLOUT_GROUP), move |request| {
        callout::answer(Arc::clone(&asked), request)
    })
}

fn serve_people(service: ServiceBuilder, state: &Arc<State>) -> ServiceBuilder {
    service
        .endpoint::<SignIn, _, _>(with(state, sign_in::sign_in))
        .endpoint::<Refresh, _, _>(with(state, sign_in::refresh))
        .endpoint::<SignOut, _, _>(with(state, sign_in::sign_out))
        .endpoint::<Me, _, _>(with(state, sign_in::me))
        .endpoint::<Methods, _, _>(with(state, sign_in::methods))
        .endpoint::<ProviderStart, _, _>(with(state, providers::start))
        .endpoint::<ProviderFinish, _, _>(with(state, providers::finish))
        .endpoint::<TicketCreate, _, _>(with(state, tickets::create))
        .endpoint::<TicketRedeem, _, _>(with(state, tickets::redeem))
        .endpoint::<Standing, _, _>(with(state, tickets::standing))
        .endpoint::<UserCreate, _, _>(with(state, users::create))
        .endpoint::<UserList, _, _>(with(state, users::list))
        .endpoint::<UserGet, _, _>(with(state, users::get))
        .endpoint::<UserUpdate, _, _>(with(state, users::update))
        .endpoint::<UserDelete, _, _>(with(state, users::delete))
        .endpoint::<UserPassword, _, _>(with(state, password::set))
}

fn with<Q, H, F>(state: &Arc<State>, handler: H) -> impl Fn(Caller, Q) -> F + Clone + Send + Sync + 'static
where
    H: Fn(Arc<State>, Caller, Q) -> F + Clone + Send + Sync + 'static,
{
    let state = Arc::clone(state);
    move |caller, request| handler(Arc::clone(&state), caller, request)
}

/// Whose credentials a caller may see and change.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reach {
    /// Everybody's of every tenant: who runs the installation.
    All,
    /// Everybody's of the caller's tenant.
    Tenant,
    /// This owner's.
    Own(String),
}

/// Stands for all of its tenant, and in tenant `default` for all of the installation.
pub(crate) const ADMIN: &str = "admin";
const DEVELOPER: &str = "dev";

impl Reach {
    /// Nodes, and whoever joins one, have no business here.
    fn of(caller: &Caller) -> Result<Self, Problem> {
        let actor = caller.actor.as_str();
        let is_owner = role_of(caller) == Role::Owner;
        match actor.strip_prefix("user:") {
            Some(ADMIN) if is_owner && caller.tenant == mesh_types::Tenant::default() => Ok(Self::All),
            Some(_) if is_owner => Ok(Self::Tenant),
            Some(owner) => Ok(Self::Own(owner.to_owned())),
            None if actor == DEVELOPER || actor.starts_with("service:") => Ok(Self::All),
            None => Err(Problem::new(Code::Forbidden, format!("{actor} may not do that"))),
        }
    }

    fn owner(&self) -> Option<&str> {
        match self {
            Self::All | Self::Tenant => None,
            Self::Own(owner) => Some(owner),
        }
    }

    fn covers(&self, owner: &str) -> bool {
        self.owner().is_none_or(|own| own == owner)
    }
}

/// What a caller is. The edge says it of everybody who signed in; without its word `admin` is what its name says.
fn role_of(caller: &Caller) -> Role {
    let unsaid = match caller.actor.strip_prefix("user:") {
        Some(ADMIN) => Role::Owner,
        Some(_) => Role::Developer,
        None if caller.actor == DEVELOPER || caller.actor.starts_with("service:") => Role::Owner,
        None => Role::Viewer,
    };
    caller.role.unwrap_or(unsaid)
}

/// The owner that a caller is, for what it makes for itself.
fn owner_of(caller: &Caller) -> String {
    let actor = caller.actor.as_str();
    actor.strip_prefix("user:").unwrap_or(DEVELOPER).to_owned()
}

/// A name that others can tell from an actor.
fn check_owner(owner: &str) -> Result<(), Problem> {
    owner
        .parse::<mesh_types::Token>()
        .map(drop)
        .map_err(|error| Problem::from(error).field("owner"))
}

fn check_life(seconds: u64) -> Result<Duration, Problem> {
    let life = Duration::from_secs(seconds);
    if life.is_zero() || life > LIFE_MAX {
        let detail = format!("expires_in_seconds must lie between 1 and {}", LIFE_MAX.as_secs());
        return Err(Problem::new(Code::InvalidRequest, detail).field("expires_in_seconds"));
    }
    Ok(life)
}

fn parse<T>(text: &str, field: &str) -> Result<T, Problem>
where
    T: std::str::FromStr,
    Problem: From<T::Err>,
{
    text.parse().map_err(|error| Problem::from(error).field(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(actor: &str, tenant: &str, role: Option<Role>) -> Option<Reach> {
        let caller = Caller {
            role,
            tenant: tenant.parse().unwrap(),
            actor: actor.into(),
            request_id: None,
        };
        Reach::of(&caller).ok()
    }

    #[test]
    fn who_may_see_whose_credentials() {
        for (actor, tenant, expected) in [
            ("dev", "daarion", Some(Reach::All)),
            ("service:mesh", "default", Some(Reach::All)),
            ("user:admin", "default", Some(Reach::All)),
            ("user:admin", "daarion", Some(Reach::Tenant)),
            ("user:ann", "default", Some(Reach::Own("ann".into()))),
            ("user:dev", "default", Some(Reach::Own("dev".into()))),
            ("node:kitchen", "default", None),
            ("join:jtk_1", "default", None),
            ("", "default", None),
        ] {
            assert_eq!(reach(actor, tenant, None), expected, "{actor} in {tenant}");
        }
        let owner = Some(Role::Owner);
        assert_eq!(reach("user:ann", "default", owner), Some(Reach::Tenant));
        assert_eq!(reach("user:admin", "default", owner), Some(Reach::All));
        assert_eq!(reach("user:admin", "daarion", owner), Some(Reach::Tenant));
        // A key of the administrator's with a lesser role is no administrator.
        let own = Some(Reach::Own("admin".into()));
        assert_eq!(reach("user:admin", "default", Some(Role::Viewer)), own);
        assert_eq!(
            reach("user:ann", "default", Some(Role::Developer)),
            Some(Reach::Own("ann".into()))
        );
        assert_eq!(reach("node:kitchen", "default", owner), None);
    }

    #[test]
    fn a_life_is_bounded() {
        assert!(check_life(0).is_err() && check_life(u64::MAX).is_err() && check_life(1).is_ok());
        assert!(check_owner("ann").is_ok() && check_owner("user:ann").is_err() && check_owner("").is_err());
    }
}
