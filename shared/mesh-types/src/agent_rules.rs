//! Limits of a declared agent that its types cannot say, as one table.

use std::time::Duration;

use crate::agent::{Agent, AgentSpec};
use crate::problem::{Code, Problem};

/// Bytes of the instructions.
const INSTRUCTIONS_MAX: usize = 256 * 1024;

impl Agent {
    /// The problem names the first field that breaks its rule.
    pub fn validate(&self) -> Result<(), Problem> {
        let of_object = [
            (self.api_version == "mesh/v1", "apiVersion", "must be `mesh/v1`"),
            (self.kind == "Agent", "kind", "must be `Agent`"),
            (
                labels_are_short(self),
                "metadata.labels",
                "keys have 1 to 64 bytes, values at most 256",
            ),
        ];
        let broken = of_object
            .into_iter()
            .chain(rules(&self.spec))
            .find(|(holds, _, _)| !holds);
        match broken {
            Some((_, field, rule)) => Err(Problem::new(Code::AgentInvalid, format!("{field} {rule}")).field(field)),
            None => Ok(()),
        }
    }
}

fn labels_are_short(agent: &Agent) -> bool {
    agent
        .metadata
        .labels
        .iter()
        .all(|(key, value)| !key.is_empty() && key.len() <= 64 && value.len() <= 256)
}

type Rule = (bool, &'static str, &'static str);

fn rules(spec: &AgentSpec) -> [Rule; 13] {
    let AgentSpec {
        model, context, limits, ..
    } = spec;
    let is_storable = !spec.instructions.contains('\0') && spec.instructions.len() <= INSTRUCTIONS_MAX;
    let noop_is_short = spec.noop.as_ref().is_none_or(|noop| noop.steps <= 1_000);
    let name_is_short = !model.name.is_empty() && model.name.len() <= 128;
    let tokens_are_sane = (1..=1_000_000).contains(&model.max_tokens);
    let is_timely = limits.timeout.0 >= Duration::from_millis(1);
    [
        (
            (0.0..=2.0).contains(&model.temperature),
            "spec.model.temperature",
            "must lie between 0 and 2",
        ),
        (
            tokens_are_sane,
            "spec.model.max_tokens",
            "must lie between 1 and 1000000",
        ),
        (name_is_short, "spec.model.name", "must have 1 to 128 characters"),
        (model.fallbacks.len() <= 8, "spec.model.fallbacks", "at most 8"),
        (context.history <= 500, "spec.context.history", "at most 500"),
        (
            context.recent <= context.history,
            "spec.context.recent",
            "must not exceed spec.context.history",
        ),
        (spec.memory.query_top_k <= 100, "spec.memory.query_top_k", "at most 100"),
        (
            (1..=1_000).contains(&limits.iterations),
            "spec.limits.iterations",
            "must lie between 1 and 1000",
        ),
        (
            (1..=10_000).contains(&limits.concurrency),
            "spec.limits.concurrency",
            "must lie between 1 and 10000",
        ),
        (is_timely, "spec.limits.timeout", "must be at least 1ms"),
        (
            (1..=20).contains(&spec.retry.attempts),
            "spec.retry.attempts",
            "must lie between 1 and 20",
        ),
        (noop_is_short, "spec.noop.steps", "at most 1000"),
        (is_storable, "spec.instructions", "at most 256 KiB and without U+0000"),
    ]
}
