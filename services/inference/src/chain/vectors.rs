//! One request for vectors: its one model, tried again where that helps, by the rules of completions. No fallbacks:
//! vectors of different models cannot be compared.

use std::time::Duration;

use mesh_api::inference::{EmbedRequest, Embedded};
use mesh_api::journal::Usage;
use mesh_models::{TEXT_BYTES_MAX, TEXTS_MAX, Texts, Tokens, TryError, Vectors};
use mesh_types::{Code, Problem};
use tokio::time::{Instant, timeout_at};

use super::Means;
use super::decide::{self, Failure, Left, Next, Tried};
use super::traced;
use crate::governor::whole_seconds;
use crate::providers::Route;
use crate::usage::Used;

/// All tries together. Below the endpoint's deadline, so that the caller hears what went wrong.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(50);
/// Most numbers of one vector that any model has, with room.
const DIMENSIONS_MAX: u32 = 65_536;
/// Bytes of a number in the reply, at most: `-1.2345678e-10,`.
const NUMBER_BYTES: usize = 16;

/// Asks for the vectors of `request`, whose reply may have `reply_bytes_max`.
///
/// # Errors
/// [`Code::InvalidRequest`] for what is out of bounds, else as a completion's.
pub(crate) async fn embed(
    means: Means<'_>,
    request: &EmbedRequest,
    reply_bytes_max: usize,
) -> Result<Embedded, Problem> {
    check(request)?;
    let no_route = |no: crate::providers::NoRoute| {
        Problem::new(no.code, format!("{} ({}): {}", request.model, no.provider, no.reason))
            .field("model")
            .next("name a model of a configured provider, set EMBEDDING_API_URL, or see `models`")
    };
    let route = means.providers.route_vectors(&request.model).map_err(no_route)?;
    let deadline = Instant::now() + TIMEOUT.min(means.config.limits.call_timeout());
    let mut tried = Tried::default();
    let mut attempt = 0;
    let vectors = loop {
        attempt += 1;
        let failure = match try_once(means, request, &route, deadline, attempt).await {
            Ok(vectors) => break vectors,
            Err(failure) => failure,
        };
        let left = Left {
            time: deadline.saturating_duration_since(Instant::now()),
            has_next: false,
        };
        let random = decide::random(means.seed, attempt);
        match decide::next(&failure, &mut tried, left, &means.config.limits, random) {
            Next::Again(pause) => tokio::time::sleep(pause).await,
            Next::MoveOn => return Err(problem(request, &route, &failure, tried)),
        }
    };
    fits(&vectors.0, reply_bytes_max)?;
    let (Vectors { vectors, .. }, usage) = vectors;
    Ok(Embedded {
        model: request.model.clone(),
        provider: route.provider_name.to_owned(),
        vectors,
        usage,
    })
}

fn check(request: &EmbedRequest) -> Result<(), Problem> {
    let invalid = |field: String, detail: String| Err(Problem::new(Code::InvalidRequest, detail).field(field));
    if request.model.is_empty() {
        return invalid("model".to_owned(), "no model is named".to_owned());
    }
    if request.texts.is_empty() || request.texts.len() > TEXTS_MAX {
        let detail = format!("{} texts; a request has 1 to {TEXTS_MAX}", request.texts.len());
        return invalid("texts".to_owned(), detail);
    }
    for (index, text) in request.texts.iter().enumerate() {
        let field = || format!("texts[{index}]");
        if text.trim().is_empty() {
            return invalid(field(), "an empty text has no vector".to_owned());
        }
        if text.len() > TEXT_BYTES_MAX {
            let detail = format!("{} bytes; a text has at most {TEXT_BYTES_MAX}", text.len());
            return invalid(field(), detail);
        }
    }
    if request
        .dimensions
        .is_some_and(|dimensions| !(1..=DIMENSIONS_MAX).contains(&dimensions))
    {
        return invalid("dimensions".to_owned(), format!("1 to {DIMENSIONS_MAX}"));
    }
    Ok(())
}

