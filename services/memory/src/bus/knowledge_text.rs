//! `knowledge-text`: the newest version as it was read, and where it is cut.

use mesh_api::Caller;
use mesh_api::knowledge::{DocumentRequest, DocumentText};
use mesh_store::tenant_tx;
use mesh_types::Problem;

use super::{database, knowledge_get};
use crate::state::State;
use crate::store::documents;

const DOING: &str = "reading the document's text";

pub(super) async fn handle(state: &State, caller: Caller, request: DocumentRequest) -> Result<DocumentText, Problem> {
    let (tenant, id, model) = (&caller.tenant, request.id, state.embedder.model());
    let mut tx = tenant_tx(&state.pool, tenant).await.map_err(database(DOING))?;
    let text = documents::body(&mut tx, tenant, id).await.map_err(database(DOING))?;
    let text = text.ok_or_else(|| knowledge_get::not_found(id))?;
    let row = documents::get(&mut tx, tenant, model, id)
        .await
        .map_err(database(DOING))?;
    let chunks = documents::chunks(&mut tx, tenant, model, id)
        .await
        .map_err(database(DOING))?;
    tx.commit().await.map_err(database(DOING))?;
    Ok(DocumentText {
        document: row.ok_or_else(|| knowledge_get::not_found(id))?.try_into()?,
        text,
        chunks,
    })
}
