//! What nodes ask of the registry: the artifacts of what they are to run, and their own entry, by their name alone.

use std::time::Duration;

use mesh_api::Endpoint;
use mesh_api::fleet::{
    NodeConfiguration, NodeConfigure, NodeConfigureRequest, NodeEntry, NodeGet, NodeGetRequest, NodeRegister, Viewer,
};
use mesh_api::registry::{ArtifactGet, ArtifactRequest};
use mesh_bus::Bucket;
use mesh_testkit::{TestRoads, wait_until};
use mesh_types::fleet::{AssignedReplica, Assignment, NodeMode};
use mesh_types::{Code, Id, Problem, ReplicaId};

use crate::nodes::registration;
use crate::setup::{Mesh, SOON, tenant};

impl Mesh {
    async fn ask_as<E: Endpoint>(&self, node: &str, request: E::Request) -> Result<E::Reply, Problem> {
        // The headers lie: they do not count.
        let caller = self.context.caller(tenant("rich"));
        let road = TestRoads::road::<E>(node);
        self.bus.call_at::<E>(&road, &caller, &request, SOON).await
    }
}

#[tokio::test]
async fn a_node_gets_the_artifacts_of_what_it_is_assigned_and_no_others() {
    let mesh = Mesh::start().await;
    let roads = TestRoads::beside_registry(&mesh.bus).await;
    mesh.apply("sofia", "You are helpful.").await;
    let published = mesh.publish("sofia").await.unwrap();
    let wanted = ArtifactRequest {
        tenant: tenant("default"),
        hash: published.hash.clone(),
    };
    let refused = mesh.ask_as::<ArtifactGet>("kitchen", wanted.clone()).await;
    assert!(refused.unwrap_err().is(Code::Forbidden));
    wait_until(SOON, || async { !roads.notes().is_empty() }).await;
    assert_eq!(roads.notes()[0].actor, "node:kitchen");
    let replica = AssignedReplica {
        replica: ReplicaId::from_u128(7),
        tenant: tenant("default"),
        agent: "sofia".parse().unwrap(),
        version: published.version,
        hash: published.hash.clone(),
        concurrency: 1,
        stopping: false,
        foreign: false,
    };
    let assignment = Assignment {
        replicas: vec![replica],
        ..Assignment::default()
    };
    let value = serde_json::to_vec(&assignment).unwrap();
    mesh.bus
        .kv_put(Bucket::Assignments, "node.kitchen", value.into())
        .await
        .unwrap();
    let artifact = mesh.ask_as::<ArtifactGet>("kitchen", wanted.clone()).await.unwrap();
    assert_eq!(artifact.hash, published.hash);
    let elsewhere = ArtifactRequest {
        tenant: tenant("rich"),
        ..wanted.clone()
    };
    for (node, request) in [("kitchen", elsewhere), ("thief", wanted)] {
        assert!(
            mesh.ask_as::<ArtifactGet>(node, request)
                .await
                .unwrap_err()
                .is(Code::Forbidden)
        );
    }
}

#[tokio::test]
async fn a_node_configures_its_own_entry_and_no_other() {
    let mesh = Mesh::start().await;
    let roads = TestRoads::beside_registry(&mesh.bus).await;
    for (name, owner) in [("kitchen", "ann"), ("attic", "ann"), ("cellar", "bob")] {
        mesh.call::<NodeRegister>(registration(Some(name), owner))
            .await
            .unwrap();
    }
    let wanted = |name: &str| NodeConfigureRequest {
        // It says that it is somebody else: that does not count.
        viewer: Viewer {
            owner: Some("bob".into()),
        },
        node_id: name.parse().unwrap(),
        configuration: NodeConfiguration {
            mode: NodeMode::Sleep,
            ..NodeConfiguration::default()
        },
        labels: None,
    };
    let configured = mesh
        .ask_as::<NodeConfigure>("kitchen", wanted("kitchen"))
        .await
        .unwrap();
    assert_eq!(configured.configuration.mode, NodeMode::Sleep);
    for name in ["attic", "cellar"] {
        let refused = mesh.ask_as::<NodeConfigure>("kitchen", wanted(name)).await;
        assert!(refused.unwrap_err().is(Code::Forbidden), "{name}");
        let seen = entry_of(&mesh, name).await;
        assert_eq!(seen.configuration.mode, NodeMode::Private);
    }
    wait_until(Duration::from_secs(30), || async { !roads.notes().is_empty() }).await;
}

async fn entry_of(mesh: &Mesh, name: &str) -> NodeEntry {
    let request = NodeGetRequest {
        viewer: Viewer::default(),
        node_id: name.parse().unwrap(),
    };
    let service = mesh.context.caller(tenant("default"));
    mesh.bus.call::<NodeGet>(&service, &request).await.unwrap()
}
