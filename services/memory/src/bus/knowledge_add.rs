//! `knowledge-add`: the same bytes change nothing, others are the document's next version.

use mesh_api::Caller;
use mesh_api::knowledge::{AddDocument, Document};
use mesh_store::{Outbox, tenant_tx};
use mesh_types::event::Fact;
use mesh_types::{ChunkId, DocumentId, Problem};

use super::{database, knowledge_get};
use crate::knowledge::{self, Asked, Piece, Prepared, Source};
use crate::state::State;
use crate::store::documents::{self, Hold};
use crate::store::documents_write::{self, NewDocument, Put};

const DOING: &str = "adding the document";

pub(super) async fn handle(state: &State, caller: Caller, request: AddDocument) -> Result<Document, Problem> {
    let asked = Asked::try_from(request)?;
    let mut source = knowledge::source(state, asked).await?;
    let bytes = i64::try_from(source.bytes.len()).unwrap_or(i64::MAX);
    if let Some(id) = same(state, &caller, &source).await? {
        return knowledge_get::document(state, &caller, id).await;
    }
    let Prepared { body, pieces } = knowledge::prepare(state, &mut source).await?;
    let ids = &state.context.ids;
    let pieces: Vec<(ChunkId, Piece)> = pieces.into_iter().map(|piece| (ids.next(), piece)).collect();
    let new = NewDocument {
        id: ids.next(),
        base: source.base.as_str(),
        owner: &knowledge::owner(source.base.as_str()),
        name: &source.name,
        media_type: source.media.as_str(),
        url: source.url.as_deref(),
        sha256: &source.sha256,
        bytes,
        body: &body,
        pieces: &pieces,
        at: state.now(),
        by: &caller.actor,
    };
    let id = store(state, &caller, &source, &new).await?;
    knowledge_get::document(state, &caller, id).await
}

/// The document of this name, when it is of these bytes already.
async fn same(state: &State, caller: &Caller, source: &Source) -> Result<Option<DocumentId>, Problem> {
    let tenant = &caller.tenant;
    let mut tx = tenant_tx(&state.pool, tenant).await.map_err(database(DOING))?;
    let known = documents::named(&mut tx, tenant, source.base.as_str(), &source.name, Hold::No)
        .await
        .map_err(database(DOING))?;
    tx.commit().await.map_err(database(DOING))?;
    let same = known.filter(|known| known.is_same(&source.sha256, source.media.as_str()));
    Ok(same.map(|known| known.id()))
}

async fn store(state: &State, caller: &Caller, source: &Source, new: &NewDocument<'_>) -> Result<DocumentId, Problem> {
    let tenant = &caller.tenant;
    let mut tx = tenant_tx(&state.pool, tenant).await.map_err(database(DOING))?;
    let (id, version) = match documents_write::put(&mut tx, tenant, new)
        .await
        .map_err(database(DOING))?
    {
        Put::Same(id) => return Ok(id),
        Put::New { id, version } => (id, version),
    };
    let fact = Fact::KnowledgeAdded {
        document: id,
        base: source.base.clone(),
        version,
    };
    let event = state.event_of(caller, fact);
    Outbox::MEMORY.append(&mut tx, &event).await.map_err(database(DOING))?;
    tx.commit().await.map_err(database(DOING))?;
    state.outbox_bell.ring();
    state.embed_bell.ring();
    Ok(id)
}
