//! Traces of a whole mesh, as a collector gets them: one per invocation through every hop, links to children and forks,
//! the ids in the log and at the metrics, and nothing that anybody said.

mod log;
mod sink;

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::HeaderMap;
use futures::StreamExt;
use mesh_types::{Id, InvocationId};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Http, Mesh, items, send, unique, until};
use sink::{CLIENT, CONSUMER, PRODUCER, SERVER, Seen, Sink};

/// What callers want carried along.
const STATE: &str = "other=00f067aa0ba902b7, third@party=x:y";

struct Traced {
    mesh: Mesh,
    sink: Sink,
}

impl Traced {
    async fn up() -> Self {
        let sink = Sink::start();
        let mesh = Mesh::up_with(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url("")),
            ("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned()),
            ("OTEL_BLRP_SCHEDULE_DELAY", "100".to_owned()),
            ("MESH_TRACES_PER_SECOND", "0".to_owned()),
            ("MESH_LOG_FORMAT", "json".to_owned()),
        ])
        .await;
        Self { mesh, sink }
    }

    fn http(&self) -> Http {
        self.mesh.http()
    }

    async fn agent(&self, prefix: &str, model: &str, tools: Value) -> String {
        let name = unique(prefix);
        let spec = json!({"model": {"name": model}, "tools": tools, "retry": {"attempts": 1},
            "memory": {"query_top_k": 0, "writeback": false}});
        let agent = json!({"metadata": {"name": name}, "spec": spec});
        self.http().post("/api/v1/agents", &agent).await.expect(201);
        let path = format!("/api/v1/agents/{name}/publish");
        send(self.http().request(Method::POST, &path).json(&json!({})))
            .await
            .expect(200);
        name
    }

    /// Invokes it in a trace of its caller and waits for the end.
    async fn ask(&self, agent: &str, text: &str, traceparent: &str) -> Value {
        let path = format!("/api/v1/agents/{agent}/invocations?wait=40");
        let request = self
            .http()
            .request(Method::POST, &path)
            .header("traceparent", traceparent)
            .header("tracestate", STATE);
        send(request.json(&json!({"payload": {"text": text}})))
            .await
            .expect(200)
    }

    /// The span of that name in that trace, once it has come.
    async fn span(&self, trace: &str, name: &str) -> Seen {
        until(
            20,
            &format!("a span `{name}` of {trace}; there are {:#?}", self.sink.of_trace(trace)),
            || async {
                let spans = self.sink.of_trace(trace);
                spans.into_iter().find(|span| span.name == name)
            },
        )
        .await
    }

    /// Names from that span up to the first of its trace.
    async fn way_up(&self, span: &Seen) -> Vec<String> {
        let mut names = vec![span.name.clone()];
        let mut at = span.clone();
        while !at.parent.is_empty() {
            let parent = at.parent.clone();
            let above = until(20, &format!("the span {parent} above `{}`", at.name), || async {
                let spans = self.sink.of_trace(&at.trace);
                let found = spans.into_iter().find(|span| span.id == parent);
                // The client's own span is not sent by us.
                found.map(Some).or_else(|| parent.starts_with("c11e").then_some(None))
            })
            .await;
            let Some(above) = above else { break };
            names.push(above.name.clone());
            at = above;
        }
        names
    }
}

/// A trace and a span of somebody outside, as `traceparent`.
fn outside() -> (String, String) {
    let id = unique("");
    let trace = format!("{}{}", "a".repeat(16), id.trim_start_matches('-'));
    let parent = format!("00-{trace}-c11e000000000001-01");
    (trace, parent)
}

fn own_trace(invocation: &str) -> String {
    let id: InvocationId = invocation.parse().expect("an id");
    format!("{:032x}", id.as_u128())
}

#[track_caller]
fn says(span: &Seen, expected: &[(&str, &str)]) {
    let said: BTreeMap<_, _> = span
        .attributes
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    for (name, value) in expected {
        assert_eq!(said.get(name), Some(value), "{name} of {span:#?}");
    }
}

#[tokio::test]
async fn a_trace_follows_an_invocation_through_every_hop() {
    let traced = Traced::up().await;
    over_http(&traced).await;
    over_nats(&traced).await;
    log::a_failure_is_found_in_it(&traced).await;
    a_bucket_leads_to_its_trace(&traced).await;
}

