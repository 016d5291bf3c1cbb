//! API keys: made, checked, revoked; who sees whose.

use mesh_api::identity::{
    CredentialVerify, JoinTokenCreate, JoinTokenList, JoinTokenRequest, JoinTokenRevoke, KeyCreate, KeyList,
    KeyRequest, KeyRevoke, PrincipalKind, RevokeRequest, UserChange, UserUpdate, UserUpdateRequest, VerifyRequest,
};
use mesh_api::{PageQuery, Role};
use mesh_types::{Code, Problem};

use crate::setup::{ForAnybody, Mesh, caller, key_of};

async fn verify(mesh: &Mesh, credential: &str) -> Result<(PrincipalKind, String, String), Problem> {
    let request = VerifyRequest {
        credential: credential.into(),
    };
    let principal = mesh.call::<CredentialVerify>("service:gateway", request).await?;
    Ok((principal.kind, principal.owner, principal.tenant.to_string()))
}

#[tokio::test]
async fn a_key_is_good_until_it_is_revoked_and_its_secret_is_nowhere() {
    let mesh = Mesh::start().await;
    let made = mesh.key("ann").await;
    let expected = (PrincipalKind::Key, "ann".to_owned(), "default".to_owned());
    assert_eq!(verify(&mesh, &made.secret).await.unwrap(), expected);
    let listed = mesh
        .call::<KeyList>("user:ann", PageQuery::default())
        .await
        .unwrap()
        .items;
    assert_eq!(listed.len(), 1);
    assert!(listed[0].last_used_at.is_some());
    assert!(!serde_json::to_string(&listed).unwrap().contains(&made.secret[31..]));
    let revoke = || RevokeRequest {
        id: made.key.id.clone(),
    };
    let revoked = mesh.call::<KeyRevoke>("user:ann", revoke()).await.unwrap();
    assert!(revoked.revoked_at.is_some());
    let again = mesh.call::<KeyRevoke>("user:ann", revoke()).await.unwrap();
    assert_eq!(again.revoked_at, revoked.revoked_at);
    let problem = verify(&mesh, &made.secret).await.unwrap_err();
    assert!(
        problem.is(Code::Unauthorized) && problem.detail.contains("revoked"),
        "{problem:?}"
    );
    mesh.refusal("credential.verify", "revoked").await;
}

#[tokio::test]
async fn what_is_no_credential_is_refused_and_noted_without_its_text() {
    let mesh = Mesh::start().await;
    let made = mesh.key("ann").await;
    let mut forged = made.secret.clone();
    forged.replace_range(forged.len() - 4.., "AAAA");
    for wrong in [
        "",
        "hunter2",
        &forged,
        "mns_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ] {
        assert!(
            verify(&mesh, wrong).await.unwrap_err().is(Code::Unauthorized),
            "{wrong}"
        );
    }
    let fact = mesh.refusal("credential.verify", "not its secret").await;
    assert_eq!(fact.entry.subject, made.key.id);
    let facts = mesh.audit(mesh_api::identity::AuditOutcome::Refused).await;
    let text = serde_json::to_string(&facts).unwrap();
    assert!(!text.contains("hunter2") && !text.contains(&forged[31..]), "{text}");
}

#[tokio::test]
async fn a_key_whose_time_is_over_is_refused() {
    let mesh = Mesh::start().await;
    let request = mesh_api::identity::KeyRequest {
        expires_in_seconds: Some(1),
        ..key_of("ann")
    };
    let made = mesh.call::<KeyCreate>("dev", request).await.unwrap();
    verify(&mesh, &made.secret).await.unwrap();
    let expired = || async { verify(&mesh, &made.secret).await.is_err() };
    mesh_testkit::wait_until(crate::setup::SOON, expired).await;
    let problem = verify(&mesh, &made.secret).await.unwrap_err();
    assert!(problem.detail.contains("expired"), "{problem:?}");
}

