//! The hosted worker: runs one grant as a task, its effects over the bus, its journal through the owner's lane.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mesh_api::Caller;
use mesh_api::execution::{AcceptRequest, InvocationAccept, InvokeRequest};
use mesh_api::inference::{Chunk, Complete, CompleteRequest, Completion};
use mesh_api::journal::{Ended, Fact, Outcome, Record, TokenChunk, Usage};
use mesh_api::memory::{
    Batch, BatchRequest, Memory, MemoryBatch, MemoryQuery, MemoryStore, QueryReply, QueryRequest, StoreRequest,
};
use mesh_api::messaging::{ChannelHistory, HistoryRequest, Message, MessagePost, PostRequest};
use mesh_bus::Bus;
use mesh_runtime::{Context, fail_point};
use mesh_types::agent::AgentSpec;
use mesh_types::tool::{ToolCall, ToolReply};
use mesh_types::{AgentName, ChannelId, Clock, Code, InvocationId, Problem, Subject};
use mesh_worker::{
    AppendError, Appended, Channels, Effects, Finished, ForkEdit, Grant, Input, Invocations, Journal, Memories, Model,
    Outside, Then, Tokens,
};
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};

use crate::agents::Agents;
use crate::core::Meta;
use crate::core::append::AppendThen;
use crate::figures::Figures;
use crate::lane::command::{Append, AppendAnswer, Command, LaneHandle, Next, Start};
use crate::planted;
use crate::store::load;
use crate::store::source::{self, Source};

/// Records of one invocation that are read at a resume.
const JOURNAL_MAX: i64 = 100_000;
const RETRY_PAUSE: Duration = Duration::from_millis(200);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// What hosted workers share.
pub(crate) struct Hosted {
    pub(crate) context: Context,
    pub(crate) agents: Arc<Agents>,
    /// Reads journals of any tenant, as the lanes do.
    pub(crate) pool: PgPool,
    pub(crate) lanes: Vec<LaneHandle>,
    pub(crate) figures: Arc<Figures>,
    /// Streamed tokens on their way out; full means dropped, as the record supersedes them.
    pub(crate) tokens: mpsc::Sender<(Subject, TokenChunk)>,
    pub(crate) toolbox: mesh_tools::Toolbox,
}

impl Hosted {
    pub(crate) fn start(self: &Arc<Self>, start: Start) {
        let hosted = Arc::clone(self);
        self.context
            .tasks
            .spawn("invocation", async move { hosted.run(start).await });
    }

    async fn run(self: Arc<Self>, mut start: Start) {
        let lane = self.lanes[usize::from(start.meta.shard) % self.lanes.len()].clone();
        let guard = HolderGuard {
            lane: lane.clone(),
            meta: Arc::clone(&start.meta),
            epoch: start.epoch,
            is_ended: false,
        };
        fail_point!(async "worker.grant.after");
        let cancel = start.cancel.clone();
        let journal = std::mem::take(&mut start.journal);
        let meta = &start.meta;
        let effects = HostedEffects {
            caller: self.context.caller(meta.tenant.clone()),
            lane,
            meta: Arc::clone(meta),
            epoch: start.epoch,
            seq: AtomicU32::new(start.seq),
            hosted: Arc::clone(&self),
        };
        let prepared = tokio::select! {
            prepared = self.prepare(&start, journal) => prepared,
            () = cancel.cancelled() => return,
        };
        let (spec, journal, source) = match prepared {
            Ok(prepared) => prepared,
            Err(problem) => return effects.end_dead(problem, guard).await,
        };
        self.figures.resumed(start.epoch, &journal);
        let grant = grant(meta, spec, start.epoch, journal, source);
        let finished = mesh_worker::run_invocation(grant, &effects, cancel).await;
        effects.settle(finished, guard).await;
    }

