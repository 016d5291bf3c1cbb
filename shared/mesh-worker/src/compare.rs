//! Two recordings side by side, step by step. What differs only because they are two invocations is left out.

use std::collections::BTreeMap;

use mesh_api::inference::PromptMessage;
use mesh_api::journal::{Done, Fact, Record, StepKind, Usage};
use mesh_api::steering::{ComparedStep, StepDigest};
use mesh_types::Problem;
use serde_json::{Value, json};

use crate::thread::expand_prompts;

/// Longest text of a digest, in characters.
const SHORT_TEXT_MAX: usize = 160;

struct Side<'a> {
    kind: StepKind,
    name: &'a str,
    input: Option<&'a Value>,
    done: Option<&'a Done>,
}

/// Every step that either side has, by its number. Records are those of one invocation each; of a fork with the
/// inherited ones before its own.
pub fn compare(left: &[Record], right: &[Record]) -> Vec<ComparedStep> {
    let (lefts, rights) = (sides(left), sides(right));
    let (left_prompts, right_prompts) = (expand_prompts(left), expand_prompts(right));
    let mut numbers: Vec<u32> = lefts.keys().chain(rights.keys()).copied().collect();
    numbers.sort_unstable();
    numbers.dedup();
    let compared = numbers.into_iter().map(|step| {
        let (left, right) = (lefts.get(&step), rights.get(&step));
        let differs = match (left, right) {
            (Some(left), Some(right)) => differs(left, left_prompts.get(&step), right, right_prompts.get(&step)),
            _ => vec!["kind".to_owned()],
        };
        ComparedStep {
            step,
            left: left.map(digest),
            right: right.map(digest),
            differs,
        }
    });
    compared.collect()
}

fn sides(records: &[Record]) -> BTreeMap<u32, Side<'_>> {
    let mut sides: BTreeMap<u32, Side<'_>> = BTreeMap::new();
    for record in records {
        match &record.fact {
            Fact::Begun(begun) => {
                let side = Side {
                    kind: begun.kind,
                    name: &begun.name,
                    input: Some(&begun.input),
                    done: None,
                };
                sides.insert(begun.step, side);
            }
            Fact::Done(done) => {
                let begun = sides.get(&done.step).and_then(|side| side.input);
                let side = Side {
                    kind: done.kind,
                    name: &done.name,
                    input: done.input.as_ref().or(begun),
                    done: Some(done),
                };
                sides.insert(done.step, side);
            }
            _ => {}
        }
    }
    sides
}

fn differs(
    left: &Side<'_>,
    left_prompt: Option<&Vec<PromptMessage>>,
    right: &Side<'_>,
    right_prompt: Option<&Vec<PromptMessage>>,
) -> Vec<String> {
    let same_input = left_prompt == right_prompt && own_input(left) == own_input(right);
    let fields = [
        ("kind", left.kind == right.kind),
        ("name", left.name == right.name),
        ("input", same_input),
        ("output", output(left) == output(right)),
        ("error", error(left) == error(right)),
    ];
    let different = fields.into_iter().filter(|(_, is_same)| !is_same);
    different.map(|(field, _)| field.to_owned()).collect()
}

/// Without the prompt, which is compared in full, and without ids that are another in every invocation.
fn own_input(side: &Side<'_>) -> Option<Value> {
    let mut input = side.input?.clone();
    if let Some(fields) = input.as_object_mut() {
        let derived: &[&str] = match side.kind {
            StepKind::Model => &["prompt", "messages", "prompt_sha256"],
            StepKind::Child => &["invocation"],
            StepKind::Timer | StepKind::Signal => &["until"],
            _ => &[],
        };
        derived.iter().for_each(|field| _ = fields.remove(*field));
    }
    Some(input)
}

/// What the step came to, without ids and times that are another in every run.
fn output(side: &Side<'_>) -> Option<Value> {
    let output = side.done?.output.as_ref()?;
    Some(match side.kind {
        StepKind::MessagePost => output["text"].clone(),
        StepKind::MemoryStore => output["content"].clone(),
        StepKind::Child => json!([output["outcome"], output["output"]]),
        StepKind::Model => json!([output["text"], calls(output)]),
        StepKind::Timer => Value::Null,
        _ => output.clone(),
    })
}

/// Name and arguments of each call; providers give each an id of its own.
fn calls(completion: &Value) -> Vec<&Value> {
    let calls = completion["tool_calls"].as_array().map_or(&[][..], Vec::as_slice);
    calls.iter().map(|call| &call["function"]).collect()
}

fn error<'a>(side: &'a Side<'_>) -> Option<&'a Problem> {
    side.done?.error.as_ref()
}

fn digest(side: &Side<'_>) -> StepDigest {
    let took = side.done.map(|done| done.ended_at.since(done.started_at).as_millis());
    StepDigest {
        kind: side.kind,
        name: side.name.to_owned(),
        usage: side.done.map_or(Usage::default(), |done| done.usage),
        took_ms: took.and_then(|took| u64::try_from(took).ok()).unwrap_or(0),
        short_text: short_text(side),
    }
}

fn short_text(side: &Side<'_>) -> String {
    let text = match (error(side), side.done.and_then(|done| done.output.as_ref())) {
        (Some(problem), _) => problem.to_string(),
        (None, Some(Value::String(text))) => text.clone(),
        (None, Some(output)) => match output["text"].as_str().filter(|text| !text.is_empty()) {
            Some(text) => text.to_owned(),
            None => output.to_string(),
        },
        (None, None) => String::new(),
    };
    text.chars().take(SHORT_TEXT_MAX).collect()
}
