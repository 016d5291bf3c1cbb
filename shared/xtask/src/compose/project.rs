//! One project of Docker Compose with a name, ports and secrets of its own; gone with everything in it when dropped.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use mesh_servers::{ScratchDir, free_port};

use crate::checkout::Checkout;

/// The label of images that only sleep, on machines where the real ones cannot be had.
const STUB_LABEL: &str = "agentmesh.stub";
const POLL: Duration = Duration::from_millis(250);

/// Ports on 127.0.0.1.
#[derive(Debug, Clone)]
pub(super) struct Ports {
    pub(super) http: u16,
    pub(super) nats: Vec<u16>,
    pub(super) prometheus: u16,
}

#[derive(Debug)]
pub(super) struct Project {
    checkout: Checkout,
    name: String,
    files: Vec<PathBuf>,
    profiles: Vec<String>,
    environment: Vec<(String, String)>,
    /// Where `mesh seed` writes what a person would find in `.mesh`.
    folder: ScratchDir,
    pub(super) ports: Ports,
    keeps: bool,
}

/// A container of the project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) service: String,
    /// `running`, `exited` and so on.
    pub(super) state: String,
    /// `healthy` and so on; empty where there is no check.
    pub(super) health: String,
    /// On its engine's machine; 0: none.
    pub(super) pid: u32,
    pub(super) exit_code: i32,
    pub(super) is_stub: bool,
}

impl Container {
    /// Up, and healthy where somebody can tell.
    pub(super) fn is_well(&self) -> bool {
        let is_healthy = self.health.is_empty() || self.health == "healthy" || self.is_stub;
        self.state == "running" && is_healthy
    }
}

/// What runs once.
pub(super) const JOBS: [&str; 3] = ["setup", "migrate", "seed"];

impl Project {
    pub(super) fn new(
        checkout: &Checkout,
        is_cluster: bool,
        profile: Option<&str>,
        keeps: bool,
    ) -> anyhow::Result<Self> {
        let folder = ScratchDir::new()?;
        let mut files = vec![checkout.path("docker-compose.yml")];
        if is_cluster {
            files.push(checkout.path("docker-compose.cluster.yml"));
        }
        let http = two_ports()?;
        let ports = Ports {
            http,
            nats: (0..if is_cluster { 3 } else { 1 })
                .map(|_| free_port())
                .collect::<Result<_, _>>()?,
            prometheus: free_port()?,
        };
        let inside = |name: &str| folder.path().join(name).display().to_string();
        let mut environment = vec![
            ("MESH_HTTP_PORT".to_owned(), ports.http.to_string()),
            ("MESH_HTTP_PORT_2".to_owned(), (ports.http + 1).to_string()),
            ("MESH_PROMETHEUS_PORT".to_owned(), ports.prometheus.to_string()),
            ("MESH_GRAFANA_PORT".to_owned(), free_port()?.to_string()),
            ("MESH_NODE_UI_PORT".to_owned(), free_port()?.to_string()),
            ("MESH_USER_HOME".to_owned(), inside("home")),
            ("MESH_BACKUPS".to_owned(), inside("backups")),
        ];
        for (place, port) in ports.nats.iter().enumerate() {
            let name = match place {
                0 => "MESH_NATS_PORT".to_owned(),
                place => format!("MESH_NATS_PORT_{}", place + 1),
            };
            environment.push((name, port.to_string()));
        }
        let mut project = Self {
            checkout: checkout.clone(),
            name: format!("mesh-compose-test{}", if is_cluster { "-cluster" } else { "" }),
            files,
            profiles: profile.map(str::to_owned).into_iter().collect(),
            environment,
            folder,
            ports,
            keeps,
        };
        project.silence_stubs()?;
        Ok(project)
    }

    /// A stub takes no arguments: it would end at once, again and again.
    fn silence_stubs(&mut self) -> anyhow::Result<()> {
        let mut text = String::new();
        for service in self.lines(&["config", "--services"])? {
            let image = self.lines(&["config", "--images", &service])?;
            let is_stub = image
                .iter()
                .any(|image| has_label(image) && image.contains(&format!("/{service}")));
            if is_stub {
                text.push_str(&format!("  {service}:\n    command: !reset []\n"));
            }
        }
        if !text.is_empty() {
            let path = self.folder.path().join("stubs.yml");
            fs::write(&path, format!("services:\n{text}"))?;
            self.files.push(path);
        }
        Ok(())
    }

