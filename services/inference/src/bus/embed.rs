//! `embed`: vectors of texts, from the provider that the model's name leads to.

use std::sync::Arc;

use mesh_api::inference::{Embed, EmbedRequest, Embedded};
use mesh_api::{Caller, Endpoint};
use mesh_runtime::MetricName;
use mesh_types::Problem;
use tokio::time::Instant;

use crate::chain::Means;
use crate::chain::vectors::{self, TIMEOUT};
use crate::state::State;
use crate::usage::{Account, Purpose, Used};

// Who asks must still be there when the answer comes.
const _: () = assert!(TIMEOUT.as_secs() < Embed::DEADLINE.as_secs());
/// The largest message of the bus is 8 MiB; some of it is for the rest of the reply.
const REPLY_BYTES_MAX: usize = 8 * 1024 * 1024 - 64 * 1024;

pub(super) async fn handle(state: Arc<State>, caller: Caller, request: EmbedRequest) -> Result<Embedded, Problem> {
    let started = Instant::now();
    let account = Account {
        caller: &caller,
        idempotency_key: None,
        asked: None,
        agent: None,
        purpose: Purpose::Embedding,
    };
    let bill = |used: Used<'_>| state.usage.used(account, used);
    let means = Means {
        config: &state.config,
        providers: &state.providers,
        governor: &state.governor,
        tenant: &caller.tenant,
        bill: &bill,
        tries_before: 0,
        seed: state.seed(),
    };
    let result = vectors::embed(means, &request, REPLY_BYTES_MAX).await;
    let metrics = &state.context.metrics;
    let (provider, outcome) = match &result {
        Ok(embedded) => (embedded.provider.as_str(), "ok"),
        Err(_) => ("none", "failed"),
    };
    let calls = metrics.counter(MetricName::ModelCalls);
    calls.add(1, &[("provider", provider), ("outcome", outcome)]);
    if result.is_ok() {
        let duration = metrics.histogram(MetricName::ModelDuration);
        duration.record_duration(started.elapsed(), &[("provider", provider)]);
    }
    result
}
