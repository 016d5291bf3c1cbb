//! Sign-in, the pair of tokens, and how a session goes on and ends.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mesh_api::Role;
use mesh_api::identity::{
    AuditOutcome, CredentialVerify, Me, MeRequest, Principal, PrincipalKind, Refresh, RefreshRequest, SignIn,
    SignInRequest, SignOut, SignOutRequest, SignedIn, UserCreate, UserCreated, UserRequest, VerifyRequest,
};
use mesh_types::{Code, Problem};
use serde_json::{Value, json};

use crate::setup::Mesh;

pub(crate) const PASSWORD: &str = "correct horse battery";

impl Mesh {
    pub(crate) async fn person(&self, login: &str, role: Role) -> UserCreated {
        let request = UserRequest {
            login: login.into(),
            name: String::new(),
            role,
            password: Some(PASSWORD.into()),
            tenant: None,
        };
        self.call::<UserCreate>("user:admin", request).await.unwrap()
    }

    pub(crate) async fn sign_in_from(&self, login: &str, password: &str, address: &str) -> Result<SignedIn, Problem> {
        let request = SignInRequest {
            login: login.into(),
            password: password.into(),
            tenant: None,
            address: address.into(),
        };
        self.call::<SignIn>("service:gateway", request).await
    }

    pub(crate) async fn sign_in(&self, login: &str) -> SignedIn {
        self.sign_in_from(login, PASSWORD, "192.0.2.1").await.unwrap()
    }

    pub(crate) async fn refresh(&self, token: &str, tenant: Option<&str>) -> Result<SignedIn, Problem> {
        let request = RefreshRequest {
            refresh_token: token.into(),
            tenant: tenant.map(|tenant| tenant.parse().unwrap()),
        };
        self.call::<Refresh>("service:gateway", request).await
    }

    pub(crate) async fn who(&self, credential: &str) -> Result<Principal, Problem> {
        let request = VerifyRequest {
            credential: credential.into(),
        };
        self.call::<CredentialVerify>("service:gateway", request).await
    }
}

