//! What nodes are told, what is shown, and what is said of it.

use mesh_api::reconciler::{ActionKind, ActionResult, PlanDry, PlanRequest};
use mesh_bus::Bucket;
use mesh_testkit::wait_until;
use mesh_types::event::{Event, Fact};
use mesh_types::fleet::{Assignment, Serving};
use mesh_types::subject::Filter;

use crate::setup::{BROKEN, Mesh, SOON};

async fn shown<T: serde::de::DeserializeOwned>(mesh: &Mesh, key: &str) -> Option<T> {
    let value = mesh.bus.kv_get(Bucket::Assignments, key).await.unwrap();
    value.map(|value| serde_json::from_slice(&value).unwrap())
}

#[tokio::test]
async fn a_dry_run_with_an_assumed_drain_says_what_moves_and_changes_nothing() {
    let mesh = Mesh::servers().await;
    for node in ["kitchen", "cellar"] {
        mesh.join(node, 4);
    }
    mesh.publish_agent("sofia", 1, 1);
    mesh.serve(&mesh.context, mesh.config());
    mesh.wait_ready(1).await;
    let runs = if mesh.assignment("kitchen").await.replicas.is_empty() {
        ("cellar", "kitchen")
    } else {
        ("kitchen", "cellar")
    };
    let told = mesh.assignment(runs.0).await;
    let drain = |node: &str| PlanRequest {
        drain: node.parse().ok(),
    };
    let dry = mesh.call::<PlanDry>(drain(runs.0)).await.unwrap();
    let place = dry
        .actions
        .iter()
        .find(|action| action.kind == ActionKind::Place)
        .unwrap();
    assert_eq!(
        place.to.as_ref().map(ToString::to_string).as_deref(),
        Some(runs.1),
        "{}",
        place.sentence
    );
    assert!(place.because.contains("is drained"), "{}", place.sentence);
    assert_eq!(mesh.call::<PlanDry>(drain(runs.1)).await.unwrap().actions, []);
    assert_eq!(mesh.call::<PlanDry>(PlanRequest::default()).await.unwrap().actions, []);
    assert_eq!(mesh.assignment(runs.0).await, told);
    let refused = mesh.call::<PlanDry>(drain("attic")).await.unwrap_err();
    assert_eq!(refused.kind, "registry/node-not-found", "{refused:?}");
}

#[tokio::test]
async fn what_is_published_reaches_the_nodes_and_is_served() {
    let mesh = Mesh::servers().await;
    for node in ["kitchen", "cellar", "attic"] {
        mesh.join(node, 4);
    }
    mesh.publish_agent("sofia", 3, 2);
    mesh.publish_agent("clara", 1, 1);
    let mut events = mesh
        .bus
        .subscribe(&Filter::EventsOf("default".parse().unwrap()))
        .await
        .unwrap();
    mesh.serve(&mesh.context, mesh.config());
    mesh.wait_for(&[("attic", 1), ("cellar", 1), ("kitchen", 1)]).await;
    mesh.wait_ready(3).await;
    wait_until(SOON, || async {
        shown::<Serving>(&mesh, "agent.default.sofia").await.is_some()
    })
    .await;
    let serving: Serving = shown(&mesh, "agent.default.sofia").await.unwrap();
    assert_eq!((serving.version, serving.epoch), (3, 1));
    // What is shown is what a node is told that asks.
    let told = mesh.assignment("kitchen").await;
    let seen: Assignment = shown(&mesh, "node.kitchen").await.unwrap();
    assert_eq!(seen, told);
    assert_eq!(mesh.assignment("stranger").await, Assignment::default());
    // The pass that did it says so, and a dry one finds nothing left.
    let dry = mesh.call::<PlanDry>(PlanRequest::default()).await.unwrap();
    assert_eq!((dry.actions, dry.id), (vec![], None));
    let passes = mesh.passes().await;
    let first = passes.last().unwrap();
    assert_eq!(first.because, "start");
    assert_eq!(first.actions.len(), 3);
    assert!(
        first
            .actions
            .iter()
            .all(|action| action.result == ActionResult::Applied)
    );
    assert!(first.actions.iter().any(|action| {
        action.sentence.starts_with("place sofia v3 on ") && action.because == "2 replicas are wanted and 0 there"
    }));
    let event = tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap();
    let event: Event = serde_json::from_slice(&event.payload).unwrap();
    assert_eq!(
        event.fact,
        Fact::PassApplied {
            pass: first.id.unwrap(),
            actions: 3
        }
    );
    // Another tenant sees nothing of it.
    let other = mesh.call_as::<PlanDry>("other", PlanRequest::default()).await.unwrap();
    assert!(other.actions.is_empty());
    let brain = mesh.brain().await;
    assert_eq!((brain.epoch, brain.nodes.len(), brain.drift.len()), (1, 3, 0));
    let sofia = brain
        .agents
        .iter()
        .find(|agent| agent.agent.as_str() == "sofia")
        .unwrap();
    assert_eq!((sofia.serving, sofia.wanted, sofia.ready), (Some(3), 2, 2));
}

