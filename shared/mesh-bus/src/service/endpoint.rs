//! Typed endpoints: bytes to request, reply to bytes.

use std::sync::Arc;

use mesh_api::{Caller, Endpoint};
use mesh_types::{Code, NodeId, Problem, Subject};
use serde::de::DeserializeOwned;

use super::Handler;
use crate::Headers;
use crate::call::encode;

pub(super) fn wrap<E, H, F>(handler: H) -> Handler
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
