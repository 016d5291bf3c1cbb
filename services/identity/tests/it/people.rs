//! The people of a tenant: who may change whom, and what ends with it.

use mesh_api::identity::{
    AuditOutcome, KeyCreate, KeyRequest, PasswordRequest, UserChange, UserCreate, UserDelete, UserGet, UserList,
    UserPassword, UserRef, UserRequest, UserUpdate, UserUpdateRequest, UserView,
};
use mesh_api::{Caller, Endpoint, PageQuery, Role};
use mesh_types::{Code, Problem};

use crate::sessions::PASSWORD;
use crate::setup::{Mesh, caller, key_of};

/// As the edge asks for somebody who signed in.
async fn call<E: Endpoint>(mesh: &Mesh, who: (&str, Role, &str), request: E::Request) -> Result<E::Reply, Problem> {
    let (actor, role, tenant) = who;
    let caller = Caller {
        role: Some(role),
        ..caller(actor, tenant)
    };
    mesh.bus.call::<E>(&caller, &request).await
}

fn change(id: &str, change: UserChange) -> UserUpdateRequest {
    UserUpdateRequest { id: id.into(), change }
}

fn role(role: Role) -> UserChange {
    UserChange {
        role: Some(role),
        ..UserChange::default()
    }
}

fn of(user: &UserView) -> UserRef {
    UserRef { id: user.id.clone() }
}

fn password(id: &str, new: Option<&str>, current: Option<&str>) -> PasswordRequest {
    PasswordRequest {
        id: id.into(),
        password: new.map(str::to_owned),
        current: current.map(str::to_owned),
        credential: None,
        address: "192.0.2.1".into(),
    }
}

fn person(login: &str, tenant: Option<&str>) -> UserRequest {
    UserRequest {
        login: login.into(),
        name: "A person".into(),
        role: Role::Owner,
        password: None,
        tenant: tenant.map(|tenant| tenant.parse().unwrap()),
    }
}

const ANN: (&str, Role, &str) = ("user:ann", Role::Owner, "default");

#[tokio::test]
async fn an_owner_makes_people_and_nobody_below_does() {
    let mesh = Mesh::start().await;
    mesh.person("ann", Role::Owner).await;
    let made = call::<UserCreate>(&mesh, ANN, person("bob", None)).await.unwrap();
    let secret = made.password.unwrap();
    mesh.sign_in_from("bob", &secret, "192.0.2.1").await.unwrap();
    let taken = call::<UserCreate>(&mesh, ANN, person("Bob", None)).await.unwrap_err();
    assert!(taken.is(Code::UserAlreadyExists), "{taken:?}");
    let page = call::<UserList>(&mesh, ANN, PageQuery::default()).await.unwrap();
    let logins: Vec<_> = page.items.iter().map(|user| user.login.as_str()).collect();
    assert_eq!(logins, ["bob", "ann"]);
    assert!(page.items[0].last_sign_in_at.is_some());
    for below in [Role::Viewer, Role::Service, Role::Operator, Role::Developer] {
        let who = ("user:bob", below, "default");
        assert!(
            call::<UserCreate>(&mesh, who, person("eve", None))
                .await
                .unwrap_err()
                .is(Code::Forbidden)
        );
        assert!(
            call::<UserList>(&mesh, who, PageQuery::default())
                .await
                .unwrap_err()
                .is(Code::Forbidden)
        );
        assert!(
            call::<UserDelete>(&mesh, who, of(&made.user))
                .await
                .unwrap_err()
                .is(Code::Forbidden)
        );
        let up = change(&made.user.id, role(Role::Owner));
        assert!(
            call::<UserUpdate>(&mesh, who, up)
                .await
                .unwrap_err()
                .is(Code::Forbidden)
        );
        call::<UserGet>(&mesh, who, of(&made.user)).await.unwrap();
        let other = UserRef {
            id: page.items[1].id.clone(),
        };
        assert!(
            call::<UserGet>(&mesh, who, other)
                .await
                .unwrap_err()
                .is(Code::UserNotFound)
        );
    }
    // Past the first wall, which looks at the role only.
    let up = change(&made.user.id, role(Role::Owner));
    assert!(
        mesh.call::<UserUpdate>("user:bob", up)
            .await
            .unwrap_err()
            .is(Code::Forbidden)
    );
    mesh.refusal("user.update", "no owner").await;
    let short = UserRequest {
        password: Some("short".into()),
        ..person("eve", None)
    };
    let refused = call::<UserCreate>(&mesh, ANN, short).await.unwrap_err();
    assert_eq!((refused.status, refused.field.as_deref()), (400, Some("password")));
}

