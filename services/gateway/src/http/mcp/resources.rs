//! Memories and documents of knowledge as resources: listed page by page, read by their URI.

use mesh_api::knowledge::{Document, DocumentRequest, KnowledgeList, KnowledgeText, ListDocuments};
use mesh_api::memory::{ListMemories, Memory, MemoryGet, MemoryList, MemoryRequest};
use mesh_types::{AgentName, Code, DocumentId, MemoryId};
use rmcp::model::{ListResourcesResult, ReadResourceResult, Resource, ResourceContents, ResourceTemplate};
use serde_json::json;

use super::server::Server;
use crate::http::problem::Failure;

const MEMORIES: &str = "mesh://memories/";
const DOCUMENTS: &str = "mesh://documents/";
const AGENTS: &str = "mesh://agents/";
/// `mesh://agents/sofia/memories`.
const OF_AGENT: &str = "/memories";
/// A cursor says of which list it is: documents come first, then memories.
const AFTER_DOCUMENT: &str = "documents ";
const AFTER_MEMORY: &str = "memories ";
const PAGE: u32 = 100;
const TITLE_CHARS_MAX: usize = 80;

pub(super) fn templates() -> Vec<ResourceTemplate> {
    vec![
        ResourceTemplate::new(format!("{MEMORIES}{{id}}"), "memory")
            .with_description("One memory of an agent")
            .with_mime_type("application/json"),
        ResourceTemplate::new(format!("{AGENTS}{{agent}}{OF_AGENT}"), "memories of an agent")
            .with_description("The newest memories of an agent, at most 100")
            .with_mime_type("application/json"),
        ResourceTemplate::new(format!("{DOCUMENTS}{{id}}"), "document")
            .with_description("The text of one document")
            .with_mime_type("text/plain"),
    ]
}

/// One page; `after` is the `nextCursor` of the page before.
pub(super) async fn list(server: &Server, after: Option<String>) -> Result<ListResourcesResult, Failure> {
    let Server { app, caller } = server;
    let Some(after_memory) = after.as_deref().and_then(|after| after.strip_prefix(AFTER_MEMORY)) else {
        let after = match after.as_deref() {
            None => None,
            Some(cursor) => match cursor.strip_prefix(AFTER_DOCUMENT) {
                Some(after) => Some(after.to_owned()),
                None => return Err(Failure::invalid("cursor", "that is no cursor of this list")),
            },
        };
        let request = ListDocuments {
            base: None,
            limit: Some(PAGE),
            after,
        };
        let page = app.call::<KnowledgeList>(caller, &request).await?;
        let next = match page.next {
            Some(next) => format!("{AFTER_DOCUMENT}{next}"),
            None => AFTER_MEMORY.to_owned(),
        };
        return Ok(listed(page.items.iter().map(document).collect(), Some(next)));
    };
    let request = ListMemories {
        limit: Some(PAGE),
        after: (!after_memory.is_empty()).then(|| after_memory.to_owned()),
        ..ListMemories::default()
    };
    let page = app.call::<MemoryList>(caller, &request).await?;
    let next = page.next.map(|next| format!("{AFTER_MEMORY}{next}"));
    Ok(listed(page.items.iter().map(memory).collect(), next))
}

fn listed(resources: Vec<Resource>, next: Option<String>) -> ListResourcesResult {
    let mut result = ListResourcesResult::with_all_items(resources);
    result.next_cursor = next;
    result
}

fn document(document: &Document) -> Resource {
    Resource::new(format!("{DOCUMENTS}{}", document.id), document.name.clone())
        .with_description(format!("A document of {}", document.base))
        .with_mime_type("text/plain")
        .with_size(document.bytes)
}

fn memory(memory: &Memory) -> Resource {
    let title: String = memory.content.chars().take(TITLE_CHARS_MAX).collect();
    Resource::new(format!("{MEMORIES}{}", memory.id), memory.id.to_string())
        .with_title(title)
        .with_description(format!("A memory of {}", memory.agent))
        .with_mime_type("application/json")
}

/// `None`: the URI is none of ours.
pub(super) async fn read(server: &Server, uri: &str) -> Result<Option<ReadResourceResult>, Failure> {
    let Server { app, caller } = server;
    let Some(named) = Named::parse(uri) else {
        return Ok(None);
    };
    let (text, kind) = match named {
        Named::Memory(id) => {
            let memory = app.call::<MemoryGet>(caller, &MemoryRequest { id }).await?;
            (json!(memory).to_string(), "application/json")
        }
        Named::MemoriesOf(agent) => {
            let request = ListMemories {
                agent: Some(agent),
                limit: Some(PAGE),
                ..ListMemories::default()
            };
            let page = app.call::<MemoryList>(caller, &request).await?;
            (json!(page.items).to_string(), "application/json")
        }
        Named::Document(id) => {
            let document = app.call::<KnowledgeText>(caller, &DocumentRequest { id }).await;
            match document {
                Ok(document) => (document.text, "text/plain"),
                Err(Failure(problem)) if problem.is(Code::DocumentNotFound) => return Ok(None),
                Err(failure) => return Err(failure),
            }
        }
    };
    let contents = ResourceContents::text(text, uri).with_mime_type(kind);
    Ok(Some(ReadResourceResult::new(vec![contents])))
}

#[derive(Debug, PartialEq)]
enum Named {
    Memory(MemoryId),
    MemoriesOf(AgentName),
    Document(DocumentId),
}

impl Named {
    fn parse(uri: &str) -> Option<Self> {
        if let Some(id) = uri.strip_prefix(MEMORIES) {
            id.parse().ok().map(Self::Memory)
        } else if let Some(id) = uri.strip_prefix(DOCUMENTS) {
            id.parse().ok().map(Self::Document)
        } else {
            let agent = uri.strip_prefix(AGENTS)?.strip_suffix(OF_AGENT)?;
            agent.parse().ok().map(Self::MemoriesOf)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_one_thing_or_nothing() {
        let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        assert!(matches!(
            Named::parse(&format!("mesh://memories/mem_{id}")),
            Some(Named::Memory(_))
        ));
        assert!(matches!(
            Named::parse(&format!("mesh://documents/doc_{id}")),
            Some(Named::Document(_))
        ));
        assert!(matches!(
            Named::parse("mesh://agents/sofia/memories"),
            Some(Named::MemoriesOf(_))
        ));
        for wrong in [
            "",
            "file:///etc/passwd",
            "mesh://memories/../x",
            "mesh://agents/a b/memories",
        ] {
            assert_eq!(Named::parse(wrong), None, "{wrong}");
        }
    }
}