    /// `docker compose …` of this project.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.checkout.command("docker");
        command.args(["compose", "--project-name", &self.name]);
        command.arg("--project-directory").arg(self.checkout.root());
        for file in &self.files {
            command.arg("--file").arg(file);
        }
        for profile in &self.profiles {
            command.args(["--profile", profile]);
        }
        command.args(arguments).envs(self.environment.iter().cloned());
        command
    }

    /// Runs it to its end, shown to whoever watches.
    pub(super) fn run(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let status = self
            .command(arguments)
            .stdin(Stdio::null())
            .status()
            .context(NO_DOCKER)?;
        if !status.success() {
            bail!("docker compose {} ended with {status}", arguments.join(" "));
        }
        Ok(())
    }

    /// What it prints.
    pub(super) fn text(&self, arguments: &[&str]) -> anyhow::Result<String> {
        read(self.command(arguments).stdin(Stdio::null()))
    }

    fn lines(&self, arguments: &[&str]) -> anyhow::Result<Vec<String>> {
        Ok(self.text(arguments)?.lines().map(str::to_owned).collect())
    }

    /// Every container, those that have ended too.
    pub(super) fn containers(&self) -> anyhow::Result<Vec<Container>> {
        let ids = self.lines(&["ps", "--all", "--quiet"])?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let format = format!(
            "{{{{.Name}}}}|{{{{index .Config.Labels \"com.docker.compose.service\"}}}}|{{{{.State.Status}}}}|{{{{if \
             .State.Health}}}}{{{{.State.Health.Status}}}}{{{{end}}}}|{{{{.State.Pid}}}}|{{{{.State.ExitCode}}}}|{{{{index \
             .Config.Labels \"{STUB_LABEL}\"}}}}"
        );
        let mut command = Command::new("docker");
        command.args(["inspect", "--format", &format]).args(ids);
        read(&mut command)?.lines().map(parse).collect()
    }

    /// Waits until everything is well; answers how long that took.
    pub(super) fn wait_until_well(&self, deadline: Duration) -> anyhow::Result<Duration> {
        let began = Instant::now();
        loop {
            let all = self.containers()?;
            let jobs = all.iter().filter(|one| JOBS.contains(&one.service.as_str()));
            let failed: Vec<_> = jobs.filter(|job| job.state == "exited" && job.exit_code != 0).collect();
            let mut others = all.iter().filter(|one| !JOBS.contains(&one.service.as_str()));
            if failed.is_empty() && !all.is_empty() && others.all(Container::is_well) {
                return Ok(began.elapsed());
            }
            if began.elapsed() >= deadline {
                let bad = all
                    .iter()
                    .filter(|one| !one.is_well() && !JOBS.contains(&one.service.as_str()));
                let bad: Vec<_> = bad
                    .chain(failed)
                    .map(|one| format!("{} ({} {} {})", one.name, one.state, one.health, one.exit_code))
                    .collect();
                bail!("not well after {} s: {}", deadline.as_secs(), bad.join(", "));
            }
            std::thread::sleep(POLL);
        }
    }

    /// SIGKILL from outside, as the kernel would: the engine takes it for a crash, unlike `docker kill`.
    pub(super) fn crash(&self, container: &Container) -> anyhow::Result<()> {
        if container.pid == 0 {
            bail!("{} does not run", container.name);
        }
        let image = std::env::var("MESH_IMAGE").unwrap_or_else(|_| "agent-mesh:latest".to_owned());
        let kill = format!("kill -9 {}", container.pid);
        let mut command = Command::new("docker");
        command.args([
            "run",
            "--rm",
            "--pid=host",
            "--network=none",
            "--user=0",
            "--cap-drop=ALL",
            "--cap-add=KILL",
        ]);
        command.args(["--entrypoint=sh", &image, "-c", &kill]);
        read(&mut command).map(drop)
    }

    /// One number from the database.
    pub(super) fn count(&self, sql: &str) -> anyhow::Result<u64> {
        let text = self.sql(sql)?;
        let text = text.trim();
        text.parse().with_context(|| format!("`{text}` is no number"))
    }

    /// What the database answers, without headings.
    pub(super) fn sql(&self, sql: &str) -> anyhow::Result<String> {
        let psql = [
            "exec",
            "-T",
            "postgres",
            "psql",
            "-h",
            "127.0.0.1",
            "-U",
            "mesh",
            "-d",
            "mesh",
            "-tAc",
            sql,
        ];
        self.text(&psql)
    }

    /// The file that `mesh seed` has written for people.
    pub(super) fn home_file(&self, name: &str) -> anyhow::Result<String> {
        let path = self.folder.path().join("home").join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if self.keeps {
            eprintln!(
                "the containers stay: docker compose --project-name {} down --volumes ends them",
                self.name
            );
            return;
        }
        if let Err(error) = self.text(&["down", "--volumes", "--remove-orphans", "--timeout", "5"]) {
            eprintln!("warning: {error:#}");
        }
    }
}

const NO_DOCKER: &str = "docker is not here: install Docker Engine with the Compose plugin";

fn read(command: &mut Command) -> anyhow::Result<String> {
    let Output { status, stdout, stderr } = command.output().context(NO_DOCKER)?;
    if !status.success() {
        bail!(
            "{command:?} ended with {status}: {}",
            String::from_utf8_lossy(&stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

fn has_label(image: &str) -> bool {
    let format = format!("{{{{index .Config.Labels \"{STUB_LABEL}\"}}}}");
    let mut command = Command::new("docker");
    command.args(["image", "inspect", "--format", &format, image]);
    read(&mut command).is_ok_and(|text| text.trim() == "1")
}

fn parse(line: &str) -> anyhow::Result<Container> {
    let parts: Vec<_> = line.split('|').collect();
    let [name, service, state, health, pid, exit_code, stub] = parts[..] else {
        bail!("docker inspect says `{line}`");
    };
    Ok(Container {
        name: name.trim_start_matches('/').to_owned(),
        service: service.to_owned(),
        state: state.to_owned(),
        health: health.to_owned(),
        pid: pid.parse()?,
        exit_code: exit_code.parse()?,
        is_stub: stub == "1",
    })
}

/// The first of two ports side by side.
fn two_ports() -> anyhow::Result<u16> {
    let mut first = free_port()?;
    for _ in 0..100 {
        let second = free_port()?;
        if second == first + 1 {
            return Ok(first);
        }
        first = second;
    }
    bail!("no two free ports side by side were found")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_read_and_judged() {
        let well = parse("/mesh-nats-1|nats|running|healthy|77|0|").unwrap();
        assert!(well.is_well() && well.pid == 77 && well.name == "mesh-nats-1");
        assert!(!parse("/a|memory|running|starting|7|0|").unwrap().is_well());
        assert!(!parse("/a|memory|exited||0|137|").unwrap().is_well());
        assert!(parse("/a|grafana|running|unhealthy|7|0|1").unwrap().is_well());
        assert!(parse("/a|tempo|running||7|0|").unwrap().is_well());
        assert!(parse("nonsense").is_err());
    }
}