#[tokio::test]
async fn a_lost_node_is_replaced_at_the_bell() {
    let mesh = Mesh::start().await;
    for node in ["kitchen", "cellar"] {
        mesh.join(node, 4);
    }
    mesh.publish_agent("sofia", 1, 1);
    mesh.ring().await;
    mesh.wait_for(&[("cellar", 1), ("kitchen", 0)]).await;
    mesh.wait_ready(1).await;
    mesh.lose("cellar");
    mesh.ring().await;
    mesh.wait_for(&[("cellar", 0), ("kitchen", 1)]).await;
    mesh.wait_ready(1).await;
    let passes = mesh.passes().await;
    let moved = passes
        .iter()
        .flat_map(|pass| &pass.actions)
        .find(|action| action.from.is_some())
        .unwrap();
    let sentence = &moved.sentence;
    let says = "place sofia v1 on kitchen in place of cellar because cellar has been silent for";
    assert!(
        sentence.starts_with(says) && sentence.ends_with(" (limit 3 s)"),
        "{sentence}"
    );
}

#[tokio::test]
async fn a_new_version_rolls_in_and_a_broken_one_rolls_back() {
    let mesh = Mesh::start().await;
    for node in ["kitchen", "cellar"] {
        mesh.join(node, 4);
    }
    let serves = async |version: u32| {
        wait_until(SOON, || async {
            let serving: Option<Serving> = shown(&mesh, "agent.default.sofia").await;
            let brain = mesh.brain().await;
            let is_whole = brain.replicas.len() == 2 && brain.replicas.iter().all(|one| one.version == version);
            is_whole && serving.is_some_and(|serving| serving.version == version)
        })
        .await;
    };
    mesh.publish_agent("sofia", 1, 2);
    mesh.ring().await;
    serves(1).await;
    mesh.publish_agent("sofia", 2, 2);
    mesh.ring().await;
    serves(2).await;
    mesh.publish_agent("sofia", BROKEN, 2);
    mesh.ring().await;
    let has_rolled_back = async || {
        let passes = mesh.passes().await;
        let mut actions = passes.iter().flat_map(|pass| &pass.actions);
        actions.any(|action| action.kind == ActionKind::RollBack)
    };
    wait_until(SOON, || async { has_rolled_back().await }).await;
    serves(2).await;
}

#[tokio::test]
async fn a_registry_that_fails_or_forgot_everything_evicts_nobody() {
    let mesh = Mesh::start().await;
    mesh.join("kitchen", 4);
    mesh.publish_agent("sofia", 1, 2);
    mesh.ring().await;
    mesh.wait_ready(2).await;
    let before = mesh.assignment("kitchen").await;
    let says = async |text: &str| {
        mesh.ring().await;
        wait_until(SOON, || async {
            let passes = mesh.passes().await;
            passes[0].error.as_ref().is_some_and(|error| error.contains(text)) && passes[0].next_try_at.is_some()
        })
        .await;
    };
    mesh.world().registry_fails = true;
    says("registry does not answer").await;
    assert!(mesh.brain().await.drift[0].contains("registry does not answer"));
    let (nodes, agents) = {
        let mut world = mesh.world();
        world.registry_fails = false;
        (std::mem::take(&mut world.nodes), std::mem::take(&mut world.agents))
    };
    says("registry knows neither nodes nor agents").await;
    assert_eq!(mesh.assignment("kitchen").await, before);
    {
        let mut world = mesh.world();
        (world.nodes, world.agents) = (nodes, agents);
    }
    mesh.ring().await;
    wait_until(SOON, || async { mesh.passes().await[0].error.is_none() }).await;
    assert_eq!(mesh.assignment("kitchen").await, before);
}

