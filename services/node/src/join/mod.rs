//! How a node gets into its mesh: with an address and one token, or with the secret that it keeps since then. `nats`
//! and `http` are the two roads; both end with a connection to NATS in the node's own name.

mod credential;
mod http;
mod membership;
mod nats;

use std::sync::Arc;
use std::time::Duration;

use mesh_bus::{Bus, BusError, BusOptions};
use mesh_runtime::Secret;
use mesh_types::{Clock, NodeId, Problem, Tenant};

use crate::Config;
use crate::identity::{State, StateError, Stored};

pub(crate) use membership::{enroll_request, take_on};

/// Where the mesh is, and what opens it.
#[derive(Debug, Clone)]
pub struct Door {
    /// `nats://…` (also `tls`, `ws`, `wss`), or `http(s)://…` of a gateway.
    pub url: String,
    /// A join token or an API key; needed for the first join where credentials are demanded.
    pub token: Option<Secret<String>>,
    /// For a mesh that demands no credentials; elsewhere the token's counts.
    pub tenant: Option<Tenant>,
}

/// A node that is in its mesh, or that was and will be again.
#[derive(Debug)]
pub struct Joined {
    /// In the node's own name. It reconnects for ever.
    pub bus: Bus,
    pub(crate) node: NodeId,
    pub(crate) state: Arc<State>,
    pub(crate) door: Door,
    /// The mesh has answered with what it knows of the node.
    pub(crate) is_introduced: bool,
    /// The token, where it was what let the node in.
    pub(crate) joined_with: Option<Secret<String>>,
}

impl Joined {
    /// Who it is.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.node
    }
}

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("`{url}` is no address of a mesh")]
    Address { url: String },
    #[error("the token is neither a join token (mjt_…) nor an API key (mak_…)")]
    Token,
    #[error("the mesh at {url} demands a credential, and this node has none")]
    NoCredential { url: String },
    #[error("the mesh at {url} refuses this node's credential")]
    Refused { url: String },
    #[error("the mesh at {url} does not take this node: {problem}")]
    Rejected { url: String, problem: Box<Problem> },
    #[error("HTTP cannot be set up")]
    Http(#[source] reqwest::Error),
}

impl JoinError {
    /// What a person can do about it.
    #[must_use]
    pub fn next(&self) -> String {
        let token = "make a token with `mesh tokens create` at the mesh and start the node with --token TOKEN";
        match self {
            Self::State(StateError::InUse { .. }) => {
                "give the second node of this machine another --name, or stop the first one".into()
            }
            Self::State(StateError::OtherId { .. }) => {
                "leave the id away, or give the new node another --name or AGENT_NODE_STATE_PATH".into()
            }
            Self::State(StateError::Unreadable { file, .. }) => {
                format!("move {} away; the node then joins anew, with a token", file.display())
            }
            Self::State(StateError::Folder { .. }) => {
                "make the folder writable, or name another one by AGENT_NODE_STATE_PATH".into()
            }
            Self::Address { .. } => "write it like https://mesh.example.org or nats://mesh.example.org:4222".into(),
            Self::Token => "copy the whole token, as `mesh tokens create` printed it".into(),
            Self::NoCredential { .. } => token.into(),
            Self::Refused { .. } => format!("it may have expired or been revoked: {token}"),
            Self::Rejected { problem, .. } => problem.next.clone().unwrap_or_else(|| token.into()),
            Self::Http(_) => "see the causes above; the system's certificates may be missing".into(),
        }
    }
}

/// Why one attempt came to nothing.
#[derive(Debug)]
enum Attempt {
    /// The same again may work.
    NotNow(String),
    /// The credential was refused by NATS. While the mesh starts, it refuses everybody.
    Refused(JoinError),
    /// Asking again changes nothing.
    Never(JoinError),
}

impl From<StateError> for Attempt {
    fn from(error: StateError) -> Self {
        Self::Never(error.into())
    }
}

const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Attempts in vain are told again after so many.
const TELL_EVERY: u32 = 6;

/// Joins, as long as it takes. A node that is known already comes back without a mesh that answers: it connects as soon
/// as there is one.
///
/// # Errors
/// What trying again would not change; a refused credential is tried for `join_patience_seconds`.
pub async fn join(config: &Config, door: &Door, clock: &dyn Clock) -> Result<Joined, JoinError> {
    let road = Road::parse(&door.url)?;
    let state = Arc::new(State::claim(&config.state_path, config.id.as_ref(), clock)?);
    let joiner = Joiner { config, door, state };
    let mut refused_at = None;
    let mut attempts = 0;
    loop {
        let attempt = match road {
            Road::Nats => joiner.by_nats().await,
            Road::Http => joiner.by_http().await,
        };
        match attempt {
            Ok(joined) => return Ok(joined),
            Err(Attempt::Never(error)) => return Err(error),
            Err(Attempt::Refused(error)) => {
                let now = clock.monotonic();
                if now - *refused_at.get_or_insert(now) >= config.join_patience() {
                    return Err(error);
                }
                tell(attempts, &error.to_string());
            }
            Err(Attempt::NotNow(why)) => {
                refused_at = None;
                if let Some(joined) = joiner.alone().await? {
                    tracing::warn!(why, node = %joined.node, "the mesh cannot be reached; the node waits for it");
                    return Ok(joined);
                }
                tell(attempts, &why);
            }
        }
        tokio::time::sleep(pause_before(attempts)).await;
        attempts += 1;
    }
}

