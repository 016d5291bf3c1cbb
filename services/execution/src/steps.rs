//! Steps as people see them: what was begun, replaced by what was done, of a fork with those that it inherits; each
//! model step with its whole prompt. However long they are, one answer is bounded.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_api::execution::{Bodies, Invocation, Step};
use mesh_api::journal::{Fact, Record, StepKind, Usage};
use mesh_api::page::{LIMIT_MAX, Page};
use mesh_types::InvocationId;
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::store::chain::{self, Chain, Place};

/// Bytes of bodies that are read at once.
const READ_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of the steps that come with a result (`intermediate_steps`); what is longer is read page by page.
const RESULT_BYTES: usize = 1024 * 1024;
/// Bytes of a whole prompt that a step shows.
const MESSAGES_BYTES: usize = 2 * 1024 * 1024;
/// Prompts that a later one may be told from; in practice it is the newest one.
const PROMPTS_KEPT: usize = 16;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Steps above this one.
    pub(crate) after: u32,
    pub(crate) limit: u32,
    pub(crate) bodies: Bodies,
    /// Bytes of the answer; past it the page ends, but never before its first step.
    pub(crate) bytes_max: usize,
}

/// `None`: there is no such invocation.
pub(crate) async fn page(
    connection: &mut PgConnection,
    id: InvocationId,
    wanted: Wanted,
) -> Result<Option<Page<Step>>, sqlx::Error> {
    let chain = chain::chain(connection, id).await?;
    if chain.is_empty() {
        return Ok(None);
    }
    let last = chain::last_step(connection, &chain).await?;
    // Steps are numbered without gaps.
    let to = wanted.after.saturating_add(wanted.limit).min(last);
    let places = chain::places(connection, &chain, wanted.after, to).await?;
    let mut prompts = match wanted.bodies {
        Bodies::Full if wanted.after > 0 => earlier(connection, &chain, wanted.after).await?,
        Bodies::Full | Bodies::None => Prompts::default(),
    };
    let mut items = Vec::new();
    let mut bytes = 0;
    for part in parts(&places) {
        for mut step in fold(chain::records(connection, part).await?) {
            match wanted.bodies {
                Bodies::Full => prompts.complete(&mut step),
                Bodies::None => (step.input, step.output) = (None, None),
            }
            bytes += serde_json::to_vec(&step).map_or(0, |json| json.len());
            if bytes > wanted.bytes_max
                && let Some(shown) = items.last().map(|step: &Step| step.number)
            {
                let next = Some(shown.to_string());
                return Ok(Some(Page { items, next }));
            }
            items.push(step);
        }
    }
    let next = (to < last).then(|| to.to_string());
    Ok(Some(Page { items, next }))
}

/// Whole steps of together not much more than [`READ_BYTES`].
fn parts(places: &[Place]) -> impl Iterator<Item = &[Place]> {
    let mut rest = places;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let mut step = rest.first()?.step;
        let is_over = |place: &Place| {
            let is_full = place.step != step && bytes > READ_BYTES;
            step = place.step;
            bytes += place.size;
            is_full
        };
        let end = rest.iter().position(is_over).unwrap_or(rest.len());
        let (part, left) = rest.split_at(end);
        rest = left;
        Some(part)
    })
}

/// The prompts that those after `to` are told from.
async fn earlier(connection: &mut PgConnection, chain: &Chain, to: u32) -> Result<Prompts, sqlx::Error> {
    let places = chain::prompts(connection, chain, to).await?;
    let mut prompts = Prompts::default();
    for part in parts(&places) {
        for record in chain::records(connection, part).await? {
            match &record.fact {
                Fact::Begun(begun) => prompts.learn(begun.step, &begun.input),
                Fact::Done(done) => {
                    if let Some(input) = &done.input {
                        prompts.learn(done.step, input);
                    }
                    prompts.learn_answer(done.step, done.output.as_ref());
                }
                _ => {}
            }
        }
    }
    Ok(prompts)
}

/// What was begun, replaced by what was done; in the order of their numbers.
pub(crate) fn fold(records: Vec<Record>) -> Vec<Step> {
    let mut steps: BTreeMap<u32, Step> = BTreeMap::new();
    for Record { epoch, at, fact, .. } in records {
        match fact {
            Fact::Begun(begun) => {
                let step = Step {
                    number: begun.step,
                    kind: begun.kind,
                    name: begun.name,
                    effect: begun.effect,
                    input: Some(begun.input),
                    output: None,
                    error: None,
                    usage: Usage::default(),
                    attempt: 1,
                    epoch,
                    started_at: at,
                    ended_at: None,
                };
                steps.insert(step.number, step);
            }
            Fact::Done(done) => {
                let input = done
                    .input
                    .or_else(|| steps.get_mut(&done.step).and_then(|step| step.input.take()));
                let step = Step {
                    number: done.step,
                    kind: done.kind,
                    name: done.name,
                    effect: done.effect,
                    input,
                    output: done.output,
                    error: done.error,
                    usage: done.usage,
                    attempt: done.attempt,
                    epoch,
                    started_at: done.started_at,
                    ended_at: Some(done.ended_at),
                };
                steps.insert(step.number, step);
            }
            _ => {}
        }
    }
    steps.into_values().collect()
}

/// A message of a prompt, shared by all prompts that keep it.
#[derive(Debug)]
struct Said {
    message: Value,
    /// Of its JSON.
    bytes: usize,
}

