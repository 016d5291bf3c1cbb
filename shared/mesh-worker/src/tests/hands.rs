//! A worker's hands in the world of the tests: of one claim, until it is lost. They fail the test themselves when
//! the protocol is broken: an effect before its `begun`, of a lost worker, of a step that is recorded.

use std::sync::Mutex;
use std::time::Duration;

use mesh_api::execution::InvokeRequest;
use mesh_api::inference::{Chunk, CompleteRequest, Completion, FunctionCall, Role};
use mesh_api::journal::*;
use mesh_api::memory::{Batch, BatchRequest, Memory, QueryReply, QueryRequest, StoreRequest};
use mesh_api::messaging::{Message, PostRequest};
use mesh_types::tool::{Target, ToolCall, ToolReply};
use mesh_types::{AgentName, ChannelId, Clock, InvocationId, Problem};
use serde_json::{Value, json};

use super::time::{START, message, passage, remembered};
use super::world::{Order, Orders, ToolOrder, When, World};
use crate::*;

pub(super) struct Hands<'a> {
    world: &'a World,
    epoch: u32,
    is_lost: Mutex<bool>,
    /// Highest seq that an answer told.
    seen: Mutex<usize>,
    is_appending: Mutex<bool>,
}

impl<'a> Hands<'a> {
    pub(super) fn new(world: &'a World, epoch: u32) -> Self {
        Self {
            world,
            epoch,
            is_lost: Mutex::new(false),
            seen: Mutex::new(world.journal().len()),
            is_appending: Mutex::new(false),
        }
    }

    /// Before an effect: the worker is not lost, the step is not recorded, and `begun` is if it must be. Without a
    /// number the kind says which step it is.
    fn touch(&self, kind: StepKind, step: Option<u32>) {
        assert!(!*self.is_lost.lock().unwrap(), "an effect of a lost worker: {kind:?}");
        let journal = self.world.journal();
        let is_it = |number: u32, of: StepKind| step.map_or(of == kind, |step| step == number);
        let is_done = |record: &Record| matches!(&record.fact, Fact::Done(done) if is_it(done.step, done.kind));
        let has_tools = step.is_none() && !self.world.spec.tools.is_empty();
        assert!(
            has_tools || !journal.iter().any(is_done),
            "{kind:?} {step:?} is recorded and runs again"
        );
        let begun = journal.iter().rev().find_map(|record| match &record.fact {
            Fact::Begun(begun) if is_it(begun.step, begun.kind) => Some((record.epoch, begun.effect)),
            _ => None,
        });
        match begun {
            Some((epoch, Effect::AtMostOnce)) => assert_eq!(epoch, self.epoch, "{step:?} began under another epoch"),
            Some(_) => {}
            None => {
                let pure = self.world.spec.tools.iter().any(|tool| tool.effect() == Effect::Pure);
                let is_pure = matches!(kind, StepKind::ContextMessages | StepKind::ContextMemories);
                assert!(is_pure || pure, "{kind:?} {step:?} runs before its begun");
            }
        }
        self.world.state().ran.push(kind);
    }

    async fn obey(
        &self,
        kind: StepKind,
        step: Option<u32>,
        orders: impl FnOnce(&mut Orders) -> Option<Order>,
    ) -> Result<(), Problem> {
        self.touch(kind, step);
        let order = orders(&mut self.world.state().orders);
        match order.unwrap_or(Order::Answer) {
            Order::Answer => Ok(()),
            Order::Fail(code) => Err(Problem::new(code, "as ordered")),
            Order::Hang => std::future::pending().await,
        }
    }

