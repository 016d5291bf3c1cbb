//! Waits: approvals, children, timers, signals, ambiguous steps, and what joins before the start.

use std::time::Duration;

use mesh_api::journal::{About, Effect, Fact, Outcome, Resolution, StepKind, Usage, WaitItem, WaitOn};
use mesh_types::{Code, Problem};
use serde_json::{Value, json};

use super::time::invocation;
use super::tools::{kinds, spec, told, tool, world};
use super::world::{Loss, ToolOrder, When, World};
use crate::{Finished, child_id};

fn with_approval() -> mesh_types::agent::AgentSpec {
    let mut spec = spec();
    spec.tools[0].0.approval = mesh_types::agent::ApprovalRule::Always;
    spec
}

fn items(world: &World) -> Vec<WaitItem> {
    world.state().waits.last().expect("it waits").clone()
}

#[test]
fn a_person_is_asked_while_the_other_calls_run() {
    let world = world(
        with_approval(),
        vec![vec![("pay", json!({"n": 1})), ("look", json!({"n": 2}))]],
    );
    assert_eq!(world.run(), Finished::Waiting);
    let on = WaitOn::Approval { tool: "pay".into() };
    assert_eq!(items(&world), [WaitItem { step: 3, on }]);
    assert_eq!(world.state().called.len(), 1);
    let begun = world.journal().into_iter().find_map(|record| match record.fact {
        Fact::Begun(begun) if begun.kind == StepKind::Approval => Some(begun),
        _ => None,
    });
    let begun = begun.unwrap();
    assert_eq!(
        (begun.name.as_str(), &begun.input),
        ("pay", &json!({"tool": "pay", "arguments": {"n": 1}}))
    );
    world.let_it_happen();
    assert_eq!(world.run(), Finished::Ended(Outcome::Completed));
    let expected = [
        "1 context.messages context.messages",
        "2 model gpt-4",
        "3 approval pay",
        "4 tool look",
        "5 tool pay",
        "6 model gpt-4",
        "7 message.post message.post",
    ];
    assert_eq!(kinds(&world), expected);
    assert_eq!(told(&world), [r#"{"echo":{"n":1}}"#, r#"{"echo":{"n":2}}"#]);
}

#[test]
fn a_denied_call_does_not_run_and_the_model_reads_why() {
    let world = world(
        with_approval(),
        vec![vec![("pay", json!({})), ("pay", json!({"n": 2}))]],
    );
    world.state().orders.approvals = [false, true].into();
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    assert_eq!(world.state().effects.len(), 1);
    assert_eq!(told(&world), ["denied: because", r#"{"echo":{"n":2}}"#]);
}

#[test]
fn a_decision_that_came_with_the_wait_lets_it_go_on() {
    let world = world(with_approval(), vec![vec![("pay", json!({}))]]);
    // Appends: messages and begun model; its answer and the begun question with the wait.
    world.state().orders.news = vec![(
        1,
        About::Approval {
            step: 3,
            approved: true,
        },
    )];
    assert_eq!(world.run(), Finished::Ended(Outcome::Completed));
    assert_eq!(world.state().waits.len(), 0);
    assert_eq!(world.state().effects.len(), 1);
}

fn calling() -> mesh_types::agent::AgentSpec {
    let mut spec = spec();
    spec.tools = vec![tool(json!({"name": "ask", "kind": "agent", "agent": "max"}))];
    spec
}

#[test]
fn an_agent_that_is_called_is_waited_for_and_pays_for_itself() {
    let call = ("ask", json!({"text": "why?", "session": "s1"}));
    let world = world(calling(), vec![vec![call.clone(), call]]);
    assert_eq!(world.run(), Finished::Waiting);
    let child = |step| child_id(invocation(), step);
    let waits: Vec<_> = [3, 4]
        .map(|step| WaitItem {
            step,
            on: WaitOn::Child {
                invocation: child(step),
            },
        })
        .into();
    assert_eq!(items(&world), waits);
    let begun: Vec<_> = world
        .journal()
        .into_iter()
        .filter_map(|record| match record.fact {
            Fact::Begun(begun) if begun.kind == StepKind::Child => Some((begun.effect, begun.input)),
            _ => None,
        })
        .collect();
    let input = json!({"invocation": child(3), "agent": "max", "payload": {"text": "why?"}, "session": "s1"});
    assert_eq!(begun[0], (Effect::Idempotent, input));
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    assert_eq!(told(&world), ["done by the child", "done by the child"]);
    let end = world.state().ends[0].clone();
    assert_eq!((end.usage.input_tokens, end.usage.output_tokens), (14, 6));
    let step = world
        .steps()
        .into_iter()
        .find(|done| done.kind == StepKind::Child)
        .unwrap();
    assert_eq!(step.usage, Usage::default());
    assert_eq!(step.output.unwrap()["usage"]["input_tokens"], 1_000);
}

#[test]
fn a_child_that_failed_is_told_to_the_model() {
    let world = world(calling(), vec![vec![("ask", json!({"text": "why?"}))]]);
    assert_eq!(world.run(), Finished::Waiting);
    world.tell(About::Child {
        step: 3,
        invocation: child_id(invocation(), 3),
        outcome: Outcome::Failed,
        output: None,
        error: Some(Problem::new(Code::ModelRefused, "no")),
        usage: Usage::default(),
    });
    assert_eq!(world.run(), Finished::Ended(Outcome::Completed));
    assert!(
        told(&world)[0].starts_with("error: ") && told(&world)[0].contains("no"),
        "{:?}",
        told(&world)
    );
}

#[test]
fn calls_of_agents_are_bounded_in_breadth_and_depth() {
    let mut spec = calling();
    spec.limits.children = Some(2);
    let wide = world(spec, vec![vec![("ask", json!({"text": "x"})); 3]]);
    assert_eq!(wide.run_to_its_end(), Outcome::Completed);
    assert!(
        told(&wide)[2].contains("spec.limits.children of 2"),
        "{:?}",
        told(&wide)
    );

    let mut deep = world(calling(), vec![vec![("ask", json!({"text": "x"}))]]);
    deep.depth = 8;
    assert_eq!(deep.run_to_its_end(), Outcome::Completed);
    assert!(told(&deep)[0].contains("spec.limits.depth of 8"), "{:?}", told(&deep));
    assert_eq!(deep.state().waits.len(), 0);
}

fn sleeping() -> mesh_types::agent::AgentSpec {
    let mut spec = spec();
    spec.tools = vec![tool(json!("sleep")), tool(json!("wait_signal"))];
    spec
}

#[test]
fn an_hour_of_sleep_takes_nothing_of_its_time() {
    let world = world(sleeping(), vec![vec![("sleep", json!({"seconds": 3600}))]]);
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    assert_eq!(world.elapsed(), Duration::from_secs(3_600));
    assert_eq!(world.state().waits.len(), 1);
}

#[test]
fn signals_are_consumed_in_their_order_also_those_that_came_early() {
    let wait = |name: &str| ("wait_signal", json!({"name": name}));
    let world = world(sleeping(), vec![vec![wait("a"), wait("a"), wait("b")], vec![wait("a")]]);
    for (name, value) in [("a", 1), ("b", 2), ("a", 3)] {
        world.tell(About::Signal {
            name: name.into(),
            value: json!(value),
        });
    }
    assert_eq!(world.run(), Finished::Waiting, "there is no third a");
    let values = |world: &World| -> Vec<Value> {
        let mut steps = world.steps();
        steps.sort_by_key(|done| done.step);
        let signals = steps.into_iter().filter(|done| done.kind == StepKind::Signal);
        signals.map(|done| done.output.unwrap()["value"].clone()).collect()
    };
    assert_eq!(values(&world), [1, 3, 2]);
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    assert_eq!(values(&world), [1, 3, 2, 7]);
}

#[test]
fn a_signal_that_does_not_come_is_given_up() {
    let world = world(
        sleeping(),
        vec![vec![("wait_signal", json!({"name": "a", "timeout_seconds": 5}))]],
    );
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    assert_eq!(world.elapsed(), Duration::from_secs(5));
    assert!(told(&world)[0].contains(r#""timed_out":true"#));
}

/// Its worker was lost after the effect of `pay` and before its result was committed.
fn ambiguous(resolutions: Vec<Resolution>) -> World {
    let world = world(spec(), vec![vec![("pay", json!({})), ("look", json!({}))]]);
    world
        .state()
        .orders
        .tools
        .insert("pay", [ToolOrder::After(Duration::from_secs(1))].into());
    world.state().orders.losses = vec![Loss {
        append: 3,
        when: When::BeforeCommit,
    }];
    world.state().orders.resolutions = resolutions.into();
    world
}

#[test]
fn an_effect_in_flight_at_a_crash_is_never_repeated_by_itself() {
    let world = ambiguous(vec![]);
    assert_eq!(world.run(), Finished::Stale);
    assert_eq!(world.run(), Finished::Waiting);
    assert_eq!(
        items(&world),
        [WaitItem {
            step: 3,
            on: WaitOn::Ambiguous { name: "pay".into() }
        }]
    );
    assert_eq!(world.run(), Finished::Waiting, "whoever asks");
    let pays = world.state().called.iter().filter(|(name, _)| name == "pay").count();
    assert_eq!(pays, 1);
}

#[test]
fn a_person_settles_what_is_ambiguous() {
    let output = json!({"paid": true});
    let done = Resolution::Done {
        output: output.clone(),
        usage: Usage::default(),
    };
    let world = ambiguous(vec![done]);
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    assert_eq!(told(&world)[0], output.to_string());

    let error = Problem::new(Code::ToolFailed, "it did not arrive");
    let world = ambiguous(vec![Resolution::Failed { error }]);
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    assert!(told(&world)[0].contains("it did not arrive"));

    let world = ambiguous(vec![Resolution::RunAgain]);
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    let begun = world.journal().into_iter().filter_map(|record| match record.fact {
        Fact::Begun(begun) if begun.name == "pay" => Some(record.epoch),
        _ => None,
    });
    assert_eq!(
        begun.collect::<Vec<_>>(),
        [1, 3],
        "it begins again, under the epoch of who runs it"
    );
    assert_eq!(world.state().called.iter().filter(|(name, _)| name == "pay").count(), 2);
}

#[test]
fn messages_that_joined_before_the_start_are_asked_with_it() {
    let world = world(spec(), vec![]);
    for text in ["and this", "and that"] {
        let payload = json!({"text": text});
        world.tell(About::Merged {
            invocation: child_id(invocation(), 99),
            payload,
        });
    }
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    let asked = world.state().asked[0].clone();
    let texts: Vec<_> = asked
        .messages
        .iter()
        .map(|message| message.content.plain_text())
        .collect();
    assert_eq!(texts, ["go", "and this", "and that"]);
}

#[test]
fn a_pause_between_parallel_calls_waits_for_what_may_run_once() {
    let world = world(
        spec(),
        vec![vec![("pay", json!({})), ("look", json!({})), ("look", json!({"n": 2}))]],
    );
    let looks = [1, 60].map(|seconds| ToolOrder::After(Duration::from_secs(seconds)));
    world.state().orders.tools.insert("look", looks.into());
    let pays = [ToolOrder::After(Duration::from_secs(5))];
    world.state().orders.tools.insert("pay", pays.into());
    world.state().orders.stops = vec![3];
    assert_eq!(world.run(), Finished::Stopped);
    assert_eq!(world.elapsed(), Duration::from_secs(5));
    assert_eq!(world.state().effects.len(), 2);
}

#[test]
fn a_conflict_loses_no_result_of_an_effect_that_happened() {
    let calls = || vec![vec![("look", json!({})), ("pay", json!({}))]];
    let together = world(spec(), calls());
    together.state().orders.conflicts = vec![2];
    assert_eq!(together.run(), Finished::Ended(Outcome::Completed));
    assert_eq!(told(&together), ["late", r#"{"echo":{}}"#]);
    assert_eq!(together.state().called.len(), 2);

    // In flight when the worker turned back: nobody knows, though it began under the very epoch.
    let in_flight = world(spec(), calls());
    in_flight
        .state()
        .orders
        .tools
        .insert("pay", [ToolOrder::After(Duration::from_secs(9))].into());
    in_flight.state().orders.conflicts = vec![2];
    assert_eq!(in_flight.run(), Finished::Waiting);
    assert_eq!(
        items(&in_flight),
        [WaitItem {
            step: 4,
            on: WaitOn::Ambiguous { name: "pay".into() }
        }]
    );
    assert_eq!(in_flight.state().called.len(), 2);
}
