//! The effects of the `llm` loop but its tools, one function each: from the recorded input to the output. Keys and ids derive
//! from (invocation, step), so that a repeat finds what the first try left.

use std::time::Duration;

use mesh_api::inference::CompleteRequest;
use mesh_api::journal::{StepKind, Usage};
use mesh_api::messaging::{Author, AuthorKind, PostRequest};
use mesh_types::agent::AgentSpec;
use mesh_types::{ChannelId, Code, Id, InvocationId, MemoryId, MessageId, Problem};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::effects::Effects;
use crate::grant::Grant;
use crate::group::StepPlan;
use crate::memories;
use crate::retry::Tries;
use crate::stream::Stream;
use crate::thread::Asked;

/// What an effect left.
pub(crate) struct Performed {
    pub(crate) output: Value,
    pub(crate) usage: Usage,
    /// What is wrong with the output, where it came but does not hold.
    pub(crate) error: Option<Problem>,
}

impl Performed {
    pub(crate) fn free(output: Value) -> Self {
        Self {
            output,
            usage: Usage::default(),
            error: None,
        }
    }
}

/// With what the effects of one claim are done.
pub(crate) struct Bench<'a, E> {
    pub(crate) effects: &'a E,
    pub(crate) grant: &'a Grant,
    /// With the edit of a fork.
    pub(crate) spec: &'a AgentSpec,
}

impl<E> Clone for Bench<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Bench<'_, E> {}

#[derive(Deserialize)]
struct HistoryInput {
    channel_id: ChannelId,
    limit: u32,
}

/// The prompt stands beside them, as a delta.
#[derive(Deserialize)]
struct ModelOptions {
    model: String,
    #[serde(default)]
    fallbacks: Vec<String>,
    #[serde(default)]
    temperature: Option<f64>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    response_schema: Option<Value>,
    #[serde(default)]
    metadata: Map<String, Value>,
}

#[derive(Deserialize)]
struct PostInput {
    channel_id: ChannelId,
    text: String,
    metadata: Map<String, Value>,
}

/// Runs the step's effect with its recorded input, as often as the tries allow. `asked` is for model steps, `left`
/// what the invocation may still take.
pub(crate) async fn perform<E: Effects>(
    bench: Bench<'_, E>,
    step: &StepPlan,
    asked: Option<Asked>,
    left: Duration,
    tries: &mut Tries<'_>,
) -> Result<Performed, Problem> {
    let Bench { effects, grant, .. } = bench;
    match step.kind {
        StepKind::ContextMessages => history(effects, step, tries).await,
        StepKind::ContextMemories if step.input.get("ids").is_some() => {
            memories::batch(effects, grant, step, tries).await
        }
        StepKind::ContextMemories => memories::query(effects, grant, step).await,
        StepKind::Model => Box::pin(model(effects, grant, step, asked.unwrap_or_default(), tries)).await,
        StepKind::Tool => Box::pin(crate::tools::perform(bench, step, left, tries)).await,
        StepKind::MessagePost => post(effects, grant, step, tries).await,
        StepKind::MemoryStore => memories::store(effects, grant, step, tries).await,
        StepKind::Noop => Ok(Performed::free(Value::from(step.step))),
        other => Err(Problem::new(
            Code::NotImplemented,
            format!("this worker cannot run a step of kind {}", other.as_str()),
        )),
    }
}

async fn history<E: Effects>(effects: &E, step: &StepPlan, tries: &mut Tries<'_>) -> Result<Performed, Problem> {
    let input: HistoryInput = parse(&step.input)?;
    loop {
        match effects.history(&input.channel_id, input.limit).await {
            Ok(messages) => return Ok(Performed::free(json!({"messages": messages}))),
            Err(problem) => tries.again(effects, problem).await?,
        }
    }
}

