//! What the local API, the chat and the tunnel need of the running node.

use futures::future::BoxFuture;
use mesh_api::fleet::NodeConfiguration;
use mesh_runtime::Secret;
use mesh_types::fleet::{NodeMode, ReplicaReport};
use mesh_types::{NodeId, Problem, Tenant};
use serde::Serialize;

/// Whose node it is.
#[derive(Debug, Clone)]
pub(crate) enum Access {
    /// The mesh demands no credentials: whoever sits at this machine.
    Development,
    Owned {
        owner: String,
        tenant: Tenant,
        /// What it joined with at this start, if it did.
        joined_with: Option<Secret<String>>,
    },
}

/// What runs here now.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Running {
    pub(crate) slots: u32,
    /// Of those in use.
    pub(crate) running: u32,
    pub(crate) draining: bool,
    pub(crate) replicas: Vec<ReplicaReport>,
}

/// The running node, as its own face sees it.
pub(crate) trait Settings: Send + Sync + 'static {
    fn node_id(&self) -> NodeId;
    /// For people.
    fn name(&self) -> String;
    /// Grows with each start.
    fn incarnation(&self) -> u64;
    fn access(&self) -> Access;
    fn mode(&self) -> NodeMode;
    fn configuration(&self) -> NodeConfiguration;
    /// Keeps it and tells the mesh.
    fn reconfigure(&self, wanted: NodeConfiguration) -> BoxFuture<'_, Result<NodeConfiguration, Problem>>;
    fn running(&self) -> Running;
    fn is_connected(&self) -> bool;
}
