//! `mesh memories`: what agents remember; search it, add to it, forget.

mod forget;
mod search;
mod show;
mod status;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use mesh_api::memory::{ConsolidateRequest, Consolidation, Memory, MemoryType, Scope, StoreRequest};
use mesh_types::agent::Span;
use mesh_types::{AgentName, MemoryId};

use super::Session;
use crate::client::Client;
use crate::failure::Usage;
use crate::output::Output;

/// List what agents remember, newest first; search it, add to it, forget
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct MemoriesArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: show::ListArgs,
}

const EXAMPLES: &str = "Examples:
  mesh memories --agent sofia
  mesh memories remember sofia \"Ann prefers tea\" --user ann
  mesh memories search sofia \"what does Ann drink?\" --explain
  mesh memories forget --user ann --dry-run
  mesh memories status

`mesh knowledge` is about documents.";

#[derive(Debug, Subcommand)]
enum Action {
    /// List memories, newest first
    #[command(
        after_help = "Examples:\n  mesh memories list --agent sofia --type semantic\n  mesh memories list --user ann -o json"
    )]
    List(show::ListArgs),
    /// Find the memories nearest to a question
    #[command(after_help = search::EXAMPLES)]
    Search(search::SearchArgs),
    /// Show one memory, with --history also what it was before
    #[command(after_help = "Examples:\n  mesh memories show mem_01ARZ3NDEKTSV4RRFFQ69G5FAV --history")]
    Show(show::ShowArgs),
    /// Give an agent a memory
    #[command(after_help = REMEMBER_EXAMPLES)]
    Remember(RememberArgs),
    /// Erase memories for good, with their history and what was made of them
    #[command(after_help = forget::EXAMPLES)]
    Forget(forget::ForgetArgs),
    /// Show the embedding model, and how far re-embedding is
    #[command(after_help = "Examples:\n  mesh memories status\n  mesh memories status --watch")]
    Status(status::StatusArgs),
    /// Condense episodic memories of an agent into semantic ones, now
    #[command(
        after_help = "Examples:\n  mesh memories consolidate sofia\n  mesh memories consolidate sofia --at-least 20"
    )]
    Consolidate {
        agent: AgentName,
        /// Only if at least so many wait for it
        #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=100_000))]
        at_least: u32,
    },
}

#[derive(Debug, Args)]
struct RememberArgs {
    agent: AgentName,
    /// What to remember
    text: String,
    /// episodic semantic procedural working
    #[arg(short = 't', long = "type", value_name = "TYPE", default_value = "semantic", hide_possible_values = true, value_parser = types())]
    kind: MemoryType,
    /// Who shares it: tenant agent session user [default: what --session or --user say, else agent]
    #[arg(long, value_name = "SCOPE", hide_possible_values = true, value_parser = scopes())]
    scope: Option<Scope>,
    /// Of this session only
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    /// Of this user only
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A tag; may stand several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// 0 to 1
    #[arg(long, default_value_t = 0.5, value_name = "NUMBER")]
    importance: f64,
    /// How long it is kept, such as 30d or 12h [default: 24h for working ones, else for good]
    #[arg(long, value_name = "TIME")]
    ttl: Option<Span>,
    /// A memory that this one replaces; may stand several times
    #[arg(long, value_name = "ID")]
    supersedes: Vec<MemoryId>,
}

const REMEMBER_EXAMPLES: &str = "Examples:
  mesh memories remember sofia \"The office closes at six\"
  mesh memories remember sofia \"Ann prefers tea\" --user ann --tag drinks --importance 0.8
  mesh memories remember sofia \"Deploy with: make release\" --type procedural --scope tenant";

pub(crate) async fn run(args: MemoriesArgs, session: &Session) -> anyhow::Result<()> {
    let client = session.client()?;
    let output = session.output;
    match args.action {
        None => show::list(args.list, &client, output).await,
        Some(Action::List(args)) => show::list(args, &client, output).await,
        Some(Action::Search(args)) => search::run(args, &client, output).await,
        Some(Action::Show(args)) => show::one(args, &client, output).await,
        Some(Action::Remember(args)) => remember(args, &client, output).await,
        Some(Action::Forget(args)) => forget::run(args, &client, output).await,
        Some(Action::Status(args)) => status::run(args, &client, output).await,
        Some(Action::Consolidate { agent, at_least }) => {
            consolidate(&ConsolidateRequest { agent, at_least }, &client, output).await
        }
    }
}