#[tokio::test]
async fn nobody_sees_makes_or_revokes_anothers_credentials() {
    let mesh = Mesh::start().await;
    let made = mesh.key("ann").await;
    let token = mesh.join_token("ann").await;
    for actor in ["user:bob", "node:kitchen", "join:jtk_1"] {
        let problem = mesh.call::<KeyCreate>(actor, key_of("ann")).await.unwrap_err();
        assert!(problem.is(Code::Forbidden), "{actor} {problem:?}");
        let request = JoinTokenRequest {
            owner: Some("ann".into()),
            ..JoinTokenRequest::for_anybody()
        };
        assert!(
            mesh.call::<JoinTokenCreate>(actor, request)
                .await
                .unwrap_err()
                .is(Code::Forbidden)
        );
        let id = made.key.id.clone();
        assert!(mesh.call::<KeyRevoke>(actor, RevokeRequest { id }).await.is_err());
        let id = token.join_token.id.clone();
        assert!(mesh.call::<JoinTokenRevoke>(actor, RevokeRequest { id }).await.is_err());
    }
    assert!(
        mesh.call::<KeyList>("user:bob", PageQuery::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(
        mesh.call::<JoinTokenList>("user:bob", PageQuery::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert_eq!(
        mesh.call::<KeyList>("user:admin", PageQuery::default())
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    // Another tenant's administrator sees nothing of this one.
    let theirs = caller("user:admin", "daarion");
    let listed = mesh.bus.call::<KeyList>(&theirs, &PageQuery::default()).await.unwrap();
    assert!(listed.items.is_empty());
    let id = made.key.id.clone();
    let problem = mesh
        .bus
        .call::<KeyRevoke>(&theirs, &RevokeRequest { id })
        .await
        .unwrap_err();
    assert!(problem.is(Code::CredentialNotFound), "{problem:?}");
    verify(&mesh, &made.secret).await.unwrap();
}

#[tokio::test]
async fn who_runs_the_installation_makes_the_first_key_of_a_tenant() {
    let mesh = Mesh::start().await;
    let request = || mesh_api::identity::KeyRequest {
        tenant: Some("daarion".parse().unwrap()),
        ..key_of("admin")
    };
    let made = mesh.call::<KeyCreate>("user:admin", request()).await.unwrap();
    assert_eq!(verify(&mesh, &made.secret).await.unwrap().2, "daarion");
    let request = mesh_api::identity::KeyRequest {
        tenant: Some("default".parse().unwrap()),
        ..key_of("admin")
    };
    let theirs = caller("user:admin", "daarion");
    let problem = mesh.bus.call::<KeyCreate>(&theirs, &request).await.unwrap_err();
    assert!(problem.is(Code::Forbidden), "{problem:?}");
}

#[tokio::test]
async fn keys_are_read_page_by_page() {
    let mesh = Mesh::start().await;
    for _ in 0..5 {
        mesh.key("ann").await;
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let query = PageQuery { limit: Some(2), after };
        let page = mesh.call::<KeyList>("user:ann", query).await.unwrap();
        seen.extend(page.items.into_iter().map(|key| key.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let unique: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), unique.len()), (5, 5));
}

#[tokio::test]
async fn a_persons_end_in_one_tenant_is_no_end_of_keys_in_another() {
    let mesh = Mesh::start().await;
    let request = KeyRequest {
        tenant: Some("daarion".parse().unwrap()),
        ..key_of("ci")
    };
    let theirs = mesh.call::<KeyCreate>("dev", request).await.unwrap();
    let end = UserUpdateRequest {
        id: mesh.person("ci", Role::Viewer).await.user.id,
        change: UserChange {
            disabled: Some(true),
            ..UserChange::default()
        },
    };
    mesh.call::<UserUpdate>("user:admin", end).await.unwrap();
    assert!(mesh.who(&theirs.secret).await.is_ok());
}
