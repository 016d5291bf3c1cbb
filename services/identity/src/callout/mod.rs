//! The question of nats-server who may connect (`$SYS.REQ.USER.AUTH`), and the answer: a user with exactly the rights
//! of its kind, or the reason why not. Services have a user of their own in the server's configuration.

mod connections;
mod jwt;
mod permissions;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use mesh_api::identity::PrincipalKind;
use mesh_bus::{Bus, Headers, RawRequest};
use mesh_types::Tenant;
use mesh_types::subject::Filter;

use crate::state::State;
use crate::verify::{Refused, Verified, verify};

pub(crate) use connections::{Connection, Connections};
pub(crate) use jwt::Issuer;

use jwt::Asked;
use permissions::Permissions;

pub(crate) use permissions::ROUTER_SCOPE;

/// Connections do not all end in the same moment after a restart of the server: each a little earlier.
const SPREAD_PERCENT: u64 = 20;

const KICK_DEADLINE: Duration = Duration::from_secs(2);
/// How long the servers are listened to that say who is connected.
const LIST_WITHIN: Duration = Duration::from_millis(300);
const LISTED_MAX: usize = 1_024;
const CUT_AT_ONCE: usize = 16;

/// Answers one question.
pub(crate) async fn answer(state: Arc<State>, request: RawRequest) {
    let Some(issuer) = &state.issuer else {
        return;
    };
    let asked = match Asked::read(&request.payload) {
        Ok(asked) => asked,
        Err(error) => {
            // Only the server and services may ask.
            tracing::warn!(error, "a question of nats-server cannot be read");
            return;
        }
    };
    let now = state.context.clock.now();
    let answer = match decide(&state, &asked).await {
        Ok(verified) => {
            let principal = &verified.principal;
            state.connections.note(
                &principal.id,
                Connection {
                    server: asked.server.clone(),
                    client: asked.client,
                },
            );
            let permissions = Permissions::of(principal);
            let lasts = lasts(state.config.connection_seconds, &asked.user_key);
            let left = verified.expires_at.map(|at| at.since(now));
            let lasts = left.map_or(lasts, |left| lasts.min(left.max(Duration::from_secs(1))));
            issuer.admit(&asked, &principal.id, &permissions, now, lasts)
        }
        Err(reason) => issuer.refuse(&asked, &reason, now),
    };
    match answer {
        Ok(answer) => {
            if let Err(error) = request.respond(Bytes::from(answer)).await {
                tracing::warn!(%error, "nats-server gets no answer");
            }
        }
        Err(error) => tracing::error!(error, "an answer to nats-server cannot be signed"),
    }
}

/// Who it is; else the reason, which the server's log gets and the client does not.
async fn decide(state: &State, asked: &Asked) -> Result<Verified, String> {
    let refused = match verify(state, &asked.password).await {
        Ok(Ok(verified)) if is_named(&verified, asked) => return Ok(verified),
        Ok(Ok(verified)) => Refused {
            tenant: verified.principal.tenant.clone(),
            subject: asked.user.clone(),
            reason: "the credential is another one's",
        },
        Ok(Err(refused)) if asked.user.is_empty() && asked.password.is_empty() => Refused {
            reason: "no credential",
            ..refused
        },
        Ok(Err(refused)) => refused,
        Err(problem) => return Err(format!("cannot be looked at: {problem}")),
    };
    let actor = if asked.user.is_empty() {
        "anonymous"
    } else {
        &asked.user
    };
    let mut entry = refused.entry(actor, "nats.connect");
    if refused.subject == "unknown" && !asked.user.is_empty() {
        entry.subject.clone_from(&asked.user);
    }
    entry.after = serde_json::json!({"host": asked.host, "client": asked.name});
    let tenant = tenant_of(state, &refused, &asked.user).await;
    state.note_refused(&tenant, entry).await;
    Err(refused.reason.to_owned())
}

/// Who comes with its own name, or a key that comes alone, as clients with a token do.
fn is_named(verified: &Verified, asked: &Asked) -> bool {
    let principal = &verified.principal;
    principal.id == asked.user || (asked.user.is_empty() && principal.kind == PrincipalKind::Key)
}

