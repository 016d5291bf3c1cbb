//! Joining over HTTP: the gateway registers the node; NATS is reached where it says, or else through the gateway.

use std::time::Duration;

use mesh_api::fleet::NodeEntry;
use mesh_bus::{Bus, BusError};
use mesh_types::{Code, NodeId, Problem};
use reqwest::header::LOCATION;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::membership::{self, Membership};
use super::{Attempt, JoinError, Joined, Joiner, enroll_request, shown};

const REGISTER_PATH: &str = "/api/runtimes/v1/agent-nodes/register";
const PROXY_PATH: &str = "/api/runtimes/v1/nats";
const CREDENTIAL_HEADER: &str = "X-Service-API-Key";
const TENANT_HEADER: &str = "Mesh-Tenant";
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const ANSWER_DEADLINE: Duration = Duration::from_secs(15);
/// How long NATS is tried at one address before the next one.
const NATS_DEADLINE: Duration = Duration::from_secs(3);

/// Fields that a later gateway adds are ignored.
#[derive(Deserialize)]
struct Registered {
    agent_node: AgentNode,
    #[serde(default)]
    secret: Option<String>,
    #[serde(default)]
    nats_url: Option<String>,
}

#[derive(Deserialize)]
struct AgentNode {
    node_id: NodeId,
    #[serde(flatten)]
    rest: Value,
}

impl Joiner<'_> {
    pub(super) async fn by_http(&self) -> Result<Joined, Attempt> {
        let stored = self.state.get();
        if let Some(node) = stored.node_uid {
            match self.reach(&node, stored.nats_url.as_deref()).await {
                Ok(bus) => return Ok(self.back(node, bus)),
                Err(Attempt::Refused(_)) if self.door.token.is_some() => {
                    tracing::warn!(%node, "the mesh refuses the node's own secret; joining with the token");
                }
                Err(failed) => return Err(failed),
            }
        }
        let membership = self.register().await.map_err(|failed| self.not_for_good(failed))?;
        let (nats_url, is_answered) = (membership.nats_url.clone(), membership.entry.is_some());
        let node = membership::keep(&self.state, self.config, membership).await?;
        let bus = self.reach(&node, nats_url.as_deref()).await?;
        Ok(self.joined(node, bus, is_answered))
    }

    async fn register(&self) -> Result<Membership, Attempt> {
        let body = enroll_request(self.config, self.door, &self.state.get(), None);
        let mut body = serde_json::to_value(body).unwrap_or_default();
        if let Value::Object(fields) = &mut body {
            fields.retain(|name, value| !value.is_null() && name != "tenant");
        }
        let url = format!("{}{REGISTER_PATH}", self.door.url.trim_end_matches('/'));
        let mut request = client(&self.door.url).map_err(Attempt::Never)?.post(url).json(&body);
        if let Some(token) = &self.door.token {
            request = request.header(CREDENTIAL_HEADER, token.expose().trim());
        }
        if let Some(tenant) = &self.door.tenant {
            request = request.header(TENANT_HEADER, tenant.as_str());
        }
        let not_now = |error: reqwest::Error| Attempt::NotNow(causes(&error));
        let answer = request.send().await.map_err(not_now)?;
        if answer.status().is_redirection() {
            return Err(self.rejected(redirected(&answer)));
        }
        let (status, body) = (answer.status(), answer.bytes().await.map_err(not_now)?);
        if !status.is_success() {
            return Err(self.problem(status, &body));
        }
        let registered: Registered = serde_json::from_slice(&body).map_err(|error| {
            let detail = format!("the answer of {REGISTER_PATH} is not what was agreed: {error}");
            self.rejected(Problem::new(Code::Internal, detail))
        })?;
        let mut whole = registered.agent_node.rest;
        whole["node_id"] = registered.agent_node.node_id.as_str().into();
        Ok(Membership {
            entry: serde_json::from_value::<NodeEntry>(whole).ok(),
            node: registered.agent_node.node_id,
            secret: registered.secret,
            nats_url: registered.nats_url,
        })
    }

    fn problem(&self, status: StatusCode, body: &[u8]) -> Attempt {
        let problem = serde_json::from_slice::<Problem>(body).unwrap_or_else(|_| {
            let code = if status == StatusCode::UNAUTHORIZED {
                Code::Unauthorized
            } else {
                Code::InvalidRequest
            };
            let mut problem = Problem::new(code, format!("HTTP {status} from {REGISTER_PATH}"));
            problem.status = status.as_u16();
            problem
        });
        if problem.is_transient() || status.is_server_error() {
            return Attempt::NotNow(problem.to_string());
        }
        if status == StatusCode::UNAUTHORIZED && self.door.token.is_none() {
            let url = shown(&self.door.url);
            return Attempt::Never(JoinError::NoCredential { url });
        }
        self.rejected(problem)
    }

    /// NATS where it was named, else through the gateway.
    async fn reach(&self, node: &NodeId, named: Option<&str>) -> Result<Bus, Attempt> {
        let proxy = websocket_url(&self.door.url);
        let mut failed = None;
        for url in named.into_iter().chain([proxy.as_str()]) {
            let connected = tokio::time::timeout(NATS_DEADLINE, self.connect_as_node(url, node)).await;
            match connected {
                Ok(Ok(bus)) => {
                    let url = url.to_owned();
                    self.state.change(|stored| stored.nats_url = Some(url)).await?;
                    return Ok(bus);
                }
                // Whichever way it comes, it is the same server.
                Ok(Err(error @ BusError::CredentialRefused { .. })) => return Err(self.failed(url, error)),
                Ok(Err(error)) => failed = Some(self.failed(url, error)),
                Err(_) => {
                    failed = Some(Attempt::NotNow(format!(
                        "no answer from {url} within {NATS_DEADLINE:?}"
                    )))
                }
            }
        }
        Err(failed.unwrap_or_else(|| Attempt::NotNow("no address of NATS".into())))
    }
}

/// Where the gateway passes NATS on.
pub(super) fn websocket_url(url: &str) -> String {
    let url = url.trim_end_matches('/');
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let scheme = if scheme == "https" { "wss" } else { "ws" };
    format!("{scheme}://{rest}{PROXY_PATH}")
}

fn client(url: &str) -> Result<Client, JoinError> {
    let mut builder = Client::builder()
        .connect_timeout(CONNECT_DEADLINE)
        .timeout(ANSWER_DEADLINE)
        // The token is for this address only, and is no header that would be left away elsewhere.
        .redirect(Policy::none())
        .user_agent(concat!("mesh-node/", env!("CARGO_PKG_VERSION")));
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    if ["127.", "localhost", "[::1]"].iter().any(|own| host.starts_with(own)) {
        // A proxy of this machine's environment is another machine.
        builder = builder.no_proxy();
    }
    builder.build().map_err(JoinError::Http)
}

fn redirected(answer: &Response) -> Problem {
    let to = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok());
    let to = shown(to.unwrap_or("somewhere else"));
    let detail = format!(
        "HTTP {} from {REGISTER_PATH} leads to {to}, where the token is not sent",
        answer.status()
    );
    Problem::new(Code::InvalidRequest, detail)
        .next("start the node with the address that the mesh really has, as --url")
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_is_where_the_gateway_is() {
        assert_eq!(websocket_url("http://a:8000/"), "ws://a:8000/api/runtimes/v1/nats");
        assert_eq!(websocket_url("https://a"), "wss://a/api/runtimes/v1/nats");
    }
}
