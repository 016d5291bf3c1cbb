//! Who asks: the credential of a request as `identity` verifies it. What he may do at the edge is `admit`'s.
//! In development mode nobody signs in; then the tenant is the header's and the actor is `dev`.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use mesh_api::fleet::Viewer;
use mesh_api::identity::{
    AuditEntry, AuditNote, AuditOutcome, CredentialVerify, Principal, PrincipalKind, VerifyRequest,
};
use mesh_api::{Caller, Role};
use mesh_types::{Code, NodeId, Problem, Tenant};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::edge::RequestIdentity;
use super::extract::{TENANT_HEADER, header_text};
use super::problem::Failure;
use crate::state::App;

/// Besides `Authorization: Bearer`.
pub(crate) const KEY_HEADER: &str = "x-service-api-key";
/// Who asks where nobody signs in.
const DEVELOPER: &str = "dev";
/// How long a verified credential is believed: a revoked one is refused after this at the latest.
const BELIEVED: Duration = Duration::from_secs(8);
/// Credentials that are remembered; past it the oldest answer is asked for again.
const REMEMBERED_MAX: usize = 10_000;
/// Longest credential that is looked at, in bytes: an access token has some hundred.
const CREDENTIAL_BYTES_MAX: usize = 2_048;
/// How long a refusal waits until it is noted.
const NOTE_DEADLINE: Duration = Duration::from_secs(2);

/// What is known of credentials; each is kept as its hash.
#[derive(Debug)]
pub(crate) struct Desk {
    required: bool,
    known: Mutex<HashMap<[u8; 32], Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    until: Duration,
    principal: Principal,
}

impl Desk {
    pub(crate) fn new(required: bool) -> Self {
        Self {
            required,
            known: Mutex::default(),
        }
    }

    /// Whether nobody gets in without a credential.
    pub(crate) fn requires_credentials(&self) -> bool {
        self.required
    }

    fn known(&self) -> MutexGuard<'_, HashMap<[u8; 32], Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recall(&self, hash: &[u8; 32], now: Duration) -> Option<Principal> {
        let known = self.known();
        let found = known.get(hash).filter(|known| known.until > now)?;
        Some(found.principal.clone())
    }

    fn remember(&self, hash: [u8; 32], principal: Principal, now: Duration) {
        let mut known = self.known();
        if known.len() >= REMEMBERED_MAX {
            known.retain(|_, known| known.until > now);
        }
        if known.len() >= REMEMBERED_MAX {
            let oldest = known.iter().min_by_key(|(_, known)| known.until).map(|(hash, _)| *hash);
            oldest.map(|hash| known.remove(&hash));
        }
        let until = now + BELIEVED;
        known.insert(hash, Known { until, principal });
    }
}

/// The credential of a request, verified; an extension of the request.
#[derive(Clone)]
pub(super) struct SignedIn {
    pub(super) principal: Principal,
    pub(super) credential: String,
}

/// Who is remembered for that credential.
pub(super) fn recall(app: &App, credential: &str) -> Option<Principal> {
    let hash: [u8; 32] = Sha256::digest(credential).into();
    app.desk.recall(&hash, app.clock.monotonic())
}

/// Whose credential this is; remembered for some seconds.
pub(crate) async fn verify(app: &App, credential: &str) -> Result<Principal, Failure> {
    if credential.len() > CREDENTIAL_BYTES_MAX {
        return Err(unauthorized("that is no credential of this mesh"));
    }
    let hash: [u8; 32] = Sha256::digest(credential).into();
    // Before the question: what is revoked meanwhile is not believed for longer.
    let now = app.clock.monotonic();
    if let Some(principal) = app.desk.recall(&hash, now) {
        return Ok(principal);
    }
    let caller = Caller::service("gateway", Tenant::default());
    let request = VerifyRequest {
        credential: credential.to_owned(),
    };
    let principal = app.call::<CredentialVerify>(&caller, &request).await?;
    app.desk.remember(hash, principal.clone(), now);
    Ok(principal)
}

