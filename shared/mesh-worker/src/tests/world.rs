//! A world in memory: journal, channel, memories, tools and a model that can fail, hang or lose their worker at any
//! append. Time passes only when everybody waits. What a worker does to it is in `hands`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mesh_api::execution::InvokeRequest;
use mesh_api::inference::CompleteRequest;
use mesh_api::journal::*;
use mesh_api::memory::{Memory, QueryRequest, StoreRequest};
use mesh_api::messaging::{AuthorKind, Message};
use mesh_types::agent::AgentSpec;
use mesh_types::{AgentName, Clock, Code, Tenant, Timestamp};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::hands::Hands;
use super::time::{Time, agent, invocation, message};
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

/// What the next call of a tool does; without orders it answers with its arguments.
#[derive(Debug, Clone)]
pub(super) enum ToolOrder {
    Answer(Value),
    Fail(Code),
    After(Duration),
    Hang,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    BeforeCommit,
    AfterCommit,
}

/// What the model answers, by the number of its turns in the prompt: calls as (tool, arguments). After the last turn
/// it answers in words.
pub(super) type Script = Vec<Vec<(&'static str, Value)>>;

#[derive(Debug, Default)]
pub(super) struct Orders {
    pub script: Script,
    pub has_no_ids: bool,
    /// What the model answers where an answer of a schema is wanted.
    pub facts: String,
    /// By tool.
    pub tools: BTreeMap<&'static str, VecDeque<ToolOrder>>,
    /// Answers to waits of that name, in their order: of a tool for approvals, of a step for the ambiguous.
    pub approvals: VecDeque<bool>,
    pub resolutions: VecDeque<Resolution>,
    /// The owner has it let go with the n-th append.
    pub stops: Vec<usize>,
    /// With the n-th append it turns out that its first idempotent step has a late result already.
    pub conflicts: Vec<usize>,
    /// Written by the owner just before the n-th append.
    pub news: Vec<(usize, About)>,
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
    pub fork: Option<ForkEdit>,
    pub inherited: Vec<Record>,
    pub recording: Vec<Record>,
    pub depth: u32,
    pub(super) clock: Time,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub orders: Orders,
    /// JSON, as a database would give it back.
    pub(super) journal: Vec<String>,
    pub(super) epoch: u32,
    pub(super) appends: usize,
    pub ends: Vec<Ended>,
    pub channel: Vec<Message>,
    pub memories: Vec<Memory>,
    /// What a consolidation may read.
    pub sources: Vec<Memory>,
    pub queries: Vec<QueryRequest>,
    pub stored: Vec<StoreRequest>,
    pub tokens: Vec<TokenChunk>,
    pub asked: Vec<CompleteRequest>,
    /// Effects in the order in which they ran.
    pub ran: Vec<StepKind>,
    /// Calls of something outside as (tool, key), in the order in which they started.
    pub called: Vec<(String, String)>,
    /// Those of them that came to their end.
    pub effects: Vec<(String, String)>,
    pub created: Vec<(AgentName, InvokeRequest)>,
    /// Waits that were committed, each with its items.
    pub waits: Vec<Vec<WaitItem>>,
    /// Most effects of tools that were under way at the same time.
    pub together: usize,
    pub(super) under_way: usize,
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
            fork: None,
            inherited: Vec::new(),
            recording: Vec::new(),
            depth: 0,
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
        self.run_beside(std::future::pending())
    }

    /// As `run`, with something else that goes on meanwhile.
    pub(super) fn run_beside(&self, other: impl Future<Output = ()>) -> Finished {
        self.with_grant(|worker, grant| {
            let run = run_invocation(grant, worker, self.cancel.clone());
            self.clock.block_on(async {
                tokio::select! {
                    finished = run => finished,
                    () = other => panic!("the other ends first"),
                }
            })
        })
    }

    /// Claims it.
    pub(super) fn with_grant<T>(&self, work: impl FnOnce(&Hands<'_>, Grant) -> T) -> T {
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
            inherited: self.inherited.clone(),
            recording: self.recording.clone(),
            fork: self.fork.clone(),
            journal: self.journal(),
            deadline: self.deadline,
            attempt: epoch,
            depth: self.depth,
            trace: None,
            trace_link: None,
        };
        work(&Hands::new(self, epoch), grant)
    }

    /// Claims it as often as workers are lost, let go or wait; what it waits for happens.
    pub(super) fn run_to_its_end(&self) -> Outcome {
        for _ in 0..200 {
            match self.run() {
                Finished::Ended(outcome) => return outcome,
                Finished::Waiting => self.let_it_happen(),
                Finished::Stale | Finished::Stopped => {}
                other => panic!("{other:?}"),
            }
        }
        panic!("it never ends");
    }

    /// The first thing that it waits for.
    pub(super) fn let_it_happen(&self) {
        let item = self.state().waits.last().expect("it waits")[0].clone();
        let step = item.step;
        match item.on {
            WaitOn::Timer { until } => self.clock.pass(until.since(self.clock.now())),
            WaitOn::Signal { until: Some(until), .. } => self.clock.pass(until.since(self.clock.now())),
            WaitOn::Signal { name, until: None } => {
                self.tell(About::Signal { name, value: json!(7) });
            }
            WaitOn::Approval { .. } => {
                let approved = self.state().orders.approvals.pop_front().unwrap_or(true);
                self.tell(About::Approval { step, approved });
            }
            WaitOn::Child { invocation } => self.tell(About::Child {
                step,
                invocation,
                outcome: Outcome::Completed,
                output: Some(json!({"text": "done by the child"})),
                error: None,
                usage: Usage {
                    input_tokens: 1_000,
                    output_tokens: 1_000,
                    cost_usd: 9.0,
                },
            }),
            WaitOn::Ambiguous { .. } => {
                let how = self.state().orders.resolutions.pop_front();
                let how = how.unwrap_or(Resolution::RunAgain);
                self.tell(About::Resolved { step, how });
            }
        }
    }

    /// Its owner writes that.
    pub(super) fn tell(&self, about: About) {
        let key = format!("key-{}", self.state().journal.len());
        self.commit(Fact::Signalled(Box::new(Signalled {
            key,
            about,
            actor: "ann".into(),
            note: Some("because".into()),
        })));
    }

    pub(super) fn commit(&self, fact: Fact) {
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
