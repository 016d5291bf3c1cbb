//! Forks: what is read, what is replaced, what is answered from the recording, and when a person is asked.

use mesh_api::inference::{PromptMessage, Role};
use mesh_api::journal::{Outcome, Record, StepKind, WaitOn};
use mesh_api::steering::{Edit, Fate};
use mesh_types::Code;
use serde_json::{Value, json};

use super::tools::{kinds, spec, told, world};
use super::world::{Script, World};
use crate::{Finished, ForkEdit, compare, expand_prompts, plan_fork};

fn script() -> Script {
    vec![
        vec![("pay", json!({"n": 1})), ("look", json!({"n": 2}))],
        vec![("read", json!({"n": 3}))],
    ]
}

/// Steps: 1 messages, 2 model, 3 pay and 4 look, 5 model, 6 read, 7 model, 8 post.
fn source() -> World {
    let world = world(spec(), script());
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    world
}

fn step_of(record: &Record) -> Option<u32> {
    match &record.fact {
        mesh_api::journal::Fact::Begun(begun) => Some(begun.step),
        mesh_api::journal::Fact::Done(done) => Some(done.step),
        _ => None,
    }
}

fn fork(source: &World, from_step: u32, edit: Edit, script: Script) -> World {
    let mut fork = world(spec(), script);
    let (before, after) = source
        .journal()
        .into_iter()
        .filter(|record| step_of(record).is_some())
        .partition(|record| step_of(record).unwrap() < from_step);
    fork.inherited = before;
    fork.recording = after;
    fork.fork = Some(ForkEdit { from_step, edit });
    fork
}

/// Steps of source and fork together, as readers see them.
fn whole(fork: &World) -> Vec<Record> {
    let mut records = fork.inherited.clone();
    records.extend(fork.journal());
    records
}

#[test]
fn the_steps_before_a_fork_are_read_and_never_run() {
    let source = source();
    let fork = fork(&source, 5, Edit::default(), script());
    assert_eq!(fork.run_to_its_end(), Outcome::Completed);
    assert_eq!(fork.state().called.len(), 1, "only `read`, behind the fork");
    assert_eq!(fork.state().asked.len(), 2);
    assert_eq!(kinds(&fork), &kinds(&source)[4..]);
    assert_eq!(fork.state().ends[0].output, source.state().ends[0].output);
    assert_eq!(expand_prompts(&whole(&fork)), expand_prompts(&source.journal()));
    let differences = compare(&source.journal(), &whole(&fork));
    assert_eq!(differences.len(), 8);
    assert!(
        differences.iter().all(|step| step.differs.is_empty()),
        "{differences:#?}"
    );
}

#[test]
fn other_instructions_and_another_model_hold_from_the_fork_on() {
    let edit = Edit {
        instructions: Some("Be brief.".into()),
        model: Some("small".into()),
        ..Edit::default()
    };
    let source = source();
    let fork = fork(&source, 5, edit, script());
    assert_eq!(fork.run_to_its_end(), Outcome::Completed);
    let asked = fork.state().asked[0].clone();
    assert_eq!(
        (asked.model.as_str(), asked.messages[0].content.plain_text().as_str()),
        ("small", "Be brief.")
    );
    assert_eq!(
        asked
            .messages
            .iter()
            .filter(|message| message.role == Role::Tool)
            .count(),
        2
    );
    // What was recorded in full against the source's prompt expands to what the model was asked.
    assert_eq!(expand_prompts(&whole(&fork))[&5], asked.messages);
    let differs: Vec<_> = compare(&source.journal(), &whole(&fork))
        .into_iter()
        .filter(|step| !step.differs.is_empty())
        .collect();
    assert_eq!(
        (differs[0].step, differs[0].differs.as_slice()),
        (5, ["name".to_owned(), "input".to_owned()].as_slice())
    );
}

#[test]
fn an_edited_prompt_is_asked_and_stays_in_later_ones() {
    let edit = Edit {
        prompt: Some(vec![PromptMessage::new(Role::User, "something else")]),
        ..Edit::default()
    };
    let fork = fork(&source(), 2, edit, script());
    fork.state().orders.script = vec![vec![("read", json!({"n": 9}))]];
    assert_eq!(fork.run_to_its_end(), Outcome::Completed);
    let asked = fork.state().asked.clone();
    assert_eq!(asked[0].messages, [PromptMessage::new(Role::User, "something else")]);
    assert_eq!(
        (asked[1].messages.len(), &asked[1].messages[0]),
        (3, &asked[0].messages[0])
    );
}

