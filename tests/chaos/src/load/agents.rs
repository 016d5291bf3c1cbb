//! The agents of the load, declared over HTTP as a person would.

use std::time::Duration;

use anyhow::bail;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::plan::{CHANNEL, LEDGER_TOOLS, MEMORY, NOOP, PARENT, PLACED, SESSION, TASKS, TEXT, TOOLS};
use crate::ground::NODES;
use crate::options::With;

const PAUSE: Duration = Duration::from_millis(100);
/// Starting everything on a busy machine.
const DEADLINE: Duration = Duration::from_secs(90);

/// Declares and publishes all that the load needs; waits for the mesh to be up.
pub(super) async fn declare(http: &reqwest::Client, base: &str, ledger: &str, with: &[With]) -> anyhow::Result<()> {
    let end = Instant::now() + DEADLINE;
    for (name, spec) in specs(ledger, with) {
        let agent = json!({"metadata": {"name": name}, "spec": spec});
        post(http, &format!("{base}/api/v1/agents"), &agent, &[201, 409], end).await?;
        let publish = format!("{base}/api/v1/agents/{name}/publish");
        post(http, &publish, &json!({}), &[200], end).await?;
    }
    Ok(())
}

fn specs(ledger: &str, with: &[With]) -> Vec<(&'static str, Value)> {
    // Long enough for every fault: what ends by its own limits would not be a violation.
    let limits = json!({"timeout": "900s", "concurrency": 64});
    let retry = json!({"attempts": 10, "backoff": "fixed"});
    let llm = |tools: Value| {
        json!({"runtime": "llm", "model": {"name": "gpt-4"}, "tools": tools, "limits": limits, "retry": retry,
            "memory": {"query_top_k": 0, "writeback": false}, "context": {"history": 5, "recent": 5}})
    };
    let noop = |steps: u32| json!({"runtime": "noop", "noop": {"steps": steps}, "limits": limits});
    let mut specs = vec![
        (NOOP, noop(3)),
        (TEXT, llm(json!([]))),
        (CHANNEL, llm(json!([]))),
        (SESSION, noop(2)),
    ];
    if with.contains(&With::Tools) || with.contains(&With::Approvals) {
        specs.push((TOOLS, llm(json!(ledger_tools(ledger)))));
    }
    if with.contains(&With::Children) {
        let helper = json!({"name": "helper", "kind": "agent", "agent": NOOP, "description": "works it out"});
        specs.push((PARENT, llm(json!([helper]))));
    }
    if with.contains(&With::Tasks) {
        let mut tasks = llm(json!([{"name": "create_task", "kind": "builtin"}]));
        tasks["capabilities"] = json!({"can_create_tasks": true});
        specs.push((TASKS, tasks));
    }
    if with.contains(&With::Memories) {
        specs.push((MEMORY, remembers(llm(json!([])))));
    }
    if with.contains(&With::Nodes) {
        let mut placed = remembers(llm(json!(ledger_tools(ledger))));
        placed["placement"] = json!({"replicas": NODES.len()});
        specs.push((PLACED, placed));
    }
    specs
}

fn remembers(mut spec: Value) -> Value {
    spec["memory"] = json!({"query_top_k": 0, "writeback": true});
    spec
}

fn ledger_tools(ledger: &str) -> Vec<Value> {
    let each = LEDGER_TOOLS.iter().map(|(name, class)| {
        let approval = if name.ends_with("approved") { "always" } else { "never" };
        json!({"name": name, "kind": "http", "url": format!("{ledger}/{class}"), "effect": class,
            "description": "writes to the ledger", "approval": approval, "timeout": "20s",
            "parameters": {"type": "object", "properties": {"op": {"type": "string"}}, "required": ["op"]}})
    });
    each.collect()
}

async fn post(http: &reqwest::Client, url: &str, body: &Value, wanted: &[u16], end: Instant) -> anyhow::Result<()> {
    loop {
        let said = match http.post(url).json(body).send().await {
            Ok(answer) if wanted.contains(&answer.status().as_u16()) => return Ok(()),
            Ok(answer) => {
                let status = answer.status();
                let text = answer.text().await.unwrap_or_default();
                if status.is_client_error() && status.as_u16() != 408 && status.as_u16() != 429 {
                    bail!("{url}: {status}: {text}");
                }
                format!("{status}: {text}")
            }
            Err(error) => error.to_string(),
        };
        if Instant::now() >= end {
            bail!("{url}: {said}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}
