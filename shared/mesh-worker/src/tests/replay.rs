//! The plan from every prefix of a journal is what the journal says came next, whatever had happened.

use mesh_api::journal::{Begun, Fact, Outcome, Record};
use mesh_api::messaging::AuthorKind;
use mesh_types::Code;
use mesh_types::agent::{AgentSpec, Noop, Runtime};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::time::{START, agent, invocation};
use super::world::{Loss, Order, Orders, When, World};
use crate::{Action, StepPlan, Steps, Task, Todo, next};

fn plan(world: &World, journal: &[Record]) -> Action {
    next(
        journal,
        Task {
            invocation: invocation(),
            agent: &agent(),
            spec: &world.spec,
            input: &world.input,
            depth: 0,
        },
        START,
    )
}

/// The one step that is next.
fn step(action: Action) -> StepPlan {
    match action {
        Action::Run(Steps::One(step)) => step,
        other => panic!("{other:?}"),
    }
}

/// Every record that a plan decided is the plan of the records before it.
fn replays(world: &World) {
    let journal = world.journal();
    for (at, record) in journal.iter().enumerate() {
        let before = plan(world, &journal[..at]);
        assert_eq!(before, plan(world, &journal[..at]), "the same journal has two plans");
        match (&record.fact, before) {
            (
                Fact::Begun(Begun {
                    step,
                    kind,
                    name,
                    effect,
                    input,
                }),
                Action::Run(Steps::One(plan)),
            ) => {
                assert_eq!((plan.step, plan.kind, plan.effect), (*step, *kind, *effect));
                assert_eq!((plan.name.as_ref(), &plan.input), (name.as_str(), input));
            }
            (Fact::Done(done), Action::Run(Steps::One(plan))) => {
                assert_eq!((plan.step, plan.kind, plan.effect), (done.step, done.kind, done.effect));
                match &done.input {
                    Some(input) => assert_eq!(plan.input, *input),
                    None => assert!(plan.begun),
                }
            }
            (Fact::Ended(ended), Action::End(planned)) => assert_eq!(planned, *ended),
            (Fact::Accepted(_) | Fact::Claimed(_), _) => {}
            (fact, plan) => panic!("{fact:?} where the plan was {plan:?}"),
        }
    }
    assert_eq!(plan(world, &journal), Action::Over(world.state().ends[0].outcome));
}

fn payloads() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[ -~]{0,20}".prop_map(|text| json!({"text": text})),
        any::<f64>().prop_map(|number| json!({"number": number})),
        Just(json!({"channel_id": "c1"})),
        "[ -~é]{0,20}".prop_map(|text| json!({"channel_id": "c1", "text": text, "message_id": "m0"})),
        Just(json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]})),
        Just(json!({"text": 7})),
        Just(Value::Null),
    ]
}

prop_compose! {
    fn specs()(
        noop in prop::option::weighted(0.2, 0_u32..5),
        history in 0_u32..3,
        query_top_k in 0_u32..3,
        writeback: bool,
        timeout in prop_oneof![Just(1_u64), Just(5_000), Just(120_000)],
        attempts in 1_u32..4,
    ) -> AgentSpec {
        let mut spec = AgentSpec { instructions: "Be kind.".into(), ..AgentSpec::default() };
        if let Some(steps) = noop {
            spec.runtime = Runtime::Noop;
            spec.noop = Some(Noop { steps });
        }
        spec.context.history = history;
        spec.memory.query_top_k = query_top_k;
        spec.memory.writeback = writeback;
        spec.limits.timeout = format!("{timeout}ms").parse().unwrap();
        spec.retry.attempts = attempts;
        spec
    }
}

fn queue() -> impl Strategy<Value = Vec<Order>> {
    let order = prop_oneof![
        4 => Just(Order::Answer),
        1 => Just(Order::Hang),
        1 => Just(Order::Fail(Code::Unavailable)),
        1 => Just(Order::Fail(Code::ModelFailed)),
        1 => Just(Order::Fail(Code::InvalidRequest)),
    ];
    prop::collection::vec(order, 0..4)
}

prop_compose! {
    fn orders()(
        history in queue(), query in queue(), model in queue(), post in queue(), store in queue(),
        losses in prop::collection::vec((0_usize..9, any::<bool>()), 0..4),
    ) -> Orders {
        let loss = |(append, before)| {
            Loss { append, when: if before { When::BeforeCommit } else { When::AfterCommit } }
        };
        Orders {
            history: history.into(),
            query: query.into(),
            model: model.into(),
            post: post.into(),
            store: store.into(),
            losses: losses.into_iter().map(loss).collect(),
            ..Orders::default()
        }
    }
}

proptest! {
    #[test]
    fn every_prefix_of_a_journal_has_the_plan_that_followed(
        spec in specs(), payload in payloads(), orders in orders(), spoken in 0_usize..4,
    ) {
        let world = World::new(spec, payload);
        for number in 0..spoken {
            world.says(AuthorKind::User, "ann", &format!("message {number}"));
        }
        world.state().orders = orders;
        world.run_to_its_end();
        prop_assert_eq!(world.state().ends.len(), 1);
        replays(&world);
    }
}

fn answered() -> (World, Vec<Record>) {
    let world = World::new(AgentSpec::default(), json!({"text": "hi"}));
    world.run_to_its_end();
    let journal = world.journal();
    (world, journal)
}

fn begun(record: &mut Record) -> &mut Begun {
    match &mut record.fact {
        Fact::Begun(begun) => begun,
        other => panic!("{other:?}"),
    }
}

/// Where the model has begun and nothing after it.
fn until_the_model_has_begun(journal: Vec<Record>) -> Vec<Record> {
    let at = journal
        .iter()
        .position(|record| matches!(record.fact, Fact::Begun(_)))
        .unwrap();
    journal.into_iter().take(at + 1).collect()
}

#[test]
fn another_input_than_the_recorded_one_has_diverged() {
    let (world, journal) = answered();
    let mut journal = until_the_model_has_begun(journal);
    begun(journal.last_mut().unwrap()).input["temperature"] = json!(0.1);
    let Action::End(ended) = plan(&world, &journal) else {
        panic!("it goes on")
    };
    assert_eq!(
        (ended.outcome, ended.reason.as_deref()),
        (Outcome::Failed, Some("diverged"))
    );
    assert!(ended.error.unwrap().detail.contains("step 2 model"));
}

#[test]
fn a_step_of_another_kind_than_the_recorded_one_has_diverged() {
    let (mut world, journal) = answered();
    std::sync::Arc::make_mut(&mut world.spec).memory.query_top_k = 0;
    let Action::End(ended) = plan(&world, &journal) else {
        panic!("it goes on")
    };
    assert_eq!(ended.reason.as_deref(), Some("diverged"));
}

#[test]
fn an_idempotent_step_that_has_begun_runs_again() {
    let (world, journal) = answered();
    let journal = until_the_model_has_begun(journal);
    let step = step(plan(&world, &journal));
    assert!(step.begun && !step.wants_begun() && step.todo == Todo::Effect);
}
