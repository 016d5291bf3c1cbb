//! What the mesh is told of a node when it joins or comes back, and what the node keeps of the answer.

use std::sync::Arc;

use mesh_api::fleet::NodeEntry;
use mesh_api::identity::{EnrollRequest, Enrolled};
use mesh_types::NodeId;

use super::Door;
use crate::Config;
use crate::identity::{State, StateError, Stored};
use crate::machine;

/// An answer to a node that joins, whichever way it came.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) node: NodeId,
    /// Absent where the gateway said less.
    pub(super) entry: Option<NodeEntry>,
    pub(super) secret: Option<String>,
    pub(super) nats_url: Option<String>,
}

impl From<Enrolled> for Membership {
    fn from(enrolled: Enrolled) -> Self {
        Self {
            node: enrolled.node.node_id.clone(),
            entry: Some(enrolled.node),
            secret: enrolled.secret,
            nats_url: enrolled.nats_url,
        }
    }
}

/// Who the node is and what it can do. Its mode only where the mesh does not know it yet.
pub(crate) fn enroll_request(
    config: &Config,
    door: &Door,
    stored: &Stored,
    credential: Option<String>,
) -> EnrollRequest {
    let mode = match &stored.configuration {
        None => config.mode,
        Some(known) => (!stored.is_reported).then_some(known.mode),
    };
    EnrollRequest {
        credential,
        tenant: stored.tenant.clone().or_else(|| door.tenant.clone()),
        node_id: stored.node_uid.clone().or_else(|| config.id.clone()),
        name: Some(machine::name(config)),
        mode,
        labels: Some(config.labels.clone()),
        capabilities: Some(machine::capabilities()),
        slots: Some(config.slots),
    }
}

/// Keeps what a first answer says.
///
/// # Errors
/// It cannot be kept.
pub(super) async fn keep(state: &Arc<State>, config: &Config, membership: Membership) -> Result<NodeId, StateError> {
    let mode = config.mode.unwrap_or_default();
    let changed = state.change(move |stored| {
        stored.node_uid = Some(membership.node);
        if membership.secret.is_some() {
            stored.secret = membership.secret;
        }
        match membership.entry {
            Some(entry) => take_on(stored, entry),
            // It is told to the mesh as soon as it answers.
            None => {
                let configuration = stored.configuration.get_or_insert_default();
                configuration.mode = mode;
                configuration.node_uid = stored.node_uid.clone();
            }
        }
    });
    let stored = changed.await?;
    Ok(stored.node_uid.expect("it was set just now, and nothing takes it away"))
}

/// What the mesh knows counts, but for what was configured here and has not reached it.
pub(crate) fn take_on(stored: &mut Stored, entry: NodeEntry) {
    stored.owner = Some(entry.owner);
    stored.tenant = Some(entry.tenant);
    if stored.configuration.is_none() || stored.is_reported {
        let mut configuration = entry.configuration;
        configuration.node_uid = stored.node_uid.clone();
        stored.configuration = Some(configuration);
        stored.is_reported = true;
    }
}
