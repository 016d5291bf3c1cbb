//! The way of a request to the owner of its shard: checked, pinned to a version, given an id, and handed to a lane
//! of this process or to another process over NATS.

use std::sync::Arc;
use std::time::Duration;

use mesh_api::execution::{AcceptRequest, Invocation, InvocationAccept, InvokeRequest, WAIT_MAX};
use mesh_api::{Caller, Endpoint as _};
use mesh_runtime::Context;
use mesh_types::{AgentName, Code, InvocationId, Problem, Subject};
use sqlx::PgPool;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agents::Agents;
use crate::core::mail::{ChildRequest, Mail};
use crate::directory::{Directory, Owner};
use crate::figures::Figures;
use crate::lane::command::{Accept, Accepted, Command, LaneHandle, moved};
use crate::request::{self, Prepared};
use crate::shards::ShardId;
use crate::steps;
use crate::store::read;
use crate::traced;

/// An accept without an answer for so long is unknown to its caller; it may still be committed.
const ACCEPT_DEADLINE: Duration = Duration::from_secs(10);
/// How long a moved shard is looked for.
const MOVED_TRIES: u32 = 40;
const MOVED_PAUSE: Duration = Duration::from_millis(150);
/// An end that nobody here tells, as the shard moved: how often it is looked for.
const END_POLL: Duration = Duration::from_millis(200);

pub(crate) struct Router {
    pub(crate) context: Context,
    pub(crate) agents: Arc<Agents>,
    pub(crate) lanes: Vec<LaneHandle>,
    pub(crate) directory: Arc<Directory>,
    /// Under row level security.
    pub(crate) readers: PgPool,
    /// Whoever still waits for an end then is answered what is known.
    pub(crate) closing: CancellationToken,
    pub(crate) figures: Arc<Figures>,
}

/// An accepted request, and the way to its end.
pub(crate) struct Submitted {
    pub(crate) invocation: Invocation,
    shard: ShardId,
    /// Tells of the end, if it was asked for and the invocation is still open.
    ended: Option<oneshot::Receiver<Invocation>>,
}

impl Router {
    /// Accepts, and waits for the end for at most `wait`. Answers the invocation as it is then.
    pub(crate) async fn invoke(
        &self,
        caller: &Caller,
        agent: &AgentName,
        request: InvokeRequest,
        wait: Duration,
    ) -> Result<Invocation, Problem> {
        let prepared = self.prepare(caller, agent, request, None).await?;
        self.accept(caller, prepared, wait).await
    }

    /// Checks the request and pins it; nothing is written yet.
    pub(crate) async fn prepare(
        &self,
        caller: &Caller,
        agent: &AgentName,
        request: InvokeRequest,
        derived_id: Option<InvocationId>,
    ) -> Result<Prepared, Problem> {
        let refused = |problem: &Problem| self.figures.refused(problem);
        request::check(&request, &caller.tenant).inspect_err(refused)?;
        let pinned = self.agents.current(&caller.tenant, agent).await.inspect_err(refused)?;
        let minted = derived_id.unwrap_or_else(|| self.context.ids.next());
        let now = self.context.clock.now();
        let is_given = derived_id.is_some();
        let mut prepared = request::prepare(caller, agent, request, pinned, minted, is_given, now);
        // Whoever came without a trace, such as from a socket, begins that of the invocation here.
        let trace = mesh_trace::current_place().or_else(|| traced::begun(&prepared.meta));
        prepared.belongs_to(trace);
        Ok(prepared)
    }

