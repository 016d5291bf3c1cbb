//! `memory-query`: the best of what is near by vector and of what matches by words, each with its reasons.

use mesh_api::Caller;
use mesh_api::knowledge::{KnowledgeReply, SearchKnowledge};
use mesh_api::memory::{Hit, QueryReply, QueryRequest};
use mesh_types::{Problem, Tenant};

use super::database;
use crate::knowledge;
use crate::question::Question;
use crate::rank::{self, Aim, Candidate, Embeddings, Ranked};
use crate::request::check_query;
use crate::state::State;
use crate::store::Row;
use crate::store::search::{Asked, Filter};

const DOING: &str = "searching memories";

pub(super) async fn handle(state: &State, caller: Caller, request: QueryRequest) -> Result<QueryReply, Problem> {
    check_query(&request)?;
    let started = tokio::time::Instant::now();
    let result = query(state, &caller, &request).await;
    let figures = &state.figures;
    let counted = if result.is_ok() {
        &figures.queries_answered
    } else {
        &figures.queries_failed
    };
    counted.add(1);
    figures.query.record_duration(started.elapsed());
    result
}

async fn query(state: &State, caller: &Caller, request: &QueryRequest) -> Result<QueryReply, Problem> {
    if request.knowledge.is_empty() {
        return memories(state, caller, request).await;
    }
    let (mut reply, known) = tokio::try_join!(memories(state, caller, request), knowledge(state, caller, request))?;
    reply.knowledge = known.items;
    reply.degraded = reply.degraded.or(known.degraded);
    Ok(reply)
}

async fn knowledge(state: &State, caller: &Caller, request: &QueryRequest) -> Result<KnowledgeReply, Problem> {
    let asked = SearchKnowledge {
        bases: request.knowledge.clone(),
        query: request.query.clone(),
        k: request.k,
        score_min: None,
    };
    knowledge::search(state, caller, &asked).await
}

async fn memories(state: &State, caller: &Caller, request: &QueryRequest) -> Result<QueryReply, Problem> {
    let question = Question::of(state, &caller.tenant, request).await?;
    let now = state.now();
    let asked = Asked {
        tenant: &caller.tenant,
        owners: &question.owners,
        vector: question.vector.as_ref(),
        words: question.words,
        wanted: question.wanted,
        enough: request.k,
        read: question.read,
    };
    let filter = Filter {
        filters: &request.filters,
        now,
    };
    let found = state.searches.memories(&asked, filter).await.map_err(database(DOING))?;
    let embeddings = embeddings(state, &caller.tenant, request, &question, &found).await?;
    let ranked = rank::best(found, &Aim::of(request, question.mode, now), &embeddings);
    Ok(QueryReply {
        items: ranked.into_iter().map(hit).collect::<Result<_, _>>()?,
        knowledge: Vec::new(),
        degraded: question.degraded,
    })
}

/// Needed for variety only.
async fn embeddings(
    state: &State,
    tenant: &Tenant,
    request: &QueryRequest,
    question: &Question<'_>,
    found: &[Candidate<Row>],
) -> Result<Embeddings, Problem> {
    let (Some(_), Some(vector)) = (request.mmr, &question.vector) else {
        return Ok(Embeddings::new());
    };
    let ids: Vec<_> = found.iter().map(|candidate| candidate.of.id).collect();
    let read = state.searches.embeddings(tenant, vector, &ids).await;
    read.map_err(database(DOING))
}

fn hit(ranked: Ranked<Row>) -> Result<Hit, Problem> {
    Ok(Hit {
        memory: ranked.item.try_into()?,
        score: ranked.score,
        scores: ranked.scores,
    })
}
