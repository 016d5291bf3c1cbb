//! The endpoints of the `memory` behind the edge: each notes what it was asked and answers in its shape.

use std::sync::Arc;

use mesh_api::knowledge::*;
use mesh_api::memory::*;
use mesh_api::{Page, PageQuery};
use mesh_bus::ServiceBuilder;
use mesh_types::{Code, DocumentId, Id, MemoryId, Problem};

use crate::made::{at, memory, the_invocation};
use crate::steered::answer;
use crate::world::World;

/// The one that is known; its version is 3.
pub(crate) fn the_memory() -> MemoryId {
    MemoryId::from_u128(7)
}

pub(crate) fn the_document() -> DocumentId {
    DocumentId::from_u128(8)
}

fn known(id: MemoryId) -> Result<Memory, Problem> {
    if id != the_memory() {
        return Err(Problem::new(Code::MemoryNotFound, format!("no memory `{id}`")));
    }
    let mut stored = StoreRequest::new("sofia".parse().unwrap(), "likes tea");
    stored.id = Some(id);
    Ok(Memory {
        version: 3,
        ..memory(&stored)
    })
}

fn document(request: &AddDocument) -> Document {
    Document {
        id: the_document(),
        base: request.base.clone().unwrap_or_else(|| "handbook".parse().unwrap()),
        name: request.name.clone().unwrap_or_else(|| "unnamed".into()),
        media_type: request.media_type.clone().unwrap_or_else(|| "text/plain".into()),
        url: request.url.clone(),
        version: 1,
        sha256: "0".repeat(64),
        bytes: 4,
        state: DocumentState::Embedding,
        chunks: 1,
        embedded: 0,
        kept: 0,
        error: None,
        created_at: at(),
        updated_at: at(),
    }
}

fn some_document() -> Document {
    document(&AddDocument {
        base: None,
        name: Some("leave.md".into()),
        media_type: None,
        text: None,
        data: None,
        url: None,
    })
}

fn receipt(request: &ForgetRequest, by: &str) -> Receipt {
    Receipt {
        id: request.id.expect("the edge gives each request an id"),
        forgotten: 2,
        derived: 1,
        ids_sha256: "0".repeat(64),
        at: at(),
        by: by.to_owned(),
        dry_run: request.dry_run,
    }
}

impl World {
    pub(crate) fn serve_memories(self: &Arc<Self>, service: ServiceBuilder) -> ServiceBuilder {
        let service = service
            .endpoint::<MemoryGet, _, _>(answer::<MemoryGet>(self, |request, _| known(request.id)))
            .endpoint::<MemoryUpdate, _, _>(answer::<MemoryUpdate>(self, |request, _| {
                let before = known(request.id)?;
                if request.change.version.is_some_and(|version| version != before.version) {
                    return Err(Problem::new(Code::MemoryStale, "the memory is of version 3"));
                }
                Ok(Memory { version: 4, ..before })
            }))
            .endpoint::<MemoryForget, _, _>(answer::<MemoryForget>(self, |request, _| {
                let id = request.id;
                let forgotten = id == the_memory();
                Ok(Forgotten { id, forgotten })
            }))
            .endpoint::<MemoryHistory, _, _>(answer::<MemoryHistory>(self, |request, _| {
                let memory = known(request.id)?;
                Ok(Revisions {
                    memory,
                    items: Vec::new(),
                })
            }))
            .endpoint::<MemoryList, _, _>(answer::<MemoryList>(self, |request, _| {
                let page: PageQuery = request.page();
                let items = vec![known(the_memory())?];
                Ok(Page {
                    items,
                    next: page.after,
                })
            }))
            .endpoint::<MemoryErase, _, _>(answer::<MemoryErase>(self, |request, caller| {
                Ok(receipt(request, &caller.actor))
            }))
            .endpoint::<EmbeddingStatus, _, _>(answer::<EmbeddingStatus>(self, |_, _| {
                Ok(EmbeddingReport {
                    current: "minilm".into(),
                    dimensions: 384,
                    available: true,
                    error: None,
                    loaded: Some(false),
                    models: Vec::new(),
                    waiting: 3,
                    progress: 0.5,
                })
            }))
            .endpoint::<MemoryConsolidate, _, _>(answer::<MemoryConsolidate>(self, |request, _| {
                Ok(Consolidation {
                    invocation: (request.at_least <= 5).then(the_invocation),
                    memories: 5,
                })
            }));
        self.serve_knowledge(service)
    }

    fn serve_knowledge(self: &Arc<Self>, service: ServiceBuilder) -> ServiceBuilder {
        service
            .endpoint::<KnowledgeAdd, _, _>(answer::<KnowledgeAdd>(self, |request, _| Ok(document(request))))
            .endpoint::<KnowledgeGet, _, _>(answer::<KnowledgeGet>(self, |_, _| Ok(some_document())))
            .endpoint::<KnowledgeList, _, _>(answer::<KnowledgeList>(self, |request, _| {
                Ok(Page {
                    items: vec![some_document()],
                    next: request.after.clone(),
                })
            }))
            .endpoint::<KnowledgeText, _, _>(answer::<KnowledgeText>(self, |_, _| {
                Ok(DocumentText {
                    document: some_document(),
                    text: "Thirty days.".into(),
                    chunks: Vec::new(),
                })
            }))
            .endpoint::<KnowledgeDelete, _, _>(answer::<KnowledgeDelete>(self, |request, _| {
                Ok(DocumentDeleted {
                    id: request.id,
                    chunks: 1,
                })
            }))
            .endpoint::<KnowledgeSearch, _, _>(answer::<KnowledgeSearch>(self, |_, _| {
                Ok(KnowledgeReply {
                    items: Vec::new(),
                    degraded: None,
                })
            }))
    }
}
