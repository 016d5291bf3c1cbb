//! `complete`: one call with its fallbacks, its text in chunks while it comes.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use mesh_api::Caller;
use mesh_api::inference::{Chunk, CompleteRequest, Completion};
use mesh_bus::ChunkSink;
use mesh_runtime::MetricName;
use mesh_types::Problem;
use tokio::time::Instant;

use crate::cache::Question;
use crate::calls::{self, Call, Key, Recorder};
use crate::chain::{self, Means};
use crate::state::State;
use crate::usage::{Account, Purpose, Used};
use mesh_models::Chunks;

/// Where the chunks of one caller go.
struct Asking(ChunkSink<Chunk>);

impl Chunks for Asking {
    async fn send(&mut self, chunk: Chunk) {
        // A chunk that is lost is in the reply too; a broken bus shows when that is sent.
        if let Err(error) = self.0.send(chunk).await {
            tracing::debug!(%error, "a chunk was not sent");
        }
    }
}

impl calls::Caller for Asking {
    async fn is_there(&self) -> bool {
        self.0.is_awaited().await
    }
}

pub(super) async fn handle(
    state: Arc<State>,
    caller: Caller,
    request: CompleteRequest,
    sink: ChunkSink<Chunk>,
) -> Result<Completion, Problem> {
    let mut asking = Asking(sink);
    let key = Key::of(&caller.tenant, &request);
    let working = Arc::clone(&state);
    let call = state
        .calls
        .join(key, |chunks| run(working, caller, request, chunks).boxed());
    match call {
        Call::Running(running) => running.follow(&mut asking).await,
        Call::Answered(completion) => {
            let calls = state.context.metrics.counter(MetricName::ModelCalls);
            calls.add(1, &[("provider", &completion.provider), ("outcome", "repeated")]);
            asking.send(Chunk::Attempt(completion.attempt)).await;
            if !completion.text.is_empty() {
                asking.send(Chunk::Text(completion.text.clone())).await;
            }
            Ok(Completion::clone(&completion))
        }
    }
}

async fn run(
    state: Arc<State>,
    caller: Caller,
    request: CompleteRequest,
    mut chunks: Recorder,
) -> Result<Completion, Problem> {
    let question = state.cache.is_on().then(|| Question::of(&caller.tenant, &request));
    let Some(question) = question.flatten() else {
        return ask(&state, &caller, &request, &mut chunks).await;
    };
    let asked = state.context.metrics.counter(MetricName::ModelCacheAnswers);
    if let Some(kept) = state.cache.find(&question, Instant::now()) {
        asked.add(1, &[("outcome", "hit")]);
        chunks.send(Chunk::Attempt(kept.attempt)).await;
        if !kept.text.is_empty() {
            chunks.send(Chunk::Text(kept.text.clone())).await;
        }
        return Ok(kept);
    }
    asked.add(1, &[("outcome", "miss")]);
    let completion = ask(&state, &caller, &request, &mut chunks).await?;
    state.cache.keep(question, &request, &completion, Instant::now());
    Ok(completion)
}

async fn ask(
    state: &State,
    caller: &Caller,
    request: &CompleteRequest,
    chunks: &mut Recorder,
) -> Result<Completion, Problem> {
    let started = Instant::now();
    let account = Account {
        caller,
        idempotency_key: request.idempotency_key.as_deref(),
        asked: Key::of(&caller.tenant, request).map(|key| key.sha256()),
        agent: request.agent.as_ref(),
        purpose: Purpose::Chat,
    };
    let bill = |used: Used<'_>| state.usage.used(account, used);
    let means = Means {
        config: &state.config,
        providers: &state.providers,
        governor: &state.governor,
        tenant: &caller.tenant,
        bill: &bill,
        tries_before: chunks.tries_before(),
        seed: state.seed(),
    };
    let result = chain::complete(means, request, chunks).await;
    measure(state, request, &result, started.elapsed());
    result
}

fn measure(state: &State, request: &CompleteRequest, result: &Result<Completion, Problem>, took: Duration) {
    let metrics = &state.context.metrics;
    let calls = metrics.counter(MetricName::ModelCalls);
    match result {
        Ok(done) => {
            for failed in &done.failed {
                calls.add(1, &[("provider", &failed.provider), ("outcome", "failed")]);
            }
            let provider = done.provider.as_str();
            calls.add(1, &[("provider", provider), ("outcome", "ok")]);
            metrics
                .histogram(MetricName::ModelDuration)
                .record_duration(took, &[("provider", provider)]);
        }
        Err(problem) => {
            calls.add(1, &[("provider", "none"), ("outcome", "failed")]);
            tracing::warn!(model = request.model, kind = problem.kind, "no model answered");
        }
    }
}
