//! A world in memory: journal, channel, memories and a model that can fail, hang or lose their worker at any
//! append. Time passes only when everybody waits. It fails the test itself when the protocol is broken.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mesh_api::inference::{Chunk, CompleteRequest, Completion};
use mesh_api::journal::*;
use mesh_api::memory::{Memory, QueryReply, QueryRequest, StoreRequest};
use mesh_api::messaging::{AuthorKind, Message, PostRequest};
use mesh_types::agent::AgentSpec;
use mesh_types::{ChannelId, Clock, Code, Problem, Tenant, Timestamp};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::time::{START, Time, agent, invocation, message, remembered};
use crate::*;

/// What the next call of a service does; a service without orders answers.
#[derive(Debug, Clone)]
pub(super) enum Order {
    Answer,
    Fail(Code),
    Hang,
}

/// Where the worker is lost: at its n-th append, counted from 0 over all claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loss {
    pub append: usize,
    pub when: When,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    BeforeCommit,
    AfterCommit,
}

#[derive(Debug, Default)]
pub(super) struct Orders {
    pub history: VecDeque<Order>,
    pub query: VecDeque<Order>,
    pub model: VecDeque<Order>,
    pub post: VecDeque<Order>,
    pub store: VecDeque<Order>,
    pub append: VecDeque<AppendError>,
    pub losses: Vec<Loss>,
}

pub(super) struct World {
    pub spec: Arc<AgentSpec>,
    pub input: Input,
    pub deadline: Option<Timestamp>,
    pub cancel: CancellationToken,
    clock: Time,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub orders: Orders,
    /// JSON, as a database would give it back.
    journal: Vec<String>,
    epoch: u32,
    appends: usize,
    pub ends: Vec<Ended>,
    pub channel: Vec<Message>,
    pub memories: Vec<Memory>,
    pub tokens: Vec<TokenChunk>,
    pub asked: Vec<CompleteRequest>,
    /// Effects in the order in which they ran.
    pub ran: Vec<StepKind>,
}

impl World {
    pub(super) fn new(spec: AgentSpec, payload: Value) -> Self {
        let accepted = Fact::Accepted(Accepted {
            agent: agent(),
            version: 1,
            actor: "dev".into(),
        });
        let world = Self {
            spec: Arc::new(spec),
            input: Input {
                payload,
                entrypoint: "channel_message".into(),
                ..Input::default()
            },
            deadline: None,
            cancel: CancellationToken::new(),
            clock: Time::default(),
            state: Mutex::default(),
        };
        world.commit(accepted);
        world
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn says(&self, kind: AuthorKind, author: &str, text: &str) {
        let id = format!("m{}", self.state().channel.len());
        self.state()
            .channel
            .push(message(&id, kind, author, text, self.clock.now()));
    }

    pub(super) fn journal(&self) -> Vec<Record> {
        self.state()
            .journal
            .iter()
            .map(|json| serde_json::from_str(json).unwrap())
            .collect()
    }

    pub(super) fn steps(&self) -> Vec<Done> {
        let done = |record: Record| match record.fact {
            Fact::Done(done) => Some(*done),
            _ => None,
        };
        self.journal().into_iter().filter_map(done).collect()
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.clock.monotonic()
    }

    pub(super) fn appends(&self) -> usize {
        self.state().appends
    }

    /// Claims it once and runs it until the worker lets go.
    pub(super) fn run(&self) -> Finished {
        self.state().epoch += 1;
        self.commit(Fact::Claimed(Claimed {
            holder: "w".into(),
            incarnation: 1,
        }));
        let epoch = self.state().epoch;
        let grant = Grant {
            tenant: Tenant::default(),
            invocation: invocation(),
            agent: agent(),
            version: 1,
            spec: self.spec.clone(),
            input: self.input.clone(),
            epoch,
            journal: self.journal(),
            deadline: self.deadline,
            attempt: epoch,
        };
        let worker = Hands {
            world: self,
            epoch,
            is_lost: Mutex::new(false),
        };
        self.clock.block_on(run_invocation(grant, &worker, self.cancel.clone()))
    }

    /// Claims it as often as workers are lost.
    pub(super) fn run_to_its_end(&self) -> Outcome {
        for _ in 0..100 {
            match self.run() {
                Finished::Ended(outcome) => return outcome,
                Finished::Stale => {}
                other => panic!("{other:?}"),
            }
        }
        panic!("it never ends");
    }

    fn commit(&self, fact: Fact) {
        let at = self.clock.now();
        let mut state = self.state();
        assert!(state.ends.is_empty(), "{fact:?} after the end");
        if let Fact::Ended(ended) = &fact {
            state.ends.push((**ended).clone());
        }
        let seq = u32::try_from(state.journal.len()).unwrap() + 1;
        let record = Record {
            seq,
            epoch: state.epoch,
            at,
            fact,
        };
        state.journal.push(serde_json::to_string(&record).unwrap());
    }
}

/// A worker's hands: of one claim, until it is lost.
pub(super) struct Hands<'a> {
    world: &'a World,
    epoch: u32,
    is_lost: Mutex<bool>,
}

