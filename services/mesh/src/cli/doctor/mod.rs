//! `mesh doctor`: looks at everything a mesh on this machine needs, says what is wrong and what to do.

mod certificates;
mod machine;
mod roads;
mod rows;
mod servers;
mod tls;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use mesh_servers::{
    HTTP_PORT_VARIABLE, HomeState, NATS_PORT_VARIABLE, NatsTool, POSTGRES_PORT_VARIABLE, PostgresTool, Quiet,
    check_free,
};
use mesh_types::Timestamp;
use serde::Serialize;

use super::Session;
use super::session::blocking;
use crate::failure::Told;
use crate::output::{Mood, Output, now};
use crate::services::Configs;

/// Look for what is wrong with the mesh on this machine, and say what to do
///
/// Checks configuration, tools, ports, home, disk, the embedder's weights and the collector of telemetry; and of a mesh
/// that runs: NATS with its version, sync and streams, the services with their versions, PostgreSQL with its schema,
/// connections and pgvector, shards, lags, dead letters, silent nodes, keys and join tokens that expire, the gateway, the
/// clocks; and the certificates of every server that is named with TLS: the mesh, sign-in providers, NATS, PostgreSQL.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mesh doctor\n  mesh doctor --json\n\nExit codes: 0 nothing is wrong, 1 something is, 2 wrong use of the command line."
)]
pub(crate) struct DoctorArgs {}

const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Clocks may differ so much before timestamps and deadlines become strange.
const SKEW_MAX: Duration = Duration::from_secs(2);
/// A clock before this build's year is not set.
const CLOCK_MIN_MICROS: i64 = 1_767_225_600_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// Works, but look at it.
    Warning,
    Wrong,
}

#[derive(Debug, Serialize)]
pub(super) struct Finding {
    check: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Ok,
            found: found.into(),
            next: None,
        }
    }

    fn wrong(check: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Wrong,
            found: found.into(),
            next: Some(next.into()),
        }
    }

    fn warning(check: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Warning,
            found: found.into(),
            next: Some(next.into()),
        }
    }
}

pub(crate) async fn run(_args: DoctorArgs, session: &Session) -> anyhow::Result<()> {
    let findings = examine(session).await?;
    let output = session.output;
    output.show(&findings, || {
        findings.iter().try_for_each(|finding| print(finding, output))
    })?;
    let wrong = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Wrong)
        .count();
    if wrong == 0 {
        if output.is_table() {
            output.line("nothing is wrong")?;
        }
        return Ok(());
    }
    output.note(&format!("{wrong} of {} checks found something wrong", findings.len()));
    Err(Told.into())
}

/// Every check, in the order of the table.
pub(super) async fn examine(session: &Session) -> anyhow::Result<Vec<Finding>> {
    let state = session.running()?.and_then(|running| running.state);
    let mut findings = vec![configuration(session), clock()];
    findings.extend(tools(session).await?);
    findings.push(home(session, state.as_ref()).await?);
    findings.extend(ports(session, state.as_ref()).await?);
    findings.extend(machine::collector(&session.environment).await);
    let configs = session
        .loader()
        .and_then(|loader| Configs::load(&loader).map_err(Into::into))
        .ok();
    if let Some(configs) = &configs {
        findings.extend(machine::weights(&configs.memory).await);
    }
    if state.is_some() {
        findings.extend(machine::disk(session.home()));
    }
    findings.extend(tls::look(session, configs.as_ref(), state.as_ref()).await);
    let (heard, served) = servers::nats(session, state.as_ref()).await;
    findings.extend(heard);
    let pools = configs.map_or(0, |configs| configs.connections());
    findings.extend(servers::database(session, state.as_ref(), served, pools).await);
    findings.push(servers::gateway(session, state.as_ref()).await?);
    Ok(findings)
}

fn print(finding: &Finding, output: Output) -> anyhow::Result<()> {
    let (mood, sign) = match finding.verdict {
        Verdict::Ok => (Mood::Good, "ok     "),
        Verdict::Warning => (Mood::Doubtful, "warning"),
        Verdict::Wrong => (Mood::Bad, "wrong  "),
    };
    output.line(&format!(
        "{} {:13} {}",
        output.mood(mood, sign),
        finding.check,
        finding.found
    ))?;
    match &finding.next {
        Some(next) => output.line(&format!("{:21} next: {next}", "")),
        None => Ok(()),
    }
}

fn configuration(session: &Session) -> Finding {
    let loaded = session
        .loader()
        .and_then(|loader| Configs::load(&loader).map_err(Into::into));
    let file = session
        .config_file()
        .map_or_else(|| "no file".to_owned(), |path| path.display().to_string());
    match loaded {
        Ok(_) => Finding::ok("configuration", format!("valid ({file})")),
        Err(error) => Finding::wrong(
            "configuration",
            format!("{error:#}"),
            "correct it; mesh config lists every key",
        ),
    }
}

