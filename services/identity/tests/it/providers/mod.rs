//! Sign-in by another provider, against one that speaks the real wire format on this machine.

mod stand;

use mesh_api::Role;
use mesh_api::identity::{
    AuditOutcome, ProviderFinish, ProviderFinishRequest, ProviderFinished, ProviderStart, ProviderStartRequest,
    ProviderStarted, UserChange, UserUpdate, UserUpdateRequest,
};
use mesh_types::{Code, Problem};
use serde_json::json;

use crate::setup::Mesh;
use stand::{Stand, Wrong};

async fn mesh_with(stand: &Stand) -> Mesh {
    let (oidc, github) = (stand.oidc(), stand.github());
    Mesh::start_with(move |config| config.providers = vec![oidc, github]).await
}

async fn start(mesh: &Mesh, provider: &str, return_to: &str) -> Result<ProviderStarted, Problem> {
    let request = ProviderStartRequest {
        provider: provider.into(),
        return_to: return_to.into(),
        asked_at: "http://127.0.0.1:8000".into(),
    };
    mesh.call::<ProviderStart>("service:gateway", request).await
}

/// As a browser that comes back with what the provider gave it.
async fn finish(
    mesh: &Mesh,
    provider: &str,
    (code, state): (String, String),
    binding: &str,
) -> Result<ProviderFinished, Problem> {
    let request = ProviderFinishRequest {
        provider: provider.into(),
        code,
        state,
        binding: binding.into(),
        address: "192.0.2.1".into(),
    };
    mesh.call::<ProviderFinish>("service:gateway", request).await
}

async fn sign_in(mesh: &Mesh, stand: &Stand, provider: &str) -> Result<ProviderFinished, Problem> {
    let started = start(mesh, provider, "/agents?tab=1").await?;
    let given = stand.consent(&started.location).await;
    finish(mesh, provider, given, &started.binding).await
}

#[tokio::test]
async fn who_a_rule_names_signs_in_by_openid_connect_and_is_the_same_person_each_time() {
    let stand = Stand::start().await;
    let mesh = mesh_with(&stand).await;
    for key in ["rsa", "ec", "ed"] {
        stand.sign_with(key);
        let finished = sign_in(&mesh, &stand, "corp").await.unwrap();
        assert_eq!(finished.return_to, "/agents?tab=1");
        let session = &finished.signed_in.session;
        assert_eq!((session.user.login.as_str(), session.role), ("ann-b", Role::Developer));
        let who = mesh.who(&session.access_token).await.unwrap();
        assert_eq!((who.owner.as_str(), who.tenant.as_str()), ("ann-b", "default"));
    }
    let facts = mesh.audit(AuditOutcome::Done).await;
    let made = facts.iter().filter(|fact| fact.entry.action == "user.create");
    assert_eq!(made.count(), 1);
    let begun = facts.iter().find(|fact| fact.entry.action == "session.begin").unwrap();
    assert_eq!(begun.entry.after["by"], "corp");
    // An owner's word about a role stays.
    let id = begun.entry.subject.clone();
    let change = UserChange {
        role: Some(Role::Viewer),
        ..UserChange::default()
    };
    mesh.call::<UserUpdate>("user:admin", UserUpdateRequest { id: id.clone(), change })
        .await
        .unwrap();
    assert_eq!(
        sign_in(&mesh, &stand, "corp").await.unwrap().signed_in.session.role,
        Role::Viewer
    );
    let change = UserChange {
        disabled: Some(true),
        ..UserChange::default()
    };
    mesh.call::<UserUpdate>("user:admin", UserUpdateRequest { id, change })
        .await
        .unwrap();
    let refused = sign_in(&mesh, &stand, "corp").await.err().unwrap();
    assert!(refused.is(Code::Unauthorized), "{refused:?}");
    mesh.refusal("session.begin", "disabled").await;
}

#[tokio::test]
async fn who_no_rule_names_is_refused_and_nobody_new() {
    let stand = Stand::start().await;
    let mesh = mesh_with(&stand).await;
    for person in [
        json!({"sub": "s-9", "email": "eve@evil.example", "email_verified": true}),
        json!({"sub": "s-9", "email": "eve@example.org", "email_verified": false}),
        json!({"sub": "s-9", "preferred_username": "ann"}),
    ] {
        stand.person(person.clone());
        let refused = sign_in(&mesh, &stand, "corp").await.err().unwrap();
        assert!(refused.is(Code::Forbidden), "{person} {refused:?}");
    }
    mesh.refusal("session.begin", "no rule").await;
    let facts = mesh.audit(AuditOutcome::Done).await;
    assert!(facts.iter().all(|fact| fact.entry.action != "user.create"));
}

