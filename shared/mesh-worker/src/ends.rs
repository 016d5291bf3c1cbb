//! How an invocation ends.

use mesh_api::journal::{Ended, Outcome, Usage};
use mesh_types::{Code, Problem};
use serde_json::Value;

/// An end whose reason is the last word of the problem's type.
pub(crate) fn failed(problem: Problem) -> Ended {
    let reason = problem.kind.rsplit('/').next().unwrap_or_default().replace('-', "_");
    Ended {
        outcome: Outcome::Failed,
        reason: Some(reason),
        output: None,
        error: Some(problem),
        usage: Usage::default(),
        provider: None,
    }
}

/// A step has used up its tries: what might pass later is a dead letter, whose fork tries that step again; what never
/// will is a failure.
pub(crate) fn gave_up(problem: Problem) -> Ended {
    if !problem.is_transient() || problem.is(Code::DeadlineExceeded) {
        return failed(problem);
    }
    Ended {
        outcome: Outcome::Dead,
        reason: Some("retries_exhausted".to_owned()),
        ..failed(problem)
    }
}

/// An answer; who gave it and what it cost is for the flow to say.
pub(crate) fn completed(output: Option<Value>) -> Ended {
    Ended {
        outcome: Outcome::Completed,
        reason: None,
        output,
        error: None,
        usage: Usage::default(),
        provider: None,
    }
}

/// An end whose reason names the limit, such as `limit_tokens` for `tokens`.
pub(crate) fn limit(name: &str, allowed: impl std::fmt::Display) -> Ended {
    let field = format!("spec.limits.{name}");
    let problem = Problem::new(Code::LimitReached, format!("{field} of {allowed} is reached"))
        .field(field)
        .next("raise the limit, publish, and fork the invocation from its last step");
    Ended {
        reason: Some(match name {
            "cost_usd" => "limit_cost".to_owned(),
            other => format!("limit_{other}"),
        }),
        ..failed(problem)
    }
}