#[test]
fn an_edited_result_is_recorded_and_nothing_runs_for_it() {
    let edit = Edit {
        output: Some(json!("there is nothing")),
        ..Edit::default()
    };
    let fork_of_tool = fork(&source(), 4, edit, script());
    assert_eq!(fork_of_tool.run_to_its_end(), Outcome::Completed);
    assert_eq!(told(&fork_of_tool)[1], "there is nothing");
    assert_eq!(fork_of_tool.state().called.len(), 1);

    let edit = Edit {
        output: Some(json!({"text": "I know it already"})),
        ..Edit::default()
    };
    let fork_of_model = fork(&source(), 2, edit, script());
    assert_eq!(fork_of_model.run_to_its_end(), Outcome::Completed);
    assert_eq!(fork_of_model.state().asked.len(), 0);
    assert_eq!(
        fork_of_model.state().ends[0].output,
        Some(json!({"text": "I know it already"}))
    );
}

#[test]
fn a_call_that_may_happen_once_is_answered_from_the_recording() {
    let fork = fork(&source(), 2, Edit::default(), script());
    assert_eq!(fork.run_to_its_end(), Outcome::Completed);
    let called: Vec<_> = fork.state().called.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(called, ["look", "read"]);
    assert_eq!(told(&fork)[0], r#"{"echo":{"n":1}}"#);
    assert_eq!(fork.state().waits.len(), 0);
}

#[test]
fn each_recorded_effect_answers_one_call() {
    let source = world(spec(), vec![vec![("pay", json!({})), ("pay", json!({}))]]);
    source.run_to_its_end();
    let fork = fork(&source, 2, Edit::default(), vec![vec![("pay", json!({})); 3]]);
    assert_eq!(fork.run(), Finished::Waiting);
    assert_eq!(fork.state().waits[0].len(), 1);
    assert_eq!(fork.state().called, []);
}

#[test]
fn for_another_call_a_person_is_asked() {
    let fork = fork(&source(), 2, Edit::default(), vec![vec![("pay", json!({"n": 99}))]]);
    assert_eq!(fork.run(), Finished::Waiting);
    assert_eq!(fork.state().waits[0][0].on, WaitOn::Approval { tool: "pay".into() });
    assert_eq!(fork.run_to_its_end(), Outcome::Completed);
    assert_eq!(fork.state().called.len(), 1);
    assert_eq!(kinds(&fork)[1], "3 approval pay");
    // A fork of that fork reads the question as it was recorded.
    let mut again = world(spec(), vec![vec![("pay", json!({"n": 99}))]]);
    again.inherited = whole(&fork)
        .into_iter()
        .filter(|record| step_of(record).is_some_and(|step| step < 5))
        .collect();
    again.fork = Some(ForkEdit {
        from_step: 5,
        edit: Edit::default(),
    });
    assert_eq!(again.run_to_its_end(), Outcome::Completed);
    assert_eq!(again.state().called, []);
}

#[test]
fn a_dry_run_says_what_becomes_of_each_step() {
    let journal = source().journal();
    let fates = |from_step, edit: &Edit| -> Vec<Fate> {
        let steps = plan_fork(&journal, from_step, edit).unwrap();
        steps.iter().map(|step| step.fate).collect()
    };
    use Fate::{Asked, Read, Replaced, Run};
    assert_eq!(fates(1, &Edit::default()), [Run, Run, Asked, Run, Run, Run, Run, Run]);
    let edit = Edit {
        output: Some(json!(1)),
        ..Edit::default()
    };
    assert_eq!(fates(4, &edit), [Read, Read, Read, Replaced, Run, Run, Run, Run]);
    assert_eq!(fates(9, &Edit::default()), [Read; 8]);
}

#[test]
fn a_fork_that_makes_no_sense_names_its_field() {
    let journal = source().journal();
    let prompt = Some(vec![PromptMessage::new(Role::User, "x")]);
    let model_output = Edit {
        output: Some(json!({"nothing": 1})),
        ..Edit::default()
    };
    for (from_step, edit, field) in [
        (0, Edit::default(), "from_step"),
        (10, Edit::default(), "from_step"),
        (
            3,
            Edit {
                prompt: prompt.clone(),
                ..Edit::default()
            },
            "edit.prompt",
        ),
        (
            2,
            Edit {
                prompt,
                output: Some(Value::Null),
                ..Edit::default()
            },
            "edit.output",
        ),
        (
            9,
            Edit {
                output: Some(Value::Null),
                ..Edit::default()
            },
            "edit.output",
        ),
        (2, model_output, "edit.output"),
        (
            2,
            Edit {
                model: Some(" ".into()),
                ..Edit::default()
            },
            "edit.model",
        ),
    ] {
        let problem = plan_fork(&journal, from_step, &edit).unwrap_err();
        assert!(problem.is(Code::InvalidRequest));
        assert_eq!(problem.field.as_deref(), Some(field), "{problem:?}");
    }
    let open: Vec<_> = journal
        .into_iter()
        .take_while(|record| step_of(record) != Some(3))
        .collect();
    assert!(plan_fork(&open, 4, &Edit::default()).is_err());
    let is_model = |step: &mesh_api::steering::ForkStep| step.kind == StepKind::Model;
    assert_eq!(
        plan_fork(&open, 3, &Edit::default())
            .unwrap()
            .iter()
            .filter(|step| is_model(step))
            .count(),
        1
    );
}
