//! Two branches side by side; a recording held against another version of its agent.

use mesh_api::steering::{CompareRequest, Fate, InvocationCompare, InvocationReplay, ReplayReport, ReplayRequest};
use mesh_types::{Code, InvocationId, Problem};
use serde_json::json;

use crate::forks::{Ledger, caller, fork_request};
use crate::mesh::Mesh;

impl Mesh {
    async fn replay(&self, id: InvocationId, version: Option<u32>) -> Result<ReplayReport, Problem> {
        self.ask::<InvocationReplay>(ReplayRequest { id, version }).await
    }
}

#[tokio::test]
async fn two_branches_are_compared_from_the_step_where_they_part() {
    let (mesh, _process) = Mesh::start().await;
    let source = mesh.paid(&Ledger::new()).await;
    let fork = mesh.forked(source.id, 2, &json!({"output": {"paid": false}})).await;
    let compare = |left, right| mesh.ask::<InvocationCompare>(CompareRequest { left, right });
    let compared = compare(source.id, fork.id).await.unwrap();
    assert_eq!((compared.left.id, compared.right.id), (source.id, fork.id));
    assert_eq!((compared.shared_steps, compared.first_difference), (1, Some(2)));
    let differs: Vec<_> = compared.steps.iter().map(|step| step.differs.join(" ")).collect();
    assert_eq!(differs, ["", "output", "input"]);
    assert_eq!(compared.steps[2].right.as_ref().unwrap().short_text, "Hello, world");
    let same = compare(fork.id, fork.id).await.unwrap();
    assert_eq!((same.shared_steps, same.first_difference), (3, None));
    // Two forks of one source share what they both inherit.
    let other = mesh.forked(source.id, 3, &json!({"model": "fast"})).await;
    let compared = compare(fork.id, other.id).await.unwrap();
    assert_eq!((compared.shared_steps, compared.first_difference), (1, Some(2)));
    let foreign = CompareRequest {
        left: source.id,
        right: fork.id,
    };
    let problem = mesh.ask_as::<InvocationCompare>("other", foreign).await.unwrap_err();
    assert!(problem.is(Code::InvocationNotFound));
}

#[tokio::test]
async fn a_recording_is_replayed_against_another_version_and_nothing_runs() {
    let (mesh, _process) = Mesh::start().await;
    let ledger = Ledger::new();
    let source = mesh.paid(&ledger).await;
    let same = mesh.replay(source.id, None).await.unwrap();
    assert_eq!((same.recorded_version, same.version, same.steps), (1, 1, 3));
    assert_eq!(same.divergences, []);
    let mut changed = caller(1, &ledger.tool());
    changed["instructions"] = json!("You never pay.");
    mesh.world.add_version("payer", 2, &changed);
    let changed = mesh.replay(source.id, Some(2)).await.unwrap();
    assert_eq!((changed.recorded_version, changed.version), (1, 2));
    assert_eq!(changed.divergences[0].step, 1, "{changed:?}");
    let problem = mesh.replay(source.id, Some(3)).await.unwrap_err();
    assert_eq!(
        (problem.is(Code::VersionNotFound), problem.field.as_deref()),
        (true, Some("version"))
    );
    // A fork with what it inherits.
    let fork = mesh.forked(source.id, 3, &json!({})).await;
    let of_fork = mesh.replay(fork.id, None).await.unwrap();
    assert_eq!((of_fork.steps, of_fork.divergences), (3, Vec::new()));
    mesh.world.assert_each_completion_ran_once(3);
    assert_eq!(ledger.lines(), 1);
    assert_eq!(mesh.count("SELECT count(*) FROM execution.invocation").await, 2);
}

#[tokio::test]
async fn a_long_recording_is_forked_at_any_step() {
    let (mesh, _process) = Mesh::start().await;
    mesh.world
        .publish("default", "long", &json!({"runtime": "noop", "noop": {"steps": 300}}));
    let body = crate::mesh::request(json!({}));
    let source = mesh.accept("long", body, crate::mesh::SOON).await.unwrap();
    let reply = mesh.fork(fork_request(source.id, 290, &json!({}))).await.unwrap();
    let read = reply.steps.iter().filter(|step| step.fate == Fate::Read).count();
    assert_eq!((read, reply.steps.len()), (289, 300));
    let fork = mesh.ended(reply.invocation.unwrap().id).await;
    let own = mesh.journal(&fork).await;
    assert_eq!(own.len(), 3 + 11, "accepted, claimed, its own steps, ended");
    let numbers: Vec<u32> = mesh.steps(fork.id, 77).await.iter().map(|step| step.number).collect();
    assert_eq!(numbers, (1..=300).collect::<Vec<_>>());
}
