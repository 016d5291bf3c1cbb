//! Searches of documents: pieces by vector and by words, each with where it is from.

use mesh_api::Caller;
use mesh_api::knowledge::{Citation, KnowledgeHit, KnowledgeReply, SearchKnowledge};
use mesh_api::memory::QueryMode;
use mesh_store::{IdExt, to_problem};
use mesh_types::{Code, Problem};

use super::owner;
use super::request::check_search;
use crate::rank::{self, Aim, Embeddings, Ranked};
use crate::state::State;
use crate::store::search::{Asked, ChunkRow};

/// Candidates of each list, at least; fusing needs more than the hits that are wanted.
const WANTED_MIN: u32 = 50;

/// What the caller's tenant has in these collections; a collection that is not there has nothing.
pub(crate) async fn search(
    state: &State,
    caller: &Caller,
    request: &SearchKnowledge,
) -> Result<KnowledgeReply, Problem> {
    check_search(request)?;
    let owners: Vec<String> = request.bases.iter().map(|base| owner(base.as_str())).collect();
    let (vector, degraded) = match state.embed_text(&caller.tenant, &request.query).await {
        Ok(vector) => (Some(vector), None),
        Err(error) => {
            tracing::warn!(%error, "documents are searched by words only");
            (None, Some(format!("{error}: searched by words only")))
        }
    };
    let asked = Asked {
        tenant: &caller.tenant,
        owners: &owners,
        vector: vector.as_ref(),
        words: Some(&request.query),
        wanted: WANTED_MIN.max(request.k * 2),
        enough: request.k,
        read: request.k,
    };
    let found = state.searches.chunks(&asked).await;
    let found = found.map_err(|error| to_problem(error, "searching documents"))?;
    let mode = if vector.is_some() {
        QueryMode::Hybrid
    } else {
        QueryMode::Text
    };
    let mut aim = Aim::new(request.k, mode, state.now());
    aim.score_min = request.score_min;
    let best = rank::best(found, &aim, &Embeddings::new());
    let items = best.into_iter().map(hit).collect::<Result<Vec<_>, _>>()?;
    Ok(KnowledgeReply { items, degraded })
}

/// Fails only on a row that this service did not write.
fn hit(found: Ranked<ChunkRow>) -> Result<KnowledgeHit, Problem> {
    let row = found.item;
    let unreadable = |what: &str| Problem::new(Code::Internal, format!("piece {}: unreadable {what}", row.id));
    Ok(KnowledgeHit {
        citation: Citation {
            document: IdExt::from_uuid(row.document),
            base: row.base.parse().map_err(|_| unreadable("collection"))?,
            version: row.version.unsigned_abs(),
            start: row.start_at.unsigned_abs(),
            end: row.end_at.unsigned_abs(),
            name: row.name,
            url: row.url,
            headings: row.headings,
        },
        text: row.content,
        score: found.score,
        scores: found.scores,
    })
}
