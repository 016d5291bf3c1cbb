//! `cargo xtask compose-test`: the whole of docker-compose.yml on this machine's Docker: up, healthy, invoked, seen by
//! Prometheus; every container killed under load, and nothing lost; copied, wiped and restored, and all of it back.

mod backup;
mod load;
mod nats;
mod project;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::checkout::Checkout;
use load::Load;
use nats::{Client, Identity};
use project::{Container, JOBS, Project};

/// Options of the test.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask compose-test\n  cargo xtask compose-test --no-build --cluster\n  cargo xtask compose-test --only execution --keep"
)]
pub(crate) struct Arguments {
    /// With the images that are there, which another build has made.
    #[arg(long)]
    no_build: bool,
    /// The cluster of docker-compose.cluster.yml: three nats-servers, two of each service.
    #[arg(long)]
    cluster: bool,
    /// Profile to start [default: what .env names, the whole stack].
    #[arg(long)]
    profile: Option<String>,
    /// Kill containers of these services only; may be repeated.
    #[arg(long)]
    only: Vec<String>,
    /// Leave the containers running at the end.
    #[arg(long)]
    keep: bool,
}

/// Images are there; an engine that is busy with building takes longer than the 30 s that are promised.
const UP_DEADLINE: Duration = Duration::from_secs(180);
const UP_PROMISED: Duration = Duration::from_secs(30);
const BACK_DEADLINE: Duration = Duration::from_secs(180);
const SETTLE_DEADLINE: Duration = Duration::from_secs(120);
const SCRAPED_DEADLINE: Duration = Duration::from_secs(60);
/// Accepted between two kills.
const BETWEEN: u64 = 20;
const POLL: Duration = Duration::from_millis(250);

/// One line of the table.
struct Row {
    what: String,
    found: String,
}

pub(crate) fn run(checkout: &Checkout, arguments: &Arguments) -> anyhow::Result<()> {
    let project = Project::new(
        checkout,
        arguments.cluster,
        arguments.profile.as_deref(),
        arguments.keep,
    )?;
    if !arguments.no_build {
        project.run(&["build"])?;
    }
    let mut rows = Vec::new();
    let tested = test(&project, arguments, &mut rows);
    let width = rows.iter().map(|row| row.what.chars().count()).max().unwrap_or(0);
    for Row { what, found } in &rows {
        println!("{what:width$}  {found}");
    }
    if tested.is_err() && std::env::var_os("CI").is_some() {
        // Whoever reads this has no containers to look at.
        let _ = project.run(&["logs", "--tail", "40"]);
    }
    tested
}

fn test(project: &Project, arguments: &Arguments, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let mut tell = |what: &str, found: String| {
        eprintln!("{what}: {found}");
        rows.push(Row {
            what: what.to_owned(),
            found,
        });
    };
    let began = Instant::now();
    project.run(&["up", "--detach", "--no-build", "--quiet-pull"])?;
    project.wait_until_well(UP_DEADLINE)?;
    let took = began.elapsed();
    let verdict = if took > UP_PROMISED {
        " (more than the 30 s that are promised)"
    } else {
        ""
    };
    tell("up and healthy", format!("after {:.1} s{verdict}", took.as_secs_f64()));
    let containers = project.containers()?;
    let stubs = containers
        .iter()
        .filter(|one| one.is_stub)
        .map(|one| one.service.as_str());
    tell("stubs of images", join(stubs));
    tell("first sign-in", first_sign_in(project)?);

    let identity = Identity::of_context(&project.home_file("nats/context/mesh.json")?)?;
    tell("a call by NATS", call(project, &identity)?);
    tell("the command line", command_line(project)?);

    let run = format!("compose-{}", std::process::id());
    let load = Load::start(project.ports.nats.clone(), identity.clone(), run.clone());
    load.wait_for_more(BETWEEN, SETTLE_DEADLINE)?;
    if containers.iter().any(|one| one.service == "prometheus") {
        tell("Prometheus shows", scraped(project.ports.prometheus)?);
    }
    let mortals = containers.iter().filter(|one| is_mortal(one, arguments));
    for container in mortals {
        let leads = leads(project, container);
        let back =
            kill_and_wait(project, container, &load).with_context(|| format!("after {} was killed", container.name))?;
        tell(
            &format!("{} killed", container.name),
            format!("all well after {:.1} s{leads}", back.as_secs_f64()),
        );
    }
    let retried = load.retried();
    let accepted = load.stop();
    tell(
        "accepted under load",
        format!("{accepted}, after {retried} tries that got no answer"),
    );
    tell("lost", settle(project, &run, accepted)?);
    tell("copied, wiped, restored", backup::round_trip(project, &identity, &run)?);
    tell("lost on the way", settle(project, &run, accepted + 1)?);
    Ok(())
}

fn call(project: &Project, identity: &Identity) -> anyhow::Result<String> {
    let mut client = Client::connect(project.ports.nats[0], identity)?;
    let answer = client.request(
        "mesh.call.default.sofia",
        r#"{"payload":{"text":"hello"}}"#,
        SETTLE_DEADLINE,
    )?;
    if !answer.contains("text") {
        bail!("the answer to a call is `{answer}`");
    }
    Ok(format!("answered: {}", answer.chars().take(60).collect::<String>()))
}

fn join<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<_> = all.collect();
    if all.is_empty() {
        "none".to_owned()
    } else {
        all.join(", ")
    }
}

