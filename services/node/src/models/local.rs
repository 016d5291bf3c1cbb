//! The node's own endpoint: a model call with its fallbacks, in the shape of the mesh's, tokens as they come.

use std::time::Duration;

use mesh_api::inference::{Chunk, CompleteRequest, Completion, FailedModel};
use mesh_api::journal::Usage;
use mesh_models::{Answer, Chunks, OpenAi, Try, TryError, Waits, estimate_tokens};
use mesh_types::{Code, Problem};

use super::config::InferenceConfig;

/// What a completion says answered.
const PROVIDER: &str = "local";
/// A model of one's own machine may have to be read from its disk first.
const WAITS: Waits = Waits {
    connect: Duration::from_secs(5),
    first_byte: Duration::from_secs(120),
    idle: Duration::from_secs(60),
    response_bytes_max: 8 * 1024 * 1024,
};
/// Tries at one model, where an error may pass by itself.
const TRIES_MAX: u32 = 2;
const RETRY_PAUSE: Duration = Duration::from_millis(300);
/// However long the endpoint wishes: somebody waits for the answer.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub(crate) struct Local {
    client: OpenAi,
    /// Asked for, whatever the request names.
    model: Option<String>,
}

impl Local {
    /// `None`: no endpoint is configured.
    pub(crate) fn new(config: &InferenceConfig) -> Result<Option<Self>, String> {
        let Some(base) = config.endpoint()? else {
            return Ok(None);
        };
        let key = config.api_key.clone().filter(|key| !key.is_empty());
        let client = OpenAi::new(&base, key, WAITS).map_err(|error| error.to_string())?;
        let model = config.model.clone().filter(|model| !model.is_empty());
        Ok(Some(Self { client, model }))
    }

    /// As `inference` answers `complete`: [`Chunk::Attempt`] before each try, text as it comes, all of it in the end.
    /// Costs nothing that the mesh counts.
    ///
    /// # Errors
    /// [`Code::ModelRefused`] when the endpoint does not take the request, [`Code::ModelFailed`] when no model answered.
    pub(crate) async fn stream(
        &self,
        request: &CompleteRequest,
        on_chunk: &mut (dyn FnMut(Chunk) + Send),
    ) -> Result<Completion, Problem> {
        let mut failed = Vec::new();
        let mut attempt = 0;
        let mut refused = false;
        for model in self.candidates(request) {
            for tries in 1..=TRIES_MAX {
                attempt += 1;
                on_chunk(Chunk::Attempt(attempt));
                let call = Try {
                    model,
                    request,
                    attempt,
                };
                let error = match self.client.attempt(call, &mut Heard(on_chunk)).await {
                    Ok(answer) => return Ok(completion(model, request, answer, failed, attempt)),
                    Err(error) => error,
                };
                refused = error.is_refusal();
                if tries < TRIES_MAX && error.is_transient() {
                    let pause = error.retry_after().unwrap_or(RETRY_PAUSE);
                    tokio::time::sleep(pause.min(RETRY_PAUSE_MAX)).await;
                    continue;
                }
                failed.push(failure(model, &error));
                break;
            }
        }
        Err(problem(&failed, refused))
    }

    fn candidates<'a>(&'a self, request: &'a CompleteRequest) -> Vec<&'a str> {
        match &self.model {
            Some(model) => vec![model],
            None => std::iter::once(&request.model)
                .chain(&request.fallbacks)
                .map(String::as_str)
                .collect(),
        }
    }

    /// The model that is asked for, if the configuration names it.
    pub(crate) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }
}

struct Heard<'a>(&'a mut (dyn FnMut(Chunk) + Send));

impl Chunks for Heard<'_> {
    async fn send(&mut self, chunk: Chunk) {
        (self.0)(chunk);
    }
}

fn failure(model: &str, error: &TryError) -> FailedModel {
    FailedModel {
        model: model.to_owned(),
        provider: PROVIDER.to_owned(),
        reason: error.to_string(),
    }
}

fn completion(
    model: &str,
    request: &CompleteRequest,
    answer: Answer,
    failed: Vec<FailedModel>,
    attempt: u32,
) -> Completion {
    let tokens = answer.tokens.unwrap_or_else(|| estimate_tokens(request, &answer));
    Completion {
        usage_estimated: answer.tokens.is_none(),
        text: answer.text,
        model: model.to_owned(),
        provider: PROVIDER.to_owned(),
        usage: Usage {
            input_tokens: tokens.input,
            output_tokens: tokens.output,
            cost_usd: 0.0,
        },
        failed,
        tool_calls: answer.tool_calls,
        finish_reason: answer.finish_reason,
        attempt,
        cached_tokens: tokens.cached,
        from_cache: false,
    }
}

fn problem(failed: &[FailedModel], refused: bool) -> Problem {
    let reasons: Vec<String> = failed
        .iter()
        .map(|failed| format!("{}: {}", failed.model, failed.reason))
        .collect();
    let code = if refused { Code::ModelRefused } else { Code::ModelFailed };
    Problem::new(code, format!("the node's own endpoint: {}", reasons.join("; ")))
        .next("see that the server at node.inference.base_url runs and has the model")
}
