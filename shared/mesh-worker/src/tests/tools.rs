//! Tool turns: what becomes a group, what the model is told, what is refused, and which limits end it.

use std::time::Duration;

use mesh_api::inference::Role;
use mesh_api::journal::{Effect, Fact, Outcome, StepKind};
use mesh_types::agent::{AgentSpec, Tool};
use mesh_types::{Code, Id};
use serde_json::{Value, json};

use super::time::invocation;
use super::world::{Script, ToolOrder, World};
use crate::{child_id, memory_id, message_id};

pub(super) fn tool(declared: Value) -> Tool {
    serde_json::from_value(declared).unwrap()
}

/// `pay` may run at most once, `look` is idempotent, `read` is pure.
pub(super) fn spec() -> AgentSpec {
    let mut spec = AgentSpec::default();
    spec.memory.query_top_k = 0;
    spec.memory.writeback = false;
    let parameters = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    spec.tools = [("pay", "at_most_once"), ("look", "idempotent"), ("read", "pure")]
        .map(|(name, effect)| {
            tool(json!({"name": name, "kind": "http", "url": "https://tools.example/x",
                "effect": effect, "parameters": parameters}))
        })
        .into();
    spec
}

pub(super) fn world(spec: AgentSpec, script: Script) -> World {
    let world = World::new(spec, json!({"text": "go", "channel_id": "c1"}));
    world.state().orders.script = script;
    world
}

/// Texts of the tool turns in the last prompt.
pub(super) fn told(world: &World) -> Vec<String> {
    let asked = world.state().asked.last().unwrap().clone();
    let tools = asked.messages.iter().filter(|message| message.role == Role::Tool);
    tools.map(|message| message.content.plain_text()).collect()
}

pub(super) fn kinds(world: &World) -> Vec<String> {
    let line = |done: &mesh_api::journal::Done| format!("{} {} {}", done.step, done.kind.as_str(), done.name);
    let mut steps: Vec<_> = world.steps();
    steps.sort_by_key(|done| done.step);
    steps.iter().map(line).collect()
}

fn facts(world: &World) -> Vec<String> {
    let journal = world.journal();
    let named = journal.iter().filter_map(|record| match &record.fact {
        Fact::Begun(begun) => Some(format!("begun {}", begun.step)),
        Fact::Done(done) => Some(format!("done {}", done.step)),
        _ => None,
    });
    named.collect()
}

