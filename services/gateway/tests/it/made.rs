//! Answers of the services behind the edge, made from what they were asked.

use mesh_api::execution::{AcceptRequest, Invocation, State};
use mesh_api::inference::Completion;
use mesh_api::journal::Usage;
use mesh_api::memory::{Memory, Scope, StoreRequest};
use mesh_api::messaging::{Message, PostRequest};
use mesh_api::registry::{AgentStatus, AgentView};
use mesh_types::agent::Agent;
use mesh_types::{Id, InvocationId, MemoryId, Tenant, Timestamp};
use serde_json::json;

/// The one invocation that the journal is of.
pub(crate) fn the_invocation() -> InvocationId {
    InvocationId::from_u128(42)
}

pub(crate) fn at() -> Timestamp {
    Timestamp::from_millis(1_795_258_800_000)
}

pub(crate) fn view(agent: Agent, generation: u64) -> AgentView {
    let status = AgentStatus {
        etag: format!("g{generation}"),
        generation,
        published: None,
        draft: true,
        created_at: at(),
        updated_at: at(),
    };
    AgentView {
        api_version: agent.api_version,
        kind: agent.kind,
        metadata: agent.metadata,
        spec: agent.spec,
        status,
    }
}

pub(crate) fn invocation(request: &AcceptRequest, state: State) -> Invocation {
    Invocation {
        id: request.request.invocation_id.unwrap_or_else(the_invocation),
        tenant: Tenant::default(),
        agent: request.agent.clone(),
        version: 1,
        state,
        session: None,
        entrypoint: request.request.entrypoint.clone().unwrap_or_else(|| "invoke".into()),
        priority: 5,
        payload: request.request.payload.clone(),
        output: (state == State::Completed).then(|| json!({"text": "hello"})),
        error: None,
        provider: None,
        usage: Usage::default(),
        parent: None,
        forked_from: None,
        attempt: 1,
        created_at: at(),
        started_at: None,
        ended_at: None,
        cursor: 1,
        reason: None,
        waits_for: Vec::new(),
        paused: false,
        root: None,
        steps: None,
    }
}

pub(crate) fn message(post: &PostRequest, number: usize) -> Message {
    Message {
        id: post
            .id
            .clone()
            .unwrap_or_else(|| format!("msg_{number}").parse().unwrap()),
        channel_id: post.channel.clone(),
        author: post.author.clone(),
        text: post.text.clone(),
        content: post.content.clone(),
        metadata: post.metadata.clone(),
        created_at: at(),
    }
}

pub(crate) fn memory(stored: &StoreRequest) -> Memory {
    Memory {
        id: stored.id.unwrap_or_else(|| MemoryId::from_u128(1)),
        agent: stored.agent.clone(),
        kind: stored.kind,
        content: stored.content.clone(),
        tags: stored.tags.clone(),
        importance: stored.importance,
        source: None,
        metadata: stored.metadata.clone(),
        embedded: true,
        scope: Scope::Agent,
        session: None,
        user: None,
        version: 1,
        seen: 1,
        superseded_by: None,
        expires_at: None,
        created_at: at(),
        updated_at: at(),
    }
}

pub(crate) fn completion(model: &str) -> Completion {
    let usage = Usage {
        input_tokens: 3,
        output_tokens: 4,
        cost_usd: 0.0,
    };
    serde_json::from_value(json!({
        "text": "hi there", "model": model, "provider": "mock", "usage": usage, "finish_reason": "stop", "attempt": 1,
    }))
    .unwrap()
}
