//! Repeats of a call: joined while it runs, answered after it, never worked on twice.

use std::sync::atomic::{AtomicUsize, Ordering};

use mesh_types::Code;
use serde_json::json;
use tokio::sync::Notify;

use super::*;

#[derive(Default)]
struct Heard(Vec<Chunk>);

impl Chunks for Heard {
    async fn send(&mut self, chunk: Chunk) {
        self.0.push(chunk);
    }
}

impl Caller for Heard {
    async fn is_there(&self) -> bool {
        true
    }
}

/// Its process died: nobody hears what is sent.
struct Dead;

impl Chunks for Dead {
    async fn send(&mut self, _: Chunk) {}
}

impl Caller for Dead {
    async fn is_there(&self) -> bool {
        false
    }
}

fn asked(key: &str, text: &str) -> CompleteRequest {
    serde_json::from_value(json!({
        "model": "mock", "idempotency_key": key, "messages": [{"role": "user", "content": text}]
    }))
    .unwrap()
}

fn key(key: &str) -> Option<Key> {
    Key::of(&Tenant::default(), &asked(key, "x"))
}

fn completion(text: &str) -> Completion {
    serde_json::from_value(json!({
        "text": text, "model": "m", "provider": "p", "usage": {}, "finish_reason": "stop", "attempt": 2
    }))
    .unwrap()
}

fn text(text: &str) -> Chunk {
    Chunk::Text(text.to_owned())
}

/// A call that streams two attempts, waits at its gate and answers; and how many of them run and ran.
#[derive(Default)]
struct Model {
    gate: Notify,
    begun: AtomicUsize,
    running: AtomicUsize,
}

struct Runs(Arc<Model>);