fn tell(attempts: u32, why: &str) {
    if attempts.is_multiple_of(TELL_EVERY) {
        tracing::warn!(why, attempts, "cannot join yet; trying again");
    }
}

/// Doubling pauses; randomness spreads nodes that lost their mesh together.
fn pause_before(attempts: u32) -> Duration {
    let pause = (PAUSE_MIN * 2_u32.pow(attempts.min(10))).min(PAUSE_MAX);
    let jitter = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), attempts) % 1_000;
    pause.mul_f64(0.5 + jitter as f64 / 2_000.0)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Road {
    Nats,
    Http,
}

impl Road {
    fn parse(url: &str) -> Result<Self, JoinError> {
        match url.split_once("://") {
            Some(("nats" | "tls" | "ws" | "wss", rest)) if !rest.is_empty() => Ok(Self::Nats),
            Some(("http" | "https", rest)) if !rest.is_empty() => Ok(Self::Http),
            _ => Err(JoinError::Address { url: shown(url) }),
        }
    }
}

/// For errors and logs: what stands before an `@` may be a password.
fn shown(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, host)| host)),
        None => url.to_owned(),
    }
}

struct Joiner<'a> {
    config: &'a Config,
    door: &'a Door,
    state: Arc<State>,
}

impl Joiner<'_> {
    fn refused(&self, url: &str) -> Attempt {
        let url = shown(url);
        let has_none = self.door.token.is_none() && self.state.get().secret.is_none();
        Attempt::Refused(if has_none {
            JoinError::NoCredential { url }
        } else {
            JoinError::Refused { url }
        })
    }

    fn rejected(&self, problem: Problem) -> Attempt {
        Attempt::Never(JoinError::Rejected {
            url: shown(&self.door.url),
            problem: problem.into(),
        })
    }

    /// A node that has a secret of its own, which a mesh that starts refuses for a moment, and the token is not for those
    /// that have joined: the secret is tried again.
    fn not_for_good(&self, failed: Attempt) -> Attempt {
        match failed {
            Attempt::Never(error @ JoinError::Rejected { .. }) if self.state.get().user().is_some() => {
                Attempt::Refused(error)
            }
            failed => failed,
        }
    }

    /// It came by what it keeps.
    fn back(&self, node: NodeId, bus: Bus) -> Joined {
        Joined {
            joined_with: None,
            ..self.joined(node, bus, false)
        }
    }

    fn joined(&self, node: NodeId, bus: Bus, is_introduced: bool) -> Joined {
        Joined {
            joined_with: self.door.token.clone(),
            bus,
            node,
            state: Arc::clone(&self.state),
            door: self.door.clone(),
            is_introduced,
        }
    }

    /// A node that is known, where the mesh was reached last; it connects in the background.
    async fn alone(&self) -> Result<Option<Joined>, JoinError> {
        let stored = self.state.get();
        let Some(node) = stored.node_uid.clone() else {
            return Ok(None);
        };
        let url = match (Road::parse(&self.door.url)?, &stored.nats_url) {
            (Road::Nats, _) => self.door.url.clone(),
            (Road::Http, Some(url)) => url.clone(),
            (Road::Http, None) => http::websocket_url(&self.door.url),
        };
        match Bus::connect_confined(own_options(&url, &node, &stored), node.clone()).await {
            Ok(bus) => Ok(Some(self.back(node, bus))),
            Err(_) => Err(JoinError::Address { url: shown(&url) }),
        }
    }

    /// In the node's own name.
    async fn connect_as_node(&self, url: &str, node: &NodeId) -> Result<Bus, BusError> {
        let options = own_options(url, node, &self.state.get());
        Bus::connect_now(options, Some(node.clone())).await
    }
}

fn own_options(url: &str, node: &NodeId, stored: &Stored) -> BusOptions {
    BusOptions {
        url: url.to_owned(),
        name: format!("mesh-node-{node}"),
        monitor_url: None,
        user: stored.user(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_which_road_it_is() {
        for url in ["nats://a:1", "tls://a", "ws://a/x", "wss://a/x"] {
            assert_eq!(Road::parse(url).unwrap(), Road::Nats);
        }
        assert_eq!(Road::parse("https://a").unwrap(), Road::Http);
        for url in ["", "a", "ftp://a", "http://"] {
            assert!(Road::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_not_told() {
        assert_eq!(shown("nats://mesh:pw@a:4222"), "nats://a:4222");
        assert_eq!(shown("https://a"), "https://a");
    }

    #[test]
    fn pauses_grow_to_their_bound() {
        for attempts in [0, 1, 5, 100] {
            let pause = pause_before(attempts);
            assert!(pause >= PAUSE_MIN / 2 && pause <= PAUSE_MAX, "{pause:?}");
        }
    }
}
