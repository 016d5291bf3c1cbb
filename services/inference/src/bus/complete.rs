//! `complete`: one call with its fallbacks, its text in chunks while it comes.

use std::sync::Arc;

use futures::FutureExt;
use mesh_api::Caller;
use mesh_api::inference::{Chunk, CompleteRequest, Completion};
use mesh_bus::ChunkSink;
use mesh_runtime::MetricName;
use mesh_types::Problem;

use crate::calls::{self, Call, Key, Recorder};
use crate::chain;
use crate::state::State;
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
    let call = state.calls.join(key, |chunks| run(working, request, chunks).boxed());
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

async fn run(state: Arc<State>, request: CompleteRequest, mut chunks: Recorder) -> Result<Completion, Problem> {
    let started = tokio::time::Instant::now();
    let result = chain::complete(&state.config, &state.providers, &request, &mut chunks).await;
    let metrics = &state.context.metrics;
    let calls = metrics.counter(MetricName::ModelCalls);
    match &result {
        Ok(done) => {
            for failed in &done.failed {
                calls.add(1, &[("provider", &failed.provider), ("outcome", "failed")]);
            }
            let provider = done.provider.as_str();
            calls.add(1, &[("provider", provider), ("outcome", "ok")]);
            metrics
                .histogram(MetricName::ModelDuration)
                .record_duration(started.elapsed(), &[("provider", provider)]);
            let tokens = metrics.counter(MetricName::ModelTokens);
            tokens.add(
                done.usage.input_tokens,
                &[("provider", provider), ("direction", "input")],
            );
            tokens.add(
                done.usage.output_tokens,
                &[("provider", provider), ("direction", "output")],
            );
        }
        Err(problem) => {
            calls.add(1, &[("provider", "none"), ("outcome", "failed")]);
            tracing::warn!(model = request.model, kind = problem.kind, "no model answered");
        }
    }
    result
}
