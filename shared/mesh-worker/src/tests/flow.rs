//! The `llm` loop step by step: what is recorded, what it does without, where it waits, and how it ends.

use std::fmt::Write;
use std::time::Duration;

use mesh_api::journal::{Done, Ended, Fact, Outcome, StepKind};
use mesh_api::messaging::AuthorKind;
use mesh_types::agent::{AgentSpec, Noop, Runtime};
use mesh_types::{Code, Problem};
use serde_json::{Value, json};

use super::time::{START, invocation};
use super::world::{Order, World};
use crate::{AppendError, Finished, memory_id, message_id, run_invocation};

fn in_channel() -> World {
    let mut spec = AgentSpec {
        instructions: "You are Sofia.".into(),
        ..AgentSpec::default()
    };
    spec.model.fallbacks = vec!["claude-sonnet".into(), "mock".into()];
    let world = World::new(spec, json!({"channel_id": "c1", "rewrite_prompt": "Answer briefly."}));
    world.says(AuthorKind::User, "ann", "hello");
    world
}

fn with_text() -> World {
    World::new(AgentSpec::default(), json!({"text": "hi"}))
}

fn step(world: &World, kind: StepKind) -> Done {
    world
        .steps()
        .into_iter()
        .find(|done| done.kind == kind)
        .expect("the step is recorded")
}

fn end(world: &World) -> Ended {
    world.state().ends[0].clone()
}

/// The journal as a person reads it.
fn story(world: &World) -> String {
    let mut story = String::new();
    let mut line = |text: String| writeln!(story, "{text}").unwrap();
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap();
    for record in world.journal() {
        let seq = record.seq;
        match record.fact {
            Fact::Begun(begun) => {
                line(format!(
                    "{seq} begun {} {} {}",
                    begun.step,
                    begun.kind.as_str(),
                    pretty(&begun.input)
                ));
            }
            Fact::Done(done) => {
                line(format!(
                    "{seq} done {} {} attempt {}",
                    done.step,
                    done.kind.as_str(),
                    done.attempt
                ));
                for (what, value) in [("input", &done.input), ("output", &done.output)] {
                    value
                        .iter()
                        .for_each(|value| line(format!("  {what} {}", pretty(value))));
                }
                done.error.iter().for_each(|error| line(format!("  error {error}")));
            }
            Fact::Ended(ended) => line(format!("{seq} ended {}", pretty(&serde_json::to_value(ended).unwrap()))),
            other => line(format!("{seq} {}", serde_json::to_value(other).unwrap()["record"])),
        }
    }
    story
}

#[test]
fn a_message_in_a_channel_is_answered_there() {
    let world = in_channel();
    assert_eq!(world.run(), Finished::Ended(Outcome::Completed));
    insta::assert_snapshot!(story(&world));
    let state = world.state();
    assert_eq!(state.channel[1].id, message_id(invocation(), 4));
    assert_eq!(state.memories[0].id, memory_id(invocation(), 5));
    assert_eq!(state.asked[0].fallbacks, ["claude-sonnet", "mock"]);
    assert_eq!(
        state.asked[0].idempotency_key.as_deref(),
        Some(format!("{}/3", invocation()).as_str())
    );
}

#[test]
fn noop_records_its_steps_and_nothing_else() {
    let mut spec = AgentSpec {
        runtime: Runtime::Noop,
        ..AgentSpec::default()
    };
    let world = World::new(spec.clone(), json!({"anything": 1}));
    assert_eq!(world.run(), Finished::Ended(Outcome::Completed));
    assert_eq!(world.appends(), 3, "one for each step, the end rides in the last");
    insta::assert_snapshot!(story(&world));

    spec.noop = Some(Noop { steps: 0 });
    let world = World::new(spec, json!({}));
    assert_eq!(world.run(), Finished::Ended(Outcome::Completed));
    assert_eq!((world.appends(), world.steps().len()), (1, 0));
}

#[test]
fn without_a_channel_nothing_is_read_from_one_or_posted() {
    let world = with_text();
    world.run();
    let kinds: Vec<_> = world.steps().iter().map(|done| done.kind).collect();
    assert_eq!(
        kinds,
        [StepKind::ContextMemories, StepKind::Model, StepKind::MemoryStore]
    );
    assert_eq!(end(&world).output, Some(json!({"text": "echo of hi"})));
}

#[test]
fn a_memory_slower_than_two_seconds_is_done_without() {
    let world = in_channel();
    world.state().orders.query = [Order::Hang].into();
    assert_eq!(world.run(), Finished::Ended(Outcome::Completed));
    assert_eq!(world.elapsed(), Duration::from_secs(2));
    let query = step(&world, StepKind::ContextMemories);
    assert_eq!(query.output, Some(json!({"memories": []})));
    assert!(query.error.unwrap().is(Code::Timeout));
    assert_eq!(world.state().channel.len(), 2);
}

