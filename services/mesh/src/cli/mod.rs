//! The command line: one table of commands, and what all of them share. One file per family of commands.

mod apply;
mod approvals;
mod audit;
mod backup;
mod brain;
mod branches;
mod completions;
mod config;
mod dead_letters;
mod declared;
mod delete;
mod describe;
mod diff;
mod doctor;
mod get;
mod health;
mod invocations;
mod invoke;
mod keys;
mod knowledge;
mod lifecycle;
mod logs;
mod memories;
mod named;
mod new;
mod node;
mod nodes;
mod plan;
mod seed;
mod services;
mod session;
mod setup;
mod status;
mod steering;
mod steps;
mod support;
mod tokens;
mod users;
mod waits;
mod width;

use clap::{Parser, Subcommand};
use mesh_types::Tenant;

use crate::bench::{self, BenchArgs};
use crate::output::{Format, Output};
use crate::serve::{self, ServeArgs};
use crate::up::{self, UpArgs};

pub(crate) use session::{Session, blocking, misconfigured};

/// Runs AI agents the way an orchestrator runs containers
///
/// Declare agents, invoke them, follow and steer their executions. `mesh up` starts everything on this machine.
#[derive(Debug, Parser)]
#[command(name = "mesh", version, max_term_width = 110, after_help = EXAMPLES, after_long_help = LONG_EXAMPLES)]
#[command(
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// Tenant to act in [default: MESH_TENANT, else `default`]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Options of every command")]
    tenant: Option<Tenant>,
    /// Address of the mesh [default: MESH_URL, else the mesh in MESH_HOME]
    #[arg(long, global = true, value_name = "URL", help_heading = "Options of every command")]
    url: Option<String>,
    /// How to print the result
    #[arg(
        short = 'o',
        long = "output",
        global = true,
        value_enum,
        value_name = "FORMAT",
        help_heading = "Options of every command"
    )]
    format: Option<Format>,
    /// Short for `-o json`
    #[arg(
        long,
        global = true,
        conflicts_with = "format",
        help_heading = "Options of every command"
    )]
    json: bool,
    /// Configuration file [default: MESH_CONFIG]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Options of every command")]
    config: Option<std::path::PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  mesh up                          start everything here and show the addresses
  mesh invoke sofia \"hello\"        talk to the demo agent
  mesh apply -f agents/            declare agents from files
  mesh invocations                 what ran lately
  mesh doctor                      what is wrong, and what to do

`mesh COMMAND --help` shows examples of each.";

const LONG_EXAMPLES: &str = "\
Examples:
  mesh up                          start everything here and show the addresses
  mesh invoke sofia \"hello\"        talk to the demo agent
  mesh apply -f agents/            declare agents from files
  mesh invocations                 what ran lately
  mesh doctor                      what is wrong, and what to do

`mesh COMMAND --help` shows examples of each. `mesh config` lists every variable and key.
Exit codes: 0 done, 1 failed, 2 wrong use of the command line. NO_COLOR turns colours off.";

#[derive(Debug, Subcommand)]
enum Command {
    Up(UpArgs),
    Status(status::StatusArgs),
    Down(lifecycle::DownArgs),
    Restart(lifecycle::RestartArgs),
    Reset(lifecycle::ResetArgs),
    Migrate(lifecycle::MigrateArgs),
    Setup(setup::SetupArgs),
    Seed(seed::SeedArgs),
    Health(health::HealthArgs),
    Logs(logs::LogsArgs),
    Dashboard(lifecycle::DashboardArgs),
    Serve(ServeArgs),
    Node(node::NodeArgs),
    Nodes(nodes::NodesArgs),
    Keys(keys::KeysArgs),
    Users(users::UsersArgs),
    Tokens(tokens::TokensArgs),
    Audit(audit::AuditArgs),
    Plan(plan::PlanArgs),
    Brain(brain::BrainArgs),
    Config(config::ConfigArgs),
    Doctor(doctor::DoctorArgs),
    SupportBundle(support::SupportArgs),
    Backup(backup::BackupArgs),
    Restore(backup::RestoreArgs),
    Services(services::ServicesArgs),
    Apply(apply::ApplyArgs),
    Get(get::GetArgs),
    Describe(describe::DescribeArgs),
    Delete(delete::DeleteArgs),
    Diff(diff::DiffArgs),
    New(new::NewArgs),
    Invoke(invoke::InvokeArgs),
    Invocations(invocations::InvocationsArgs),
    Steps(steps::StepsArgs),
    Cancel(invocations::CancelArgs),
    Pause(steering::PauseArgs),
    Resume(steering::ResumeArgs),
    Signal(steering::SignalArgs),
    Approvals(approvals::ApprovalsArgs),
    Approve(approvals::ApproveArgs),
    Deny(approvals::DenyArgs),
    Fork(branches::ForkArgs),
    Replay(branches::ReplayArgs),
    Compare(branches::CompareArgs),
    DeadLetters(dead_letters::DeadLettersArgs),
    Memories(memories::MemoriesArgs),
    Knowledge(knowledge::KnowledgeArgs),
    /// Measure a running mesh
    #[command(
        after_help = "Examples:\n  mesh bench invoke\n  mesh bench invoke --concurrency 1,64,256 --json\n  mesh bench depth"
    )]
    Bench(BenchArgs),
    Completions(completions::CompletionsArgs),
}