/// Whom a refusal concerns: where a stranger names a node that is known, its tenant.
async fn tenant_of(state: &State, refused: &Refused, user: &str) -> Tenant {
    if refused.subject != "unknown" {
        return refused.tenant.clone();
    }
    let Ok(node) = user.parse() else {
        return refused.tenant.clone();
    };
    let known = async {
        let mut tx = state.begin_for_all().await.ok()?;
        crate::store::node_secrets::get(&mut *tx, &node).await.ok()?
    };
    known.await.map_or_else(|| refused.tenant.clone(), |known| known.tenant)
}

/// Between 80 and 100 % of the time, by the connection's own key.
fn lasts(seconds: u64, user_key: &str) -> Duration {
    let sum: u64 = user_key.bytes().map(u64::from).sum();
    let less = seconds * (sum % (SPREAD_PERCENT + 1)) / 100;
    Duration::from_secs((seconds - less).max(1))
}

/// Cuts the connections of whoever was revoked. Those that nobody knows of end when their time is over.
pub(crate) async fn cut_off(state: &State, id: &str) {
    let Some(system) = &state.system else {
        return;
    };
    let mut connections = state.connections.take(id);
    // Other instances of identity may have let some of them in.
    for found in connections_of(system, id).await {
        if !connections.contains(&found) {
            connections.push(found);
        }
    }
    let connections = connections.into_iter();
    let kicks = connections.filter_map(|connection| {
        let server = connection.server.parse().ok()?;
        let subject = mesh_types::Subject::KickConnection { server };
        let body = Bytes::from(serde_json::json!({"cid": connection.client}).to_string());
        Some(async move {
            // The server does nothing for who awaits no answer. One that says that there is no such connection is as
            // good.
            if let Err(problem) = system.request(&subject, Headers::new(), body, KICK_DEADLINE).await {
                tracing::warn!(%problem, id, "a revoked connection is not cut off before its time is over");
            }
        })
    });
    futures::future::join_all(kicks).await;
}

/// As [`cut_off`], several at once.
pub(crate) async fn cut_off_all(state: &State, ids: &[String]) {
    let all = ids.iter().map(|id| cut_off(state, id));
    futures::stream::iter(all)
        .for_each_concurrent(CUT_AT_ONCE, |one| one)
        .await;
}

/// What the servers say about who is connected by that name; those of a cluster answer one by one.
async fn connections_of(system: &Bus, id: &str) -> Vec<Connection> {
    let body = serde_json::json!({"auth": true, "user": id, "limit": LISTED_MAX});
    let asked = system.request_all(&Filter::Connections, Bytes::from(body.to_string()), LIST_WITHIN);
    let answers = match asked.await {
        Ok(answers) => answers,
        Err(error) => {
            tracing::warn!(%error, id, "the servers do not say what connections it has");
            return Vec::new();
        }
    };
    let lists = answers
        .iter()
        .filter_map(|answer| serde_json::from_slice(&answer.payload).ok());
    lists.flat_map(|list: Listed| list.connections(id)).collect()
}

/// A server's list of connections, as far as it matters here.
#[derive(serde::Deserialize)]
struct Listed {
    data: ListedData,
}

#[derive(serde::Deserialize)]
struct ListedData {
    server_id: String,
    #[serde(default)]
    connections: Vec<ListedConnection>,
}

#[derive(serde::Deserialize)]
struct ListedConnection {
    cid: u64,
    #[serde(default)]
    authorized_user: String,
}

impl Listed {
    /// Those of that name; a server that does not know the filter lists all.
    fn connections(self, id: &str) -> Vec<Connection> {
        let ListedData { server_id, connections } = self.data;
        let own = connections.into_iter().filter(|one| one.authorized_user == id);
        own.map(|one| Connection {
            server: server_id.clone(),
            client: one.cid,
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_end_a_little_apart_and_never_late() {
        let all: Vec<_> = ["UA", "UB", "UC", "UDX", "UEZZ"]
            .iter()
            .map(|key| lasts(1_000, key))
            .collect();
        assert!(
            all.iter().all(|lasts| (800..=1_000).contains(&lasts.as_secs())),
            "{all:?}"
        );
        assert!(
            all.iter().collect::<std::collections::BTreeSet<_>>().len() > 2,
            "{all:?}"
        );
        assert_eq!(lasts(1, "UA"), Duration::from_secs(1));
    }
}