    /// Looks for the owner as long as a takeover lasts.
    pub(crate) async fn accept(
        &self,
        caller: &Caller,
        mut prepared: Prepared,
        wait: Duration,
    ) -> Result<Invocation, Problem> {
        let wait = wait.min(WAIT_MAX);
        let mut last = None;
        for _ in 0..MOVED_TRIES {
            let (problem, is_gone) = match self.directory.owner(prepared.meta.shard) {
                Owner::Here => match self.accept_here(&prepared, !wait.is_zero()).await {
                    Ok(submitted) => {
                        let ended = self.wait_for_end(submitted, wait).await;
                        return Ok(self.with_steps(&prepared, ended).await);
                    }
                    Err(problem) => (problem, false),
                },
                Owner::There(instance) => {
                    // Boxed, as all that few calls come to: the future of each call is moved as a whole.
                    match Box::pin(self.forward(caller, &prepared, &instance, wait)).await {
                        Ok(invocation) => return Ok(invocation),
                        // Nobody listens there: the owner is gone and will be followed.
                        Err(problem) => {
                            let is_gone = problem.is(Code::Unavailable);
                            (problem, is_gone)
                        }
                    }
                }
                Owner::Nobody => match self.directory.refusal() {
                    Some(refusal) => return Err(refusal),
                    None => (moved(), false),
                },
            };
            if !is_gone && !problem.is(Code::Moved) {
                return Err(problem);
            }
            last = Some(problem);
            // A try without an answer may be committed: from now on its id is looked up.
            prepared.id_is_given = true;
            self.directory.ring();
            tokio::time::sleep(MOVED_PAUSE).await;
        }
        Err(last.unwrap_or_else(moved))
    }

    /// Another process took us for the owner: never passed on again, or two stale directories would play ball.
    pub(crate) async fn accept_as_owner(
        &self,
        caller: &Caller,
        agent: &AgentName,
        request: InvokeRequest,
        wait: Duration,
    ) -> Result<Invocation, Problem> {
        let prepared = self.prepare(caller, agent, request, None).await?;
        if self.directory.owner(prepared.meta.shard) != Owner::Here {
            return Err(moved());
        }
        let submitted = self.accept_here(&prepared, !wait.is_zero()).await?;
        let ended = self.wait_for_end(submitted, wait.min(WAIT_MAX)).await;
        Ok(self.with_steps(&prepared, ended).await)
    }

    /// Hands it to a lane of this process and waits until it is durable.
    pub(crate) async fn accept_here(&self, prepared: &Prepared, waits: bool) -> Result<Submitted, Problem> {
        let accepted = self.hand_over(prepared, waits).await;
        accepted.inspect_err(|problem| self.figures.refused(problem))
    }

    async fn hand_over(&self, prepared: &Prepared, waits: bool) -> Result<Submitted, Problem> {
        let (answer, answered) = oneshot::channel();
        let (waiter, ended) = oneshot::channel();
        self.lane(prepared.meta.shard).accept(Box::new(Accept {
            meta: Arc::clone(&prepared.meta),
            spec: Arc::clone(&prepared.spec),
            id_is_given: prepared.id_is_given,
            answer,
            waiter: waits.then_some(waiter),
            place: None,
            letter: None,
        }))?;
        let accepted = tokio::time::timeout(ACCEPT_DEADLINE, answered).await;
        match accepted {
            Ok(Ok(Ok(Accepted::New(invocation)))) => Ok(Submitted {
                invocation: *invocation,
                shard: prepared.meta.shard,
                ended: waits.then_some(ended),
            }),
            Ok(Ok(Ok(Accepted::Known(id)))) => self.known(prepared, id, waits).await,
            Ok(Ok(Err(problem))) => Err(problem),
            Ok(Err(_)) => Err(moved()),
            Err(_) => Err(unknown(prepared)),
        }
    }

    /// A child that its parent's letter asks for; done when it is durable, now or before.
    pub(crate) async fn accept_child(&self, letter: &Mail, request: &ChildRequest) -> Result<(), Problem> {
        let pinned = self.agents.current(&letter.tenant, &request.agent).await?;
        let prepared = request::prepare_child(letter, request, pinned, self.context.clock.now())?;
        let (answer, answered) = oneshot::channel();
        let _span = traced::child(&prepared.meta);
        self.lane(letter.shard).accept(Box::new(Accept {
            meta: prepared.meta,
            spec: prepared.spec,
            id_is_given: true,
            answer,
            waiter: None,
            place: None,
            letter: Some(letter.read()),
        }))?;
        match tokio::time::timeout(ACCEPT_DEADLINE, answered).await {
            Ok(Ok(answer)) => answer.map(drop),
            Ok(Err(_)) | Err(_) => Err(moved()),
        }
    }

    /// The first answer of a repeated request, as the invocation is now.
    async fn known(&self, prepared: &Prepared, id: InvocationId, waits: bool) -> Result<Submitted, Problem> {
        let (waiter, ended) = oneshot::channel();
        if waits {
            // Before the read: an end between the two is seen by one of them.
            self.lane(prepared.meta.shard).send(Command::Await { id, waiter })?;
        }
        let found = self.read(&prepared.meta.tenant, id).await?;
        let invocation = found.ok_or_else(|| Problem::new(Code::InvocationNotFound, format!("{id} is pruned")))?;
        Ok(Submitted {
            invocation,
            shard: prepared.meta.shard,
            ended: waits.then_some(ended),
        })
    }