impl Hands<'_> {
    /// Before an effect: the worker is not lost, the step is not recorded, and `begun` is if it must be.
    fn touch(&self, kind: StepKind) {
        assert!(!*self.is_lost.lock().unwrap(), "an effect of a lost worker: {kind:?}");
        let journal = self.world.journal();
        let done = |fact: &Fact| matches!(fact, Fact::Done(done) if done.kind == kind);
        assert!(
            !journal.iter().any(|record| done(&record.fact)),
            "{kind:?} is recorded and runs again"
        );
        let begun = |fact: &Fact| matches!(fact, Fact::Begun(begun) if begun.kind == kind);
        let is_pure = matches!(kind, StepKind::ContextMessages | StepKind::ContextMemories);
        assert!(
            is_pure || journal.iter().any(|record| begun(&record.fact)),
            "{kind:?} runs before its begun"
        );
        self.world.state().ran.push(kind);
    }

    async fn obey(&self, kind: StepKind, orders: impl FnOnce(&mut Orders) -> Option<Order>) -> Result<(), Problem> {
        self.touch(kind);
        let order = orders(&mut self.world.state().orders);
        match order.unwrap_or(Order::Answer) {
            Order::Answer => Ok(()),
            Order::Fail(code) => Err(Problem::new(code, "as ordered")),
            Order::Hang => std::future::pending().await,
        }
    }
}

impl Journal for Hands<'_> {
    async fn append(&self, facts: Vec<Fact>, then: Then) -> Result<Appended, AppendError> {
        assert!(!*self.is_lost.lock().unwrap(), "an append of a lost worker");
        let number = self.world.appends();
        self.world.state().appends += 1;
        let ordered = self.world.state().orders.append.pop_front();
        if let Some(error) = ordered {
            if let AppendError::Conflict { committed } = &error {
                let json = |record| serde_json::to_string(record).unwrap();
                self.world.state().journal = committed.iter().map(json).collect();
            }
            return Err(error);
        }
        let loss = self
            .world
            .state()
            .orders
            .losses
            .iter()
            .find(|loss| loss.append == number)
            .copied();
        *self.is_lost.lock().unwrap() = loss.is_some() || self.world.state().epoch != self.epoch;
        if loss.is_none_or(|loss| loss.when == When::AfterCommit) {
            facts.into_iter().for_each(|fact| self.world.commit(fact));
            if let Then::End(ended) = then {
                self.world.commit(Fact::Ended(ended));
            }
        }
        // With its end committed nobody claims it again, and whoever asks reads it.
        let has_ended = !self.world.state().ends.is_empty();
        if loss.is_some() && !has_ended {
            return Err(AppendError::Stale);
        }
        Ok(Appended {
            seq: u32::try_from(self.world.journal().len()).unwrap(),
        })
    }
}

impl Channels for Hands<'_> {
    async fn history(&self, _: &ChannelId, limit: u32) -> Result<Vec<Message>, Problem> {
        self.obey(StepKind::ContextMessages, |orders| orders.history.pop_front())
            .await?;
        let channel = self.world.state().channel.clone();
        Ok(channel[channel.len().saturating_sub(limit as usize)..].to_vec())
    }

    async fn post(&self, request: PostRequest) -> Result<Message, Problem> {
        self.obey(StepKind::MessagePost, |orders| orders.post.pop_front())
            .await?;
        let id = request.id.unwrap();
        let mut state = self.world.state();
        if let Some(known) = state.channel.iter().find(|message| message.id == id) {
            assert_eq!(known.text, request.text, "a repeat says something else");
            return Ok(known.clone());
        }
        let mut posted = message(
            id.as_str(),
            request.author.kind,
            &request.author.id,
            &request.text,
            START,
        );
        posted.metadata = request.metadata;
        state.channel.push(posted.clone());
        Ok(posted)
    }
}

impl Memories for Hands<'_> {
    async fn query(&self, request: QueryRequest) -> Result<QueryReply, Problem> {
        self.obey(StepKind::ContextMemories, |orders| orders.query.pop_front())
            .await?;
        let hit = |number: u32| remembered(&format!("fact {number} about {}", request.query), number);
        Ok(QueryReply {
            items: (1..=request.k.min(2)).map(hit).collect(),
        })
    }

    async fn store(&self, request: StoreRequest) -> Result<Memory, Problem> {
        self.obey(StepKind::MemoryStore, |orders| orders.store.pop_front())
            .await?;
        let mut memory = remembered(&request.content, 0).memory;
        memory.id = request.id.unwrap();
        let mut state = self.world.state();
        if !state.memories.iter().any(|known| known.id == memory.id) {
            state.memories.push(memory.clone());
        }
        Ok(memory)
    }
}

impl Model for Hands<'_> {
    async fn complete(
        &self,
        request: CompleteRequest,
        mut on_chunk: impl FnMut(Chunk) + Send,
    ) -> Result<Completion, Problem> {
        self.world.state().asked.push(request.clone());
        on_chunk(Chunk::Attempt(1));
        self.obey(StepKind::Model, |orders| orders.model.pop_front()).await?;
        let last = request.messages.last().map(|message| message.content.plain_text());
        let text = format!("echo of {}", last.unwrap_or_default());
        on_chunk(Chunk::Text(text.clone()));
        Ok(Completion {
            text,
            model: "mock".into(),
            provider: "mock".into(),
            // A number that a careless parser reads back as another one.
            usage: Usage {
                input_tokens: 7,
                output_tokens: 3,
                cost_usd: 1.234_567_890_123_456_7e-5,
            },
            usage_estimated: false,
            failed: Vec::new(),
            tool_calls: Vec::new(),
            finish_reason: "stop".into(),
            attempt: 1,
        })
    }
}

impl Tokens for Hands<'_> {
    fn chunk(&self, chunk: TokenChunk) {
        self.world.state().tokens.push(chunk);
    }
}

impl Effects for Hands<'_> {
    fn clock(&self) -> &dyn Clock {
        &self.world.clock
    }

    async fn sleep(&self, duration: Duration) {
        self.world.clock.sleep(duration).await;
    }
}
