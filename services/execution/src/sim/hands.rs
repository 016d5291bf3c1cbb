//! What a simulated worker reaches the world with: its journal by the lane, its effects by the ledger of effects.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mesh_api::execution::InvokeRequest;
use mesh_api::inference::{Chunk, CompleteRequest, Completion};
use mesh_api::journal::{Effect, Fact, Record, TokenChunk};
use mesh_api::memory::{Batch, BatchRequest, Memory, QueryReply, QueryRequest, StoreRequest};
use mesh_api::messaging::{Message, PostRequest};
use mesh_types::tool::{Target, ToolCall, ToolReply};
use mesh_types::{AgentName, ChannelId, Clock, Code, InvocationId, Problem};
use mesh_worker::{
    AppendError, Appended, Channels, Effects, Invocations, Journal, Memories, Model, Outside, Then, Tokens,
};
use tokio::sync::oneshot;

use super::bugs::Bug;
use super::group::Group;
use super::node::Node;
use super::process::Process;
use super::world::Sim;
use crate::core::Meta;
use crate::core::append::AppendThen;
use crate::lane::command::{Append, AppendAnswer, Command, Next};

/// Where a worker runs.
#[derive(Clone)]
pub(super) enum Place {
    Hosted(Arc<Process>),
    Node(Arc<Node>),
}

pub(super) struct Hands {
    pub(super) sim: Arc<Sim>,
    pub(super) place: Place,
    pub(super) meta: Arc<Meta>,
    pub(super) epoch: u32,
    /// Highest record that this worker knows to be committed.
    pub(super) seq: AtomicU32,
}

type Answer = Result<crate::lane::command::Appended, AppendAnswer>;

impl Hands {
    fn group(&self) -> &Arc<Group> {
        match &self.place {
            Place::Hosted(process) => &process.group,
            Place::Node(node) => &node.group,
        }
    }

    /// Its process may die or freeze here.
    async fn trouble(&self, when: &'static str) {
        let odds = self.sim.odds();
        if self.sim.chance(odds.killed_at_effect) {
            match &self.place {
                Place::Hosted(process) => process.kill(&self.sim, when),
                Place::Node(node) => node.kill(&self.sim, when),
            }
            std::future::pending::<()>().await;
        }
        if self.sim.chance(odds.frozen_at_effect) {
            self.group().freeze();
            let (sim, group) = (Arc::clone(&self.sim), Arc::clone(self.group()));
            // A node's lease is longer than the silence of an owner.
            let most = if matches!(self.place, Place::Node(_)) {
                24_000
            } else {
                8_000
            };
            let length = sim.millis(100, most);
            self.sim
                .event("freeze", u128::from(self.epoch), || format!("{when} {length:?}"));
            self.sim.outside.spawn(async move {
                tokio::time::sleep(length).await;
                group.thaw();
            });
            tokio::task::yield_now().await;
        }
    }

    /// What must be true when an effect starts.
    fn check(&self, step: u32, class: Effect) {
        let database = self.sim.database();
        let journal = database.records.get(&self.meta.id).map_or(&[][..], Vec::as_slice);
        let claimed = journal
            .iter()
            .rev()
            .find(|record| matches!(record.fact, Fact::Claimed(_)));
        let is_current = claimed.is_some_and(|record| record.epoch == self.epoch);
        let is_done = |fact: &Fact| matches!(fact, Fact::Done(done) if done.step == step);
        let done = journal
            .iter()
            .find(|record| is_done(&record.fact))
            .map(|record| record.epoch);
        let is_begun = |fact: &Fact| matches!(fact, Fact::Begun(begun) if begun.step == step);
        let begun = journal
            .iter()
            .rev()
            .find(|record| is_begun(&record.fact))
            .map(|record| record.epoch);
        drop(database);
        let at = format!("{}/{step} under epoch {}", self.meta.id, self.epoch);
        // One that was frozen cannot know better; what it does then is judged by keys and counts.
        if done.is_some_and(|epoch| is_current || epoch == self.epoch) {
            self.sim.violation(format!("{at}: a recorded step runs again"));
        }
        match class {
            Effect::Pure => {}
            Effect::Idempotent if begun.is_some() => {}
            // Begun again by whoever came after is begun after this one's own.
            Effect::AtMostOnce if begun.is_some_and(|epoch| epoch >= self.epoch) => {}
            _ => self
                .sim
                .violation(format!("{at}: its effect starts before its begun is committed")),
        }
    }

