//! What the journal of a long invocation with a growing prompt stores, against the text in it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::bail;
use mesh_api::execution::{FeedRequest, InvocationFeed, State};
use mesh_api::journal::{Fact, Record};
use mesh_store::IdExt as _;
use mesh_types::InvocationId;
use mesh_types::agent::{AgentSpec, Limits, MemoryUse, Model, Runtime, Span, Tool, ToolSpec};
use serde_json::{Value, json};

use super::forks::Long;
use super::messages::{run, saying};
use super::report::{Bar, Measure};
use super::store;
use crate::bench::agent::{self, Target};
use crate::bench::place::Place;
use crate::bench::progress::Progress;

const SCRIPT: &str = "bench-growing";
/// Of what the model says in each turn: a paragraph.
const TURN_CHARACTERS: usize = 1_000;
const RATIO: f64 = 3.0;
const TIMEOUT: Duration = Duration::from_secs(600);

/// Configuration of a mesh whose mock plays the agent of [`measure`]: model and tool take turns for so many steps, and
/// the last step is the model's.
pub(super) fn scripts(steps: u32) -> Value {
    let mut turns: Vec<Value> = (0..turns(steps) - 1)
        .map(|number| json!({"text": paragraph(number), "tool_calls": [{"name": "now"}]}))
        .collect();
    turns.push(json!({"text": "That is all."}));
    json!({"inference": {"mock_scripts": {SCRIPT: turns}}})
}

/// Answers of the model; each but the last one calls a tool.
const fn turns(steps: u32) -> u32 {
    steps / 2 + 1
}

/// Different in every turn, as a model's words are.
fn paragraph(number: u32) -> String {
    const WORDS: [&str; 16] = [
        "river", "stone", "winter", "letter", "garden", "signal", "harbour", "copper", "window", "orchard", "thunder",
        "market", "silver", "bridge", "candle", "forest",
    ];
    let mut text = format!("Turn {number}.");
    let mut state = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while text.len() < TURN_CHARACTERS {
        // A linear congruential generator (Knuth, MMIX): the same words in every run.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        text.push(' ');
        text.push_str(WORDS[(state >> 60) as usize]);
    }
    text
}

pub(super) async fn measure(place: &Place, steps: u32, progress: &Progress) -> anyhow::Result<(Long, Measure)> {
    progress.phase(&format!("a history of {steps} steps with a growing prompt"));
    let target = agent::declare(&place.bus, "bench-growing", growing(steps)).await?;
    let started = Instant::now();
    let ended = run(&place.bus, &target, &saying("Tell me of the town, and of the time.")).await?;
    let took = started.elapsed();
    if ended.state != State::Completed {
        let error = ended.error.map(|error| error.detail).unwrap_or_default();
        bail!("{} is {}: {error}", ended.id, ended.state.as_str());
    }
    let records = records(place, &target, ended.id).await?;
    let texts = texts(&records);
    let distinct: usize = texts.iter().map(String::len).sum();
    let stored = store::stored(&place.lanes, ended.id.to_uuid()).await?;
    let last_step = records.iter().filter_map(step).max().unwrap_or(0);
    let measure = Measure::new("history")
        .figure("steps", f64::from(last_step))
        .figure("seconds", took.as_secs_f64())
        .figure("texts", texts.len() as f64)
        .figure("distinct_bytes", distinct as f64)
        .figure("stored_bytes", stored.all() as f64)
        .figure("stored_in_records", stored.records as f64)
        .figure("stored_in_bodies", stored.bodies as f64)
        .barred("ratio", stored.all() as f64 / distinct as f64, Bar::Below(RATIO));
    let long = Long {
        target,
        id: ended.id,
        steps: last_step,
    };
    Ok((long, measure))
}

fn growing(steps: u32) -> AgentSpec {
    AgentSpec {
        runtime: Runtime::Llm,
        instructions: "You tell of a town.".to_owned(),
        model: Model {
            name: format!("mock:script:{SCRIPT}"),
            ..Model::default()
        },
        memory: MemoryUse {
            query_top_k: 0,
            writeback: false,
            ..MemoryUse::default()
        },
        tools: vec![Tool(Box::new(ToolSpec::builtin("now")))],
        limits: Limits {
            iterations: turns(steps),
            timeout: Span(TIMEOUT),
            ..Limits::default()
        },
        ..AgentSpec::default()
    }
}

async fn records(place: &Place, target: &Target, id: InvocationId) -> anyhow::Result<Vec<Record>> {
    let mut records: Vec<Record> = Vec::new();
    loop {
        let request = FeedRequest {
            invocation: id,
            after_seq: records.last().map_or(0, |record| record.seq),
        };
        let page = place.bus.call::<InvocationFeed>(&target.caller, &request).await?;
        records.extend(page.records);
        if !page.more {
            return Ok(records);
        }
    }
}

const fn step(record: &Record) -> Option<u32> {
    match &record.fact {
        Fact::Done(done) => Some(done.step),
        _ => None,
    }
}

/// Every distinct text of a message: of prompts, whichever way they are recorded, and of answers.
fn texts(records: &[Record]) -> HashSet<String> {
    let mut texts = HashSet::new();
    for record in records {
        let (input, output) = match &record.fact {
            Fact::Begun(begun) => (Some(&begun.input), None),
            Fact::Done(done) => (done.input.as_ref(), done.output.as_ref()),
            _ => (None, None),
        };
        if let Some(input) = input {
            collect(input, &mut texts);
        }
        if let Some(text) = output.and_then(|output| output.get("text")?.as_str()) {
            texts.insert(text.to_owned());
        }
    }
    texts.remove("");
    texts
}

fn collect(value: &Value, texts: &mut HashSet<String>) {
    match value {
        Value::Object(object) => {
            if let (Some(_), Some(Value::String(text))) = (object.get("role"), object.get("content")) {
                texts.insert(text.clone());
            }
            object.values().for_each(|value| collect(value, texts));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, texts)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_turn_says_something_else_and_the_last_one_calls_no_tool() {
        let config = scripts(1_000);
        let turns = config["inference"]["mock_scripts"][SCRIPT].as_array().unwrap();
        let texts: HashSet<&str> = turns.iter().filter_map(|turn| turn["text"].as_str()).collect();
        assert_eq!((turns.len(), texts.len()), (501, 501));
        assert!(turns[0].get("tool_calls").is_some() && turns[500].get("tool_calls").is_none());
    }

    #[test]
    fn a_text_counts_once_however_often_it_is_recorded() {
        let prompt = json!({"messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]});
        let mut texts = HashSet::new();
        collect(&prompt, &mut texts);
        collect(
            &json!({"prompt": {"new": [{"role": "user", "content": "one"}]}}),
            &mut texts,
        );
        assert_eq!(texts, HashSet::from(["one".to_owned(), "two".to_owned()]));
    }
}
