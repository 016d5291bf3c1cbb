//! `mesh pause`, `resume`, `signal`: hold what runs, let it go on, tell it what it waits for.

use clap::Args;
use mesh_api::Page;
use mesh_api::execution::Invocation;
use mesh_api::steering::{PauseTarget, PauseView};
use mesh_types::{AgentName, InvocationId, Tenant};
use serde_json::{Value, json};

use super::Session;
use super::get::nothing;
use crate::client::Client;
use crate::failure::Usage;
use crate::output::{Output, Table, age, now};

/// Hold an invocation, an agent, a tenant or everything
///
/// Nothing new of it is started, and what runs stops at its next step, without losing one. Accepting goes on.
#[derive(Debug, Args)]
#[command(after_help = PAUSE_EXAMPLES)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    target: Target,
    /// Why, for who looks
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Let go on what `mesh pause` holds
///
/// Work goes on from its last recorded step. Each pause is ended by itself: an agent's one stays when its tenant's ends.
#[derive(Debug, Args)]
#[command(after_help = RESUME_EXAMPLES)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    target: Target,
    /// Why, for who looks
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, Args)]
struct Target {
    /// An invocation's id, or `agent` or `tenant` before a name
    #[arg(value_name = "ID|agent|tenant", required_unless_present = "all")]
    what: Option<String>,
    /// Which agent or tenant
    name: Option<String>,
    /// Every tenant of the installation
    #[arg(long, conflicts_with_all = ["what", "name"])]
    all: bool,
}

const PAUSE_EXAMPLES: &str = "Examples:
  mesh pause inv_01ARZ3NDEKTSV4RRFFQ69G5FAV --reason \"looking into it\"
  mesh pause agent sofia
  mesh pause tenant daarion
  mesh pause --all

`mesh get pauses` lists what is held; `mesh resume` lets it go on.";

const RESUME_EXAMPLES: &str = "Examples:
  mesh resume inv_01ARZ3NDEKTSV4RRFFQ69G5FAV
  mesh resume agent sofia
  mesh resume tenant daarion
  mesh resume --all

`mesh get pauses` lists what is held.";

/// Tell an invocation what it waits for
///
/// A signal that comes before its wait is kept. VALUE is JSON; what is no JSON is sent as text.
#[derive(Debug, Args)]
#[command(after_help = SIGNAL_EXAMPLES)]
pub(crate) struct SignalArgs {
    /// The invocation
    id: InvocationId,
    /// Name of the signal
    name: String,
    /// What comes with it [default: null]
    value: Option<String>,
    /// The same key again is the same signal
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

const SIGNAL_EXAMPLES: &str = "Examples:
  mesh signal inv_01ARZ3NDEKTSV4RRFFQ69G5FAV paid
  mesh signal inv_01ARZ3NDEKTSV4RRFFQ69G5FAV paid '{\"amount\": 3}' --key order-7";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Pause,
    Resume,
}

pub(crate) async fn pause(args: PauseArgs, session: &Session) -> anyhow::Result<()> {
    steer(Verb::Pause, args.target, args.reason, session).await
}

pub(crate) async fn resume(args: ResumeArgs, session: &Session) -> anyhow::Result<()> {
    steer(Verb::Resume, args.target, args.reason, session).await
}

async fn steer(verb: Verb, target: Target, reason: Option<String>, session: &Session) -> anyhow::Result<()> {
    let (target, tenant) = meant(target)?;
    let mut client = session.client()?;
    if let Some(tenant) = tenant {
        if session.tenant().is_some_and(|named| *named != tenant) {
            let text = format!("--tenant or MESH_TENANT names another tenant than `{tenant}`: leave it out");
            return Err(Usage(text).into());
        }
        client = client.for_tenant(Some(tenant));
    }
    let path = match verb {
        Verb::Pause => "/api/v1/pause",
        Verb::Resume => "/api/v1/resume",
    };
    let body = json!({ "target": target, "reason": reason });
    let view: PauseView = client.post(path, &body).await?;
    let output = session.output;
    output.show(&view, || {
        let what = of(&view.target, client.tenant());
        if view.paused {
            output.line(&format!("{what} is paused"))?;
            output.note(&format!("next: mesh resume {}", words(&view.target, client.tenant())));
            Ok(())
        } else {
            output.line(&format!("{what} goes on"))
        }
    })
}