#[tokio::test]
async fn a_person_signs_in_and_is_nobody_after_signing_out() {
    let mesh = Mesh::start().await;
    let made = mesh.person("Ann", Role::Developer).await;
    assert_eq!((made.user.login.as_str(), made.password), ("ann", None));
    let signed_in = mesh.sign_in(" ANN ").await;
    assert_eq!(
        (signed_in.session.expires_in, signed_in.session.role),
        (600, Role::Developer)
    );
    let who = mesh.who(&signed_in.session.access_token).await.unwrap();
    assert_eq!(
        (who.kind, who.owner.as_str(), who.role),
        (PrincipalKind::User, "ann", Some(Role::Developer))
    );
    assert_eq!(who.id, made.user.id);
    let me = mesh.call::<Me>("user:ann", MeRequest { user: who.id }).await.unwrap();
    assert_eq!((me.user.login.as_str(), me.tenants.len()), ("ann", 1));
    let refresh_token = signed_in.refresh_token.clone();
    let request = || SignOutRequest {
        refresh_token: refresh_token.clone(),
    };
    assert!(mesh.call::<SignOut>("service:gateway", request()).await.unwrap().ended);
    assert!(!mesh.call::<SignOut>("service:gateway", request()).await.unwrap().ended);
    let over = mesh.who(&signed_in.session.access_token).await.unwrap_err();
    assert!(
        over.is(Code::Unauthorized) && over.detail.contains("signed out"),
        "{over:?}"
    );
    assert!(
        mesh.refresh(&refresh_token, None)
            .await
            .unwrap_err()
            .is(Code::Unauthorized)
    );
    let facts = mesh.audit(AuditOutcome::Done).await;
    let of = |action: &str| facts.iter().filter(|fact| fact.entry.action == action).count();
    assert_eq!((of("user.create"), of("session.begin"), of("session.end")), (1, 1, 1));
    let text = serde_json::to_string(&facts).unwrap();
    for secret in [PASSWORD, &refresh_token[4..], &signed_in.session.access_token, "argon2"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn nothing_that_is_kept_signs_anybody_in() {
    let mesh = Mesh::start().await;
    mesh.person("ann", Role::Developer).await;
    let signed_in = mesh.sign_in("ann").await;
    let pool = mesh.superuser().await;
    let mut kept = String::new();
    for table in ["person", "session", "refresh_token", "ticket", "attempt", "membership"] {
        let query = format!("SELECT coalesce(string_agg(t::text, ' '), '') FROM identity.{table} AS t");
        let rows: String = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .fetch_one(&pool)
            .await
            .unwrap();
        kept.push_str(&rows);
    }
    assert!(kept.contains("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
    for secret in [PASSWORD, &signed_in.refresh_token[4..], &signed_in.session.access_token] {
        assert!(!kept.contains(secret));
    }
}

#[tokio::test]
async fn an_unknown_login_gets_the_answer_of_a_wrong_password() {
    let mesh = Mesh::start().await;
    mesh.person("ann", Role::Viewer).await;
    let wrong = mesh
        .sign_in_from("ann", "wrong wrong wrong", "192.0.2.1")
        .await
        .unwrap_err();
    let unknown = mesh.sign_in_from("bob", PASSWORD, "192.0.2.2").await.unwrap_err();
    assert!(wrong.is(Code::Unauthorized));
    assert_eq!((wrong.detail, wrong.next), (unknown.detail, unknown.next));
    let long = "x".repeat(100_000);
    let endless = mesh.sign_in_from("ann", &long, "192.0.2.3").await.unwrap_err();
    assert!(endless.is(Code::Unauthorized));
    mesh.refusal("session.begin", "wrong password").await;
    let fact = mesh.refusal("session.begin", "unknown login").await;
    assert_eq!(fact.entry.subject, "unknown");
}

#[tokio::test]
async fn five_wrong_ones_lock_account_and_address_for_thirty_seconds_however_many_come_at_once() {
    let mesh = Mesh::start().await;
    mesh.person("ann", Role::Viewer).await;
    mesh.person("bob", Role::Viewer).await;
    let guesses = (0..15).map(|_| mesh.sign_in_from("ann", "wrong wrong wrong", "192.0.2.1"));
    let guesses = futures::future::join_all(guesses).await;
    let looked_at = guesses
        .iter()
        .filter(|one| one.as_ref().is_err_and(|problem| problem.is(Code::Unauthorized)));
    assert_eq!(looked_at.count(), 5);
    let of = |login: &'static str, address: &'static str| mesh.sign_in_from(login, PASSWORD, address);
    let locked = of("ann", "192.0.2.7").await.unwrap_err();
    assert!(locked.is(Code::TooManyAttempts), "{locked:?}");
    assert!((1..=30).contains(&locked.retry_after_seconds.unwrap()));
    assert!(of("bob", "192.0.2.1").await.unwrap_err().is(Code::TooManyAttempts));
    of("bob", "192.0.2.7").await.unwrap();
    mesh.refusal("session.begin", "locked out").await;
    mesh.pass(Duration::from_secs(31));
    of("ann", "192.0.2.1").await.unwrap();
}

#[tokio::test]
async fn a_token_that_was_not_signed_here_for_now_is_none() {
    let mesh = Mesh::start().await;
    mesh.person("ann", Role::Viewer).await;
    let token = mesh.sign_in("ann").await.session.access_token;
    let parts: Vec<&str> = token.split('.').collect();
    let read = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    let written = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let (header, claims) = (read(parts[0]), read(parts[1]));
    assert_eq!(header["alg"], "EdDSA");
    let mut owner = claims.clone();
    owner["role"] = "owner".into();
    let with = |name: &str, value: Value| {
        let mut header = header.clone();
        header[name] = value;
        format!("{}.{}.{}", written(&header), parts[1], parts[2])
    };
    let forged = [
        format!("{}.{}.{}", parts[0], written(&owner), parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        with("alg", "none".into()),
        with("alg", "HS256".into()),
        with("kid", "another".into()),
        with("jwk", json!({"kty": "OKP"})),
        format!("{}.{}.", written(&json!({"alg": "none", "typ": "JWT"})), parts[1]),
        format!("{token}A"),
    ];
    for forged in &forged {
        assert!(mesh.who(forged).await.unwrap_err().is(Code::Unauthorized), "{forged}");
    }
    mesh.who(&token).await.unwrap();
    mesh.pass(Duration::from_secs(601));
    let expired = mesh.who(&token).await.unwrap_err();
    assert!(
        expired.is(Code::Unauthorized) && expired.detail.contains("expired"),
        "{expired:?}"
    );
}

#[tokio::test]
async fn tokens_of_the_key_before_are_good_while_a_new_key_signs() {
    let mesh = Mesh::start_with(|config| config.access_seconds = 3_600).await;
    mesh.person("ann", Role::Viewer).await;
    let kid = |token: &str| token.split('.').next().unwrap().to_owned();
    mesh.pass(Duration::from_secs(30 * 86_400 - 60));
    // Made now, the key of the start is a minute from its end.
    let pool = mesh.superuser().await;
    let before = mesh.sign_in("ann").await.session.access_token;
    sqlx::query("UPDATE identity.signing_key SET signs_until = signs_until - interval '60 days'")
        .execute(&pool)
        .await
        .unwrap();
    let _other = mesh.second_identity().await;
    mesh.pass(Duration::from_secs(31 * 86_400));
    let after = mesh.sign_in("ann").await.session.access_token;
    assert_ne!(kid(&before), kid(&after));
    mesh.who(&after).await.unwrap();
    let keys: i64 = sqlx::query_scalar("SELECT count(*) FROM identity.signing_key")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(keys, 2);
}

#[tokio::test]
async fn each_refresh_token_is_good_once_and_a_second_use_ends_the_session() {
    let mesh = Mesh::start().await;
    mesh.person("ann", Role::Viewer).await;
    let first = mesh.sign_in("ann").await;
    let second = mesh.refresh(&first.refresh_token, None).await.unwrap();
    assert_ne!(second.refresh_token, first.refresh_token);
    let third = mesh.refresh(&second.refresh_token, None).await.unwrap();
    // Somebody kept the first one.
    assert!(
        mesh.refresh(&first.refresh_token, None)
            .await
            .unwrap_err()
            .is(Code::Unauthorized)
    );
    for token in [&second.refresh_token, &third.refresh_token] {
        assert!(mesh.refresh(token, None).await.unwrap_err().is(Code::Unauthorized));
    }
    assert!(mesh.who(&third.session.access_token).await.is_err());
    let facts = mesh.audit(AuditOutcome::Done).await;
    let revoked = facts.iter().find(|fact| fact.entry.action == "session.revoke").unwrap();
    assert!(revoked.entry.reason.contains("twice"), "{revoked:?}");
}

#[tokio::test]
async fn a_lost_answer_signs_nobody_out_for_ten_seconds() {
    let mesh = Mesh::start().await;
    mesh.person("ann", Role::Viewer).await;
    let first = mesh.sign_in("ann").await;
    let _lost = mesh.refresh(&first.refresh_token, None).await.unwrap();
    let again = mesh.refresh(&first.refresh_token, None).await.unwrap();
    mesh.refresh(&again.refresh_token, None).await.unwrap();
    // Tabs that open at once.
    let other = mesh.sign_in("ann").await;
    let tabs = (0..6).map(|_| mesh.refresh(&other.refresh_token, None));
    assert!(futures::future::join_all(tabs).await.iter().all(Result::is_ok));
    let late = mesh.sign_in("ann").await;
    mesh.refresh(&late.refresh_token, None).await.unwrap();
    mesh.pass(Duration::from_secs(11));
    assert!(
        mesh.refresh(&late.refresh_token, None)
            .await
            .unwrap_err()
            .is(Code::Unauthorized)
    );
}

#[tokio::test]
async fn a_session_ends_after_its_days_and_no_token_outlives_it() {
    let mesh = Mesh::start_with(|config| config.session_days = 1).await;
    mesh.person("ann", Role::Viewer).await;
    let first = mesh.sign_in("ann").await;
    assert!((86_390..=86_400).contains(&first.refresh_expires_in));
    mesh.pass(Duration::from_secs(86_400 - 100));
    let last = mesh.refresh(&first.refresh_token, None).await.unwrap();
    assert!(last.session.expires_in <= 100, "{}", last.session.expires_in);
    mesh.pass(Duration::from_secs(101));
    assert!(
        mesh.refresh(&last.refresh_token, None)
            .await
            .unwrap_err()
            .is(Code::Unauthorized)
    );
    assert!(mesh.who(&last.session.access_token).await.is_err());
}

#[tokio::test]
async fn one_person_goes_from_tenant_to_tenant_and_has_a_role_in_each() {
    let mesh = Mesh::start().await;
    mesh.person("ann", Role::Owner).await;
    let there = UserRequest {
        login: "ann".into(),
        name: String::new(),
        role: Role::Viewer,
        password: None,
        tenant: Some("daarion".parse().unwrap()),
    };
    mesh.call::<UserCreate>("user:admin", there).await.unwrap();
    let home = mesh.sign_in("ann").await;
    assert_eq!(
        (home.session.tenant.as_str(), home.session.tenants.len()),
        ("default", 2)
    );
    let away = mesh.refresh(&home.refresh_token, Some("daarion")).await.unwrap();
    let who = mesh.who(&away.session.access_token).await.unwrap();
    assert_eq!((who.tenant.as_str(), who.role), ("daarion", Some(Role::Viewer)));
    // The token for home is good there still.
    assert_eq!(
        mesh.who(&home.session.access_token).await.unwrap().role,
        Some(Role::Owner)
    );
    let stays = mesh.refresh(&away.refresh_token, None).await.unwrap();
    assert_eq!(stays.session.tenant.as_str(), "daarion");
    let nowhere = mesh.refresh(&stays.refresh_token, Some("elsewhere")).await.unwrap_err();
    assert!(nowhere.is(Code::Forbidden), "{nowhere:?}");
    // That took no token away.
    mesh.refresh(&stays.refresh_token, Some("default")).await.unwrap();
}
