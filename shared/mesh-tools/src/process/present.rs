//! Which programs of agents are on this machine. It looks, and starts nothing.

use std::path::{Path, PathBuf};

use mesh_types::agent::{AgentSpec, Runtime, Tool};
use mesh_types::{Code, Problem};

use super::drivers::{DRIVERS, Driver};

/// Drivers of agents' command lines whose program is here, as in `cli.driver`.
#[must_use]
pub fn drivers_here() -> Vec<&'static str> {
    let here = DRIVERS.iter().filter(|driver| is_here(driver.executable));
    here.map(|driver| driver.name).collect()
}

/// Whether an agent can run on this machine: every program that it or its tools start is here.
///
/// # Errors
/// `registry/runtime-not-available` names what is missing, and what to do.
pub fn can_run(spec: &AgentSpec) -> Result<(), Problem> {
    let missing = |what: String, next: String| Err(Problem::new(Code::RuntimeNotAvailable, what).next(next));
    match spec.runtime {
        Runtime::Llm | Runtime::Http | Runtime::Noop | Runtime::Script | Runtime::Cli => {}
        Runtime::Container | Runtime::Wasm => {
            let what = "nodes run no agents of that runtime yet";
            return missing(what.into(), "declare another runtime".into());
        }
    }
    if let Some(cli) = &spec.cli {
        let Some(driver) = Driver::named(&cli.driver) else {
            let what = format!("this node knows no driver `{}`", cli.driver);
            return missing(what, "install a newer version of mesh on it".into());
        };
        let program = cli.executable.as_deref().unwrap_or(driver.executable);
        if !is_here(program) {
            return missing(absent(program), driver.install.to_owned());
        }
    }
    let own = spec.script.as_ref().map(|script| &script.command);
    let of_tools = spec.tools.iter().flat_map(|Tool(tool)| {
        let script = tool.script.as_ref().map(|script| &script.command);
        script.into_iter().chain(tool.mcp.as_ref().map(|mcp| &mcp.command))
    });
    for program in own.into_iter().chain(of_tools).filter_map(|command| command.first()) {
        if !is_here(program) {
            let next = "install it, or give the agent a node_selector of nodes that have it";
            return missing(absent(program), next.into());
        }
    }
    Ok(())
}

fn absent(program: &str) -> String {
    format!("there is no program `{program}` on this machine")
}

fn is_here(program: &str) -> bool {
    if program.contains('/') {
        return is_executable(Path::new(program));
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .map(|folder: PathBuf| folder.join(program))
        .any(|path| is_executable(&path))
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(path: &Path) -> bool {
    path.is_file()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(value: serde_json::Value) -> AgentSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_missing_is_named() {
        let of = |command: &str| spec(json!({"runtime": "script", "script": {"command": [command]}}));
        assert_eq!(can_run(&of("sh")), Ok(()));
        assert_eq!(can_run(&of("/bin/sh")), Ok(()));
        for program in ["no-such-program", "/etc/passwd", "/etc"] {
            let problem = can_run(&of(program)).unwrap_err();
            assert!(problem.detail.contains(program), "{problem}");
        }
        let own = json!({"runtime": "cli", "cli": {"driver": "codex", "executable": "/no/codex"}});
        let problem = can_run(&spec(own)).unwrap_err();
        assert!(problem.detail.contains("/no/codex") && problem.next.is_some());
    }

    #[test]
    fn an_agent_without_programs_runs_anywhere() {
        assert_eq!(can_run(&AgentSpec::default()), Ok(()));
        assert!(can_run(&spec(json!({"runtime": "wasm"}))).is_err());
        let tool = json!({"name": "t", "kind": "script", "script": {"command": ["no-such-program"]}});
        assert!(can_run(&spec(json!({"tools": ["now", tool]}))).is_err());
    }
}
