//! Limits of a declared agent that its types cannot say, as tables: of the object, of each tool, of each runtime.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;

use crate::agent::{Agent, AgentSpec, CLI_DRIVERS, CliAgent, Runtime, Script, Span, Tool, ToolKind, ToolSpec};
use crate::problem::{Code, Problem};
use crate::tool::BUILTINS;

/// Bytes of the instructions.
const INSTRUCTIONS_MAX: usize = 256 * 1024;
const TOOLS_MAX: usize = 128;
const URL_BYTES_MAX: usize = 2_048;
/// Program and arguments together.
const COMMAND_PARTS_MAX: usize = 128;
const COMMAND_BYTES_MAX: usize = 64 * 1024;
const TOOL_TIMEOUT_MAX: Duration = Duration::from_secs(3_600);
const RUNTIME_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3_600);

impl Agent {
    /// The problem names the first field that breaks its rule.
    pub fn validate(&self) -> Result<(), Problem> {
        let of_object = [
            (self.api_version == "mesh/v1", "apiVersion", "must be `mesh/v1`"),
            (self.kind == "Agent", "kind", "must be `Agent`"),
            (
                labels_are_short(self),
                "metadata.labels",
                "keys have 1 to 64 bytes, values at most 256",
            ),
        ];
        let broken = of_object
            .into_iter()
            .chain(rules(&self.spec))
            .chain(crate::memory_rules::rules(&self.spec.memory))
            .chain(limit_rules(&self.spec))
            .chain(runtime_rules(&self.spec))
            .chain(self.spec.placement.iter().flat_map(crate::placement::rules))
            .find(|(holds, _, _)| !holds);
        match broken {
            Some((_, field, rule)) => Err(refused(field, rule)),
            None => tools_hold(&self.spec.tools),
        }
    }
}

fn refused(field: &str, rule: &str) -> Problem {
    Problem::new(Code::AgentInvalid, format!("{field} {rule}")).field(field)
}

fn labels_are_short(agent: &Agent) -> bool {
    agent
        .metadata
        .labels
        .iter()
        .all(|(key, value)| !key.is_empty() && key.len() <= 64 && value.len() <= 256)
}

pub(crate) type Rule = (bool, &'static str, &'static str);

fn rules(spec: &AgentSpec) -> [Rule; 13] {
    let AgentSpec {
        model, context, limits, ..
    } = spec;
    let is_storable = !spec.instructions.contains('\0') && spec.instructions.len() <= INSTRUCTIONS_MAX;
    let noop_is_short = spec.noop.as_ref().is_none_or(|noop| noop.steps <= 1_000);
    let name_is_short = !model.name.is_empty() && model.name.len() <= 128;
    let tokens_are_sane = (1..=1_000_000).contains(&model.max_tokens);
    let is_timely = limits.timeout.0 >= Duration::from_millis(1);
    [
        (
            (0.0..=2.0).contains(&model.temperature),
            "spec.model.temperature",
            "must lie between 0 and 2",
        ),
        (
            tokens_are_sane,
            "spec.model.max_tokens",
            "must lie between 1 and 1000000",
        ),
        (name_is_short, "spec.model.name", "must have 1 to 128 characters"),
        (model.fallbacks.len() <= 8, "spec.model.fallbacks", "at most 8"),
        (context.history <= 500, "spec.context.history", "at most 500"),
        (
            context.recent <= context.history,
            "spec.context.recent",
            "must not exceed spec.context.history",
        ),
        (spec.memory.query_top_k <= 100, "spec.memory.query_top_k", "at most 100"),
        (
            (1..=1_000).contains(&limits.iterations),
            "spec.limits.iterations",
            "must lie between 1 and 1000",
        ),
        (
            (1..=10_000).contains(&limits.concurrency),
            "spec.limits.concurrency",
            "must lie between 1 and 10000",
        ),
        (is_timely, "spec.limits.timeout", "must be at least 1ms"),
        (
            (1..=20).contains(&spec.retry.attempts),
            "spec.retry.attempts",
            "must lie between 1 and 20",
        ),
        (noop_is_short, "spec.noop.steps", "at most 1000"),
        (is_storable, "spec.instructions", "at most 256 KiB and without U+0000"),
    ]
}

