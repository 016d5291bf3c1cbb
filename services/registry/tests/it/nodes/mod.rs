//! Nodes: registered, configured, seen by whom they may be, drained, forgotten.

mod changes;
mod lists;
mod rights;

use mesh_api::PageQuery;
use mesh_api::fleet::{
    NodeConfiguration, NodeConfigureRequest, NodeEntry, NodeGetRequest, NodeList, NodeListRequest, NodeRegister,
    NodeRegisterRequest, NodeReportedModeRequest, Viewer,
};
use mesh_types::fleet::{NodeMode, Sharing};
use serde_json::json;

use crate::setup::Mesh;

pub(crate) fn registration(id: Option<&str>, owner: &str) -> NodeRegisterRequest {
    let mut request: NodeRegisterRequest = serde_json::from_value(json!({"owner": owner})).unwrap();
    request.node_id = id.map(|id| id.parse().unwrap());
    request
}

pub(crate) fn viewer(owner: &str) -> Viewer {
    Viewer {
        owner: Some(owner.to_owned()),
    }
}

pub(crate) fn of(viewer: Viewer, id: &str) -> NodeGetRequest {
    NodeGetRequest {
        viewer,
        node_id: id.parse().unwrap(),
    }
}

pub(crate) fn configured(viewer: Viewer, id: &str, mode: NodeMode, sharing: Sharing) -> NodeConfigureRequest {
    NodeConfigureRequest {
        viewer,
        node_id: id.parse().unwrap(),
        configuration: NodeConfiguration {
            mode,
            sharing,
            billable_account_uid: Some("acc-1".into()),
            ..NodeConfiguration::default()
        },
        labels: None,
    }
}

pub(crate) fn report(id: &str, incarnation: u64, seq: u64, mode: NodeMode) -> NodeReportedModeRequest {
    NodeReportedModeRequest {
        node_id: id.parse().unwrap(),
        mode,
        incarnation,
        seq,
    }
}

impl Mesh {
    pub(crate) async fn register(&self, id: &str, owner: &str) -> NodeEntry {
        self.call::<NodeRegister>(registration(Some(id), owner)).await.unwrap()
    }

    pub(crate) async fn seen_by(&self, tenant: &str, viewer: Viewer) -> Vec<String> {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = PageQuery { limit: Some(2), after };
            let request = NodeListRequest {
                viewer: viewer.clone(),
                page,
            };
            let page = self.call_as::<NodeList>(tenant, request).await.unwrap();
            seen.extend(page.items.into_iter().map(|entry| entry.node_id.to_string()));
            after = page.next;
            if after.is_none() {
                return seen;
            }
        }
    }
}
