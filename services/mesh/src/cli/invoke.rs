//! `mesh invoke`: starts an invocation and follows it, its text as it is made.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use futures::StreamExt;
use mesh_api::execution::{Invocation, InvokeRequest, State};
use mesh_api::journal::WaitItem;
use mesh_types::{AgentName, InvocationId};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Session;
use super::get::invocation;
use super::invocations::{summary, text_of};
use super::waits;
use crate::client::Client;
use crate::failure::{Told, Usage, advised, problem_next, problem_text};
use crate::output::Output;

/// Send an invocation to an agent and stream the answer
///
/// The invocation is durable once accepted: ending this command does not end it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InvokeArgs {
    agent: AgentName,
    /// What to say, as the payload's `text`
    text: Option<String>,
    /// Session: its invocations run one at a time, in order
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    /// JSON object to send as payload, `-` for stdin
    #[arg(short, long, value_name = "FILE")]
    payload: Option<PathBuf>,
    /// Return once it is accepted
    #[arg(long)]
    no_wait: bool,
    /// The same key again is the same invocation
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

const EXAMPLES: &str = "Examples:
  mesh invoke sofia \"hello\"
  mesh invoke sofia \"and now?\" --session ann
  mesh invoke sofia --payload question.json --json
  mesh invoke sofia \"take your time\" --no-wait

Exit codes: 0 completed (with --no-wait: accepted), 1 failed, cancelled or dead, 2 wrong use of the command line,
130 left by Ctrl-C: the invocation goes on.";

/// Connections in a row that may bring nothing, and by how much each waits longer than the one before.
const CONNECTIONS_MAX: u32 = 10;
const RECONNECT_STEP: Duration = Duration::from_millis(200);

/// So long nothing may happen before it is said where the invocation is.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// As a shell has it of a command that SIGINT ended.
const INTERRUPTED: i32 = 130;

pub(crate) async fn run(args: InvokeArgs, session: &Session) -> anyhow::Result<()> {
    let request = InvokeRequest {
        payload: payload(args.payload.as_deref(), args.text)?,
        session: args.session,
        idempotency_key: args.idempotency_key,
        ..InvokeRequest::default()
    };
    let (client, output) = (session.client()?, session.output);
    let accepted: Invocation = client
        .post(&format!("/api/v1/agents/{}/invocations", args.agent), &request)
        .await?;
    if args.no_wait {
        return output.show(&accepted, || output.line(&accepted.id.to_string()));
    }
    let mut screen = Screen::new(output);
    tokio::select! {
        followed = follow(&client, &accepted, &mut screen) => followed?,
        Ok(()) = tokio::signal::ctrl_c() => left(output, accepted.id),
    }
    let ended = invocation(&client, accepted.id).await?;
    if output.is_table() {
        screen.end(&ended)?;
    } else {
        output.show(&ended, || Ok(()))?;
    }
    if ended.state == State::Completed {
        Ok(())
    } else {
        Err(Told.into())
    }
}

/// Ends this command, not the invocation.
fn left(output: Output, id: InvocationId) -> ! {
    // The terminal shows `^C` where its cursor was.
    let start = if std::io::stderr().is_terminal() { "\n" } else { "" };
    output.note(&format!("{start}{id} goes on; mesh cancel {id} stops it"));
    std::process::exit(INTERRUPTED)
}

/// The file's object with the text in it.
fn payload(file: Option<&Path>, text: Option<String>) -> anyhow::Result<Value> {
    let mut payload = match file {
        None => Map::new(),
        Some(path) => {
            let bytes = read(path).with_context(|| format!("cannot read the payload {}", path.display()))?;
            let value = mesh_types::json::parse_value(&bytes)
                .map_err(|problem| Usage(format!("the payload {}: {}", path.display(), problem.detail)))?;
            let Value::Object(object) = value else {
                return Err(Usage(format!("the payload {} must be a JSON object", path.display())).into());
            };
            object
        }
    };
    if let Some(text) = text {
        payload.insert("text".into(), text.into());
    }
    Ok(Value::Object(payload))
}