fn limit_rules(spec: &AgentSpec) -> [Rule; 5] {
    let limits = &spec.limits;
    let cost_is_sane = limits.cost_usd.is_none_or(|cost| cost.is_finite() && cost >= 0.0);
    let fan_out_is_sane = limits.children.is_none_or(|children| children <= 1_000);
    [
        (
            limits.tool_calls.is_none_or(|calls| calls <= 100_000),
            "spec.limits.tool_calls",
            "at most 100000",
        ),
        (
            limits.tokens.is_none_or(|tokens| (1..=1_000_000_000).contains(&tokens)),
            "spec.limits.tokens",
            "must lie between 1 and 1000000000",
        ),
        (cost_is_sane, "spec.limits.cost_usd", "must be 0 or more"),
        (fan_out_is_sane, "spec.limits.children", "at most 1000"),
        (
            limits.depth.is_none_or(|depth| depth <= 64),
            "spec.limits.depth",
            "at most 64",
        ),
    ]
}

/// Each runtime declares what it runs, and nothing of another one.
fn runtime_rules(spec: &AgentSpec) -> [Rule; 11] {
    let is = |runtime: Runtime| spec.runtime == runtime;
    let (script, cli, http) = (spec.script.as_ref(), spec.cli.as_ref(), spec.http.as_ref());
    let script_is = |holds: fn(&Script) -> bool| script.is_none_or(holds);
    let cli_is = |holds: fn(&CliAgent) -> bool| cli.is_none_or(holds);
    [
        (
            script.is_some() == is(Runtime::Script),
            "spec.script",
            "belongs to `runtime: script`, which needs it",
        ),
        (
            cli.is_some() == is(Runtime::Cli),
            "spec.cli",
            "belongs to `runtime: cli`, which needs it",
        ),
        (
            http.is_some() == is(Runtime::Http),
            "spec.http",
            "belongs to `runtime: http`, which needs it",
        ),
        (
            script_is(|script| is_command(&script.command)),
            "spec.script.command",
            COMMAND,
        ),
        (
            script_is(|script| is_span(script.timeout, RUNTIME_TIMEOUT_MAX)),
            "spec.script.timeout",
            "must lie between 1ms and 24h",
        ),
        (
            script_is(|script| is_memory(script.memory.as_deref())),
            "spec.script.memory",
            MEMORY,
        ),
        (
            cli_is(|cli| CLI_DRIVERS.contains(&cli.driver.as_str())),
            "spec.cli.driver",
            "must be `codex`, `claude-code` or `hermes-agent`",
        ),
        (
            cli_is(|cli| {
                let program = cli.executable.clone().unwrap_or_else(|| cli.driver.clone());
                is_command(&[vec![program], cli.args.clone()].concat())
            }),
            "spec.cli.args",
            "and `executable` make no command: 1 to 128 parts without U+0000, the program not empty",
        ),
        (
            cli_is(|cli| is_span(cli.timeout, RUNTIME_TIMEOUT_MAX) && is_memory(cli.memory.as_deref())),
            "spec.cli",
            "`timeout` must lie between 1ms and 24h, `memory` be such as 1GB",
        ),
        (http.is_none_or(|http| is_url(&http.url)), "spec.http.url", URL),
        (
            http.is_none_or(|http| is_span(http.timeout, RUNTIME_TIMEOUT_MAX)),
            "spec.http.timeout",
            "must lie between 1ms and 24h",
        ),
    ]
}

const COMMAND: &str = "must have 1 to 128 parts without U+0000, the first not empty";
const MEMORY: &str = "must be a number and KB, MB or GB, such as 256MB";
const URL: &str = "must be an http or https URL with a host, of at most 2048 bytes";

fn tools_hold(tools: &[Tool]) -> Result<(), Problem> {
    if tools.len() > TOOLS_MAX {
        return Err(refused("spec.tools", "at most 128"));
    }
    let mut names = HashSet::new();
    for (index, tool) in tools.iter().enumerate() {
        let is_new = names.insert(tool.name.as_str());
        let broken = tool_rules(tool, is_new)
            .into_iter()
            .chain(kind_rules(tool))
            .chain(mcp_rules(tool))
            .find(|(holds, _, _)| !holds);
        if let Some((_, field, rule)) = broken {
            return Err(refused(&format!("spec.tools[{index}].{field}"), rule));
        }
    }
    Ok(())
}

/// What holds for a tool of any kind.
fn tool_rules(tool: &ToolSpec, is_new: bool) -> [Rule; 6] {
    let is_schema = |schema: &Option<Value>| schema.as_ref().is_none_or(Value::is_object);
    let is_named = (1..=64).contains(&tool.name.len())
        && tool
            .name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    [
        (is_named, "name", "must have 1 to 64 of A-Z, a-z, 0-9, `_` and `-`"),
        (is_new, "name", "is taken by a tool above it"),
        (
            is_schema(&tool.parameters),
            "parameters",
            "must be a JSON Schema, an object",
        ),
        (is_schema(&tool.returns), "returns", "must be a JSON Schema, an object"),
        (
            is_span(tool.timeout, TOOL_TIMEOUT_MAX),
            "timeout",
            "must lie between 1ms and 1h",
        ),
        (tool.description.len() <= 16 * 1024, "description", "at most 16 KiB"),
    ]
}

