//! Whose memories an invocation finds and leaves, the tools on them, and what earlier versions recorded.

use mesh_api::journal::{Fact, Outcome, Record, StepKind};
use mesh_api::memory::{MemoryType, Scope};
use mesh_types::agent::AgentSpec;
use serde_json::{Value, json};

use super::time::{agent, invocation};
use super::tools::{told, tool};
use super::world::World;
use crate::{Finished, Task, expand_prompts, replay};

fn knowing() -> AgentSpec {
    let mut spec = AgentSpec::default();
    spec.memory.knowledge = vec!["handbook".parse().unwrap()];
    spec
}

/// Of session `s1`, with ann.
fn world(spec: AgentSpec) -> World {
    let mut world = World::new(spec, json!({"text": "Is my train late?"}));
    world.input.session = Some("s1".into());
    world.input.context.insert("user".into(), json!("ann"));
    world
}

fn inputs(world: &World, kind: StepKind) -> Vec<Value> {
    let input = |record: Record| match record.fact {
        Fact::Begun(begun) if begun.kind == kind => Some(begun.input),
        Fact::Done(done) if done.kind == kind => done.input,
        _ => None,
    };
    world.journal().into_iter().filter_map(input).collect()
}

fn replayed(world: &World, journal: &[Record]) -> Vec<(u32, String)> {
    let task = Task {
        invocation: invocation(),
        agent: &agent(),
        spec: &world.spec,
        input: &world.input,
        depth: 0,
    };
    let found = replay(journal, &[], task);
    found.into_iter().map(|found| (found.step, found.because)).collect()
}

fn write(world: &World, journal: &[Record]) {
    world.state().journal = journal
        .iter()
        .map(|record| serde_json::to_string(record).unwrap())
        .collect();
}

#[test]
fn it_recalls_and_writes_back_as_its_session_and_user_with_its_knowledge() {
    let world = world(knowing());
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    let query = world.state().queries[0].clone();
    assert_eq!(
        (query.filters.session.as_deref(), query.filters.user.as_deref()),
        (Some("s1"), Some("ann"))
    );
    assert_eq!((query.k, query.knowledge[0].as_str()), (5, "handbook"));
    let stored = world.state().stored[0].clone();
    assert_eq!((stored.scope, stored.kind), (Scope::Agent, MemoryType::Episodic));
    assert_eq!(
        (stored.session.as_deref(), stored.user.as_deref()),
        (Some("s1"), Some("ann"))
    );
    let steps = world.steps();
    let recorded = steps[0].output.clone().unwrap();
    assert_eq!(
        recorded["knowledge"][0]["citation"]["name"], "handbook.md",
        "{recorded}"
    );
    let asked = world.state().asked[0].clone();
    let system = asked.messages[0].content.plain_text();
    assert!(
        system.contains("[handbook.md › Refunds › Late trains]\nLate trains are refunded."),
        "{system}"
    );
    assert!(system.contains("- fact 1 about Is my train late?"), "{system}");
    assert_eq!(asked.metadata["passages"], 1);
    assert_eq!(replayed(&world, &world.journal()), []);
}

#[test]
fn the_user_of_the_context_comes_before_the_one_of_the_metadata() {
    for (context, metadata, user) in [
        (json!("ann"), json!("bob"), Some("ann")),
        (Value::Null, json!("bob"), Some("bob")),
        (json!(7), json!(""), None),
        (json!("x".repeat(257)), Value::Null, None),
    ] {
        let mut world = World::new(AgentSpec::default(), json!({"text": "hi"}));
        world.input.context.insert("user".into(), context);
        world.input.metadata.insert("user".into(), metadata);
        world.run_to_its_end();
        assert_eq!(world.state().queries[0].filters.user.as_deref(), user);
    }
}

#[test]
fn an_agent_without_recall_still_reads_its_documents() {
    let mut spec = knowing();
    spec.memory.query_top_k = 0;
    let world = world(spec);
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    let system = world.state().asked[0].messages[0].content.plain_text();
    assert!(
        system.contains("Late trains are refunded.") && !system.contains("fact 1"),
        "{system}"
    );
    assert_eq!(replayed(&world, &world.journal()), []);
}

/// As versions before sessions, users and passages wrote it.
fn as_before(journal: Vec<Record>) -> Vec<Record> {
    let older = |input: &mut Value| {
        let input = input.as_object_mut().unwrap();
        input.remove("session");
        input.remove("user");
    };
    let older = |mut record: Record| {
        match &mut record.fact {
            Fact::Begun(begun) => older(&mut begun.input),
            Fact::Done(done) => done.input.iter_mut().for_each(older),
            _ => {}
        }
        record
    };
    journal.into_iter().map(older).collect()
}

