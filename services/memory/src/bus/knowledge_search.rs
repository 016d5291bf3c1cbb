//! `knowledge-search`: pieces of documents with their citations.

use mesh_api::Caller;
use mesh_api::knowledge::{KnowledgeReply, SearchKnowledge};
use mesh_types::Problem;

use crate::knowledge;
use crate::state::State;

pub(super) async fn handle(state: &State, caller: Caller, request: SearchKnowledge) -> Result<KnowledgeReply, Problem> {
    knowledge::search(state, &caller, &request).await
}