/// What each kind needs, and what belongs to another.
fn kind_rules(tool: &ToolSpec) -> [Rule; 9] {
    let is = |kind: ToolKind| tool.kind == kind;
    let is_builtin = is(ToolKind::Builtin);
    let script = tool.script.as_ref();
    [
        (
            !is_builtin || BUILTINS.contains(&tool.name.as_str()),
            "name",
            "is no builtin tool; say its kind: http, mcp, agent or script",
        ),
        (
            !is_builtin || tool.parameters.is_none(),
            "parameters",
            "belong to tools that are not builtin: those bring their own",
        ),
        (
            tool.url.is_some() == is(ToolKind::Http),
            "url",
            "belongs to `kind: http`, which needs it",
        ),
        (tool.url.as_deref().is_none_or(is_url), "url", URL),
        (
            tool.agent.is_some() == is(ToolKind::Agent),
            "agent",
            "belongs to `kind: agent`, which needs it",
        ),
        (
            script.is_some() == is(ToolKind::Script),
            "script",
            "belongs to `kind: script`, which needs it",
        ),
        (
            script.is_none_or(|script| is_command(&script.command)),
            "script.command",
            COMMAND,
        ),
        (
            script
                .is_none_or(|script| is_span(script.timeout, TOOL_TIMEOUT_MAX) && is_memory(script.memory.as_deref())),
            "script",
            "`timeout` must lie between 1ms and 1h, `memory` be such as 256MB",
        ),
        (
            tool.allow.is_empty()
                || (is_builtin && tool.name == "http_get" && tool.allow.iter().all(|host| is_host(host))),
            "allow",
            "belongs to `http_get`: hosts such as `example.org` or `*.example.org`, without scheme, port or path",
        ),
    ]
}

fn mcp_rules(tool: &ToolSpec) -> [Rule; 5] {
    let mcp = tool.mcp.as_ref();
    [
        (
            mcp.is_some() == (tool.kind == ToolKind::Mcp),
            "mcp",
            "belongs to `kind: mcp`, which needs it",
        ),
        (
            mcp.is_none_or(|mcp| mcp.command.is_empty() == mcp.url.is_some()),
            "mcp",
            "needs either `command` or `url`",
        ),
        (
            mcp.is_none_or(|mcp| mcp.command.is_empty() || is_command(&mcp.command)),
            "mcp.command",
            COMMAND,
        ),
        (
            mcp.is_none_or(|mcp| mcp.url.as_deref().is_none_or(is_url)),
            "mcp.url",
            URL,
        ),
        (
            mcp.and_then(|mcp| mcp.tool.as_ref())
                .is_none_or(|name| (1..=256).contains(&name.len())),
            "mcp.tool",
            "must have 1 to 256 bytes",
        ),
    ]
}

fn is_span(span: Option<Span>, longest: Duration) -> bool {
    span.is_none_or(|span| (Duration::from_millis(1)..=longest).contains(&span.0))
}

fn is_command(command: &[String]) -> bool {
    let bytes: usize = command.iter().map(String::len).sum();
    (1..=COMMAND_PARTS_MAX).contains(&command.len())
        && bytes <= COMMAND_BYTES_MAX
        && !command[0].trim().is_empty()
        && !command.iter().any(|part| part.contains('\0'))
}

/// A number and a unit of 1024, as the runner reads it.
fn is_memory(memory: Option<&str>) -> bool {
    memory.is_none_or(|text| {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim_start().to_ascii_lowercase();
        let unit = unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit);
        matches!(unit, "" | "k" | "m" | "g" | "t") && number.parse::<u64>().is_ok_and(|number| number > 0)
    })
}

/// Where a request may go is decided when it goes; here only the shape.
fn is_url(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let authority = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    url.len() <= URL_BYTES_MAX
        && authority.is_some_and(|authority| {
            let host = authority.rsplit('@').next().unwrap_or_default();
            !host.is_empty() && !host.starts_with(':')
        })
        && !url.chars().any(|char| char.is_whitespace() || char.is_control())
}

/// A name, `*.` and a name, or an address.
fn is_host(host: &str) -> bool {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    is_address || (name.len() <= 253 && name.split('.').all(is_label))
}
