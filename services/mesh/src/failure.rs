//! How a command ends: its exit code, and the text of an error with the next step in it.

use std::fmt;
use std::io::IsTerminal;
use std::process::ExitCode;

use mesh_types::Problem;

use crate::output::{Mood, Output, colors_are_wanted};

/// Wrong use of the command line, found after parsing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Something failed, and all about it is printed already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("failed")]
pub(crate) struct Told;

/// An error with what a person can do about it.
#[derive(Debug)]
pub(crate) struct Advised {
    pub(crate) error: anyhow::Error,
    pub(crate) next: String,
}

impl fmt::Display for Advised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl std::error::Error for Advised {}

/// Fails with advice.
pub(crate) fn advised(error: impl Into<anyhow::Error>, next: impl Into<String>) -> anyhow::Error {
    Advised {
        error: error.into(),
        next: next.into(),
    }
    .into()
}

/// Prints an error, once and last, and chooses the exit code.
pub(crate) fn report(error: &anyhow::Error, output: Output) -> ExitCode {
    if is_closed_pipe(error) {
        return ExitCode::SUCCESS;
    }
    if error.is::<Told>() {
        return ExitCode::from(1);
    }
    let is_colored = std::io::stderr().is_terminal() && colors_are_wanted();
    let label = Output { is_colored, ..output }.mood(Mood::Bad, "error:");
    output.note(&format!("{label} {}", text_of(error)));
    if let Some(next) = next_step(error) {
        output.note(&format!("next: {next}"));
    }
    ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
}

/// The reader of our output has gone (`mesh get agents | head -1`), which is no failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn text_of(error: &anyhow::Error) -> String {
    match error.downcast_ref::<Problem>() {
        Some(problem) => problem_text(problem),
        None => format!("{error:#}"),
    }
}

/// A problem in one line, its field included.
pub(crate) fn problem_text(problem: &Problem) -> String {
    let field = match &problem.field {
        Some(field) if !problem.detail.contains(field.as_str()) => format!("{field}: "),
        _ => String::new(),
    };
    format!("{field}{} ({})", problem.detail, problem.kind)
}

fn next_step(error: &anyhow::Error) -> Option<String> {
    if let Some(advised) = error.downcast_ref::<Advised>() {
        return Some(advised.next.clone());
    }
    problem_next(error.downcast_ref::<Problem>()?)
}

/// What the service says, else what a person at this command line can do.
pub(crate) fn problem_next(problem: &Problem) -> Option<String> {
    let ours = match problem.kind.as_str() {
        "registry/agent-not-found" => "mesh get agents lists them; --tenant names another tenant",
        "registry/tenant-not-found" => "mesh get tenants lists them",
        "registry/agent-not-published" => "mesh apply -f FILE publishes it",
        "registry/version-not-found" => "mesh get versions AGENT lists them",
        "execution/invocation-not-found" => "mesh invocations lists them; --tenant names another tenant",
        "execution/invocation-ended" => "mesh fork ID --from-step N goes on from one of its steps as a new invocation",
        "execution/approval-not-found" => "mesh approvals lists what waits",
        "execution/paused" => "mesh get pauses lists what is held; mesh resume lets it go on",
        "execution/dead-letter-settled" => "mesh dead-letters --all shows how",
        "execution/dead-letter-not-found" => "mesh dead-letters lists them",
        "memory/memory-not-found" => "mesh memories lists them; --tenant names another tenant",
        "memory/memory-stale" => "mesh memories show ID shows it as it is now",
        "memory/document-not-found" => "mesh knowledge list shows them; --tenant names another tenant",
        "mesh/unavailable" | "mesh/timeout" | "mesh/internal" => {
            "mesh doctor says what is wrong; mesh logs shows the log"
        }
        _ => return problem.next.clone(),
    };
    Some(problem.next.clone().unwrap_or_else(|| ours.to_owned()))
}

#[cfg(test)]
mod tests {
    use mesh_types::Code;

    use super::*;

    #[test]
    fn an_error_of_the_mesh_names_field_kind_and_next_step() {
        let problem = Problem::new(Code::InvalidRequest, "must lie between 0 and 2").field("spec.model.temperature");
        let text = text_of(&problem.into());
        assert_eq!(
            text,
            "spec.model.temperature: must lie between 0 and 2 (mesh/invalid-request)"
        );
        let missing = Problem::new(Code::AgentNotFound, "there is no agent `x`");
        assert!(next_step(&missing.into()).unwrap().contains("mesh get agents"));
    }

    #[test]
    fn a_reader_that_left_is_no_failure() {
        let error = anyhow::Error::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe)).context("printing");
        assert!(is_closed_pipe(&error));
        assert!(!is_closed_pipe(&anyhow::anyhow!("else")));
    }
}