async fn try_once(
    means: Means<'_>,
    request: &EmbedRequest,
    route: &Route<'_>,
    deadline: Instant,
    attempt: u32,
) -> Result<(Vectors, Usage), Failure> {
    // About four bytes of English to a token.
    let estimated = request.texts.iter().map(|text| (text.len() as u64).div_ceil(4)).sum();
    let permit = if route.provider.is_local() {
        None
    } else {
        let governor = means.governor;
        let permit = governor
            .admit(route.provider_name, means.tenant, estimated, deadline)
            .await;
        Some(permit.map_err(Failure::Refused)?)
    };
    let asked = Texts {
        model: &route.model,
        texts: &request.texts,
        dimensions: request.dimensions,
    };
    let mut span = traced::embeddings(route, attempt);
    let ended = span.run(timeout_at(deadline, route.provider.embed(asked))).await;
    traced::ended(&mut span, &ended, None);
    let Ok(result) = ended else {
        // A try that our own deadline cut says nothing of its provider.
        return Err(TryError::Timeout("the call's time is used up").into());
    };
    let input = result
        .as_ref()
        .ok()
        .map(|vectors| vectors.input_tokens.unwrap_or(estimated));
    if let Some(permit) = permit {
        permit.settle(result.as_ref().map(drop), input);
    }
    let vectors = result?;
    let tokens = Tokens {
        input: input.unwrap_or(estimated),
        ..Tokens::default()
    };
    let cost_usd = (means.bill)(Used {
        provider: route.provider_name,
        model: &route.model,
        attempt: means.tries_before.saturating_add(attempt),
        tokens: &tokens,
        is_local: route.provider.is_local(),
    });
    let usage = Usage {
        input_tokens: tokens.input,
        output_tokens: 0,
        cost_usd,
    };
    Ok((vectors, usage))
}

fn problem(request: &EmbedRequest, route: &Route<'_>, failure: &Failure, tried: Tried) -> Problem {
    let reason = failure.reason(tried);
    tracing::warn!(
        model = request.model,
        provider = route.provider_name,
        reason,
        "no vectors"
    );
    let detail = format!("{} ({}): {reason}", request.model, route.provider_name);
    let mut problem = Problem::new(failure.code(), detail);
    let Some(wait) = failure.ask_again_in(Instant::now()) else {
        return problem.next("see that the provider runs and has this model for vectors");
    };
    let seconds = whole_seconds(wait);
    problem.retry_after_seconds = Some(seconds);
    problem.next(format!("ask again in {seconds} s"))
}

/// A reply above the bus's bound would be lost.
fn fits(vectors: &Vectors, reply_bytes_max: usize) -> Result<(), Problem> {
    let dimensions = vectors.vectors.first().map_or(1, Vec::len).max(1);
    let texts_max = (reply_bytes_max / (dimensions * NUMBER_BYTES)).max(1);
    if vectors.vectors.len() <= texts_max {
        return Ok(());
    }
    let detail = format!("vectors of {dimensions} numbers: a reply holds those of {texts_max} texts");
    Err(Problem::new(Code::InvalidRequest, detail)
        .field("texts")
        .next(format!("ask for at most {texts_max} texts at a time")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(texts: Vec<String>) -> EmbedRequest {
        EmbedRequest {
            model: "m".into(),
            texts,
            dimensions: None,
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_by_name() {
        let field = |request: &EmbedRequest| check(request).unwrap_err().field.unwrap();
        let text = |length: usize| "a".repeat(length);
        assert!(check(&request(vec![text(TEXT_BYTES_MAX); TEXTS_MAX])).is_ok());
        assert_eq!(field(&request(vec![])), "texts");
        assert_eq!(field(&request(vec![text(1); TEXTS_MAX + 1])), "texts");
        assert_eq!(field(&request(vec![text(1), text(TEXT_BYTES_MAX + 1)])), "texts[1]");
        assert_eq!(field(&request(vec![" ".into()])), "texts[0]");
        let mut nameless = request(vec![text(1)]);
        nameless.model.clear();
        assert_eq!(field(&nameless), "model");
        let mut flat = request(vec![text(1)]);
        flat.dimensions = Some(0);
        assert_eq!(field(&flat), "dimensions");
    }

    #[test]
    fn a_reply_that_nobody_could_send_says_how_many_fit() {
        let vectors = |texts: usize, dimensions: usize| Vectors {
            vectors: vec![vec![0.5; dimensions]; texts],
            input_tokens: None,
        };
        let bound = 8 * 1024 * 1024;
        assert!(fits(&vectors(256, 1_536), bound).is_ok());
        let problem = fits(&vectors(256, 3_072), bound).unwrap_err();
        assert!(problem.next.unwrap().contains("at most 170 texts"));
        let most = vec![f32::MIN_POSITIVE, -1.234_567_9e-10, f32::MAX, -f32::EPSILON];
        let written = serde_json::to_string(&most).unwrap();
        assert!(written.len() <= most.len() * NUMBER_BYTES, "{written}");
    }
}
