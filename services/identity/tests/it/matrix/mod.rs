//! Identity × subject on a real nats-server: every user of the configuration and every kind of credential tries to say
//! and to hear every family of subjects; what the server refuses is what nobody intended.

mod intentions;

use std::collections::BTreeMap;

use mesh_api::Role;
use mesh_api::identity::{Enroll, KeyCreate, KeyCreated, KeyRequest};

use crate::raw::Raw;
use crate::setup::{Mesh, PASSWORD, joining, key_of};
use intentions::{Column, OWN, columns};

const SERVICES: [&str; 9] = [
    "registry",
    "identity",
    "heartbeat",
    "execution",
    "messaging",
    "memory",
    "inference",
    "reconciler",
    "gateway",
];
/// Those that serve endpoints.
const ANSWERING: [&str; 8] = [
    "registry",
    "identity",
    "heartbeat",
    "execution",
    "messaging",
    "memory",
    "inference",
    "reconciler",
];
const JOBS: [&str; 4] = ["migrate", "seed", "backup", "restore"];
/// Wide subscriptions, which no credential and no service has, but for what stands in [`has_wide`].
const WIDE: [&str; 12] = [
    ">",
    "*",
    "mesh.>",
    "mesh.*.>",
    "mesh.event.other.>",
    "_INBOX.>",
    "_INBOX.*.*",
    "_INBOX.svc_gateway.>",
    "$SYS.>",
    "$JS.>",
    "$KV.>",
    "mesh.journal.other.*",
];

/// Who connects, as the server knows it.
struct Row {
    name: &'static str,
    user: String,
    password: String,
}

async fn key(mesh: &Mesh, tenant: &str, owner: &str, role: Role, scopes: &[&str]) -> KeyCreated {
    let request = KeyRequest {
        tenant: Some(tenant.parse().unwrap()),
        role: Some(role),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        ..key_of(owner)
    };
    mesh.call::<KeyCreate>("dev", request).await.unwrap()
}

/// Outsiders first: what the jobs may do to streams comes last.
async fn rows(mesh: &Mesh) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |name, user: &str, password: &str| {
        rows.push(Row {
            name,
            user: user.to_owned(),
            password: password.to_owned(),
        });
    };
    let token = mesh.join_token("ann").await;
    let enrolled = joining(Some(&token.secret), Some("kitchen"));
    let enrolled = mesh.call::<Enroll>("service:gateway", enrolled).await.unwrap();
    add("node", "kitchen", &enrolled.secret.unwrap());
    add("join", &token.join_token.id, &token.secret);
    for (name, tenant, owner, role, scopes) in [
        ("viewer", OWN, "ann", Role::Viewer, &[][..]),
        ("narrow", OWN, "ann", Role::Owner, &["invocations:read"]),
        ("nothing", OWN, "ann", Role::Owner, &["memories:write"]),
        ("publisher", OWN, "bot", Role::Service, &[]),
        ("owner", OWN, "ann", Role::Owner, &[]),
        ("router", OWN, "bot", Role::Service, &["router:write"]),
        ("operator", "default", "admin", Role::Owner, &[]),
    ] {
        let made = key(mesh, tenant, owner, role, scopes).await;
        add(name, &made.key.id, &made.secret);
    }
    add("system", "mesh-system", PASSWORD);
    for name in SERVICES.into_iter().chain(JOBS) {
        add(name, &format!("svc_{name}"), PASSWORD);
    }
    add("mesh", "mesh", PASSWORD);
    rows
}

/// Who runs the installation hears the facts of all tenants, and the edge what all of its clients want to see.
fn has_wide(row: &str, subject: &str) -> bool {
    match subject {
        "mesh.event.other.>" => row == "operator",
        "mesh.journal.other.*" => ["gateway", "mesh"].contains(&row),
        "_INBOX.svc_gateway.>" => row == "gateway",
        _ => false,
    }
}

/// What the server says against the intention.
async fn wrong(raw: &mut Raw, row: &Row, column: &Column) -> Vec<String> {
    let mut wrong = Vec::new();
    let Column { subject, say, hear } = column;
    for (verb, intended, errors) in [
        ("publish", say.contains(&row.name), raw.publish(subject, "").await),
        ("subscribe", hear.contains(&row.name), raw.subscribe(subject).await),
    ] {
        let allowed = errors.is_empty();
        assert!(allowed || errors[0].contains("Permissions Violation"), "{errors:?}");
        if allowed != intended {
            let verdict = if allowed { "lets" } else { "refuses" };
            wrong.push(format!("nats-server {verdict} {} {verb} {subject}", row.name));
        }
    }
    wrong
}

#[tokio::test]
async fn everybody_says_and_hears_what_is_theirs_and_nothing_else() {
    let mesh = Mesh::start().await;
    let columns = columns();
    let mut all_wrong = Vec::new();
    let mut verdicts = BTreeMap::new();
    for row in rows(&mesh).await {
        let mut raw = Raw::connect(mesh.nats.url(), &row.user, &row.password).await.unwrap();
        for column in &columns {
            all_wrong.extend(wrong(&mut raw, &row, column).await);
            *verdicts.entry(row.name).or_insert(0) += 2;
        }
        for subject in WIDE {
            if raw.subscribe(subject).await.is_empty() && !has_wide(row.name, subject) {
                all_wrong.push(format!("nats-server lets {} subscribe {subject}", row.name));
            }
        }
    }
    assert!(verdicts.len() == 24 && columns.len() > 200, "{verdicts:?}");
    assert!(all_wrong.is_empty(), "{}:\n{}", all_wrong.len(), all_wrong.join("\n"));
}

#[tokio::test]
async fn nobody_gets_in_as_somebody_else() {
    let mesh = Mesh::start().await;
    let url = mesh.nats.url();
    let made = key(&mesh, OWN, "ann", Role::Viewer, &[]).await;
    let other = key(&mesh, OWN, "ann", Role::Viewer, &[]).await;
    for (user, password) in [
        ("", ""),
        ("svc_registry", ""),
        ("svc_registry", "guessed"),
        ("svc_registry", made.secret.as_str()),
        ("mesh", made.secret.as_str()),
        ("svc_unheard-of", PASSWORD),
        (other.key.id.as_str(), made.secret.as_str()),
        (made.key.id.as_str(), PASSWORD),
    ] {
        assert!(Raw::connect(url, user, password).await.is_err(), "{user}");
    }
    Raw::connect(url, &made.key.id, &made.secret).await.unwrap();
    // Clients that know a token only.
    Raw::connect(url, "", &made.secret).await.unwrap();
}
