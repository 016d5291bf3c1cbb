//! One call: the model, then its fallbacks, each tried again where that helps. What to do after a failure is decided in
//! `decide`, without effects; waiting, asking and counting are here.

mod decide;
mod metered;
mod traced;
pub(crate) mod vectors;

use std::borrow::Cow;
use std::time::Duration;

use mesh_api::inference::{Chunk, CompleteRequest, Completion, FailedModel};
use mesh_api::journal::Usage;
use mesh_models::{Answer, Chunks, Try, TryError, estimate_tokens};
use mesh_types::{Code, Problem, Tenant};
use tokio::time::{Instant, timeout_at};

use crate::config::{Config, LOCAL_GRACE};
use crate::governor::{Governor, Permit, whole_seconds};
use crate::providers::{Providers, Route};
use crate::structured::{self, Schema};
use decide::{Failure, Left, Next, Tried};
use metered::{Bill, Metered};

/// The end of the mock's chain, when nothing else is configured.
const LAST_RESORT: &str = "mock";
/// Tokens that an answer is taken to have before it is there, where the request sets no bound.
const OUTPUT_TOKENS_GUESS: u32 = 512;

/// What a call is made with.
#[derive(Clone, Copy)]
pub(crate) struct Means<'a> {
    pub(crate) config: &'a Config,
    pub(crate) providers: &'a Providers,
    pub(crate) governor: &'a Governor,
    pub(crate) tenant: &'a Tenant,
    /// Counts a try that was paid for; answers what it cost in US dollars.
    pub(crate) bill: &'a Bill<'a>,
    /// Tries that earlier calls of the same step have made.
    pub(crate) tries_before: u32,
    /// Spreads the pauses of calls that fail together.
    pub(crate) seed: u64,
}

/// Runs the chain to its first answer. Each try is announced by [`Chunk::Attempt`] before its first text.
pub(crate) async fn complete<C: Chunks>(
    means: Means<'_>,
    request: &CompleteRequest,
    chunks: &mut C,
) -> Result<Completion, Problem> {
    check(means.config, request)?;
    let mut run = Run {
        means,
        request,
        schema: Schema::of(request)?,
        chunks,
        attempt: 0,
        took: Took::default(),
        failed: Vec::new(),
        worst: None,
        ask_again_in: None,
        deadline: Instant::now() + means.config.limits.call_timeout(),
    };
    let models = chain(request, means.providers.ends_in_mock());
    for (number, model) in models.iter().enumerate() {
        match means.providers.route(model, request) {
            Ok(route) => {
                let mut later = models[number + 1..].iter();
                let has_next = later.any(|model| means.providers.route(model, request).is_ok());
                if let Some(completion) = run.model(model, &route, has_next).await {
                    return Ok(completion);
                }
            }
            Err(no) => run.note(model, &no.provider, no.reason, no.code),
        }
    }
    Err(run.problem())
}

/// The models of a call in order, each once.
fn chain(request: &CompleteRequest, ends_in_mock: bool) -> Vec<&str> {
    let mut models: Vec<&str> = Vec::new();
    let named = std::iter::once(&request.model)
        .chain(&request.fallbacks)
        .map(String::as_str);
    for model in named.chain(ends_in_mock.then_some(LAST_RESORT)) {
        if !models.contains(&model) {
            models.push(model);
        }
    }
    models
}

fn check(config: &Config, request: &CompleteRequest) -> Result<(), Problem> {
    let invalid = |field: &str, detail: &str| Err(Problem::new(Code::InvalidRequest, detail).field(field));
    if request.model.is_empty() {
        return invalid("model", "no model is named");
    }
    if request.messages.is_empty() {
        return invalid("messages", "there is no message to answer");
    }
    if request.fallbacks.len() > config.limits.fallbacks_max {
        return invalid("fallbacks", "too many fallbacks");
    }
    if request
        .idempotency_key
        .as_ref()
        .is_some_and(|key| key.chars().any(|c| !c.is_ascii_graphic()))
    {
        return invalid(
            "idempotency_key",
            "only visible ASCII characters can be sent to a provider",
        );
    }
    Ok(())
}

/// What all tries of a call took together, as far as it is known.
#[derive(Debug, Clone, Copy, Default)]
struct Took {
    usage: Usage,
    cached_tokens: u64,
    is_estimated: bool,
}

struct Run<'a, C> {
    means: Means<'a>,
    request: &'a CompleteRequest,
    schema: Option<Schema>,
    chunks: &'a mut C,
    attempt: u32,
    took: Took,
    failed: Vec<FailedModel>,
    /// What the call answers when all fail.
    worst: Option<Code>,
    /// The soonest that one of the models may take a call.
    ask_again_in: Option<Duration>,
    deadline: Instant,
}

