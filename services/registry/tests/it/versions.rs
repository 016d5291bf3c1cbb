//! Publishing: immutable versions, artifacts by their hash, the pointer.

use mesh_api::PageQuery;
use mesh_api::registry::{
    AgentCreate, AgentDelete, AgentGet, AgentPublish, AgentRequest, AgentResolve, AgentRollback, AgentVersions,
    ArtifactGet, ArtifactRequest, Published, ResolveRequest, RollbackRequest, VersionView, VersionsRequest,
};
use mesh_testkit::deliver_twice;
use mesh_types::agent::AgentSpec;
use mesh_types::{Code, Problem};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::setup::{Mesh, declared, guarded, tenant};

async fn versions(mesh: &Mesh, name: &str) -> Result<Vec<VersionView>, Problem> {
    let request = VersionsRequest {
        agent: name.parse().unwrap(),
        page: PageQuery::default(),
    };
    mesh.call::<AgentVersions>(request).await.map(|page| page.items)
}

async fn rollback(mesh: &Mesh, name: &str, version: u32) -> Result<Published, Problem> {
    mesh.call::<AgentRollback>(RollbackRequest {
        agent: name.parse().unwrap(),
        version,
    })
    .await
}

fn resolve(name: &str) -> ResolveRequest {
    ResolveRequest {
        tenant: tenant("default"),
        agent: name.parse().unwrap(),
    }
}

#[tokio::test]
async fn an_answered_publish_is_durable_under_its_hash() {
    let mesh = Mesh::start().await;
    let view = mesh.apply("sofia", "You are Sofia.").await;
    let published = mesh.publish("sofia").await.unwrap();
    assert_eq!((published.version, published.unchanged), (1, false));
    // Straight from the database: the answer came after the commit.
    let bytes: Vec<u8> = sqlx::query_scalar("SELECT bytes FROM registry.artifact WHERE hash = decode($1, 'hex')")
        .bind(&published.hash)
        .fetch_one(&mesh.database.pool().await)
        .await
        .unwrap();
    assert_eq!(hex::encode(Sha256::digest(&bytes)), published.hash);
    assert_eq!(serde_json::from_slice::<AgentSpec>(&bytes).unwrap(), view.spec);
    let request = ArtifactRequest {
        tenant: tenant("default"),
        hash: published.hash.clone(),
    };
    let artifact = mesh.call_as::<ArtifactGet>("other", request).await.unwrap();
    assert_eq!(artifact.bytes.as_bytes(), bytes);
    let read = mesh
        .call::<AgentGet>(AgentRequest {
            agent: "sofia".parse().unwrap(),
        })
        .await
        .unwrap();
    let current = read.status.published.unwrap();
    assert_eq!((current.version, current.hash), (1, published.hash));
    assert_eq!(current.published_at, published.published_at);
    assert!(!read.status.draft);
    assert_eq!(
        read.status.etag, view.status.etag,
        "publishing does not change the declared object"
    );
}

#[tokio::test]
async fn the_same_spec_again_is_the_same_version() {
    let mesh = Mesh::start().await;
    mesh.apply("sofia", "one").await;
    let (first, second) = deliver_twice("sofia", |name| mesh.publish(name)).await;
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(
        second,
        Published {
            unchanged: true,
            ..first.clone()
        }
    );
    mesh.apply("sofia", "two").await;
    let changed = mesh.publish("sofia").await.unwrap();
    assert_eq!((changed.version, changed.unchanged), (2, false));
    // Back to the first text: content, not history, makes a version.
    mesh.apply("sofia", "one").await;
    let back = mesh.publish("sofia").await.unwrap();
    assert_eq!((back.version, back.unchanged), (1, false));
    assert_eq!(back.hash, first.hash);
    assert_eq!(versions(&mesh, "sofia").await.unwrap().len(), 2);
}

