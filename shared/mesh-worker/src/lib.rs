//! The agent loop, used by `execution` and `node`: a pure plan over the journal, and a driver whose effects
//! stand behind traits. No bus, no store, no ambient clock.

mod budget;
mod builtins;
mod caller;
mod calls;
mod compare;
mod consolidate;
mod differ;
mod effects;
mod ends;
mod facts;
mod flow;
mod fork_plan;
mod forked;
mod grant;
mod group;
mod limits;
mod llm;
mod mailbox;
mod memories;
mod noop;
mod offline;
mod plan;
mod prompt;
mod remote;
mod request;
mod retry;
mod run;
mod schema;
mod steps;
mod stream;
mod thread;
mod tools;
mod traced;
mod turn;
mod work;

pub use compare::compare;
pub use effects::{
    AppendError, Appended, Channels, Effects, Invocations, Journal, Memories, Model, Next, Outside, Then, Tokens,
};
pub use fork_plan::plan_fork;
pub use grant::{Finished, ForkEdit, Grant, Input, Task};
pub use group::{Settled, StepPlan, Steps, Todo};
pub use offline::replay;
pub use plan::{Action, next};
pub use prompt::{Found, Prompt, PromptLimits, assemble_context};
pub use request::Request;
pub use run::run_invocation;
pub use steps::{child_id, memory_id, message_id, step_key};
pub use thread::{answer_message, expand_prompts};

#[cfg(test)]
mod tests;