/// The credential of `X-Service-API-Key` or `Authorization: Bearer`.
pub(super) fn credential_of(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    if let Some(key) = header_text(headers, KEY_HEADER)? {
        return Ok(Some(key.trim().to_owned()));
    }
    let Some(text) = header_text(headers, header::AUTHORIZATION.as_str())? else {
        return Ok(None);
    };
    match text.split_once(' ') {
        Some((scheme, credential)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(credential.trim().to_owned())),
        _ => Err(unauthorized("Authorization is not of the form `Bearer CREDENTIAL`")),
    }
}

pub(super) fn unauthorized(detail: &str) -> Failure {
    Failure::new(Code::Unauthorized, detail).next(
        "send an API key as X-Service-API-Key or as Authorization: Bearer; the command line takes it from MESH_API_KEY, \
         on the mesh's own machine from MESH_HOME/api-key, and `mesh keys create` makes one",
    )
}

pub(super) fn caller_of(principal: &Principal, identity: Option<&RequestIdentity>) -> Caller {
    let actor = match principal.kind {
        PrincipalKind::Key | PrincipalKind::User => format!("user:{}", principal.owner),
        PrincipalKind::JoinToken => format!("join:{}", principal.id),
        PrincipalKind::Node => format!("node:{}", principal.id),
    };
    Caller {
        role: principal.role,
        tenant: principal.tenant.clone(),
        actor,
        request_id: identity.map(|identity| identity.id),
    }
}

/// Tells `identity` of a request that was refused here. A note that cannot be made is logged: the refusal stands.
pub(crate) async fn note_refused(app: &App, caller: &Caller, action: &str, subject: &str, reason: &str) {
    let entry = AuditEntry {
        actor: caller.actor.clone(),
        action: action.to_owned(),
        subject: subject.chars().take(200).collect(),
        outcome: AuditOutcome::Refused,
        reason: reason.to_owned(),
        before: Value::Null,
        after: Value::Null,
        request_id: caller.request_id.map(|id| id.to_string()),
    };
    if let Err(problem) = note(app, caller, &entry).await {
        tracing::warn!(%problem, action, subject, reason, actor = caller.actor, "a refusal is not in the audit");
    }
}

/// Tells `identity` of what the edge itself did, or refused.
///
/// # Errors
/// It is not in the audit, or nobody knows whether it is.
pub(crate) async fn note(app: &App, caller: &Caller, entry: &AuditEntry) -> Result<(), Problem> {
    let caller = Caller {
        role: None, // the gateway notes it, not the person
        ..caller.clone()
    };
    let noted = app.bus.call_within::<AuditNote>(&caller, entry, NOTE_DEADLINE).await;
    noted.map(drop)
}

/// Who asks.
pub(crate) struct Who(pub(crate) Caller);

impl FromRequestParts<App> for Who {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        caller(parts, app).await.map(Self)
    }
}

async fn caller(parts: &Parts, app: &App) -> Result<Caller, Failure> {
    let named: Option<Tenant> = header_text(&parts.headers, TENANT_HEADER)?
        .map(str::parse)
        .transpose()
        .map_err(|error| Problem::from(error).field("Mesh-Tenant"))?;
    let identity = parts.extensions.get::<RequestIdentity>();
    let Some(signed_in) = parts.extensions.get::<SignedIn>() else {
        if app.desk.required {
            return Err(unauthorized("the request carries no credential"));
        }
        return Ok(Caller {
            role: Some(Role::Owner),
            tenant: named.unwrap_or_default(),
            actor: DEVELOPER.into(),
            request_id: identity.map(|identity| identity.id),
        });
    };
    Who(caller_of(&signed_in.principal, identity))
        .of_tenant(app, named)
        .await
}