#[test]
fn what_an_earlier_version_recorded_of_memories_replays_and_goes_on_as_recorded() {
    let whole = world(AgentSpec::default());
    whole.run_to_its_end();
    assert!(inputs(&whole, StepKind::MemoryStore)[0].get("user").is_some());
    let journal = as_before(whole.journal());
    assert_eq!(replayed(&whole, &journal), []);

    // Lost after the write-back has begun: the same memory is stored again, not another one under its id.
    let begun = |record: &Record| matches!(&record.fact, Fact::Begun(begun) if begun.kind == StepKind::MemoryStore);
    let end = journal.iter().position(begun).unwrap() + 1;
    let lost = world(AgentSpec::default());
    write(&lost, &journal[..end]);
    assert_eq!(lost.run_to_its_end(), Outcome::Completed);
    let stored = lost.state().stored[0].clone();
    assert_eq!((stored.session, stored.user), (None, None));

    // Another recall is no older form of the same.
    let mut other = journal;
    let is_recall = |record: &&mut Record| matches!(&record.fact, Fact::Done(done) if done.step == 1);
    let recall = other.iter_mut().find(is_recall).unwrap();
    if let Fact::Done(done) = &mut recall.fact {
        done.input.as_mut().unwrap()["user"] = json!("bob");
    }
    assert_eq!(replayed(&whole, &other)[0].0, 1);
}

#[test]
fn a_model_goes_on_with_the_words_that_it_was_told_of_its_tools() {
    let spec = AgentSpec {
        tools: vec![tool(json!("remember")), tool(json!("recall"))],
        ..AgentSpec::default()
    };
    let calls = vec![("recall", json!({"query": "tea"}))];
    let world = |stops: Vec<usize>| {
        let world = super::tools::world(spec.clone(), vec![calls.clone()]);
        world.state().orders.stops = stops;
        world
    };
    let stopped = world(vec![2]);
    assert_eq!(stopped.run(), Finished::Stopped);
    let mut journal = stopped.journal();
    let told = |record: &mut Record| match &mut record.fact {
        Fact::Begun(begun) if begun.kind == StepKind::Model => begun.input.get_mut("tools").cloned(),
        _ => None,
    };
    let mut old = journal.iter_mut().find_map(told).unwrap();
    old[0]["function"]["description"] = json!("Keeps something.");
    old[1]["function"]["parameters"] = json!({"type": "object"});
    for record in &mut journal {
        if let Fact::Begun(begun) = &mut record.fact
            && begun.kind == StepKind::Model
        {
            begun.input["tools"] = old.clone();
        }
    }
    write(&stopped, &journal);
    assert_eq!(stopped.run_to_its_end(), Outcome::Completed);
    let asked = stopped.state().asked.clone();
    assert_eq!(json!(asked.last().unwrap().tools), old);
    assert_eq!(replayed(&stopped, &stopped.journal()), []);
    assert!(expand_prompts(&stopped.journal()).len() > 1);

    // Which tools there are is no matter of words.
    old.as_array_mut().unwrap().pop();
    for record in &mut journal {
        if let Fact::Begun(begun) = &mut record.fact
            && begun.kind == StepKind::Model
        {
            begun.input["tools"] = old.clone();
        }
    }
    assert!(replayed(&stopped, &journal)[0].1.contains("`tools`"));
}

#[test]
fn remember_and_recall_do_what_they_are_told_and_for_whom() {
    let mut spec = knowing();
    spec.tools = vec![tool(json!("remember")), tool(json!("recall"))];
    let remember = json!({"content": "Ann takes the 8:15", "type": "procedural", "scope": "user",
        "tags": ["train"], "importance": 0.9, "ttl_seconds": 60});
    let calls = vec![
        ("remember", remember),
        (
            "recall",
            json!({"query": "train", "k": 1, "type": "procedural", "tags": ["train"]}),
        ),
        ("remember", json!({"content": "all should know", "scope": "tenant"})),
    ];
    let world = world(spec.clone());
    world.state().orders.script = vec![calls.clone()];
    assert_eq!(world.run_to_its_end(), Outcome::Completed);
    let stored = world.state().stored[0].clone();
    assert_eq!((stored.kind, stored.scope), (MemoryType::Procedural, Scope::User));
    assert_eq!((stored.user.as_deref(), stored.ttl_seconds), (Some("ann"), Some(60)));
    assert_eq!(
        (stored.importance, stored.tags.as_slice()),
        (0.9, &["train".to_owned()][..])
    );
    let query = world.state().queries.last().unwrap().clone();
    assert_eq!(
        (query.filters.kind, query.filters.tags.len()),
        (Some(MemoryType::Procedural), 1)
    );
    assert_eq!((query.filters.user.as_deref(), query.knowledge.len()), (Some("ann"), 1));
    let results = told(&world);
    let found: Value = serde_json::from_str(&results[1]).unwrap();
    let memory = &found["memories"][0];
    assert!(memory["id"].is_string() && memory["score"].is_number(), "{found}");
    assert_eq!(
        found["passages"][0]["citation"],
        "[handbook.md › Refunds › Late trains]"
    );
    assert!(results[2].contains("may not share"), "{results:?}");

    spec.capabilities.insert("can_share_memories".into(), true);
    let sharing = self::world(spec.clone());
    sharing.state().orders.script = vec![calls];
    assert_eq!(sharing.run_to_its_end(), Outcome::Completed);
    let shared = sharing
        .state()
        .stored
        .iter()
        .any(|stored| stored.scope == Scope::Tenant);
    assert!(shared, "{:?}", told(&sharing));

    // Of nobody and of no session.
    let alone = World::new(spec, json!({"text": "go"}));
    let scoped = |scope: &str| ("remember", json!({"content": "x", "scope": scope}));
    alone.state().orders.script = vec![vec![scoped("user"), scoped("session")]];
    assert_eq!(alone.run_to_its_end(), Outcome::Completed);
    let results = told(&alone);
    assert!(
        results[0].contains("which user") && results[1].contains("no session"),
        "{results:?}"
    );
}
