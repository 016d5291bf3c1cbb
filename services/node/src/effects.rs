//! What the agent loop may do on a node. No effect starts but within the lease; models, channels and memories are asked
//! by the node's own roads, with the ticket of the invocation that is held. With an endpoint of its own, the node asks
//! that for models.

use std::sync::Arc;

use mesh_api::Endpoint;
use mesh_api::execution::{AcceptRequest, InvocationAccept, InvokeRequest};
use mesh_api::inference::{Chunk, Complete, CompleteRequest, Completion};
use mesh_api::journal::{Fact, TokenChunk};
use mesh_api::memory::{
    Batch, BatchRequest, Memory, MemoryBatch, MemoryQuery, MemoryStore, QueryReply, QueryRequest, StoreRequest,
};
use mesh_api::messaging::{ChannelHistory, HistoryRequest, Message, MessagePost, PostRequest};
use mesh_api::node::{Ticket, TokenBatch};
use mesh_runtime::fail_point;
use mesh_types::tool::{ToolCall, ToolReply};
use mesh_types::{AgentName, ChannelId, Clock, InvocationId, Problem};
use mesh_worker::{
    AppendError, Appended, Channels, Effects, Invocations, Journal, Memories, Model, Outside, Then, Tokens,
};
use tokio::sync::mpsc;

use crate::Node;
use crate::execution::Execution;
use crate::held::Held;
use crate::journal::GrantJournal;

/// Text of one message, about.
const BATCH_BYTES: usize = 64 * 1024;

pub(crate) struct NodeEffects {
    node: Arc<Node>,
    held: Arc<Held>,
    pub(crate) journal: GrantJournal,
}

impl NodeEffects {
    pub(crate) fn new(node: &Arc<Node>, held: &Arc<Held>, seq: u32) -> Self {
        Self {
            journal: GrantJournal::new(node, held, seq),
            node: Arc::clone(node),
            held: Arc::clone(held),
        }
    }

    /// Asks another service, once an effect may start.
    async fn ask<E: Endpoint>(&self, request: E::Request) -> Result<E::Reply, Problem> {
        self.may_start().await;
        fail_point!(async "node.ask.before");
        let answered = self.node.execution.ask_for::<E>(&self.held.ticket, request).await;
        fail_point!(async "node.ask.after");
        answered
    }

    async fn may_start(&self) {
        let node = &self.node;
        let short = || node.bell.ring();
        self.held.lease.allowed(node.context.clock.as_ref(), short).await;
    }
}

impl Journal for NodeEffects {
    async fn append(&self, facts: Vec<Fact>, then: Then) -> Result<Appended, AppendError> {
        fail_point!(async "node.append.before");
        let appended = self.journal.append(facts, then).await;
        fail_point!(async "node.append.after");
        appended
    }
}

impl Channels for NodeEffects {
    async fn history(&self, channel: &ChannelId, limit: u32) -> Result<Vec<Message>, Problem> {
        let request = HistoryRequest {
            channel: channel.clone(),
            limit,
            before: None,
        };
        Ok(self.ask::<ChannelHistory>(request).await?.items)
    }

    async fn post(&self, request: PostRequest) -> Result<Message, Problem> {
        self.ask::<MessagePost>(request).await
    }
}

impl Memories for NodeEffects {
    async fn query(&self, request: QueryRequest) -> Result<QueryReply, Problem> {
        self.ask::<MemoryQuery>(request).await
    }

    async fn batch(&self, request: BatchRequest) -> Result<Batch, Problem> {
        self.ask::<MemoryBatch>(request).await
    }

    async fn store(&self, request: StoreRequest) -> Result<Memory, Problem> {
        self.ask::<MemoryStore>(request).await
    }
}

impl Model for NodeEffects {
    async fn complete(
        &self,
        request: CompleteRequest,
        mut on_chunk: impl FnMut(Chunk) + Send,
    ) -> Result<Completion, Problem> {
        self.may_start().await;
        fail_point!(async "node.model.before");
        let answered = match self.node.models.own_endpoint()? {
            Some(local) => local.stream(&request, &mut on_chunk).await,
            None => {
                let execution = &self.node.execution;
                execution
                    .stream_for::<Complete>(&self.held.ticket, request, on_chunk)
                    .await
            }
        };
        fail_point!(async "node.model.after");
        answered.inspect(|completion| self.node.load.add_tokens(completion.usage.output_tokens))
    }
}

impl Outside for NodeEffects {
    async fn call(&self, call: ToolCall, on_text: impl FnMut(String) + Send) -> Result<ToolReply, Problem> {
        self.may_start().await;
        fail_point!(async "node.tool.before");
        let reply = self.node.toolbox.call(call, on_text).await;
        fail_point!(async "node.tool.after");
        reply
    }
}

impl Invocations for NodeEffects {
    async fn create(&self, agent: AgentName, request: InvokeRequest) -> Result<InvocationId, Problem> {
        let request = AcceptRequest {
            agent,
            request,
            wait_ms: 0,
        };
        Ok(self.ask::<InvocationAccept>(request).await?.id)
    }
}

impl Tokens for NodeEffects {
    fn chunk(&self, chunk: TokenChunk) {
        // Full: dropped, as the record supersedes it.
        let _ = self.node.tokens.try_send((Arc::clone(&self.held), chunk));
    }
}

impl Effects for NodeEffects {
    fn clock(&self) -> &dyn Clock {
        self.node.context.clock.as_ref()
    }
}

/// Publishes tokens in order, what came together in one message; ends when every worker is gone.
pub(crate) async fn publish_tokens(execution: Execution, mut tokens: mpsc::Receiver<(Arc<Held>, TokenChunk)>) {
    let mut next = tokens.recv().await;
    while let Some((held, chunk)) = next.take() {
        let mut bytes = chunk.text.len();
        let mut chunks = vec![chunk];
        while bytes < BATCH_BYTES {
            match tokens.try_recv() {
                Ok((of, chunk)) if Arc::ptr_eq(&of, &held) => {
                    bytes += chunk.text.len();
                    chunks.push(chunk);
                }
                Ok(other) => {
                    next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        let ticket: Ticket = held.ticket.clone();
        execution.tell_tokens(&TokenBatch { ticket, chunks }).await;
        if next.is_none() {
            next = tokens.recv().await;
        }
    }
}
