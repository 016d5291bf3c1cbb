//! The router's rules: a request comes to any process, and goes to the owner of its shard.

use std::sync::Arc;
use std::time::Duration;

use mesh_api::Caller;
use mesh_api::execution::{Invocation, InvokeRequest};
use mesh_types::{AgentName, Clock, Code, InvocationId, Problem, Tenant};
use tokio::sync::oneshot;

use super::process::Process;
use super::world::Sim;
use crate::directory::Owner;
use crate::lane::command::{Accept, Accepted, Action, Command, Steer, moved};
use crate::request::{self, Prepared};
use crate::shards::ShardId;

const ACCEPT_DEADLINE: Duration = Duration::from_secs(10);
const STEER_DEADLINE: Duration = Duration::from_secs(5);
const MOVED_TRIES: u32 = 40;
const MOVED_PAUSE: Duration = Duration::from_millis(150);

/// An accepted request, and who tells of its end.
pub(super) struct Submitted {
    pub(super) id: InvocationId,
    pub(super) ended: Option<oneshot::Receiver<Invocation>>,
}

impl Process {
    pub(super) fn prepare(
        &self,
        sim: &Sim,
        agent: &AgentName,
        request: InvokeRequest,
        derived: Option<InvocationId>,
    ) -> Result<Prepared, Problem> {
        let caller = Caller {
            role: None,
            tenant: Tenant::default(),
            actor: "client".into(),
            request_id: None,
        };
        request::check(&request, &caller.tenant)?;
        let pinned = sim.registry.published(agent)?;
        let now = self.clock.now();
        let minted = derived.unwrap_or_else(|| sim.next_id(now));
        let is_given = derived.is_some();
        Ok(request::prepare(&caller, agent, request, pinned, minted, is_given, now))
    }

    /// Looks for the owner as long as a takeover lasts.
    pub(super) async fn accept(&self, sim: &Sim, mut prepared: Prepared, waits: bool) -> Result<Submitted, Problem> {
        let shard = prepared.meta.shard;
        let mut last = moved();
        for _ in 0..MOVED_TRIES {
            let (problem, is_gone) = match self.directory.owner(shard) {
                Owner::Here => match self.accept_here(sim, &prepared, waits).await {
                    Ok(submitted) => return Ok(submitted),
                    Err(problem) => (problem, false),
                },
                Owner::There(name) => {
                    let mut passed_on = prepared.clone();
                    passed_on.id_is_given = true;
                    match forward(sim, &name, &passed_on, waits).await {
                        Ok(submitted) => return Ok(submitted),
                        Err(problem) => {
                            let is_gone = problem.is(Code::Unavailable);
                            (problem, is_gone)
                        }
                    }
                }
                Owner::Nobody => (moved(), false),
            };
            if !is_gone && !problem.is(Code::Moved) {
                return Err(problem);
            }
            last = problem;
            prepared.id_is_given = true;
            self.directory.ring();
            tokio::time::sleep(MOVED_PAUSE).await;
        }
        Err(last)
    }

    async fn accept_here(&self, sim: &Sim, prepared: &Prepared, waits: bool) -> Result<Submitted, Problem> {
        let (answer, answered) = oneshot::channel();
        let (waiter, ended) = oneshot::channel();
        self.lane(prepared.meta.shard).accept(Box::new(Accept {
            meta: prepared.meta.clone(),
            spec: Arc::clone(&prepared.spec),
            id_is_given: prepared.id_is_given,
            answer,
            waiter: waits.then_some(waiter),
            place: None,
            letter: None,
        }))?;
        let id = match tokio::time::timeout(ACCEPT_DEADLINE, answered).await {
            Ok(Ok(Ok(Accepted::New(invocation)))) => invocation.id,
            Ok(Ok(Ok(Accepted::Known(id)))) => id,
            Ok(Ok(Err(problem))) => return Err(problem),
            Ok(Err(_)) => return Err(moved()),
            Err(_) => return Err(Problem::new(Code::Timeout, "not known to be durable yet")),
        };
        if !sim.database().invocations.contains_key(&id) {
            sim.violation(format!("{id} is answered and not committed"));
        }
        Ok(Submitted {
            id,
            ended: waits.then_some(ended),
        })
    }

    /// To the owner of the shard, as far as this process knows.
    pub(super) async fn steer(
        &self,
        sim: &Sim,
        id: InvocationId,
        shard: ShardId,
        action: Action,
    ) -> Result<Option<Invocation>, Problem> {
        let answered = match self.directory.owner(shard) {
            Owner::Here => self.steer_here(id, shard, action).await?,
            Owner::There(name) => match sim.process(&name) {
                Some(other) if sim.hop().await && other.directory.owner(shard) == Owner::Here => {
                    other.steer_here(id, shard, action).await?
                }
                _ => return Err(moved()),
            },
            Owner::Nobody => return Err(moved()),
        };
        // Open, and not known there: that process owns the shard no more.
        if answered.is_none() && !sim.database().ended.contains_key(&id) {
            return Err(moved());
        }
        Ok(answered)
    }

    async fn steer_here(
        &self,
        id: InvocationId,
        shard: ShardId,
        action: Action,
    ) -> Result<Option<Invocation>, Problem> {
        let (answer, answered) = oneshot::channel();
        let steer = Steer {
            id,
            shard,
            tenant: Tenant::default(),
            actor: "operator".into(),
            action,
            letter: None,
            answer,
        };
        self.lane(shard).send(Command::Steer(Box::new(steer)))?;
        match tokio::time::timeout(STEER_DEADLINE, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(moved()),
            Err(_) => Err(Problem::new(Code::Timeout, "it is not known to be durable yet")),
        }
    }
}

async fn forward(sim: &Sim, name: &str, prepared: &Prepared, waits: bool) -> Result<Submitted, Problem> {
    let gone = || Problem::new(Code::Unavailable, "nobody listens there");
    if !sim.hop().await {
        tokio::time::sleep(ACCEPT_DEADLINE).await;
        return Err(Problem::new(Code::Timeout, "no answer"));
    }
    let other = sim.process(name).ok_or_else(gone)?;
    if other.directory.owner(prepared.meta.shard) != Owner::Here {
        return Err(moved());
    }
    let submitted = other.accept_here(sim, prepared, waits).await?;
    if !sim.hop().await {
        tokio::time::sleep(ACCEPT_DEADLINE).await;
        return Err(Problem::new(Code::Timeout, "no answer"));
    }
    Ok(submitted)
}
