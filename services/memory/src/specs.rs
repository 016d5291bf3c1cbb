//! What agents declare of their memory, read from the registry: it alone knows, so that nothing of it is kept here for
//! long. Artifacts never change; which of them is published does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_api::registry::{AgentResolve, ArtifactGet, ArtifactRequest, ResolveRequest};
use mesh_runtime::Context;
use mesh_types::agent::AgentSpec;
use mesh_types::{AgentName, Code, Problem, Tenant};

/// For so long a published version may be another one without our knowing.
const POINTER_KEPT: Duration = Duration::from_secs(20);
const POINTERS_MAX: usize = 16_384;
const ARTIFACTS_MAX: usize = 1_024;

/// Hash of the published artifact and when it was read; `None`: there is no such agent.
type Pointer = (Option<String>, Duration);

pub(crate) struct Specs {
    context: Context,
    pointers: Mutex<HashMap<(Tenant, AgentName), Pointer>>,
    artifacts: Mutex<HashMap<String, Arc<AgentSpec>>>,
}

impl Specs {
    pub(crate) fn new(context: &Context) -> Arc<Self> {
        Arc::new(Self {
            context: context.clone(),
            pointers: Mutex::default(),
            artifacts: Mutex::default(),
        })
    }

    /// As it is published now; `None`: there is no such agent, or nothing of it is published.
    pub(crate) async fn published(
        &self,
        tenant: &Tenant,
        agent: &AgentName,
    ) -> Result<Option<Arc<AgentSpec>>, Problem> {
        match self.pointer(tenant, agent).await? {
            Some(hash) => self.artifact(tenant, &hash).await.map(Some),
            None => Ok(None),
        }
    }

    async fn pointer(&self, tenant: &Tenant, agent: &AgentName) -> Result<Option<String>, Problem> {
        let now = self.context.clock.monotonic();
        let place = (tenant.clone(), agent.clone());
        if let Some((hash, read_at)) = lock(&self.pointers).get(&place)
            && now.saturating_sub(*read_at) < POINTER_KEPT
        {
            return Ok(hash.clone());
        }
        let request = ResolveRequest {
            tenant: tenant.clone(),
            agent: agent.clone(),
        };
        let caller = self.context.caller(tenant.clone());
        let hash = match self.context.bus.call::<AgentResolve>(&caller, &request).await {
            Ok(pointer) => Some(pointer.hash),
            Err(problem) if problem.status < 500 && !problem.is_transient() => None,
            Err(problem) => return Err(problem),
        };
        let mut pointers = lock(&self.pointers);
        if pointers.len() >= POINTERS_MAX {
            pointers.clear();
        }
        pointers.insert(place, (hash.clone(), now));
        Ok(hash)
    }

    /// By its hash, as invocations are pinned to it.
    pub(crate) async fn artifact(&self, tenant: &Tenant, hash: &str) -> Result<Arc<AgentSpec>, Problem> {
        if let Some(spec) = lock(&self.artifacts).get(hash) {
            return Ok(Arc::clone(spec));
        }
        let request = ArtifactRequest {
            tenant: tenant.clone(),
            hash: hash.to_owned(),
        };
        let caller = self.context.caller(tenant.clone());
        let artifact = self.context.bus.call::<ArtifactGet>(&caller, &request).await?;
        let spec: AgentSpec = serde_json::from_str(&artifact.bytes)
            .map_err(|error| Problem::new(Code::Internal, format!("artifact {hash} cannot be read: {error}")))?;
        let spec = Arc::new(spec);
        let mut artifacts = lock(&self.artifacts);
        if artifacts.len() >= ARTIFACTS_MAX {
            artifacts.clear();
        }
        artifacts.insert(hash.to_owned(), Arc::clone(&spec));
        Ok(spec)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
