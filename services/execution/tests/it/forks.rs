//! Forks: what they read, what they run again, what nobody pays for twice.

use std::path::PathBuf;
use std::time::Duration;

use mesh_api::PageQuery;
use mesh_api::execution::{
    Bodies, Invocation, InvocationFilter, InvocationList, InvocationSteps, ListRequest, State, Step, StepsRequest,
};
use mesh_api::steering::{Edit, Fate, ForkReply, ForkRequest, InvocationFork};
use mesh_types::{Code, InvocationId, Problem};
use serde_json::{Value, json};

use crate::mesh::{Mesh, SOON, request};

/// A file in which a tool leaves a line each time that it runs.
pub(crate) struct Ledger {
    file: PathBuf,
    _dir: tempfile::TempDir,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            file: dir.path().join("ledger"),
            _dir: dir,
        }
    }

    /// At most once, as it declares nothing else.
    pub(crate) fn tool(&self) -> Value {
        let file = self.file.display();
        let script = format!("cat >> {file}; echo >> {file}; echo '{{\"paid\": true}}'");
        json!({"name": "pay", "kind": "script", "script": {"command": ["/bin/sh", "-c", script]}})
    }

    pub(crate) fn lines(&self) -> usize {
        std::fs::read_to_string(&self.file).map_or(0, |text| text.lines().count())
    }
}

/// An agent whose model calls one tool so many times.
pub(crate) fn caller(calls: u32, tool: &Value) -> Value {
    json!({
        "runtime": "llm",
        "model": {"name": format!("calls:{calls}")},
        "instructions": "You pay.",
        "memory": {"query_top_k": 0, "writeback": false},
        "tools": [tool],
        "limits": {"iterations": 100},
    })
}

pub(crate) fn fork_request(id: InvocationId, from_step: u32, edit: &Value) -> ForkRequest {
    ForkRequest {
        id,
        from_step,
        edit: serde_json::from_value::<Edit>(edit.clone()).unwrap(),
        dry_run: false,
        idempotency_key: None,
    }
}

impl Mesh {
    pub(crate) async fn fork(&self, request: ForkRequest) -> Result<ForkReply, Problem> {
        self.ask::<InvocationFork>(request).await
    }

    /// Forked and ended.
    pub(crate) async fn forked(&self, id: InvocationId, from_step: u32, edit: &Value) -> Invocation {
        let reply = self.fork(fork_request(id, from_step, edit)).await.unwrap();
        let ended = self.ended(reply.invocation.unwrap().id).await;
        assert_eq!(ended.state, State::Completed, "{ended:?}");
        ended
    }

    pub(crate) async fn steps(&self, id: InvocationId, limit: u32) -> Vec<Step> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let page = PageQuery {
                limit: Some(limit),
                after,
            };
            let request = StepsRequest {
                id,
                bodies: Bodies::Full,
                page,
            };
            let page = self.ask::<InvocationSteps>(request).await.unwrap();
            assert!(page.items.len() <= limit as usize);
            all.extend(page.items);
            after = page.next;
            if after.is_none() {
                return all;
            }
        }
    }

    pub(crate) async fn paid(&self, ledger: &Ledger) -> Invocation {
        self.world.publish("default", "payer", &caller(1, &ledger.tool()));
        let body = request(json!({"payload": {"text": "pay it"}, "session": "s"}));
        let ended = self.accept("payer", body, SOON).await.unwrap();
        assert_eq!((ended.state, ledger.lines()), (State::Completed, 1), "{ended:?}");
        ended
    }
}

