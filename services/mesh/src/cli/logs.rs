//! `mesh logs`: the log of the mesh in this home, of all services or of one.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Seek, SeekFrom};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use super::Session;
use crate::failure::advised;
use crate::services::Service;
use crate::up::log_path;

/// Show the log of the mesh that runs (or ran) in MESH_HOME
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LogsArgs {
    /// Only what this service said
    #[arg(value_enum)]
    service: Option<Service>,
    /// Go on with what comes, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Newest lines to show; 0 for all
    #[arg(short = 'n', long, default_value_t = 200, value_name = "COUNT")]
    lines: usize,
}

const EXAMPLES: &str = "Examples:
  mesh logs
  mesh logs execution --follow
  mesh logs -n 0 | grep WARN

nats-server and PostgreSQL write nats/nats.log and postgres/postgres.log in MESH_HOME.";

const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(crate) async fn run(args: LogsArgs, session: &Session) -> anyhow::Result<()> {
    let path = log_path(session.home());
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let error = anyhow::anyhow!("there is no log in {}", session.home().display());
            return Err(advised(error, "mesh up writes one; MESH_HOME names another home"));
        }
        opened => BufReader::new(opened.with_context(|| format!("cannot open {}", path.display()))?),
    };
    let mut filter = Filter::new(args.service);
    let mut kept = std::collections::VecDeque::new();
    let mut rest = String::new();
    while let Some(line) = next_line(&mut file, &mut rest)? {
        if filter.takes(&line) {
            kept.push_back(line);
        }
        if args.lines > 0 && kept.len() > args.lines {
            kept.pop_front();
        }
    }
    for line in kept {
        session.output.text(&line)?;
    }
    if !args.follow {
        return Ok(());
    }
    loop {
        while let Some(line) = next_line(&mut file, &mut rest)? {
            if filter.takes(&line) {
                session.output.text(&line)?;
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
        reopen_if_replaced(&path, &mut file, &mut rest);
    }
}

/// The next whole line with its end; half a line waits in `rest`.
fn next_line(file: &mut BufReader<File>, rest: &mut String) -> anyhow::Result<Option<String>> {
    let mut bytes = Vec::new();
    file.read_until(b'\n', &mut bytes)?;
    rest.push_str(&String::from_utf8_lossy(&bytes));
    Ok(rest.ends_with('\n').then(|| std::mem::take(rest)))
}

/// A start may have set the log aside, and a reset may have deleted it.
fn reopen_if_replaced(path: &std::path::Path, file: &mut BufReader<File>, rest: &mut String) {
    let Ok(at) = file.stream_position() else {
        return;
    };
    let is_shorter = std::fs::metadata(path).is_ok_and(|meta| meta.len() < at);
    if is_shorter && let Ok(mut fresh) = File::open(path) {
        // A new file is read from its start.
        fresh.seek(SeekFrom::Start(0)).ok();
        *file = BufReader::new(fresh);
        rest.clear();
    }
}

/// Lines of one service, in both forms of the log; what follows a line and begins with neither belongs to it.
struct Filter {
    service: Option<&'static str>,
    was_taken: bool,
}

impl Filter {
    fn new(service: Option<Service>) -> Self {
        Self {
            service: service.map(Service::name),
            was_taken: false,
        }
    }

    fn takes(&mut self, line: &str) -> bool {
        let Some(wanted) = self.service else {
            return true;
        };
        self.was_taken = match service_of(line) {
            Line::Said(service) => service.as_deref() == Some(wanted),
            Line::Continues => self.was_taken,
        };
        self.was_taken
    }
}

enum Line {
    /// By a service, or by the process itself.
    Said(Option<String>),
    Continues,
}

fn service_of(line: &str) -> Line {
    if let Ok(Value::Object(fields)) = serde_json::from_str(line) {
        return Line::Said(fields.get("mesh.service").and_then(Value::as_str).map(str::to_owned));
    }
    let mut words = line.split_whitespace();
    let is_start = words
        .next()
        .is_some_and(|word| word.parse::<mesh_types::Timestamp>().is_ok());
    if !is_start {
        return Line::Continues;
    }
    // Time, level, then the service, where one speaks, or the place in the code.
    Line::Said(words.nth(1).filter(|word| !word.ends_with(':')).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_found_in_both_forms_of_the_log() {
        let mut filter = Filter::new(Some(Service::Memory));
        for (line, taken) in [
            ("2026-11-21T12:00:00.000000Z  INFO memory memory::bus: stored\n", true),
            ("  a second line of it\n", true),
            ("2026-11-21T12:00:00.000000Z  INFO mesh::up: memory is fine\n", false),
            ("  a second line of that\n", false),
            (
                r#"{"timestamp":"2026-11-21T12:00:00.000000Z","mesh.service":"memory","message":"x"}"#,
                true,
            ),
            (
                r#"{"timestamp":"2026-11-21T12:00:00.000000Z","mesh.service":"registry"}"#,
                false,
            ),
        ] {
            assert_eq!(filter.takes(line), taken, "{line}");
        }
        assert!(Filter::new(None).takes("anything"));
    }
}
