//! What a node asks of the mesh for itself, by its own road: models, chat, whose key somebody shows.

use std::time::Duration;

use futures::future::BoxFuture;
use mesh_api::execution::Empty;
use mesh_api::identity::{CredentialVerify, Principal, VerifyRequest};
use mesh_api::inference::{Chat, Chunk, CompleteRequest, Completion, ModelList, Models};
use mesh_api::{Caller, Endpoint};
use mesh_bus::Bus;
use mesh_runtime::Secret;
use mesh_types::{NodeId, Problem, Subject, Tenant};

/// How long the page waits for the mesh before it shows the fallback.
const PATIENCE: Duration = Duration::from_secs(3);

/// The mesh as a node's own face needs it.
pub(crate) trait Centre: Send + Sync + 'static {
    fn models(&self) -> BoxFuture<'_, Result<ModelList, Problem>>;

    /// A call of no invocation, paid by the node's owner.
    fn chat<'a>(
        &'a self,
        request: CompleteRequest,
        on_chunk: &'a mut (dyn FnMut(Chunk) + Send),
    ) -> BoxFuture<'a, Result<Completion, Problem>>;

    /// Whose credential it is; `unauthorized` for anything else.
    fn verify<'a>(&'a self, credential: &'a Secret<String>) -> BoxFuture<'a, Result<Principal, Problem>>;
}

/// By `mesh.node.<node>.…`.
pub(crate) struct MeshCentre {
    bus: Bus,
    node: NodeId,
    caller: Caller,
}

impl MeshCentre {
    pub(crate) fn new(bus: Bus, node: NodeId) -> Self {
        Self {
            bus,
            // The tenant is the node's, as the mesh knows it; what stands here is not believed.
            caller: Caller::service("node", Tenant::default()),
            node,
        }
    }

    fn road<E: Endpoint>(&self) -> Subject {
        let token = |text: &str| text.parse().expect("endpoint names are tokens");
        Subject::NodeService {
            node: self.node.clone(),
            service: token(E::SERVICE),
            endpoint: token(E::NAME),
        }
    }
}

impl Centre for MeshCentre {
    fn models(&self) -> BoxFuture<'_, Result<ModelList, Problem>> {
        Box::pin(async move {
            let road = self.road::<Models>();
            self.bus
                .call_at::<Models>(&road, &self.caller, &Empty {}, PATIENCE)
                .await
        })
    }

    fn chat<'a>(
        &'a self,
        request: CompleteRequest,
        on_chunk: &'a mut (dyn FnMut(Chunk) + Send),
    ) -> BoxFuture<'a, Result<Completion, Problem>> {
        Box::pin(async move {
            let road = self.road::<Chat>();
            self.bus
                .call_stream_at::<Chat>(&road, &self.caller, &request, on_chunk)
                .await
        })
    }

    fn verify<'a>(&'a self, credential: &'a Secret<String>) -> BoxFuture<'a, Result<Principal, Problem>> {
        Box::pin(async move {
            let road = self.road::<CredentialVerify>();
            let request = VerifyRequest {
                credential: credential.expose().clone(),
            };
            self.bus
                .call_at::<CredentialVerify>(&road, &self.caller, &request, PATIENCE)
                .await
        })
    }
}
