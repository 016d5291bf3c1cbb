//! Who may listen: by ticket or key, within role and scopes, as long as what it was opened with is good.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use gateway::{Config, LiveConfig};
use mesh_api::identity::{
    AuditEntry, AuditNote, AuditNoted, CredentialVerify, Principal, PrincipalKind, Redeemed, Standing, StandingRequest,
    StandingView, TicketRedeem, TicketRedeemRequest, VerifyRequest,
};
use mesh_api::{Caller, Role};
use mesh_bus::ServiceHandle;
use mesh_types::event::Fact;
use mesh_types::{Code, Problem, Tenant};
use serde_json::json;
use tokio_tungstenite::tungstenite::Error;

use super::client::Client;
use super::{Stage, ids, ours, texts};
use crate::support::problem;

const KEY: &str = "x-service-api-key";

struct Door {
    stage: Stage,
    is_revoked: Arc<AtomicBool>,
    _identity: ServiceHandle,
}

fn principal(name: &str) -> Principal {
    let (role, scopes) = match name {
        "owner" => (Role::Owner, Vec::new()),
        "narrow" => (Role::Viewer, vec!["agents:read".to_owned()]),
        _ => (Role::Viewer, Vec::new()),
    };
    Principal {
        id: format!("key_{name}"),
        kind: PrincipalKind::Key,
        owner: name.into(),
        tenant: ours(),
        role: Some(role),
        scopes,
    }
}

fn refused() -> Problem {
    Problem::new(Code::Unauthorized, "not good")
}

impl Door {
    async fn start() -> Self {
        let live = LiveConfig {
            clients_per_principal_max: 3,
            ..LiveConfig::default()
        };
        let stage = Stage::start_with(Config {
            require_credentials: true,
            live,
            ..Config::default()
        })
        .await;
        let is_revoked = Arc::new(AtomicBool::new(false));
        let good = |is_revoked: &Arc<AtomicBool>| {
            let is_revoked = Arc::clone(is_revoked);
            move |known: bool| {
                if known && !is_revoked.load(Ordering::SeqCst) {
                    Ok(())
                } else {
                    Err(refused())
                }
            }
        };
        let (of_key, of_ticket, of_standing) = (good(&is_revoked), good(&is_revoked), good(&is_revoked));
        let used = Arc::new(Mutex::new(Vec::<String>::new()));
        let identity = stage
            .edge
            .bus
            .service("identity", "0.1.0")
            .endpoint::<CredentialVerify, _, _>(move |_: Caller, request: VerifyRequest| {
                let known = ["viewer", "owner", "narrow"].contains(&request.credential.as_str());
                let found = of_key(known).map(|()| principal(&request.credential));
                async move { found }
            })
            .endpoint::<TicketRedeem, _, _>(move |_: Caller, request: TicketRedeemRequest| {
                let mut used = used.lock().unwrap();
                let is_good = request.ticket == "good" && !used.contains(&request.ticket);
                used.push(request.ticket);
                let redeemed = of_ticket(is_good).map(|()| Redeemed {
                    actor: "user:viewer".into(),
                    tenant: ours(),
                    role: Role::Viewer,
                    scopes: Vec::new(),
                    principal: Some(principal("viewer")),
                    standing: Some("ses_1".into()),
                    expires_at: None,
                });
                async move { redeemed }
            })
            .endpoint::<Standing, _, _>(move |_: Caller, request: StandingRequest| {
                let view = of_standing(request.id == "ses_1").map(|()| StandingView {
                    tenant: ours(),
                    role: Role::Viewer,
                    scopes: Vec::new(),
                    expires_at: None,
                });
                async move { view }
            })
            .endpoint::<AuditNote, _, _>(|_: Caller, _: AuditEntry| async move { Ok(AuditNoted {}) })
            .start()
            .await
            .unwrap();
        Self {
            stage,
            is_revoked,
            _identity: identity,
        }
    }

