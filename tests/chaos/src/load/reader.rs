//! A reader of one invocation's events who hangs up at random and comes back with the last id, through every fault.

use std::sync::Arc;
use std::time::Duration;

use eventsource_stream::Eventsource as _;
use futures::StreamExt as _;
use mesh_types::InvocationId;
use tokio::time::Instant;

use super::Shared;
use crate::draw::Draw;
use crate::evidence::{Followed, Told};

const PAUSE: Duration = Duration::from_millis(100);

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hung {
    /// By us, by a fault, or it never stood.
    Up,
    /// Nothing follows.
    Over,
}

pub(super) async fn follow(load: Arc<Shared>, id: InvocationId, end: Instant) {
    let mut followed = Followed {
        invocation: Some(id),
        ..Followed::default()
    };
    let mut draw = Draw::of(load.seed, &id.to_string());
    while Instant::now() < end {
        followed.connections += 1;
        let budget = draw.between(1, 12);
        let patience = Duration::from_millis(draw.between(20, 3_000));
        let read = read(&load, id, &mut followed, budget);
        if let Ok(Hung::Over) = tokio::time::timeout(patience, read).await {
            followed.finished = true;
            break;
        }
        tokio::time::sleep(PAUSE.mul_f64(draw.between(0, 10) as f64 / 5.0)).await;
    }
    load.followed(followed);
}

/// Reads at most so many events.
async fn read(load: &Shared, id: InvocationId, followed: &mut Followed, budget: u64) -> Hung {
    let url = format!("{}/api/v1/invocations/{id}/events", load.base);
    let mut request = load.http.get(url);
    if let Some(last) = followed.events.last() {
        request = request.header("Last-Event-ID", &last.id);
    }
    let Ok(answer) = request.send().await else {
        return Hung::Up;
    };
    match answer.status().as_u16() {
        200 => {}
        204 => return Hung::Over,
        _ => return Hung::Up,
    }
    let mut events = std::pin::pin!(answer.bytes_stream().eventsource());
    for _ in 0..budget {
        let Some(Ok(event)) = events.next().await else {
            return Hung::Up;
        };
        let is_end = ["completed", "failed", "cancelled", "dead"]
            .iter()
            .any(|state| event.event.strip_prefix("invocation.") == Some(state));
        followed.events.push(Told {
            id: event.id,
            event: event.event,
            data: serde_json::from_str(&event.data).unwrap_or_default(),
            raw: event.data,
        });
        if is_end {
            return Hung::Over;
        }
    }
    Hung::Up
}