fn clock() -> Finding {
    let now = now();
    if now < Timestamp::from_micros(CLOCK_MIN_MICROS) {
        return Finding::wrong(
            "clock",
            format!("it says {now}"),
            "set this machine's clock: ids and deadlines depend on it",
        );
    }
    Finding::ok("clock", now.to_string())
}

/// Fetches what is missing, as `mesh up` would.
async fn tools(session: &Session) -> anyhow::Result<Vec<Finding>> {
    let (named_nats, named_database) = (
        session.environment.nats_url.is_some(),
        session.environment.database_url.is_some(),
    );
    let looked = blocking(move || {
        let mut findings = Vec::new();
        if !named_nats {
            findings.push(match NatsTool::resolve(&mut Quiet) {
                Ok(tool) => Finding::ok("nats-server", format!("{} ({})", tool.version, tool.program.display())),
                Err(error) => Finding::wrong("nats-server", causes(&error), "correct that, or set MESH_NATS_URL"),
            });
        }
        if !named_database {
            findings.push(match PostgresTool::resolve(&mut Quiet) {
                Ok(tool) => Finding::ok("postgres", format!("{} ({})", tool.version, tool.bin.display())),
                Err(error) => Finding::wrong("postgres", causes(&error), "correct that, or set MESH_DATABASE_URL"),
            });
        }
        Ok::<_, Infallible>(findings)
    });
    looked.await
}

async fn home(session: &Session, state: Option<&HomeState>) -> anyhow::Result<Finding> {
    let home = session.home().to_owned();
    let runs = match (session.running()?, state) {
        (None, _) => "no mesh runs in it".to_owned(),
        (Some(running), None) => format!("process {} is starting", running.pid),
        (Some(running), Some(_)) => format!("process {} runs in it", running.pid),
    };
    blocking(move || Ok::<_, Infallible>(home_of(&home, &runs))).await
}

fn home_of(home: &Path, runs: &str) -> Finding {
    let shown = home.display();
    // The nearest folder that is there is the one that would be written to.
    let existing = std::path::absolute(home).unwrap_or_else(|_| home.to_owned());
    let existing: Option<PathBuf> = existing.ancestors().find(|path| path.exists()).map(Path::to_owned);
    let Some(existing) = existing else {
        return Finding::wrong("home", format!("{shown} cannot be reached"), "choose another MESH_HOME");
    };
    if !existing.is_dir() {
        let found = format!("{} is no folder", existing.display());
        return Finding::wrong("home", found, "move it away, or choose another MESH_HOME");
    }
    if let Err(error) = nix::unistd::access(&existing, nix::unistd::AccessFlags::W_OK) {
        let found = format!("{} cannot be written: {error}", existing.display());
        return Finding::wrong("home", found, "run as its owner, or choose another MESH_HOME");
    }
    Finding::ok("home", format!("{shown}: {runs}"))
}

async fn ports(session: &Session, state: Option<&HomeState>) -> anyhow::Result<Vec<Finding>> {
    if state.is_some() {
        // Whether ours answer on them is looked at below.
        return Ok(Vec::new());
    }
    let environment = &session.environment;
    let mut wanted = vec![(environment.http_port, HTTP_PORT_VARIABLE)];
    if environment.nats_url.is_none() {
        wanted.push((environment.nats_port, NATS_PORT_VARIABLE));
    }
    if environment.database_url.is_none() {
        wanted.push((environment.postgres_port, POSTGRES_PORT_VARIABLE));
    }
    blocking(move || {
        let finding = |(port, variable): (u16, &'static str)| match check_free(port, variable) {
            Ok(()) => Finding::ok("port", format!("{port} is free")),
            Err(error) => Finding::wrong("port", causes(&error), format!("{variable}=0 takes a free one")),
        };
        Ok::<_, Infallible>(wanted.into_iter().filter(|(port, _)| *port != 0).map(finding).collect())
    })
    .await
}

/// An error with its causes, in one line.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let all = std::iter::successors(Some(error), |error| error.source());
    all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_that_cannot_be_made_is_wrong_and_one_that_can_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let fine = home_of(&folder.path().join("a/b/.mesh"), "no mesh runs in it");
        assert_eq!(fine.verdict, Verdict::Ok, "{fine:?}");
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let wrong = home_of(&file.join(".mesh"), "");
        assert_eq!(wrong.verdict, Verdict::Wrong, "{wrong:?}");
    }
}
