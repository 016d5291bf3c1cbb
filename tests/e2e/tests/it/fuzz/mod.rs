//! Requests drawn from the API's description, good and bad, against the real mesh: no failure of the mesh's own, no
//! status that is not described, no hang, every answer of its schema, and the next good request works. The same seed
//! draws the same requests; `AGENT_MESH_FUZZ_SECONDS` and `AGENT_MESH_FUZZ_SEED` ask for more and others.

mod harm;
mod judge;
mod shot;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reqwest::header::{HeaderName, HeaderValue};
use serde_json::json;

use crate::described::{Described, Draw, Operation};
use crate::harness::{Http, Mesh, send};
use judge::{Judge, Wrong};
use shot::Shot;

/// The client's deadline; an operation that is asked to wait gets more.
const DEADLINE: Duration = Duration::from_secs(2);
const WAITING_DEADLINE: Duration = Duration::from_secs(10);
/// They answer when an agent or a node has, or when it has said nothing for some seconds.
const WAITING: [&str; 6] = [
    "kept_test_channel",
    "openai_chat",
    "ag_ui_run",
    "post_tunnel_message",
    "tunnel_events",
    "tunnel_status",
];
/// Requests between two looks at whether all is well.
const ROUND: usize = 50;
const SECONDS: u64 = 45;

struct Fuzzer<'a> {
    http: Http,
    judge: Judge<'a>,
    client: reqwest::Client,
    statuses: BTreeMap<u16, usize>,
    /// By operation and what is wrong: the first case, and how many.
    wrong: BTreeMap<(String, String), (String, usize)>,
}

impl Fuzzer<'_> {
    async fn fire(&mut self, operation: Operation<'_>, shot: &Shot) {
        let found = match self.answer(operation, shot).await {
            Ok(status) => {
                *self.statuses.entry(status).or_default() += 1;
                if status < 300 && operation.id().contains("pause") {
                    self.go_on().await;
                }
                return;
            }
            Err(found) => found,
        };
        let (what, more) = found;
        let case = format!("{} => {more}", shot.told());
        let counted = self.wrong.entry((operation.id().to_owned(), what)).or_insert((case, 0));
        counted.1 += 1;
    }

    async fn answer(&mut self, operation: Operation<'_>, shot: &Shot) -> Result<u16, Wrong> {
        let response = match self.send(operation, shot).await? {
            Ok(response) => response,
            // The server may close a kept connection after a body that it did not want; clients ask again then.
            Err(_) => self
                .send(operation, shot)
                .await?
                .map_err(|error| ("no answer".to_owned(), format!("{error:?}")))?,
        };
        self.judge.check(operation, response).await
    }

    async fn send(&self, operation: Operation<'_>, shot: &Shot) -> Result<reqwest::Result<reqwest::Response>, Wrong> {
        let url = format!("{}{}", self.http.base(), shot.path);
        let waits = shot.path.contains("wait=1") || WAITING.contains(&operation.id());
        let deadline = if waits { WAITING_DEADLINE } else { DEADLINE };
        let mut request = self.client.request(shot.method.clone(), url);
        for (name, value) in &shot.headers {
            let name: HeaderName = name.parse().expect("a name");
            if let Ok(value) = HeaderValue::from_bytes(value) {
                request = request.header(name, value);
            }
        }
        if let Some(body) = &shot.body {
            request = request.body(body.clone());
        }
        let sent = tokio::time::timeout(deadline, request.send()).await;
        sent.map_err(|_| ("hangs".to_owned(), format!("nothing within {deadline:?}")))
    }

    /// What was paused by a good request would hold up the next ones.
    async fn go_on(&self) {
        for target in [json!("all"), json!("tenant"), json!({"agent": "fuzzed"})] {
            self.http.post("/api/v1/resume", &json!({"target": target})).await;
        }
    }

    /// The agent that is invoked, declared anew: it may have been changed or deleted.
    async fn renew(&self) {
        let agent = json!({"metadata": {"name": "fuzzed"}, "spec": {"runtime": "noop"}});
        let put = self
            .http
            .request(reqwest::Method::PUT, "/api/v1/agents/fuzzed?missing=create");
        send(put.json(&agent)).await.expect(200);
        self.http
            .post("/api/v1/agents/fuzzed/publish", &json!({}))
            .await
            .expect(200);
    }

    /// The next good request works.
    async fn is_well(&self) {
        let body = json!({"payload": {"steps": 1}});
        let ended = self.http.invoke("anchor", "?wait=10", &body).await;
        assert_eq!(
            (ended.status, &ended.body["state"]),
            (200, &json!("completed")),
            "{}",
            ended.text
        );
    }
}

/// What requests can name, by the prefix of its id.
async fn furnish(http: &Http) -> Vec<String> {
    let agent = json!({"metadata": {"name": "anchor"}, "spec": {"runtime": "noop"}});
    http.post("/api/v1/agents", &agent).await.expect(201);
    http.post("/api/v1/agents/anchor/publish", &json!({})).await.expect(200);
    let body = json!({"payload": {"steps": 2}});
    let invocation = http.invoke("anchor", "?wait=10", &body).await.expect(200);
    let memory = json!({"agent": "fuzzed", "content": "the sea is wide"});
    let memory = http.post("/api/v1/memories", &memory).await.expect(201);
    let document = json!({"name": "it", "text": "the sea is wide"});
    let document = http
        .post("/api/v1/knowledge/fuzzed/documents", &document)
        .await
        .expect(201);
    http.post("/api/v1/channels/fuzzed/messages", &json!({"text": "hello"}))
        .await
        .expect(201);
    let made = [invocation, memory, document];
    made.iter()
        .filter_map(|one| one["id"].as_str())
        .map(str::to_owned)
        .collect()
}

fn number(name: &str, otherwise: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(otherwise, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}"))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_sent_makes_the_mesh_fail_hang_or_say_what_it_does_not_describe() {
    let (seconds, seed) = (
        number("AGENT_MESH_FUZZ_SECONDS", SECONDS),
        number("AGENT_MESH_FUZZ_SEED", 7),
    );
    let mesh = Mesh::up().await;
    let http = mesh.http().tenant("fuzz");
    let api = Described::read(&http).await;
    let known = furnish(&http).await;
    let mut fuzzer = Fuzzer {
        http: http.clone(),
        judge: Judge::new(&api),
        client: reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap(),
        statuses: BTreeMap::new(),
        wrong: BTreeMap::new(),
    };
    let operations = api.operations();
    let (mut draw, mut count) = (Draw::new(seed), 0_usize);
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        if count.is_multiple_of(ROUND) {
            fuzzer.renew().await;
            fuzzer.is_well().await;
        }
        // Each operation in its turn, so that none is left out.
        let operation = operations[count % operations.len()];
        let shot = Shot::draw(&api, operation, &known, &mut draw);
        fuzzer.fire(operation, &shot).await;
        count += 1;
    }
    fuzzer.is_well().await;
    println!("{count} requests of seed {seed}: {:?}", fuzzer.statuses);
    let report: Vec<String> = fuzzer
        .wrong
        .iter()
        .map(|((operation, what), (case, times))| format!("{operation}: {what}, {times} times, such as\n    {case}"))
        .collect();
    assert!(
        report.is_empty(),
        "{} kinds of wrong answers:\n{}",
        report.len(),
        report.join("\n")
    );
    assert!(count >= 2 * operations.len(), "{count} requests are too few");
    let good: usize = fuzzer.statuses.range(200..300).map(|(_, count)| count).sum();
    assert!(
        good * 10 > count,
        "only {good} of {count} were good requests: {:?}",
        fuzzer.statuses
    );
}