#[test]
fn a_memory_that_fails_is_done_without_and_at_once() {
    let world = in_channel();
    world.state().orders.query = [Order::Fail(Code::Unavailable)].into();
    assert_eq!(world.run(), Finished::Ended(Outcome::Completed));
    assert_eq!(world.elapsed(), Duration::ZERO);
    assert!(
        step(&world, StepKind::ContextMemories)
            .error
            .unwrap()
            .is(Code::Unavailable)
    );
}

#[test]
fn a_failed_write_back_neither_fails_nor_repeats_the_reply() {
    for order in [Order::Hang, Order::Fail(Code::Unavailable), Order::Fail(Code::Internal)] {
        let world = in_channel();
        world.state().orders.store = vec![order; 99].into();
        assert_eq!(world.run(), Finished::Ended(Outcome::Completed));
        assert!(world.elapsed() <= Duration::from_secs(5));
        assert!(step(&world, StepKind::MemoryStore).error.is_some());
        let state = world.state();
        assert_eq!(
            (state.channel.len(), state.memories.len(), state.asked.len()),
            (2, 0, 1)
        );
    }
}

#[test]
fn a_write_back_past_the_deadline_does_not_fail_the_reply() {
    let mut world = in_channel();
    world.deadline = Some(START.plus(Duration::from_secs(3)));
    world.state().orders.query = [Order::Hang].into();
    world.state().orders.store = [Order::Hang].into();
    assert_eq!(world.run(), Finished::Ended(Outcome::Completed));
    assert_eq!(world.elapsed(), Duration::from_secs(3));
    assert!(
        step(&world, StepKind::MemoryStore)
            .error
            .unwrap()
            .is(Code::DeadlineExceeded)
    );
}

#[test]
fn a_model_that_fails_for_a_while_is_tried_again_and_the_tries_are_counted() {
    let world = with_text();
    world.state().orders.model = [Order::Fail(Code::ModelFailed), Order::Fail(Code::Timeout)].into();
    assert_eq!(world.run(), Finished::Ended(Outcome::Completed));
    assert_eq!(step(&world, StepKind::Model).attempt, 3);
    let tokens = world.state().tokens.clone();
    assert_eq!(tokens.len(), 1);
    assert_eq!(
        (tokens[0].attempt, tokens[0].offset, tokens[0].step, tokens[0].epoch),
        (3, 0, 2, 1)
    );
}

#[test]
fn a_model_that_fails_for_good_ends_the_invocation_with_its_own_words() {
    let cases = [
        (Code::ModelFailed, 3, Outcome::Dead, "retries_exhausted"),
        (Code::ModelRefused, 1, Outcome::Failed, "model_refused"),
    ];
    for (code, calls, outcome, reason) in cases {
        let world = in_channel();
        world.state().orders.model = vec![Order::Fail(code); 9].into();
        assert_eq!(world.run(), Finished::Ended(outcome));
        assert_eq!(world.state().asked.len(), calls);
        assert_eq!(end(&world).reason.as_deref(), Some(reason));
        assert!(end(&world).error.unwrap().is(code));
        assert!(step(&world, StepKind::Model).error.unwrap().is(code));
        assert_eq!(world.state().channel.len(), 1);
    }
}

#[test]
fn a_service_that_is_not_there_is_waited_for_and_counts_no_try() {
    let world = in_channel();
    world.state().orders.history = vec![Order::Fail(Code::Unavailable); 8].into();
    world.state().orders.model = vec![Order::Fail(Code::Unavailable); 8].into();
    assert_eq!(world.run(), Finished::Ended(Outcome::Completed));
    assert_eq!(step(&world, StepKind::ContextMessages).attempt, 1);
    assert_eq!(step(&world, StepKind::Model).attempt, 1);
    assert!(world.elapsed() > Duration::from_secs(10));
}

#[test]
fn a_history_that_cannot_be_read_fails_the_invocation() {
    let world = in_channel();
    world.state().orders.history = [Order::Fail(Code::ChannelNotFound)].into();
    assert_eq!(world.run(), Finished::Ended(Outcome::Failed));
    assert_eq!(end(&world).reason.as_deref(), Some("channel_not_found"));
    assert_eq!(world.state().asked.len(), 0);
}

#[test]
fn a_run_longer_than_its_timeout_ends_and_says_which_limit() {
    let world = in_channel();
    world.state().orders.post = vec![Order::Fail(Code::Unavailable); 999].into();
    assert_eq!(world.run(), Finished::Ended(Outcome::Failed));
    assert_eq!(world.elapsed(), Duration::from_secs(120));
    let Ended {
        reason, error, usage, ..
    } = end(&world);
    assert_eq!(reason.as_deref(), Some("deadline_exceeded"));
    assert_eq!(usage.input_tokens, 7, "what it cost until then counts");
    let error = error.unwrap();
    assert_eq!(error.field.as_deref(), Some("spec.limits.timeout"));
    insta::assert_snapshot!(error.detail, @"spec.limits.timeout of 120s is used up; the last try failed: A service is not available: as ordered");
}