    async fn wait_for_end(&self, submitted: Submitted, wait: Duration) -> Invocation {
        let Submitted {
            invocation,
            shard,
            ended,
        } = submitted;
        let Some(mut ended) = ended.filter(|_| !invocation.state.is_ended()) else {
            return invocation;
        };
        let until = Instant::now() + wait;
        loop {
            let told = tokio::select! {
                told = &mut ended => told,
                () = tokio::time::sleep_until(until) => break,
                () = self.closing.cancelled() => break,
            };
            if let Ok(ended) = told {
                return ended;
            }
            // Its shard moved, or its key was used in another shard: the journal tells.
            if let Ok(Some(now)) = self.read(&invocation.tenant, invocation.id).await
                && now.state.is_ended()
            {
                return now;
            }
            tokio::select! {
                () = tokio::time::sleep(END_POLL) => {}
                () = self.closing.cancelled() => break,
            }
            let (waiter, next) = oneshot::channel();
            // Without its lane the waiter is dropped, and it is looked for again.
            let _ = self.lane(shard).send(Command::Await {
                id: invocation.id,
                waiter,
            });
            ended = next;
        }
        // Not ended in time: as far as it is.
        match self.read(&invocation.tenant, invocation.id).await {
            Ok(Some(now)) => now,
            Ok(None) | Err(_) => invocation,
        }
    }

    pub(crate) fn lane(&self, shard: ShardId) -> &LaneHandle {
        &self.lanes[usize::from(shard) % self.lanes.len()]
    }

    pub(crate) async fn read(
        &self,
        tenant: &mesh_types::Tenant,
        id: InvocationId,
    ) -> Result<Option<Invocation>, Problem> {
        let read = async {
            let mut tx = mesh_store::tenant_tx(&self.readers, tenant).await?;
            let Some((meta, phase)) = read::invocations(&mut *tx, &[id]).await?.pop() else {
                return Ok(None);
            };
            let mut now = read::view(&meta, &phase);
            if meta.input.intermediate_steps && now.state.is_ended() {
                steps::attach(&mut tx, &mut now).await?;
            }
            Ok(Some(now))
        };
        Box::pin(read)
            .await
            .map_err(|error| mesh_store::to_problem(error, "read an invocation"))
    }

    /// An end that is known here lacks the steps that it was asked to come with.
    async fn with_steps(&self, prepared: &Prepared, ended: Invocation) -> Invocation {
        if !prepared.meta.input.intermediate_steps || !ended.state.is_ended() || ended.steps.is_some() {
            return ended;
        }
        let mut whole = ended.clone();
        let read = async {
            let mut tx = mesh_store::tenant_tx(&self.readers, &ended.tenant).await?;
            steps::attach(&mut tx, &mut whole).await
        };
        match Box::pin(read).await {
            Ok(()) => whole,
            Err(error) => {
                // The end itself is what matters; the steps can be read.
                tracing::warn!(%error, invocation = %ended.id, "its steps cannot be read for its answer");
                ended
            }
        }
    }

    async fn forward(
        &self,
        caller: &Caller,
        prepared: &Prepared,
        instance: &str,
        wait: Duration,
    ) -> Result<Invocation, Problem> {
        let subject = Subject::Execution {
            instance: instance.parse()?,
            command: "accept".parse()?,
        };
        let request = AcceptRequest {
            agent: prepared.meta.agent.clone(),
            // The id goes along, so that a repeat after a lost answer finds the first.
            request: InvokeRequest {
                invocation_id: Some(prepared.meta.id),
                ..prepared.request.clone()
            },
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        };
        self.context
            .bus
            .call_at::<InvocationAccept>(&subject, caller, &request, InvocationAccept::deadline_of(&request))
            .await
    }
}

fn unknown(prepared: &Prepared) -> Problem {
    Problem::new(Code::Timeout, "not known to be durable yet; it may still be accepted").next(format!(
        "send it again with invocation_id {} : it will be accepted once",
        prepared.meta.id
    ))
}
