//! What the agent loop may do on a node. No effect starts but within the lease; models, channels and memories are asked
//! as any other service asks them.

use std::sync::Arc;

use mesh_api::Caller;
use mesh_api::execution::{AcceptRequest, InvocationAccept, InvokeRequest};
use mesh_api::inference::{Chunk, Complete, CompleteRequest, Completion};
use mesh_api::journal::{Fact, TokenChunk};
use mesh_api::memory::{Memory, MemoryQuery, MemoryStore, QueryReply, QueryRequest, StoreRequest};
use mesh_api::messaging::{ChannelHistory, HistoryRequest, Message, MessagePost, PostRequest};
use mesh_bus::Bus;
use mesh_types::tool::{ToolCall, ToolReply};
use mesh_types::{AgentName, ChannelId, Clock, InvocationId, Problem, Subject};
use mesh_worker::{
    AppendError, Appended, Channels, Effects, Invocations, Journal, Memories, Model, Outside, Then, Tokens,
};
use tokio::sync::mpsc;

use crate::Node;
use crate::held::Held;
use crate::journal::GrantJournal;

pub(crate) struct NodeEffects {
    node: Arc<Node>,
    held: Arc<Held>,
    caller: Caller,
    pub(crate) journal: GrantJournal,
}

impl NodeEffects {
    pub(crate) fn new(node: &Arc<Node>, held: &Arc<Held>, seq: u32) -> Self {
        Self {
            caller: node.context.caller(held.ticket.tenant.clone()),
            journal: GrantJournal::new(node, held, seq),
            node: Arc::clone(node),
            held: Arc::clone(held),
        }
    }

    /// The way to other services, once an effect may start.
    async fn bus(&self) -> &Bus {
        self.may_start().await;
        self.node.execution.bus()
    }

    async fn may_start(&self) {
        let node = &self.node;
        let short = || node.bell.ring();
        self.held.lease.allowed(node.context.clock.as_ref(), short).await;
    }
}

impl Journal for NodeEffects {
    async fn append(&self, facts: Vec<Fact>, then: Then) -> Result<Appended, AppendError> {
        self.journal.append(facts, then).await
    }
}

impl Channels for NodeEffects {
    async fn history(&self, channel: &ChannelId, limit: u32) -> Result<Vec<Message>, Problem> {
        let request = HistoryRequest {
            channel: channel.clone(),
            limit,
            before: None,
        };
        let history = self.bus().await.call::<ChannelHistory>(&self.caller, &request).await?;
        Ok(history.items)
    }

    async fn post(&self, request: PostRequest) -> Result<Message, Problem> {
        self.bus().await.call::<MessagePost>(&self.caller, &request).await
    }
}

impl Memories for NodeEffects {
    async fn query(&self, request: QueryRequest) -> Result<QueryReply, Problem> {
        self.bus().await.call::<MemoryQuery>(&self.caller, &request).await
    }

    async fn store(&self, request: StoreRequest) -> Result<Memory, Problem> {
        self.bus().await.call::<MemoryStore>(&self.caller, &request).await
    }
}

impl Model for NodeEffects {
    async fn complete(
        &self,
        request: CompleteRequest,
        on_chunk: impl FnMut(Chunk) + Send,
    ) -> Result<Completion, Problem> {
        let bus = self.bus().await;
        bus.call_stream::<Complete>(&self.caller, &request, on_chunk).await
    }
}

impl Outside for NodeEffects {
    async fn call(&self, call: ToolCall, on_text: impl FnMut(String) + Send) -> Result<ToolReply, Problem> {
        self.may_start().await;
        self.node.toolbox.call(call, on_text).await
    }
}

impl Invocations for NodeEffects {
    async fn create(&self, agent: AgentName, request: InvokeRequest) -> Result<InvocationId, Problem> {
        let request = AcceptRequest {
            agent,
            request,
            wait_ms: 0,
        };
        let accepted = self
            .bus()
            .await
            .call::<InvocationAccept>(&self.caller, &request)
            .await?;
        Ok(accepted.id)
    }
}

impl Tokens for NodeEffects {
    fn chunk(&self, chunk: TokenChunk) {
        let subject = Subject::Tokens {
            tenant: self.held.ticket.tenant.clone(),
            invocation: self.held.ticket.invocation,
        };
        let _ = self.node.tokens.try_send((subject, chunk));
    }
}

impl Effects for NodeEffects {
    fn clock(&self) -> &dyn Clock {
        self.node.context.clock.as_ref()
    }
}

/// Publishes tokens in order; ends when every worker is gone.
pub(crate) async fn publish_tokens(bus: Bus, mut tokens: mpsc::Receiver<(Subject, TokenChunk)>) {
    while let Some((subject, chunk)) = tokens.recv().await {
        let payload = serde_json::to_vec(&chunk).unwrap_or_default();
        if let Err(error) = bus.publish(&subject, payload.into()).await {
            tracing::debug!(%error, "a token is not published; the record will have it");
        }
    }
}
