//! `/api/v1/chat` over real HTTP, with a real server behind it.

use mesh_testkit::wait_until;
use mesh_types::fleet::NodeMode;

use super::super::testing::{FakeOpenAi, WORDS, own_endpoint};
use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

/// The events of a stream so far, as `(name, data)`.
struct Events {
    response: Response,
    text: String,
}

impl Events {
    async fn until(&mut self, name: &str) -> Vec<(String, Value)> {
        let wanted = format!("event: {name}\n");
        while !(self.text.contains(&wanted) && self.text.ends_with("\n\n")) {
            let chunk = tokio::time::timeout(DEADLINE, self.response.chunk())
                .await
                .expect("it goes on")
                .unwrap();
            self.text
                .push_str(std::str::from_utf8(&chunk.expect("more is to come")).unwrap());
        }
        let blocks = self
            .text
            .split("\n\n")
            .filter_map(|block| block.strip_prefix("event: "));
        let pairs = blocks.filter_map(|block| block.split_once("\ndata: "));
        pairs
            .map(|(name, data)| (name.to_owned(), serde_json::from_str(data).unwrap()))
            .collect()
    }
}

async fn chat(world: &World) -> Response {
    let asked = json!({"messages": [{"role": "user", "content": "hi"}], "model": "qwen3"});
    world
        .keyed(Method::POST, "/api/v1/chat", &world.local_key())
        .json(&asked)
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_chat_streams_token_by_token_from_the_own_endpoint() {
    let servers = context(None).await;
    let (fake, url) = FakeOpenAi::start(&servers).await;
    let inference = InferenceConfig {
        provider: Provider::Local,
        ..own_endpoint(&url)
    };
    let world = World::start(FakeNode::new(Access::Development), inference).await;
    fake.words.add_permits(1);
    let mut events = Events {
        response: chat(&world).await,
        text: String::new(),
    };
    let first = events.until("token").await;
    assert_eq!(
        first,
        [("token".to_owned(), json!({"text": WORDS[0]}))],
        "before the rest is made"
    );
    fake.words.add_permits(2);
    let all = events.until("done").await;
    let text: String = all
        .iter()
        .filter_map(|(_, data)| data["text"].as_str().filter(|_| data.get("model").is_none()))
        .collect();
    assert_eq!(text, WORDS.concat());
    let (_, done) = all.last().unwrap();
    assert_eq!(
        (&done["provider"], &done["usage"]["output_tokens"]),
        (&json!("local"), &json!(3))
    );
    servers.shutdown.cancel();
}

#[tokio::test]
async fn chat_is_for_private_mode_and_ends_with_it() {
    let servers = context(None).await;
    let (fake, url) = FakeOpenAi::start(&servers).await;
    let inference = InferenceConfig {
        provider: Provider::Local,
        ..own_endpoint(&url)
    };
    let world = World::start(FakeNode::new(Access::Development), inference).await;
    for mode in [NodeMode::Shared, NodeMode::Sleep] {
        world.node.set_mode(mode);
        let refused = problem(chat(&world).await, 409, "node/not-private").await;
        assert!(refused["next"].is_string());
    }
    world.node.set_mode(NodeMode::Private);
    fake.words.add_permits(1);
    let mut events = Events {
        response: chat(&world).await,
        text: String::new(),
    };
    events.until("token").await;
    world.node.set_mode(NodeMode::Shared);
    fake.words.add_permits(1);
    let all = events.until("failed").await;
    assert_eq!(all.last().unwrap().1["type"], "node/not-private");
    servers.shutdown.cancel();
}

#[tokio::test]
async fn who_goes_away_stops_the_model_and_a_shutdown_ends_streams() {
    let servers = context(None).await;
    let (fake, url) = FakeOpenAi::start(&servers).await;
    let inference = InferenceConfig {
        provider: Provider::Local,
        ..own_endpoint(&url)
    };
    let world = World::start(FakeNode::new(Access::Development), inference).await;
    fake.words.add_permits(1);
    let mut gone = Events {
        response: chat(&world).await,
        text: String::new(),
    };
    gone.until("token").await;
    assert_eq!(fake.open.load(Ordering::Relaxed), 1);
    drop(gone);
    wait_until(DEADLINE, || async { fake.open.load(Ordering::Relaxed) == 0 }).await;
    fake.words.add_permits(1);
    let mut stays = Events {
        response: chat(&world).await,
        text: String::new(),
    };
    stays.until("token").await;
    world.context.shutdown.cancel();
    let rest = tokio::time::timeout(DEADLINE, stays.response.text()).await.unwrap();
    assert!(!rest.unwrap_or_default().contains("event: done"));
    world.context.tasks.drain(DEADLINE).await;
    servers.shutdown.cancel();
}

#[tokio::test]
async fn the_mesh_answers_a_chat_where_it_is_the_provider() {
    let world = World::development().await;
    let mut events = Events {
        response: chat(&world).await,
        text: String::new(),
    };
    let all = events.until("done").await;
    let (_, done) = all.last().unwrap();
    assert_eq!(
        (&done["text"], &done["model"]),
        (&json!("You said: hi"), &json!("qwen3"))
    );
    assert!(all.iter().any(|(name, _)| name == "reset" || name == "token"));
}