    async fn send(&self, facts: &[Fact], then: &Then) -> Answer {
        loop {
            let (answer, answered) = oneshot::channel();
            let mut append = Append {
                id: self.meta.id,
                shard: self.meta.shard,
                epoch: self.epoch,
                after_seq: self.seq.load(Ordering::Relaxed),
                holder: None,
                facts: facts.to_vec(),
                then: match then.clone() {
                    Then::GoOn => AppendThen::GoOn,
                    Then::Wait(items) => AppendThen::Wait(items),
                    Then::End(ended) => AppendThen::End(ended),
                },
                answer,
            };
            match &self.place {
                Place::Hosted(process) => {
                    let lane = process.lane(self.meta.shard);
                    if lane.send(Command::Append(append)).is_err() {
                        return Err(AppendAnswer::Stale);
                    }
                    return answered.await.unwrap_or(Err(AppendAnswer::Stale));
                }
                Place::Node(node) => {
                    append.holder = Some(node.holder());
                    if let Some(answer) = node.append(&self.sim, self.meta.shard, append, answered).await {
                        return answer;
                    }
                    self.sim.pause(100, 300).await;
                }
            }
        }
    }

    /// What is answered is committed.
    fn heard(&self, answer: &Answer, facts: &[Fact]) {
        let Ok(appended) = answer else { return };
        let database = self.sim.database();
        let journal = database.records.get(&self.meta.id).map_or(&[][..], Vec::as_slice);
        // Who is told to let go begins nothing.
        let lets_go = appended.next == Next::Stop;
        let is_taken = |fact: &&Fact| !(lets_go && matches!(fact, Fact::Begun(_)));
        // Under the worker's own epoch: it cannot speak for another one.
        let is_own = |record: &Record, fact: &Fact| record.epoch == self.epoch && record.fact == *fact;
        let has = |fact: &Fact| journal.iter().rev().any(|record| is_own(record, fact));
        let is_there = journal.len() >= appended.seq as usize && facts.iter().filter(is_taken).all(has);
        drop(database);
        if !is_there {
            let (id, seq) = (self.meta.id, appended.seq);
            self.sim
                .violation(format!("{id}: an append is answered with {seq} and not committed"));
        }
    }

    /// Planted: goes on without the answer.
    fn pipeline(&self, facts: Vec<Fact>) -> Appended {
        let after_seq = self.seq.load(Ordering::Relaxed);
        let count = u32::try_from(facts.len()).unwrap_or(0);
        self.seq.store(after_seq + count, Ordering::Relaxed);
        let ahead = Self {
            sim: Arc::clone(&self.sim),
            place: self.place.clone(),
            meta: Arc::clone(&self.meta),
            epoch: self.epoch,
            seq: AtomicU32::new(after_seq),
        };
        self.group().spawn(async move {
            let _ = ahead.send(&facts, &Then::GoOn).await;
        });
        Appended {
            seq: after_seq + count,
            news: Vec::new(),
            next: mesh_worker::Next::GoOn,
        }
    }
}

