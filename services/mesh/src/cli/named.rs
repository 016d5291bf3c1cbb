//! Which node a person means: the one of that id, else the only visible one of that name.

use mesh_api::Page;
use mesh_api::fleet::NodeRecord;
use mesh_types::NodeId;

use crate::client::Client;
use crate::failure::{Usage, advised};

/// Nodes that a name is looked for among.
const NODES_MAX: usize = 100_000;

/// Of several, in their order; fails before anything is done with one of them.
pub(super) async fn all(client: &Client, texts: &[String]) -> anyhow::Result<Vec<NodeId>> {
    let mut ids = Vec::with_capacity(texts.len());
    for text in texts {
        ids.push(one(client, text).await?);
    }
    Ok(ids)
}

/// What nobody has but could be an id comes back as one: the mesh says then that there is none.
pub(super) async fn one(client: &Client, text: &str) -> anyhow::Result<NodeId> {
    let id = text.parse::<NodeId>();
    if let Ok(id) = &id
        && let Some(NodeRecord { entry, .. }) = client.find(&format!("/api/v1/nodes/{id}")).await?
    {
        return Ok(entry.node_id);
    }
    let visible: Page<NodeRecord> = client.list("/api/v1/nodes", &[], NODES_MAX).await?;
    let nodes = visible.items.iter().map(|record| &record.entry);
    let of_name = nodes.filter(|entry| entry.name == text).map(|entry| &entry.node_id);
    match (of_name.collect::<Vec<_>>().as_slice(), id) {
        ([only], _) => Ok((*only).clone()),
        ([], Ok(id)) => Ok(id),
        ([], Err(error)) => Err(Usage(format!("no node has the name `{text}`, and it is no id: {error}")).into()),
        (several, _) => Err(ambiguous(text, several)),
    }
}

fn ambiguous(name: &str, ids: &[&NodeId]) -> anyhow::Error {
    let ids: Vec<_> = ids.iter().map(|id| id.as_str()).collect();
    let error = anyhow::anyhow!("{} nodes have the name `{name}`: {}", ids.len(), ids.join(", "));
    advised(error, "say which one by its id; mesh nodes lists them")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_two_nodes_is_told_with_both_ids() {
        let ids = ["kitchen", "cellar"].map(|id| id.parse::<NodeId>().unwrap());
        let text = ambiguous("pi", &ids.iter().collect::<Vec<_>>()).to_string();
        assert_eq!(text, "2 nodes have the name `pi`: kitchen, cellar");
    }
}
