//! HTTP as a user speaks it: a tenant by header, answers as JSON.

use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use super::until;

#[derive(Debug, Clone)]
pub(crate) struct Http {
    base: String,
    tenant: Option<String>,
    /// API key, where credentials are demanded.
    key: Option<String>,
    client: reqwest::Client,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    /// Null where the body is no JSON.
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    /// The body, if the status is this one.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.body
    }
}

impl Http {
    pub(crate) fn new(base: String) -> Self {
        let client = reqwest::Client::builder().no_proxy().build();
        Self {
            base,
            tenant: None,
            key: None,
            client: client.expect("a client"),
        }
    }

    pub(crate) fn tenant(&self, name: &str) -> Self {
        Self {
            tenant: Some(name.to_owned()),
            ..self.clone()
        }
    }

    pub(crate) fn key(&self, key: &str) -> Self {
        Self {
            key: Some(key.to_owned()),
            ..self.clone()
        }
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(tenant) = &self.tenant {
            request = request.header("Mesh-Tenant", tenant);
        }
        match &self.key {
            Some(key) => request.header("X-Service-API-Key", key),
            None => request,
        }
    }

    /// `None` when nobody answers.
    pub(crate) async fn try_get(&self, path: &str) -> Option<Answer> {
        answer(self.request(Method::GET, path)).await.ok()
    }

    /// Successful, or the test fails.
    pub(crate) async fn get(&self, path: &str) -> Value {
        send(self.request(Method::GET, path)).await.expect(200)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).json(body)).await
    }

    /// Starts an invocation and answers what the mesh says of it.
    pub(crate) async fn invoke(&self, agent: &str, query: &str, body: &Value) -> Answer {
        self.post(&format!("/api/v1/agents/{agent}/invocations{query}"), body)
            .await
    }

    pub(crate) async fn steps(&self, invocation: &str) -> Vec<Value> {
        let steps = self.get(&format!("/api/v1/invocations/{invocation}/steps")).await;
        items(&steps)
    }

    pub(crate) async fn messages(&self, channel: &str) -> Vec<Value> {
        let history = self.get(&format!("/api/v1/channels/{channel}/messages?limit=50")).await;
        items(&history)
    }

    /// The replies of an agent in a channel, once there is one; the channel may not be there yet.
    pub(crate) async fn replies(&self, channel: &str) -> Vec<Value> {
        let path = format!("/api/v1/channels/{channel}/messages?limit=50");
        until(30, "the reply is in the channel", || async {
            let answer = self.try_get(&path).await.filter(|answer| answer.status == 200)?;
            let mut messages = items(&answer.body);
            messages.retain(|message| message["author"]["kind"] == "agent");
            (!messages.is_empty()).then_some(messages)
        })
        .await
    }

    /// The invocation, once it has ended.
    pub(crate) async fn until_ended(&self, invocation: &str) -> Value {
        let path = format!("/api/v1/invocations/{invocation}");
        until(60, "the invocation ends", || async {
            let answer = self.try_get(&path).await.filter(|answer| answer.status == 200)?;
            ended(&answer.body).then_some(answer.body)
        })
        .await
    }
}

fn ended(invocation: &Value) -> bool {
    let state = invocation["state"].as_str();
    state.is_some_and(|state| ["completed", "failed", "cancelled", "dead"].contains(&state))
}

/// The kinds of steps, in their order.
pub(crate) fn kinds(steps: &[Value]) -> Vec<&str> {
    steps.iter().filter_map(|step| step["kind"].as_str()).collect()
}

pub(crate) fn items(page: &Value) -> Vec<Value> {
    page["items"].as_array().cloned().unwrap_or_default()
}

pub(crate) async fn send(request: RequestBuilder) -> Answer {
    answer(request).await.expect("the gateway answers")
}

async fn answer(request: RequestBuilder) -> reqwest::Result<Answer> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    let location = response.headers().get("location");
    let location = location.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let text = response.text().await?;
    let body = serde_json::from_str(&text).unwrap_or_default();
    Ok(Answer {
        status,
        location,
        body,
        text,
    })
}
