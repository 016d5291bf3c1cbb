//! What happens in a run, as AG-UI events: each message, step and tool call opens and closes in order, and nothing
//! follows the end of the run.

use mesh_api::execution::{State, Step};
use mesh_api::inference::FunctionCall;
use mesh_api::journal::StepKind;
use mesh_types::Problem;
use serde_json::{Value, json};

use super::input::RunAgentInput;
use crate::http::followed::{Ending, Told, text_of};

/// The text that is being said.
struct Open {
    step: u32,
    id: String,
    text: String,
}

pub(super) struct Fold {
    thread: String,
    run: String,
    /// Of messages that this run adds: begins their ids.
    name: String,
    /// Messages as a client shows them now, those of the input first.
    messages: Vec<Value>,
    open: Option<Open>,
    said: u32,
    over: bool,
}

impl Fold {
    /// `name` is unique for this run.
    pub(super) fn new(input: RunAgentInput, name: String) -> Self {
        Self {
            thread: input.thread_id,
            run: input.run_id,
            name,
            messages: input.messages,
            open: None,
            said: 0,
            over: false,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn has_said_nothing(&self) -> bool {
        self.said == 0
    }

    pub(super) fn begin(&mut self) -> Vec<Value> {
        vec![json!({"type": "RUN_STARTED", "threadId": self.thread, "runId": self.run})]
    }

    pub(super) fn take(&mut self, told: Told) -> Vec<Value> {
        let mut out = Vec::new();
        match told {
            Told::Text { step, text } => self.say(step, &text, &mut out),
            Told::Reset { step } => self.start_over(step, &mut out),
            Told::Step(step) => self.step(&step, &mut out),
            Told::State(state, data) => {
                out.push(json!({"type": "CUSTOM", "name": format!("invocation.{}", state.as_str()), "value": data}));
            }
            Told::Asked(data) => out.push(json!({"type": "CUSTOM", "name": "approval.requested", "value": data})),
            Told::Ended(ending) => self.end(*ending, &mut out),
        }
        out
    }

    /// It ends with an error.
    pub(super) fn broken(&mut self, problem: &Problem) -> Vec<Value> {
        let mut out = Vec::new();
        self.close(&mut out);
        self.over = true;
        let next = problem
            .next
            .as_ref()
            .map(|next| format!(" ({next})"))
            .unwrap_or_default();
        out.push(json!({"type": "RUN_ERROR", "message": format!("{}{next}", problem.detail), "code": problem.kind}));
        out
    }

    pub(super) fn say(&mut self, step: u32, text: &str, out: &mut Vec<Value>) {
        if text.is_empty() {
            return;
        }
        if self.open.as_ref().is_none_or(|open| open.step != step) {
            self.close(out);
            self.said += 1;
            let id = format!("{}-{}", self.name, self.said);
            out.push(json!({"type": "TEXT_MESSAGE_START", "messageId": id, "role": "assistant"}));
            self.open = Some(Open {
                step,
                id,
                text: String::new(),
            });
        }
        if let Some(open) = &mut self.open {
            open.text.push_str(text);
            out.push(json!({"type": "TEXT_MESSAGE_CONTENT", "messageId": open.id, "delta": text}));
        }
    }

    /// The text so far is void: the client shows all messages but that one.
    pub(super) fn start_over(&mut self, step: u32, out: &mut Vec<Value>) {
        let Some(open) = self.open.take_if(|open| open.step == step) else {
            return;
        };
        out.push(json!({"type": "TEXT_MESSAGE_END", "messageId": open.id}));
        out.push(json!({"type": "MESSAGES_SNAPSHOT", "messages": self.messages}));
    }

    fn close(&mut self, out: &mut Vec<Value>) {
        if let Some(Open { id, text, .. }) = self.open.take() {
            out.push(json!({"type": "TEXT_MESSAGE_END", "messageId": id}));
            self.messages
                .push(json!({"id": id, "role": "assistant", "content": text}));
        }
    }

    fn step(&mut self, step: &Step, out: &mut Vec<Value>) {
        self.close(out);
        let name = format!("{} {}", step.number, step.name);
        out.push(json!({"type": "STEP_STARTED", "stepName": name}));
        if matches!(step.kind, StepKind::Tool | StepKind::Child) {
            self.tool(step, out);
        }
        out.push(json!({"type": "STEP_FINISHED", "stepName": name}));
    }

    /// A tool of the agent's own, which has run.
    fn tool(&mut self, step: &Step, out: &mut Vec<Value>) {
        let arguments = step.input.as_ref().map(|input| input.get("arguments").unwrap_or(input));
        let call = FunctionCall {
            id: format!("{}-call-{}", self.name, step.number),
            name: step.name.clone(),
            arguments: arguments.cloned().unwrap_or_default().to_string(),
        };
        self.call(&call, out);
        let result = match (&step.error, &step.output) {
            (Some(problem), _) => format!("error: {problem}"),
            (None, Some(output)) => text_of(output),
            (None, None) => String::new(),
        };
        let id = format!("{}-result-{}", self.name, step.number);
        out.push(
            json!({"type": "TOOL_CALL_RESULT", "messageId": id, "toolCallId": call.id, "content": result,
            "role": "tool"}),
        );
        self.messages
            .push(json!({"id": id, "role": "tool", "toolCallId": call.id, "content": result}));
    }

    fn call(&mut self, call: &FunctionCall, out: &mut Vec<Value>) {
        out.push(json!({"type": "TOOL_CALL_START", "toolCallId": call.id, "toolCallName": call.name}));
        out.push(json!({"type": "TOOL_CALL_ARGS", "toolCallId": call.id, "delta": call.arguments}));
        out.push(json!({"type": "TOOL_CALL_END", "toolCallId": call.id}));
        self.messages
            .push(json!({"id": call.id, "role": "assistant", "toolCalls": [call.to_value()]}));
    }

    fn end(&mut self, ending: Ending, out: &mut Vec<Value>) {
        let is_cancelled = ending.state == State::Cancelled;
        let usage = json!([{"inputTokens": ending.usage.input_tokens, "outputTokens": ending.usage.output_tokens}]);
        let output = match (is_cancelled, ending) {
            (true, _) => Value::Null,
            (false, ending) => match ending.outcome_of(&self.name) {
                Ok(output) => output,
                Err(problem) => return out.extend(self.broken(&problem)),
            },
        };
        let text = text_of(&output);
        if self.said == 0 && !text.is_empty() {
            self.say(0, &text, out);
        }
        let calls: Vec<FunctionCall> = output["tool_calls"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(FunctionCall::parse)
            .collect();
        self.finish(is_cancelled, &calls, out);
        if let Some(last) = out.last_mut() {
            last["usage"] = usage;
            if !output.is_null() {
                last["result"] = output;
            }
        }
    }

    /// `calls` are the client's to answer.
    pub(super) fn finish(&mut self, is_cancelled: bool, calls: &[FunctionCall], out: &mut Vec<Value>) {
        self.close(out);
        for call in calls {
            self.call(call, out);
        }
        let pending: Vec<&str> = calls.iter().map(|call| call.id.as_str()).collect();
        let outcome = match (is_cancelled, pending.is_empty()) {
            (true, _) => json!({"type": "cancelled"}),
            (false, true) => json!({"type": "success"}),
            (false, false) => json!({"type": "success", "pendingToolCallIds": pending}),
        };
        self.over = true;
        out.push(json!({"type": "RUN_FINISHED", "threadId": self.thread, "runId": self.run, "outcome": outcome}));
    }
}

#[cfg(test)]
mod tests {
    use mesh_api::journal::Usage;
    use mesh_types::Code;

    use super::*;

    fn fold() -> Fold {
        let input = json!({"threadId": "t", "runId": "r", "messages": [{"id": "1", "role": "user", "content": "hi"}]});
        Fold::new(serde_json::from_value(input).unwrap(), "inv_1".into())
    }

    fn text(step: u32, text: &str) -> Told {
        Told::Text {
            step,
            text: text.to_owned(),
        }
    }

    fn step(number: u32, kind: &str, output: &Value) -> Told {
        let step = json!({"number": number, "kind": kind, "name": "look", "effect": "pure",
            "input": {"arguments": {"n": 1}}, "output": output, "error": null, "usage": {}, "attempt": 1, "epoch": 1,
            "started_at": "2026-01-02T03:04:05Z", "ended_at": null});
        Told::Step(serde_json::from_value(step).unwrap())
    }

    fn ended(state: State, output: Value) -> Told {
        Told::Ended(Box::new(Ending {
            state,
            output: Some(output),
            error: (state == State::Failed).then(|| Problem::new(Code::ModelFailed, "no model")),
            reason: None,
            usage: Usage::default(),
        }))
    }

    fn kinds(fold: &mut Fold, all: Vec<Told>) -> Vec<String> {
        let events = all.into_iter().flat_map(|told| fold.take(told));
        events.map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn messages_steps_and_calls_open_and_close_in_order() {
        let mut fold = fold();
        let call = json!({"id": "c", "type": "function", "function": {"name": "ask", "arguments": "{}"}});
        let all = vec![
            text(1, "let "),
            text(1, "me"),
            step(1, "model", &json!({})),
            step(2, "tool", &json!({"text": "7"})),
            text(3, "so"),
            step(3, "model", &json!({})),
            ended(State::Completed, json!({"text": "so", "tool_calls": [call]})),
        ];
        assert_eq!(
            kinds(&mut fold, all).join(" "),
            "TEXT_MESSAGE_START TEXT_MESSAGE_CONTENT TEXT_MESSAGE_CONTENT TEXT_MESSAGE_END STEP_STARTED STEP_FINISHED \
             STEP_STARTED TOOL_CALL_START TOOL_CALL_ARGS TOOL_CALL_END TOOL_CALL_RESULT STEP_FINISHED \
             TEXT_MESSAGE_START TEXT_MESSAGE_CONTENT TEXT_MESSAGE_END STEP_STARTED STEP_FINISHED \
             TOOL_CALL_START TOOL_CALL_ARGS TOOL_CALL_END RUN_FINISHED"
        );
        assert!(fold.is_over());
        assert_eq!(fold.messages.len(), 6);
    }

    #[test]
    fn what_starts_over_is_taken_back() {
        let mut fold = fold();
        fold.take(text(1, "half"));
        let events = fold.take(Told::Reset { step: 1 });
        assert_eq!(events[0]["type"], "TEXT_MESSAGE_END");
        assert_eq!(events[1]["messages"].as_array().unwrap().len(), 1);
        let again = fold.take(text(1, "all"));
        assert_eq!(again[0]["messageId"], "inv_1-2", "another message");
    }

    #[test]
    fn a_failure_is_an_error_and_a_cancellation_is_none() {
        let mut failed = fold();
        let kinds_of_failed = kinds(&mut failed, vec![text(1, "x"), ended(State::Failed, Value::Null)]);
        assert_eq!(
            kinds_of_failed.join(" "),
            "TEXT_MESSAGE_START TEXT_MESSAGE_CONTENT TEXT_MESSAGE_END RUN_ERROR"
        );
        let mut cancelled = fold();
        let events = cancelled.take(ended(State::Cancelled, Value::Null));
        assert_eq!(events[0]["outcome"]["type"], "cancelled");
    }

    #[test]
    fn what_is_not_streamed_is_said_at_the_end() {
        let mut fold = fold();
        let events = fold.take(ended(State::Completed, json!({"value": 7})));
        assert_eq!(events[1]["delta"], r#"{"value":7}"#);
        assert_eq!(events[3]["result"]["value"], 7);
    }
}
