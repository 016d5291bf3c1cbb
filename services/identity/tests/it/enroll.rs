//! Joining and coming back: one owner, one secret, so many uses.

use mesh_api::identity::{
    AuditOutcome, Enroll, EnrollRequest, Enrolled, JoinTokenCreate, JoinTokenCreated, JoinTokenList, JoinTokenRequest,
    JoinTokenRevoke, KeyCreate, KeyRequest, KeyRevoke, RevokeRequest,
};
use mesh_api::{PageQuery, Role};
use mesh_types::{Code, Problem};

use crate::setup::{ForAnybody, Mesh, joining, key_of};

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
    // With its owner's key it gets another secret, and the first one is none any more.
    let key = mesh.key("ann").await;
    let again = enroll(&mesh, joining(Some(&key.secret), Some(&id))).await.unwrap();
    assert_ne!(again.secret.unwrap(), secret);
    let problem = enroll(&mesh, joining(Some(&secret), None)).await.unwrap_err();
    assert!(problem.is(Code::Unauthorized), "{problem:?}");
    let done = mesh.audit(AuditOutcome::Done).await;
    assert_eq!(done.iter().filter(|fact| fact.entry.action == "node.enroll").count(), 3);
}

#[tokio::test]
async fn a_key_joins_a_node_only_with_the_role_and_the_scope_for_it() {
    let mesh = Mesh::start().await;
    for (role, scope, may) in [
        (Role::Viewer, None, false),
        (Role::Service, None, false),
        (Role::Operator, Some("memories:read"), false),
        (Role::Operator, Some("nodes:write"), true),
        (Role::Operator, None, true),
    ] {
        let request = KeyRequest {
            role: Some(role),
            scopes: scope.map(str::to_owned).into_iter().collect(),
            ..key_of("ann")
        };
        let made = mesh.call::<KeyCreate>("dev", request).await.unwrap();
        let answer = enroll(&mesh, joining(Some(&made.secret), None)).await;
        assert_eq!(answer.is_ok(), may, "{role:?} {scope:?}");
        assert!(may || answer.unwrap_err().is(Code::Forbidden));
    }
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

async fn uses(mesh: &Mesh, token: &JoinTokenCreated) -> u32 {
    let listed = mesh
        .call::<JoinTokenList>("user:ann", PageQuery::default())
        .await
        .unwrap();
    let found = listed.items.iter().find(|one| one.id == token.join_token.id);
    found.unwrap().uses
}

#[tokio::test]
async fn a_token_takes_over_no_node_that_has_been_there() {
    let mesh = Mesh::start().await;
    let (first, second) = (mesh.join_token("ann").await, mesh.join_token("ann").await);
    let kitchen = |token: &JoinTokenCreated| joining(Some(&token.secret), Some("kitchen"));
    let lost = enroll(&mesh, kitchen(&first)).await.unwrap();
    // Another token is none to it, even before it was seen.
    assert!(enroll(&mesh, kitchen(&second)).await.unwrap_err().is(Code::Forbidden));
    // The answer was lost: the same try again.
    let secret = enroll(&mesh, kitchen(&first)).await.unwrap().secret.unwrap();
    let problem = enroll(&mesh, joining(lost.secret.as_deref(), None)).await.unwrap_err();
    assert!(problem.is(Code::Unauthorized), "{problem:?}");
    enroll(&mesh, joining(Some(&secret), None)).await.unwrap();
    for token in [&first, &second] {
        let problem = enroll(&mesh, kitchen(token)).await.unwrap_err();
        assert!(
            problem.is(Code::Forbidden) && problem.next.as_ref().unwrap().contains("--node kitchen"),
            "{problem:?}"
        );
    }
    let fact = mesh.refusal("node.enroll", "has joined already").await;
    assert_eq!(fact.entry.subject, "kitchen");
    assert_eq!((uses(&mesh, &first).await, uses(&mesh, &second).await), (1, 0));
    enroll(&mesh, joining(Some(&secret), None)).await.unwrap();
    // Nor one whose secret was revoked.
    let id = "kitchen".to_owned();
    mesh.call::<KeyRevoke>("user:ann", RevokeRequest { id }).await.unwrap();
    assert!(enroll(&mesh, kitchen(&first)).await.unwrap_err().is(Code::Forbidden));
    let request = JoinTokenRequest {
        node_id: Some("kitchen".parse().unwrap()),
        ..JoinTokenRequest::for_anybody()
    };
    let own = mesh.call::<JoinTokenCreate>("user:ann", request).await.unwrap();
    enroll(&mesh, joining(Some(&own.secret), None)).await.unwrap();
}

async fn for_one_node(mesh: &Mesh) -> JoinTokenCreated {
    let request = JoinTokenRequest {
        uses_max: Some(1),
        ..JoinTokenRequest::for_anybody()
    };
    mesh.call::<JoinTokenCreate>("user:ann", request).await.unwrap()
}

#[tokio::test]
async fn a_try_that_fails_takes_no_use_back_that_another_try_goes_by() {
    let mesh = Mesh::start().await;
    let token = for_one_node(&mesh).await;
    let registry = &mesh.registry;
    let node = |name: &str| joining(Some(&token.secret), Some(name));
    let (first, second) = (registry.hold(), registry.hold());
    let (refused, let_in, ()) = tokio::join!(
        enroll(&mesh, node("kitchen")),
        async {
            registry.wait_asked(1).await;
            let joined = enroll(&mesh, node("kitchen")).await;
            first.send(false).unwrap();
            joined
        },
        async {
            registry.wait_asked(2).await;
            second.send(true).unwrap();
        }
    );
    assert!(refused.unwrap_err().is(Code::Forbidden));
    let_in.unwrap();
    assert_eq!(uses(&mesh, &token).await, 1);
    assert!(enroll(&mesh, node("cellar")).await.unwrap_err().is(Code::Unauthorized));
}

#[tokio::test]
async fn a_use_that_another_try_took_back_is_counted_again() {
    let mesh = Mesh::start().await;
    let token = for_one_node(&mesh).await;
    let registry = &mesh.registry;
    let node = |name: &str| joining(Some(&token.secret), Some(name));
    let (first, second) = (registry.hold(), registry.hold());
    let (refused, let_in, ()) = tokio::join!(
        async {
            let refused = enroll(&mesh, node("kitchen")).await;
            second.send(true).unwrap();
            refused
        },
        async {
            registry.wait_asked(1).await;
            enroll(&mesh, node("kitchen")).await
        },
        async {
            registry.wait_asked(2).await;
            first.send(false).unwrap();
        }
    );
    assert!(refused.unwrap_err().is(Code::Forbidden));
    let_in.unwrap();
    assert_eq!(uses(&mesh, &token).await, 1);
    assert!(enroll(&mesh, node("cellar")).await.unwrap_err().is(Code::Unauthorized));
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