impl Journal for Hands {
    async fn append(&self, mut facts: Vec<Fact>, then: Then) -> Result<Appended, AppendError> {
        if self.sim.has(Bug::BegunOmitted) {
            facts.retain(|fact| !matches!(fact, Fact::Begun(_)));
        }
        if self.sim.has(Bug::PipelinedEffect) && then == Then::GoOn {
            return Ok(self.pipeline(facts));
        }
        let answer = self.send(&facts, &then).await;
        self.heard(&answer, &facts);
        match answer {
            Ok(appended) => {
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
            Err(AppendAnswer::Conflict(committed)) => Err(AppendError::Conflict { committed }),
            Err(AppendAnswer::Refused(problem)) => Err(AppendError::Refused(problem)),
            Err(AppendAnswer::Stale) => Err(AppendError::Stale),
        }
    }
}

impl Outside for Hands {
    async fn call(&self, call: ToolCall, _on_text: impl FnMut(String) + Send) -> Result<ToolReply, Problem> {
        let class = match &call.target {
            Target::Tool(tool) => tool.effect(),
            _ => Effect::AtMostOnce,
        };
        if let Place::Node(node) = &self.place {
            node.lease(self.meta.id).await;
        }
        self.trouble("before an effect").await;
        let step = step_of(&call.idempotency_key);
        self.check(step, class);
        let mut key = call.idempotency_key.clone();
        if self.sim.has(Bug::RetryUnderNewKey) {
            key = format!("{key}#{}", self.epoch);
        }
        let output = self.sim.ledger().perform(self.meta.id, &key, class, &call.arguments);
        self.sim.event("effect", u128::from(step), || {
            format!("{key} under epoch {}", self.epoch)
        });
        self.sim.pause(1, 60).await;
        self.trouble("after an effect").await;
        if self.sim.chance(self.sim.odds().failing) {
            return Err(Problem::new(Code::Timeout, "the answer was lost"));
        }
        Ok(ToolReply::of(output))
    }
}

impl Model for Hands {
    async fn complete(
        &self,
        request: CompleteRequest,
        mut on_chunk: impl FnMut(Chunk) + Send,
    ) -> Result<Completion, Problem> {
        if let Place::Node(node) = &self.place {
            node.lease(self.meta.id).await;
        }
        self.trouble("before a model call").await;
        let key = request.idempotency_key.clone().unwrap_or_default();
        self.check(step_of(&key), Effect::Idempotent);
        let text = serde_json::to_string(&request.messages).unwrap_or_default();
        if !self.sim.ledger().prompt(&key, hash(&text)) {
            self.sim
                .violation(format!("{key}: the model is asked something else under the same key"));
        }
        on_chunk(Chunk::Attempt(1));
        self.sim.pause(1, 120).await;
        if self.sim.chance(self.sim.odds().failing) {
            return Err(Problem::new(Code::Unavailable, "no model answers"));
        }
        Ok(super::outside::complete(&request))
    }
}

impl Invocations for Hands {
    async fn create(&self, agent: AgentName, request: InvokeRequest) -> Result<InvocationId, Problem> {
        let unavailable = || Problem::new(Code::Unavailable, "no process serves");
        let process = self.sim.some_process().ok_or_else(unavailable)?;
        let prepared = process.prepare(&self.sim, &agent, request, None)?;
        Ok(process.accept(&self.sim, prepared, false).await?.id)
    }
}

impl Channels for Hands {
    async fn history(&self, _: &ChannelId, _: u32) -> Result<Vec<Message>, Problem> {
        Ok(Vec::new())
    }

    async fn post(&self, _: PostRequest) -> Result<Message, Problem> {
        Err(Problem::new(Code::Unavailable, "no channel in this world"))
    }
}

impl Memories for Hands {
    async fn query(&self, _: QueryRequest) -> Result<QueryReply, Problem> {
        Ok(QueryReply {
            items: Vec::new(),
            knowledge: Vec::new(),
            degraded: None,
        })
    }

    async fn batch(&self, _: BatchRequest) -> Result<Batch, Problem> {
        Err(Problem::new(Code::Unavailable, "no memory in this world"))
    }

    async fn store(&self, _: StoreRequest) -> Result<Memory, Problem> {
        Err(Problem::new(Code::Unavailable, "no memory in this world"))
    }
}

impl Tokens for Hands {
    fn chunk(&self, _: TokenChunk) {}
}

impl Effects for Hands {
    fn clock(&self) -> &dyn Clock {
        match &self.place {
            Place::Hosted(process) => process.clock.as_ref(),
            Place::Node(node) => node.clock.as_ref(),
        }
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

fn step_of(key: &str) -> u32 {
    key.rsplit('/').next().and_then(|step| step.parse().ok()).unwrap_or(0)
}

fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
