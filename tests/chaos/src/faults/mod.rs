//! Carries a plan of faults out, tends the processes meanwhile, and counts what was done.

pub(crate) mod plan;
pub(crate) mod points;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use self::plan::{Plan, Step, role_of};
use crate::draw::Draw;
use crate::ground::{Change, Cut, Ground, Role, Server};
use crate::options::Fault;

const TEND: Duration = Duration::from_millis(25);
/// Lines of a log that tell why a process ended by itself.
const TAIL: usize = 4;

pub(crate) struct Faults {
    log: Arc<Mutex<Log>>,
    rows: JoinSet<anyhow::Result<()>>,
    keeper: JoinSet<()>,
}

/// What was done, and what nobody asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    pub(crate) injected: BTreeMap<&'static str, u64>,
    /// Ends of processes that we did not kill: failpoints do that, bugs too.
    pub(crate) ended_themselves: Vec<String>,
    pub(crate) broken: Vec<String>,
}

impl Faults {
    /// Tends the processes from now on: what died is started again after a while drawn from the seed.
    pub(crate) fn tend(ground: &Arc<Ground>, seed: u64) -> Self {
        let log = Arc::<Mutex<Log>>::default();
        let mut keeper = JoinSet::new();
        let (ground, of_keeper) = (Arc::clone(ground), Arc::clone(&log));
        keeper.spawn(async move {
            let draw = Mutex::new(Draw::of(seed, "keeper"));
            loop {
                let down = || {
                    let mut draw = draw.lock().unwrap_or_else(PoisonError::into_inner);
                    Duration::from_millis(draw.between(50, 1_500))
                };
                note(&ground, &of_keeper, ground.tend(down));
                tokio::time::sleep(TEND).await;
            }
        });
        Self {
            log,
            rows: JoinSet::new(),
            keeper,
        }
    }

    /// Both rows of the plan, at the same time.
    pub(crate) fn start(&mut self, ground: &Arc<Ground>, plan: Plan) {
        for row in [plan.processes, plan.servers] {
            let (ground, log) = (Arc::clone(ground), Arc::clone(&self.log));
            self.rows.spawn(async move {
                for step in row {
                    tokio::time::sleep(step.after).await;
                    inject(&ground, &step).await?;
                    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                    *log.injected.entry(step.fault.as_str()).or_default() += 1;
                }
                Ok(())
            });
        }
    }

    /// Waits until the rows are done.
    ///
    /// # Errors
    /// A server that does not come back.
    pub(crate) async fn finish(&mut self) -> anyhow::Result<()> {
        while let Some(row) = self.rows.join_next().await {
            row??;
        }
        Ok(())
    }

    pub(crate) fn log(&self) -> Log {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nothing is started again from now on.
    pub(crate) async fn stop(mut self) {
        self.rows.shutdown().await;
        self.keeper.shutdown().await;
    }
}

fn note(ground: &Ground, log: &Mutex<Log>, tended: std::io::Result<Vec<(String, Change)>>) {
    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
    match tended {
        Err(error) => log.broken.push(error.to_string()),
        Ok(changes) => {
            for (name, change) in changes {
                if let Change::Died { by_us: false, how } = change {
                    let process = ground.processes.iter().find(|process| process.name == name);
                    let tail = process.map(|process| process.log_tail(TAIL)).unwrap_or_default();
                    log.ended_themselves.push(format!("{name}: {how}: {tail}"));
                }
            }
        }
    }
}

async fn inject(ground: &Arc<Ground>, step: &Step) -> anyhow::Result<()> {
    let one = |role: Role| ground.one_of(role, step.instance);
    match step.fault {
        Fault::KillExecution => one(Role::Execution).kill(step.lasts, None),
        Fault::FreezeExecution => one(Role::Execution).freeze(step.lasts, &ground.clock),
        Fault::KillNode => one(Role::Node).kill(step.lasts, None),
        Fault::FreezeNode => one(Role::Node).freeze(step.lasts, &ground.clock),
        Fault::Failpoint => {
            let role = step.armed.as_ref().map_or(Role::Edge, |armed| role_of(&armed.spec));
            one(role).kill(step.lasts, step.armed.clone());
        }
        Fault::KillEdge => one(Role::Edge).kill(step.lasts, None),
        Fault::FreezeEdge => {
            one(Role::Edge).freeze(step.lasts, &ground.clock);
            tokio::time::sleep(step.lasts).await;
        }
        Fault::KillNats => ground.kill_server(Server::Nats, step.lasts).await?,
        Fault::KillPostgres => ground.kill_server(Server::Postgres, step.lasts).await?,
        Fault::FreezeNats => ground.freeze_server(Server::Nats, step.lasts).await,
        Fault::FreezePostgres => ground.freeze_server(Server::Postgres, step.lasts).await,
        Fault::CutAfterCommit => ground.proxy.cut(Cut::AfterCommit),
        Fault::CutBeforeRequest => ground.proxy.cut(Cut::BeforeRequest),
        Fault::KillAll => kill_all(ground, step.lasts).await?,
    }
    Ok(())
}

async fn kill_all(ground: &Arc<Ground>, down: Duration) -> anyhow::Result<()> {
    for process in &ground.processes {
        process.kill(down, None);
    }
    let (nats, postgres) = tokio::join!(
        ground.kill_server(Server::Nats, down),
        ground.kill_server(Server::Postgres, down)
    );
    nats.and(postgres)
}
