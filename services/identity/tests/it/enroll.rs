//! Joining and coming back: one owner, one secret, so many uses.

use mesh_api::PageQuery;
use mesh_api::identity::{
    AuditOutcome, Enroll, EnrollRequest, Enrolled, JoinTokenCreate, JoinTokenList, JoinTokenRequest, JoinTokenRevoke,
    RevokeRequest,
};
use mesh_types::{Code, Problem};

use crate::setup::{ForAnybody, Mesh, joining};

async fn enroll(mesh: &Mesh, request: EnrollRequest) -> Result<Enrolled, Problem> {
    mesh.call::<Enroll>("service:gateway", request).await
}

#[tokio::test]
async fn a_node_joins_with_a_token_and_comes_back_with_its_own_secret() {
    let mesh = Mesh::start().await;
    let token = mesh.join_token("ann").await;
    let first = enroll(&mesh, joining(Some(&token.secret), None)).await.unwrap();
    let id = first.node.node_id.to_string();
    assert!(id.starts_with("nod_") && first.node.owner == "ann", "{first:?}");
    let secret = first.secret.unwrap();
    let back = enroll(&mesh, joining(Some(&secret), None)).await.unwrap();
    assert_eq!((back.node.node_id.as_str(), back.secret), (id.as_str(), None));
    // With the token again it gets another secret, and the first one is none any more.
    let again = enroll(&mesh, joining(Some(&token.secret), Some(&id))).await.unwrap();
    assert_ne!(again.secret.unwrap(), secret);
    let problem = enroll(&mesh, joining(Some(&secret), None)).await.unwrap_err();
    assert!(problem.is(Code::Unauthorized), "{problem:?}");
    let done = mesh.audit(AuditOutcome::Done).await;
    assert_eq!(done.iter().filter(|fact| fact.entry.action == "node.enroll").count(), 3);
}

#[tokio::test]
async fn a_node_of_another_owner_is_refused_and_noted() {
    let mesh = Mesh::start().await;
    let (ann, bob) = (mesh.join_token("ann").await, mesh.join_token("bob").await);
    let anns = enroll(&mesh, joining(Some(&ann.secret), Some("kitchen")))
        .await
        .unwrap();
    let problem = enroll(&mesh, joining(Some(&bob.secret), Some("kitchen")))
        .await
        .unwrap_err();
    assert!(problem.is(Code::Forbidden), "{problem:?}");
    let fact = mesh.refusal("node.enroll", "another owner").await;
    assert_eq!(fact.entry.subject, "kitchen");
    assert!(fact.entry.actor.starts_with("join:jtk_"));
    // A node with its own secret cannot become another one.
    let secret = anns.secret.unwrap();
    let problem = enroll(&mesh, joining(Some(&secret), Some("cellar"))).await.unwrap_err();
    assert!(problem.is(Code::Forbidden), "{problem:?}");
    enroll(&mesh, joining(Some(&secret), None)).await.unwrap();
}

#[tokio::test]
async fn a_token_lets_in_as_many_nodes_as_it_is_for_however_many_come_at_once() {
    let mesh = Mesh::start().await;
    let request = JoinTokenRequest {
        uses_max: Some(3),
        ..JoinTokenRequest::for_anybody()
    };
    let token = mesh.call::<JoinTokenCreate>("user:ann", request).await.unwrap();
    let all = (0..8).map(|number| {
        let (mesh, secret) = (&mesh, token.secret.clone());
        async move { enroll(mesh, joining(Some(&secret), Some(&format!("node-{number}")))).await }
    });
    let all = futures::future::join_all(all).await;
    assert_eq!(all.iter().filter(|one| one.is_ok()).count(), 3);
    let joined = all.iter().position(Result::is_ok).unwrap();
    // A node that has joined takes no further use.
    enroll(&mesh, joining(Some(&token.secret), Some(&format!("node-{joined}"))))
        .await
        .unwrap();
    let listed = mesh
        .call::<JoinTokenList>("user:ann", PageQuery::default())
        .await
        .unwrap();
    assert_eq!(listed.items[0].uses, 3);
    mesh.refusal("node.enroll", "used up").await;
}

#[tokio::test]
async fn a_use_is_given_back_when_the_registry_refuses() {
    let mesh = Mesh::start().await;
    let bob = mesh.join_token("bob").await;
    enroll(&mesh, joining(Some(&bob.secret), Some("kitchen")))
        .await
        .unwrap();
    let request = JoinTokenRequest {
        uses_max: Some(1),
        ..JoinTokenRequest::for_anybody()
    };
    let token = mesh.call::<JoinTokenCreate>("user:ann", request).await.unwrap();
    enroll(&mesh, joining(Some(&token.secret), Some("kitchen")))
        .await
        .unwrap_err();
    enroll(&mesh, joining(Some(&token.secret), Some("cellar")))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_token_for_one_node_lets_in_that_node_only_and_none_once_revoked() {
    let mesh = Mesh::start().await;
    let request = JoinTokenRequest {
        node_id: Some("kitchen".parse().unwrap()),
        ..JoinTokenRequest::for_anybody()
    };
    let token = mesh.call::<JoinTokenCreate>("user:ann", request).await.unwrap();
    assert!(
        enroll(&mesh, joining(Some(&token.secret), Some("cellar")))
            .await
            .unwrap_err()
            .is(Code::Forbidden)
    );
    let joined = enroll(&mesh, joining(Some(&token.secret), None)).await.unwrap();
    assert_eq!(joined.node.node_id.as_str(), "kitchen");
    let id = token.join_token.id.clone();
    mesh.call::<JoinTokenRevoke>("user:ann", RevokeRequest { id })
        .await
        .unwrap();
    let problem = enroll(&mesh, joining(Some(&token.secret), None)).await.unwrap_err();
    assert!(
        problem.is(Code::Unauthorized) && problem.detail.contains("revoked"),
        "{problem:?}"
    );
}

#[tokio::test]
async fn nobody_joins_without_a_credential_or_under_a_credentials_name() {
    let mesh = Mesh::start().await;
    assert!(
        enroll(&mesh, joining(None, Some("kitchen")))
            .await
            .unwrap_err()
            .is(Code::Unauthorized)
    );
    mesh.refusal("node.enroll", "no credential").await;
    let token = mesh.join_token("ann").await;
    let other = mesh.join_token("bob").await.join_token.id;
    let problem = enroll(&mesh, joining(Some(&token.secret), Some(&other)))
        .await
        .unwrap_err();
    assert!(problem.is(Code::InvalidName), "{problem:?}");
}

#[tokio::test]
async fn in_development_a_node_joins_with_nothing_or_with_what_it_has() {
    let mesh = Mesh::in_development().await;
    let joined = enroll(&mesh, joining(None, None)).await.unwrap();
    assert_eq!((joined.node.owner.as_str(), joined.secret), ("dev", None));
    let token = mesh.join_token("ann").await;
    let joined = enroll(&mesh, joining(Some(&token.secret), None)).await.unwrap();
    assert_eq!(joined.node.owner, "ann");
    assert!(enroll(&mesh, joining(joined.secret.as_deref(), None)).await.is_ok());
    let problem = enroll(&mesh, joining(Some("mjt_nonsense"), None)).await.unwrap_err();
    assert!(problem.is(Code::Unauthorized), "{problem:?}");
}
