//! Who may speak to a node. Decided by `mesh_types::fleet_policy` over what the registry lets the person see; asked when
//! a tunnel is opened and again while it is open.

use mesh_api::Caller;
use mesh_api::fleet::{NodeGet, NodeGetRequest, Viewer};
use mesh_api::identity::PrincipalKind;
use mesh_types::fleet_policy;
use mesh_types::{Code, NodeId, Tenant};

use crate::http::credentials::{note_refused, verify};
use crate::http::problem::Failure;
use crate::state::App;

const ACTION: &str = "tunnel.open";

/// Who opened a tunnel, or would.
#[derive(Clone)]
pub(crate) struct Opener {
    pub(crate) caller: Caller,
    /// As it came; where credentials are demanded, it must go on to be valid.
    pub(crate) credential: Option<String>,
}

impl Opener {
    /// Whether a tunnel of the other's is this one's, too.
    pub(crate) fn is(&self, other: &Self) -> bool {
        (&self.caller.tenant, &self.caller.actor) == (&other.caller.tenant, &other.caller.actor)
    }
}

/// What the check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Right {
    pub(crate) is_owner: bool,
    /// The node's tenant, which need not be the person's.
    pub(crate) tenant: Tenant,
}

/// # Errors
/// `NodeNotFound` for a node that the person does not see, `Forbidden` for one that is seen and not to be spoken to,
/// both with a fact in the audit; `Unauthorized` for a credential that is not valid any more.
pub(crate) async fn check(app: &App, opener: &Opener, node: &NodeId) -> Result<Right, Failure> {
    let found = look(app, opener, node).await;
    if let Err(Failure(problem)) = &found
        && is_final(problem.status)
    {
        note_refused(app, &opener.caller, ACTION, node.as_str(), &problem.detail).await;
    }
    found
}

/// Whether a refusal stands; anything else may pass.
pub(crate) fn is_final(status: u16) -> bool {
    matches!(status, 401 | 403 | 404)
}

async fn look(app: &App, opener: &Opener, node: &NodeId) -> Result<Right, Failure> {
    let caller = &opener.caller;
    if app.desk.requires_credentials() {
        still_valid(app, opener).await?;
    }
    let viewer = Viewer::of(caller);
    let request = NodeGetRequest {
        viewer: viewer.clone(),
        node_id: node.clone(),
    };
    let entry = app.call::<NodeGet>(caller, &request).await?;
    let asks = viewer.in_tenant(&caller.tenant);
    if !fleet_policy::may_tunnel(asks, entry.facts()) {
        return Err(Failure::new(
            Code::Forbidden,
            format!("node `{node}` is not open to you"),
        ));
    }
    Ok(Right {
        is_owner: fleet_policy::may_configure(asks, entry.facts()),
        tenant: entry.tenant,
    })
}

/// A person's key or access token, and still this person's.
async fn still_valid(app: &App, opener: &Opener) -> Result<(), Failure> {
    let refused = || Failure::new(Code::Unauthorized, "tunnels are for people: an API key is needed");
    let credential = opener.credential.as_deref().ok_or_else(refused)?;
    let principal = verify(app, credential).await?;
    let is_person = matches!(principal.kind, PrincipalKind::Key | PrincipalKind::User);
    let is_same = is_person
        && principal.tenant == opener.caller.tenant
        && principal.role == opener.caller.role
        && opener.caller.actor.strip_prefix("user:") == Some(&principal.owner);
    if is_same { Ok(()) } else { Err(refused()) }
}
