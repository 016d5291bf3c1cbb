//! Commands of steering against a real gateway, with an `execution` of the test's own behind it.

use std::future::ready;
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_api::execution::{
    DeadLetterDiscard, Empty, Invocation, InvocationFeed, InvocationGet, InvocationRequest, InvocationSteps, Step,
};
use mesh_api::journal::{JournalPage, Record};
use mesh_api::steering::*;
use mesh_api::{Caller, Endpoint, Page};
use mesh_bus::{Bus, BusOptions, ServiceHandle};
use mesh_runtime::{Context, Metrics};
use mesh_testkit::TestNats;
use mesh_types::{Code, Problem};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::{program, text, told};

const ID: &str = "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV";
const OTHER: &str = "inv_01BX5ZZKBKACTAV9WEVGEMMVRZ";
const LETTER: &str = "ded_01ARZ3NDEKTSV4RRFFQ69G5FAV";
const AT: &str = "2026-11-21T12:00:00Z";

type Asked = Arc<Mutex<Vec<(String, Value)>>>;

struct World {
    asked: Asked,
    url: String,
    context: Context,
    _services: ServiceHandle,
    _nats: TestNats,
}

fn made<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// An invocation that waits for these steps to be approved.
fn waiting(id: &str, steps: &[u32]) -> Value {
    let waits: Vec<_> = steps
        .iter()
        .map(|step| json!({"step": step, "on": "approval", "tool": "refund"}))
        .collect();
    json!({
        "id": id, "tenant": "default", "agent": "sofia", "version": 1, "state": "waiting", "session": null,
        "entrypoint": "invoke", "priority": 5, "payload": {}, "output": null, "error": null, "provider": null,
        "usage": {}, "parent": null, "forked_from": null, "attempt": 1, "created_at": AT, "started_at": AT,
        "ended_at": null, "cursor": 3, "waits_for": waits,
    })
}

fn steps() -> Value {
    let call = json!({"id": "c1", "type": "function", "function": {"name": "refund", "arguments": "{\"amount\":3}"}});
    let prompt = json!([
        {"role": "system", "content": "You are Sofia."},
        {"role": "user", "content": [{"type": "text", "text": "Refund me"}]},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]);
    let step = |number: u32, kind: &str, input: Value, output: Value, ended: Value| {
        json!({
            "number": number, "kind": kind, "name": "refund", "effect": "at_most_once", "input": input,
            "output": output, "error": null, "usage": {}, "attempt": 1, "epoch": 1, "started_at": AT, "ended_at": ended,
        })
    };
    json!([
        step(
            1,
            "model",
            json!({"messages": prompt}),
            json!({"text": "", "tool_calls": [call]}),
            json!(AT)
        ),
        step(2, "tool", json!({"amount": 3}), Value::Null, Value::Null),
    ])
}

fn answer<E: Endpoint>(
    asked: &Asked,
    make: fn(&E::Request) -> Result<Value, Problem>,
) -> impl Fn(Caller, E::Request) -> std::future::Ready<Result<E::Reply, Problem>> + Clone + Send + Sync + 'static
where
    E::Request: serde::Serialize,
    E::Reply: DeserializeOwned,
{
    let asked = Arc::clone(asked);
    move |caller, request| {
        let note = json!({"tenant": caller.tenant, "request": request});
        asked.lock().unwrap().push((E::NAME.to_owned(), note));
        ready(make(&request).map(made))
    }
}

fn view(request: &PauseRequest, paused: bool) -> Result<Value, Problem> {
    Ok(json!({"target": request.target, "paused": paused, "by": "dev", "reason": request.reason, "since": AT}))
}

fn found(request: &InvocationRequest) -> Result<Value, Problem> {
    let id = request.id.to_string();
    Ok(waiting(&id, if id == ID { &[2] } else { &[2, 5] }))
}

fn steps_of(after: Option<&str>) -> Value {
    let after: u64 = after.map_or(0, |after| after.parse().unwrap());
    let items: Vec<Value> = steps().as_array().unwrap().clone();
    let items: Vec<_> = items
        .into_iter()
        .filter(|step| step["number"].as_u64().unwrap() > after)
        .collect();
    json!({"items": items, "next": null})
}

