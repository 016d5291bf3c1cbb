//! The agent loop, used by `execution` and `node`: a pure plan over the journal, and a driver whose effects
//! stand behind traits. No bus, no store, no ambient clock.

mod budget;
mod effects;
mod grant;
mod llm;
mod noop;
mod plan;
mod prompt;
mod request;
mod retry;
mod run;
mod steps;
mod stream;

pub use effects::{
    AppendError, Appended, Channels, Effects, Invocations, Journal, Memories, Model, Next, Outside, Then, Tokens,
};
pub use grant::{Finished, ForkEdit, Grant, Input, Task};
pub use plan::{Action, StepPlan, next};
pub use prompt::{Prompt, PromptLimits, assemble_context};
pub use request::Request;
pub use run::run_invocation;
pub use steps::{child_id, memory_id, message_id, step_key};

#[cfg(test)]
mod tests;