/// What is meant, and the tenant if one is named.
fn meant(target: Target) -> anyhow::Result<(PauseTarget, Option<Tenant>)> {
    let usage = |text: String| anyhow::Error::from(Usage(text));
    match (target.what.as_deref(), target.name) {
        (None, _) => Ok((PauseTarget::All, None)),
        (Some("agent"), Some(name)) => {
            let agent = name.parse::<AgentName>().map_err(|error| usage(error.to_string()))?;
            Ok((PauseTarget::Agent(agent), None))
        }
        (Some("tenant"), Some(name)) => {
            let tenant = name.parse::<Tenant>().map_err(|error| usage(error.to_string()))?;
            Ok((PauseTarget::Tenant, Some(tenant)))
        }
        (Some(what @ ("agent" | "tenant")), None) => Err(usage(format!("name the {what}: {what} NAME"))),
        (Some(id), None) => {
            let id = id.parse::<InvocationId>();
            let id = id.map_err(|error| usage(format!("{error}; or `agent NAME`, `tenant NAME`, --all")))?;
            Ok((PauseTarget::Invocation(id), None))
        }
        (Some(what), Some(_)) => Err(usage(format!(
            "`{what}` takes no name: an invocation's id, `agent NAME`, `tenant NAME` or --all"
        ))),
    }
}

/// As a person says it.
fn of(target: &PauseTarget, tenant: Option<&Tenant>) -> String {
    match target {
        PauseTarget::Invocation(id) => id.to_string(),
        PauseTarget::Agent(name) => format!("agent {name}"),
        PauseTarget::Tenant => match tenant {
            Some(tenant) => format!("tenant {tenant}"),
            None => format!("tenant {}", Tenant::default()),
        },
        PauseTarget::All => "everything".into(),
    }
}

/// As this command line takes it.
fn words(target: &PauseTarget, tenant: Option<&Tenant>) -> String {
    match target {
        PauseTarget::All => "--all".into(),
        other => of(other, tenant),
    }
}

/// `mesh get pauses`.
pub(super) async fn list(client: &Client, output: Output) -> anyhow::Result<()> {
    let page: Page<PauseView> = client.get("/api/v1/pauses", &[]).await?;
    output.show(&page, || {
        if page.items.is_empty() {
            return nothing(output);
        }
        let mut table = Table::new(output, &["PAUSED", "BY", "AGE", "REASON"]);
        let now = now();
        for view in &page.items {
            table.row([
                of(&view.target, client.tenant()),
                view.by.clone(),
                age(view.since, now),
                view.reason.clone().unwrap_or_default(),
            ]);
        }
        table.print()
    })
}

pub(crate) async fn signal(args: SignalArgs, session: &Session) -> anyhow::Result<()> {
    let value = args.value.map(|text| value_of(&text));
    let body = json!({ "name": args.name, "value": value });
    let path = format!("/api/v1/invocations/{}/signal", args.id);
    let invocation: Invocation = session.client()?.post_keyed(&path, &body, args.key.as_deref()).await?;
    let output = session.output;
    output.show(&invocation, || {
        output.line(&format!("{} has it; it is {}", args.id, invocation.state.as_str()))
    })
}

/// JSON as it is written, anything else as text.
pub(super) fn value_of(text: &str) -> Value {
    mesh_types::json::parse_value(text.as_bytes()).unwrap_or_else(|_| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(what: &str, name: Option<&str>) -> anyhow::Result<(PauseTarget, Option<Tenant>)> {
        meant(Target {
            what: Some(what.to_owned()),
            name: name.map(str::to_owned),
            all: false,
        })
    }

    #[test]
    fn what_is_paused_is_said_in_words() {
        let id = "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let invocation = PauseTarget::Invocation(id.parse().unwrap());
        assert_eq!(target(id, None).unwrap(), (invocation, None));
        let agent = PauseTarget::Agent("sofia".parse().unwrap());
        assert_eq!(target("agent", Some("sofia")).unwrap(), (agent, None));
        let tenant = Some("daarion".parse().unwrap());
        assert_eq!(
            target("tenant", Some("daarion")).unwrap(),
            (PauseTarget::Tenant, tenant)
        );
        for (what, name) in [
            ("agent", None),
            ("tenant", None),
            ("sofia", None),
            (id, Some("x")),
            ("agent", Some("a.b")),
        ] {
            assert!(target(what, name).unwrap_err().is::<Usage>(), "{what} {name:?}");
        }
    }

    #[test]
    fn a_value_is_json_or_text() {
        for (text, value) in [
            ("true", json!(true)),
            ("{\"a\":[1]}", json!({"a": [1]})),
            ("yes please", json!("yes please")),
            ("", json!("")),
            ("\"quoted\"", json!("quoted")),
        ] {
            assert_eq!(value_of(text), value, "{text}");
        }
    }
}
