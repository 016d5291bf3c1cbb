//! Runtimes `script`, `cli` and `http`: one step, by the same journal.

use mesh_api::journal::{Effect, Outcome, StepKind};
use mesh_api::steering::Edit;
use mesh_types::agent::{AgentSpec, CliAgent, HttpAgent, Runtime, Script};
use mesh_types::tool::Effect as Declared;
use serde_json::json;

use super::world::{Loss, When, World};
use crate::{Finished, ForkEdit};

fn script(effect: Option<Declared>) -> AgentSpec {
    AgentSpec {
        runtime: Runtime::Script,
        script: Some(Script {
            command: vec!["count".into(), "--fast".into()],
            effect,
            timeout: None,
            memory: None,
        }),
        ..AgentSpec::default()
    }
}

fn cli() -> AgentSpec {
    AgentSpec {
        runtime: Runtime::Cli,
        instructions: "Be brief.".into(),
        cli: Some(CliAgent {
            driver: "codex".into(),
            executable: None,
            args: Vec::new(),
            timeout: None,
            memory: None,
        }),
        ..AgentSpec::default()
    }
}

#[test]
fn each_runtime_is_one_step_of_its_class_and_streams() {
    let http = AgentSpec {
        runtime: Runtime::Http,
        http: Some(HttpAgent {
            url: "https://me@agents.example:8443/ask?x=1".into(),
            effect: Some(Declared::Idempotent),
            timeout: None,
        }),
        ..AgentSpec::default()
    };
    let once = Effect::AtMostOnce;
    for (spec, name, effect, provider) in [
        (script(None), "count", once, None),
        (cli(), "codex", once, Some("codex")),
        (
            http,
            "agents.example:8443",
            Effect::Idempotent,
            Some("agents.example:8443"),
        ),
    ] {
        let world = World::new(spec, json!({"text": "why?"}));
        assert_eq!(world.run_to_its_end(), Outcome::Completed);
        let step = world.steps()[0].clone();
        assert_eq!(
            (step.kind, step.name.as_str(), step.effect),
            (StepKind::Tool, name, effect)
        );
        let state = world.state();
        let end = &state.ends[0];
        assert_eq!(
            (&end.output, end.provider.as_deref()),
            (&Some(json!({"text": "said aloud"})), provider)
        );
        let streamed: String = state.tokens.iter().map(|chunk| chunk.text.as_str()).collect();
        assert_eq!(streamed, "said aloud");
    }
}

#[test]
fn a_command_line_is_told_its_instructions() {
    let world = World::new(cli(), json!({"text": "why?"}));
    world.run_to_its_end();
    let begun = world.journal().into_iter().find_map(|record| match record.fact {
        mesh_api::journal::Fact::Begun(begun) => Some(begun.input),
        _ => None,
    });
    assert_eq!(begun, Some(json!({"arguments": {"text": "Be brief.\n\nwhy?"}})));
}

#[test]
fn one_that_was_lost_in_flight_is_ambiguous() {
    let world = World::new(script(None), json!({}));
    world.state().orders.losses = vec![Loss {
        append: 1,
        when: When::BeforeCommit,
    }];
    assert_eq!(world.run(), Finished::Stale);
    assert_eq!(world.run(), Finished::Waiting);
    assert_eq!(world.state().called.len(), 1);

    let world = World::new(script(Some(Declared::Idempotent)), json!({}));
    world.state().orders.losses = vec![Loss {
        append: 1,
        when: When::BeforeCommit,
    }];
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    let keys: Vec<_> = world.state().called.iter().map(|(_, key)| key.clone()).collect();
    assert_eq!((keys.len(), &keys[0]), (2, &keys[1]));
}

#[test]
fn a_fork_asks_before_it_calls_again() {
    let source = World::new(cli(), json!({"text": "why?"}));
    source.run_to_its_end();
    let fork_with = |edit: Edit| {
        let mut fork = World::new(cli(), json!({"text": "why?"}));
        fork.recording = source.journal();
        fork.fork = Some(ForkEdit { from_step: 1, edit });
        fork
    };
    let same = fork_with(Edit::default());
    assert_eq!(same.run_to_its_end(), Outcome::Completed);
    assert_eq!(same.state().called, []);
    let other = fork_with(Edit {
        instructions: Some("Be long.".into()),
        ..Edit::default()
    });
    other.state().orders.approvals = [false].into();
    assert_eq!(other.run_to_its_end(), Outcome::Failed);
    assert_eq!(other.state().ends[0].reason.as_deref(), Some("denied"));
    assert_eq!(other.state().called, []);
}

#[test]
fn one_that_does_not_say_what_to_call_fails_by_its_field() {
    let spec = AgentSpec {
        script: None,
        ..script(None)
    };
    let world = World::new(spec, json!({}));
    assert_eq!(world.run(), Finished::Ended(Outcome::Failed));
    assert_eq!(
        world.state().ends[0].error.as_ref().unwrap().field.as_deref(),
        Some("spec.script")
    );
}