    /// Artifact and journal, waiting for registry and database as long as it takes: no attempt is counted for them.
    /// What neither will ever give is a problem.
    async fn prepare(
        &self,
        start: &Start,
        journal: Vec<Record>,
    ) -> Result<(Arc<AgentSpec>, Vec<Record>, Source), Problem> {
        let meta = &start.meta;
        let mut pause = RETRY_PAUSE;
        let spec = match &start.spec {
            Some(spec) => Arc::clone(spec),
            None => loop {
                match self.agents.artifact(&meta.tenant, &meta.artifact).await {
                    Ok(spec) => break spec,
                    Err(problem) if !problem.is_transient() && problem.status < 500 => {
                        return Err(problem);
                    }
                    Err(problem) => {
                        tracing::warn!(invocation = %meta.id, %problem, "its artifact cannot be read; waiting")
                    }
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_PAUSE_MAX);
            },
        };
        if !journal.is_empty() && meta.fork().is_none() {
            return Ok((spec, journal, Source::default()));
        }
        loop {
            let read = async {
                let mut connection = self.pool.acquire().await?;
                let mut journal = load::journal(&mut connection, meta.id, 0, JOURNAL_MAX).await?;
                // As of its claim: what came since is told by the answer to its first append.
                journal.retain(|record| record.seq <= start.seq);
                let source = source::of(&mut connection, meta).await?;
                Ok((journal, source))
            };
            match read.await {
                Ok((journal, source)) => return Ok((spec, planted::journal(journal), source)),
                Err(error @ sqlx::Error::Decode(_)) => {
                    return Err(Problem::new(Code::Internal, error.to_string()));
                }
                Err(error) => {
                    tracing::warn!(invocation = %meta.id, %error, "its journal cannot be read; waiting")
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }
}

/// The right to run it under that epoch, with all that the loop needs. The simulator's workers get the same.
pub(crate) fn grant(meta: &Meta, spec: Arc<AgentSpec>, epoch: u32, journal: Vec<Record>, source: Source) -> Grant {
    Grant {
        tenant: meta.tenant.clone(),
        invocation: meta.id,
        agent: meta.agent.clone(),
        version: meta.version,
        spec,
        input: Input {
            payload: meta.input.payload.value(),
            entrypoint: meta.entrypoint.clone(),
            context: meta.input.context.clone(),
            metadata: meta.input.metadata.clone(),
            session: meta.session.clone(),
        },
        inherited: source.inherited,
        recording: source.recording,
        fork: meta.fork().map(|fork| ForkEdit {
            from_step: fork.from_step,
            edit: fork.edit.clone(),
        }),
        depth: meta.depth().into(),
        trace: meta.input.place(),
        trace_link: meta.input.trace_link(),
        epoch,
        journal,
        deadline: meta.deadline_at,
        attempt: epoch,
    }
}

/// Tells the lane that the worker is gone, also when its task panics or is dropped.
struct HolderGuard {
    lane: LaneHandle,
    meta: Arc<Meta>,
    epoch: u32,
    is_ended: bool,
}

impl Drop for HolderGuard {
    fn drop(&mut self) {
        if !self.is_ended {
            // No lane, no memory to correct.
            let _ = self.lane.send(Command::HolderGone {
                id: self.meta.id,
                epoch: self.epoch,
            });
        }
    }
}

struct HostedEffects {
    hosted: Arc<Hosted>,
    caller: Caller,
    lane: LaneHandle,
    meta: Arc<Meta>,
    epoch: u32,
    /// Highest record that this worker knows to be committed.
    seq: AtomicU32,
}

impl HostedEffects {
    fn bus(&self) -> &Bus {
        &self.hosted.context.bus
    }

    async fn settle(&self, finished: Finished, mut guard: HolderGuard) {
        match finished {
            Finished::Ended(_) => guard.is_ended = true,
            Finished::Waiting | Finished::Stopped | Finished::Stale => {}
            Finished::Refused(problem) => {
                // Even its end was refused: end it with the plain reason, which any database takes.
                let ended = without_output(Outcome::Failed, "record_refused", *problem);
                guard.is_ended = self.append(Vec::new(), Then::End(Box::new(ended))).await.is_ok();
            }
        }
    }

    /// It can never run: a dead letter, for a person to look at.
    async fn end_dead(&self, problem: Problem, mut guard: HolderGuard) {
        tracing::error!(invocation = %self.meta.id, %problem, "it cannot be run");
        let ended = without_output(Outcome::Dead, "not_runnable", problem);
        guard.is_ended = self.append(Vec::new(), Then::End(Box::new(ended))).await.is_ok();
    }
}

fn without_output(outcome: Outcome, reason: &str, error: Problem) -> Ended {
    Ended {
        outcome,
        reason: Some(reason.into()),
        output: None,
        error: Some(error),
        usage: Usage::default(),
        provider: None,
    }
}

impl Journal for HostedEffects {
    async fn append(&self, facts: Vec<Fact>, then: Then) -> Result<Appended, AppendError> {
        fail_point!(async "worker.append.before");
        let facts = planted::facts(facts);
        let then = planted::then(then, self.epoch);
        let (answer, answered) = oneshot::channel();
        let (facts_len, is_going_on) = (facts.len(), matches!(then, Then::GoOn));
        let append = Append {
            id: self.meta.id,
            shard: self.meta.shard,
            epoch: self.epoch,
            after_seq: self.seq.load(Ordering::Relaxed),
            holder: None,
            facts,
            then: match then {
                Then::GoOn => AppendThen::GoOn,
                Then::Wait(items) => AppendThen::Wait(items),
                Then::End(ended) => AppendThen::End(ended),
            },
            answer,
        };
        self.lane
            .send(Command::Append(append))
            .map_err(|_| AppendError::Stale)?;
        if let Some(early) = planted::pipelined(&self.seq, facts_len, is_going_on) {
            return Ok(early);
        }
        let answered = answered.await;
        fail_point!(async "worker.append.after");
        match answered {
            Ok(Ok(appended)) => {
                self.seq.store(appended.seq, Ordering::Relaxed);
                Ok(Appended {
                    seq: appended.seq,
                    news: appended.news,
                    next: match appended.next {
                        Next::GoOn => mesh_worker::Next::GoOn,
                        Next::Waiting => mesh_worker::Next::Waiting,
                        Next::Stop => mesh_worker::Next::Stop,
                    },
                })
            }
            Ok(Err(AppendAnswer::Conflict(committed))) => {
                let seq = committed.last().map_or(0, |record| record.seq);
                self.seq.store(seq, Ordering::Relaxed);
                Err(AppendError::Conflict { committed })
            }
            Ok(Err(AppendAnswer::Refused(problem))) => Err(AppendError::Refused(problem)),
            Ok(Err(AppendAnswer::Stale)) | Err(_) => Err(AppendError::Stale),
        }
    }
}

impl Channels for HostedEffects {
    async fn history(&self, channel: &ChannelId, limit: u32) -> Result<Vec<Message>, Problem> {
        let request = HistoryRequest {
            channel: channel.clone(),
            limit,
            before: None,
        };
        Ok(self.bus().call::<ChannelHistory>(&self.caller, &request).await?.items)
    }

    async fn post(&self, request: PostRequest) -> Result<Message, Problem> {
        fail_point!(async "worker.post.before");
        let posted = self.bus().call::<MessagePost>(&self.caller, &request).await;
        fail_point!(async "worker.post.after");
        posted
    }
}

impl Memories for HostedEffects {
    async fn query(&self, request: QueryRequest) -> Result<QueryReply, Problem> {
        self.bus().call::<MemoryQuery>(&self.caller, &request).await
    }

    async fn batch(&self, request: BatchRequest) -> Result<Batch, Problem> {
        self.bus().call::<MemoryBatch>(&self.caller, &request).await
    }

    async fn store(&self, request: StoreRequest) -> Result<Memory, Problem> {
        fail_point!(async "worker.store.before");
        let stored = self.bus().call::<MemoryStore>(&self.caller, &request).await;
        fail_point!(async "worker.store.after");
        stored
    }
}

impl Model for HostedEffects {
    async fn complete(
        &self,
        mut request: CompleteRequest,
        on_chunk: impl FnMut(Chunk) + Send,
    ) -> Result<Completion, Problem> {
        fail_point!(async "worker.model.before");
        request.idempotency_key = request.idempotency_key.map(|key| planted::key(key, self.epoch));
        let answer = self
            .bus()
            .call_stream::<Complete>(&self.caller, &request, on_chunk)
            .await;
        fail_point!(async "worker.model.after");
        answer
    }
}

impl Outside for HostedEffects {
    async fn call(&self, mut call: ToolCall, on_text: impl FnMut(String) + Send) -> Result<ToolReply, Problem> {
        fail_point!(async "worker.tool.before");
        call.idempotency_key = planted::key(call.idempotency_key, self.epoch);
        let reply = self.hosted.toolbox.call(call, on_text).await;
        fail_point!(async "worker.tool.after");
        reply
    }
}

impl Invocations for HostedEffects {
    async fn create(&self, agent: AgentName, request: InvokeRequest) -> Result<InvocationId, Problem> {
        let request = AcceptRequest {
            agent,
            request,
            wait_ms: 0,
        };
        fail_point!(async "worker.create.before");
        let created = self.bus().call::<InvocationAccept>(&self.caller, &request).await;
        fail_point!(async "worker.create.after");
        Ok(created?.id)
    }
}

impl Tokens for HostedEffects {
    fn chunk(&self, chunk: TokenChunk) {
        let subject = Subject::Tokens {
            tenant: self.meta.tenant.clone(),
            invocation: self.meta.id,
        };
        let _ = self.hosted.tokens.try_send((subject, chunk));
    }
}

impl Effects for HostedEffects {
    fn clock(&self) -> &dyn Clock {
        self.hosted.context.clock.as_ref()
    }
}

/// Publishes tokens in order; ends when every worker is gone.
pub(crate) async fn publish_tokens(bus: Bus, mut tokens: mpsc::Receiver<(Subject, TokenChunk)>) {
    while let Some((subject, chunk)) = tokens.recv().await {
        let payload = serde_json::to_vec(&chunk).unwrap_or_default();
        if let Err(error) = bus.publish(&subject, payload.into()).await {
            tracing::debug!(%error, "a token is not published; the record will have it");
        }
    }
}
