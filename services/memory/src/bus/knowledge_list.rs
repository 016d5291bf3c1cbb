//! `knowledge-list`: pages of documents, newest first.

use mesh_api::Caller;
use mesh_api::knowledge::{Document, ListDocuments};
use mesh_api::page::{Page, PageQuery};
use mesh_store::tenant_tx;
use mesh_types::{Code, DocumentId, Problem};

use super::database;
use crate::state::State;
use crate::store::documents;

const DOING: &str = "listing documents";

pub(super) async fn handle(state: &State, caller: Caller, request: ListDocuments) -> Result<Page<Document>, Problem> {
    let ListDocuments { base, limit, after } = request;
    let after = after.as_deref().map(place).transpose()?;
    let limit = PageQuery { limit, after: None }.limit();
    let tenant = &caller.tenant;
    let mut tx = tenant_tx(&state.pool, tenant).await.map_err(database(DOING))?;
    let base = base.as_ref().map(|base| base.as_str());
    let rows = documents::list(&mut tx, tenant, state.embedder.model(), base, after, limit + 1)
        .await
        .map_err(database(DOING))?;
    tx.commit().await.map_err(database(DOING))?;
    let items = rows
        .into_iter()
        .map(TryInto::try_into)
        .collect::<Result<Vec<Document>, _>>()?;
    Ok(Page::cut(items, limit, |last| last.id.to_string()))
}

fn place(cursor: &str) -> Result<DocumentId, Problem> {
    cursor.parse().map_err(|_| {
        Problem::new(Code::InvalidRequest, "this is no place in a list of documents")
            .field("after")
            .next("pass `next` of the page before, as it came")
    })
}