#[tokio::test]
async fn what_is_shown_is_repaired_from_the_tables() {
    let mesh = Mesh::start().await;
    mesh.join("kitchen", 4);
    mesh.publish_agent("sofia", 1, 1);
    mesh.ring().await;
    mesh.wait_ready(1).await;
    let told = mesh.assignment("kitchen").await;
    let is_right = async || shown::<Assignment>(&mesh, "node.kitchen").await.as_ref() == Some(&told);
    wait_until(SOON, || async { is_right().await }).await;
    mesh.bus.kv_delete(Bucket::Assignments, "node.kitchen").await.unwrap();
    mesh.bus
        .kv_put(Bucket::Assignments, "node.stranger", "{}".into())
        .await
        .unwrap();
    let is_gone = async || {
        mesh.bus
            .kv_get(Bucket::Assignments, "node.stranger")
            .await
            .unwrap()
            .is_none()
    };
    wait_until(SOON, || async {
        mesh.ring().await;
        is_right().await && is_gone().await
    })
    .await;
}

#[tokio::test]
async fn work_that_waits_brings_a_replica_and_an_idle_agent_none() {
    let mesh = Mesh::start().await;
    mesh.join("kitchen", 4);
    mesh.publish_agent("sofia", 1, 0);
    let scaling = mesh_types::agent::Autoscaling {
        min: 0,
        max: 3,
        ..mesh_types::agent::Autoscaling::default()
    };
    mesh.world().agents[0].placement.autoscaling = Some(scaling);
    mesh.ring().await;
    wait_until(SOON, || async {
        !mesh.brain().await.agents.is_empty() && !mesh.passes().await.is_empty()
    })
    .await;
    assert_eq!(mesh.brain().await.replicas.len(), 0);
    // Nobody rings: the reconciler itself asks what waits.
    mesh.world().demand = vec![mesh_api::execution::AgentDemand {
        tenant: mesh_types::Tenant::default(),
        agent: "sofia".parse().unwrap(),
        waiting: 11,
        running: 0,
        oldest_waiting_ms: 10,
    }];
    mesh.wait_for(&[("kitchen", 3)]).await;
}

#[tokio::test]
async fn passes_without_a_change_are_one() {
    let mesh = Mesh::start().await;
    mesh.join("kitchen", 4);
    mesh.publish_agent("sofia", 1, 1);
    mesh.ring().await;
    mesh.wait_ready(1).await;
    let runs = || {
        mesh.context
            .loops
            .status("reconciler", "passes")
            .map_or(0, |status| status.passes)
    };
    let is_idle = async || mesh.passes().await[0].actions.is_empty();
    wait_until(SOON, || async {
        mesh.ring().await;
        is_idle().await
    })
    .await;
    let (kept, before) = (mesh.passes().await, runs());
    wait_until(SOON, || async {
        mesh.ring().await;
        runs() >= before + 5
    })
    .await;
    let after = mesh.passes().await;
    assert_eq!(after.len(), kept.len());
    assert!(after[0].id > kept[0].id, "the last one is the newest");
}

#[tokio::test]
async fn a_restart_of_nats_moves_nothing() {
    let mesh = Mesh::start().await;
    mesh.join("kitchen", 4);
    mesh.join("cellar", 4);
    mesh.publish_agent("sofia", 1, 2);
    mesh.ring().await;
    mesh.wait_ready(2).await;
    let before = mesh.assignment("kitchen").await;
    mesh.nats.restart().await;
    assert!(mesh.bus.wait_connected(SOON).await);
    mesh.publish_agent("clara", 1, 1);
    wait_until(SOON, || async {
        mesh.ring().await;
        mesh.brain().await.replicas.len() == 3
    })
    .await;
    let after = mesh.assignment("kitchen").await;
    assert!(before.replicas.iter().all(|replica| after.replicas.contains(replica)));
}
