//! Agent cards: what a client of A2A learns of an agent before it speaks to it.

use std::collections::HashMap;

use a2a::agent_card::{
    AgentCapabilities, AgentCard, AgentInterface, AgentSkill, ApiKeySecurityScheme, HttpAuthSecurityScheme,
    SecurityScheme,
};
use a2a::types::TRANSPORT_PROTOCOL_JSONRPC;
use axum::http::{HeaderMap, header};
use mesh_api::registry::AgentView;

use crate::http::credentials::KEY_HEADER;
use crate::http::extract::header_text;
use crate::http::followed::description;
use crate::http::problem::Failure;
use crate::state::App;

/// Said by the proxy in front, where there is one.
const FORWARDED_PROTO: &str = "x-forwarded-proto";
const TEXT: &str = "text/plain";
const JSON: &str = "application/json";

/// Where this mesh is reached, as the client reached it; the edge has checked the host.
pub(super) struct Place {
    base: String,
    asks_for_credentials: bool,
}

impl Place {
    pub(super) fn of(app: &App, headers: &HeaderMap) -> Result<Self, Failure> {
        let host = header_text(headers, header::HOST.as_str())?.unwrap_or("localhost");
        let scheme = match header_text(headers, FORWARDED_PROTO)? {
            Some("https") => "https",
            _ => "http",
        };
        Ok(Self {
            base: format!("{scheme}://{host}"),
            asks_for_credentials: app.desk.requires_credentials(),
        })
    }

    fn interface(&self, agent: &AgentView) -> AgentInterface {
        let url = format!("{}/a2a/{}", self.base, agent.metadata.name);
        AgentInterface::new(url, TRANSPORT_PROTOCOL_JSONRPC)
    }
}

/// `None`: it is not published.
pub(super) fn of_agent(agent: &AgentView, place: &Place) -> Option<AgentCard> {
    let version = agent.status.published.as_ref()?.version;
    Some(AgentCard {
        name: agent.metadata.name.to_string(),
        description: description(agent),
        version: version.to_string(),
        supported_interfaces: vec![place.interface(agent)],
        skills: vec![skill(agent)],
        ..blank(place)
    })
}

pub(super) fn of_mesh(agents: &[AgentView], place: &Place) -> AgentCard {
    AgentCard {
        name: "Agent Mesh".to_owned(),
        description: "Every skill is an agent with an interface and a card of its own, below /a2a/.".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        supported_interfaces: agents.iter().map(|agent| place.interface(agent)).collect(),
        skills: agents.iter().map(skill).collect(),
        ..blank(place)
    }
}

fn blank(place: &Place) -> AgentCard {
    let schemes = [
        (
            "bearer",
            SecurityScheme::HttpAuth(HttpAuthSecurityScheme {
                scheme: "Bearer".to_owned(),
                description: Some("an API key of the mesh, or an access token".to_owned()),
                bearer_format: None,
            }),
        ),
        (
            "key",
            SecurityScheme::ApiKey(ApiKeySecurityScheme {
                location: "header".to_owned(),
                name: KEY_HEADER.to_owned(),
                description: Some("an API key of the mesh".to_owned()),
            }),
        ),
    ];
    let requirements = schemes
        .iter()
        .map(|(name, _)| HashMap::from([((*name).to_owned(), Vec::new())]));
    let requirements = requirements.collect();
    let schemes = schemes
        .into_iter()
        .map(|(name, scheme)| (name.to_owned(), scheme))
        .collect();
    AgentCard {
        name: String::new(),
        description: String::new(),
        version: String::new(),
        supported_interfaces: Vec::new(),
        capabilities: AgentCapabilities {
            streaming: Some(true),
            push_notifications: Some(true),
            extensions: None,
            extended_agent_card: Some(false),
        },
        default_input_modes: vec![TEXT.to_owned(), JSON.to_owned()],
        default_output_modes: vec![TEXT.to_owned(), JSON.to_owned()],
        skills: Vec::new(),
        provider: None,
        documentation_url: Some(format!("{}/docs", place.base)),
        icon_url: None,
        security_schemes: place.asks_for_credentials.then_some(schemes),
        security_requirements: place.asks_for_credentials.then_some(requirements),
        signatures: None,
    }
}

fn skill(agent: &AgentView) -> AgentSkill {
    let name = agent.metadata.name.to_string();
    AgentSkill {
        id: name.clone(),
        name,
        description: description(agent),
        tags: agent.metadata.labels.values().cloned().collect(),
        examples: None,
        input_modes: None,
        output_modes: None,
        security_requirements: None,
    }
}