#[tokio::test]
async fn an_owner_reaches_his_own_tenant_only_and_not_who_runs_the_installation() {
    let mesh = Mesh::start().await;
    let ann = mesh.person("ann", Role::Owner).await.user;
    let eve = mesh
        .call::<UserCreate>("user:admin", person("eve", Some("daarion")))
        .await
        .unwrap()
        .user;
    let theirs = ("user:eve", Role::Owner, "daarion");
    for result in [
        call::<UserGet>(&mesh, theirs, of(&ann)).await.map(drop),
        call::<UserUpdate>(&mesh, theirs, change(&ann.id, role(Role::Viewer)))
            .await
            .map(drop),
        call::<UserPassword>(&mesh, theirs, password(&ann.id, None, None))
            .await
            .map(drop),
        call::<UserDelete>(&mesh, theirs, of(&ann)).await.map(drop),
    ] {
        assert!(result.unwrap_err().is(Code::UserNotFound));
    }
    let elsewhere = call::<UserCreate>(&mesh, theirs, person("mallory", Some("default")))
        .await
        .unwrap_err();
    assert!(elsewhere.is(Code::Forbidden), "{elsewhere:?}");
    // Brought into the tenant, somebody gets a role there and nothing else of him changes.
    mesh.call::<UserCreate>("user:admin", person("ann", Some("daarion")))
        .await
        .unwrap();
    call::<UserUpdate>(&mesh, theirs, change(&ann.id, role(Role::Viewer)))
        .await
        .unwrap();
    let disable = UserChange {
        disabled: Some(true),
        ..UserChange::default()
    };
    for result in [
        call::<UserUpdate>(&mesh, theirs, change(&ann.id, disable))
            .await
            .map(drop),
        call::<UserPassword>(&mesh, theirs, password(&ann.id, None, None))
            .await
            .map(drop),
    ] {
        assert!(result.unwrap_err().is(Code::Forbidden));
    }
    call::<UserDelete>(&mesh, theirs, of(&ann)).await.unwrap();
    assert_eq!(mesh.sign_in("ann").await.session.role, Role::Owner);
    // `admin` is a name that an owner of the tenant neither takes nor changes.
    assert!(call::<UserCreate>(&mesh, ANN, person("admin", None)).await.is_err());
    let admin = mesh
        .call::<UserCreate>("user:admin", person("admin", None))
        .await
        .unwrap()
        .user;
    for result in [
        call::<UserPassword>(&mesh, ANN, password(&admin.id, None, None))
            .await
            .map(drop),
        call::<UserDelete>(&mesh, ANN, of(&admin)).await.map(drop),
        call::<KeyCreate>(&mesh, ANN, key_of("admin")).await.map(drop),
    ] {
        assert!(result.unwrap_err().is(Code::Forbidden));
    }
    assert_eq!(eve.role, Role::Owner);
}

#[tokio::test]
async fn no_tenant_is_left_without_an_owner() {
    let mesh = Mesh::start().await;
    let ann = mesh.person("ann", Role::Owner).await.user;
    let disable = UserChange {
        disabled: Some(true),
        ..UserChange::default()
    };
    for result in [
        call::<UserUpdate>(&mesh, ANN, change(&ann.id, role(Role::Developer)))
            .await
            .map(drop),
        call::<UserUpdate>(&mesh, ANN, change(&ann.id, disable)).await.map(drop),
        call::<UserDelete>(&mesh, ANN, of(&ann)).await.map(drop),
    ] {
        let refused = result.unwrap_err();
        assert!(
            refused.is(Code::Forbidden) && refused.detail.contains("no owner"),
            "{refused:?}"
        );
    }
    mesh.person("bob", Role::Owner).await;
    let changed = call::<UserUpdate>(&mesh, ANN, change(&ann.id, role(Role::Developer)))
        .await
        .unwrap();
    assert_eq!(changed.role, Role::Developer);
    let facts = mesh.audit(AuditOutcome::Done).await;
    let fact = facts.iter().find(|fact| fact.entry.action == "user.update").unwrap();
    assert_eq!(
        (&fact.entry.before["role"], &fact.entry.after["role"]),
        (&"owner".into(), &"developer".into())
    );
}

#[tokio::test]
async fn who_is_disabled_or_let_go_has_nothing_that_is_good() {
    let mesh = Mesh::start().await;
    mesh.person("ann", Role::Owner).await;
    let bob = mesh.person("bob", Role::Developer).await.user;
    let signed_in = mesh.sign_in("bob").await;
    let key = mesh.key("bob").await.secret;
    let set = |disabled| UserChange {
        disabled: Some(disabled),
        ..UserChange::default()
    };
    call::<UserUpdate>(&mesh, ANN, change(&bob.id, set(true)))
        .await
        .unwrap();
    for credential in [&signed_in.session.access_token, &key] {
        let refused = mesh.who(credential).await.unwrap_err();
        assert!(
            refused.is(Code::Unauthorized) && refused.detail.contains("disabled"),
            "{refused:?}"
        );
    }
    assert!(mesh.refresh(&signed_in.refresh_token, None).await.is_err());
    assert!(
        mesh.sign_in_from("bob", PASSWORD, "192.0.2.2")
            .await
            .unwrap_err()
            .is(Code::Unauthorized)
    );
    call::<UserUpdate>(&mesh, ANN, change(&bob.id, set(false)))
        .await
        .unwrap();
    // The key goes on, the session does not.
    mesh.who(&key).await.unwrap();
    assert!(mesh.refresh(&signed_in.refresh_token, None).await.is_err());
    let again = mesh.sign_in("bob").await;
    assert!(call::<UserDelete>(&mesh, ANN, of(&bob)).await.unwrap().deleted);
    for credential in [&again.session.access_token, &key] {
        assert!(mesh.who(credential).await.unwrap_err().is(Code::Unauthorized));
    }
    assert!(
        call::<UserGet>(&mesh, ANN, of(&bob))
            .await
            .unwrap_err()
            .is(Code::UserNotFound)
    );
}