impl Said {
    fn of(message: Value) -> Arc<Self> {
        let bytes = serde_json::to_vec(&message).map_or(0, |json| json.len());
        Arc::new(Self { message, bytes })
    }
}

/// Whole prompts of the newest model steps, from what each keeps of the one before and adds to it.
#[derive(Debug, Default)]
struct Prompts {
    asked: BTreeMap<u32, Vec<Arc<Said>>>,
    /// What each answered, as the next prompt shows it: there it stands as `{"answer_of":step}`.
    answered: BTreeMap<u32, Arc<Said>>,
}

impl Prompts {
    fn learn(&mut self, step: u32, input: &Value) {
        let said = |message: &Value| {
            let answer = message["answer_of"].as_u64().and_then(|of| u32::try_from(of).ok());
            match answer.and_then(|of| self.answered.get(&of)) {
                Some(answer) => Arc::clone(answer),
                None => Said::of(message.clone()),
            }
        };
        let prompt = if let Some(messages) = input["messages"].as_array() {
            // As earlier versions wrote it.
            messages.iter().map(said).collect()
        } else {
            let prompt = &input["prompt"];
            let number = |field: &str| prompt[field].as_u64().and_then(|number| u32::try_from(number).ok());
            let keep = number("keep").and_then(|keep| usize::try_from(keep).ok()).unwrap_or(0);
            let base = number("base").and_then(|base| self.asked.get(&base));
            let kept = base.into_iter().flatten().take(keep).map(Arc::clone);
            let new = prompt["new"].as_array().into_iter().flatten().map(said);
            kept.chain(new).collect()
        };
        self.asked.insert(step, prompt);
        while self.asked.len() > PROMPTS_KEPT {
            self.asked.pop_first();
        }
    }

    fn learn_answer(&mut self, step: u32, output: Option<&Value>) {
        let Some(answer) = output.and_then(|output| mesh_worker::answer_message(output, step)) else {
            return;
        };
        self.answered.insert(step, Said::of(answer));
        while self.answered.len() > PROMPTS_KEPT {
            self.answered.pop_first();
        }
    }

    /// Adds the whole prompt to the input of a model step, as `messages`.
    fn complete(&mut self, step: &mut Step) {
        if step.kind != StepKind::Model {
            return;
        }
        let Some(input) = &mut step.input else { return };
        self.learn(step.number, input);
        self.learn_answer(step.number, step.output.as_ref());
        let (Some(prompt), Some(fields)) = (self.asked.get(&step.number), input.as_object_mut()) else {
            return;
        };
        let bytes: usize = prompt.iter().map(|said| said.bytes + 1).sum();
        if fields.contains_key("messages") {
            return;
        }
        if bytes > MESSAGES_BYTES {
            fields.insert("messages_omitted_bytes".into(), json!(bytes));
        } else {
            let messages = prompt.iter().map(|said| said.message.clone()).collect();
            fields.insert("messages".into(), Value::Array(messages));
        }
    }
}

/// The steps that an ended invocation comes with where its request said so. Those that are too long together come
/// without their bodies, and say where they are read.
pub(crate) async fn attach(connection: &mut PgConnection, invocation: &mut Invocation) -> Result<(), sqlx::Error> {
    let id = invocation.id;
    let wanted = Wanted {
        after: 0,
        limit: LIMIT_MAX,
        bodies: Bodies::Full,
        bytes_max: RESULT_BYTES,
    };
    let Some(first) = page(connection, id, wanted).await? else {
        return Ok(());
    };
    let mut steps = first.items;
    let shown = steps.last().map_or(0, |step| step.number);
    if first.next.is_some() && shown < LIMIT_MAX {
        let rest = Wanted {
            after: shown,
            limit: LIMIT_MAX - shown,
            bodies: Bodies::None,
            bytes_max: RESULT_BYTES,
        };
        let rest = page(connection, id, rest)
            .await?
            .map_or_else(Vec::new, |page| page.items);
        steps.extend(rest.into_iter().map(|mut step| {
            let after = step.number.saturating_sub(1);
            step.input = Some(json!({"omitted": format!("read it at /api/v1/invocations/{id}/steps?after={after}")}));
            step
        }));
    }
    invocation.steps = Some(steps);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(prompts: &Prompts, step: u32) -> Vec<&str> {
        prompts.asked[&step]
            .iter()
            .map(|said| said.message.as_str().unwrap())
            .collect()
    }

    #[test]
    fn a_prompt_is_what_it_keeps_of_its_base_and_what_it_adds() {
        let mut prompts = Prompts::default();
        prompts.learn(1, &json!({"prompt": {"base": null, "keep": 0, "new": ["a", "b"]}}));
        prompts.learn(4, &json!({"prompt": {"base": 1, "keep": 2, "new": ["c"]}}));
        prompts.learn(6, &json!({"prompt": {"base": 4, "keep": 1, "new": ["d"]}}));
        prompts.learn(7, &json!({"messages": ["x"]}));
        prompts.learn(9, &json!({"prompt": {"base": 7, "keep": 9, "new": []}}));
        assert_eq!(texts(&prompts, 4), ["a", "b", "c"]);
        assert_eq!(texts(&prompts, 6), ["a", "d"]);
        assert_eq!(texts(&prompts, 9), ["x"]);
        // Begun twice, as after a person said that it has not happened.
        prompts.learn(6, &json!({"prompt": {"base": 4, "keep": 1, "new": ["d"]}}));
        assert_eq!(texts(&prompts, 6), ["a", "d"]);
    }
}