async fn model<E: Effects>(
    effects: &E,
    grant: &Grant,
    step: &StepPlan,
    asked: Asked,
    tries: &mut Tries<'_>,
) -> Result<Performed, Problem> {
    let options: ModelOptions = parse(&step.input)?;
    let request = CompleteRequest {
        model: options.model,
        fallbacks: options.fallbacks,
        messages: asked.messages,
        temperature: options.temperature,
        max_tokens: options.max_tokens,
        idempotency_key: Some(step_key(grant.invocation, step.step)),
        tools: asked.tools,
        response_schema: options.response_schema,
        cache: false,
        agent: Some(grant.agent.clone()),
        metadata: options.metadata,
    };
    let mut stream = Stream::new(effects, step.step, grant.epoch);
    loop {
        let result = effects
            .complete(request.clone(), |chunk| stream.take(chunk, &mut tries.attempt))
            .await;
        match result {
            Ok(completion) => {
                stream.settle(completion.attempt, &mut tries.attempt);
                return Ok(Performed {
                    usage: completion.usage,
                    output: to_value(&completion)?,
                    error: None,
                });
            }
            Err(problem) => {
                let before = tries.attempt;
                tries.again(effects, problem).await?;
                let is_counted = tries.attempt != before;
                stream.restart(is_counted, &mut tries.attempt);
            }
        }
    }
}

async fn post<E: Effects>(
    effects: &E,
    grant: &Grant,
    step: &StepPlan,
    tries: &mut Tries<'_>,
) -> Result<Performed, Problem> {
    let PostInput {
        channel_id,
        text,
        metadata,
    } = parse(&step.input)?;
    let request = post_request(grant, step.step, channel_id, text, metadata);
    loop {
        match effects.post(request.clone()).await {
            Ok(message) => return Ok(Performed::free(to_value(&message)?)),
            Err(problem) => tries.again(effects, problem).await?,
        }
    }
}

/// The agent's own words; the id is the step's, so that a repeat posts nothing new.
pub(crate) fn post_request(
    grant: &Grant,
    step: u32,
    channel: ChannelId,
    text: String,
    mut metadata: Map<String, Value>,
) -> PostRequest {
    metadata.insert("invocation".into(), json!(grant.invocation));
    metadata.insert("step".into(), json!(step));
    PostRequest {
        channel,
        id: Some(message_id(grant.invocation, step)),
        author: Author {
            kind: AuthorKind::Agent,
            id: grant.agent.as_str().to_owned(),
        },
        text,
        content: None,
        metadata,
    }
}

/// The key of a step, the same in every attempt of every worker.
pub fn step_key(invocation: InvocationId, step: u32) -> String {
    format!("{invocation}/{step}")
}

/// Id of the message that a step posts.
pub fn message_id(invocation: InvocationId, step: u32) -> MessageId {
    let text = format!("msg_{}-{step}", invocation.ulid());
    text.parse()
        .expect("a prefix, a ULID and a number make a token of at most 41 characters")
}

/// Id of the memory that a step stores: the invocation's time, so that ids still sort, and a hash.
pub fn memory_id(invocation: InvocationId, step: u32) -> MemoryId {
    let hash = Sha256::digest(step_key(invocation, step));
    let mut bytes = invocation.as_u128().to_be_bytes();
    bytes[6..].copy_from_slice(&hash[..10]);
    MemoryId::from_u128(u128::from_be_bytes(bytes))
}

/// Id of the child invocation that a step calls, the same in every attempt: the parent's time and a hash.
pub fn child_id(invocation: InvocationId, step: u32) -> InvocationId {
    let hash = Sha256::digest(format!("child {invocation}/{step}"));
    let mut bytes = invocation.as_u128().to_be_bytes();
    bytes[6..].copy_from_slice(&hash[..10]);
    InvocationId::from_u128(u128::from_be_bytes(bytes))
}

/// Only a record that somebody else wrote could fail here.
pub(crate) fn parse<T: DeserializeOwned>(input: &Value) -> Result<T, Problem> {
    T::deserialize(input).map_err(|error| {
        Problem::new(
            Code::InvocationFailed,
            format!("the step's recorded input cannot be read: {error}"),
        )
    })
}

pub(crate) fn to_value(output: &impl Serialize) -> Result<Value, Problem> {
    serde_json::to_value(output)
        .map_err(|error| Problem::new(Code::Internal, format!("the step's output cannot be recorded: {error}")))
}