#[tokio::test]
async fn sixteen_publishes_at_once_make_one_version() {
    let mesh = Mesh::start().await;
    mesh.apply("sofia", "one").await;
    let results = futures::future::join_all((0..16).map(|_| mesh.publish("sofia"))).await;
    let results: Vec<Published> = results.into_iter().map(Result::unwrap).collect();
    assert!(
        results
            .iter()
            .all(|one| one.version == 1 && one.hash == results[0].hash)
    );
    assert_eq!(results.iter().filter(|one| !one.unchanged).count(), 1);
    assert_eq!(versions(&mesh, "sofia").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_rollback_moves_the_pointer_and_nothing_else() {
    let mesh = Mesh::start().await;
    for text in ["one", "two", "three"] {
        mesh.apply("sofia", text).await;
        mesh.publish("sofia").await.unwrap();
    }
    let back = rollback(&mesh, "sofia", 1).await.unwrap();
    assert_eq!((back.version, back.unchanged), (1, false));
    assert!(rollback(&mesh, "sofia", 1).await.unwrap().unchanged);
    let pointer = mesh.call_as::<AgentResolve>("other", resolve("sofia")).await.unwrap();
    assert_eq!((pointer.version, pointer.hash), (1, back.hash));
    let versions = versions(&mesh, "sofia").await.unwrap();
    let current: Vec<(u32, bool)> = versions.iter().map(|view| (view.version, view.current)).collect();
    assert_eq!(current, [(3, false), (2, false), (1, true)]);
    assert_eq!(versions[0].spec.instructions, "three");
    assert_eq!(versions[2].created_by, "user:ann");
    let read = mesh
        .call::<AgentGet>(AgentRequest {
            agent: "sofia".parse().unwrap(),
        })
        .await
        .unwrap();
    assert_eq!(read.spec.instructions, "three");
    assert!(read.status.draft);
    for version in [0, 4, u32::MAX] {
        let problem = rollback(&mesh, "sofia", version).await.unwrap_err();
        assert!(problem.is(Code::VersionNotFound), "{problem:?}");
    }
}

#[tokio::test]
async fn versions_are_listed_newest_first_page_by_page() {
    let mesh = Mesh::start().await;
    for number in 1..=5 {
        mesh.apply("sofia", &format!("text {number}")).await;
        mesh.publish("sofia").await.unwrap();
    }
    let page = |after: Option<String>| {
        let page = PageQuery { limit: Some(2), after };
        mesh.call::<AgentVersions>(VersionsRequest {
            agent: "sofia".parse().unwrap(),
            page,
        })
    };
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = page(after).await.unwrap();
        seen.extend(page.items.iter().map(|view| view.version));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, [5, 4, 3, 2, 1]);
    assert_eq!(
        page(Some("newest".into())).await.unwrap_err().field.as_deref(),
        Some("after")
    );
}

#[tokio::test]
async fn deleting_an_agent_keeps_its_versions_and_artifacts() {
    let mesh = Mesh::start().await;
    mesh.apply("sofia", "one").await;
    let first = mesh.publish("sofia").await.unwrap();
    mesh.call::<AgentDelete>(guarded("sofia", None)).await.unwrap();
    assert!(
        mesh.call::<AgentResolve>(resolve("sofia"))
            .await
            .unwrap_err()
            .is(Code::AgentNotFound)
    );
    let kept = versions(&mesh, "sofia").await.unwrap();
    assert_eq!(
        kept.iter().map(|view| (view.version, view.current)).collect::<Vec<_>>(),
        [(1, false)]
    );
    let request = ArtifactRequest {
        tenant: tenant("default"),
        hash: first.hash,
    };
    assert!(mesh.call::<ArtifactGet>(request).await.is_ok());
    mesh.apply("sofia", "two").await;
    assert_eq!(mesh.publish("sofia").await.unwrap().version, 2, "numbers go on");
    assert!(versions(&mesh, "nobody").await.unwrap_err().is(Code::AgentNotFound));
}

#[tokio::test]
async fn what_cannot_run_is_kept_and_not_published() {
    let mesh = Mesh::start().await;
    let object =
        json!({"metadata": {"name": "boxed"}, "spec": {"runtime": "container", "container": {"image": "x:1"}}});
    mesh.call::<AgentCreate>(declared(object)).await.unwrap();
    let problem = mesh.publish("boxed").await.unwrap_err();
    assert!(
        problem.is(Code::RuntimeNotAvailable) && problem.next.is_some(),
        "{problem:?}"
    );
    let problem = mesh.call::<AgentResolve>(resolve("boxed")).await.unwrap_err();
    assert!(problem.is(Code::AgentNotPublished), "{problem:?}");
    assert_eq!(versions(&mesh, "boxed").await.unwrap(), []);
}

#[tokio::test]
async fn every_runtime_of_this_build_is_published() {
    let mesh = Mesh::start().await;
    for (name, spec) in [
        (
            "script",
            json!({"runtime": "script", "script": {"command": ["/bin/cat"]}}),
        ),
        ("cli", json!({"runtime": "cli", "cli": {"driver": "codex"}})),
        (
            "http",
            json!({"runtime": "http", "http": {"url": "https://agent.example/"}}),
        ),
        ("noop", json!({"runtime": "noop"})),
    ] {
        let object = json!({"metadata": {"name": name}, "spec": spec});
        mesh.call::<AgentCreate>(declared(object)).await.unwrap();
        assert_eq!(mesh.publish(name).await.unwrap().version, 1, "{name}");
        assert!(mesh.call::<AgentResolve>(resolve(name)).await.is_ok(), "{name}");
    }
}

#[tokio::test]
async fn a_publish_of_what_was_read_fails_when_it_has_changed() {
    let mesh = Mesh::start().await;
    let read = mesh.apply("sofia", "one").await;
    mesh.apply("sofia", "two").await;
    let problem = mesh
        .call::<AgentPublish>(guarded("sofia", Some(&read.status.etag)))
        .await
        .unwrap_err();
    assert!(problem.is(Code::PreconditionFailed));
    assert!(mesh.publish("nobody").await.unwrap_err().is(Code::AgentNotFound));
}

#[tokio::test]
async fn a_hash_that_is_none_or_unknown_is_a_clear_error() {
    let mesh = Mesh::start().await;
    let get = |hash: &str| {
        mesh.call::<ArtifactGet>(ArtifactRequest {
            tenant: tenant("default"),
            hash: hash.into(),
        })
    };
    for hash in ["", "abc", "../../../etc/passwd", &"g".repeat(64), &"A".repeat(64)] {
        let problem = get(hash).await.unwrap_err();
        assert_eq!(
            (problem.status, problem.field.as_deref()),
            (400, Some("hash")),
            "{hash}"
        );
    }
    assert!(get(&"a".repeat(64)).await.unwrap_err().is(Code::ArtifactNotFound));
}