impl Drop for Runs {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Model {
    fn work(self: &Arc<Self>, mut chunks: Recorder, answer: Result<&'static str, Code>) -> Work {
        let model = Arc::clone(self);
        async move {
            model.begun.fetch_add(1, Ordering::Relaxed);
            model.running.fetch_add(1, Ordering::Relaxed);
            let runs = Runs(model);
            for chunk in [Chunk::Attempt(1), text("void"), Chunk::Attempt(2), text("a"), text("b")] {
                chunks.send(chunk).await;
            }
            runs.0.gate.notified().await;
            chunks.send(text("c")).await;
            answer.map(completion).map_err(|code| Problem::new(code, "no"))
        }
        .boxed()
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }
}

fn is_running(call: Call) -> Running {
    match call {
        Call::Running(running) => running,
        Call::Answered(_) => panic!("it was answered"),
    }
}

#[test]
fn only_the_same_question_of_the_same_tenant_is_a_repeat() {
    let of = |request: &CompleteRequest| Key::of(&Tenant::default(), request).unwrap();
    let first = asked("k", "x");
    let mut told = first.clone();
    told.metadata.insert("epoch".to_owned(), json!(2));
    assert_eq!(of(&first), of(&told));
    let mut scripted = first.clone();
    scripted.metadata.insert("mock_script".to_owned(), json!("echo"));
    for other in [asked("k", "y"), asked("l", "x"), scripted] {
        assert_ne!(of(&first), of(&other));
    }
    assert_ne!(Some(of(&first)), Key::of(&"other".parse().unwrap(), &first));
    let keyless = CompleteRequest {
        idempotency_key: None,
        ..first
    };
    assert_eq!(Key::of(&Tenant::default(), &keyless), None);
}

#[tokio::test]
async fn a_repeat_joins_the_call_that_runs_and_hears_all_of_it() {
    let calls = Arc::new(Calls::new(&Limits::default()));
    let model = Arc::new(Model::default());
    let join = || is_running(calls.join(key("k"), |chunks| model.work(chunks, Ok("abc"))));
    let (first, second) = (join(), join());
    let (mut heard, mut heard_late) = (Heard::default(), Heard::default());
    let opened = async {
        tokio::task::yield_now().await;
        model.gate.notify_one();
    };
    let (one, two, ()) = tokio::join!(first.follow(&mut heard), second.follow(&mut heard_late), opened);
    assert_eq!((one.unwrap(), two.unwrap()), (completion("abc"), completion("abc")));
    let all = [Chunk::Attempt(2), text("a"), text("b"), text("c")];
    assert_eq!((&heard.0[..], &heard_late.0[..]), (&all[..], &all[..]));
    let Call::Answered(again) = calls.join(key("k"), |chunks| model.work(chunks, Ok("other"))) else {
        panic!("it runs again");
    };
    assert_eq!((again.text.as_str(), model.begun()), ("abc", 1));
}

#[tokio::test]
async fn a_call_ends_with_the_last_one_who_waits_for_it() {
    let calls = Arc::new(Calls::new(&Limits::default()));
    let model = Arc::new(Model::default());
    let join = || is_running(calls.join(key("k"), |chunks| model.work(chunks, Ok("abc"))));
    let (mut here, mut there) = (Heard::default(), Heard::default());
    let mut first = Box::pin(join().follow(&mut here));
    let mut second = Box::pin(join().follow(&mut there));
    assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
    drop(first);
    assert_eq!(model.running.load(Ordering::Relaxed), 1);
    model.gate.notify_one();
    assert_eq!(second.await.unwrap().text, "abc", "who stays gets the answer");

    let other = || is_running(calls.join(key("l"), |chunks| model.work(chunks, Ok("abc"))));
    let mut left = Box::pin(other().follow(&mut here));
    assert!((&mut left).now_or_never().is_none());
    drop(left);
    assert_eq!(model.running.load(Ordering::Relaxed), 0);
    assert_eq!(calls.lock().by_key.len(), 1, "what nobody waits for is forgotten");
    let again = other();
    model.gate.notify_one();
    assert!(again.follow(&mut there).await.is_ok());
    assert_eq!(model.begun(), 3);
}

#[tokio::test]
async fn a_dead_caller_does_not_keep_a_call_that_another_leaves() {
    let calls = Arc::new(Calls::new(&Limits::default()));
    let model = Arc::new(Model::default());
    let join = || is_running(calls.join(key("k"), |chunks| model.work(chunks, Ok("abc"))));
    let mut dead = Dead;
    let mut died = Box::pin(join().follow(&mut dead));
    assert!((&mut died).now_or_never().is_none(), "it may be heard of again");
    let mut heard = Heard::default();
    let mut repeat = Box::pin(join().follow(&mut heard));
    assert!((&mut repeat).now_or_never().is_none());
    assert!(died.await.unwrap_err().is(Code::Unavailable));
    assert_eq!(model.running.load(Ordering::Relaxed), 1);
    drop(repeat);
    assert_eq!((model.running.load(Ordering::Relaxed), model.begun()), (0, 1));
    assert_eq!(heard.0, [Chunk::Attempt(2), text("a"), text("b")]);
}

#[tokio::test(start_paused = true)]
async fn failures_are_not_kept_and_answers_only_for_a_while() {
    let limits = Limits {
        repeat_answers_max: 2,
        ..Limits::default()
    };
    let calls = Arc::new(Calls::new(&limits));
    let model = Arc::new(Model::default());
    let ask = async |name: &str, answer| match calls.join(key(name), |chunks| model.work(chunks, answer)) {
        Call::Answered(_) => "kept",
        Call::Running(running) => {
            model.gate.notify_one();
            running
                .follow(&mut Heard::default())
                .await
                .map_or("failed", |_| "worked")
        }
    };
    assert_eq!(ask("a", Err(Code::ModelFailed)).await, "failed");
    assert_eq!(ask("a", Ok("1")).await, "worked");
    assert_eq!(ask("a", Ok("1")).await, "kept");
    assert_eq!(ask("b", Ok("2")).await, "worked");
    assert_eq!(ask("c", Ok("3")).await, "worked");
    assert_eq!(ask("a", Ok("1")).await, "worked", "only two are kept");
    assert_eq!(ask("c", Ok("3")).await, "kept");
    tokio::time::advance(Duration::from_millis(limits.repeat_window_ms)).await;
    assert_eq!(ask("c", Ok("3")).await, "worked");
    assert_eq!(calls.lock().kept_bytes, 1, "the old ones are gone");
}

#[tokio::test]
async fn tries_without_an_answer_are_counted_on_by_the_next_call() {
    let limits = Limits::default();
    let calls = Arc::new(Calls::new(&limits));
    let mut begun = Vec::new();
    for number in 0..3 {
        let mut before = 0;
        let call = calls.join(key("k"), |mut recorder| {
            before = recorder.tries_before();
            async move {
                recorder.send(Chunk::Attempt(1)).await;
                recorder.send(Chunk::Attempt(2)).await;
                match number {
                    2 => Ok(completion("at last")),
                    _ => Err(Problem::new(Code::ModelFailed, "down")),
                }
            }
            .boxed()
        });
        begun.push(before);
        let Call::Running(running) = call else {
            panic!("it is answered already")
        };
        assert_eq!(running.follow(&mut Heard::default()).await.is_ok(), number == 2);
    }
    assert_eq!(begun, [0, 2, 4]);
}
