//! What every answer must be: described, of its schema, in time, and never the mesh's own failure.

use std::collections::HashMap;
use std::time::Duration;

use jsonschema::Validator;
use reqwest::Response;
use serde_json::Value;

use crate::described::{Described, Operation};

/// Failures of somebody outside that the mesh reports as it should: the node that was asked is not there.
const OF_OTHERS: [&str; 3] = ["gateway/node-offline", "gateway/node-silent", "gateway/tunnel-closed"];

/// The client's deadline for a body whose head is there.
const READ_DEADLINE: Duration = Duration::from_secs(2);

pub(super) struct Judge<'a> {
    api: &'a Described,
    /// By operation, status and media type.
    schemas: HashMap<(String, u16, String), Option<Validator>>,
}

/// What is wrong with an answer: one word to count it by, and the rest.
pub(super) type Wrong = (String, String);

impl<'a> Judge<'a> {
    pub(super) fn new(api: &'a Described) -> Self {
        Self {
            api,
            schemas: HashMap::new(),
        }
    }

    /// Reads the answer to its end, unless it is a stream.
    pub(super) async fn check(&mut self, operation: Operation<'_>, response: Response) -> Result<u16, Wrong> {
        let status = response.status().as_u16();
        let header = |name: &str| {
            let value = response.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let (kind, request_id) = (header("content-type"), header("x-request-id"));
        let (retry_after, encoding) = (header("retry-after"), header("content-encoding"));
        if kind.starts_with("text/event-stream") && status == 200 {
            return described(operation, status).map(|_| status);
        }
        let text = tokio::time::timeout(READ_DEADLINE, response.text()).await;
        let text = text.map_err(|_| ("hangs".to_owned(), format!("{status}, and then nothing")))?;
        let text = text.map_err(|error| ("breaks off".to_owned(), error.to_string()))?;
        let shown: String = text.chars().take(400).collect();
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        let problem = body["type"].as_str().unwrap_or_default();
        if status >= 500 && !OF_OTHERS.contains(&problem) {
            return Err((format!("{status}"), shown));
        }
        if request_id.is_empty() {
            return Err(("no request id".into(), shown));
        }
        if status == 429 && retry_after.is_empty() {
            return Err(("429 without Retry-After".into(), shown));
        }
        described(operation, status).map_err(|(what, _)| (what, shown.clone()))?;
        if !encoding.is_empty() {
            // As was asked for; what it holds is told by other requests.
            return Ok(status);
        }
        let media = kind.split(';').next().unwrap_or_default().to_owned();
        if let Some(schema) = self.schema(operation, status, &media) {
            if let Err(error) = schema.validate(&body) {
                let place = error.instance_path().to_string();
                return Err((
                    format!("not of its schema ({status})"),
                    format!("{place}: {error} in {shown}"),
                ));
            }
        } else if !text.is_empty() && media.contains("json") {
            return Err((format!("{media} is not described ({status})"), shown));
        }
        Ok(status)
    }

    fn schema(&mut self, operation: Operation<'_>, status: u16, media: &str) -> Option<&Validator> {
        let key = (operation.id().to_owned(), status, media.to_owned());
        let api = self.api;
        let made = self.schemas.entry(key).or_insert_with(|| {
            let response = api.resolve(&operation.value["responses"][status.to_string()]);
            let schema = &response["content"][media]["schema"];
            schema
                .is_object()
                .then(|| jsonschema::validator_for(&api.standalone(schema)).expect("a schema"))
        });
        made.as_ref()
    }
}

fn described(operation: Operation<'_>, status: u16) -> Result<(), Wrong> {
    if operation.value["responses"][status.to_string()].is_object() {
        return Ok(());
    }
    Err((format!("{status} is not described"), String::new()))
}
