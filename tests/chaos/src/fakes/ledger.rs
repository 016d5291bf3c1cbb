//! The ledger: each POST is an effect, counted by class, idempotency key and operation; some are slow, fail first, or
//! happen without their answer being heard.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Shared, broken, key_of};
use crate::evidence::Call;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Answers,
    Slow,
    Fails,
    /// The effect happens, its answer is lost.
    Mute,
}

pub(super) async fn write(
    State(kept): State<Shared>,
    Path(class): Path<String>,
    headers: HeaderMap,
    Json(arguments): Json<Value>,
) -> Response {
    let key = key_of(&headers);
    let op = arguments
        .get("op")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let (result, before) = {
        let mut seen = kept.seen();
        let before = seen.ledger.iter().filter(|call| call.key == key).count();
        let call = Call {
            class: class.clone(),
            key: key.clone(),
            op: op.clone(),
            at: kept.now(),
        };
        seen.ledger.push(call);
        let next = seen.results.len() as u64 + 1;
        (*seen.results.entry(key.clone()).or_insert(next), before)
    };
    let mut draw = kept.draw(&key, before);
    let moods = [(70, Mood::Answers), (15, Mood::Slow), (8, Mood::Fails), (7, Mood::Mute)];
    // Each key's second try is answered: a step has few of them.
    let mood = draw.weighted(&moods).filter(|_| before == 0).unwrap_or(Mood::Answers);
    match mood {
        Mood::Slow => tokio::time::sleep(Duration::from_millis(draw.between(200, 1_200))).await,
        Mood::Fails if class != "at_most_once" => {
            let error = json!({"error": "as the schedule asks"});
            return (StatusCode::SERVICE_UNAVAILABLE, Json(error)).into_response();
        }
        Mood::Mute => return broken("application/json", vec![Bytes::from_static(b"{\"op\":")]),
        _ => tokio::time::sleep(Duration::from_millis(draw.between(1, 30))).await,
    }
    Json(json!({"op": op, "result": result})).into_response()
}