#[tokio::test]
async fn a_provider_that_says_something_wrong_signs_nobody_in() {
    let stand = Stand::start().await;
    let mesh = mesh_with(&stand).await;
    for wrong in Wrong::ALL {
        stand.be_wrong(Some(wrong));
        let refused = sign_in(&mesh, &stand, "corp").await.err().unwrap();
        assert!(refused.is(Code::Unauthorized), "{wrong:?} {refused:?}");
    }
    stand.be_wrong(None);
    sign_in(&mesh, &stand, "corp").await.unwrap();
}

#[tokio::test]
async fn a_way_back_is_good_once_in_its_own_browser_and_for_its_provider() {
    let stand = Stand::start().await;
    let mesh = mesh_with(&stand).await;
    let started = start(&mesh, "corp", "/").await.unwrap();
    let (code, state) = stand.consent(&started.location).await;
    let back = |provider: &'static str, state: &str, binding: &str| {
        let (given, binding) = ((code.clone(), state.to_owned()), binding.to_owned());
        let mesh = &mesh;
        async move { finish(mesh, provider, given, &binding).await }
    };
    let other = start(&mesh, "corp", "/").await.unwrap();
    for (provider, state, binding) in [
        ("corp", state.as_str(), other.binding.as_str()),
        ("corp", state.as_str(), ""),
        ("corp", "guessed", started.binding.as_str()),
    ] {
        assert!(
            back(provider, state, binding)
                .await
                .err()
                .unwrap()
                .is(Code::Unauthorized)
        );
    }
    back("corp", &state, &started.binding).await.unwrap();
    assert!(
        back("corp", &state, &started.binding)
            .await
            .err()
            .unwrap()
            .is(Code::Unauthorized)
    );
    let third = start(&mesh, "corp", "/").await.unwrap();
    let (_, state) = stand.consent(&third.location).await;
    assert!(
        back("octo", &state, &third.binding)
            .await
            .err()
            .unwrap()
            .is(Code::Unauthorized)
    );
    let late = start(&mesh, "corp", "/").await.unwrap();
    let given = stand.consent(&late.location).await;
    mesh.pass(std::time::Duration::from_secs(601));
    assert!(
        finish(&mesh, "corp", given, &late.binding)
            .await
            .err()
            .unwrap()
            .is(Code::Unauthorized)
    );
}

#[tokio::test]
async fn a_browser_is_sent_nowhere_else() {
    let stand = Stand::start().await;
    let mesh = mesh_with(&stand).await;
    for wrong in ["https://evil.example", "//evil.example", "/\\evil.example", "evil", ""] {
        assert_eq!(start(&mesh, "corp", wrong).await.err().unwrap().status, 400, "{wrong}");
    }
    assert_eq!(start(&mesh, "nobody", "/").await.err().unwrap().status, 404);
    // The code would go to whatever name the request was addressed to.
    let request = ProviderStartRequest {
        provider: "corp".into(),
        return_to: "/".into(),
        asked_at: "http://evil.example".into(),
    };
    let refused = mesh
        .call::<ProviderStart>("service:gateway", request)
        .await
        .err()
        .unwrap();
    assert!(refused.is(Code::Unavailable) && refused.next.unwrap().contains("public_url"));
}

#[tokio::test]
async fn who_a_rule_names_signs_in_by_github_and_keeps_his_login_here_when_it_changes_there() {
    let stand = Stand::start().await;
    let mesh = mesh_with(&stand).await;
    let first = sign_in(&mesh, &stand, "octo").await.unwrap().signed_in.session;
    assert_eq!(
        (first.user.login.as_str(), first.tenant.as_str(), first.role),
        ("octocat", "default", Role::Operator)
    );
    stand.github_user(
        json!({"id": 7, "login": "octodog", "name": "Octo"}),
        json!([
        {"email": "octo@example.net", "primary": true, "verified": true}]),
    );
    let again = sign_in(&mesh, &stand, "octo").await.unwrap().signed_in.session;
    assert_eq!(again.user, first.user);
    // Another person of the same name there is another person here, and no rule names him by an unverified address.
    stand.github_user(
        json!({"id": 8, "login": "stranger", "name": null}),
        json!([
        {"email": "octo@example.net", "primary": true, "verified": false}]),
    );
    let refused = sign_in(&mesh, &stand, "octo").await.err().unwrap();
    assert!(refused.is(Code::Forbidden), "{refused:?}");
    stand.github_user(json!({"id": 8, "login": "OctoCat", "name": null}), json!([]));
    let other = sign_in(&mesh, &stand, "octo").await.unwrap().signed_in.session;
    assert_eq!(other.user.login, "octocat-2");
}
