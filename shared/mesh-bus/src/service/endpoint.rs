//! Typed endpoints: bytes to request, reply to bytes.

use std::sync::Arc;

use mesh_api::{Caller, Endpoint};
use mesh_types::{Code, NodeId, Problem, Subject};
use serde::de::DeserializeOwned;

use super::Handler;
use crate::Headers;
use crate::call::encode;

/// Whose requests an endpoint takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// A caller's whose role covers the endpoint's access, or a service's in its own name.
    Guarded,
    /// A peer's that passes on what it has let in.
    Peers,
}

/// # Errors
/// `Forbidden` for a caller whose role does not suffice. The edge has refused him already: this is the second wall.
pub(super) fn check_access<E: Endpoint>(caller: &Caller) -> Result<(), Problem> {
    if E::ACCESS.is_open_to(caller) {
        return Ok(());
    }
    let role = caller.role.map_or("nobody", mesh_api::Role::as_str);
    let detail = format!("{role} may not ask {} of {}", E::NAME, E::SERVICE);
    tracing::warn!(
        actor = caller.actor,
        detail,
        "a caller without the right came past the edge"
    );
    Err(Problem::new(Code::Forbidden, detail).next("ask an owner of the tenant for the role"))
}

pub(super) fn wrap<E, H, F>(door: Door, handler: H) -> Handler
where
    E: Endpoint,
    H: Fn(Caller, E::Request) -> F + Send + Sync + 'static,
    F: Future<Output = Result<E::Reply, Problem>> + Send + 'static,
{
    let handler = Arc::new(handler);
    Arc::new(move |incoming| {
        let handler = Arc::clone(&handler);
        Box::pin(async move {
            let caller = incoming.headers.caller()?;
            if door == Door::Guarded {
                check_access::<E>(&caller)?;
            }
            let request = decode(&incoming.payload)?;
            let reply = handler(caller, request).await?;
            Ok((Headers::new(), encode(&reply)?))
        })
    })
}

/// As [`wrap`], of an endpoint that nodes ask: who asks stands in the subject.
pub(super) fn wrap_node<E, H, F>(handler: H) -> Handler
where
    E: Endpoint,
    H: Fn(NodeId, E::Request) -> F + Send + Sync + 'static,
    F: Future<Output = Result<E::Reply, Problem>> + Send + 'static,
{
    let handler = Arc::new(handler);
    Arc::new(move |incoming| {
        let handler = Arc::clone(&handler);
        Box::pin(async move {
            let node = node_of(&incoming.subject)?;
            let request = decode(&incoming.payload)?;
            let reply = handler(node, request).await?;
            Ok((Headers::new(), encode(&reply)?))
        })
    })
}

/// The node that a subject names.
pub(super) fn node_of(subject: &str) -> Result<NodeId, Problem> {
    match subject.parse::<Subject>() {
        Ok(Subject::NodeService { node, .. }) => Ok(node),
        Ok(_) => Err(Problem::new(Code::InvalidName, "the subject names no node")),
        Err(error) => Err(Problem::new(Code::InvalidName, error.to_string())),
    }
}

/// Reads a request. An empty one is `{}`: people ask from a command line.
pub(super) fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Problem> {
    let payload = if payload.is_empty() { b"{}" } else { payload };
    serde_json::from_slice(payload).map_err(|error| {
        let code = if error.is_data() {
            Code::InvalidRequest
        } else {
            Code::MalformedJson
        };
        Problem::new(code, error.to_string())
    })
}
