//! The effects of tools: builtins inside of the mesh, all else outside. Keys and ids derive from (invocation,
//! step), so that a repeat finds what the first try left.

use std::time::Duration;

use mesh_api::execution::InvokeRequest;
use mesh_api::inference::Chunk;
use mesh_api::journal::Usage;
use mesh_api::messaging::Message;
use mesh_types::agent::{AgentSpec, Runtime};
use mesh_types::tool::{Target, Tool, ToolCall, ToolKind, ToolReply};
use mesh_types::{AgentName, ChannelId, Code, Problem};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::builtins::SUMMARY_MESSAGES;
use crate::effects::Effects;
use crate::group::StepPlan;
use crate::memories;
use crate::remote::target;
use crate::retry::Tries;
use crate::schema::Schema;
use crate::steps::{Bench, Performed, child_id, parse, post_request, step_key};
use crate::stream::Stream;
use crate::turn::RESULT_BYTES_MAX;

#[derive(Deserialize)]
struct ToolInput {
    #[serde(default)]
    arguments: Value,
}

/// Runs the tool's effect, as often as the tries allow.
pub(crate) async fn perform<E: Effects>(
    bench: Bench<'_, E>,
    step: &StepPlan,
    left: Duration,
    tries: &mut Tries<'_>,
) -> Result<Performed, Problem> {
    let ToolInput { arguments } = parse(&step.input)?;
    let spec = bench.spec;
    if spec.runtime != Runtime::Llm {
        let target = target(spec)?;
        let timeout = declared_timeout(&target).unwrap_or(left).min(left);
        return outside(bench, step, target, arguments, timeout, tries).await;
    }
    let tool = find(spec, &step.name)?;
    if tool.kind == ToolKind::Builtin && tool.name != "http_get" {
        return builtin(bench, step, tool.name.as_str(), &arguments, tries).await;
    }
    let target = Target::Tool(tool.clone());
    let mut performed = outside(bench, step, target, arguments, tool.timeout().min(left), tries).await?;
    performed.error = tool.returns.as_ref().and_then(|returns| {
        let mistakes = Schema::new(returns).check(&performed.output).err()?;
        let why = format!(
            "the result of `{}` is not what it declares in `returns`: {mistakes}",
            tool.name
        );
        Some(Problem::new(Code::ToolFailed, why).field("returns"))
    });
    Ok(performed)
}

fn find<'a>(spec: &'a AgentSpec, name: &str) -> Result<&'a Tool, Problem> {
    spec.tools
        .iter()
        .find(|tool| tool.name == name)
        .ok_or_else(|| Problem::new(Code::ToolFailed, format!("the agent declares no tool `{name}`")))
}

fn declared_timeout(target: &Target) -> Option<Duration> {
    let span = match target {
        Target::Script(script) => script.timeout,
        Target::Cli(cli) => cli.timeout,
        Target::Http(http) => http.timeout,
        Target::Tool(_) => None,
    };
    span.map(|span| span.0)
}