async fn over_http(traced: &Traced) {
    let child = traced.agent("child", "mock:script:echo", json!([])).await;
    let lookup =
        json!({"name": "lookup", "kind": "http", "effect": "pure", "url": traced.sink.url("/tool?key=hidden-in-url")});
    let helper = json!({"name": "helper", "kind": "agent", "agent": child});
    let agent = traced
        .agent("parent", "mock:script:tools", json!([lookup, helper]))
        .await;
    let (trace, parent) = outside();
    let secret = unique("spoken");
    let ended = traced.ask(&agent, &format!("tell of {secret}"), &parent).await;
    assert_eq!(ended["state"], "completed", "{ended}");
    let id = ended["id"].as_str().expect("an id").to_owned();

    let edge = traced.span(&trace, "POST /api/v1/agents/{agent}/invocations").await;
    assert_eq!((edge.parent.as_str(), edge.kind), ("c11e000000000001", SERVER));
    says(
        &edge,
        &[
            ("http.request.method", "POST"),
            ("http.response.status_code", "200"),
            ("mesh.service", "gateway"),
        ],
    );

    let run = traced.span(&trace, &format!("invoke_agent {agent}")).await;
    says(
        &run,
        &[
            ("gen_ai.operation.name", "invoke_agent"),
            ("gen_ai.agent.name", &agent),
            ("mesh.invocation.id", &id),
        ],
    );
    // It waited for its child, and was claimed again: two claims, one trace.
    let claims = until(20, "both claims", || async {
        let spans = traced.sink.of_trace(&trace);
        let claims: Vec<_> = spans.into_iter().filter(|span| span.name == run.name).collect();
        (claims.len() == 2).then_some(claims)
    });
    let outcomes: Vec<_> = claims
        .await
        .iter()
        .map(|claim| claim.attributes["mesh.outcome"].clone())
        .collect();
    assert!(
        outcomes.contains(&"waiting".to_owned()) && outcomes.contains(&"completed".to_owned()),
        "{outcomes:?}"
    );

    it_leads_to_the_provider(traced, &trace, &agent, &edge.name).await;
    it_leads_to_the_tool(traced, &trace).await;
    a_child_is_linked(traced, &trace, &child, &id).await;
    a_wait_is_told_once_it_is_over(traced, &trace, &run, &id).await;
    a_fork_is_linked(traced, &trace, &agent, &id).await;
    for hidden in [secret.as_str(), "hidden-in-url", "of-a-test", "a page"] {
        assert!(!traced.sink.was_told(hidden), "{hidden}");
    }
}

async fn it_leads_to_the_provider(traced: &Traced, trace: &str, agent: &str, edge: &str) {
    // The provider's span is the deepest one.
    let tries = until(20, "the tries at the provider", || async {
        let spans = traced.sink.of_trace(trace);
        let of_inference = |span: &Seen| {
            span.attributes
                .get("mesh.service")
                .is_some_and(|name| name == "inference")
        };
        let tries: Vec<_> = spans
            .into_iter()
            .filter(|span| span.name.starts_with("chat ") && of_inference(span))
            .collect();
        (tries.len() == 2).then_some(tries)
    })
    .await;
    assert!(
        tries
            .iter()
            .all(|span| span.kind == CLIENT && span.attributes["gen_ai.provider.name"] == "mock")
    );
    let up = traced.way_up(&tries[0]).await;
    let of_step = format!("invoke_agent {agent}");
    let expected = [
        "chat mock:script:tools",
        "process inference.complete",
        "request inference.complete",
        "chat mock:script:tools",
        of_step.as_str(),
    ];
    assert_eq!(up[..5], expected, "{up:?}");
    assert!(
        up[5].starts_with("process execution.") && up[6].starts_with("request execution."),
        "{up:?}"
    );
    assert_eq!(up[7..], [edge.to_owned()], "{up:?}");
}

async fn it_leads_to_the_tool(traced: &Traced, trace: &str) {
    let step = traced.sink.of_trace(trace).into_iter().find(|span| {
        span.attributes
            .get("mesh.step.kind")
            .is_some_and(|kind| kind == "model")
    });
    says(
        &step.expect("a step"),
        &[
            ("gen_ai.request.model", "mock:script:tools"),
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "mock"),
        ],
    );
    let tool = traced.span(trace, "execute_tool lookup").await;
    let post = traced
        .sink
        .of_trace(trace)
        .into_iter()
        .find(|span| span.parent == tool.id)
        .expect("a call outside");
    says(
        &post,
        &[("server.address", "127.0.0.1"), ("gen_ai.tool.name", "lookup")],
    );
    let expected = (format!("00-{trace}-{}-01", post.id), STATE.to_owned());
    assert_eq!(traced.sink.tool_calls(), [expected]);
}

async fn a_child_is_linked(traced: &Traced, trace: &str, child: &str, parent: &str) {
    let path = format!("/api/v1/invocations?parent={parent}");
    let children = until(20, "the child is listed", || async {
        let children = items(&traced.http().get(&path).await);
        (!children.is_empty()).then_some(children)
    })
    .await;
    let own = own_trace(children[0]["id"].as_str().expect("an id"));
    let call = traced.span(trace, &format!("invoke_agent {child}")).await;
    let accepted = traced.span(&own, &format!("accept {child}")).await;
    assert_eq!((call.kind, accepted.kind), (PRODUCER, CONSUMER));
    assert_eq!(call.links, [(own.clone(), accepted.id.clone())]);
    assert_eq!(accepted.links, [(trace.to_owned(), call.id.clone())]);
    let run = traced.span(&own, &format!("invoke_agent {child}")).await;
    assert_eq!(
        (run.parent.as_str(), accepted.parent.as_str()),
        (accepted.id.as_str(), "")
    );
}

