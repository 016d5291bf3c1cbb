//! `mesh config`: the effective configuration, key by key, with who set it.

use clap::Args;

use super::Session;
use super::session::misconfigured;
use crate::failure::Usage;
use crate::output::Table;
use crate::services::Configs;

/// Show the effective configuration: every key and variable, its value, and who set it
///
/// Defaults, then the file (--config or MESH_CONFIG), then the environment. Secrets are shown as ***.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConfigArgs {
    /// Only keys of this service, or keys that begin so
    prefix: Option<String>,
    /// Only what is not the default
    #[arg(long)]
    changed: bool,
}

const EXAMPLES: &str = "Examples:
  mesh config
  mesh config execution
  mesh config --changed
  MESH_EXECUTION__LANES=4 mesh config execution.lanes -o json";

pub(crate) fn run(args: ConfigArgs, session: &Session) -> anyhow::Result<()> {
    let loader = session.loader()?;
    let configs = Configs::load(&loader).map_err(misconfigured)?;
    let mut entries = loader.environment().describe().to_vec();
    entries.extend(configs.describe(&loader));
    if let Some(prefix) = &args.prefix {
        entries.retain(|entry| entry.key.starts_with(prefix.as_str()));
        if entries.is_empty() {
            return Err(Usage(format!("no key begins with `{prefix}`; mesh config lists all")).into());
        }
    }
    entries.retain(|entry| !args.changed || entry.origin != "default");
    let output = session.output;
    output.show(&entries, || {
        let mut table = Table::new(output, &["KEY", "VALUE", "SET BY"]);
        for entry in &entries {
            let value = entry
                .value
                .as_str()
                .map_or_else(|| entry.value.to_string(), str::to_owned);
            table.row([entry.key.clone(), value, entry.origin.clone()]);
        }
        table.print()
    })
}
