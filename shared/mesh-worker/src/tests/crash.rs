//! A worker is lost at any append, before or after its commit: every recorded step ran once, and there is one end.

use mesh_api::journal::{Done, Outcome, StepKind};
use mesh_api::messaging::AuthorKind;
use mesh_types::agent::{AgentSpec, Runtime};
use mesh_types::{Code, Timestamp};
use serde_json::json;

use super::time::START;
use super::world::{Loss, Order, When, World};

/// What must be the same however often workers were lost.
fn essence(done: &Done) -> Done {
    Done {
        started_at: START,
        ended_at: START,
        attempt: 1,
        ..done.clone()
    }
}

/// Loses a worker at every append, and two workers at every pair of appends.
fn survives_every_loss(build: impl Fn() -> World) {
    let clean = build();
    let outcome = clean.run_to_its_end();
    let expected: Vec<_> = clean.steps().iter().map(essence).collect();
    let end = clean.state().ends[0].clone();
    let losses = |range: std::ops::Range<usize>| {
        range.flat_map(|append| [When::BeforeCommit, When::AfterCommit].map(|when| Loss { append, when }))
    };
    for first in losses(0..clean.appends()) {
        for second in losses(first.append..clean.appends() + 2) {
            let world = build();
            world.state().orders.losses = vec![first, second];
            assert_eq!(world.run_to_its_end(), outcome, "{first:?} {second:?}");
            let steps: Vec<_> = world.steps().iter().map(essence).collect();
            assert_eq!(steps, expected, "{first:?} {second:?}");
            let state = world.state();
            assert_eq!(state.ends, std::slice::from_ref(&end), "{first:?} {second:?}");
            let posts = state
                .channel
                .iter()
                .filter(|message| message.author.kind == AuthorKind::Agent);
            assert!(posts.count() <= 1);
            assert!(state.memories.len() <= 1);
            // A step runs again only if its worker was lost between its effect and its record.
            let reruns = state.ran.len() - clean.state().ran.len();
            assert!(reruns <= 2, "{first:?} {second:?}: {:?}", state.ran);
            let lost_before = [first, second]
                .iter()
                .filter(|loss| loss.when == When::BeforeCommit)
                .count();
            assert!(reruns <= lost_before, "{first:?} {second:?}: {:?}", state.ran);
        }
    }
}

#[test]
fn a_reply_in_a_channel_survives_every_loss() {
    survives_every_loss(|| {
        let world = World::new(AgentSpec::default(), json!({"channel_id": "c1"}));
        world.says(AuthorKind::User, "ann", "hello 0.1");
        world
    });
}

#[test]
fn an_answer_without_a_channel_survives_every_loss() {
    survives_every_loss(|| World::new(AgentSpec::default(), json!({"text": "hi", "x": 0.1})));
}

#[test]
fn a_call_of_the_model_alone_survives_every_loss() {
    survives_every_loss(|| {
        let mut spec = AgentSpec::default();
        spec.memory.query_top_k = 0;
        spec.memory.writeback = false;
        World::new(spec, json!({"n": 1.234_567_890_123_456_7e-5}))
    });
}

#[test]
fn noop_survives_every_loss() {
    survives_every_loss(|| {
        World::new(
            AgentSpec {
                runtime: Runtime::Noop,
                ..AgentSpec::default()
            },
            json!({}),
        )
    });
}

#[test]
fn a_failed_model_survives_every_loss() {
    survives_every_loss(|| {
        let world = World::new(AgentSpec::default(), json!({"text": "hi"}));
        world.state().orders.model = vec![Order::Fail(Code::ModelRefused); 9].into();
        world
    });
}

#[test]
fn a_passed_deadline_survives_every_loss() {
    survives_every_loss(|| {
        let mut world = World::new(AgentSpec::default(), json!({"text": "hi"}));
        world.deadline = Some(Timestamp::EPOCH);
        world
    });
}

#[test]
fn the_model_is_called_once_more_only_if_its_answer_was_not_recorded() {
    let run = |when| {
        let world = World::new(AgentSpec::default(), json!({"channel_id": "c1", "text": "hi"}));
        // Appends: messages; memories and the begun model; the model's answer and the begun post; …
        world.state().orders.losses = vec![Loss { append: 2, when }];
        assert_eq!(world.run_to_its_end(), Outcome::Completed);
        let calls = world
            .state()
            .ran
            .iter()
            .filter(|kind| **kind == StepKind::Model)
            .count();
        let keys: Vec<_> = world
            .state()
            .asked
            .iter()
            .map(|asked| asked.idempotency_key.clone())
            .collect();
        assert!(keys.windows(2).all(|pair| pair[0] == pair[1]), "{keys:?}");
        calls
    };
    assert_eq!(run(When::BeforeCommit), 2);
    assert_eq!(run(When::AfterCommit), 1);
}
