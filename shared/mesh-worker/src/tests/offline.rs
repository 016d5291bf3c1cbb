//! Recordings held against an agent as it is now, prompts as they are stored, and what earlier versions recorded.

use mesh_api::journal::{About, Fact, Outcome, Record};
use mesh_types::agent::AgentSpec;
use serde_json::{Value, json};

use super::time::{agent, invocation};
use super::tools::{spec, world};
use super::world::World;
use crate::prompt::sha256_of;
use crate::{Task, expand_prompts, replay};

fn recorded() -> World {
    let script = vec![
        vec![("pay", json!({"n": 1})), ("look", json!({"n": 2}))],
        vec![("read", json!({}))],
    ];
    let world = world(spec(), script);
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    world
}

fn against(world: &World, spec: &AgentSpec) -> Vec<(u32, String)> {
    let task = Task {
        invocation: invocation(),
        agent: &agent(),
        spec,
        input: &world.input,
        depth: 0,
    };
    let found = replay(&world.journal(), &[], task);
    found.into_iter().map(|found| (found.step, found.because)).collect()
}

#[test]
fn a_recording_is_what_its_own_version_would_do() {
    let world = recorded();
    assert_eq!(against(&world, &world.spec), []);
}

#[test]
fn other_instructions_are_told_once_and_what_follows_is_compared_on() {
    let world = recorded();
    let mut spec = spec();
    spec.instructions = "Be kind.".into();
    let found = against(&world, &spec);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].0 == 2 && found[0].1.contains("`prompt`"), "{found:?}");
    spec.model.temperature = 0.1;
    let found = against(&world, &spec);
    assert_eq!(found.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [2, 5, 7]);
}

#[test]
fn other_steps_end_the_comparison() {
    let world = recorded();
    let mut asking = spec();
    asking.tools[1].0.approval = mesh_types::agent::ApprovalRule::Always;
    let found = against(&world, &asking);
    assert_eq!(found.last().unwrap().0, 4, "{found:?}");
    assert!(found.last().unwrap().1.contains("approval"), "{found:?}");

    let mut short = spec();
    short.limits.iterations = 1;
    let found = against(&world, &short);
    assert!(
        found[0].0 == 5 && found[0].1.contains("nothing would follow"),
        "{found:?}"
    );

    let mut remembering = spec();
    remembering.memory.writeback = true;
    let found = against(&world, &remembering);
    assert!(found[0].1.contains("go on with memory.store"), "{found:?}");
}

#[test]
fn a_cancelled_recording_does_not_differ_in_its_end() {
    let world = World::new(spec(), json!({"text": "x"}));
    world.state().orders.script = vec![vec![("pay", json!({}))]];
    let mut asking = spec();
    asking.tools[0].0.approval = mesh_types::agent::ApprovalRule::Always;
    let waiting = super::tools::world(asking.clone(), vec![vec![("pay", json!({}))]]);
    waiting.run();
    waiting.commit(Fact::Ended(Box::new(mesh_api::journal::Ended {
        outcome: Outcome::Cancelled,
        reason: Some("operator_canceled".into()),
        output: None,
        error: None,
        usage: mesh_api::journal::Usage::default(),
        provider: None,
    })));
    assert_eq!(against(&waiting, &asking), []);
}

#[test]
fn a_growing_prompt_is_stored_once_and_expands_to_what_was_asked() {
    let script = (0..60).map(|n| vec![("look", json!({"n": n}))]).collect();
    let mut spec = spec();
    spec.limits.iterations = 100;
    spec.instructions = "x".repeat(2_000);
    let world = world(spec, script);
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    let asked = world.state().asked.clone();
    let prompts = expand_prompts(&world.journal());
    assert!(prompts.values().eq(asked.iter().map(|asked| &asked.messages)));
    let stored: usize = world
        .journal()
        .iter()
        .map(|record| serde_json::to_string(record).unwrap().len())
        .sum();
    let distinct = serde_json::to_string(&asked.last().unwrap().messages).unwrap().len();
    let all: usize = asked
        .iter()
        .map(|asked| serde_json::to_string(&asked.messages).unwrap().len())
        .sum();
    assert!(all > 20 * distinct, "in full it would be {all}");
    // Records say what the text came from as well: calls, results, options and times of 120 steps.
    let overhead = world.journal().len() * 600;
    assert!(
        stored < 3 * distinct + overhead,
        "{stored} bytes for {distinct} of text"
    );
    let tools = world
        .journal()
        .iter()
        .filter(|record| begun_input(record).get("tools").is_some())
        .count();
    assert_eq!(tools, 1, "the tools are said once");
}

fn begun_input(record: &Record) -> Value {
    match &record.fact {
        Fact::Begun(begun) => begun.input.clone(),
        _ => Value::Null,
    }
}

#[test]
fn what_an_earlier_version_recorded_is_read_on() {
    let mut plain = spec();
    plain.tools.clear();
    let world = world(plain, vec![]);
    world.state().orders.stops = vec![1];
    assert_eq!(world.run(), crate::Finished::Stopped);
    let mut journal = world.journal();
    let messages = expand_prompts(&journal)[&2].clone();
    for record in &mut journal {
        if let Fact::Begun(begun) = &mut record.fact
            && begun.step == 2
        {
            let input = begun.input.as_object_mut().unwrap();
            input.remove("prompt");
            input.insert("messages".into(), json!(messages));
            input.insert("prompt_sha256".into(), json!(sha256_of(&messages)));
        }
    }
    assert_eq!(expand_prompts(&journal)[&2], messages);
    world.state().journal = journal
        .iter()
        .map(|record| serde_json::to_string(record).unwrap())
        .collect();
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    assert!(world.state().asked.len() <= 2);
}

#[test]
fn a_message_that_joined_is_part_of_the_recording() {
    let world = world(spec(), vec![]);
    let payload = json!({"text": "and this"});
    world.tell(About::Merged {
        invocation: invocation(),
        payload,
    });
    world.run_to_its_end();
    assert_eq!(against(&world, &world.spec), []);
}
