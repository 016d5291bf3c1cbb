//! Joining over NATS: first in the name of the token, then in the node's own.

use mesh_api::Caller;
use mesh_api::Endpoint;
use mesh_api::identity::Enroll;
use mesh_bus::{Bus, BusError, BusOptions};
use mesh_types::{NodeId, Problem, Subject};

use super::credential::Credential;
use super::membership::{self, Membership};
use super::{Attempt, Door, Joined, Joiner, enroll_request};

impl Joiner<'_> {
    pub(super) async fn by_nats(&self) -> Result<Joined, Attempt> {
        let url = &self.door.url;
        let stored = self.state.get();
        if let Some(node) = &stored.node_uid {
            match self.connect_as_node(url, node).await {
                Ok(bus) => return Ok(self.back(node.clone(), bus)),
                Err(BusError::CredentialRefused { .. }) if self.door.token.is_some() => {
                    tracing::warn!(%node, "the mesh refuses the node's own secret; joining with the token");
                }
                Err(error) => return Err(self.failed(url, error)),
            }
        }
        let membership = self.enroll(url).await.map_err(|failed| self.not_for_good(failed))?;
        let is_answered = membership.entry.is_some();
        let node = membership::keep(&self.state, self.config, membership).await?;
        match self.connect_as_node(url, &node).await {
            Ok(bus) => Ok(self.joined(node, bus, is_answered)),
            Err(error) => Err(self.failed(url, error)),
        }
    }

    async fn enroll(&self, url: &str) -> Result<Membership, Attempt> {
        let credential = self.credential();
        let is_unknown = credential.is_none() && self.door.token.is_some();
        let bus = match stranger(url, credential.as_ref()).await {
            Ok(bus) => bus,
            Err(BusError::CredentialRefused { .. }) if is_unknown => {
                return Err(Attempt::Never(super::JoinError::Token));
            }
            Err(error) => return Err(self.failed(url, error)),
        };
        let text = credential.as_ref().map(|credential| credential.text.clone());
        let request = enroll_request(self.config, self.door, &self.state.get(), text);
        let pinned = request.node_id.clone().filter(|_| credential.is_none());
        match ask(&bus, self.door, credential.as_ref().map(|known| &known.id), &request).await {
            Ok(enrolled) => Ok(enrolled),
            Err(problem) if !problem.is_transient() => Err(self.rejected(problem)),
            // Nobody demands a credential here, and nobody has to name it.
            Err(problem) => match pinned {
                Some(node) => Ok(Membership {
                    node,
                    entry: None,
                    secret: None,
                    nats_url: None,
                }),
                None => Err(Attempt::NotNow(problem.to_string())),
            },
        }
    }

    /// `None` without a token, and for one of an unknown form: a mesh that demands none does not mind.
    fn credential(&self) -> Option<Credential> {
        let token = self.door.token.as_ref()?;
        Credential::parse(token.expose()).ok()
    }

    pub(super) fn failed(&self, url: &str, error: BusError) -> Attempt {
        match error {
            BusError::CredentialRefused { .. } => self.refused(url),
            BusError::Address { url, .. } => Attempt::Never(super::JoinError::Address { url }),
            error => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                Attempt::NotNow(match cause {
                    Some(cause) => format!("{error}: {cause}"),
                    None => error.to_string(),
                })
            }
        }
    }
}

async fn stranger(url: &str, credential: Option<&Credential>) -> Result<Bus, BusError> {
    let options = BusOptions {
        url: url.to_owned(),
        name: "mesh-node-joining".into(),
        monitor_url: None,
        user: credential.map(|known| (known.id.to_string(), known.text.clone())),
    };
    Bus::connect_now(options, credential.map(|known| known.id.clone())).await
}

/// At the credential's own subject, or, where none is demanded, as anybody.
async fn ask(
    bus: &Bus,
    door: &Door,
    credential: Option<&NodeId>,
    request: &<Enroll as Endpoint>::Request,
) -> Result<Membership, Problem> {
    let caller = Caller::service("node", door.tenant.clone().unwrap_or_default());
    let enrolled = match credential {
        Some(id) => {
            let subject = Subject::NodeService {
                node: id.clone(),
                service: Enroll::SERVICE.parse()?,
                endpoint: Enroll::NAME.parse()?,
            };
            bus.call_at::<Enroll>(&subject, &caller, request, Enroll::DEADLINE)
                .await?
        }
        None => bus.call::<Enroll>(&caller, request).await?,
    };
    Ok(enrolled.into())
}