#[tokio::test]
async fn a_persons_key_does_no_more_than_the_person() {
    let mesh = Mesh::start().await;
    mesh.person("ann", Role::Owner).await;
    let bob = mesh.person("bob", Role::Developer).await.user;
    let request = KeyRequest {
        scopes: vec!["agents:read".into()],
        ..key_of("bob")
    };
    let own = ("user:bob", Role::Developer, "default");
    let key = call::<KeyCreate>(&mesh, own, request).await.unwrap();
    let who = mesh.who(&key.secret).await.unwrap();
    assert_eq!(
        (who.role, who.scopes.as_slice()),
        (Some(Role::Developer), &["agents:read".to_owned()][..])
    );
    let more = KeyRequest {
        role: Some(Role::Owner),
        ..key_of("bob")
    };
    assert!(
        call::<KeyCreate>(&mesh, own, more)
            .await
            .unwrap_err()
            .is(Code::Forbidden)
    );
    call::<UserUpdate>(&mesh, ANN, change(&bob.id, role(Role::Viewer)))
        .await
        .unwrap();
    assert_eq!(mesh.who(&key.secret).await.unwrap().role, Some(Role::Viewer));
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() {
    let mesh = Mesh::start().await;
    let ann = mesh.person("ann", Role::Developer).await.user;
    let (here, there) = (mesh.sign_in("ann").await, mesh.sign_in("ann").await);
    let own = ("user:ann", Role::Developer, "default");
    let new = "another horse battery";
    for current in [None, Some("wrong wrong wrong")] {
        let refused = call::<UserPassword>(&mesh, own, password(&ann.id, Some(new), current))
            .await
            .unwrap_err();
        assert!(refused.is(Code::Forbidden), "{refused:?}");
    }
    let request = PasswordRequest {
        credential: Some(here.session.access_token.clone()),
        ..password(&ann.id, Some(new), Some(PASSWORD))
    };
    let set = call::<UserPassword>(&mesh, own, request).await.unwrap();
    assert_eq!((set.sessions_ended, set.password), (1, None));
    mesh.who(&here.session.access_token).await.unwrap();
    assert!(mesh.who(&there.session.access_token).await.is_err());
    assert!(mesh.sign_in_from("ann", PASSWORD, "192.0.2.2").await.is_err());
    mesh.sign_in_from("ann", new, "192.0.2.3").await.unwrap();
    // Who runs the installation sets one without knowing the one before.
    let made = mesh
        .call::<UserPassword>("user:admin", password(&ann.id, None, None))
        .await
        .unwrap();
    assert!(mesh.who(&here.session.access_token).await.is_err());
    let made = made.password.unwrap();
    mesh.sign_in_from("ann", &made, "192.0.2.3").await.unwrap();
    let text = serde_json::to_string(&mesh.audit(AuditOutcome::Done).await).unwrap();
    assert!(!text.contains(&made) && !text.contains(new));
}

#[tokio::test]
async fn a_tenant_reads_and_changes_no_person_of_another_in_the_database_either() {
    let mesh = Mesh::start().await;
    mesh.person("ann", Role::Owner).await;
    mesh.sign_in("ann").await;
    let pool = mesh.superuser().await;
    let mut tx = pool.begin().await.unwrap();
    sqlx::query("SET LOCAL ROLE mesh_identity")
        .execute(&mut *tx)
        .await
        .unwrap();
    for (tenant, tables, expected) in [
        ("default", &["person", "membership"][..], 1),
        ("daarion", &["person", "membership"], 0),
        ("*", &["person", "session", "refresh_token", "signing_key"], 1),
        ("default", &["session", "refresh_token", "signing_key", "attempt"], 0),
    ] {
        sqlx::query("SELECT set_config('mesh.tenant', $1, true)")
            .bind(tenant)
            .execute(&mut *tx)
            .await
            .unwrap();
        for table in tables {
            let query = format!("SELECT count(*) FROM identity.{table}");
            let rows: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
                .fetch_one(&mut *tx)
                .await
                .unwrap();
            assert_eq!(rows, expected, "{table} for {tenant}");
        }
    }
    sqlx::query("SELECT set_config('mesh.tenant', '*', true)")
        .execute(&mut *tx)
        .await
        .unwrap();
    let changed = sqlx::query("UPDATE identity.person SET name = 'x'")
        .execute(&mut *tx)
        .await
        .unwrap();
    assert_eq!(changed.rows_affected(), 0);
}
