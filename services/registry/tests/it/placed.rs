//! What the reconciler is given to place.

use mesh_api::fleet::{PlacedAgent, PlacedAll};
use mesh_api::registry::{AgentCreate, AgentPublish, AgentUpdate, AgentUpdateRequest, Missing};
use mesh_api::{Caller, PageQuery};
use mesh_types::Code;
use serde_json::{Value, json};

use crate::setup::{Mesh, declared, guarded, tenant};

impl Mesh {
    async fn placed(&self) -> Vec<PlacedAgent> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = PageQuery { limit: Some(2), after };
            let page = self.call::<PlacedAll>(page).await.unwrap();
            found.extend(page.items);
            after = page.next;
            if after.is_none() {
                return found;
            }
        }
    }

    async fn declare(&self, name: &str, spec: Value) {
        let request = AgentUpdateRequest {
            agent: declared(json!({"metadata": {"name": name}, "spec": spec})),
            if_match: None,
            missing: Missing::Create,
        };
        self.call::<AgentUpdate>(request).await.unwrap();
    }
}

#[tokio::test]
async fn published_agents_with_a_placement_are_listed_of_every_tenant() {
    let mesh = Mesh::start().await;
    for (name, spec) in [
        ("a-central", json!({"instructions": "\"placement\":{}"})),
        ("b-draft", json!({"placement": {"replicas": 3}})),
        (
            "c-cli",
            json!({"runtime": "cli", "cli": {"driver": "codex"}, "limits": {"concurrency": 2},
                "placement": {"replicas": 2, "spread": "region", "node_selector": {"region": "eu"}}}),
        ),
        ("d-noop", json!({"runtime": "noop", "placement": {}})),
        ("e-llm", json!({"placement": {"autoscaling": {"min": 0, "max": 3}}})),
    ] {
        mesh.declare(name, spec).await;
        if name != "b-draft" {
            mesh.publish(name).await.unwrap();
        }
    }
    let elsewhere = declared(json!({"metadata": {"name": "far"}, "spec": {"placement": {}}}));
    let nobody = Caller {
        role: None,
        tenant: tenant("zebra"),
        actor: "dev".into(),
        request_id: None,
    };
    mesh.bus.call::<AgentCreate>(&nobody, &elsewhere).await.unwrap();
    mesh.bus
        .call::<AgentPublish>(&nobody, &guarded("far", None))
        .await
        .unwrap();

    let placed = mesh.placed().await;
    let names: Vec<_> = placed
        .iter()
        .map(|one| format!("{}.{}", one.tenant, one.agent))
        .collect();
    assert_eq!(names, ["default.c-cli", "default.d-noop", "default.e-llm", "zebra.far"]);
    let cli = &placed[0];
    assert_eq!(
        (cli.owner.as_deref(), cli.version, cli.concurrency),
        (Some("ann"), 1, 2)
    );
    assert_eq!(
        (cli.requires.as_slice(), cli.placement.replicas),
        (&["cli:codex".to_owned()][..], 2)
    );
    assert_eq!(cli.placement.node_selector["region"], "eu");
    assert_eq!(placed[1].requires, ["noop"]);
    assert_eq!(
        placed[2].placement.autoscaling.map(|bounds| (bounds.min, bounds.max)),
        Some((0, 3))
    );
    assert_eq!(placed[3].owner, None, "nobody signs in in development mode");
}

#[tokio::test]
async fn the_published_version_counts_and_an_older_one_does_after_a_rollback() {
    let mesh = Mesh::start().await;
    mesh.declare("sofia", json!({"placement": {"replicas": 1}})).await;
    let first = mesh.publish("sofia").await.unwrap();
    mesh.declare("sofia", json!({"placement": {"replicas": 5}})).await;
    assert_eq!(mesh.placed().await[0].placement.replicas, 1, "a draft places nothing");
    mesh.publish("sofia").await.unwrap();
    let placed = mesh.placed().await;
    assert_eq!((placed[0].version, placed[0].placement.replicas), (2, 5));
    mesh.declare("sofia", json!({})).await;
    mesh.publish("sofia").await.unwrap();
    assert_eq!(mesh.placed().await, []);
    let back = mesh_api::registry::RollbackRequest {
        agent: "sofia".parse().unwrap(),
        version: 1,
    };
    mesh.call::<mesh_api::registry::AgentRollback>(back).await.unwrap();
    let placed = mesh.placed().await;
    assert_eq!((placed[0].version, &placed[0].hash), (1, &first.hash));
}

/// As migration 0011 finds them.
#[tokio::test]
async fn versions_from_before_the_column_are_read_from_their_artifacts() {
    let mesh = Mesh::start().await;
    mesh.declare("central", json!({})).await;
    mesh.declare("placed", json!({"placement": {"replicas": 2}})).await;
    for name in ["central", "placed"] {
        mesh.publish(name).await.unwrap();
    }
    let before = mesh.placed().await;
    let admin = mesh.database.pool().await;
    let done = sqlx::query("UPDATE registry.version SET placed = NULL")
        .execute(&admin)
        .await
        .unwrap();
    assert_eq!(done.rows_affected(), 2);
    assert_eq!(mesh.placed().await, before);
    assert_eq!(before.len(), 1);
}

#[tokio::test]
async fn a_cursor_of_another_list_is_refused() {
    let mesh = Mesh::start().await;
    for after in ["sofia", "a.b.c", "a.", "\u{0}.x"] {
        let page = PageQuery {
            limit: None,
            after: Some(after.to_owned()),
        };
        let problem = mesh.call::<PlacedAll>(page).await.unwrap_err();
        assert!(problem.is(Code::InvalidRequest), "{after}: {problem:?}");
        assert_eq!(problem.field.as_deref(), Some("after"));
    }
}
