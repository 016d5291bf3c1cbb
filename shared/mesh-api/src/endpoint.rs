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
    /// How long a caller waits before the answer is unknown.
    const DEADLINE: Duration = Duration::from_secs(5);
    const ACCESS: Access;
    /// Whether the same request may be sent again when its answer is unknown.
    const REPEATABLE: bool = true;

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

/// Least role that may ask; enforced at the edge and by NATS permissions, default deny.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Reads of one tenant.
    Viewer,
    /// Invokes, posts, steers executions.
    Operator,
    /// Declares agents.
    Developer,
    /// Other services of the mesh only.
    Service,
}

/// Who asks, from the headers that the caller's service set (the edge or a service, never a node or a browser).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub tenant: Tenant,
    /// `user:ann`, `service:execution`, `dev` in development mode.
    pub actor: String,
    pub request_id: Option<RequestId>,
}

impl Caller {
    pub fn service(name: &str, tenant: Tenant) -> Self {
        Self {
            tenant,
            actor: format!("service:{name}"),
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
