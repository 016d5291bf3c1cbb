//! What a run stands on: nats-server, Postgres, the proxy before it, the fakes, and the processes of the mesh. All of it
//! ends with this value, or with this program.

mod group;
mod launch;
mod managed;
mod proxy;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use mesh_servers::{NatsOptions, NatsServer, NatsTool, Postgres, PostgresOptions, PostgresTool, Quiet, ScratchDir};
use mesh_types::{Clock as _, SystemClock};
use nix::sys::signal::Signal;

use self::group::Group;
pub(crate) use self::managed::{Armed, Change, Managed};
use self::managed::{family, signal};
pub(crate) use self::proxy::{Cut, Proxy};
use crate::evidence::Faults;
use crate::fakes::Fakes;
use crate::options::Options;
use crate::read;

/// Instances of execution.
pub(crate) const EXECUTIONS: [&str; 2] = ["execution-a", "execution-b"];
/// Ids of nodes, where there are some.
pub(crate) const NODES: [&str; 2] = ["node-a", "node-b"];

/// What a process of the mesh is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Every service but execution.
    Edge,
    Execution,
    Node,
}

/// A server that can be killed, frozen and started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Nats,
    Postgres,
}

pub(crate) struct Ground {
    pub(crate) clock: SystemClock,
    /// Base URL of the gateway.
    pub(crate) http: String,
    pub(crate) fakes: Fakes,
    pub(crate) proxy: Proxy,
    /// The edge first, then execution, then nodes.
    pub(crate) processes: Vec<Arc<Managed>>,
    pub(crate) faults: Mutex<Faults>,
    nats: Arc<Mutex<NatsServer>>,
    postgres: Arc<Mutex<Postgres>>,
    nats_url: String,
    database: String,
    hits: PathBuf,
    // In this order at the end: processes die before their servers, the folder goes last.
    _group: Group,
    folder: ScratchDir,
}

impl Ground {
    /// Starts everything; `program` is the `mesh` to test.
    pub(crate) async fn start(program: &Path, seed: u64, options: &Options) -> anyhow::Result<Self> {
        let folder = ScratchDir::new()?;
        let group = Group::start(folder.path()).context("a shell starts")?;
        let (postgres, nats) = start_servers(folder.path().to_owned()).await?;
        let fakes = Fakes::start(seed).await?;
        let proxy = Proxy::before(postgres.port()).await?;
        let http_port = mesh_servers::free_port()?;
        let hits = folder.path().join("failpoint-hits");
        let plan = launch::Plan {
            program: program.to_owned(),
            http_port,
            nats: nats.url(),
            nats_monitor: nats.monitor_url(),
            database: postgres.url(),
            database_by_proxy: through(&postgres.url(), postgres.port(), proxy.port),
            model: fakes.base.clone(),
            hits: hits.clone(),
            planted: options.planted.clone(),
        };
        launch::migrate(&plan).await?;
        read::note_takeovers(&postgres.url()).await?;
        let mut processes = vec![Arc::new(launch::edge(&plan, &group, folder.path()))];
        for instance in EXECUTIONS {
            processes.push(Arc::new(launch::execution(&plan, instance, &group, folder.path())));
        }
        if options.has_nodes() {
            for id in NODES {
                processes.push(Arc::new(launch::node(&plan, id, &group, folder.path())));
            }
        }
        Ok(Self {
            clock: SystemClock::default(),
            http: format!("http://127.0.0.1:{http_port}"),
            fakes,
            proxy,
            processes,
            faults: Mutex::default(),
            nats_url: nats.url(),
            database: postgres.url(),
            nats: Arc::new(Mutex::new(nats)),
            postgres: Arc::new(Mutex::new(postgres)),
            hits,
            _group: group,
            folder,
        })
    }

    pub(crate) fn nats_url(&self) -> &str {
        &self.nats_url
    }

    /// Past the proxy, with all rights: what is judged is read here.
    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// One of the processes of that role. Faults of nodes are planned only where there are some.
    pub(crate) fn one_of(&self, role: Role, number: usize) -> &Managed {
        let nodes = 1 + EXECUTIONS.len();
        let all = match role {
            Role::Edge => &self.processes[..1],
            Role::Execution => &self.processes[1..nodes],
            Role::Node => &self.processes[nodes..],
        };
        &all[number % all.len()]
    }