async fn outside<E: Effects>(
    bench: Bench<'_, E>,
    step: &StepPlan,
    target: Target,
    arguments: Value,
    timeout: Duration,
    tries: &mut Tries<'_>,
) -> Result<Performed, Problem> {
    let Bench { effects, grant, .. } = bench;
    let is_runtime = !matches!(target, Target::Tool(_));
    // A driver's conversation has an id of its own, which that of the mesh is not; a remote agent keeps to ours.
    let session = match &target {
        Target::Http(_) => grant.input.session.clone(),
        _ => None,
    };
    let call = ToolCall {
        target,
        arguments,
        idempotency_key: step_key(grant.invocation, step.step),
        timeout,
        session,
    };
    let mut stream = Stream::new(effects, step.step, grant.epoch);
    loop {
        let reply = effects
            .call(call.clone(), |text| stream.take(Chunk::Text(text), &mut tries.attempt))
            .await;
        match reply {
            Ok(ToolReply { output, usage, .. }) => {
                let (input_tokens, output_tokens, cost_usd) = usage;
                return Ok(Performed {
                    output: if is_runtime { as_object(output) } else { output },
                    usage: Usage {
                        input_tokens,
                        output_tokens,
                        cost_usd,
                    },
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

/// What an agent answers is an object: `{"text": …}` where only text came.
fn as_object(output: Value) -> Value {
    match output {
        Value::Object(_) => output,
        Value::String(text) => json!({"text": text}),
        other => json!({"value": other}),
    }
}

async fn builtin<E: Effects>(
    bench: Bench<'_, E>,
    step: &StepPlan,
    name: &str,
    arguments: &Value,
    tries: &mut Tries<'_>,
) -> Result<Performed, Problem> {
    loop {
        match once(bench, step.step, name, arguments).await {
            Ok(output) => return Ok(Performed::free(output)),
            Err(problem) => tries.again(bench.effects, problem).await?,
        }
    }
}

/// One try.
async fn once<E: Effects>(bench: Bench<'_, E>, step: u32, name: &str, arguments: &Value) -> Result<Value, Problem> {
    let Bench { effects, grant, .. } = bench;
    match name {
        "create_task" => create_task(bench, step, arguments).await,
        "summarize_channel" => {
            let channel: ChannelId = parse(&arguments["channel_id"])?;
            let limit = arguments["messages"].as_u64().unwrap_or(SUMMARY_MESSAGES);
            let limit = u32::try_from(limit).unwrap_or(u32::MAX);
            Ok(lines(&effects.history(&channel, limit).await?))
        }
        "post_message" => {
            let channel: ChannelId = parse(&arguments["channel_id"])?;
            let text: String = parse(&arguments["text"])?;
            let posted = effects
                .post(post_request(grant, step, channel, text, Map::new()))
                .await?;
            Ok(json!({"message_id": posted.id, "channel_id": posted.channel_id}))
        }
        "remember" => memories::remember(bench, step, arguments).await,
        "recall" => memories::recall(bench, arguments).await,
        "now" => Ok(json!({"now": effects.clock().now()})),
        other => Err(Problem::new(
            Code::ToolFailed,
            format!("this worker has no builtin tool `{other}`"),
        )),
    }
}

async fn create_task<E: Effects>(bench: Bench<'_, E>, step: u32, arguments: &Value) -> Result<Value, Problem> {
    let Bench { effects, grant, .. } = bench;
    let agent: AgentName = parse(&arguments["agent"])?;
    let id = child_id(grant.invocation, step);
    let delay_ms = arguments["delay_seconds"]
        .as_f64()
        .map(|seconds| (seconds * 1_000.0) as u64);
    let request = InvokeRequest {
        payload: json!({"text": arguments["text"]}),
        entrypoint: Some("task".to_owned()),
        invocation_id: Some(id),
        // Whoever accepts it twice finds the first.
        idempotency_key: Some(step_key(grant.invocation, step)),
        priority: arguments["priority"]
            .as_u64()
            .and_then(|priority| u8::try_from(priority).ok()),
        delay_ms,
        metadata: Map::from_iter([
            ("created_by".to_owned(), json!(grant.agent)),
            ("invocation".to_owned(), json!(grant.invocation)),
            ("step".to_owned(), json!(step)),
        ]),
        ..InvokeRequest::default()
    };
    let created = effects.create(agent.clone(), request).await?;
    Ok(json!({"invocation": created, "agent": agent}))
}

/// The newest messages as text, oldest first; the oldest give way where they are too long for a prompt.
fn lines(messages: &[Message]) -> Value {
    let mut bytes = 0_usize;
    let mut lines: Vec<String> = messages
        .iter()
        .rev()
        .map(|message| format!("{} {}: {}", message.created_at, message.author.id, message.text))
        .take_while(|line| {
            bytes = bytes.saturating_add(line.len() + 1);
            bytes <= RESULT_BYTES_MAX
        })
        .collect();
    lines.reverse();
    json!({"messages": lines.len(), "text": lines.join("\n")})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agents_answer_is_an_object() {
        assert_eq!(as_object(json!("hi")), json!({"text": "hi"}));
        assert_eq!(as_object(json!({"a": 1})), json!({"a": 1}));
        assert_eq!(as_object(json!([1])), json!({"value": [1]}));
    }
}
