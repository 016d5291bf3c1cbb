//! One call: the model, then its fallbacks, each tried again after a transient error. Pauses and deadlines are here.

use std::time::Duration;

use mesh_api::inference::{Chunk, CompleteRequest, Completion, FailedModel};
use mesh_api::journal::Usage;
use mesh_types::{Code, Problem};
use tokio::time::{Instant, timeout_at};

use crate::config::{Config, LOCAL_GRACE};
use crate::providers::{Providers, Route};
use mesh_models::{Answer, Chunks, Try, TryError, estimate_tokens};

/// A pause between two tries never exceeds this.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(5);

/// The end of the mock's chain, when nothing else is configured.
const LAST_RESORT: &str = "mock";

/// Runs the chain to its first answer. Each try is announced by [`Chunk::Attempt`] before its first text.
pub(crate) async fn complete<C: Chunks>(
    config: &Config,
    providers: &Providers,
    request: &CompleteRequest,
    chunks: &mut C,
) -> Result<Completion, Problem> {
    check(config, request)?;
    let mut run = Run {
        config,
        request,
        chunks,
        attempt: 0,
        failed: Vec::new(),
        worst: None,
        deadline: Instant::now() + config.limits.call_timeout(),
    };
    for model in chain(request, providers.ends_in_mock()) {
        match providers.route(model, request) {
            Ok(route) => {
                if let Some(completion) = run.model(model, &route).await {
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

struct Run<'a, C> {
    config: &'a Config,
    request: &'a CompleteRequest,
    chunks: &'a mut C,
    attempt: u32,
    failed: Vec<FailedModel>,
    /// What the call answers when all fail.
    worst: Option<Code>,
    deadline: Instant,
}

impl<C: Chunks> Run<'_, C> {
    /// All tries at one model.
    async fn model(&mut self, model: &str, route: &Route<'_>) -> Option<Completion> {
        let deadline = if route.provider.is_local() {
            self.deadline + LOCAL_GRACE
        } else {
            self.deadline
        };
        let mut retries = 0;
        loop {
            let error = match self.attempt(route, deadline).await {
                Ok(answer) => return Some(self.completion(model, route, answer)),
                Err(error) => error,
            };
            let pause = self.pause(retries, &error);
            let may_retry = error.is_transient() && retries < self.config.limits.retries_max;
            if !may_retry || Instant::now() + pause >= deadline {
                self.give_up(model, route, &error, retries + 1);
                return None;
            }
            retries += 1;
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&mut self, route: &Route<'_>, deadline: Instant) -> Result<Answer, TryError> {
        if Instant::now() >= deadline {
            return Err(TryError::Timeout("the call's time was used up before"));
        }
        self.attempt += 1;
        self.chunks.send(Chunk::Attempt(self.attempt)).await;
        let call = Try {
            model: &route.model,
            request: self.request,
            attempt: self.attempt,
        };
        timeout_at(deadline, route.provider.attempt(call, self.chunks))
            .await
            .unwrap_or(Err(TryError::Timeout("the call's time is used up")))
    }

    fn completion(&mut self, model: &str, route: &Route<'_>, answer: Answer) -> Completion {
        let tokens = answer.tokens.unwrap_or_else(|| estimate_tokens(self.request, &answer));
        Completion {
            usage: Usage {
                input_tokens: tokens.input,
                output_tokens: tokens.output,
                cost_usd: self.config.cost_usd(&route.model, tokens.input, tokens.output),
            },
            usage_estimated: answer.tokens.is_none(),
            text: answer.text,
            model: model.to_owned(),
            provider: route.provider_name.to_owned(),
            failed: std::mem::take(&mut self.failed),
            tool_calls: answer.tool_calls,
            finish_reason: answer.finish_reason,
            attempt: self.attempt,
        }
    }

    fn give_up(&mut self, model: &str, route: &Route<'_>, error: &TryError, tries: u32) {
        tracing::warn!(model, provider = route.provider_name, tries, %error, "a model failed");
        let code = if error.is_refusal() {
            Code::ModelRefused
        } else {
            Code::ModelFailed
        };
        let times = if tries > 1 {
            format!(" ({tries} tries)")
        } else {
            String::new()
        };
        self.note(model, route.provider_name, format!("{error}{times}"), code);
    }

    fn note(&mut self, model: &str, provider: &str, reason: String, code: Code) {
        self.failed.push(FailedModel {
            model: model.to_owned(),
            provider: provider.to_owned(),
            reason,
        });
        // A model that may answer later says most about the call, one that was never asked least.
        let rank = |code: Code| match code {
            Code::ModelFailed => 3,
            Code::ModelRefused => 2,
            Code::ProviderNotConfigured => 1,
            _ => 0,
        };
        if self.worst.is_none_or(|worst| rank(code) > rank(worst)) {
            self.worst = Some(code);
        }
    }

    /// Doubles from one try to the next; spread by the call's key, so that callers cut off together come back apart.
    fn pause(&self, retries: u32, error: &TryError) -> Duration {
        let base = Duration::from_millis(self.config.limits.retry_delay_ms).saturating_mul(1 << retries.min(8));
        let spread = base.mul_f64(spread(
            self.request.idempotency_key.as_deref().unwrap_or(&self.request.model),
        ));
        error
            .retry_after()
            .unwrap_or(Duration::ZERO)
            .max(base + spread)
            .min(RETRY_DELAY_MAX)
    }

    fn problem(self) -> Problem {
        let tried: Vec<String> = self
            .failed
            .iter()
            .map(|failed| format!("{} ({}): {}", failed.model, failed.provider, failed.reason))
            .collect();
        let problem = Problem::new(self.worst.unwrap_or(Code::ModelFailed), tried.join("; "));
        problem.next("configure a provider, or end the agent's fallbacks with `mock`")
    }
}

/// 0 to 0.5, the same for the same text.
fn spread(text: &str) -> f64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash % 1_000) as f64 / 2_000.0
}

#[cfg(test)]
mod tests;
