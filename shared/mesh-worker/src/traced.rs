//! Spans of invocations and their steps, by OpenTelemetry's conventions for generative AI: who, what, how much and how it
//! ended. Never what was said.

use mesh_api::journal::{Outcome, StepKind, WaitOn};
use mesh_trace::{Kind, Span, TraceContext, calling_span};
use mesh_types::{Id, InvocationId, Problem};

use crate::grant::{Finished, Grant};
use crate::group::StepPlan;
use crate::steps::Performed;

/// One claim of an invocation. Claims of one invocation are of one trace, whoever holds it.
pub(crate) fn invocation(grant: &Grant) -> Span {
    let own = || TraceContext::of_id(grant.invocation.as_u128(), false).into();
    let place = Some(grant.trace.clone().unwrap_or_else(own));
    let mut span = Span::of_place(place, Kind::Internal, || format!("invoke_agent {}", grant.agent));
    if span.is_recording() {
        span.set("gen_ai.operation.name", "invoke_agent");
        span.set("gen_ai.agent.name", grant.agent.as_str());
        span.set("gen_ai.agent.version", grant.version.to_string());
        if let Some(session) = &grant.input.session {
            span.set("gen_ai.conversation.id", session.as_str());
        }
        span.set("mesh.invocation.id", grant.invocation.to_string());
        span.set("mesh.tenant", grant.tenant.as_str());
        span.set("mesh.epoch", grant.epoch);
        if let Some(link) = grant.trace_link {
            span.link(link);
        }
    }
    span
}

pub(crate) fn finished(span: &mut Span, finished: &Finished) {
    if !span.is_recording() {
        return;
    }
    let (outcome, is_error) = match finished {
        Finished::Ended(outcome) => (
            outcome.as_str(),
            !matches!(outcome, Outcome::Completed | Outcome::Cancelled),
        ),
        Finished::Waiting => ("waiting", false),
        Finished::Stopped => ("stopped", false),
        Finished::Stale => ("stale", false),
        Finished::Refused(_) => ("refused", true),
    };
    span.set("mesh.outcome", outcome);
    if is_error {
        span.fail(outcome);
    }
}

/// One step that does something.
pub(crate) fn step(step: &StepPlan) -> Span {
    let mut span = Span::child(kind(step.kind), || match step.kind {
        StepKind::Model => format!("chat {}", step.name),
        StepKind::Tool => format!("execute_tool {}", step.name),
        other => other.as_str().to_owned(),
    });
    if !span.is_recording() {
        return span;
    }
    span.set("mesh.step", step.step);
    span.set("mesh.step.kind", step.kind.as_str());
    match step.kind {
        StepKind::Model => {
            span.set("gen_ai.operation.name", "chat");
            span.set("gen_ai.request.model", &*step.name);
            if let Some(temperature) = step.input["temperature"].as_f64() {
                span.set("gen_ai.request.temperature", temperature);
            }
            if let Some(tokens) = step.input["max_tokens"].as_u64() {
                span.set("gen_ai.request.max_tokens", tokens);
            }
        }
        StepKind::Tool => {
            span.set("gen_ai.operation.name", "execute_tool");
            span.set("gen_ai.tool.name", &*step.name);
        }
        _ => {}
    }
    span
}

/// A model is asked of another service; all else is the worker's own work, with the calls it makes below it.
fn kind(step: StepKind) -> Kind {
    match step {
        StepKind::Model => Kind::Client,
        _ => Kind::Internal,
    }
}

pub(crate) fn performed(span: &mut Span, step: &StepPlan, result: &Result<Performed, Problem>, attempt: u32) {
    if !span.is_recording() {
        return;
    }
    if attempt > 1 {
        span.set("mesh.step.attempt", attempt);
    }
    match result {
        Ok(performed) => {
            if step.kind == StepKind::Model {
                answered(span, performed);
            }
            if let Some(problem) = &performed.error {
                span.fail(&problem.kind);
            }
        }
        Err(problem) => span.fail(&problem.kind),
    }
}

fn answered(span: &mut Span, performed: &Performed) {
    let Performed { output, usage, .. } = performed;
    for (attribute, field) in [("gen_ai.provider.name", "provider"), ("gen_ai.response.model", "model")] {
        if let Some(text) = output[field].as_str() {
            span.set(attribute, text);
        }
    }
    // A provider may say anything there.
    let known = |reason: &&str| matches!(*reason, "stop" | "length" | "tool_calls" | "content_filter");
    if let Some(reason) = output["finish_reason"].as_str().filter(known) {
        span.set("gen_ai.response.finish_reasons", vec![reason.to_owned()]);
    }
    span.set("gen_ai.usage.input_tokens", usage.input_tokens);
    span.set("gen_ai.usage.output_tokens", usage.output_tokens);
    span.set("mesh.cost_usd", usage.cost_usd);
}

/// Calls of other agents that a wait begins. Each child is a trace of its own, which its caller's span and itself link
/// to each other by ids that both derive from the child's.
#[derive(Debug, Default)]
pub(crate) struct Calls(Vec<Call>);

#[derive(Debug)]
struct Call {
    step: u32,
    agent: String,
    child: InvocationId,
}

impl Calls {
    pub(crate) fn note(&mut self, step: &StepPlan, on: &WaitOn) {
        let WaitOn::Child { invocation } = on else { return };
        if mesh_trace::current().is_some_and(TraceContext::is_sampled) {
            self.0.push(Call {
                step: step.step,
                agent: step.input["agent"].as_str().unwrap_or_default().to_owned(),
                child: *invocation,
            });
        }
    }

    /// The wait is committed, and the calls with it.
    pub(crate) fn made(self) {
        for Call { step, agent, child } in self.0 {
            let id = child.as_u128();
            let mut span = Span::child(Kind::Producer, || format!("invoke_agent {agent}")).with_id(calling_span(id));
            span.set("gen_ai.operation.name", "invoke_agent");
            span.set("gen_ai.agent.name", agent);
            span.set("mesh.step", step);
            span.set("mesh.step.kind", StepKind::Child.as_str());
            span.set("mesh.child.id", child.to_string());
            span.link(TraceContext::of_id(id, true));
        }
    }
}
