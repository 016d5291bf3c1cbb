//! Clients that ask by HTTP and NATS, and repeat until they are told that it is accepted for good.

use std::sync::Arc;
use std::time::Duration;

use mesh_types::InvocationId;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Shared;
use super::plan::{Ask, Road};

const PAUSE: Duration = Duration::from_millis(150);
const PUBLISH_WAIT: Duration = Duration::from_secs(3);

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Poison {
    /// A field that nobody knows.
    Field,
    /// A session with a NUL in its name.
    Session,
}

/// What one try came to.
enum Try {
    /// Accepted; over HTTP with its id.
    Accepted(Option<InvocationId>),
    /// Nobody knows, or not now: again.
    Again,
    /// What a good request never gets.
    Refused(String),
}

/// Sends until accepted, then whatever else is planned for this key.
pub(super) async fn ask(load: Arc<Shared>, ask: Ask, end: Instant) {
    let Some(id) = send(&load, &ask, ask.road, end).await else {
        return;
    };
    if let Some((road, after)) = ask.again {
        tokio::time::sleep(Duration::from_millis(after)).await;
        send(&load, &ask, road, end).await;
    }
    let id = match id {
        Some(id) => Some(id),
        None if ask.followed || ask.cancelled_after_ms.is_some() => id_of(&load, &ask, end).await,
        None => None,
    };
    let Some(id) = id else { return };
    if let Some(after) = ask.cancelled_after_ms {
        tokio::time::sleep(Duration::from_millis(after)).await;
        cancel(&load, &ask.key, id, end).await;
    }
    if ask.followed {
        super::reader::follow(load, id, end).await;
    }
}

/// `None`: not accepted before the end.
async fn send(load: &Shared, ask: &Ask, road: Road, end: Instant) -> Option<Option<InvocationId>> {
    while Instant::now() < end {
        let tried = match road {
            Road::Http => by_http(load, ask).await,
            Road::Nats => by_nats(load, ask).await,
        };
        match tried {
            Try::Accepted(id) => {
                load.with(&ask.key, |asked| {
                    asked.accepted = true;
                    asked.ids.extend(id);
                });
                return Some(id);
            }
            Try::Refused(answer) => {
                load.with(&ask.key, |asked| asked.refused = Some(answer));
                return None;
            }
            Try::Again => tokio::time::sleep(PAUSE).await,
        }
    }
    None
}

/// A repeat by HTTP tells the id of what was published.
async fn id_of(load: &Shared, ask: &Ask, end: Instant) -> Option<InvocationId> {
    send(load, ask, Road::Http, end).await.flatten()
}

async fn by_http(load: &Shared, ask: &Ask) -> Try {
    let url = format!("{}/api/v1/agents/{}/invocations", load.base, ask.agent);
    let request = load.http.post(url).header("Idempotency-Key", &ask.key).json(&ask.body);
    let Ok(answer) = request.send().await else {
        return Try::Again;
    };
    let status = answer.status().as_u16();
    let text = answer.text().await;
    match (status, text) {
        (200 | 202, Ok(text)) => {
            let body: Value = serde_json::from_str(&text).unwrap_or_default();
            match body["id"].as_str().and_then(|id| id.parse().ok()) {
                Some(id) => Try::Accepted(Some(id)),
                None => Try::Refused(format!("{status}: {text}")),
            }
        }
        // The answer broke off, or somebody is away.
        (_, Err(_)) | (408 | 425 | 429 | 502..=504, _) => Try::Again,
        (_, Ok(text)) => Try::Refused(format!("{status}: {text}")),
    }
}

async fn by_nats(load: &Shared, ask: &Ask) -> Try {
    let mut body = ask.body.clone();
    body.insert("idempotency_key".into(), json!(ask.key));
    match publish(load, ask.agent, Value::Object(body).to_string().into_bytes()).await {
        Some(ack) if ack.get("stream").is_some() => Try::Accepted(None),
        Some(answer) if answer.get("error").is_none() => Try::Refused(answer.to_string()),
        _ => Try::Again,
    }
}

/// What JetStream answers.
async fn publish(load: &Shared, agent: &str, body: Vec<u8>) -> Option<Value> {
    let request = load.nats.request(format!("mesh.invoke.default.{agent}"), body.into());
    let answer = tokio::time::timeout(PUBLISH_WAIT, request).await.ok()?.ok()?;
    serde_json::from_slice(&answer.payload).ok()
}

/// A message that can never be an invocation, with a text to find it by. Published once: one of which nobody knows
/// whether it arrived is not counted.
pub(super) async fn poison(load: Arc<Shared>, marker: String, kind: Poison) {
    let body = match kind {
        // Text that no column takes, among good ones in one batch.
        Poison::Session => json!({"payload": {}, "session": format!("\u{0}{marker}")}),
        Poison::Field => json!({"payload": {}, &marker: 1}),
    };
    let body = body.to_string().into_bytes();
    let ack = publish(&load, super::plan::NOOP, body).await;
    if ack.is_some_and(|ack| ack.get("stream").is_some()) {
        load.bury(marker);
    }
}

async fn cancel(load: &Shared, key: &str, id: InvocationId, end: Instant) {
    load.with(key, |asked| asked.cancelled = true);
    let url = format!("{}/api/v1/invocations/{id}/cancel", load.base);
    while Instant::now() < end {
        let answer = load.http.post(&url).json(&json!({})).send().await;
        if answer.is_ok_and(|answer| answer.status().as_u16() < 500) {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