#[test]
fn calls_of_one_turn_run_together_after_one_append_with_all_that_begins() {
    let calls = vec![
        ("pay", json!({"n": 1})),
        ("look", json!({"n": 2})),
        ("read", json!({"n": 3})),
    ];
    let world = world(spec(), vec![calls]);
    for (name, seconds) in [("pay", 3), ("look", 2), ("read", 1)] {
        let order = ToolOrder::After(Duration::from_secs(seconds));
        world.state().orders.tools.insert(name, [order].into());
    }
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    assert_eq!(world.elapsed(), Duration::from_secs(3), "not one after the other");
    assert_eq!(world.state().together, 3);
    let expected = [
        "done 1", "begun 2", "done 2", "begun 3", "begun 4", "done 5", "done 4", "done 3", "begun 6", "done 6",
        "begun 7", "done 7",
    ];
    assert_eq!(facts(&world), expected);
    let echo = |n: u32| format!(r#"{{"echo":{{"n":{n}}}}}"#);
    assert_eq!(told(&world), [echo(1), echo(2), echo(3)], "in the order of the calls");
    let asked = world.state().asked.clone();
    assert_eq!(asked.len(), 2);
    let turn: Vec<_> = asked[1].messages.iter().rev().take(4).collect();
    assert_eq!(turn[3].tool_calls.len(), 3);
    assert_eq!(turn[2].tool_call_id.as_deref(), Some("call-0-0"));
    assert_eq!(asked[0].tools.len(), 3);
    assert_eq!(asked[0].tools, asked[1].tools);
    let key = |step: u32| format!("{}/{step}", invocation());
    let called = world.state().called.clone();
    assert_eq!(
        called,
        [("pay".into(), key(3)), ("look".into(), key(4)), ("read".into(), key(5))]
    );
}

#[test]
fn a_result_is_on_its_way_to_the_journal_while_others_still_run() {
    let world = world(spec(), vec![vec![("look", json!({"n": 1})), ("look", json!({"n": 2}))]]);
    let orders = [ToolOrder::After(Duration::from_secs(1)), ToolOrder::Hang];
    world.state().orders.tools.insert("look", orders.into());
    // The worker is lost when it tells the first result, after the commit.
    world.state().orders.losses = vec![super::world::Loss {
        append: 2,
        when: super::world::When::AfterCommit,
    }];
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    let steps: Vec<_> = world
        .state()
        .called
        .iter()
        .map(|(_, key)| key.rsplit_once('/').unwrap().1.to_owned())
        .collect();
    assert_eq!(steps, ["3", "4", "4"], "the first is not run again");
}

#[test]
fn what_is_wrong_with_a_call_is_told_to_the_model_and_runs_nothing() {
    let calls = vec![
        ("rm", json!({})),
        ("pay", json!("{\"n\": 1")),
        ("pay", json!({"n": "many"})),
        ("create_task", json!({"agent": "max", "text": "x"})),
    ];
    let world = world(spec(), vec![calls]);
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    assert_eq!(world.state().called, []);
    let told = told(&world);
    assert!(
        told[0].contains("there is no tool `rm`; the tools: pay, look, read"),
        "{told:?}"
    );
    assert!(told[1].contains("not valid JSON"), "{told:?}");
    assert!(told[2].contains("/n: "), "{told:?}");
    assert!(told[3].contains("no tool `create_task`"), "{told:?}");
    let refused: Vec<_> = world
        .steps()
        .into_iter()
        .filter(|done| done.kind == StepKind::Tool)
        .collect();
    assert_eq!(refused.len(), 4);
    for done in refused {
        assert_eq!(done.effect, Effect::Pure);
        assert!(done.error.unwrap().is(Code::ToolInvalid));
        assert!(done.input.is_some());
    }
}

#[test]
fn a_tool_that_fails_is_told_to_the_model_and_only_what_may_is_tried_again() {
    let world = world(
        spec(),
        vec![vec![("pay", json!({})), ("look", json!({})), ("read", json!({}))]],
    );
    for name in ["pay", "look", "read"] {
        let failures = vec![ToolOrder::Fail(Code::ToolFailed); 5];
        world.state().orders.tools.insert(name, failures.into());
    }
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    let count = |name: &str| world.state().called.iter().filter(|(called, _)| called == name).count();
    assert_eq!((count("pay"), count("look"), count("read")), (1, 3, 3));
    assert!(
        told(&world)
            .iter()
            .all(|told| told.starts_with("error: The tool failed: as ordered"))
    );
}

#[test]
fn a_long_result_is_cut_for_the_prompt_and_kept_in_the_record() {
    let world = world(spec(), vec![vec![("look", json!({}))]]);
    let long = Value::from("é".repeat(50_000));
    world
        .state()
        .orders
        .tools
        .insert("look", [ToolOrder::Answer(long.clone())].into());
    world.run_to_its_end();
    let told = told(&world);
    assert!(told[0].len() < 66_000 && told[0].ends_with("[cut: the result has 100000 bytes]"));
    let step = world
        .steps()
        .into_iter()
        .find(|done| done.kind == StepKind::Tool)
        .unwrap();
    assert_eq!(step.output, Some(long));
}

#[test]
fn a_result_that_is_not_what_it_declares_is_an_error_and_is_kept() {
    let mut spec = spec();
    spec.tools = vec![tool(
        json!({"name": "look", "kind": "http", "url": "https://x.example", "effect": "pure",
        "returns": {"type": "object", "required": ["total"]}}),
    )];
    let world = world(spec, vec![vec![("look", json!({}))]]);
    world.run_to_its_end();
    assert!(
        told(&world)[0].contains("not what it declares in `returns`"),
        "{:?}",
        told(&world)
    );
    let step = world
        .steps()
        .into_iter()
        .find(|done| done.kind == StepKind::Tool)
        .unwrap();
    assert_eq!(
        (step.output, step.error.unwrap().field.as_deref()),
        (Some(json!({"echo": {}})), Some("returns"))
    );
}

#[test]
fn builtins_do_their_work_under_ids_of_the_step() {
    let mut spec = spec();
    spec.capabilities.insert("can_create_tasks".into(), true);
    spec.tools = [
        "create_task",
        "summarize_channel",
        "post_message",
        "remember",
        "recall",
        "now",
    ]
    .map(|name| tool(json!(name)))
    .into();
    let calls = vec![
        ("create_task", json!({"agent": "max", "text": "count", "priority": 7})),
        ("summarize_channel", json!({})),
        ("post_message", json!({"text": "on it"})),
        ("remember", json!({"content": "tea", "tags": ["drink"]})),
        ("recall", json!({"query": "tea", "k": 1})),
        ("now", json!({})),
    ];
    let world = world(spec, vec![calls]);
    world.says(mesh_api::messaging::AuthorKind::User, "ann", "hello");
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    let told = told(&world);
    let state = world.state();
    let (agent, request) = &state.created[0];
    assert_eq!(
        (agent.as_str(), request.invocation_id),
        ("max", Some(child_id(invocation(), 3)))
    );
    assert_eq!(
        (&request.payload, request.priority),
        (&json!({"text": "count"}), Some(7))
    );
    assert!(told[1].contains("ann: hello"), "{told:?}");
    assert_eq!(
        (state.channel[1].id.clone(), state.channel[1].text.as_str()),
        (message_id(invocation(), 5), "on it")
    );
    assert_eq!(state.memories[0].id, memory_id(invocation(), 6));
    assert!(
        told[4].contains("fact 1 about tea") && !told[4].contains("fact 2"),
        "{told:?}"
    );
    assert!(told[5].contains("2026-11-21T"), "{told:?}");
}

#[test]
fn every_limit_ends_it_by_its_name() {
    let endless = || vec![vec![("look", json!({})), ("look", json!({}))]; 99];
    for (name, reason, field, models) in [
        ("iterations", "limit_iterations", "spec.limits.iterations", 3),
        ("tool_calls", "limit_tool_calls", "spec.limits.tool_calls", 2),
        ("tokens", "limit_tokens", "spec.limits.tokens", 3),
        ("cost_usd", "limit_cost", "spec.limits.cost_usd", 1),
    ] {
        let mut spec = spec();
        let limits = &mut spec.limits;
        match name {
            "iterations" => limits.iterations = 3,
            "tool_calls" => limits.tool_calls = Some(3),
            "tokens" => limits.tokens = Some(30),
            _ => limits.cost_usd = Some(1.0e-5),
        }
        let world = world(spec, endless());
        assert_eq!(world.run_to_its_end(), Outcome::Failed, "{name}");
        let end = world.state().ends[0].clone();
        let error = end.error.unwrap();
        assert_eq!(
            (end.reason.as_deref(), error.field.as_deref()),
            (Some(reason), Some(field))
        );
        assert!(error.is(Code::LimitReached));
        assert_eq!(world.state().asked.len(), models, "{name}");
    }
}

#[test]
fn an_answer_that_was_paid_for_is_given_though_it_reached_the_limit() {
    let mut spec = spec();
    spec.limits.tokens = Some(5);
    let world = world(spec, vec![]);
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
}

#[test]
fn a_hanging_tool_ends_with_the_time_of_the_invocation() {
    let world = world(spec(), vec![vec![("pay", json!({}))]]);
    world.state().orders.tools.insert("pay", [ToolOrder::Hang].into());
    assert_eq!(world.run_to_its_end(), Outcome::Failed);
    assert_eq!(world.elapsed(), Duration::from_secs(120));
    assert_eq!(world.state().ends[0].reason.as_deref(), Some("deadline_exceeded"));
    assert_eq!(world.state().called.len(), 1);
}

#[test]
fn a_cancelled_run_drops_its_tools_at_once() {
    let world = world(spec(), vec![vec![("pay", json!({})), ("look", json!({}))]]);
    for (name, order) in [
        ("pay", ToolOrder::Hang),
        ("look", ToolOrder::After(Duration::from_secs(1))),
    ] {
        world.state().orders.tools.insert(name, [order].into());
    }
    let cancel = world.cancel.clone();
    let cancelling = async {
        world.clock.sleep(Duration::from_secs(2)).await;
        cancel.cancel();
        std::future::pending::<()>().await;
    };
    assert_eq!(world.run_beside(cancelling), crate::Finished::Stopped);
    assert_eq!(world.elapsed(), Duration::from_secs(2));
    assert_eq!(world.state().effects.len(), 1);
    let done = facts(&world);
    assert_eq!(done.last().map(String::as_str), Some("done 4"), "{done:?}");
}

#[test]
fn ids_that_a_model_left_out_are_made_up() {
    let world = world(spec(), vec![vec![("look", json!({"n": 1})), ("look", json!({"n": 2}))]]);
    world.state().orders.has_no_ids = true;
    world.run_to_its_end();
    let asked = world.state().asked[1].clone();
    let assistant = asked
        .messages
        .iter()
        .find(|message| message.role == Role::Assistant)
        .unwrap();
    let ids: Vec<_> = assistant
        .tool_calls
        .iter()
        .map(|call| call["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["call_2_0", "call_2_1"]);
    let answered: Vec<_> = asked
        .messages
        .iter()
        .filter_map(|message| message.tool_call_id.as_deref())
        .collect();
    assert_eq!(answered, ids);
    assert!(invocation().ulid().0 > 0);
}
