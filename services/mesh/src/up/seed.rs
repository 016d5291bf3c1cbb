//! The demo: the agent `sofia` in two tenants. What is there already stays as its owner made it.

use std::collections::BTreeMap;

use mesh_api::registry::{
    AgentCreate, AgentGet, AgentGuarded, AgentPublish, AgentRequest, TenantEnsure, TenantRequest,
};
use mesh_runtime::Context;
use mesh_types::agent::{Agent, AgentSpec, Metadata, Model};
use mesh_types::{AgentName, Code, Problem, Tenant};

const TENANTS: [&str; 2] = ["default", "daarion"];
const AGENT: &str = "sofia";

const INSTRUCTIONS: &str = "You are Sofia, the demo agent of this mesh. Answer in the language you are written to, \
                            briefly and kindly. Say so when you do not know something; what you remember of earlier \
                            talks is given to you as memories.";

/// A demo that fails is no reason not to serve: the log says why, `mesh apply` can do the same.
pub(crate) async fn demo(context: &Context) {
    for name in TENANTS {
        let tenant = name.parse().expect("names of the demo are tokens");
        if let Err(problem) = sofia(context, &tenant).await {
            tracing::warn!(%tenant, %problem, "the demo agent could not be seeded");
        }
    }
}

async fn sofia(context: &Context, tenant: &Tenant) -> Result<(), Problem> {
    let (bus, caller) = (&context.bus, context.caller(tenant.clone()));
    let name: AgentName = AGENT.parse().expect("names of the demo are tokens");
    bus.call::<TenantEnsure>(&caller, &TenantRequest { name: tenant.clone() })
        .await?;
    let found = match bus
        .call::<AgentGet>(&caller, &AgentRequest { agent: name.clone() })
        .await
    {
        Err(problem) if problem.is(Code::AgentNotFound) => {
            bus.call::<AgentCreate>(&caller, &declared(name.clone())).await?
        }
        found => found?,
    };
    if found.status.published.is_none() {
        let published = bus
            .call::<AgentPublish>(
                &caller,
                &AgentGuarded {
                    agent: name,
                    if_match: None,
                },
            )
            .await?;
        tracing::info!(%tenant, agent = AGENT, version = published.version, "the demo agent is published");
    }
    Ok(())
}

fn declared(name: AgentName) -> Agent {
    let labels = BTreeMap::from([("demo".to_owned(), "true".to_owned())]);
    let model = Model {
        name: "gpt-4".into(),
        fallbacks: vec!["claude-sonnet".into(), "mock".into()],
        ..Model::default()
    };
    Agent {
        api_version: "mesh/v1".into(),
        kind: "Agent".into(),
        metadata: Metadata {
            name,
            tenant: None,
            labels,
        },
        spec: AgentSpec {
            model,
            instructions: INSTRUCTIONS.into(),
            ..AgentSpec::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_agent_is_valid_and_ends_in_the_mock() {
        let agent = declared(AGENT.parse().unwrap());
        agent.validate().unwrap();
        agent.publishable().unwrap();
        assert_eq!(agent.spec.model.fallbacks.last().unwrap(), "mock");
    }
}