/// A second seed must not tell the password again.
fn first_sign_in(project: &Project) -> anyhow::Result<String> {
    let told = |text: &str| text.matches("with the password").count();
    let first = project.text(&["logs", "--no-log-prefix", "seed"])?;
    if told(&first) == 0 {
        bail!("the seed has told no password: {first}");
    }
    project.text(&["up", "--detach", "--no-build", "seed"])?;
    project.wait_until_well(UP_DEADLINE)?;
    let second = project.text(&["logs", "--no-log-prefix", "seed"])?;
    if told(&second) != told(&first) {
        bail!("a second seed has told passwords again");
    }
    Ok("told once".into())
}

fn command_line(project: &Project) -> anyhow::Result<String> {
    let text = project.text(&[
        "--profile",
        "tools",
        "run",
        "--rm",
        "-T",
        "mesh",
        "invocations",
        "--json",
    ])?;
    match text.matches("\"inv_").count() {
        0 => bail!("`docker compose run mesh invocations` shows none: {text}"),
        _ => Ok("lists invocations".into()),
    }
}

fn is_mortal(container: &Container, arguments: &Arguments) -> bool {
    let is_asked_for = arguments.only.is_empty() || arguments.only.contains(&container.service);
    is_asked_for && !container.is_stub && !JOBS.contains(&container.service.as_str())
}

fn kill_and_wait(project: &Project, container: &Container, load: &Load) -> anyhow::Result<Duration> {
    load.wait_for_more(BETWEEN, BACK_DEADLINE)?;
    let now = project.containers()?;
    let known = now
        .iter()
        .find(|one| one.name == container.name)
        .context("it is gone")?;
    let began = Instant::now();
    project.crash(known)?;
    // The engine takes a moment to see it.
    while project
        .containers()?
        .iter()
        .any(|one| one.name == known.name && one.pid == known.pid)
    {
        if began.elapsed() >= BACK_DEADLINE {
            bail!("it was killed and lives");
        }
        std::thread::sleep(POLL);
    }
    project.wait_until_well(BACK_DEADLINE)?;
    load.wait_for_more(BETWEEN, BACK_DEADLINE)?;
    Ok(began.elapsed())
}

/// Which of a cluster's nats-servers has the last word on what is accepted.
fn leads(project: &Project, container: &Container) -> &'static str {
    if !container.service.starts_with("nats-") && container.service != "nats" || project.ports.nats.len() < 2 {
        return "";
    }
    let asked = [
        "exec",
        "-T",
        &container.service,
        "wget",
        "-q",
        "-O",
        "-",
        "http://127.0.0.1:8222/jsz?streams=true",
    ];
    let Ok(text) = project.text(&asked) else {
        return "";
    };
    let stream = text.split_once("\"name\": \"INVOCATIONS\"").map(|(_, rest)| rest);
    let leader = stream.and_then(|rest| rest.split_once("\"leader\": \"")?.1.split('"').next());
    if leader == Some(&container.service) {
        ", it led the stream of invocations"
    } else {
        ""
    }
}

/// What Prometheus knows of accepted invocations.
fn scraped(port: u16) -> anyhow::Result<String> {
    let began = Instant::now();
    loop {
        let answer = http_get(port, "/api/v1/query?query=sum(mesh_invocations_accepted_total)").unwrap_or_default();
        let value = answer
            .split_once("\"value\":[")
            .and_then(|(_, rest)| rest.split('"').nth(1)?.parse::<f64>().ok());
        if let Some(value) = value.filter(|value| *value > 0.0) {
            return Ok(format!("{value} invocations accepted"));
        }
        if began.elapsed() >= SCRAPED_DEADLINE {
            bail!("Prometheus shows no invocation: {answer}");
        }
        std::thread::sleep(POLL);
    }
}

/// Waits until what was accepted has ended; an error if anything is missing, or was run under two ids.
fn settle(project: &Project, run: &str, accepted: u64) -> anyhow::Result<String> {
    let of_run = format!("FROM execution.invocation AS i WHERE i.key LIKE '{run}-%'");
    let open =
        format!("SELECT count(*) {of_run} AND EXISTS (SELECT FROM execution.open AS o WHERE o.invocation = i.id)");
    let (mut least, mut since) = (u64::MAX, Instant::now());
    loop {
        let (found, still) = (
            project.count(&format!("SELECT count(*) {of_run}"))?,
            project.count(&open)?,
        );
        if found >= accepted && still == 0 {
            let keys = project.count(&format!("SELECT count(DISTINCT key) {of_run}"))?;
            if keys != found {
                bail!("{} invocations ran under a second id", found - keys);
            }
            let good = project.count(&format!(
                "SELECT count(*) {of_run} AND EXISTS (SELECT FROM execution.summary AS s WHERE s.invocation = i.id AND s.state = \
                 'completed')"
            ))?;
            if good != found {
                bail!(
                    "{} of {found} accepted invocations ended otherwise than completed",
                    found - good
                );
            }
            return Ok(format!("none of {found}; all of them completed"));
        }
        // However long it takes: as long as it goes on.
        if still < least {
            (least, since) = (still, Instant::now());
        }
        if since.elapsed() >= SETTLE_DEADLINE {
            let states = "SELECT string_agg(line, '; ') FROM (SELECT format('%s %s %s', count(*), state, waits_for) AS line \
                          FROM execution.open GROUP BY state, waits_for)";
            let states = project.sql(states)?;
            bail!(
                "{accepted} were accepted, {found} are known, and {still} do not end: {}",
                states.trim()
            );
        }
        std::thread::sleep(POLL);
    }
}

fn http_get(port: u16, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