/// Claims end and begin around it, under the same span as they.
async fn a_wait_is_told_once_it_is_over(traced: &Traced, trace: &str, run: &Seen, id: &str) {
    let wait = traced.span(trace, "wait child").await;
    assert_eq!(wait.parent, run.parent);
    says(
        &wait,
        &[
            ("mesh.invocation.id", id),
            ("mesh.service", "execution"),
            ("mesh.step.kind", "child"),
        ],
    );
    assert!(
        !wait.is_error && wait.took > Duration::ZERO && wait.took < Duration::from_secs(60),
        "{wait:?}"
    );
    let of_trace = traced.sink.of_trace(trace);
    assert_eq!(of_trace.iter().filter(|span| span.name == wait.name).count(), 1);
}

async fn a_fork_is_linked(traced: &Traced, trace: &str, agent: &str, id: &str) {
    let path = format!("/api/v1/invocations/{id}/fork");
    let forked = traced.http().post(&path, &json!({"from_step": 1})).await.expect(201);
    let fork = forked["invocation"]["id"].as_str().expect("an id").to_owned();
    traced.http().until_ended(&fork).await;
    let run = until(20, "the fork's span", || async {
        let of_fork = |span: &Seen| span.attributes.get("mesh.invocation.id") == Some(&fork);
        traced
            .sink
            .spans()
            .into_iter()
            .find(|span| of_fork(span) && span.name.ends_with(agent))
    })
    .await;
    assert_ne!(run.trace, trace, "a trace of its own");
    assert!(run.links.iter().any(|(linked, _)| linked == trace), "{run:?}");
}

#[expect(clippy::disallowed_methods, reason = "the bytes of `nats pub`, whatever the subject")]
async fn over_nats(traced: &Traced) {
    let agent = traced.agent("published", "mock:script:echo", json!([])).await;
    let client = traced.mesh.nats().await;
    let subject = format!("mesh.invoke.default.{agent}");
    let (trace, parent) = outside();
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", parent.as_str());
    let body = json!({"payload": {"text": "hello"}, "reply_to": inbox}).to_string();
    client
        .publish_with_headers(subject.clone(), headers, body.into())
        .await
        .unwrap();
    let answer = tokio::time::timeout(std::time::Duration::from_secs(30), answers.next()).await;
    let answer = answer.expect("an answer in time").expect("an answer");
    let told = answer.headers.as_ref().and_then(|headers| headers.get("traceparent"));
    assert!(told.is_some_and(|told| told.as_str().contains(&trace)), "{told:?}");
    let taken = traced.span(&trace, "process mesh.invoke").await;
    assert_eq!((taken.parent.as_str(), taken.kind), ("c11e000000000001", CONSUMER));
    says(
        &taken,
        &[("messaging.system", "nats"), ("messaging.destination.name", &subject)],
    );
    let run = traced.span(&trace, &format!("invoke_agent {agent}")).await;
    assert_eq!(run.parent, taken.id);

    // Who says no trace begins one: that of the invocation's id, which anybody can tell.
    let body = json!({"payload": {"text": "again"}, "reply_to": inbox}).to_string();
    client.publish(subject, body.into()).await.unwrap();
    let answer = tokio::time::timeout(std::time::Duration::from_secs(30), answers.next()).await;
    let answer: Value = serde_json::from_slice(&answer.expect("in time").expect("an answer").payload).unwrap();
    let own = own_trace(answer["id"].as_str().expect("an id"));
    let taken = traced.span(&own, "process mesh.invoke").await;
    assert_eq!(taken.parent, "");
    let run = traced.span(&own, &format!("invoke_agent {agent}")).await;
    assert_eq!(run.parent, taken.id);
}

async fn a_bucket_leads_to_its_trace(traced: &Traced) {
    let request = traced.http().request(Method::GET, "/metrics");
    let metrics = send(request.header("accept", "application/openmetrics-text;version=1.0.0")).await;
    assert!(metrics.text.ends_with("# EOF\n"), "{}", metrics.text);
    let ids = |family: &str| -> Vec<String> {
        let start = format!("{family}_bucket{{");
        let lines = metrics.text.lines().filter(|line| line.starts_with(&start));
        let ids = lines.filter_map(|line| line.split_once("# {trace_id=\"")?.1.get(..32));
        ids.map(str::to_owned).collect()
    };
    let known = traced.sink.spans();
    for family in ["mesh_http_duration_seconds", "mesh_model_duration_seconds"] {
        let ids = ids(family);
        assert!(!ids.is_empty(), "{family} has no exemplar: {}", metrics.text);
        // The newest may be on its way to the collector.
        assert!(
            ids.iter().any(|id| known.iter().any(|span| span.trace == *id)),
            "{family}: {ids:?}"
        );
    }
}
