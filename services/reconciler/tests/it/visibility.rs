//! Two owners in one tenant: neither reads of the other's private nodes, by id or by name, in anything that is asked.

use mesh_api::Endpoint;
use mesh_api::PageQuery;
use mesh_api::reconciler::{ActionKind, Brain, BrainRequest, BrainState, PassList, PlanDry, PlanRequest};
use mesh_testkit::wait_until;
use mesh_types::fleet::NodeMode;

use crate::setup::{Mesh, SOON};

/// Id and name of ann's node; neither is part of any other word.
const ID: &str = "nodatticid";
const NAME: &str = "annasattic";
const OTHERS: &str = "a node of somebody else";

/// A node of that owner alone, who has published an agent.
fn own(mesh: &Mesh, node: &str, name: &str, owner: &str, agent: &str) {
    mesh.join(node, 4);
    {
        let mut world = mesh.world();
        let entry = world.nodes.get_mut(&node.parse().unwrap()).unwrap();
        (entry.name, entry.owner) = (name.to_owned(), owner.to_owned());
        entry.configuration.mode = NodeMode::Private;
    }
    publish(mesh, agent, owner);
}

fn publish(mesh: &Mesh, agent: &str, owner: &str) {
    mesh.publish_agent(agent, 1, 1);
    let mut world = mesh.world();
    let placed = world.agents.iter_mut().find(|one| one.agent.as_str() == agent);
    placed.unwrap().owner = Some(owner.to_owned());
}

/// What one is answered, also as text.
async fn ask<E: Endpoint>(mesh: &Mesh, actor: &str, request: E::Request) -> (E::Reply, String) {
    let reply = mesh.call_by::<E>("default", actor, request).await.unwrap();
    let text = serde_json::to_string(&reply).unwrap();
    (reply, text)
}

fn replica_of<'b>(brain: &'b Brain, agent: &str) -> &'b mesh_api::reconciler::ReplicaView {
    brain.replicas.iter().find(|one| one.agent.as_str() == agent).unwrap()
}

/// Both have a private node with an agent on it, and the reconciler has nothing more to do.
async fn settled() -> Mesh {
    let mesh = Mesh::start().await;
    own(&mesh, ID, NAME, "ann", "sofia");
    own(&mesh, "shed", "bobsshed", "bob", "clara");
    mesh.ring().await;
    mesh.wait_for(&[(ID, 1), ("shed", 1)]).await;
    mesh.wait_ready(2).await;
    wait_until(SOON, || async {
        mesh.ring().await;
        mesh.passes().await[0].actions.is_empty()
    })
    .await;
    mesh
}

#[tokio::test]
async fn the_state_names_no_private_node_of_somebody_else() {
    let mesh = settled().await;
    // The last is an owner like all others, as to the registry's list of nodes.
    for (actor, own, other, nodes) in [
        ("user:bob", "clara", "sofia", 1),
        ("user:ann", "sofia", "clara", 1),
        ("user:admin", "", "sofia", 0),
        ("node:shed", "", "clara", 0),
    ] {
        let (brain, text) = ask::<BrainState>(&mesh, actor, BrainRequest::default()).await;
        assert_eq!(brain.nodes.len(), nodes, "{actor}: {text}");
        assert_eq!(brain.replicas.len(), 2, "{actor} sees what the tenant's agents have");
        assert_eq!(replica_of(&brain, other).node, None, "{actor}");
        if !own.is_empty() {
            assert!(replica_of(&brain, own).node.is_some(), "{actor}");
        }
        if actor != "user:ann" {
            assert!(!text.contains(ID) && !text.contains(NAME), "{actor}: {text}");
        } else {
            assert!(
                text.contains(ID) && text.contains(NAME) && !text.contains("shed"),
                "{text}"
            );
        }
    }
    let (brain, _) = ask::<BrainState>(&mesh, "dev", BrainRequest::default()).await;
    assert_eq!(brain.nodes.len(), 2);
    assert!(brain.replicas.iter().all(|replica| replica.node.is_some()));
    let other = mesh.call_by::<BrainState>("other", "user:ann", BrainRequest::default());
    let other = other.await.unwrap();
    assert_eq!((other.nodes.len(), other.replicas.len()), (0, 0));
    // Shared it is everybody's of the tenant to see.
    let id = ID.parse().unwrap();
    mesh.world().nodes.get_mut(&id).unwrap().configuration.mode = NodeMode::Shared;
    let (brain, _) = ask::<BrainState>(&mesh, "user:bob", BrainRequest::default()).await;
    assert_eq!(replica_of(&brain, "sofia").node.as_ref(), Some(&id));
}

#[tokio::test]
async fn passes_and_plans_tell_what_happens_and_not_where() {
    let mesh = settled().await;
    // What is planned from here on is not applied: no pass can be kept.
    let pool = mesh.database.pool().await;
    let mut hold = pool.begin().await.unwrap();
    let lock = sqlx::query("LOCK TABLE reconciler.pass IN EXCLUSIVE MODE");
    lock.execute(&mut *hold).await.unwrap();
    publish(&mesh, "vera", "ann");
    let placing = |actions: &[mesh_api::reconciler::Action], agent: &str| {
        let placed = |action: &&mesh_api::reconciler::Action| {
            action.kind == ActionKind::Place && action.agent.as_ref().is_some_and(|name| name.as_str() == agent)
        };
        let found = actions.iter().find(placed).unwrap();
        (found.to.clone(), found.sentence.clone())
    };
    for (actor, is_own) in [("user:ann", true), ("user:bob", false), ("user:admin", false)] {
        let (passes, text) = ask::<PassList>(&mesh, actor, PageQuery::default()).await;
        let actions: Vec<_> = passes.items.iter().flat_map(|pass| pass.actions.clone()).collect();
        let (to, sentence) = placing(&actions, "sofia");
        assert!(actions.iter().any(|action| action.kind == ActionKind::Serve), "{text}");
        assert_eq!(text.contains(ID), is_own, "{actor}: {text}");
        assert_eq!(text.contains(NAME), is_own, "{actor}: {text}");
        assert_eq!(to.is_some(), is_own, "{actor}");
        assert_eq!(sentence.contains(OTHERS), !is_own, "{actor}: {sentence}");
        let (plan, text) = ask::<PlanDry>(&mesh, actor, PlanRequest::default()).await;
        let (to, sentence) = placing(&plan.actions, "vera");
        let place = if is_own { NAME } else { OTHERS };
        assert!(
            sentence.starts_with(&format!("place vera v1 on {place} because ")),
            "{sentence}"
        );
        assert_eq!((to.is_some(), text.contains(ID)), (is_own, is_own), "{actor}: {text}");
        let (brain, text) = ask::<BrainState>(&mesh, actor, BrainRequest::default()).await;
        assert!(brain.drift.contains(&sentence), "{actor}: {:?}", brain.drift);
        assert_eq!(text.contains(NAME), is_own, "{actor}: {text}");
    }
    // While nobody can say whose nodes those are, none is named, and the passes are there.
    mesh.world().registry_fails = true;
    let (_, text) = ask::<PassList>(&mesh, "user:ann", PageQuery::default()).await;
    assert!(text.contains("place sofia v1 on an unknown node because "), "{text}");
    let (_, text) = ask::<BrainState>(&mesh, "user:bob", BrainRequest::default()).await;
    assert!(!text.contains(ID) && !text.contains(NAME), "{text}");
    hold.rollback().await.unwrap();
}
