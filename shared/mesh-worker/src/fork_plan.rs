//! What a fork would do with each recorded step of its source: the dry run that people read before they fork.

use std::collections::BTreeMap;

use mesh_api::journal::{Effect, Fact, Record, StepKind};
use mesh_api::steering::{Edit, Fate, ForkStep};
use mesh_types::{Code, Problem};

use crate::thread::{completion_of, said};

/// Bytes of the instructions, as for a declared agent.
const INSTRUCTIONS_BYTES_MAX: usize = 256 * 1024;
const MODEL_BYTES_MAX: usize = 128;
const MESSAGES_MAX: usize = 10_000;

struct Recorded<'a> {
    kind: StepKind,
    name: &'a str,
    effect: Effect,
    is_done: bool,
}

/// One entry for each recorded step, by its number. `records` are the source's; of a source that is a fork itself,
/// with the inherited ones before its own.
///
/// # Errors
/// `InvalidRequest` with the field: `from_step` where a step before it is not recorded, or an `edit` that does not
/// fit the step.
pub fn plan_fork(records: &[Record], from_step: u32, edit: &Edit) -> Result<Vec<ForkStep>, Problem> {
    let steps = recorded(records);
    check_step(&steps, from_step)?;
    check_edit(steps.get(&from_step), from_step, edit)?;
    Ok(steps
        .iter()
        .map(|(number, step)| {
            let (fate, because) = fate(*number, step, from_step, edit);
            ForkStep {
                step: *number,
                kind: step.kind,
                name: step.name.to_owned(),
                effect: step.effect,
                fate,
                because,
            }
        })
        .collect())
}

fn recorded(records: &[Record]) -> BTreeMap<u32, Recorded<'_>> {
    let mut steps = BTreeMap::new();
    for record in records {
        let (number, step) = match &record.fact {
            Fact::Begun(begun) => (
                begun.step,
                Recorded {
                    kind: begun.kind,
                    name: &begun.name,
                    effect: begun.effect,
                    is_done: false,
                },
            ),
            Fact::Done(done) => (
                done.step,
                Recorded {
                    kind: done.kind,
                    name: &done.name,
                    effect: done.effect,
                    is_done: true,
                },
            ),
            _ => continue,
        };
        steps.insert(number, step);
    }
    steps
}

fn check_step(steps: &BTreeMap<u32, Recorded<'_>>, from_step: u32) -> Result<(), Problem> {
    let last = steps.keys().next_back().copied().unwrap_or(0);
    if from_step == 0 || from_step > last.saturating_add(1) {
        let why = format!("from_step must lie between 1 and {}", last.saturating_add(1));
        return Err(invalid("from_step", why));
    }
    let open = (1..from_step).find(|number| steps.get(number).is_none_or(|step| !step.is_done));
    match open {
        Some(number) => Err(invalid(
            "from_step",
            format!("step {number} has no result yet: from_step is at most {number}"),
        )),
        None => Ok(()),
    }
}

fn check_edit(step: Option<&Recorded<'_>>, from_step: u32, edit: &Edit) -> Result<(), Problem> {
    let Edit {
        instructions,
        model,
        prompt,
        output,
    } = edit;
    if let Some(text) = instructions
        && (text.len() > INSTRUCTIONS_BYTES_MAX || text.contains('\0'))
    {
        return Err(invalid("edit.instructions", "at most 256 KiB and without U+0000"));
    }
    if let Some(name) = model
        && (name.trim().is_empty() || name.len() > MODEL_BYTES_MAX)
    {
        return Err(invalid("edit.model", "must have 1 to 128 characters"));
    }
    if prompt.is_some() && output.is_some() {
        return Err(invalid(
            "edit.output",
            "a step whose result is given has no prompt: edit one of both",
        ));
    }
    if let Some(messages) = prompt {
        if step.is_none_or(|step| step.kind != StepKind::Model) {
            return Err(invalid(
                "edit.prompt",
                format!("step {from_step} is no recorded model step"),
            ));
        }
        if messages.is_empty() || messages.len() > MESSAGES_MAX {
            return Err(invalid(
                "edit.prompt",
                format!("must hold 1 to {MESSAGES_MAX} messages"),
            ));
        }
    }
    let Some(output) = output else {
        return Ok(());
    };
    match step.map(|step| step.kind) {
        None => Err(invalid("edit.output", format!("step {from_step} is not recorded"))),
        Some(StepKind::Model) if said(output).is_none() && completion_of(output) != *output => Err(invalid(
            "edit.output",
            "of a model step: a text, or an object with `text`",
        )),
        Some(StepKind::ContextMessages) if !output["messages"].is_array() => Err(invalid(
            "edit.output",
            "of a context.messages step: an object with `messages`",
        )),
        Some(StepKind::ContextMemories) if !output["memories"].is_array() => Err(invalid(
            "edit.output",
            "of a context.memories step: an object with `memories`",
        )),
        Some(StepKind::Approval) if !output["approved"].is_boolean() => {
            Err(invalid("edit.output", "of an approval: an object with `approved`"))
        }
        Some(_) => Ok(()),
    }
}

fn fate(number: u32, step: &Recorded<'_>, from_step: u32, edit: &Edit) -> (Fate, String) {
    if number < from_step {
        return (
            Fate::Read,
            "it stands before the fork and is read as it was recorded".to_owned(),
        );
    }
    if number == from_step && edit.output.is_some() {
        return (
            Fate::Replaced,
            "its result is the edited one, so it does not run".to_owned(),
        );
    }
    if number == from_step && edit.prompt.is_some() {
        return (Fate::Replaced, "the model is asked the edited prompt".to_owned());
    }
    match (step.kind, step.effect) {
        (StepKind::Approval, _) => (Fate::Asked, "a person is asked again".to_owned()),
        (StepKind::Child, _) => (Fate::Run, "the agent is called again, as a new invocation".to_owned()),
        (StepKind::Timer | StepKind::Signal, _) => (Fate::Run, "it is waited for again".to_owned()),
        (_, Effect::Pure) => (Fate::Run, "it is pure and may run again freely".to_owned()),
        (_, Effect::Idempotent) => (
            Fate::Run,
            "it is idempotent and runs again under a key of its own".to_owned(),
        ),
        (_, Effect::AtMostOnce) => (
            Fate::Asked,
            "it may happen at most once: the same call is answered from the recording, for another a person is asked"
                .to_owned(),
        ),
    }
}

fn invalid(field: &str, why: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidRequest, format!("{field}: {}", why.into())).field(field)
}
