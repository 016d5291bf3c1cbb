//! `memory-query`: the nearest by vector, together with what has no vector yet by its words.

use std::cmp::Ordering;

use mesh_api::Caller;
use mesh_api::memory::{Hit, QueryReply, QueryRequest, Scores};
use mesh_runtime::MetricName;
use mesh_store::tenant_tx;
use mesh_types::Problem;
use sqlx::PgConnection;

use super::database;
use crate::request::check_query;
use crate::state::State;
use crate::store::memories::Vector;
use crate::store::search::{self, Found, Method, Search, WordScope};

const DOING: &str = "searching memories";

pub(super) async fn handle(state: &State, caller: Caller, request: QueryRequest) -> Result<QueryReply, Problem> {
    check_query(&request)?;
    let started = tokio::time::Instant::now();
    let result = query(state, &caller, &request).await;
    let outcome = if result.is_ok() { "ok" } else { "failed" };
    state
        .context
        .metrics
        .counter(MetricName::MemoryQueries)
        .add(1, &[("outcome", outcome)]);
    state
        .context
        .metrics
        .histogram(MetricName::MemoryQueryDuration)
        .record_duration(started.elapsed(), &[]);
    result
}

async fn query(state: &State, caller: &Caller, request: &QueryRequest) -> Result<QueryReply, Problem> {
    let vector = state
        .embed_one(&request.query)
        .await
        .inspect_err(|error| tracing::warn!(%error, "a query goes by words only"))
        .ok();
    let search = Search {
        tenant: &caller.tenant,
        request,
        now: state.now(),
    };
    let mut tx = tenant_tx(&state.pool, &caller.tenant).await.map_err(database(DOING))?;
    let mut found = match &vector {
        Some(vector) => nearest(state, &mut tx, search, vector).await?,
        None => Vec::new(),
    };
    let scope = if vector.is_some() {
        WordScope::NotEmbedded
    } else {
        WordScope::All
    };
    let model = state.embedder.model();
    found.extend(
        search::by_words(&mut tx, search, model, scope)
            .await
            .map_err(database(DOING))?,
    );
    tx.commit().await.map_err(database(DOING))?;
    let hits = found.into_iter().map(hit).collect::<Result<Vec<_>, _>>()?;
    Ok(QueryReply {
        items: best(hits, request),
    })
}

/// Exact where the owner is small enough; the graph must give as many hits as were asked for, or the sort does.
async fn nearest(
    state: &State,
    tx: &mut PgConnection,
    search: Search<'_>,
    vector: &Vector,
) -> Result<Vec<Found>, Problem> {
    let exact_rows_max = i64::from(state.config.exact_rows_max);
    let rows = search::owner_size(tx, search, exact_rows_max + 1)
        .await
        .map_err(database(DOING))?;
    if rows > exact_rows_max {
        let found = search::nearest(tx, search, vector, Method::Graph)
            .await
            .map_err(database(DOING))?;
        if found.len() == search.request.k as usize {
            return Ok(found);
        }
    }
    search::nearest(tx, search, vector, Method::Exact)
        .await
        .map_err(database(DOING))
}

fn hit(found: Found) -> Result<Hit, Problem> {
    Ok(Hit {
        score: found.vector.unwrap_or(found.words),
        scores: Scores {
            vector: found.vector,
            text: Some(found.words),
        },
        memory: found.row.try_into()?,
    })
}

/// The best first; of equals the newer one.
fn best(mut hits: Vec<Hit>, request: &QueryRequest) -> Vec<Hit> {
    hits.retain(|hit| request.filters.score_min.is_none_or(|least| hit.score >= least));
    hits.sort_by(|a, b| {
        let by_score = b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal);
        by_score.then_with(|| b.memory.id.cmp(&a.memory.id))
    });
    hits.truncate(request.k as usize);
    hits
}