impl<C: Chunks> Run<'_, C> {
    /// All tries at one model.
    async fn model(&mut self, model: &str, route: &Route<'_>, has_next: bool) -> Option<Completion> {
        let deadline = if route.provider.is_local() {
            self.deadline + LOCAL_GRACE
        } else {
            self.deadline
        };
        let mut asked = Cow::Borrowed(self.request);
        let mut tried = Tried::default();
        loop {
            let failure = match self.attempt(route, &asked, deadline, has_next).await {
                Ok(answer) => match self.schema.as_ref().map_or(Ok(()), |schema| schema.check(&answer)) {
                    Ok(()) => return Some(self.completion(model, route, answer)),
                    Err(mistakes) => {
                        asked = Cow::Owned(structured::corrected(self.request, &answer, &mistakes));
                        Failure::Mismatch(mistakes)
                    }
                },
                Err(failure) => failure,
            };
            let left = Left {
                time: deadline.saturating_duration_since(Instant::now()),
                has_next,
            };
            let random = decide::random(self.means.seed, self.attempt);
            match decide::next(&failure, &mut tried, left, &self.means.config.limits, random) {
                Next::Again(pause) => tokio::time::sleep(pause).await,
                Next::MoveOn => {
                    self.give_up(model, route, &failure, tried);
                    return None;
                }
            }
        }
    }

    async fn attempt(
        &mut self,
        route: &Route<'_>,
        asked: &CompleteRequest,
        deadline: Instant,
        has_next: bool,
    ) -> Result<Answer, Failure> {
        if Instant::now() >= deadline {
            return Err(TryError::Timeout("the call's time was used up before").into());
        }
        let permit = self.permit(route, asked, deadline, has_next).await?;
        self.attempt += 1;
        self.chunks.send(Chunk::Attempt(self.attempt)).await;
        let call = Try {
            model: &route.model,
            request: asked,
            attempt: self.attempt,
        };
        let attempt = self.means.tries_before.saturating_add(self.attempt);
        let mut metered = Metered::new(self.chunks, self.means.bill, route, attempt);
        let mut span = traced::chat(route, asked, attempt);
        let ended = span.run(timeout_at(deadline, route.provider.attempt(call, &mut metered)));
        let ended = ended.await;
        let tokens = match &ended {
            Ok(Ok(answer)) => Some(answer.tokens.unwrap_or_else(|| estimate_tokens(asked, answer))),
            _ => metered.so_far(),
        };
        let cost_usd = metered.settle(tokens);
        traced::ended(&mut span, &ended, tokens);
        drop(span);
        if let Some(tokens) = tokens {
            let usage = Usage {
                input_tokens: tokens.input,
                output_tokens: tokens.output,
                cost_usd,
            };
            self.took.usage = self.took.usage.plus(usage);
            self.took.cached_tokens += tokens.cached;
            self.took.is_estimated |= matches!(&ended, Ok(Ok(answer)) if answer.tokens.is_none());
        }
        let tokens = tokens.map(|tokens| tokens.input.saturating_add(tokens.output));
        // A try that our own deadline cut says nothing of its provider.
        if let (Some(permit), Ok(result)) = (permit, &ended) {
            permit.settle(result.as_ref().map(drop), tokens);
        }
        let result = ended.unwrap_or(Err(TryError::Timeout("the call's time is used up")));
        result.map_err(Failure::from)
    }

    /// `None`: it needs none.
    async fn permit(
        &self,
        route: &Route<'_>,
        asked: &CompleteRequest,
        deadline: Instant,
        has_next: bool,
    ) -> Result<Option<Permit>, Failure> {
        if route.provider.is_local() {
            return Ok(None);
        }
        let input = estimate_tokens(asked, &Answer::default()).input;
        let tokens = input.saturating_add(asked.max_tokens.unwrap_or(OUTPUT_TOKENS_GUESS).into());
        let now = Instant::now();
        // Who is asked next needs time too.
        let by = if has_next {
            now + deadline.saturating_duration_since(now) / 2
        } else {
            deadline
        };
        let governor = self.means.governor;
        let permit = governor.admit(route.provider_name, self.means.tenant, tokens, by).await;
        permit.map(Some).map_err(Failure::Refused)
    }

    fn completion(&mut self, model: &str, route: &Route<'_>, answer: Answer) -> Completion {
        Completion {
            usage: self.took.usage,
            usage_estimated: self.took.is_estimated,
            text: answer.text,
            model: model.to_owned(),
            provider: route.provider_name.to_owned(),
            failed: std::mem::take(&mut self.failed),
            tool_calls: answer.tool_calls,
            finish_reason: answer.finish_reason,
            attempt: self.attempt,
            cached_tokens: self.took.cached_tokens,
            from_cache: false,
        }
    }

    fn give_up(&mut self, model: &str, route: &Route<'_>, failure: &Failure, tried: Tried) {
        let reason = failure.reason(tried);
        tracing::warn!(model, provider = route.provider_name, reason, "a model failed");
        if let Some(wait) = failure.ask_again_in(Instant::now()) {
            self.ask_again_in = Some(self.ask_again_in.map_or(wait, |known| known.min(wait)));
        }
        self.note(model, route.provider_name, reason, failure.code());
    }

    fn note(&mut self, model: &str, provider: &str, reason: String, code: Code) {
        self.failed.push(FailedModel {
            model: model.to_owned(),
            provider: provider.to_owned(),
            reason,
        });
        // A model that may answer later says most about the call, one that was never asked least.
        let rank = |code: Code| match code {
            Code::ModelBusy => 4,
            Code::ModelFailed => 3,
            Code::ModelRefused => 2,
            Code::ProviderNotConfigured => 1,
            _ => 0,
        };
        if self.worst.is_none_or(|worst| rank(code) > rank(worst)) {
            self.worst = Some(code);
        }
    }

    fn problem(self) -> Problem {
        let tried: Vec<String> = self
            .failed
            .iter()
            .map(|failed| format!("{} ({}): {}", failed.model, failed.provider, failed.reason))
            .collect();
        let mut problem = Problem::new(self.worst.unwrap_or(Code::ModelFailed), tried.join("; "));
        let Some(wait) = self.ask_again_in else {
            return problem.next("configure a provider, or end the agent's fallbacks with `mock`");
        };
        let seconds = whole_seconds(wait);
        problem.retry_after_seconds = Some(seconds);
        problem.next(format!(
            "ask again in {seconds} s, or name a fallback at another provider"
        ))
    }
}

#[cfg(test)]
mod tests;
