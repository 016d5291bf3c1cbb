//! Backup, `down --volumes`, restore by the jobs of docker-compose.yml: what was stored is back, what only NATS held goes
//! on, and a key of before opens again.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::nats::{Client, Identity};
use super::project::Project;

const FILE: &str = "wiped.tar";
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
const WELL_DEADLINE: Duration = Duration::from_secs(180);
/// What people would miss first.
const KEPT: [&str; 8] = [
    "registry.agent",
    "registry.version",
    "execution.invocation",
    "execution.record",
    "messaging.message",
    "memory.memory",
    "identity.person",
    "identity.api_key",
];

/// Leaves one more invocation of this `run` to be settled, which nobody had taken in when the copy was made.
pub(super) fn round_trip(project: &Project, identity: &Identity, run: &str) -> anyhow::Result<String> {
    project.run(&["stop", "execution"])?;
    let mut client = Client::connect(project.ports.nats[0], identity)?;
    let body = format!(r#"{{"idempotency_key":"{run}-queued","payload":{{"text":"queued"}}}}"#);
    let accepted = client.request("mesh.invoke.default.sofia", &body, ANSWER_DEADLINE)?;
    if !accepted.contains("INVOCATIONS") {
        bail!("the stream of invocations does not take one in: {accepted}");
    }
    drop(client);
    let before = counts(project)?;
    let began = Instant::now();
    project.run(&["--profile", "tools", "run", "--rm", "-T", "backup", "--to", FILE])?;
    let copied = began.elapsed();
    project.run(&["down", "--volumes", "--remove-orphans", "--timeout", "20"])?;
    let began = Instant::now();
    project.run(&["--profile", "tools", "run", "--rm", "-T", "restore", FILE])?;
    project.run(&["up", "--detach", "--no-build", "--quiet-pull"])?;
    project.wait_until_well(WELL_DEADLINE)?;
    let back = began.elapsed();
    let after = counts(project)?;
    for ((table, before), after) in KEPT.iter().zip(&before).zip(&after) {
        if after < before {
            bail!("{table} had {before} rows, and has {after} now");
        }
    }
    let mut client = Client::connect(project.ports.nats[0], identity)
        .context("with the key of before the installation was wiped")?;
    let answer = client.request(
        "mesh.call.default.sofia",
        r#"{"payload":{"text":"again"}}"#,
        ANSWER_DEADLINE * 2,
    )?;
    if !answer.contains("text") {
        bail!("the answer to a call is `{answer}`");
    }
    let rows: u64 = before.iter().sum();
    Ok(format!(
        "{rows} rows copied in {:.1} s, back and all well after {:.1} s",
        copied.as_secs_f64(),
        back.as_secs_f64()
    ))
}

fn counts(project: &Project) -> anyhow::Result<Vec<u64>> {
    let count = |table: &&str| project.count(&format!("SELECT count(*) FROM {table}"));
    KEPT.iter().map(count).collect()
}
