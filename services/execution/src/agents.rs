//! Which version an agent runs: pointers from KV `AGENTS`, artifacts by content hash. A miss asks the registry.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_api::registry::{AgentResolve, Artifact, ArtifactGet, ArtifactRequest, Pointer, ResolveRequest};
use mesh_bus::{Bucket, Bus, KvEntry};
use mesh_runtime::Context;
use mesh_types::agent::AgentSpec;
use mesh_types::fleet::Serving;
use mesh_types::{AgentName, Code, Problem, Tenant};
use sha2::{Digest, Sha256};

/// Artifacts kept; past it all are dropped and read again, as they are cheap to fetch and never change.
const ARTIFACTS_MAX: usize = 4_096;
const RELIST_EVERY: Duration = Duration::from_secs(60);
const WATCH_RETRY: Duration = Duration::from_secs(2);

/// What new invocations are pinned to.
#[derive(Debug, Clone)]
pub(crate) struct Pinned {
    pub(crate) version: u32,
    pub(crate) hash: String,
    pub(crate) spec: Arc<AgentSpec>,
}

pub(crate) struct Agents {
    context: Context,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    pointers: HashMap<(Tenant, AgentName), Pointer>,
    /// Where the reconciler has moved new invocations of agents with a `placement`.
    serving: HashMap<(Tenant, AgentName), Serving>,
    specs: HashMap<String, Arc<AgentSpec>>,
}

impl Agents {
    pub(crate) fn new(context: Context) -> Arc<Self> {
        Arc::new(Self {
            context,
            cache: Mutex::default(),
        })
    }

    /// What new invocations are pinned to: the published version, or the one that serves where the agent runs on nodes
    /// and a replica of it is healthy. Asks the registry before it says "unknown".
    pub(crate) async fn current(&self, tenant: &Tenant, agent: &AgentName) -> Result<Pinned, Problem> {
        let published = self.published(tenant, agent).await?;
        if published.spec.placement.is_none() {
            return Ok(published);
        }
        let place = (tenant.clone(), agent.clone());
        let serving = self.cache().serving.get(&place).cloned();
        match serving {
            Some(serving) if serving.hash != published.hash => Ok(Pinned {
                spec: self.artifact(tenant, &serving.hash).await?,
                version: serving.version,
                hash: serving.hash,
            }),
            _ => Ok(published),
        }
    }

    pub(crate) fn serve(&self, tenant: Tenant, agent: AgentName, serving: Option<Serving>) {
        let mut cache = self.cache();
        match serving {
            Some(serving) => cache.serving.insert((tenant, agent), serving),
            None => cache.serving.remove(&(tenant, agent)),
        };
    }

    pub(crate) async fn published(&self, tenant: &Tenant, agent: &AgentName) -> Result<Pinned, Problem> {
        let place = (tenant.clone(), agent.clone());
        let hit = {
            let cache = self.cache();
            cache
                .pointers
                .get(&place)
                .map(|pointer| (pointer.clone(), cache.specs.get(&pointer.hash).cloned()))
        };
        let pointer = match hit {
            Some((pointer, Some(spec))) => {
                return Ok(Pinned {
                    version: pointer.version,
                    hash: pointer.hash,
                    spec,
                });
            }
            Some((pointer, None)) => pointer,
            None => {
                let request = ResolveRequest {
                    tenant: tenant.clone(),
                    agent: agent.clone(),
                };
                let caller = self.context.caller(tenant.clone());
                let pointer = self.bus().call::<AgentResolve>(&caller, &request).await?;
                self.cache().pointers.insert(place, pointer.clone());
                pointer
            }
        };
        let spec = self.artifact(tenant, &pointer.hash).await?;
        Ok(Pinned {
            version: pointer.version,
            hash: pointer.hash,
            spec,
        })
    }

    /// An artifact by its hash, checked against it.
    pub(crate) async fn artifact(&self, tenant: &Tenant, hash: &str) -> Result<Arc<AgentSpec>, Problem> {
        if let Some(spec) = self.cache().specs.get(hash) {
            return Ok(Arc::clone(spec));
        }
        let request = ArtifactRequest {
            tenant: tenant.clone(),
            hash: hash.to_owned(),
        };
        let artifact = self
            .bus()
            .call::<ArtifactGet>(&self.context.caller(tenant.clone()), &request)
            .await?;
        let spec = Arc::new(parse(&artifact, hash)?);
        let mut cache = self.cache();
        if cache.specs.len() >= ARTIFACTS_MAX {
            cache.specs.clear();
        }
        cache.specs.insert(hash.to_owned(), Arc::clone(&spec));
        Ok(spec)
    }

    /// Follows the bucket until shutdown. A watch is a bell that may be missed: all is read again every minute.
    pub(crate) async fn follow(self: Arc<Self>) {
        let shutdown = self.context.shutdown.clone();
        while !shutdown.is_cancelled() {
            let mut watch = self.bus().kv_watch(Bucket::Agents);
            let until = tokio::time::sleep(RELIST_EVERY);
            tokio::pin!(until);
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = &mut until => break,
                    entry = watch.next() => match entry {
                        Some(entry) => self.learn(&entry),
                        None => {
                            tokio::time::sleep(WATCH_RETRY).await;
                            break;
                        }
                    },
                }
            }
        }
    }

    fn learn(&self, entry: &KvEntry) {
        let Some((tenant, agent)) = entry.key.split_once('.') else {
            return;
        };
        let (Ok(tenant), Ok(agent)) = (tenant.parse::<Tenant>(), agent.parse::<AgentName>()) else {
            return;
        };
        let pointer = entry
            .value
            .as_ref()
            .and_then(|value| serde_json::from_slice::<Pointer>(value).ok());
        let mut cache = self.cache();
        match pointer {
            Some(pointer) => cache.pointers.insert((tenant, agent), pointer),
            None => cache.pointers.remove(&(tenant, agent)),
        };
    }

    fn bus(&self) -> &Bus {
        &self.context.bus
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse(artifact: &Artifact, hash: &str) -> Result<AgentSpec, Problem> {
    let broken = |why: String| Problem::new(Code::ArtifactNotFound, format!("artifact {hash} {why}"));
    if hex::encode(Sha256::digest(artifact.bytes.as_bytes())) != hash {
        return Err(broken("has other bytes than its hash says".into()));
    }
    serde_json::from_str(&artifact.bytes).map_err(|error| broken(format!("cannot be read: {error}")))
}