    /// Lines that the processes wrote of their failpoints.
    pub(crate) fn hits(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.hits).unwrap_or_default()).into_owned()
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Folder of logs.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// SIGKILL, then a start after that time.
    pub(crate) async fn kill_server(&self, server: Server, down: Duration) -> anyhow::Result<()> {
        let from = self.clock.now();
        let (nats, postgres) = (Arc::clone(&self.nats), Arc::clone(&self.postgres));
        let work = move || {
            match server {
                Server::Nats => lock(&nats).kill()?,
                Server::Postgres => lock(&postgres).kill()?,
            }
            std::thread::sleep(down);
            match server {
                Server::Nats => lock(&nats).restart(),
                Server::Postgres => lock(&postgres).restart(),
            }
        };
        tokio::task::spawn_blocking(work).await??;
        let away = (from, self.clock.now());
        match server {
            Server::Nats => self.faults().nats_away.push(away),
            Server::Postgres => self.faults().postgres_away.push(away),
        }
        Ok(())
    }

    /// SIGSTOP for the server and all its processes, SIGCONT after that time.
    pub(crate) async fn freeze_server(&self, server: Server, time: Duration) {
        let root = match server {
            Server::Nats => lock(&self.nats).pid(),
            Server::Postgres => lock(&self.postgres).pid(),
        };
        let from = self.clock.now();
        let mut frozen = family(root);
        frozen.iter().for_each(|pid| signal(*pid, Signal::SIGSTOP));
        // What it started while it was looked at.
        for late in family(root) {
            if !frozen.contains(&late) {
                signal(late, Signal::SIGSTOP);
                frozen.push(late);
            }
        }
        let thaw = Thaw(frozen);
        tokio::time::sleep(time).await;
        drop(thaw);
        let to = self.clock.now();
        let mut faults = self.faults();
        faults.freezes.push((from, to));
        if server == Server::Nats {
            faults.nats_away.push((from, to));
        }
    }

    /// Starts what is due, thaws what is due, and notes what happened. Answers the changes by process.
    pub(crate) fn tend(&self, down: impl Fn() -> Duration) -> std::io::Result<Vec<(String, Change)>> {
        let mut all = Vec::new();
        for process in &self.processes {
            for change in process.tend(&self.clock, down())? {
                match &change {
                    Change::Died { .. } => {
                        let now = self.clock.now();
                        self.faults().kills.push((process.name.clone(), now));
                    }
                    Change::Thawed { from, to } => self.faults().freezes.push((*from, *to)),
                    Change::Started => {}
                }
                all.push((process.name.clone(), change));
            }
        }
        Ok(all)
    }
}

/// Nothing stays frozen, also when the freeze is cut short.
struct Thaw(Vec<u32>);

impl Drop for Thaw {
    fn drop(&mut self) {
        self.0.iter().for_each(|pid| signal(*pid, Signal::SIGCONT));
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn through(url: &str, port: u16, proxy: u16) -> String {
    url.replace(&format!("@127.0.0.1:{port}/"), &format!("@127.0.0.1:{proxy}/"))
}

async fn start_servers(folder: PathBuf) -> anyhow::Result<(Postgres, NatsServer)> {
    let start = move || {
        let postgres = Postgres::start(
            &PostgresTool::resolve(&mut Quiet)?,
            PostgresOptions::new(folder.join("postgres")),
        )?;
        let nats = folder.join("nats");
        let options = NatsOptions {
            extra_config: format!("pid_file: \"{}\"", nats.join("nats.pid").display()),
            ..NatsOptions::new(&nats)
        };
        let nats = NatsServer::start(&NatsTool::resolve(&mut Quiet)?, options)?;
        Ok::<_, mesh_servers::ServersError>((postgres, nats))
    };
    Ok(tokio::task::spawn_blocking(start).await??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_stands_in_for_the_port_only() {
        let url = through("postgres://mesh:a5433@127.0.0.1:5433/mesh", 5433, 7);
        assert_eq!(url, "postgres://mesh:a5433@127.0.0.1:7/mesh");
    }
}
