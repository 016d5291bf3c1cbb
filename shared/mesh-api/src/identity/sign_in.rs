//! Sign-in of people: by password, by another provider, kept by a rotating refresh token; and tickets for streams.

use mesh_types::{Tenant, Timestamp};
use serde::{Deserialize, Serialize};

use super::Principal;
use crate::Role;

endpoints! { "identity";
    /// `unauthorized` for a wrong login and for a wrong password alike; `too-many-attempts` while locked out.
    SignIn = "sign-in", SignInRequest => SignedIn, Service, 10 s, once;
    /// The next pair of tokens. A refresh token that was used before ends the session.
    Refresh = "refresh", RefreshRequest => SignedIn, Service, 5 s, once;
    SignOut = "sign-out", SignOutRequest => SignedOut, Service, 5 s;
    /// Who a signed-in person is, and where.
    Me = "me", MeRequest => MeView, Viewer, 3 s;
    Methods = "sign-in-methods", MethodsRequest => SignInMethods, Service, 3 s;
    ProviderStart = "provider-start", ProviderStartRequest => ProviderStarted, Service, 20 s, once;
    ProviderFinish = "provider-finish", ProviderFinishRequest => ProviderFinished, Service, 30 s, once;
    /// A ticket of 30 seconds for one stream, in place of a credential in its address.
    TicketCreate = "ticket-create", TicketRequest => TicketCreated, Viewer, 5 s, once;
    /// Once; `unauthorized` for a ticket that is used, too old, or whose credential is not good any more.
    TicketRedeem = "ticket-redeem", TicketRedeemRequest => Redeemed, Service, 5 s, once;
    /// Whether what a stream was opened with is still good; `unauthorized` when it is not.
    Standing = "standing", StandingRequest => StandingView, Service, 3 s;
}

hidden!(
    SignInRequest,
    RefreshRequest,
    SignOutRequest,
    SignedIn,
    SessionView,
    ProviderFinished,
    TicketCreated
);

/// As the edge takes it, and where it came from.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct SignInRequest {
    pub login: String,
    pub password: String,
    /// Absent: the person's own.
    #[serde(default)]
    pub tenant: Option<Tenant>,
    /// Address of who asks, as the edge knows it.
    pub address: String,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct RefreshRequest {
    /// `mrt_…`.
    pub refresh_token: String,
    /// Another tenant of the person's, from now on.
    #[serde(default)]
    pub tenant: Option<Tenant>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct SignOutRequest {
    pub refresh_token: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedOut {
    /// `false`: there was nothing to end.
    pub ended: bool,
}

/// Both tokens; the edge puts the refresh token into a cookie and nothing else of its own.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct SignedIn {
    #[serde(flatten)]
    pub session: SessionView,
    /// `mrt_…`, good once.
    pub refresh_token: String,
    /// Seconds until the session ends whatever is done.
    pub refresh_expires_in: u64,
}

/// What a page knows of its sign-in.
#[derive(Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SessionView {
    /// For `Authorization: Bearer`. Keep it in memory only.
    pub access_token: String,
    /// Seconds.
    pub expires_in: u64,
    pub tenant: Tenant,
    pub role: Role,
    pub user: Person,
    pub tenants: Vec<Membership>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Person {
    /// `usr_…`.
    pub id: String,
    pub login: String,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Membership {
    pub tenant: Tenant,
    pub role: Role,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeRequest {
    /// `usr_…`.
    pub user: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeView {
    pub user: Person,
    pub tenants: Vec<Membership>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MethodsRequest {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nobody signs in; only this machine is served.
    Development,
    /// Nobody gets in without a credential.
    Credentials,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SignInMethods {
    pub mode: Mode,
    /// Whether logins and passwords are taken.
    pub password: bool,
    pub providers: Vec<ProviderView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProviderView {
    pub id: String,
    /// For people.
    pub name: String,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ProviderStartRequest {
    pub provider: String,
    /// Path of this server where the browser goes afterwards.
    pub return_to: String,
    /// `scheme://host` that the browser asked, for when `identity.public_url` is not set.
    pub asked_at: String,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ProviderStarted {
    /// Where the browser goes now.
    pub location: String,
    /// Binds the answer to this browser: a cookie of the way.
    pub binding: String,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ProviderFinishRequest {
    pub provider: String,
    pub code: String,
    pub state: String,
    pub binding: String,
    pub address: String,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ProviderFinished {
    pub signed_in: SignedIn,
    pub return_to: String,
}

/// `None`: development mode, where nobody has a credential.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct TicketRequest {
    #[serde(default)]
    pub credential: Option<String>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TicketCreated {
    /// `mtk_…`, good once.
    pub ticket: String,
    /// Seconds.
    pub expires_in: u64,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct TicketRedeemRequest {
    pub ticket: String,
}

/// Whom a stream is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Redeemed {
    /// `user:ann`, or `dev`.
    pub actor: String,
    pub tenant: Tenant,
    pub role: Role,
    #[serde(default)]
    pub scopes: Vec<String>,
    /// `None` in development mode.
    #[serde(default)]
    pub principal: Option<Principal>,
    /// What to ask [`Standing`] about while the stream is open; `None` in development mode.
    #[serde(default)]
    pub standing: Option<String>,
    /// When what it was made with ends at the latest.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

/// `ses_…` or `key_…`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StandingRequest {
    pub id: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StandingView {
    pub tenant: Tenant,
    pub role: Role,
    pub scopes: Vec<String>,
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}