fn forked(request: &ForkRequest) -> Value {
    let step = |step: u32, fate: &str| json!({"step": step, "kind": "model", "name": "mock", "effect": "idempotent", "fate": fate, "because": "so"});
    let invocation = (!request.dry_run).then(|| waiting(OTHER, &[]));
    json!({"invocation": invocation, "steps": [step(1, "read"), step(2, "replaced")]})
}

fn replayed(request: &ReplayRequest) -> Value {
    let diverges = request.version == Some(3);
    let one = json!({"step": 2, "recorded": "tool refund", "planned": "tool lookup", "because": "it has other tools"});
    let all = if diverges { vec![one] } else { Vec::new() };
    json!({"id": request.id, "recorded_version": 1, "version": request.version.unwrap_or(2), "steps": 2, "divergences": all})
}

fn compared(request: &CompareRequest) -> Value {
    let side = |text: &str| json!({"kind": "model", "name": "mock", "usage": {}, "took_ms": 12, "short_text": text});
    json!({
        "left": waiting(&request.left.to_string(), &[]), "right": waiting(&request.right.to_string(), &[]),
        "shared_steps": 1, "first_difference": 2, "steps": [
            {"step": 1, "left": side("alike"), "right": side("alike"), "differs": []},
            {"step": 2, "left": side("yes"), "right": side("no"), "differs": ["output"]},
            {"step": 3, "left": null, "right": side("more"), "differs": ["output"]},
        ],
    })
}

fn letter(settled: &str) -> Value {
    json!({
        "id": LETTER, "tenant": "default", "origin": "invocation", "reason": Problem::new(Code::AttemptsExhausted, "x"),
        "invocation": ID, "message": null, "subject": null, "created_at": AT, "settled": settled,
    })
}

impl World {
    async fn start() -> Self {
        let nats = TestNats::start().await;
        let options = BusOptions {
            url: nats.url().to_owned(),
            name: "mesh-test".into(),
            monitor_url: None,
            user: None,
        };
        let bus = Bus::connect(options).await.unwrap();
        assert!(bus.wait_connected(Duration::from_secs(10)).await);
        let asked = Asked::default();
        let service = Self::steering(&asked, &bus).start().await.unwrap();
        let context = Context::new("gateway", bus, Metrics::default());
        let config = gateway::Config {
            port: 0,
            ..gateway::Config::default()
        };
        let edge = gateway::Gateway::bind(config).await.unwrap();
        let url = format!("http://{}", edge.address());
        let serving = context.clone();
        context.tasks.spawn("edge", async move {
            edge.serve(serving).await.unwrap();
        });
        Self {
            asked,
            url,
            context,
            _services: service,
            _nats: nats,
        }
    }