async fn remember(args: RememberArgs, client: &Client, output: Output) -> anyhow::Result<()> {
    let request = StoreRequest {
        kind: args.kind,
        scope: scope_of(args.scope, args.session.as_deref(), args.user.as_deref())?,
        session: args.session,
        user: args.user,
        tags: args.tags,
        importance: args.importance,
        ttl_seconds: args.ttl.map(|ttl| ttl.0.as_secs()),
        supersedes: args.supersedes,
        ..StoreRequest::new(args.agent, args.text)
    };
    let memory: Memory = client.post("/api/v1/memories", &request).await?;
    output.show(&memory, || {
        output.line(&memory.id.to_string())?;
        if memory.seen > 1 {
            output.note(&format!("known already: stored {} times, kept once", memory.seen));
        }
        if !memory.embedded {
            output.note("found by its words now, by its meaning as soon as it is embedded");
        }
        Ok(())
    })
}

/// Whose a memory is, from what was named; what contradicts itself is refused before it is sent.
fn scope_of(scope: Option<Scope>, session: Option<&str>, user: Option<&str>) -> anyhow::Result<Scope> {
    let said = match (session, user) {
        (Some(_), Some(_)) => return Err(Usage("name a session or a user, not both".into()).into()),
        (Some(_), None) => Some(Scope::Session),
        (None, Some(_)) => Some(Scope::User),
        (None, None) => None,
    };
    match (scope, said) {
        (Some(scope), Some(said)) if scope != said => {
            let text = format!(
                "--{} and --scope {} contradict each other",
                said.as_str(),
                scope.as_str()
            );
            Err(Usage(text).into())
        }
        (Some(scope @ (Scope::Session | Scope::User)), None) => {
            Err(Usage(format!("say which {0}: --{0} NAME", scope.as_str())).into())
        }
        (scope, said) => Ok(scope.or(said).unwrap_or_default()),
    }
}

async fn consolidate(request: &ConsolidateRequest, client: &Client, output: Output) -> anyhow::Result<()> {
    let started: Consolidation = client.post("/api/v1/memories/consolidate", request).await?;
    output.show(&started, || match started.invocation {
        Some(id) => {
            output.line(&format!("{id} condenses {} memories", started.memories))?;
            output.note(&format!("mesh steps {id} shows how"));
            Ok(())
        }
        None => output.line(&format!(
            "nothing to condense: {} memories wait, at least {} are asked for",
            started.memories, request.at_least
        )),
    })
}

fn types() -> impl TypedValueParser<Value = MemoryType> {
    PossibleValuesParser::new(MemoryType::ALL.map(MemoryType::as_str)).try_map(|text| {
        MemoryType::ALL
            .into_iter()
            .find(|one| one.as_str() == text)
            .ok_or("unknown")
    })
}

fn scopes() -> impl TypedValueParser<Value = Scope> {
    PossibleValuesParser::new(Scope::ALL.map(Scope::as_str))
        .try_map(|text| Scope::ALL.into_iter().find(|one| one.as_str() == text).ok_or("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_follows_from_what_is_named() {
        assert_eq!(scope_of(None, None, None).unwrap(), Scope::Agent);
        assert_eq!(scope_of(None, Some("s"), None).unwrap(), Scope::Session);
        assert_eq!(scope_of(Some(Scope::User), None, Some("ann")).unwrap(), Scope::User);
        assert_eq!(scope_of(Some(Scope::Tenant), None, None).unwrap(), Scope::Tenant);
        for (scope, session, user) in [
            (None, Some("s"), Some("u")),
            (Some(Scope::Tenant), None, Some("u")),
            (Some(Scope::Session), None, None),
        ] {
            assert!(scope_of(scope, session, user).unwrap_err().is::<Usage>());
        }
    }
}
