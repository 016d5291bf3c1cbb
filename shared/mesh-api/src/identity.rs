//! Endpoints of `identity`: credentials, and the facts about who did what. Secrets travel here once, at their making,
//! and are kept as hashes only.

/// Types that hold secrets, which no log shows by accident.
macro_rules! hidden {
    ($($name:ident),* $(,)?) => {$(
        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(***)"))
            }
        }
    )*};
}

mod sign_in;
mod users;

use mesh_types::fleet::{Labels, NodeMode};
use mesh_types::{NodeId, Tenant, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Role;
use crate::page::{Page, PageQuery};

pub use sign_in::{
    Me, MeRequest, MeView, Membership, Methods, MethodsRequest, Mode, Person, ProviderFinish, ProviderFinishRequest,
    ProviderFinished, ProviderStart, ProviderStartRequest, ProviderStarted, ProviderView, Redeemed, Refresh,
    RefreshRequest, SessionView, SignIn, SignInMethods, SignInRequest, SignOut, SignOutRequest, SignedIn, SignedOut,
    Standing, StandingRequest, StandingView, TicketCreate, TicketCreated, TicketRedeem, TicketRedeemRequest,
    TicketRequest,
};
pub use users::{
    PasswordRequest, PasswordSet, UserChange, UserCreate, UserCreated, UserDelete, UserDeleted, UserGet, UserList,
    UserPassword, UserRef, UserRequest, UserUpdate, UserUpdateRequest, UserView,
};

endpoints! { "identity";
    /// Whose credential this is; `unauthorized` for anything else, which is an audit fact.
    CredentialVerify = "credential-verify", VerifyRequest => Principal, Service, 3 s;
    KeyCreate = "key-create", KeyRequest => KeyCreated, Operator, 5 s, once;
    KeyList = "key-list", PageQuery => Page<KeyView>, Viewer, 5 s;
    KeyRevoke = "key-revoke", RevokeRequest => KeyView, Operator, 5 s;
    JoinTokenCreate = "join-token-create", JoinTokenRequest => JoinTokenCreated, Operator, 5 s, once;
    JoinTokenList = "join-token-list", PageQuery => Page<JoinTokenView>, Viewer, 5 s;
    JoinTokenRevoke = "join-token-revoke", RevokeRequest => JoinTokenView, Operator, 5 s;
    /// Joins or comes back: with a join token, an API key of the owner, or the node's own secret. Also at
    /// `mesh.node.<join token's id or node>.identity.enroll`, the credential's own road.
    Enroll = "enroll", EnrollRequest => Enrolled, Service, 10 s;
    /// An audit fact of a service that keeps none itself, such as a request that the gateway refused.
    AuditNote = "audit-note", AuditEntry => AuditNoted, Service, 5 s;
    AuditList = "audit-list", AuditQuery => Page<AuditFact>, Viewer, 5 s;
    /// The public key that tickets of nodes are checked by is `execution`'s; this one checks NATS users.
    Requirement = "requirement", RequirementRequest => Required, Service, 3 s;
    /// What the gateway seals things with that it keeps outside of the database; `forbidden` for all others.
    EdgeSecret = "edge-secret", EdgeSecretRequest => EdgeSecretHeld, Service, 5 s;
}

hidden!(EdgeSecretHeld);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerifyRequest {
    pub credential: String,
}

/// Who a credential stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Principal {
    /// `key_…`, `usr_…`, `jtk_…` or the node's id.
    pub id: String,
    pub kind: PrincipalKind,
    pub owner: String,
    pub tenant: Tenant,
    /// `None` for join tokens and nodes, whose kind says what they may do.
    #[serde(default)]
    pub role: Option<Role>,
    /// Narrows what the role allows: `<tag>:read` or `<tag>:write`, a tag of the API's description. Empty: all of it.
    #[serde(default)]
    pub scopes: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    /// A person who signed in, by an access token.
    User,
    /// A person or a program by its API key.
    Key,
    /// May join nodes, nothing else.
    JoinToken,
    /// A node by its own secret: may do what a node does over HTTP, nothing else.
    Node,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// Whom it stands for: letters, digits, `_` and `-`.
    pub owner: String,
    /// For people.
    #[serde(default)]
    pub name: String,
    /// Absent: it does not expire.
    #[serde(default)]
    pub expires_in_seconds: Option<u64>,
    /// Absent: the caller's. Another one only for who runs the installation.
    #[serde(default)]
    pub tenant: Option<Tenant>,
    /// Never more than the maker's. Absent: developer, or the maker's where that is less; `admin` gets owner.
    #[serde(default)]
    pub role: Option<Role>,
    /// Narrows what the role allows: `<tag>:read` or `<tag>:write`, a tag of the API's description. Empty: all of it.
    #[serde(default)]
    pub scopes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct KeyCreated {
    pub key: KeyView,
    /// Shown this once: `mak_…`.
    pub secret: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct KeyView {
    /// `key_…`.
    pub id: String,
    pub owner: String,
    pub tenant: Tenant,
    pub name: String,
    /// `None`: the secret of a node, whose kind says what it may do.
    #[serde(default)]
    pub role: Option<Role>,
    #[serde(default)]
    pub scopes: Vec<String>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    pub id: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenRequest {
    /// Absent: whoever asks.
    #[serde(default)]
    pub owner: Option<String>,
    /// Default 24 hours.
    #[serde(default)]
    pub expires_in_seconds: Option<u64>,
    /// How many nodes may join with it; absent: any number while it lasts.
    #[serde(default)]
    pub uses_max: Option<u32>,
    /// Only a node of this id may join with it.
    #[serde(default)]
    pub node_id: Option<NodeId>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JoinTokenCreated {
    pub join_token: JoinTokenView,
    /// Shown this once: `mjt_…`.
    pub secret: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JoinTokenView {
    /// `jtk_…`.
    pub id: String,
    pub owner: String,
    pub tenant: Tenant,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    pub uses: u32,
    pub uses_max: Option<u32>,
    pub node_id: Option<NodeId>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnrollRequest {
    /// `None` only in development mode.
    #[serde(default)]
    pub credential: Option<String>,
    /// In development mode; else the credential's counts.
    #[serde(default)]
    pub tenant: Option<Tenant>,
    /// Pinned, or known from its state.
    #[serde(default)]
    pub node_id: Option<NodeId>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub mode: Option<NodeMode>,
    #[serde(default)]
    pub labels: Option<Labels>,
    #[serde(default)]
    pub capabilities: Option<Vec<String>>,
    #[serde(default)]
    pub slots: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Enrolled {
    pub node: crate::fleet::NodeEntry,
    /// The node's own secret (`mns_…`), which it keeps and connects to NATS with as user `<node_id>`; `None` where it
    /// came back with it, or where no credentials are demanded.
    #[serde(default)]
    pub secret: Option<String>,
    /// Where it may speak NATS, if the mesh knows; else where it asked.
    #[serde(default)]
    pub nats_url: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RequirementRequest {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Required {
    /// Whether nobody gets in without a credential.
    pub credentials: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeSecretRequest {
    /// Letters, digits, `_` and `-`; each purpose has a secret of its own, made when it is first asked for.
    pub purpose: String,
}

/// No `Debug`: the secret is all of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeSecretHeld {
    /// 256 bits as 64 hexadecimal digits; the same for ever.
    pub secret: String,
}

/// One fact: who did, or tried, what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditEntry {
    /// `user:ann`, `node:nod_…`, `key:key_…`, `anonymous`.
    pub actor: String,
    /// Such as `node.enroll`, `credential.verify`, `node.heartbeat`.
    pub action: String,
    /// What it was done to, such as a node's id.
    pub subject: String,
    pub outcome: AuditOutcome,
    /// Why, in words; never a secret.
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub before: Value,
    #[serde(default)]
    pub after: Value,
    #[serde(default)]
    pub request_id: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    Done,
    Refused,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AuditNoted {}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditFact {
    /// `evt_…`
    pub id: String,
    pub tenant: Tenant,
    pub at: Timestamp,
    #[serde(flatten)]
    pub entry: AuditEntry,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AuditQuery {
    #[serde(default)]
    pub outcome: Option<AuditOutcome>,
    #[serde(default)]
    pub action: Option<String>,
    #[serde(default)]
    pub page: PageQuery,
}