impl Who {
    /// The same person, asking for a tenant that a header or a body names. Who is signed in is of one tenant.
    pub(crate) async fn of_tenant(self, app: &App, tenant: Option<Tenant>) -> Result<Caller, Failure> {
        let Self(mut caller) = self;
        let Some(tenant) = tenant.filter(|tenant| *tenant != caller.tenant) else {
            return Ok(caller);
        };
        if caller.actor == DEVELOPER {
            caller.tenant = tenant;
            return Ok(caller);
        }
        note_refused(app, &caller, "tenant.use", tenant.as_str(), "of another tenant").await;
        let detail = format!(
            "the credential is of tenant `{}`, the request of `{tenant}`",
            caller.tenant
        );
        Err(Failure::new(Code::Forbidden, detail)
            .next("leave the tenant out, or use a key of that tenant (`mesh keys create --tenant NAME`)"))
    }
}

/// Who asks on a route that nodes use, too. As every route of the API that takes no [`Who`] it is closed to nobody.
pub(crate) struct WhoNode {
    pub(crate) caller: Caller,
    /// `None` in development mode.
    pub(crate) principal: Option<Principal>,
    /// As it came, to be passed on to `identity` (Enroll).
    pub(crate) credential: Option<String>,
}

impl FromRequestParts<App> for WhoNode {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let caller = caller(parts, app).await?;
        let signed_in = parts.extensions.get::<SignedIn>();
        let given = match signed_in {
            Some(signed_in) => Some(signed_in.credential.clone()),
            // A node may come with a token although none is demanded.
            None => credential_of(&parts.headers)?,
        };
        Ok(Self {
            caller,
            principal: signed_in.map(|signed_in| signed_in.principal.clone()),
            credential: given,
        })
    }
}

impl WhoNode {
    /// Whose eyes it sees nodes with: a node has its owner's.
    pub(crate) fn viewer(&self) -> Viewer {
        Viewer {
            owner: self.principal.as_ref().map(|principal| principal.owner.clone()),
        }
    }

    /// A node speaks of itself only. Whether the node belongs to a person who asks is the registry's to say.
    pub(crate) async fn check_node(&self, app: &App, node: &NodeId) -> Result<(), Failure> {
        let is_foreign = self
            .principal
            .as_ref()
            .is_some_and(|principal| principal.kind == PrincipalKind::Node && principal.id != node.as_str());
        if !is_foreign {
            return Ok(());
        }
        let reason = "a node may speak of itself only";
        note_refused(app, &self.caller, "node.speak", node.as_str(), reason).await;
        Err(Failure::new(Code::Forbidden, reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(kind: PrincipalKind, id: &str) -> Principal {
        Principal {
            role: None,
            scopes: Vec::new(),
            id: id.to_owned(),
            kind,
            owner: "ann".to_owned(),
            tenant: Tenant::default(),
        }
    }

    #[test]
    fn a_credential_stands_in_either_header() {
        let of = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            credential_of(&headers).map_err(|failure| failure.0.status)
        };
        assert_eq!(of(KEY_HEADER, "mak_1"), Ok(Some("mak_1".into())));
        assert_eq!(of("authorization", "bearer mak_1"), Ok(Some("mak_1".into())));
        assert_eq!(of("authorization", "Basic YQ=="), Err(401));
        assert_eq!(of("accept", "x"), Ok(None));
    }

    #[test]
    fn what_is_known_of_credentials_ends_and_is_bounded() {
        let desk = Desk::new(true);
        let ann = principal(PrincipalKind::Key, "key_1");
        desk.remember([7; 32], ann.clone(), Duration::ZERO);
        assert_eq!(desk.recall(&[7; 32], BELIEVED / 2), Some(ann.clone()));
        assert_eq!(desk.recall(&[7; 32], BELIEVED), None);
        for number in 0..=REMEMBERED_MAX {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&number.to_be_bytes());
            desk.remember(hash, ann.clone(), Duration::from_secs(1));
        }
        assert_eq!(desk.known().len(), REMEMBERED_MAX);
    }
}