#[tokio::test]
async fn a_fork_reads_the_steps_before_it_and_answers_what_may_happen_once_from_the_recording() {
    let (mesh, _process) = Mesh::start().await;
    let ledger = Ledger::new();
    let source = mesh.paid(&ledger).await;
    let dry = ForkRequest {
        dry_run: true,
        ..fork_request(source.id, 2, &json!({}))
    };
    let dry = mesh.fork(dry).await.unwrap();
    let fates: Vec<_> = dry.steps.iter().map(|step| (step.step, step.fate)).collect();
    assert_eq!(fates, [(1, Fate::Read), (2, Fate::Asked), (3, Fate::Run)]);
    assert_eq!((dry.steps[1].name.as_str(), dry.invocation), ("pay", None));
    assert_eq!(mesh.count("SELECT count(*) FROM execution.invocation").await, 1);
    let fork = mesh.forked(source.id, 2, &json!({})).await;
    let from = fork.forked_from.as_ref().unwrap();
    assert_eq!((from.invocation, from.step, fork.root), (source.id, 2, Some(source.id)));
    assert_eq!((fork.session.as_deref(), &fork.payload), (None, &source.payload));
    assert_eq!(ledger.lines(), 1, "it was paid for once");
    // Both models of the source, and the last one of the fork.
    mesh.world.assert_each_completion_ran_once(3);
    let (of_source, of_fork) = (mesh.steps(source.id, 50).await, mesh.steps(fork.id, 50).await);
    assert_eq!(of_fork.iter().map(|step| step.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(of_fork[0], of_source[0], "inherited as it is");
    assert_eq!(of_fork[1].output, of_source[1].output);
    let filter = InvocationFilter {
        root: Some(source.id),
        ..InvocationFilter::default()
    };
    mesh.check().await;
    let listed = mesh
        .ask::<InvocationList>(ListRequest {
            filter,
            page: PageQuery::default(),
        })
        .await
        .unwrap();
    assert_eq!(
        listed.items.iter().map(|one| one.id).collect::<Vec<_>>(),
        [fork.id, source.id]
    );
    assert_eq!(listed.items[0].forked_from, fork.forked_from);
}

#[tokio::test]
async fn each_edit_makes_the_difference_that_it_says() {
    let (mesh, _process) = Mesh::start().await;
    let ledger = Ledger::new();
    let source = mesh.paid(&ledger).await;
    let model = mesh.forked(source.id, 3, &json!({"model": "fast"})).await;
    let asked = |id: InvocationId, step| mesh.world.asked.lock().unwrap()[&format!("{id}/{step}")].clone();
    assert_eq!(asked(model.id, 3).model, "fast");
    assert_eq!(
        asked(model.id, 3).messages,
        mesh.world.prompt(source.id, 3),
        "all else is as it was"
    );
    let said = mesh
        .forked(source.id, 1, &json!({"instructions": "You pay twice."}))
        .await;
    assert_eq!(mesh.world.prompt(said.id, 1)[0].content.plain_text(), "You pay twice.");
    let output = mesh.forked(source.id, 2, &json!({"output": {"paid": false}})).await;
    assert_eq!(mesh.steps(output.id, 50).await[1].output, Some(json!({"paid": false})));
    assert!(
        mesh.world
            .prompt(output.id, 3)
            .last()
            .unwrap()
            .content
            .plain_text()
            .contains("false")
    );
    let prompt = json!([{"role": "user", "content": "say it again"}]);
    let prompted = mesh
        .forked(source.id, 3, &json!({"prompt": prompt, "model": "fast"}))
        .await;
    assert_eq!(serde_json::to_value(mesh.world.prompt(prompted.id, 3)).unwrap(), prompt);
    assert_eq!(
        mesh.steps(prompted.id, 50).await[2].input.as_ref().unwrap()["messages"],
        prompt
    );
    // What holds for a whole fork holds for a fork of it.
    let again = mesh.forked(model.id, 3, &json!({})).await;
    assert_eq!(asked(again.id, 3).model, "fast");
    assert_eq!(
        (again.root, again.forked_from.unwrap().invocation),
        (Some(source.id), model.id)
    );
    assert_eq!(
        mesh.steps(again.id, 50).await[..2],
        mesh.steps(source.id, 50).await[..2]
    );
    assert_eq!(ledger.lines(), 1);
    mesh.check().await;
}

#[tokio::test]
async fn what_cannot_be_forked_says_why_and_a_key_makes_one_fork() {
    let (mesh, _process) = Mesh::start().await;
    let source = mesh.paid(&Ledger::new()).await;
    for (from_step, edit, field) in [
        (0, json!({}), "from_step"),
        (5, json!({}), "from_step"),
        (2, json!({"prompt": [{"role": "user", "content": "x"}]}), "edit.prompt"),
        (4, json!({"output": {"text": "x"}}), "edit.output"),
        (3, json!({"model": " "}), "edit.model"),
    ] {
        let problem = mesh.fork(fork_request(source.id, from_step, &edit)).await.unwrap_err();
        let told = (problem.is(Code::InvalidRequest), problem.field.as_deref());
        assert_eq!(told, (true, Some(field)), "{problem:?}");
    }
    let foreign = mesh.ask_as::<InvocationFork>("other", fork_request(source.id, 1, &json!({})));
    assert!(foreign.await.unwrap_err().is(Code::InvocationNotFound));
    let keyed = |edit: Value| ForkRequest {
        idempotency_key: Some("k".into()),
        ..fork_request(source.id, 3, &edit)
    };
    let (one, two) = tokio::join!(mesh.fork(keyed(json!({}))), mesh.fork(keyed(json!({}))));
    let one = one.unwrap().invocation.unwrap().id;
    assert_eq!(two.unwrap().invocation.unwrap().id, one);
    let problem = mesh.fork(keyed(json!({"model": "fast"}))).await.unwrap_err();
    assert!(
        problem.is(Code::KeyReused) && problem.detail.contains("`k`"),
        "{problem:?}"
    );
    mesh.all_ended(2).await;
}

#[tokio::test]
async fn any_process_forks_for_the_owner_and_a_running_source_goes_on() {
    let (mesh, _one) = Mesh::start().await;
    let two = mesh.process("two").await;
    mesh.owned_by(&[("one", 8), ("two", 8)]).await;
    let body = request(json!({"payload": {"text": "hi"}}));
    let source = mesh.accept("slow", body, Duration::ZERO).await.unwrap();
    mesh.held_models(1).await;
    for _ in 0..10 {
        let reply = mesh
            .fork(fork_request(source.id, 1, &json!({"model": "fast"})))
            .await
            .unwrap();
        assert_eq!(mesh.ended(reply.invocation.unwrap().id).await.state, State::Completed);
    }
    assert_eq!(mesh.get(source.id).await.state, State::Running);
    let shards = "SELECT count(DISTINCT shard) FROM execution.invocation";
    assert_eq!(mesh.count(shards).await, 1, "a fork is in the shard of its source");
    mesh.world.let_go(1);
    mesh.ended(source.id).await;
    two.stop().await;
    mesh.owned_by(&[("one", 16)]).await;
    assert_eq!(mesh.check().await, 11);
}

#[tokio::test]
async fn long_bodies_of_a_fork_are_read_back_whole() {
    let (mesh, _process) = Mesh::start().await;
    let text = "ї".repeat(40_000);
    let body = request(json!({"payload": {"text": text}}));
    let source = mesh.accept("talker", body, SOON).await.unwrap();
    let fork = mesh.forked(source.id, 1, &json!({"instructions": "Be brief."})).await;
    let steps = mesh.steps(fork.id, 50).await;
    assert!(steps[0].input.as_ref().unwrap().to_string().contains(&text));
    let of_fork = mesh.forked(fork.id, 2, &json!({})).await;
    assert_eq!(mesh.steps(of_fork.id, 50).await[0], steps[0]);
    mesh.check().await;
}
