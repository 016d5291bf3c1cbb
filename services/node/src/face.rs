//! The running node as its local API, its chat and its tunnels see it.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use mesh_api::fleet::NodeConfiguration;
use mesh_types::fleet::NodeMode;
use mesh_types::{NodeId, Problem};

use crate::chat::Chat;
use crate::local::{self, Access, Parts, Running, Settings};
use crate::models::Centre;
use crate::tunnel::Tunnels;
use crate::{Node, machine};

/// Its end of tunnels, and its own API and page, until `context.shutdown`.
///
/// # Errors
/// There is no room on the way to NATS.
pub(crate) async fn serve(node: &Arc<Node>, centre: Arc<dyn Centre>) -> Result<(), mesh_bus::BusError> {
    let settings: Arc<dyn Settings> = Arc::clone(node) as _;
    let chat = Arc::new(Chat::new(Arc::clone(&node.models), Arc::clone(&settings)));
    let (models, context) = (Arc::clone(&node.models), &node.context);
    Tunnels::new(Arc::clone(&settings), Arc::clone(&models), Arc::clone(&chat), context)
        .start()
        .await?;
    if node.config.local {
        let parts = Parts {
            settings,
            models,
            chat,
            centre,
            folder: node.state.folder().to_owned(),
        };
        local::start((node.config.local_host, node.config.local_port).into(), parts, context).await;
    }
    Ok(())
}

impl Settings for Node {
    fn node_id(&self) -> NodeId {
        self.execution.node.clone()
    }

    fn name(&self) -> String {
        machine::name(&self.config)
    }

    fn incarnation(&self) -> u64 {
        self.execution.incarnation
    }

    fn access(&self) -> Access {
        let stored = self.state.get();
        match (stored.secret, stored.owner) {
            (Some(_), Some(owner)) => Access::Owned {
                owner,
                tenant: stored.tenant.unwrap_or_default(),
                joined_with: self.joined_with.clone(),
            },
            (Some(_), None) => Access::Owned {
                // Nobody's name is empty: only what it joined with opens it until the mesh has said whose it is.
                owner: String::new(),
                tenant: stored.tenant.unwrap_or_default(),
                joined_with: self.joined_with.clone(),
            },
            (None, _) => Access::Development,
        }
    }

    fn mode(&self) -> NodeMode {
        Self::mode(self)
    }

    fn configuration(&self) -> NodeConfiguration {
        Self::configuration(self)
    }

    fn reconfigure(&self, wanted: NodeConfiguration) -> BoxFuture<'_, Result<NodeConfiguration, Problem>> {
        Self::reconfigure(self, wanted).boxed()
    }

    fn running(&self) -> Running {
        let held = self.held.work();
        Running {
            slots: self.config.slots,
            running: u32::try_from(held.len()).unwrap_or(u32::MAX),
            draining: self.draining.is_cancelled() || self.replicas.is_drained(),
            replicas: self.replicas.reports(&held),
        }
    }

    fn is_connected(&self) -> bool {
        self.context.bus.is_connected()
    }
}