    fn steering(asked: &Asked, bus: &Bus) -> mesh_bus::ServiceBuilder {
        bus.service("execution", "0.1.0")
            .endpoint::<Pause, _, _>(answer::<Pause>(asked, |request| view(request, true)))
            .endpoint::<Resume, _, _>(answer::<Resume>(asked, |request| view(request, false)))
            .endpoint::<Pauses, _, _>(answer::<Pauses>(asked, |_: &Empty| {
                let one =
                    json!({"target": {"agent": "sofia"}, "paused": true, "by": "ann", "reason": "r", "since": AT});
                Ok(json!({"items": [one], "next": null}))
            }))
            .endpoint::<InvocationGet, _, _>(answer::<InvocationGet>(asked, found))
            .endpoint::<InvocationSteps, _, _>(answer::<InvocationSteps>(asked, |request| {
                Ok(steps_of(request.page.after.as_deref()))
            }))
            .endpoint::<InvocationSignal, _, _>(answer::<InvocationSignal>(asked, |_| Ok(waiting(ID, &[]))))
            .endpoint::<InvocationFork, _, _>(answer::<InvocationFork>(asked, |request| Ok(forked(request))))
            .endpoint::<InvocationReplay, _, _>(answer::<InvocationReplay>(asked, |request| Ok(replayed(request))))
            .endpoint::<InvocationCompare, _, _>(answer::<InvocationCompare>(asked, |request| Ok(compared(request))))
            .endpoint::<ApprovalList, _, _>(answer::<ApprovalList>(asked, |_| {
                let one = json!({
                    "id": format!("{ID}-2"), "invocation": ID, "agent": "sofia", "step": 2, "kind": "approval",
                    "name": "refund", "input": {"amount": 3}, "since": AT,
                });
                Ok(json!({"items": [one], "next": null}))
            }))
            .endpoint::<ApprovalDecide, _, _>(answer::<ApprovalDecide>(asked, |request| match request.step {
                9 => Err(Problem::new(Code::ApprovalNotFound, "step 9 waits for nobody")),
                _ => Ok(waiting(ID, &[])),
            }))
            .endpoint::<DeadLetterRequeue, _, _>(answer::<DeadLetterRequeue>(asked, |_| {
                Ok(json!({"dead_letter": letter("requeued"), "invocation": waiting(OTHER, &[])}))
            }))
            .endpoint::<DeadLetterDiscard, _, _>(answer::<DeadLetterDiscard>(asked, |_| Ok(letter("discarded"))))
            .endpoint::<InvocationFeed, _, _>(answer::<InvocationFeed>(asked, |request| {
                let page = JournalPage {
                    tenant: mesh_types::Tenant::default(),
                    invocation: request.invocation,
                    records: Vec::<Record>::new(),
                    more: false,
                };
                Ok(json!(page))
            }))
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = program();
        command.args(arguments).args(["--url", &self.url]).env("COLUMNS", "200");
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    }

    /// What a command that must succeed printed, result and remarks.
    async fn done(&self, arguments: &[&str]) -> (String, String) {
        let output = self.run(arguments).await;
        assert!(
            output.status.success(),
            "mesh {}: {}",
            arguments.join(" "),
            told(&output)
        );
        (text(&output.stdout), text(&output.stderr))
    }

