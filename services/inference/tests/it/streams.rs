//! Streams: how soon a token comes, what a caller that leaves ends, what a repeat costs.

use std::time::Duration;

use mesh_api::inference::{Chunk, Complete, CompleteRequest};
use mesh_testkit::wait_until;
use serde_json::json;

use crate::setup::{Mesh, connect};

const SOON: Duration = Duration::from_secs(30);

fn request(model: &str, key: Option<&str>) -> CompleteRequest {
    serde_json::from_value(json!({
        "model": model, "idempotency_key": key, "messages": [{"role": "user", "content": "hello"}]
    }))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_at_the_caller_before_the_provider_makes_the_next_one() {
    let mesh = Mesh::start().await;
    let mut heard = Vec::new();
    let asked = request("gpt-ticking", Some("inv_1/1"));
    let caller = mesh.caller();
    let done = mesh.context.bus.call_stream::<Complete>(&caller, &asked, |chunk| {
        if let Chunk::Text(text) = chunk {
            heard.push(text);
            mesh.fake.tick();
        }
    });
    let done = done.await.unwrap();
    assert_eq!(heard.len(), 50, "no token is held back for the next one");
    assert_eq!(heard.concat(), done.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_ends_the_providers_call() {
    let mesh = Mesh::start_with(|config| {
        config.limits.first_byte_timeout_ms = 60_000;
        config.limits.idle_timeout_ms = 60_000;
    })
    .await;
    for (model, key) in [
        ("gpt-held", None),
        ("gpt-held", Some("inv_1/1")),
        ("gpt-mute", Some("inv_1/2")),
    ] {
        let (bus, caller, asked) = (mesh.context.bus.clone(), mesh.caller(), request(model, key));
        let call = tokio::spawn(async move { bus.call_stream::<Complete>(&caller, &asked, |_| {}).await });
        wait_until(SOON, || async { mesh.fake.held() == 1 }).await;
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        wait_until(SOON, || async { mesh.fake.held() == 0 }).await;
    }
    assert_eq!(mesh.fake.asked("gpt-held").len(), 2, "what was left is not asked again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_on_for_the_repeat_of_a_caller_that_died_and_ends_when_that_leaves() {
    let mesh = Mesh::start_with(|config| config.limits.idle_timeout_ms = 60_000).await;
    let asked = request("gpt-held", Some("inv_1/1"));
    let process = tokio::runtime::Runtime::new().unwrap();
    let (url, caller, same, fake) = (mesh.url(), mesh.caller(), asked.clone(), mesh.fake.clone());
    process
        .spawn(async move {
            let bus = connect(url).await;
            let mut call = Box::pin(async move { bus.call_stream::<Complete>(&caller, &same, |_| {}).await });
            tokio::select! {
                _ = &mut call => panic!("it was answered"),
                () = wait_until(SOON, || async { fake.held() == 1 }) => {}
            }
            // Dropped, it would tell that it leaves; a process that is killed does not.
            std::mem::forget(call);
        })
        .await
        .unwrap();
    process.shutdown_background();
    wait_until(SOON, || async { mesh.connections().await == 1 }).await;

    let (bus, caller) = (mesh.context.bus.clone(), mesh.caller());
    let (tell, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let repeat = tokio::spawn(async move {
        let on_chunk = |chunk| tell.send(chunk).unwrap();
        bus.call_stream::<Complete>(&caller, &asked, on_chunk).await
    });
    assert_eq!(heard.recv().await, Some(Chunk::Attempt(1)));
    assert_eq!(heard.recv().await, Some(Chunk::Text("Wait".to_owned())));
    assert_eq!((mesh.fake.held(), mesh.fake.asked("gpt-held").len()), (1, 1));
    repeat.abort();
    assert!(repeat.await.unwrap_err().is_cancelled());
    wait_until(SOON, || async { mesh.fake.held() == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_not_paid_twice() {
    let mesh = Mesh::start().await;
    let asked = request("gpt-late", Some("inv_1/1"));
    let ((first, chunks), (second, chunks_too)) = tokio::join!(mesh.complete(&asked), mesh.complete(&asked));
    let first = first.unwrap();
    assert_eq!(second.unwrap(), first);
    assert_eq!(chunks, chunks_too);
    let (third, chunks) = mesh.complete(&asked).await;
    assert_eq!(third.unwrap(), first);
    assert_eq!(chunks, [Chunk::Attempt(1), Chunk::Text(first.text.clone())]);
    assert_eq!(mesh.fake.asked("gpt-late").len(), 1);
    for other in [
        request("gpt-late", Some("inv_1/2")),
        request("gpt-late", None),
        request("gpt-late", None),
    ] {
        mesh.complete(&other).await.0.unwrap();
    }
    assert_eq!(mesh.fake.asked("gpt-late").len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_call_is_made_again_by_its_repeat() {
    let mesh = Mesh::start_with(|config| config.limits.retries_max = 0).await;
    let asked = request("gpt-limited", Some("inv_1/1"));
    mesh.complete(&asked).await.0.unwrap_err();
    assert_eq!(mesh.complete(&asked).await.0.unwrap().attempt, 1);
    assert_eq!(mesh.fake.asked("gpt-limited").len(), 2);
}
