//! The roads of nodes to other services, at `mesh.node.<node>.<service>.<endpoint>`: the same endpoints as at
//! `mesh.svc.…`, asked for an invocation that the node holds. Who asks is the node in the subject; tenant and agent stand
//! in the ticket, so that neither is ever taken from a header or a body.

use std::marker::PhantomData;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::endpoint::{Access, Endpoint, StreamEndpoint};
use crate::node::Ticket;

/// A request in the name of the invocation that the ticket is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ticketed<T> {
    pub ticket: Ticket,
    pub request: T,
}

/// The endpoint `E` as a node asks it: with a ticket.
#[derive(Debug)]
pub struct ByNode<E>(PhantomData<fn() -> E>);

impl<E: Endpoint> Endpoint for ByNode<E> {
    const SERVICE: &'static str = E::SERVICE;
    const NAME: &'static str = E::NAME;
    type Request = Ticketed<E::Request>;
    type Reply = E::Reply;
    const DEADLINE: Duration = E::DEADLINE;
    const ACCESS: Access = Access::Service;
    const REPEATABLE: bool = E::REPEATABLE;

    fn deadline_of(request: &Self::Request) -> Duration {
        E::deadline_of(&request.request)
    }
}

impl<E: StreamEndpoint> StreamEndpoint for ByNode<E> {
    type Chunk = E::Chunk;
}
