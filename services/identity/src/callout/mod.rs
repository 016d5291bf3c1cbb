//! The question of nats-server who may connect (`$SYS.REQ.USER.AUTH`), and the answer: a user with exactly the rights
//! of its kind, or the reason why not. Services have a user of their own in the server's configuration.

mod connections;
mod jwt;
mod permissions;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesh_bus::{Headers, RawRequest};
use mesh_types::Tenant;

use crate::state::State;
use crate::verify::{Refused, Verified, verify};

pub(crate) use connections::{Connection, Connections};
pub(crate) use jwt::Issuer;

use jwt::Asked;
use permissions::Permissions;

/// Connections do not all end in the same moment after a restart of the server: each a little earlier.
const SPREAD_PERCENT: u64 = 20;

const KICK_DEADLINE: Duration = Duration::from_secs(2);

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
        Ok(Ok(verified)) if verified.principal.id == asked.user => return Ok(verified),
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

/// Cuts the connections of whoever was revoked. Those that are not known here end when their time is over.
pub(crate) async fn cut_off(state: &State, id: &str) {
    let Some(system) = &state.system else {
        return;
    };
    let connections = state.connections.take(id).into_iter();
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
