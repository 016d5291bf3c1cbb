//! The endpoint that accepts an invocation, and how long who asks it waits.

use std::time::Duration;

use mesh_types::AgentName;
use serde::{Deserialize, Serialize};

use crate::endpoint::{Access, Endpoint};
use crate::execution::{Invocation, InvokeRequest};

/// Accepts an invocation and waits for its end as long as it is asked to. It is asked again when its answer is late or
/// lost: only with an id or a key is that one invocation.
#[derive(Debug, Clone, Copy)]
pub struct InvocationAccept;

/// Longest wait for an end that a request may ask for.
pub const WAIT_MAX: Duration = Duration::from_secs(300);
/// What accepting takes besides, at most: a takeover of its shard.
const ACCEPT: Duration = Duration::from_secs(10);

impl Endpoint for InvocationAccept {
    const SERVICE: &'static str = "execution";
    const NAME: &'static str = "invocation-accept";
    type Request = AcceptRequest;
    type Reply = Invocation;
    /// Longer than any request's own: who is asked is never the first to give up.
    const DEADLINE: Duration = Duration::from_secs(330);
    const ACCESS: Access = Access::Program;

    fn deadline_of(request: &AcceptRequest) -> Duration {
        Duration::from_millis(request.wait_ms).min(WAIT_MAX) + ACCEPT
    }
}

/// Accepts for the caller's tenant; the reply comes when it is durable or, with `wait_ms`, when it has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AcceptRequest {
    pub agent: AgentName,
    pub request: InvokeRequest,
    /// Wait at most so long for the end; at most [`WAIT_MAX`].
    #[serde(default)]
    pub wait_ms: u64,
}

#[cfg(test)]
mod tests {
    use mesh_types::{Id as _, InvocationId, Timestamp};
    use serde_json::json;

    use super::*;
    use crate::node::Ticket;
    use crate::road::{ByNode, Ticketed};

    #[test]
    fn an_accept_is_waited_for_as_long_as_it_asks_to_wait_on_every_road() {
        let request = |wait_ms: u64| AcceptRequest {
            agent: "sofia".parse().unwrap(),
            request: InvokeRequest::default(),
            wait_ms,
        };
        let seconds = |wait_ms| InvocationAccept::deadline_of(&request(wait_ms)).as_secs();
        // Who does not wait for the end learns soon that the one it asked is gone.
        assert_eq!((seconds(0), seconds(5_000)), (10, 15));
        assert!(seconds(u64::MAX) < InvocationAccept::DEADLINE.as_secs());
        let ticket: Ticket =
            serde_json::from_value(json!({"tenant": "default", "agent": "sofia", "shard": 1, "epoch": 1,
            "invocation": InvocationId::from_u128(1), "issued_at": Timestamp::from_millis(1), "signature": ""}))
            .unwrap();
        let by_node = Ticketed {
            ticket,
            request: request(0),
        };
        assert_eq!(ByNode::<InvocationAccept>::deadline_of(&by_node).as_secs(), 10);
    }
}