pub(super) fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    if path.as_os_str() != "-" {
        return std::fs::read(path);
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads events to the end of the invocation, over as many connections as that takes.
async fn follow(client: &Client, accepted: &Invocation, screen: &mut Screen) -> anyhow::Result<()> {
    let path = format!("/api/v1/invocations/{}/events", accepted.id);
    let mut last_id: Option<String> = None;
    let mut broken = 0;
    loop {
        match client.events(&path, last_id.as_deref()).await {
            Ok(None) => return Ok(()),
            Ok(Some(events)) => {
                let mut events = pin!(events);
                while let Some(Ok(event)) = screen.explaining(client, accepted.id, events.next()).await {
                    if !event.id.is_empty() {
                        last_id = Some(event.id);
                        broken = 0;
                    }
                    screen.take(&event.event, &event.data)?;
                }
            }
            Err(error) if last_id.is_none() => return Err(error),
            Err(error) if broken >= CONNECTIONS_MAX => {
                let next = format!("it is durable and goes on: mesh describe invocation {}", accepted.id);
                return Err(advised(error, next));
            }
            Err(_) => {}
        }
        if screen.has_ended {
            return Ok(());
        }
        // The stream broke off: on from where it was, after a while if that brings nothing.
        broken += 1;
        if broken > CONNECTIONS_MAX {
            let next = format!("it is durable and goes on: mesh describe invocation {}", accepted.id);
            return Err(advised(anyhow::anyhow!("the stream of events breaks off"), next));
        }
        tokio::time::sleep(RECONNECT_STEP * (broken - 1)).await;
    }
}

#[derive(Deserialize)]
struct Token {
    text: String,
    step: u32,
    attempt: u32,
}

#[derive(Deserialize)]
struct Place {
    step: u32,
}

#[derive(Deserialize)]
struct Waiting {
    id: InvocationId,
    waits_for: Vec<WaitItem>,
}

/// What is on the terminal so far: the streamed text of one attempt of one step.
struct Screen {
    output: Output,
    shown: String,
    at: Option<(u32, u32)>,
    /// Waits that were told; waiting for one of them again is nothing new.
    waits: BTreeSet<String>,
    /// Whether a silence was explained; once is enough.
    is_explained: bool,
    has_ended: bool,
}

impl Screen {
    fn new(output: Output) -> Self {
        Self {
            output,
            shown: String::new(),
            at: None,
            waits: BTreeSet::new(),
            is_explained: false,
            has_ended: false,
        }
    }

    fn take(&mut self, name: &str, data: &str) -> anyhow::Result<()> {
        match name {
            "token" => {
                let token: Token = serde_json::from_str(data).context("an event of the mesh cannot be read")?;
                self.token(&token)
            }
            "reset" => {
                let place: Place = serde_json::from_str(data).context("an event of the mesh cannot be read")?;
                self.forget(Some(place.step), "the model starts over")
            }
            "invocation.waiting" => {
                let waiting: Waiting = serde_json::from_str(data).context("an event of the mesh cannot be read")?;
                self.waits(&waiting)
            }
            name => {
                let state = name
                    .strip_prefix("invocation.")
                    .and_then(|state| state.parse::<State>().ok());
                self.has_ended |= state.is_some_and(State::is_ended);
                Ok(())
            }
        }
    }

    fn token(&mut self, token: &Token) -> anyhow::Result<()> {
        let at = (token.step, token.attempt);
        if self.at.is_some_and(|before| before != at) {
            // A later step's text is another text; another attempt's replaces it.
            self.forget(None, "")?;
        }
        self.at = Some(at);
        self.shown.push_str(&token.text);
        if self.output.is_table() {
            self.output.text(&token.text)
        } else {
            Ok(())
        }
    }

    /// Says what is waited for and how to end it; that may be a while.
    fn waits(&mut self, waiting: &Waiting) -> anyhow::Result<()> {
        for item in &waiting.waits_for {
            let line = waits::line(waiting.id, item);
            if self.waits.insert(line.clone()) {
                self.forget(None, "")?;
                self.output.note(&line);
            }
        }
        Ok(())
    }

    /// What `next` brings; when that takes long and nothing is shown yet, says meanwhile where the invocation is.
    async fn explaining<T>(&mut self, client: &Client, id: InvocationId, next: impl Future<Output = T>) -> T {
        let mut next = pin!(next);
        if self.is_explained || !self.shown.is_empty() || !self.waits.is_empty() {
            return next.await;
        }
        if let Ok(brought) = tokio::time::timeout(SILENCE_MAX, &mut next).await {
            return brought;
        }
        self.is_explained = true;
        // A mesh that does not answer is told when its stream breaks.
        if let Ok(found) = invocation(client, id).await
            && !found.state.is_ended()
        {
            self.output.note(&waits::silent(&found));
        }
        next.await
    }

    /// What was shown counts no more, of that step or of any.
    fn forget(&mut self, step: Option<u32>, why: &str) -> anyhow::Result<()> {
        let is_other = step.is_some() && self.at.is_some_and(|(own, _)| Some(own) != step);
        if is_other || self.shown.is_empty() {
            return Ok(());
        }
        self.shown.clear();
        self.at = None;
        if !self.output.is_table() {
            return Ok(());
        }
        let why = if why.is_empty() {
            String::new()
        } else {
            self.output.faint(&format!("[{why}]"))
        };
        self.output.text(&format!("\n{why}\n"))
    }

    /// Completes what was streamed to the recorded answer, and says who gave it.
    fn end(&mut self, ended: &Invocation) -> anyhow::Result<()> {
        let answer = ended.output.as_ref().map(text_of).unwrap_or_default();
        match answer.strip_prefix(&self.shown) {
            Some(rest) => self.output.line(rest)?,
            // The record supersedes what was streamed.
            None => self.output.text(&format!("\n{answer}\n"))?,
        }
        if let Some(error) = &ended.error {
            self.output.note(&format!("error: {}", problem_text(error)));
            if let Some(next) = problem_next(error) {
                self.output.note(&format!("next: {next}"));
            }
        }
        self.output.note(&summary(ended));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;

    fn screen() -> Screen {
        Screen::new(Output {
            format: Format::Json,
            is_colored: false,
        })
    }

    #[test]
    fn a_reset_forgets_the_text_of_its_step_only() {
        let mut screen = screen();
        screen.take("token", r#"{"text":"Hel","step":3,"attempt":1}"#).unwrap();
        screen.take("reset", r#"{"step":2,"attempt":1}"#).unwrap();
        assert_eq!(screen.shown, "Hel");
        screen.take("reset", r#"{"step":3,"attempt":2}"#).unwrap();
        assert_eq!(screen.shown, "");
        screen.take("token", r#"{"text":"Hi","step":3,"attempt":2}"#).unwrap();
        screen.take("step.recorded", "{}").unwrap();
        assert!(!screen.has_ended && screen.shown == "Hi");
        screen.take("invocation.completed", "{}").unwrap();
        assert!(screen.has_ended);
    }

    #[test]
    fn a_wait_is_told_once_and_ends_the_text_before_it() {
        let mut screen = screen();
        let id = "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let waiting = |step: u32| {
            let item = serde_json::json!({"step": step, "on": "approval", "tool": "refund"});
            serde_json::json!({"id": id, "state": "waiting", "waits_for": [item]}).to_string()
        };
        screen
            .take("token", r#"{"text":"Let me","step":1,"attempt":1}"#)
            .unwrap();
        for step in [2, 2, 3] {
            screen.take("invocation.waiting", &waiting(step)).unwrap();
        }
        assert_eq!((screen.shown.as_str(), screen.waits.len()), ("", 2));
        assert!(!screen.has_ended);
    }

    #[test]
    fn text_and_payload_are_one_object() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.json");
        std::fs::write(&file, r#"{"channel_id":"c","text":"old"}"#).unwrap();
        let both = payload(Some(&file), Some("new".into())).unwrap();
        assert_eq!(both, serde_json::json!({"channel_id": "c", "text": "new"}));
        std::fs::write(&file, "[1]").unwrap();
        assert!(payload(Some(&file), None).unwrap_err().is::<Usage>());
    }
}
