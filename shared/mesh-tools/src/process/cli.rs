//! One turn of an agent that is a command line: the prompt goes in, its events come out.

use std::time::Duration;

use mesh_types::agent::CliAgent;
use mesh_types::content::Content;
use mesh_types::tool::ToolReply;
use mesh_types::{Code, Problem};
use serde_json::Value;

use super::drivers::Driver;
use super::folder::Folder;
use super::memory::Memory;
use super::runner::{self, Exit, Launch};
use super::transcript::Transcript;

/// Runs one turn. `session` is the `session` of an earlier answer of the same driver, which goes on there; any other
/// id begins a new conversation. The output is `{"text", "session"}`, and `answer`, the last message, where the agent
/// said more on its way; `on_text` gets the text piece by piece. Problems: as `run_script`, `tool/failed` also when
/// the agent says that it failed.
pub(crate) async fn run_cli(
    cli: &CliAgent,
    arguments: &Value,
    session: Option<&str>,
    timeout: Duration,
    output_bytes_max: usize,
    on_text: &mut (dyn FnMut(String) + Send),
) -> Result<ToolReply, Problem> {
    let driver = Driver::named(&cli.driver).ok_or_else(|| {
        Problem::new(Code::AgentInvalid, format!("there is no driver `{}`", cli.driver))
            .field("cli.driver")
            .next(format!("use one of {}", Driver::names()))
    })?;
    let launch = launch(driver, cli, prompt(arguments)?, session, timeout)?;
    let mut transcript = Transcript::new(driver, output_bytes_max, on_text);
    let exit = runner::run(launch, &mut |bytes| transcript.take(bytes)).await?;
    transcript.finish()?;
    if let Some(problem) = failure(driver, &transcript, &exit) {
        return Err(problem);
    }
    Ok(ToolReply {
        usage: transcript.usage(),
        output: transcript.output()?,
        provider: Some(driver.name.to_owned()),
    })
}

fn launch(
    driver: &'static Driver,
    cli: &CliAgent,
    prompt: String,
    session: Option<&str>,
    timeout: Duration,
) -> Result<Launch, Problem> {
    let earlier = session.filter(|id| driver.session.fits(id));
    let id = earlier.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
    let conversation = if earlier.is_some() { driver.resume } else { driver.begin };
    let filled =
        |arguments: &'static [&'static str]| arguments.iter().map(|argument| argument.replace("{session}", &id));
    let own = driver.start.iter().map(|argument| (*argument).to_owned());
    Ok(Launch {
        program: cli.executable.clone().unwrap_or_else(|| driver.executable.to_owned()),
        args: own
            .chain(cli.args.iter().cloned())
            .chain(filled(conversation))
            .chain(filled(driver.end))
            .collect(),
        env: driver.env,
        stdin: prompt.into_bytes(),
        folder: if driver.keeps_folder {
            Folder::named(&id)?
        } else {
            Folder::fresh()?
        },
        timeout: cli.timeout.map_or(timeout, |own| own.0.min(timeout)),
        memory: cli.memory.as_deref().map(Memory::parse).transpose()?,
        next: driver.install.to_owned(),
    })
}

/// Text as it is, the `text` or `content` of an object as messages have them, anything else as JSON.
fn prompt(arguments: &Value) -> Result<String, Problem> {
    let field = |name: &str| {
        let content = serde_json::from_value::<Content>(arguments.get(name)?.clone()).ok()?;
        Some(content.plain_text()).filter(|text| !text.trim().is_empty())
    };
    let prompt = match arguments {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => field("text")
            .or_else(|| field("content"))
            .unwrap_or_else(|| other.to_string()),
    };
    if prompt.trim().is_empty() {
        return Err(Problem::new(Code::ToolInvalid, "there is nothing to ask the agent")
            .field("text")
            .next("give it `text`"));
    }
    Ok(prompt)
}

fn failure(driver: &Driver, transcript: &Transcript<'_>, exit: &Exit) -> Option<Problem> {
    let failed = |why: &str| Problem::new(Code::ToolFailed, format!("{}: {why}", driver.name));
    if let Some(why) = transcript.failure() {
        return Some(failed(why).next(format!("ask {} by hand, as the mesh's user", driver.name)));
    }
    if !exit.is_success() {
        let problem = exit.problem();
        return Some(match transcript.warning() {
            Some(why) => Problem {
                detail: format!("{} ({why})", problem.detail),
                ..problem
            },
            None => problem,
        });
    }
    if transcript.is_done() {
        return None;
    }
    let why = transcript.warning().unwrap_or_else(|| exit.last_words());
    let why = if why.is_empty() {
        String::new()
    } else {
        format!(": {why}")
    };
    Some(
        failed(&format!("it ended without a result{why}"))
            .next("use a version that prints JSON events, and arguments that do not change its output"),
    )
}
