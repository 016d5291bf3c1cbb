//! What the agent loop needs of the world, as thin traits. One value of them serves one invocation of one
//! tenant; whoever implements them knows the bus and the store, this crate does not.

use std::future::Future;
use std::time::Duration;

use mesh_api::execution::InvokeRequest;
use mesh_api::inference::{Chunk, CompleteRequest, Completion};
use mesh_api::journal::{Ended, Fact, Record, TokenChunk, WaitItem};
use mesh_api::memory::{Batch, BatchRequest, Memory, QueryReply, QueryRequest, StoreRequest};
use mesh_api::messaging::{Message, PostRequest};
use mesh_types::tool::{ToolCall, ToolReply};
use mesh_types::{AgentName, ChannelId, Clock, InvocationId, Problem};

/// What an append says besides its facts.
#[derive(Debug, Clone, PartialEq)]
pub enum Then {
    GoOn,
    /// Nothing can be done until one of these has happened: the worker lets go once it is committed.
    Wait(Vec<WaitItem>),
    /// The invocation ends with this append; its owner writes the `ended` record.
    End(Box<Ended>),
}

/// A committed append.
#[derive(Debug, Clone, PartialEq)]
pub struct Appended {
    /// Highest seq of the invocation after it.
    pub seq: u32,
    /// Records that the owner wrote since the last answer, such as signals: the plan folds them. A wait is only
    /// taken where there are none; else the answer is to go on.
    pub news: Vec<Record>,
    pub next: Next,
}

/// What the worker does after an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    GoOn,
    /// The wait is committed: let go.
    Waiting,
    /// Paused, or the process drains: what came is committed, let go.
    Stop,
}

/// Why an append was not taken. An unknown outcome is none of these: it is sent again below [`Journal`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AppendError {
    /// Somebody else holds the invocation, or it has ended: stop, without further effects.
    #[error("another worker holds the invocation now")]
    Stale,
    /// A step has another result already (a late `done` was first): go on from what is committed.
    #[error("a step of the append has another result already")]
    Conflict {
        /// All records of the invocation, from seq 1.
        committed: Vec<Record>,
    },
    /// Somebody wants it cancelled; the owner writes the end.
    #[error("cancelled: {reason}")]
    Cancelled { reason: String },
    /// The owner or its database refuses these very records, and would again.
    #[error("the append was refused")]
    Refused(#[source] Box<Problem>),
}

/// The way to the invocation's journal.
pub trait Journal: Send + Sync {
    /// Commits all of it or nothing, durably, under the worker's own epoch; `facts` may be empty with an end.
    /// The loop has one append in flight at a time and starts no effect before the answer.
    fn append(&self, facts: Vec<Fact>, then: Then) -> impl Future<Output = Result<Appended, AppendError>> + Send;
}

/// Channels of the invocation's tenant.
pub trait Channels: Send + Sync {
    /// The newest `limit` messages, oldest first.
    fn history(&self, channel: &ChannelId, limit: u32) -> impl Future<Output = Result<Vec<Message>, Problem>> + Send;

    /// Idempotent by the message's id, which the loop always gives.
    fn post(&self, request: PostRequest) -> impl Future<Output = Result<Message, Problem>> + Send;
}

/// Memories of the invocation's tenant.
pub trait Memories: Send + Sync {
    fn query(&self, request: QueryRequest) -> impl Future<Output = Result<QueryReply, Problem>> + Send;

    /// Some of the agent's own by their ids.
    fn batch(&self, request: BatchRequest) -> impl Future<Output = Result<Batch, Problem>> + Send;

    /// Idempotent by the memory's id, which the loop always gives.
    fn store(&self, request: StoreRequest) -> impl Future<Output = Result<Memory, Problem>> + Send;
}

/// The way to models, fallbacks included.
pub trait Model: Send + Sync {
    /// One call; text also arrives piece by piece. `idempotency_key` is the same in every repeat.
    fn complete(
        &self,
        request: CompleteRequest,
        on_chunk: impl FnMut(Chunk) + Send,
    ) -> impl Future<Output = Result<Completion, Problem>> + Send;
}

/// Tools, command lines and remote agents outside of the mesh.
pub trait Outside: Send + Sync {
    /// One try. `on_text` gets text of runtimes that stream, piece by piece.
    fn call(
        &self,
        call: ToolCall,
        on_text: impl FnMut(String) + Send,
    ) -> impl Future<Output = Result<ToolReply, Problem>> + Send;
}

/// Invocations of the same tenant.
pub trait Invocations: Send + Sync {
    /// Accepts one of its own, not waited for; idempotent by the id, which the loop always gives.
    fn create(
        &self,
        agent: AgentName,
        request: InvokeRequest,
    ) -> impl Future<Output = Result<InvocationId, Problem>> + Send;
}

/// Where streamed text goes. It may lose pieces: the step's record supersedes them.
pub trait Tokens: Send + Sync {
    /// Must not block.
    fn chunk(&self, chunk: TokenChunk);
}

/// Everything together, and time.
pub trait Effects: Journal + Channels + Memories + Model + Outside + Invocations + Tokens {
    /// Dates the steps and measures the limits.
    fn clock(&self) -> &dyn Clock;

    /// Waits. Tests bring their own time.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send {
        tokio::time::sleep(duration)
    }
}
