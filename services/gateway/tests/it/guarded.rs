//! An edge that demands credentials, with an `identity` of the test's own: keys named `<tenant>_<name>`, which can all be
//! revoked, what was noted for the audit, and the secret of the edge.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use gateway::Config;
use mesh_api::identity::{
    AuditEntry, AuditNote, AuditNoted, CredentialVerify, EdgeSecret, EdgeSecretHeld, EdgeSecretRequest, Principal,
    PrincipalKind, VerifyRequest,
};
use mesh_api::{Caller, Role};
use mesh_bus::ServiceHandle;
use mesh_types::{Code, Problem};
use reqwest::RequestBuilder;
use serde_json::Value;

use crate::support::Edge;

pub(crate) struct Guarded {
    pub(crate) edge: Edge,
    pub(crate) is_revoked: Arc<AtomicBool>,
    /// The audit takes nothing.
    pub(crate) is_audit_away: Arc<AtomicBool>,
    pub(crate) noted: Arc<Mutex<Vec<(Caller, AuditEntry)>>>,
    _identity: ServiceHandle,
}

fn principal(key: &str) -> Option<Principal> {
    let (tenant, name) = key.split_once('_')?;
    Some(Principal {
        id: format!("key_{name}"),
        kind: PrincipalKind::Key,
        owner: name.to_owned(),
        tenant: tenant.parse().ok()?,
        role: Some(Role::Owner),
        scopes: Vec::new(),
    })
}

impl Guarded {
    pub(crate) async fn start(config: Config) -> Self {
        let edge = Edge::start_with(Config {
            require_credentials: true,
            ..config
        })
        .await;
        edge.bus.apply_topology(&mesh_bus::topology::standard()).await.unwrap();
        let (is_revoked, is_audit_away) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let noted: Arc<Mutex<Vec<(Caller, AuditEntry)>>> = Arc::default();
        let (revoked, away, notes) = (Arc::clone(&is_revoked), Arc::clone(&is_audit_away), Arc::clone(&noted));
        let identity = edge
            .bus
            .service("identity", "0.1.0")
            .endpoint::<CredentialVerify, _, _>(move |_: Caller, request: VerifyRequest| {
                let found = principal(&request.credential).filter(|_| !revoked.load(Ordering::SeqCst));
                async move { found.ok_or_else(|| Problem::new(Code::Unauthorized, "not good")) }
            })
            .endpoint::<AuditNote, _, _>(move |caller: Caller, entry: AuditEntry| {
                let noted = if away.load(Ordering::SeqCst) {
                    Err(Problem::new(Code::Unavailable, "away"))
                } else {
                    notes.lock().unwrap().push((caller, entry));
                    Ok(AuditNoted {})
                };
                async move { noted }
            })
            .endpoint::<EdgeSecret, _, _>(|_: Caller, _: EdgeSecretRequest| async move {
                Ok(EdgeSecretHeld {
                    secret: "5e".repeat(32),
                })
            })
            .start()
            .await
            .unwrap();
        Self {
            edge,
            is_revoked,
            is_audit_away,
            noted,
            _identity: identity,
        }
    }

    pub(crate) fn get(&self, key: &str, path: &str) -> RequestBuilder {
        self.edge.get(path).header("x-service-api-key", key)
    }

    pub(crate) fn post(&self, key: &str, path: &str, body: &Value) -> RequestBuilder {
        self.edge.post(path, body).header("x-service-api-key", key)
    }

    pub(crate) fn revoke_all(&self) {
        self.is_revoked.store(true, Ordering::SeqCst);
    }
}
