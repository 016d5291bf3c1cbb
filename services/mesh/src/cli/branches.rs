//! `mesh fork`, `replay`, `compare`: from a recording to another one, and what is different.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use mesh_api::steering::{Comparison, Edit, Fate, ForkReply, ForkStep, ReplayReport, StepDigest};
use mesh_types::InvocationId;
use serde_json::json;

use super::Session;
use super::invoke::read;
use crate::failure::{Told, Usage};
use crate::output::{Mood, Output, Table, shortened, took};

/// Make a new branch from a step of an invocation, with an edit
///
/// Steps before N are taken over as they were recorded, nothing of them runs again. From N on: pure and idempotent steps
/// run, at_most_once ones are answered from the recording if they are called alike, else a person is asked.
#[derive(Debug, Args)]
#[command(after_help = FORK_EXAMPLES)]
pub(crate) struct ForkArgs {
    /// The invocation to branch from; it stays as it is
    id: InvocationId,
    /// First step that is not taken over
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    from_step: u32,
    /// YAML or JSON with `instructions`, `model`, `prompt` or `output`; `-` for stdin
    #[arg(long, value_name = "FILE")]
    edit: Option<PathBuf>,
    /// Only say what would become of each step
    #[arg(long)]
    dry_run: bool,
    /// The same key again finds the first fork
    #[arg(long, value_name = "KEY", conflicts_with = "dry_run")]
    idempotency_key: Option<String>,
}

const FORK_EXAMPLES: &str = "Examples:
  mesh fork inv_01ARZ3NDEKTSV4RRFFQ69G5FAV --from-step 3 --dry-run
  echo 'model: claude-sonnet' | mesh fork inv_01ARZ3NDEKTSV4RRFFQ69G5FAV --from-step 3 --edit -
  mesh fork inv_01ARZ3NDEKTSV4RRFFQ69G5FAV --from-step 3 --edit edit.yaml

An edit, each part optional:
  instructions: You answer in one sentence.
  model: claude-sonnet
  prompt: [{role: user, content: Ask me something else.}]   # of the model step N
  output: {text: What it should have said.}                 # of step N, which is then not run";

/// Re-run a recording against the current agent, offline
///
/// Nothing is run and nothing is written: what the agent would do is held against what it did.
#[derive(Debug, Args)]
#[command(after_help = REPLAY_EXAMPLES)]
pub(crate) struct ReplayArgs {
    /// The invocation whose recording is meant
    id: InvocationId,
    /// Version of the agent [default: the published one]
    #[arg(long, value_name = "N")]
    version: Option<u32>,
}

const REPLAY_EXAMPLES: &str = "Examples:
  mesh replay inv_01ARZ3NDEKTSV4RRFFQ69G5FAV
  mesh replay inv_01ARZ3NDEKTSV4RRFFQ69G5FAV --version 3 --json

Exit codes: 0 it would do the same, 1 it would diverge, 2 wrong use of the command line.";

/// Hold two invocations against each other, step by step
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mesh compare inv_01ARZ3NDEKTSV4RRFFQ69G5FAV inv_01BX5ZZKBKACTAV9WEVGEMMVRZ\n  mesh compare inv_01ARZ3NDEKTSV4RRFFQ69G5FAV inv_01BX5ZZKBKACTAV9WEVGEMMVRZ --all"
)]
pub(crate) struct CompareArgs {
    /// Left
    id: InvocationId,
    /// Right, such as a fork of it
    other: InvocationId,
    /// Steps that are the same, too
    #[arg(short, long)]
    all: bool,
}

pub(crate) async fn fork(args: ForkArgs, session: &Session) -> anyhow::Result<()> {
    let edit = args.edit.as_deref().map(edit_of).transpose()?.unwrap_or_default();
    let body = json!({ "from_step": args.from_step, "edit": edit });
    let path = format!("/api/v1/invocations/{}/fork", args.id);
    let (client, output) = (session.client()?, session.output);
    let reply: ForkReply = if args.dry_run {
        let query = [("dry_run", Some("true".to_owned()))];
        client.send(reqwest::Method::POST, &path, &query, Some(&body)).await?
    } else {
        client.post_keyed(&path, &body, args.idempotency_key.as_deref()).await?
    };
    output.show(&reply, || match &reply.invocation {
        None => fates(output, &reply.steps),
        Some(made) => {
            output.line(&made.id.to_string())?;
            output.note(&format!(
                "forked from step {} of {}: {}",
                args.from_step,
                args.id,
                counted(&reply.steps)
            ));
            output.note(&format!("next: mesh steps {0}, mesh compare {1} {0}", made.id, args.id));
            Ok(())
        }
    })
}

/// An edit from a file; what it does not know is refused by name.
fn edit_of(path: &Path) -> anyhow::Result<Edit> {
    let bytes = read(path).with_context(|| format!("cannot read the edit {}", path.display()))?;
    let wrong = |why: String| anyhow::Error::from(Usage(format!("the edit {}: {why}", path.display())));
    let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8".into()))?;
    let value: serde_json::Value = serde_saphyr::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if !value.is_object() {
        return Err(wrong(
            "write an object with instructions, model, prompt or output".into(),
        ));
    }
    mesh_types::json::from_value(value).map_err(|problem| wrong(crate::failure::problem_text(&problem)))
}

const fn fate_of(fate: Fate) -> &'static str {
    match fate {
        Fate::Read => "read",
        Fate::Replaced => "replaced",
        Fate::Run => "run",
        Fate::Asked => "asked",
    }
}

