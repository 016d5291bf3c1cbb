//! The endpoint: one type fixes subject, request, reply, deadline and access; handler, client and API follow from it.

use std::time::Duration;

use mesh_types::{RequestId, Subject, Tenant};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One request/reply of a service at `mesh.svc.<SERVICE>.<NAME>`.
pub trait Endpoint: Send + Sync + 'static {
    const SERVICE: &'static str;
    const NAME: &'static str;
    type Request: Serialize + DeserializeOwned + Send + Sync + 'static;
    type Reply: Serialize + DeserializeOwned + Send + 'static;
    /// How long a caller waits before the answer is unknown, at most.
    const DEADLINE: Duration = Duration::from_secs(5);
    const ACCESS: Access;
    /// Whether the same request may be sent again when its answer is unknown.
    const REPEATABLE: bool = true;

    /// The same for this very request: shorter where only some requests take as long as [`Endpoint::DEADLINE`]. An
    /// answer that is lost with its process is waited for until then.
    fn deadline_of(_request: &Self::Request) -> Duration {
        Self::DEADLINE
    }

    fn subject() -> Subject {
        let token = |text: &str| text.parse().expect("endpoint names are tokens");
        Subject::Service {
            service: token(Self::SERVICE),
            endpoint: token(Self::NAME),
        }
    }
}

/// An endpoint that sends chunks to the caller's inbox before its reply.
pub trait StreamEndpoint: Endpoint {
    type Chunk: Serialize + DeserializeOwned + Send + 'static;
}

/// Least role that may ask; enforced at the edge, again by the service that is asked, and by NATS permissions, default
/// deny.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Reads of one tenant.
    Viewer,
    /// Invokes and ends what it invoked, posts, remembers.
    Program,
    /// Steers executions, decides what waits for a person, forgets.
    Operator,
    /// Declares agents, tools, knowledge.
    Developer,
    /// Users, everybody's keys, the whole audit.
    Owner,
    /// Other services of the mesh only.
    Service,
}

impl Access {
    /// The role that may ask; `None`: no role may, only a service in its own name.
    pub const fn least(self) -> Option<Role> {
        match self {
            Self::Viewer => Some(Role::Viewer),
            Self::Program => Some(Role::Service),
            Self::Operator => Some(Role::Operator),
            Self::Developer => Some(Role::Developer),
            Self::Owner => Some(Role::Owner),
            Self::Service => None,
        }
    }

    /// Whether that caller may ask. A caller without a role is a service, which asks for what it needs itself.
    pub fn is_open_to(self, caller: &Caller) -> bool {
        match (caller.role, self.least()) {
            (None, _) => true,
            (Some(role), Some(least)) => role.covers(least),
            (Some(_), None) => false,
        }
    }
}

/// What somebody is in a tenant: a person by membership, a program by its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sees.
    Viewer,
    /// A program: sees, invokes, posts, remembers; what waits for a person is not its to decide.
    Service,
    /// Invokes, steers, approves, drains.
    Operator,
    /// Declares agents, tools, knowledge, besides what an operator does.
    Developer,
    /// All of the tenant: users, everybody's keys, the whole audit.
    Owner,
}

impl Role {
    pub const ALL: [Self; 5] = [
        Self::Viewer,
        Self::Service,
        Self::Operator,
        Self::Developer,
        Self::Owner,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Service => "service",
            Self::Operator => "operator",
            Self::Developer => "developer",
            Self::Owner => "owner",
        }
    }

    /// Whether it is at least as much as the other: viewer, service, operator, developer, owner.
    pub const fn covers(self, least: Self) -> bool {
        self as u8 >= least as u8
    }
}

impl std::str::FromStr for Role {
    type Err = UnknownRole;
    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role: viewer, service, operator, developer, owner")]
pub struct UnknownRole(pub String);

/// Who asks, from the headers that the caller's service set (the edge or a service, never a node or a browser).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub tenant: Tenant,
    /// `user:ann`, `service:execution`, `dev` in development mode.
    pub actor: String,
    /// What the edge found the actor to be in the tenant; `None`: a service of the mesh, or a node.
    pub role: Option<Role>,
    pub request_id: Option<RequestId>,
}

impl Caller {
    pub fn service(name: &str, tenant: Tenant) -> Self {
        Self {
            tenant,
            actor: format!("service:{name}"),
            role: None,
            request_id: None,
        }
    }
}

/// Declares endpoints as unit types, one per line.
macro_rules! endpoints {
    ($service:literal; $($(#[$doc:meta])* $name:ident = $subject:literal, $request:ty => $reply:ty, $access:ident, $seconds:literal s $(, $flag:ident)?;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;
        impl $crate::Endpoint for $name {
            const SERVICE: &'static str = $service;
            const NAME: &'static str = $subject;
            type Request = $request;
            type Reply = $reply;
            const DEADLINE: ::std::time::Duration = ::std::time::Duration::from_secs($seconds);
            const ACCESS: $crate::Access = $crate::Access::$access;
            const REPEATABLE: bool = true $(&& endpoints!(@$flag))?;
        }
    )*};
    (@once) => { false };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_covers_what_is_open_to_it_and_nothing_that_only_services_ask() {
        let all = [
            Access::Viewer,
            Access::Program,
            Access::Operator,
            Access::Developer,
            Access::Owner,
            Access::Service,
        ];
        let mut caller = Caller::service("execution", Tenant::default());
        assert!(all.into_iter().all(|access| access.is_open_to(&caller)));
        for (role, open) in Role::ALL.into_iter().zip(1..) {
            caller.role = Some(role);
            let found: Vec<bool> = all.iter().map(|access| access.is_open_to(&caller)).collect();
            let expected: Vec<bool> = (0..all.len()).map(|number| number < open).collect();
            assert_eq!(found, expected, "{role:?}");
        }
    }
}