    async fn open(&self, query: &str, headers: &[(&'static str, &str)]) -> Result<Client, u16> {
        match Client::try_open(self.stage.edge.address, query, headers).await {
            Ok(client) => Ok(client),
            Err(Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_ticket_opens_once_and_a_key_as_often_as_it_may() {
    let door = Door::start().await;
    assert_eq!(door.open("", &[]).await.err(), Some(401));
    assert_eq!(door.open("?ticket=wrong", &[]).await.err(), Some(401));
    assert_eq!(door.open("", &[(KEY, "guessed")]).await.err(), Some(401));
    let by_ticket = door.open("?ticket=good", &[]).await.unwrap();
    assert_eq!(door.open("?ticket=good", &[]).await.err(), Some(401), "used");
    let _second = door.open("", &[(KEY, "viewer")]).await.unwrap();
    let _third = door.open("", &[(KEY, "viewer")]).await.unwrap();
    assert_eq!(
        door.open("", &[(KEY, "viewer")]).await.err(),
        Some(503),
        "three are open"
    );
    drop(by_ticket);
    let again = || async { door.open("", &[(KEY, "viewer")]).await.is_ok() };
    mesh_testkit::wait_until(Duration::from_secs(30), again).await;
    let other = door.open("", &[(KEY, "owner"), ("mesh-tenant", "other")]).await;
    assert_eq!(other.err(), Some(403));
}

#[tokio::test]
async fn a_revoked_credential_ends_every_stream_within_ten_seconds() {
    let door = Door::start().await;
    let mut by_ticket = door.open("?ticket=good", &[]).await.unwrap();
    let mut by_key = door.open("", &[(KEY, "viewer")]).await.unwrap();
    for client in [&mut by_ticket, &mut by_key] {
        client.say(&json!({"subscribe": ["agents"]})).await;
        assert_eq!(client.next().await["live"], true);
    }
    let events = door.stage.edge.get("/api/v1/events?topics=agents").header(KEY, "owner");
    let mut events = events.send().await.unwrap().bytes_stream();
    let one = format!("/api/v1/invocations/{}/events", crate::made::the_invocation());
    door.stage.edge.commit(&crate::facts::journal()[..2]);
    let one = door.stage.edge.get(&one).header(KEY, "narrow_not");
    assert_eq!(problem(one.send().await.unwrap()).await["status"], 401);
    let one = format!("/api/v1/invocations/{}/events", crate::made::the_invocation());
    let mut one = door
        .stage
        .edge
        .get(&one)
        .header(KEY, "owner")
        .send()
        .await
        .unwrap()
        .bytes_stream();

    door.is_revoked.store(true, Ordering::SeqCst);
    // Longer than the promise only by what a loaded machine takes.
    let patience = Duration::from_secs(15);
    let both = async { (by_ticket.end().await, by_key.end().await) };
    let ended = tokio::time::timeout(patience, both).await.expect("both are cut");
    assert_eq!(ended, (Some(4401), Some(4401)));
    let rest = async {
        while events.next().await.is_some() {}
        while one.next().await.is_some() {}
    };
    tokio::time::timeout(patience, rest)
        .await
        .expect("event streams end, too");
}

#[tokio::test]
async fn scopes_narrow_topics_and_the_audit_is_the_owners() {
    let door = Door::start().await;
    let mut narrow = door.open("", &[(KEY, "narrow")]).await.unwrap();
    narrow.say(&json!({"subscribe": ["invocations"]})).await;
    assert_eq!(narrow.next().await["error"]["status"], 403);
    narrow.say(&json!({"subscribe": ["agents"]})).await;
    assert_eq!(narrow.next().await["live"], true);

    let mut clients = Vec::new();
    for key in ["viewer", "owner"] {
        let mut client = door.open("", &[(KEY, key)]).await.unwrap();
        client.say(&json!({"subscribe": ["audit"]})).await;
        assert_eq!(client.next().await["live"], true);
        clients.push(client);
    }
    let noted = || Fact::AuditNoted {
        action: "node.enroll".into(),
        subject: "kitchen".into(),
        outcome: "refused".into(),
        reason: "of another owner".into(),
    };
    let tenant: Tenant = ours();
    let by_owner = door.stage.ground.event(&tenant, "user:owner", noted()).await;
    let by_viewer = door.stage.ground.event(&tenant, "user:viewer", noted()).await;
    assert_eq!(ids(&clients[0].take(1).await), texts(&[by_viewer]));
    assert_eq!(ids(&clients[1].take(2).await), texts(&[by_owner, by_viewer]));
}
