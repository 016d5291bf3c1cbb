//! The agents that are called, in a tenant of their own, so that nobody's lists fill up.

use std::time::Duration;

use anyhow::Context as _;
use mesh_api::Caller;
use mesh_api::registry::{
    AgentGuarded, AgentPublish, AgentUpdate, AgentUpdateRequest, Missing, TenantEnsure, TenantRequest,
};
use mesh_bus::Bus;
use mesh_types::agent::{Agent, AgentSpec, Limits, Metadata, Noop, Runtime, Span};
use mesh_types::{AgentName, Tenant};

use super::CONCURRENCY_MAX;

const TENANT: &str = "bench";
/// An invocation that is not done by then is no measurement.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Who is called.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) tenant: Tenant,
    pub(super) agent: AgentName,
    /// Of a `noop` agent; else 0.
    pub(super) steps: u32,
    pub(super) caller: Caller,
}

/// Declares and publishes the agent of that many steps; the same one again is no change.
pub(super) async fn publish(bus: &Bus, steps: u32) -> anyhow::Result<Target> {
    let spec = noop(steps);
    Ok(Target {
        steps,
        ..declare(bus, &format!("bench-noop-{steps}"), spec).await?
    })
}

/// Declares and publishes an agent of that name; the same one again is no change.
pub(super) async fn declare(bus: &Bus, name: &str, spec: AgentSpec) -> anyhow::Result<Target> {
    let tenant: Tenant = TENANT.parse().context("the tenant's name")?;
    let agent: AgentName = name.parse().context("the agent's name")?;
    let caller = Caller {
        role: None,
        tenant: tenant.clone(),
        actor: "bench".to_owned(),
        request_id: None,
    };
    let ensure = TenantRequest { name: tenant.clone() };
    bus.call::<TenantEnsure>(&caller, &ensure)
        .await
        .with_context(|| format!("the tenant `{TENANT}` is needed for the measurement and was refused"))?;
    let update = AgentUpdateRequest {
        agent: declared(&agent, &tenant, spec),
        if_match: None,
        missing: Missing::Create,
    };
    bus.call::<AgentUpdate>(&caller, &update)
        .await
        .context("the agent of the measurement was refused")?;
    let publish = AgentGuarded {
        agent: agent.clone(),
        if_match: None,
    };
    bus.call::<AgentPublish>(&caller, &publish)
        .await
        .context("the agent of the measurement was not published")?;
    Ok(Target {
        tenant,
        agent,
        steps: 0,
        caller,
    })
}

fn noop(steps: u32) -> AgentSpec {
    AgentSpec {
        runtime: Runtime::Noop,
        noop: Some(Noop { steps }),
        limits: Limits {
            concurrency: u32::try_from(CONCURRENCY_MAX).unwrap_or(u32::MAX),
            timeout: Span(TIMEOUT),
            ..Limits::default()
        },
        ..AgentSpec::default()
    }
}

fn declared(agent: &AgentName, tenant: &Tenant, spec: AgentSpec) -> Agent {
    Agent {
        api_version: "mesh/v1".to_owned(),
        kind: "Agent".to_owned(),
        metadata: Metadata {
            name: agent.clone(),
            tenant: Some(tenant.clone()),
            labels: Default::default(),
        },
        spec,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_declared_can_be_published() {
        for steps in [1, 100, 1_000] {
            let agent = declared(&"bench-noop-3".parse().unwrap(), &TENANT.parse().unwrap(), noop(steps));
            agent.validate().unwrap();
            agent.publishable().unwrap();
        }
    }
}