    /// The append is on its way for a moment, as over a wire.
    async fn travel(&self) {
        let was_appending = std::mem::replace(&mut *self.is_appending.lock().unwrap(), true);
        assert!(!was_appending, "two appends of one invocation are in flight");
        let mut has_waited = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut has_waited, true) {
                return std::task::Poll::Ready(());
            }
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
        *self.is_appending.lock().unwrap() = false;
    }

    fn write(&self, facts: Vec<Fact>, then: Then, number: usize) -> Appended {
        let told: Vec<About> = {
            let mut state = self.world.state();
            let (now, later) = state.orders.news.drain(..).partition(|(at, _)| *at == number);
            state.orders.news = later;
            let now: Vec<(usize, About)> = now;
            now.into_iter().map(|(_, about)| about).collect()
        };
        told.into_iter().for_each(|about| self.world.tell(about));
        let news = self.world.journal().split_off(*self.seen.lock().unwrap());
        facts.into_iter().for_each(|fact| self.world.commit(fact));
        let mut next = Next::GoOn;
        match then {
            Then::End(ended) => self.world.commit(Fact::Ended(ended)),
            _ if self.world.state().orders.stops.contains(&number) => {
                let reason = "paused".into();
                self.world.commit(Fact::Released(Released { reason }));
                self.world.state().epoch += 1;
                next = Next::Stop;
            }
            Then::Wait(items) if news.is_empty() => {
                assert!(!items.is_empty());
                self.world.state().waits.push(items.clone());
                self.world.commit(Fact::Waiting(Waiting { items }));
                next = Next::Waiting;
            }
            Then::Wait(_) | Then::GoOn => {}
        }
        let seq = self.world.journal().len();
        *self.seen.lock().unwrap() = seq;
        Appended {
            seq: u32::try_from(seq).unwrap(),
            news,
            next,
        }
    }
}

impl Journal for Hands<'_> {
    async fn append(&self, facts: Vec<Fact>, then: Then) -> Result<Appended, AppendError> {
        assert!(!*self.is_lost.lock().unwrap(), "an append of a lost worker");
        self.travel().await;
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
        if self.world.state().orders.conflicts.contains(&number) {
            let late = facts.iter().find_map(|fact| match fact {
                Fact::Done(done) if done.effect == Effect::Idempotent => Some(done.clone()),
                _ => None,
            });
            let mut late = late.expect("the append holds such a result");
            late.output = Some(json!("late"));
            self.world.commit(Fact::Done(late));
            *self.seen.lock().unwrap() += 1;
            let committed = self.world.journal();
            return Err(AppendError::Conflict { committed });
        }
        if self.world.state().epoch != self.epoch {
            *self.is_lost.lock().unwrap() = true;
            return Err(AppendError::Stale);
        }
        let losses = self.world.state().orders.losses.clone();
        let loss = losses.iter().find(|loss| loss.append == number);
        *self.is_lost.lock().unwrap() = loss.is_some();
        let is_taken = loss.is_none_or(|loss| loss.when == When::AfterCommit);
        let appended = is_taken.then(|| self.write(facts, then, number));
        // With its end committed nobody claims it again, and whoever asks reads it.
        let has_ended = !self.world.state().ends.is_empty();
        match appended {
            Some(appended) if loss.is_none() || has_ended => Ok(appended),
            _ => Err(AppendError::Stale),
        }
    }
}

