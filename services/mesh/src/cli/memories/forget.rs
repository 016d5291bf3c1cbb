//! `mesh memories forget`: counts what matches, asks, erases, shows the receipt.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use mesh_api::memory::{ForgetFilter, ForgetRequest, MemoryType, Receipt, Scope};
use mesh_types::{AgentName, InvocationId, MemoryId, Timestamp};

use super::{scopes, types};
use crate::cli::session::blocking;
use crate::client::Client;
use crate::failure::{Usage, advised};
use crate::output::Output;

/// Longer than the mesh gives an erasure.
const ERASE_TIMEOUT: Duration = Duration::from_secs(70);

#[derive(Debug, Args)]
pub(super) struct ForgetArgs {
    /// These memories
    ids: Vec<MemoryId>,
    /// All of this agent
    #[arg(short, long)]
    agent: Option<AgentName>,
    /// All of this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// All of this session
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    /// All that came of this invocation
    #[arg(long, value_name = "ID")]
    invocation: Option<InvocationId>,
    /// Of this type: episodic semantic procedural working
    #[arg(short = 't', long = "type", value_name = "TYPE", hide_possible_values = true, value_parser = types())]
    kind: Option<MemoryType>,
    /// Of this scope: tenant agent session user
    #[arg(long, value_name = "SCOPE", hide_possible_values = true, value_parser = scopes())]
    scope: Option<Scope>,
    /// With this tag; several: all of them
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Created before, such as 2026-11-21T12:00:00Z
    #[arg(long, value_name = "TIME")]
    before: Option<Timestamp>,
    /// Keep what was condensed from them
    #[arg(long)]
    keep_derived: bool,
    /// Only count what matches
    #[arg(long)]
    dry_run: bool,
    /// Erase without asking
    #[arg(short, long)]
    yes: bool,
}

pub(super) const EXAMPLES: &str = "Examples:
  mesh memories forget mem_01ARZ3NDEKTSV4RRFFQ69G5FAV
  mesh memories forget --user ann --dry-run
  mesh memories forget --agent sofia --before 2026-01-01T00:00:00Z --yes -o json

All that is named must match. The receipt holds the count and a digest of the ids, nothing of the memories.";

pub(super) async fn run(args: ForgetArgs, client: &Client, output: Output) -> anyhow::Result<()> {
    let (is_trial, is_sure) = (args.dry_run, args.yes);
    let request = request(args)?;
    let trial = ForgetRequest {
        dry_run: true,
        ..request.clone()
    };
    if is_trial {
        return print(&erase(client, &trial).await?, output);
    }
    if !is_sure {
        if !std::io::stdin().is_terminal() {
            return Err(Usage("forgetting is for good: say --yes to mean it, --dry-run to count".into()).into());
        }
        let found = erase(client, &trial).await?;
        refuse_none(&found, &request)?;
        if found.forgotten == 0 {
            return print(&found, output);
        }
        let question = format!("Erase {} for good?", counted(&found));
        let asked = blocking(move || inquire::Confirm::new(&question).with_default(false).prompt()).await?;
        if !asked {
            output.note("nothing was forgotten");
            return Ok(());
        }
    }
    let receipt = erase(client, &request).await?;
    refuse_none(&receipt, &request)?;
    print(&receipt, output)
}

fn request(args: ForgetArgs) -> anyhow::Result<ForgetRequest> {
    let filter = ForgetFilter {
        ids: args.ids,
        agent: args.agent,
        kind: args.kind,
        scope: args.scope,
        session: args.session,
        user: args.user,
        tags: args.tags,
        invocation: args.invocation,
        before: args.before,
    };
    if filter == ForgetFilter::default() {
        return Err(Usage("say what to forget: an ID, --user, --session, --agent, --invocation …".into()).into());
    }
    Ok(ForgetRequest {
        id: None,
        filter,
        keep_derived: args.keep_derived,
        dry_run: false,
    })
}

async fn erase(client: &Client, request: &ForgetRequest) -> anyhow::Result<Receipt> {
    client
        .post_within("/api/v1/memories/forget", request, ERASE_TIMEOUT)
        .await
}

/// Who names a memory means one; that there is none is not what was asked for.
fn refuse_none(receipt: &Receipt, request: &ForgetRequest) -> anyhow::Result<()> {
    if receipt.forgotten > 0 || request.filter.ids.is_empty() {
        return Ok(());
    }
    let error = anyhow::anyhow!("no memory matches: none of these ids is there");
    Err(advised(
        error,
        "mesh memories lists them; --tenant names another tenant",
    ))
}

fn print(receipt: &Receipt, output: Output) -> anyhow::Result<()> {
    output.show(receipt, || {
        if receipt.dry_run {
            return output.line(&format!("{} would be erased", counted(receipt)));
        }
        output.line(&format!("{} erased", counted(receipt)))?;
        for (what, value) in [
            ("receipt", receipt.id.to_string()),
            ("at", receipt.at.to_string()),
            ("by", receipt.by.clone()),
            ("ids sha-256", receipt.ids_sha256.clone()),
        ] {
            output.line(&format!("  {what:<13}{value}"))?;
        }
        Ok(())
    })
}

/// `1 memory`, `12 memories (3 of them made of others)`.
fn counted(receipt: &Receipt) -> String {
    let memories = match receipt.forgotten {
        0 => "nothing".to_owned(),
        1 => "1 memory".to_owned(),
        many => format!("{many} memories"),
    };
    match receipt.derived {
        0 => memories,
        derived => format!("{memories} ({derived} of them made of others)"),
    }
}
