//! `knowledge-delete`: the document with its versions, pieces and vectors.

use mesh_api::Caller;
use mesh_api::knowledge::{DocumentDeleted, DocumentRequest};
use mesh_store::{Outbox, tenant_tx};
use mesh_types::event::Fact;
use mesh_types::{Code, Problem};

use super::{database, knowledge_get};
use crate::state::State;
use crate::store::documents_write;

const DOING: &str = "deleting the document";

pub(super) async fn handle(
    state: &State,
    caller: Caller,
    request: DocumentRequest,
) -> Result<DocumentDeleted, Problem> {
    let (tenant, id) = (&caller.tenant, request.id);
    let mut tx = tenant_tx(&state.pool, tenant).await.map_err(database(DOING))?;
    let deleted = documents_write::delete(&mut tx, tenant, id)
        .await
        .map_err(database(DOING))?;
    let (base, chunks) = deleted.ok_or_else(|| knowledge_get::not_found(id))?;
    let fact = Fact::KnowledgeDeleted {
        document: id,
        base: base
            .parse()
            .map_err(|_| Problem::new(Code::Internal, format!("document {id}: unreadable collection")))?,
    };
    let event = state.event_of(&caller, fact);
    Outbox::MEMORY.append(&mut tx, &event).await.map_err(database(DOING))?;
    tx.commit().await.map_err(database(DOING))?;
    state.outbox_bell.ring();
    Ok(DocumentDeleted {
        id,
        chunks: u32::try_from(chunks).unwrap_or(u32::MAX),
    })
}