impl Channels for Hands<'_> {
    async fn history(&self, _: &ChannelId, limit: u32) -> Result<Vec<Message>, Problem> {
        self.obey(StepKind::ContextMessages, None, |orders| orders.history.pop_front())
            .await?;
        let channel = self.world.state().channel.clone();
        Ok(channel[channel.len().saturating_sub(limit as usize)..].to_vec())
    }

    async fn post(&self, request: PostRequest) -> Result<Message, Problem> {
        let id = request.id.unwrap();
        let step = id.as_str().rsplit_once('-').and_then(|(_, step)| step.parse().ok());
        self.obey(StepKind::MessagePost, step, |orders| orders.post.pop_front())
            .await?;
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
        self.obey(StepKind::ContextMemories, None, |orders| orders.query.pop_front())
            .await?;
        let hit = |number: u32| remembered(&format!("fact {number} about {}", request.query), number);
        let knowledge = request
            .knowledge
            .iter()
            .map(|base| passage(base.as_str(), "Late trains are refunded."));
        self.world.state().queries.push(request.clone());
        Ok(QueryReply {
            items: (1..=request.k.min(2)).map(hit).collect(),
            knowledge: knowledge.collect(),
            degraded: None,
        })
    }

    async fn batch(&self, request: BatchRequest) -> Result<Batch, Problem> {
        self.obey(StepKind::ContextMemories, None, |orders| orders.query.pop_front())
            .await?;
        let state = self.world.state();
        let find = |id| state.sources.iter().find(|memory| memory.id == id).cloned();
        Ok(Batch {
            items: request.ids.into_iter().filter_map(find).collect(),
        })
    }

    async fn store(&self, request: StoreRequest) -> Result<Memory, Problem> {
        let step = request.source.as_ref().map(|source| source.step);
        self.obey(StepKind::MemoryStore, step, |orders| orders.store.pop_front())
            .await?;
        let mut memory = remembered(&request.content, 0).memory;
        memory.id = request.id.unwrap();
        let mut state = self.world.state();
        state.stored.push(request);
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
        let step = step_of(request.idempotency_key.as_deref().unwrap());
        self.obey(StepKind::Model, Some(step), |orders| orders.model.pop_front())
            .await?;
        let turns = request
            .messages
            .iter()
            .filter(|message| message.role == Role::Assistant);
        let turn = turns.count();
        let calls = self.world.state().orders.script.get(turn).cloned().unwrap_or_default();
        let calls = calls.into_iter().enumerate().map(|(at, (name, arguments))| {
            let arguments = match arguments {
                Value::String(text) => text,
                other => other.to_string(),
            };
            let id = match self.world.state().orders.has_no_ids {
                true => String::new(),
                false => format!("call-{turn}-{at}"),
            };
            let call = FunctionCall {
                id,
                name: name.to_owned(),
                arguments,
            };
            call.to_value()
        });
        let tool_calls: Vec<Value> = calls.collect();
        let last = request.messages.last().map(|message| message.content.plain_text());
        let facts = request
            .response_schema
            .is_some()
            .then(|| self.world.state().orders.facts.clone());
        let text = match tool_calls.len() {
            _ if facts.is_some() => facts.unwrap_or_default(),
            0 => format!("echo of {}", last.unwrap_or_default()),
            _ => String::new(),
        };
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
            finish_reason: if tool_calls.is_empty() { "stop" } else { "tool_calls" }.into(),
            tool_calls,
            attempt: 1,
            cached_tokens: 0,
            from_cache: false,
        })
    }
}

fn step_of(key: &str) -> u32 {
    key.rsplit_once('/').unwrap().1.parse().unwrap()
}

impl Outside for Hands<'_> {
    async fn call(&self, call: ToolCall, mut on_text: impl FnMut(String) + Send) -> Result<ToolReply, Problem> {
        let name = match &call.target {
            Target::Tool(tool) => tool.name.clone(),
            Target::Script(script) => script.command[0].clone(),
            Target::Cli(cli) => cli.driver.clone(),
            Target::Http(_) => "remote".to_owned(),
        };
        let key = call.idempotency_key.clone();
        self.touch(StepKind::Tool, Some(step_of(&key)));
        let order = {
            let mut state = self.world.state();
            state.called.push((name.clone(), key.clone()));
            state.under_way += 1;
            state.together = state.together.max(state.under_way);
            let orders = state.orders.tools.get_mut(name.as_str());
            orders.and_then(|orders| orders.pop_front())
        };
        if let Some(ToolOrder::After(duration)) = order {
            self.world.clock.sleep(duration).await;
        }
        if matches!(order, Some(ToolOrder::Hang)) {
            self.world.clock.sleep(Duration::from_secs(10_000)).await;
        }
        let mut state = self.world.state();
        state.under_way -= 1;
        if let Some(ToolOrder::Fail(code)) = order {
            return Err(Problem::new(code, "as ordered"));
        }
        state.effects.push((name, key));
        drop(state);
        if !matches!(call.target, Target::Tool(_)) {
            on_text("said ".to_owned());
            on_text("aloud".to_owned());
            return Ok(ToolReply::of(json!("said aloud")));
        }
        Ok(ToolReply::of(match order {
            Some(ToolOrder::Answer(answer)) => answer,
            _ => json!({"echo": call.arguments}),
        }))
    }
}

impl Invocations for Hands<'_> {
    async fn create(&self, agent: AgentName, request: InvokeRequest) -> Result<InvocationId, Problem> {
        self.touch(StepKind::Tool, None);
        let id = request.invocation_id.unwrap();
        let mut state = self.world.state();
        if !state.created.iter().any(|(_, known)| known.invocation_id == Some(id)) {
            state.created.push((agent, request));
        }
        Ok(id)
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
