//! `knowledge-get`: a document, and how far it is embedded.

use mesh_api::Caller;
use mesh_api::knowledge::{Document, DocumentRequest};
use mesh_store::tenant_tx;
use mesh_types::{Code, DocumentId, Problem};

use super::database;
use crate::state::State;
use crate::store::documents;

const DOING: &str = "reading the document";

pub(super) async fn handle(state: &State, caller: Caller, request: DocumentRequest) -> Result<Document, Problem> {
    document(state, &caller, request.id).await
}

pub(super) async fn document(state: &State, caller: &Caller, id: DocumentId) -> Result<Document, Problem> {
    let tenant = &caller.tenant;
    let mut tx = tenant_tx(&state.pool, tenant).await.map_err(database(DOING))?;
    let row = documents::get(&mut tx, tenant, state.embedder.model(), id)
        .await
        .map_err(database(DOING))?;
    tx.commit().await.map_err(database(DOING))?;
    row.ok_or_else(|| not_found(id))?.try_into()
}

pub(super) fn not_found(id: DocumentId) -> Problem {
    Problem::new(Code::DocumentNotFound, format!("no document `{id}`")).next("mesh knowledge list")
}
