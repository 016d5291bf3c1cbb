//! `mesh completions`: what a shell needs to complete the command line.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::output::Output;

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    #[arg(value_enum)]
    shell: Shell,
}

const EXAMPLES: &str = "Examples:
  source <(mesh completions bash)
  mesh completions zsh > ~/.zfunc/_mesh
  mesh completions fish > ~/.config/fish/completions/mesh.fish";

pub(crate) fn run(args: CompletionsArgs, output: Output) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "mesh", &mut script);
    output.text(&String::from_utf8_lossy(&script))
}
