//! Reads what an agent's command line prints, by the rules of its driver. What was handed on piece by piece is, joined,
//! the text of the answer: nothing is taken back, nothing comes later.

use mesh_types::{Code, Problem};
use serde_json::{Value, json};

use super::drivers::{Driver, Is, Rule, What};

/// Longest line. Results of the agent's own tools come in lines too, pictures among them.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
const BETWEEN_MESSAGES: &str = "\n\n";

pub(super) struct Transcript<'a> {
    driver: &'static Driver,
    text_bytes_max: usize,
    on_text: &'a mut (dyn FnMut(String) + Send),
    line: Vec<u8>,
    text: String,
    /// The next piece begins another message.
    is_broken: bool,
    has_deltas: bool,
    last_message: String,
    answer: Option<String>,
    session: Option<String>,
    tokens_in: u64,
    tokens_out: u64,
    cost_usd: f64,
    is_done: bool,
    failure: Option<String>,
    warning: Option<String>,
}

impl<'a> Transcript<'a> {
    pub(super) fn new(
        driver: &'static Driver,
        text_bytes_max: usize,
        on_text: &'a mut (dyn FnMut(String) + Send),
    ) -> Self {
        Self {
            driver,
            text_bytes_max,
            on_text,
            line: Vec::new(),
            text: String::new(),
            is_broken: false,
            has_deltas: false,
            last_message: String::new(),
            answer: None,
            session: None,
            tokens_in: 0,
            tokens_out: 0,
            cost_usd: 0.0,
            is_done: false,
            failure: None,
            warning: None,
        }
    }

    /// Bytes as they come; lines and characters may be cut anywhere. Fails when a limit is passed.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.line);
            self.read(&line)?;
        }
        self.line.extend_from_slice(rest);
        if self.line.len() > LINE_BYTES_MAX {
            return Err(Problem::new(
                Code::ToolFailed,
                format!("{} wrote a line of more than {LINE_BYTES_MAX} bytes", self.driver.name),
            )
            .next("let it read and write less at once"));
        }
        Ok(())
    }

    /// What came after the last line end is a line too.
    pub(super) fn finish(&mut self) -> Result<(), Problem> {
        let line = std::mem::take(&mut self.line);
        self.read(&line)
    }

    /// Why the run failed, as far as its lines say.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// What may have been the reason when it does not say that it failed.
    pub(super) fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    pub(super) const fn is_done(&self) -> bool {
        self.is_done
    }

    /// Input and output tokens, US dollars.
    pub(super) const fn usage(&self) -> (u64, u64, f64) {
        (self.tokens_in, self.tokens_out, self.cost_usd)
    }

    /// `text` is all that was said, `session` goes on with it, `answer` is the last message where more was said.
    pub(super) fn output(mut self) -> Result<Value, Problem> {
        let answer = self
            .answer
            .take()
            .unwrap_or_else(|| std::mem::take(&mut self.last_message));
        if self.text.is_empty() {
            self.say(&answer)?;
        }
        let mut output = json!({"text": self.text});
        if let Some(session) = self.session {
            output["session"] = session.into();
        }
        if answer.trim() != self.text.trim() && !answer.trim().is_empty() {
            output["answer"] = answer.into();
        }
        Ok(output)
    }

    fn read(&mut self, line: &[u8]) -> Result<(), Problem> {
        let Ok(line @ Value::Object(_)) = serde_json::from_slice::<Value>(line) else {
            return Ok(());
        };
        let (mut tokens_in, mut tokens_out) = (None, None);
        for rule in self.driver.rules.iter().filter(|rule| holds(rule, &line)) {
            let Some(found) = line.pointer(rule.at).filter(|found| !found.is_null()) else {
                continue;
            };
            match rule.what {
                What::TokensIn => add(&mut tokens_in, found),
                What::TokensOut => add(&mut tokens_out, found),
                what => self.apply(what, found)?,
            }
        }
        self.tokens_in = tokens_in.unwrap_or(self.tokens_in);
        self.tokens_out = tokens_out.unwrap_or(self.tokens_out);
        Ok(())
    }

    fn apply(&mut self, what: What, found: &Value) -> Result<(), Problem> {
        let text = || found.as_str().map(str::to_owned).filter(|text| !text.trim().is_empty());
        match what {
            What::Delta => {
                self.has_deltas = true;
                return self.say(found.as_str().unwrap_or_default());
            }
            What::Message if !self.has_deltas => {
                self.is_broken = true;
                return self.say(&plain_text(found));
            }
            What::Message | What::TokensIn | What::TokensOut => {}
            What::Break => self.is_broken = true,
            What::Answer => self.answer = text(),
            What::Session => self.session = text().or(self.session.take()),
            What::CostUsd => self.cost_usd = found.as_f64().filter(|cost| *cost >= 0.0).unwrap_or(self.cost_usd),
            What::Done => self.is_done = true,
            What::Failed => self.failure = self.failure.take().or_else(text),
            What::Warning => self.warning = text().or(self.warning.take()),
        }
        Ok(())
    }

    fn say(&mut self, piece: &str) -> Result<(), Problem> {
        if piece.is_empty() {
            return Ok(());
        }
        let mut said = String::new();
        if std::mem::take(&mut self.is_broken) {
            self.last_message.clear();
            if !self.text.is_empty() {
                said.push_str(BETWEEN_MESSAGES);
            }
        }
        said.push_str(piece);
        if self.text.len() + said.len() > self.text_bytes_max {
            return Err(super::runner::too_long(self.driver.name, self.text_bytes_max));
        }
        self.last_message.push_str(piece);
        self.text.push_str(&said);
        (self.on_text)(said);
        Ok(())
    }
}

fn holds(rule: &Rule, line: &Value) -> bool {
    rule.when.iter().all(|(at, is)| {
        let found = line.pointer(at);
        match is {
            Is::Text(text) => found.and_then(Value::as_str) == Some(*text),
            Is::NotText(text) => found.and_then(Value::as_str) != Some(*text),
            Is::True => found == Some(&Value::Bool(true)),
            Is::NotZero => found.and_then(Value::as_i64).is_some_and(|number| number != 0),
            Is::Absent => found.is_none_or(Value::is_null),
        }
    })
}

fn add(sum: &mut Option<u64>, found: &Value) {
    if let Some(tokens) = found.as_u64() {
        *sum = Some(sum.unwrap_or(0).saturating_add(tokens));
    }
}

fn plain_text(found: &Value) -> String {
    let is_text = |block: &&Value| block.get("type").and_then(Value::as_str) == Some("text");
    match found {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let texts = blocks
                .iter()
                .filter(is_text)
                .filter_map(|block| block.get("text")?.as_str());
            texts.collect::<Vec<_>>().join(BETWEEN_MESSAGES)
        }
        _ => String::new(),
    }
}
