//! Random scripts of tool turns with workers lost at random: no recorded step runs twice, an at_most_once effect
//! happens at most once for each time that a person let it, there is one end, and it is the same.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_api::journal::{Effect, Fact, Outcome, Resolution, Usage};
use mesh_types::Code;
use mesh_types::agent::{AgentSpec, ApprovalRule};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::time::{agent, invocation};
use super::tools::{kinds, spec, tool, world};
use super::world::{Loss, Script, ToolOrder, When, World};
use crate::{Task, replay};

fn tools(approval: bool) -> AgentSpec {
    let mut spec = spec();
    spec.limits.iterations = 20;
    spec.limits.timeout = "10d".parse().unwrap();
    spec.tools[0].0.approval = if approval {
        ApprovalRule::Always
    } else {
        ApprovalRule::Never
    };
    let more = [
        json!({"name": "ask", "kind": "agent", "agent": "max"}),
        json!("sleep"),
        json!("wait_signal"),
        json!("post_message"),
    ];
    spec.tools.extend(more.map(tool));
    spec
}

fn call() -> impl Strategy<Value = (&'static str, Value)> {
    prop_oneof![
        3 => (0..9).prop_map(|n| ("pay", json!({"n": n}))),
        3 => (0..9).prop_map(|n| ("look", json!({"n": n}))),
        2 => (0..9).prop_map(|n| ("read", json!({"n": n}))),
        1 => Just(("ask", json!({"text": "why?"}))),
        1 => Just(("sleep", json!({"seconds": 5}))),
        1 => Just(("wait_signal", json!({"name": "a"}))),
        1 => Just(("post_message", json!({"text": "on it"}))),
        1 => Just(("nothing", json!({}))),
        1 => Just(("look", json!("{"))),
    ]
}

fn scripts() -> impl Strategy<Value = Script> {
    prop::collection::vec(prop::collection::vec(call(), 1..5), 0..4)
}

fn losses() -> impl Strategy<Value = Vec<Loss>> {
    let loss = (0_usize..25, any::<bool>()).prop_map(|(append, before)| Loss {
        append,
        when: if before { When::BeforeCommit } else { When::AfterCommit },
    });
    prop::collection::vec(loss, 0..6)
}

/// Delays only: an order is used up by whoever comes first, so that failures would move between steps.
fn delays() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(0_u64..4, 0..12)
}

fn build(script: &Script, approval: bool, delays: &[u64]) -> World {
    let world = world(tools(approval), script.clone());
    for name in ["pay", "look", "read"] {
        let orders = delays
            .iter()
            .map(|seconds| ToolOrder::After(Duration::from_secs(*seconds)));
        world.state().orders.tools.insert(name, orders.collect());
    }
    world
}

/// Starts of at_most_once effects by key, and how often a person let it begin anew.
fn check_effects(world: &World) {
    let mut begun: BTreeMap<u32, u32> = BTreeMap::new();
    let mut effect = BTreeMap::new();
    for record in world.journal() {
        if let Fact::Begun(step) = record.fact {
            *begun.entry(step.step).or_default() += 1;
            effect.insert(step.step, step.effect);
        }
    }
    let mut starts: BTreeMap<u32, u32> = BTreeMap::new();
    for (_, key) in &world.state().called {
        let step = key.rsplit_once('/').unwrap().1.parse().unwrap();
        *starts.entry(step).or_default() += 1;
    }
    for (step, starts) in starts {
        if effect.get(&step) == Some(&Effect::AtMostOnce) {
            assert!(
                starts <= begun[&step],
                "step {step} started {starts} times, begun {} times",
                begun[&step]
            );
        }
    }
}

fn texts(world: &World) -> Vec<String> {
    let asked = world.state().asked.last().unwrap().clone();
    let texts = asked.messages.iter().map(|message| message.content.plain_text());
    // When a sleep is over depends on when it began.
    texts
        .map(|text| {
            if text.starts_with(r#"{"until""#) {
                "slept".to_owned()
            } else {
                text
            }
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn lost_workers_change_nothing_that_is_recorded(
        script in scripts(), losses in losses(), approval: bool, delays in delays(),
    ) {
        let clean = build(&script, approval, &delays);
        prop_assert_eq!(clean.run_to_its_end(), Outcome::Completed);
        let world = build(&script, approval, &delays);
        world.state().orders.losses = losses;
        prop_assert_eq!(world.run_to_its_end(), Outcome::Completed);
        check_effects(&world);
        prop_assert_eq!(kinds(&world), kinds(&clean));
        prop_assert_eq!(texts(&world), texts(&clean));
        // The texts hold the last answer's words.
        let ends = |world: &World| -> Vec<_> {
            let ends = world.state().ends.clone();
            ends.into_iter().map(|end| (end.outcome, end.reason, end.usage, end.provider)).collect()
        };
        prop_assert_eq!(ends(&world), ends(&clean));
        // The recording is its own replay, whatever happened to its workers.
        let task = Task { invocation: invocation(), agent: &agent(), spec: &world.spec, input: &world.input, depth: 0 };
        prop_assert_eq!(replay(&world.journal(), &[], task), []);
    }

    #[test]
    fn what_is_settled_by_a_person_is_never_started_again(
        script in scripts(), losses in losses(), delays in delays(), fails: bool,
    ) {
        let world = build(&script, false, &delays);
        let settled = match fails {
            true => Resolution::Failed { error: mesh_types::Problem::new(Code::ToolFailed, "lost") },
            false => Resolution::Done { output: json!("it happened"), usage: Usage::default() },
        };
        world.state().orders.resolutions = vec![settled; 50].into();
        world.state().orders.losses = losses;
        prop_assert_eq!(world.run_to_its_end(), Outcome::Completed);
        let mut keys: Vec<_> = world.state().called.iter().filter(|(name, _)| name == "pay").cloned().collect();
        let starts = keys.len();
        keys.sort();
        keys.dedup();
        prop_assert_eq!(keys.len(), starts, "an at_most_once effect started twice");
    }

    #[test]
    fn stops_between_steps_lose_nothing(script in scripts(), stops in prop::collection::vec(0_usize..25, 0..5)) {
        let clean = build(&script, false, &[]);
        clean.run_to_its_end();
        let world = build(&script, false, &[]);
        world.state().orders.stops = stops;
        prop_assert_eq!(world.run_to_its_end(), Outcome::Completed);
        check_effects(&world);
        prop_assert_eq!(texts(&world), texts(&clean));
    }
}