    /// The last thing that an endpoint was asked, and in whose name.
    fn last(&self, endpoint: &str) -> Value {
        let asked = self.asked.lock().unwrap();
        let last = asked.iter().rev().find(|(name, _)| name == endpoint);
        last.unwrap_or_else(|| panic!("{endpoint} was not asked")).1.clone()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.context.shutdown.cancel();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_named_is_paused_and_goes_on() {
    let world = World::start().await;
    for (words, target, tenant) in [
        (&[ID][..], json!({"invocation": ID}), "default"),
        (&["agent", "sofia"], json!({"agent": "sofia"}), "default"),
        (&["tenant", "daarion"], json!("tenant"), "daarion"),
        (&["--all"], json!("all"), "default"),
    ] {
        for (verb, said) in [("pause", "is paused"), ("resume", "goes on")] {
            let arguments = [&[verb], words, &["--reason", "r"]].concat();
            let (result, remark) = world.done(&arguments).await;
            assert!(result.contains(said), "{result}");
            assert_eq!(
                verb == "pause",
                remark.contains(&format!("mesh resume {}", words.join(" "))),
                "{remark}"
            );
            let asked = world.last(verb);
            assert_eq!(
                asked,
                json!({"tenant": tenant, "request": {"target": target, "reason": "r"}})
            );
        }
    }
    let (paused, _) = world.done(&["get", "pauses"]).await;
    assert!(paused.contains("agent sofia"), "{paused}");
    let (sent, _) = world
        .done(&["signal", ID, "paid", "{\"amount\":3}", "--key", "k"])
        .await;
    assert!(sent.contains("waiting"), "{sent}");
    let request = world.last("invocation-signal")["request"].clone();
    assert_eq!(
        request,
        json!({"id": ID, "name": "paid", "value": {"amount": 3}, "key": "k"})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_decides_by_invocation_where_one_thing_waits() {
    let world = World::start().await;
    let (listed, _) = world.done(&["approvals"]).await;
    assert!(
        listed.contains(&format!("{ID}-2")) && listed.contains("{\"amount\":3}"),
        "{listed}"
    );
    let (said, _) = world
        .done(&["approve", ID, "--note", "fine", "--result", "{\"sent\":true}"])
        .await;
    assert!(said.contains("approved"), "{said}");
    let decided = |step: u32, decision: &str, note: Value, output: Value| json!({"invocation": ID, "step": step, "decision": decision, "note": note, "output": output});
    let asked = || world.last("approval-decide")["request"].clone();
    assert_eq!(asked(), decided(2, "approve", json!("fine"), json!({"sent": true})));
    world.done(&["deny", &format!("{ID}-7")]).await;
    assert_eq!(asked(), decided(7, "deny", Value::Null, Value::Null));

    let several = world.run(&["approve", OTHER]).await;
    assert_eq!(several.status.code(), Some(2), "{}", told(&several));
    let both = format!("{OTHER}-2, {OTHER}-5");
    assert!(text(&several.stderr).contains(&both), "{}", told(&several));
    let nothing = world.run(&["approve", &format!("{ID}-9")]).await;
    assert_eq!(nothing.status.code(), Some(1), "{}", told(&nothing));
    assert!(
        text(&nothing.stderr).contains("next: mesh approvals"),
        "{}",
        told(&nothing)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recordings_are_branched_compared_and_replayed() {
    let world = World::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("edit.yaml");
    std::fs::write(&file, "model: mock\noutput: {text: x}\n").unwrap();
    let (made, remark) = world
        .done(&["fork", ID, "--from-step", "2", "--edit", file.to_str().unwrap()])
        .await;
    assert_eq!(made.trim(), OTHER);
    assert!(remark.contains("1 read, 1 replaced"), "{remark}");
    let request = world.last("invocation-fork")["request"].clone();
    assert_eq!(request["edit"], json!({"model": "mock", "output": {"text": "x"}}));
    let (fates, _) = world.done(&["fork", ID, "--from-step", "2", "--dry-run"]).await;
    assert!(fates.contains("replaced") && !fates.contains(OTHER), "{fates}");

    let (same, _) = world.done(&["replay", ID]).await;
    assert!(same.contains("version 2 would do what version 1 did"), "{same}");
    let diverges = world.run(&["replay", ID, "--version", "3", "--json"]).await;
    assert_eq!(diverges.status.code(), Some(1), "{}", told(&diverges));
    let report: Value = serde_json::from_slice(&diverges.stdout).unwrap();
    assert_eq!(report["divergences"][0]["planned"], "tool lookup");

    let (table, remark) = world.done(&["compare", ID, OTHER]).await;
    assert!(table.contains("only right") && !table.contains("alike"), "{table}");
    assert!(remark.contains("first difference is at step 2"), "{remark}");
    let (requeued, _) = world.done(&["dead-letters", "requeue", LETTER]).await;
    assert!(requeued.contains(OTHER), "{requeued}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_show_what_is_waited_for_and_what_a_model_was_asked() {
    let world = World::start().await;
    let (table, remark) = world.done(&["steps", ID]).await;
    assert!(table.contains("calls refund") && table.contains("waits"), "{table}");
    assert!(
        remark.contains(&format!("waiting for approval: mesh approve {ID}-2")),
        "{remark}"
    );
    let (prompt, _) = world.done(&["steps", ID, "--prompt", "1"]).await;
    for part in ["system\nYou are Sofia.", "user\nRefund me", "refund({\"amount\":3})"] {
        assert!(prompt.contains(part), "{prompt}");
    }
    for (step, said) in [("2", "is a tool step"), ("7", "there is no step 7")] {
        let output = world.run(&["steps", ID, "--prompt", step]).await;
        assert_eq!(output.status.code(), Some(2), "{}", told(&output));
        assert!(text(&output.stderr).contains(said), "{}", told(&output));
    }
    let (page, _) = world.done(&["steps", ID, "--json"]).await;
    let page: Page<Step> = serde_json::from_str(&page).unwrap();
    assert_eq!(page.items.len(), 2);
    let (one, _) = world.done(&["get", "invocations", ID, "--json"]).await;
    let one: Invocation = serde_json::from_str(&one).unwrap();
    assert_eq!(one.waits_for.len(), 1);
}
