//! The person that an invocation may wait for: allows what asks, and settles ambiguous steps by what the ledger says.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Shared;
use crate::ground::Ground;

const PAUSE: Duration = Duration::from_millis(300);

/// Ends with its task.
pub(super) async fn decide(load: Arc<Shared>, ground: Arc<Ground>) {
    loop {
        tokio::time::sleep(PAUSE).await;
        let Some(waiting) = list(&load).await else { continue };
        for approval in waiting {
            let Some(id) = approval["id"].as_str() else { continue };
            let url = format!("{}/api/v1/approvals/{id}", load.base);
            // What cannot be decided now stands in the next list.
            let _ = load.http.post(url).json(&decision(&ground, &approval)).send().await;
        }
    }
}

async fn list(load: &Shared) -> Option<Vec<Value>> {
    let url = format!("{}/api/v1/approvals?limit=200", load.base);
    let answer = load.http.get(url).send().await.ok()?;
    let page: Value = answer.json().await.ok()?;
    page["items"].as_array().cloned()
}

fn decision(ground: &Ground, approval: &Value) -> Value {
    if approval["kind"] != "ambiguous" {
        return json!({"decision": "approve", "note": "as always"});
    }
    let (invocation, step) = (approval["invocation"].as_str().unwrap_or_default(), &approval["step"]);
    match ground.fakes.result(&format!("{invocation}/{step}")) {
        Some(result) => json!({"decision": "approve", "note": "the ledger has it", "output": {"result": result}}),
        None => json!({"decision": "deny", "note": "the ledger does not have it"}),
    }
}
