//! A declared command: JSON in, JSON or text out.

use std::time::Duration;

use mesh_types::agent::Script;
use mesh_types::tool::ToolReply;
use mesh_types::{Code, Problem};
use serde_json::{Value, json};

use super::folder::Folder;
use super::memory::Memory;
use super::runner::{self, Launch};

/// Runs the command once with `input` as JSON on its standard input, in an empty folder of its own. Standard output
/// is the result: JSON as it is, anything else as `{"text": …}`. Problems: `tool/failed` (no such program, exit code,
/// too much output or memory), `mesh/timeout`, `registry/agent-invalid` (the declaration itself).
pub(crate) async fn run_script(
    script: &Script,
    input: &Value,
    timeout: Duration,
    output_bytes_max: usize,
) -> Result<ToolReply, Problem> {
    let Some((program, args)) = script.command.split_first() else {
        return Err(Problem::new(Code::AgentInvalid, "the script has no command")
            .field("script.command")
            .next("name a program and its arguments, such as [\"/opt/tools/report\", \"--json\"]"));
    };
    let launch = Launch {
        program: program.clone(),
        args: args.to_vec(),
        env: &[],
        stdin: input.to_string().into_bytes(),
        folder: Folder::fresh()?,
        timeout: script.timeout.map_or(timeout, |own| own.0.min(timeout)),
        memory: script.memory.as_deref().map(Memory::parse).transpose()?,
        next: "install it where the agent runs, or write the full path in `script.command`".to_owned(),
    };
    let name = launch.program.clone();
    let mut stdout = Vec::new();
    let exit = runner::run(launch, &mut |bytes| {
        if stdout.len() + bytes.len() > output_bytes_max {
            return Err(runner::too_long(&name, output_bytes_max));
        }
        stdout.extend_from_slice(bytes);
        Ok(())
    })
    .await?;
    if !exit.is_success() {
        return Err(exit.problem());
    }
    Ok(ToolReply::of(output(&stdout)))
}

/// JSON as it is; else the text without its last line ends, as `$(…)` takes it.
fn output(stdout: &[u8]) -> Value {
    serde_json::from_slice(stdout)
        .unwrap_or_else(|_| json!({"text": String::from_utf8_lossy(stdout).trim_end_matches(['\n', '\r'])}))
}
