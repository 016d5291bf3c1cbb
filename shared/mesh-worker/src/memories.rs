//! The effects on memories and knowledge: what a prompt is built with, what is written back, and the tools `remember`
//! and `recall`. Ids derive from (invocation, step), so that a repeat stores nothing new.

use mesh_api::memory::{
    BaseName, BatchRequest, MemorySource, MemoryType, QueryFilters, QueryRequest, Scope, StoreRequest,
};
use mesh_types::{MemoryId, Problem};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::builtins::RECALLED;
use crate::effects::Effects;
use crate::facts::Source;
use crate::grant::Grant;
use crate::group::StepPlan;
use crate::prompt::citation;
use crate::retry::Tries;
use crate::steps::{Bench, Performed, memory_id, parse, to_value};

/// Passages that are looked for where no memories are.
const PASSAGES: u32 = 5;

#[derive(Deserialize)]
struct QueryInput {
    query: String,
    /// Memories, and passages; 0: passages only.
    k: u32,
    #[serde(default)]
    session: Option<String>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    knowledge: Vec<BaseName>,
}

#[derive(Deserialize)]
struct BatchInput {
    ids: Vec<MemoryId>,
}

#[derive(Deserialize)]
struct StoreInput {
    #[serde(rename = "type")]
    kind: MemoryType,
    content: String,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    importance: Option<f64>,
    #[serde(default)]
    scope: Scope,
    #[serde(default)]
    session: Option<String>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    derived_from: Vec<MemoryId>,
    #[serde(default)]
    metadata: Map<String, Value>,
}

/// Arguments of `remember`, which its schema has let pass.
#[derive(Deserialize)]
struct RememberInput {
    content: String,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    importance: Option<f64>,
    #[serde(default, rename = "type")]
    kind: Option<MemoryType>,
    #[serde(default)]
    scope: Scope,
    #[serde(default)]
    ttl_seconds: Option<u64>,
}

/// Arguments of `recall`, which its schema has let pass.
#[derive(Deserialize)]
struct RecallInput {
    query: String,
    #[serde(default)]
    k: Option<u32>,
    #[serde(default, rename = "type")]
    kind: Option<MemoryType>,
    #[serde(default)]
    tags: Vec<String>,
}

/// One try: who is answered should not wait for a memory.
pub(crate) async fn query<E: Effects>(effects: &E, grant: &Grant, step: &StepPlan) -> Result<Performed, Problem> {
    let QueryInput {
        query,
        k,
        session,
        user,
        knowledge,
    } = parse(&step.input)?;
    let filters = QueryFilters {
        session,
        user,
        ..QueryFilters::default()
    };
    let asked = if k == 0 { PASSAGES } else { k };
    let mut reply = effects
        .query(QueryRequest {
            filters,
            knowledge,
            ..QueryRequest::new(grant.agent.clone(), query, asked)
        })
        .await?;
    reply.items.truncate(usize::try_from(k).unwrap_or(usize::MAX));
    let mut output = json!({"memories": reply.items});
    if !reply.knowledge.is_empty() {
        output["knowledge"] = to_value(&reply.knowledge)?;
    }
    Ok(Performed::free(output))
}

/// What a consolidation works on: without it there is nothing to do, so it is tried again.
pub(crate) async fn batch<E: Effects>(
    effects: &E,
    grant: &Grant,
    step: &StepPlan,
    tries: &mut Tries<'_>,
) -> Result<Performed, Problem> {
    let BatchInput { ids } = parse(&step.input)?;
    let request = BatchRequest {
        agent: grant.agent.clone(),
        ids,
    };
    loop {
        match effects.batch(request.clone()).await {
            Ok(batch) => {
                let sources: Vec<Source> = batch.items.into_iter().map(Source::from).collect();
                return Ok(Performed::free(json!({"memories": sources})));
            }
            Err(problem) => tries.again(effects, problem).await?,
        }
    }
}

pub(crate) async fn store<E: Effects>(
    effects: &E,
    grant: &Grant,
    step: &StepPlan,
    tries: &mut Tries<'_>,
) -> Result<Performed, Problem> {
    let input: StoreInput = parse(&step.input)?;
    let own = store_request(grant, step.step, input.kind, input.content);
    let request = StoreRequest {
        tags: input.tags,
        importance: input.importance.unwrap_or(own.importance),
        scope: input.scope,
        session: input.session,
        user: input.user,
        derived_from: input.derived_from,
        metadata: input.metadata,
        ..own
    };
    loop {
        match effects.store(request.clone()).await {
            Ok(memory) => return Ok(Performed::free(to_value(&memory)?)),
            Err(problem) => tries.again(effects, problem).await?,
        }
    }
}

/// The tool: one try. Session and user stand with every memory that has them, whatever its scope, so that a person's
/// right to be forgotten reaches it.
pub(crate) async fn remember<E: Effects>(bench: Bench<'_, E>, step: u32, arguments: &Value) -> Result<Value, Problem> {
    let Bench { effects, grant, .. } = bench;
    let input: RememberInput = parse(arguments)?;
    let kind = input.kind.unwrap_or(MemoryType::Semantic);
    let own = store_request(grant, step, kind, input.content);
    let request = StoreRequest {
        tags: input.tags,
        importance: input.importance.unwrap_or(own.importance),
        scope: input.scope,
        session: grant.input.session.clone(),
        user: grant.task().user().map(str::to_owned),
        ttl_seconds: input.ttl_seconds,
        ..own
    };
    Ok(json!({"memory_id": effects.store(request).await?.id}))
}

/// The tool: one try.
pub(crate) async fn recall<E: Effects>(bench: Bench<'_, E>, arguments: &Value) -> Result<Value, Problem> {
    let Bench { effects, grant, spec } = bench;
    let input: RecallInput = parse(arguments)?;
    let filters = QueryFilters {
        kind: input.kind,
        tags: input.tags,
        session: grant.input.session.clone(),
        user: grant.task().user().map(str::to_owned),
        ..QueryFilters::default()
    };
    let k = input.k.unwrap_or(RECALLED);
    let request = QueryRequest {
        filters,
        knowledge: spec.memory.knowledge.clone(),
        ..QueryRequest::new(grant.agent.clone(), input.query, k)
    };
    let reply = effects.query(request).await?;
    let memories = reply.items.iter().map(|hit| {
        json!({"id": hit.memory.id, "type": hit.memory.kind, "content": hit.memory.content,
            "created_at": hit.memory.created_at, "score": hit.score})
    });
    let mut found = json!({"memories": memories.collect::<Vec<_>>()});
    if !spec.memory.knowledge.is_empty() {
        let passages = reply
            .knowledge
            .iter()
            .map(|hit| json!({"citation": citation(&hit.citation), "text": hit.text, "score": hit.score}));
        found["passages"] = passages.collect();
    }
    Ok(found)
}

/// The id is the step's, so that a repeat stores nothing new.
fn store_request(grant: &Grant, step: u32, kind: MemoryType, content: String) -> StoreRequest {
    StoreRequest {
        id: Some(memory_id(grant.invocation, step)),
        kind,
        source: Some(MemorySource {
            invocation: grant.invocation,
            step,
        }),
        ..StoreRequest::new(grant.agent.clone(), content)
    }
}