#[test]
fn a_deadline_of_the_request_ends_it_too() {
    let mut world = with_text();
    world.deadline = Some(START.plus(Duration::from_secs(1)));
    world.state().orders.model = [Order::Hang].into();
    assert_eq!(world.run(), Finished::Ended(Outcome::Failed));
    assert_eq!(world.elapsed(), Duration::from_secs(1));
    let error = end(&world).error.unwrap();
    assert_eq!(error.field.as_deref(), Some("deadline_ms"));
    assert!(error.is(Code::DeadlineExceeded));
}

#[test]
fn a_cancelled_run_stops_before_its_next_effect() {
    let world = with_text();
    world.cancel.cancel();
    assert_eq!(world.run(), Finished::Stopped);
    assert_eq!(world.state().ran, []);
    assert_eq!(world.appends(), 0);

    let world = with_text();
    world.state().orders.append = [AppendError::Cancelled {
        reason: "enough".into(),
    }]
    .into();
    assert_eq!(world.run(), Finished::Stopped);
    assert_eq!(world.state().ran, [StepKind::ContextMemories]);
}

#[test]
fn a_stale_worker_stops_at_once() {
    let world = with_text();
    world.state().orders.append = [AppendError::Stale].into();
    assert_eq!(world.run(), Finished::Stale);
    assert_eq!(world.state().ran, [StepKind::ContextMemories]);
    assert_eq!(world.appends(), 1);
}

#[test]
fn after_a_conflict_it_goes_on_from_the_record() {
    let other = with_text();
    other.run();
    let mut committed = other.journal();
    committed.truncate(committed.len() - 2); // until the write-back has begun
    let world = with_text();
    world.state().orders.append = [AppendError::Conflict { committed }].into();
    assert_eq!(world.run(), Finished::Ended(Outcome::Completed));
    assert_eq!(
        world.state().asked.len(),
        0,
        "the model's answer was read from the record"
    );
}

#[test]
fn a_conflict_without_news_does_not_go_round_for_ever() {
    let world = with_text();
    let conflict = AppendError::Conflict {
        committed: world.journal(),
    };
    world.state().orders.append = vec![conflict; 9].into();
    assert_eq!(world.run(), Finished::Stale);
}

#[test]
fn a_refused_record_ends_the_invocation_with_that_reason() {
    let refused = || AppendError::Refused(Box::new(Problem::new(Code::RecordRefused, "no")));
    let world = with_text();
    world.state().orders.append = [refused()].into();
    assert_eq!(world.run(), Finished::Ended(Outcome::Failed));
    assert_eq!(end(&world).reason.as_deref(), Some("record_refused"));

    let again = with_text();
    again.state().orders.append = [refused(), refused()].into();
    assert!(matches!(again.run(), Finished::Refused(problem) if problem.is(Code::RecordRefused)));
}

#[test]
fn a_payload_that_makes_no_sense_fails_with_its_field() {
    let world = World::new(AgentSpec::default(), json!({"text": 7}));
    assert_eq!(world.run(), Finished::Ended(Outcome::Failed));
    assert_eq!(end(&world).error.unwrap().field.as_deref(), Some("payload.text"));
}

#[test]
fn a_runtime_of_another_worker_is_refused_by_name() {
    let world = World::new(
        AgentSpec {
            runtime: Runtime::Wasm,
            ..AgentSpec::default()
        },
        json!({}),
    );
    assert_eq!(world.run(), Finished::Ended(Outcome::Failed));
    assert_eq!(end(&world).reason.as_deref(), Some("runtime_not_available"));
}

#[test]
fn the_run_can_be_sent_to_another_thread() {
    fn is_send<T: Send>(_: &T) {}
    fn check<E: crate::Effects>(effects: &E, grant: crate::Grant) {
        is_send(&run_invocation(
            grant,
            effects,
            tokio_util::sync::CancellationToken::new(),
        ));
    }
    let _ = check::<super::hands::Hands<'_>>;
}

#[test]
fn the_run_of_one_step_after_the_other_stays_small() {
    fn size<E: crate::Effects>(effects: &E, grant: crate::Grant) -> usize {
        size_of_val(&run_invocation(
            grant,
            effects,
            tokio_util::sync::CancellationToken::new(),
        ))
    }
    let world = with_text();
    let size = world.with_grant(|effects, grant| size(effects, grant));
    assert!(size < 8 * 1024, "{size} bytes are moved with each claim");
}
