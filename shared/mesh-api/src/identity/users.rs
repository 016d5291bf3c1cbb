//! People of a tenant: made, changed, let go. Passwords travel here and are kept as argon2id hashes only.

use mesh_types::{Tenant, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Role;
use crate::page::{Page, PageQuery};

endpoints! { "identity";
    UserCreate = "user-create", UserRequest => UserCreated, Owner, 10 s, once;
    UserList = "user-list", PageQuery => Page<UserView>, Owner, 5 s;
    /// Of oneself, or of anybody in the tenant for its owner.
    UserGet = "user-get", UserRef => UserView, Viewer, 5 s;
    UserUpdate = "user-update", UserUpdateRequest => UserView, Owner, 5 s;
    /// Out of the tenant; where it is the person's own, altogether.
    UserDelete = "user-delete", UserRef => UserDeleted, Owner, 5 s;
    /// One's own with the current one, or anybody's for the owner. Ends the other sessions.
    UserPassword = "user-password", PasswordRequest => PasswordSet, Viewer, 10 s, once;
}

hidden!(UserRequest, UserCreated, PasswordRequest, PasswordSet);

#[derive(Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserRequest {
    /// Letters, digits, `_` and `-`; unique in the installation.
    pub login: String,
    /// For people.
    #[serde(default)]
    pub name: String,
    pub role: Role,
    /// 12 to 256 characters. Absent: one is made and shown in the answer.
    #[serde(default)]
    pub password: Option<String>,
    /// Absent: the caller's. Another one only for who runs the installation, who also brings in people that there are
    /// already: their login and password stay.
    #[serde(default)]
    pub tenant: Option<Tenant>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UserCreated {
    pub user: UserView,
    /// Shown this once, where none was given.
    #[serde(default)]
    pub password: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UserView {
    /// `usr_…`.
    pub id: String,
    pub login: String,
    pub name: String,
    /// In this tenant.
    pub role: Role,
    pub disabled: bool,
    pub created_at: Timestamp,
    pub last_sign_in_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserRef {
    /// `usr_…`.
    pub id: String,
}

/// Absent fields stay.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserChange {
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub role: Option<Role>,
    /// Signs in no more; open sessions end.
    #[serde(default)]
    pub disabled: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserUpdateRequest {
    pub id: String,
    pub change: UserChange,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UserDeleted {
    pub id: String,
    pub deleted: bool,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct PasswordRequest {
    pub id: String,
    /// Absent: one is made and shown in the answer; for the owner only.
    #[serde(default)]
    pub password: Option<String>,
    /// Needed for one's own.
    #[serde(default)]
    pub current: Option<String>,
    /// The access token that the request came with: its session stays.
    #[serde(default)]
    pub credential: Option<String>,
    /// Address of who asks, as the edge knows it.
    #[serde(default)]
    pub address: String,
}

#[derive(Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PasswordSet {
    /// Shown this once, where none was given.
    #[serde(default)]
    pub password: Option<String>,
    /// Sessions that ended.
    pub sessions_ended: u32,
}