/// `2 steps read, 1 replaced`.
fn counted(steps: &[ForkStep]) -> String {
    let all = [Fate::Read, Fate::Replaced, Fate::Run, Fate::Asked];
    let counts = all.map(|fate| (fate, steps.iter().filter(|step| step.fate == fate).count()));
    let parts = counts
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(fate, count)| format!("{count} {}", fate_of(fate)));
    let parts: Vec<_> = parts.collect();
    if parts.is_empty() {
        "no recorded step".into()
    } else {
        format!("recorded steps {}", parts.join(", "))
    }
}

fn fates(output: Output, steps: &[ForkStep]) -> anyhow::Result<()> {
    let mut table = Table::new(output, &["#", "KIND", "NAME", "FATE", "BECAUSE"]);
    for step in steps {
        table.row([
            step.step.to_string(),
            step.kind.as_str().to_owned(),
            step.name.clone(),
            fate_of(step.fate).to_owned(),
            step.because.clone(),
        ]);
    }
    table.print()?;
    output.note("nothing was made; without --dry-run it is");
    Ok(())
}

pub(crate) async fn replay(args: ReplayArgs, session: &Session) -> anyhow::Result<()> {
    let path = format!("/api/v1/invocations/{}/replay", args.id);
    let report: ReplayReport = session
        .client()?
        .post(&path, &json!({ "version": args.version }))
        .await?;
    let output = session.output;
    output.show(&report, || divergences(output, &report))?;
    if report.divergences.is_empty() {
        Ok(())
    } else {
        Err(Told.into())
    }
}

fn divergences(output: Output, report: &ReplayReport) -> anyhow::Result<()> {
    let ReplayReport {
        recorded_version,
        version,
        steps,
        divergences,
        ..
    } = report;
    if divergences.is_empty() {
        let said = format!("version {version} would do what version {recorded_version} did in {steps} steps");
        return output.line(&output.mood(Mood::Good, &said));
    }
    let mut table = Table::new(output, &["#", "RECORDED", "NOW", "BECAUSE"]);
    for one in divergences {
        table.row([
            one.step.to_string(),
            shortened(&one.recorded, 40),
            shortened(&one.planned, 40),
            one.because.clone(),
        ]);
    }
    table.print()?;
    output.note(&format!(
        "version {version} would diverge from what version {recorded_version} did, first at step {} of {steps}",
        divergences.iter().map(|one| one.step).min().unwrap_or_default()
    ));
    Ok(())
}

pub(crate) async fn compare(args: CompareArgs, session: &Session) -> anyhow::Result<()> {
    let path = format!("/api/v1/invocations/{}/compare/{}", args.id, args.other);
    let comparison: Comparison = session.client()?.get(&path, &[]).await?;
    let output = session.output;
    output.show(&comparison, || compared(output, &comparison, args.all))
}

fn compared(output: Output, comparison: &Comparison, all: bool) -> anyhow::Result<()> {
    let mut table = Table::new(output, &["#", "STEP", "DIFFERS", "LEFT", "RIGHT"]);
    let different = comparison.steps.iter().filter(|step| all || !step.differs.is_empty());
    let mut count = 0;
    for step in different {
        count += 1;
        let named = step.left.as_ref().or(step.right.as_ref());
        let missing = match (&step.left, &step.right) {
            (None, _) => Some("only right"),
            (_, None) => Some("only left"),
            _ => None,
        };
        table.row([
            step.step.to_string(),
            named.map_or_else(String::new, |digest| {
                format!("{} {}", digest.kind.as_str(), digest.name)
            }),
            missing.map_or_else(|| step.differs.join(" "), str::to_owned),
            digest(step.left.as_ref()),
            digest(step.right.as_ref()),
        ]);
    }
    if count > 0 {
        table.print()?;
    }
    let (left, right) = (&comparison.left, &comparison.right);
    output.note(&match comparison.first_difference {
        None => "they are the same, step by step".to_owned(),
        Some(step) => format!(
            "{} steps are shared, the first difference is at step {step}",
            comparison.shared_steps
        ),
    });
    output.note(&format!(
        "left {} {}, {}; right {} {}, {}",
        left.id,
        left.state.as_str(),
        cost(left.usage),
        right.id,
        right.state.as_str(),
        cost(right.usage)
    ));
    Ok(())
}

fn cost(usage: mesh_api::journal::Usage) -> String {
    format!("{}+{} tokens", usage.input_tokens, usage.output_tokens)
}

fn digest(digest: Option<&StepDigest>) -> String {
    let Some(digest) = digest else {
        return String::new();
    };
    let time = took(std::time::Duration::from_millis(digest.took_ms));
    format!("{} ({time})", shortened(&digest.short_text, 40))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_is_yaml_or_json_and_strict() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("edit");
        let edit = |text: &str| {
            std::fs::write(&file, text).unwrap();
            edit_of(&file)
        };
        let read = edit("model: mock\nprompt: [{role: user, content: hi}]\n").unwrap();
        assert_eq!((read.model.as_deref(), read.prompt.unwrap().len()), (Some("mock"), 1));
        assert_eq!(
            edit(r#"{"output":{"text":"x"}}"#).unwrap().output,
            Some(json!({"text": "x"}))
        );
        for wrong in [
            "modle: x",
            "[1]",
            "text",
            "prompt: [{role: nobody, content: x}]",
            "a: [",
            "",
        ] {
            assert!(edit(wrong).unwrap_err().is::<Usage>(), "{wrong}");
        }
    }
}
