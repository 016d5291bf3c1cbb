//! `mesh seed`: the first things of an installation in containers: demo, administrator, keys of the command line and of
//! its nodes. What is there stays; each start makes only what is missing or no longer good.

mod command_line;
mod nodes;
mod people;
mod roles;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use mesh_bus::{Bus, BusOptions};
use mesh_runtime::Context;
use mesh_types::NodeId;
use serde_json::json;
use tokio::time::Instant;

use super::Session;
use super::setup::GRAFANA_PASSWORD;
use crate::failure::{Usage, advised};
use crate::serve::start_telemetry;
use crate::services::Service;
use crate::up::seed_demo;

/// Fill an installation in containers with what its first users need
///
/// Waits for the services, then makes the demo agents, the administrator `admin` with a password that is shown this
/// once, the key of the command line, the join tokens of nodes, and a context of the `nats` program. Repeating it makes
/// only what is missing.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SeedArgs {
    /// Folder that `mesh setup` has filled
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Node that gets a join token of its own; may be repeated
    #[arg(long = "node", value_name = "ID")]
    nodes: Vec<NodeId>,
    /// Folder that gets the key and the context for whoever uses this machine
    #[arg(long, value_name = "FOLDER")]
    home: Option<PathBuf>,
    /// File or folder whose owner gets those, where root runs this
    #[arg(long, value_name = "PATH", requires = "home")]
    owner_of: Option<PathBuf>,
    /// Number of the user that nodes run as; given to their tokens where root runs this
    #[arg(long, value_name = "UID", default_value_t = 65_532)]
    uid: u32,
    /// Address of the mesh for people
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8000")]
    web: String,
    /// Address of NATS for programs of this machine
    #[arg(long, value_name = "URL", default_value = "nats://127.0.0.1:4222")]
    nats: String,
    /// Address of Grafana for people
    #[arg(long, value_name = "URL")]
    grafana: Option<String>,
    /// Leave out the demo: tenants `default` and `daarion` with the agent `sofia`
    #[arg(long)]
    no_demo: bool,
}

const EXAMPLES: &str = "Examples:
  MESH_NATS_URL_FILE=/run/mesh/seed/nats-url mesh seed /run/mesh
  mesh seed /run/mesh --node node-1 --node node-2 --home .mesh

`docker compose up` runs it as its last job.";

/// A first start migrates and starts ten processes before anybody answers.
const ANSWERING_DEADLINE: Duration = Duration::from_secs(180);
const LISTEN: Duration = Duration::from_millis(250);

pub(crate) async fn run(args: SeedArgs, session: &Session) -> anyhow::Result<()> {
    let environment = &session.environment;
    let Some(url) = environment.nats_url.clone() else {
        return Err(Usage("set MESH_NATS_URL, or MESH_NATS_URL_FILE".into()).into());
    };
    let telemetry = start_telemetry("seed", session)?;
    let bus = Bus::connect(BusOptions {
        url,
        name: "mesh-seed".into(),
        monitor_url: None,
        user: None,
    })
    .await?;
    let context = Context::new("seed", bus, telemetry.metrics());
    wait_until_answering(&context).await?;
    if !args.no_demo {
        seed_demo(&context).await;
    }
    let key = command_line::key(&context, &args).await?;
    for node in &args.nodes {
        nodes::ensure_token(&context, &args, node).await?;
    }
    if let Some(url) = &environment.database_url {
        roles::ensure(url, &args.folder).await?;
    }
    command_line::write_home(&args, &key).await?;
    // Last: what is shown once must not be shown by a start that fails.
    let admin = people::ensure_admin(&context, &args).await?;
    tell(&args, session, admin.as_ref())
}

async fn wait_until_answering(context: &Context) -> anyhow::Result<()> {
    let deadline = Instant::now() + ANSWERING_DEADLINE;
    loop {
        let missing = match context.bus.discover(LISTEN).await {
            Ok(heard) => {
                let heard: BTreeSet<_> = heard.iter().map(|service| service.name.clone()).collect();
                let on_bus = Service::ALL.into_iter().filter(|service| service.answers_on_bus());
                let missing = on_bus.map(Service::name).filter(|name| !heard.contains(*name));
                missing.collect::<Vec<_>>().join(", ")
            }
            Err(error) => error.to_string(),
        };
        if missing.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let seconds = ANSWERING_DEADLINE.as_secs();
            return Err(advised(
                anyhow::anyhow!("no answer within {seconds} s from: {missing}"),
                "the logs of these services say why; then start it again",
            ));
        }
        tokio::time::sleep(LISTEN).await;
    }
}

/// What a person needs for the first sign-in.
fn tell(args: &SeedArgs, session: &Session, admin: Option<&people::Admin>) -> anyhow::Result<()> {
    let grafana = match (&args.grafana, admin) {
        (Some(url), Some(_)) => {
            let password = std::fs::read_to_string(args.folder.join(GRAFANA_PASSWORD));
            password.ok().map(|password| (url.clone(), password.trim().to_owned()))
        }
        _ => None,
    };
    let value = json!({"web": args.web, "nats": args.nats, "login": admin.map(|admin| &admin.login),
        "password": admin.map(|admin| &admin.password)});
    let output = session.output;
    output.show(&value, || {
        output.line(&format!("Agent Mesh is at {}", args.web))?;
        if let Some(people::Admin { login, password, .. }) = admin {
            output.line(&format!("Sign in as {login} with the password {password}"))?;
            if let Some((url, password)) = &grafana {
                output.line(&format!("Grafana is at {url}: admin with the password {password}"))?;
            }
            output.line("Passwords are shown this once; mesh users password admin makes a new one")?;
        }
        Ok(())
    })?;
    if let Some(admin) = admin {
        admin.forget()?;
    }
    Ok(())
}

/// A credential that identity does not take any more is made anew.
async fn is_good(context: &Context, credential: &str) -> anyhow::Result<Option<mesh_api::identity::Principal>> {
    use mesh_api::identity::{CredentialVerify, VerifyRequest};
    let caller = context.caller(mesh_types::Tenant::default());
    let request = VerifyRequest {
        credential: credential.to_owned(),
    };
    match context.bus.call::<CredentialVerify>(&caller, &request).await {
        Ok(principal) => Ok(Some(principal)),
        Err(problem) if problem.is(mesh_types::Code::Unauthorized) => Ok(None),
        Err(problem) => Err(problem.into()),
    }
}