impl Cli {
    pub(crate) fn output(&self) -> Output {
        let alias = if self.json { Format::Json } else { Format::Table };
        Output::new(self.format.unwrap_or(alias))
    }

    pub(crate) fn run(self, output: Output) -> anyhow::Result<()> {
        if let Command::Completions(args) = self.command {
            return completions::run(args, output);
        }
        let mut session = Session::new(output, self.url, self.tenant, self.config)?;
        let runtime = match self.command {
            Command::Up(_) | Command::Serve(_) | Command::Node(_) | Command::Bench(_) => {
                tokio::runtime::Builder::new_multi_thread()
            }
            _ => tokio::runtime::Builder::new_current_thread(),
        }
        .enable_all()
        .build()?;
        runtime.block_on(dispatch(self.command, &mut session))
    }
}

async fn dispatch(command: Command, session: &mut Session) -> anyhow::Result<()> {
    match command {
        Command::Up(args) => up::run(args, session).await,
        Command::Status(args) => status::run(args, session).await,
        Command::Down(args) => lifecycle::down(args, session).await,
        Command::Restart(args) => lifecycle::restart(args, session).await,
        Command::Reset(args) => lifecycle::reset(args, session).await,
        Command::Migrate(args) => lifecycle::migrate(args, session).await,
        Command::Setup(args) => setup::run(args, session).await,
        Command::Seed(args) => seed::run(args, session).await,
        Command::Health(args) => health::run(args, session),
        Command::Logs(args) => logs::run(args, session).await,
        Command::Dashboard(args) => lifecycle::dashboard(args, session).await,
        Command::Serve(args) => serve::run(args, session).await,
        Command::Node(args) => node::run(args, session).await,
        Command::Nodes(args) => nodes::run(args, session).await,
        Command::Keys(args) => keys::run(args, session).await,
        Command::Users(args) => users::run(args, session).await,
        Command::Tokens(args) => tokens::run(args, session).await,
        Command::Audit(args) => audit::run(args, session).await,
        Command::Plan(args) => plan::run(args, session).await,
        Command::Brain(args) => brain::run(args, session).await,
        Command::Config(args) => config::run(args, session),
        Command::Doctor(args) => doctor::run(args, session).await,
        Command::SupportBundle(args) => support::run(args, session).await,
        Command::Backup(args) => backup::run(args, session).await,
        Command::Restore(args) => backup::restore(args, session).await,
        Command::Services(args) => services::run(args, session).await,
        Command::Apply(args) => apply::run(args, session).await,
        Command::Get(args) => get::run(args, session).await,
        Command::Describe(args) => describe::run(args, session).await,
        Command::Delete(args) => delete::run(args, session).await,
        Command::Diff(args) => diff::run(args, session).await,
        Command::New(args) => new::run(args, session),
        Command::Invoke(args) => invoke::run(args, session).await,
        Command::Invocations(args) => invocations::list(args, session).await,
        Command::Steps(args) => steps::run(args, session).await,
        Command::Cancel(args) => invocations::cancel(args, session).await,
        Command::Pause(args) => steering::pause(args, session).await,
        Command::Resume(args) => steering::resume(args, session).await,
        Command::Signal(args) => steering::signal(args, session).await,
        Command::Approvals(args) => approvals::list(args, session).await,
        Command::Approve(args) => approvals::approve(args, session).await,
        Command::Deny(args) => approvals::deny(args, session).await,
        Command::Fork(args) => branches::fork(args, session).await,
        Command::Replay(args) => branches::replay(args, session).await,
        Command::Compare(args) => branches::compare(args, session).await,
        Command::DeadLetters(args) => dead_letters::run(args, session).await,
        Command::Memories(args) => memories::run(args, session).await,
        Command::Knowledge(args) => knowledge::run(args, session).await,
        Command::Bench(args) => bench::run(args, session.output).await,
        Command::Completions(args) => completions::run(args, session.output),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn no_two_options_of_a_command_collide() {
        super::Cli::command().debug_assert();
    }
}
