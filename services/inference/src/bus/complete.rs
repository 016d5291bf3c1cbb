//! `complete`: one call with its fallbacks, its text in chunks while it comes.

use std::sync::Arc;

use mesh_api::inference::{Chunk, CompleteRequest, Completion};
use mesh_bus::ChunkSink;
use mesh_runtime::MetricName;
use mesh_types::Problem;

use crate::answer::Chunks;
use crate::chain;
use crate::state::State;

impl Chunks for ChunkSink<Chunk> {
    async fn send(&mut self, chunk: Chunk) {
        // A chunk that is lost is in the reply too; a broken bus shows when that is sent.
        if let Err(error) = ChunkSink::send(self, chunk).await {
            tracing::debug!(%error, "a chunk was not sent");
        }
    }
}

pub(super) async fn handle(
    state: Arc<State>,
    request: CompleteRequest,
    mut sink: ChunkSink<Chunk>,
) -> Result<Completion, Problem> {
    let started = tokio::time::Instant::now();
    let result = chain::complete(&state.config, &state.providers, &request, &mut sink).await;
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
