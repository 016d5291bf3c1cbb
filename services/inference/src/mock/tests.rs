//! The mock's scripts, played without a bus.

use mesh_api::inference::PromptMessage;
use serde_json::json;

use super::*;

#[derive(Default)]
struct Heard(Vec<String>);

impl Chunks for Heard {
    async fn send(&mut self, chunk: Chunk) {
        if let Chunk::Text(text) = chunk {
            self.0.push(text);
        }
    }
}

fn request(roles: &[(Role, &str)]) -> CompleteRequest {
    CompleteRequest {
        model: "mock".to_owned(),
        fallbacks: Vec::new(),
        messages: roles
            .iter()
            .map(|(role, text)| PromptMessage::new(*role, *text))
            .collect(),
        temperature: None,
        max_tokens: None,
        idempotency_key: None,
        tools: Vec::new(),
        metadata: serde_json::Map::new(),
    }
}

async fn play(model: &str, request: &CompleteRequest, attempt: u32) -> (Result<Answer, TryError>, Vec<String>) {
    let mock = Mock::new(&BTreeMap::new(), Duration::ZERO);
    let mut heard = Heard::default();
    let result = mock
        .attempt(
            Try {
                model,
                request,
                attempt,
            },
            &mut heard,
        )
        .await;
    (result, heard.0)
}

#[tokio::test]
async fn an_answer_streams_word_by_word_and_adds_up() {
    let asked = request(&[(Role::User, "hello")]);
    let (result, heard) = play("mock", &asked, 1).await;
    let answer = result.unwrap();
    assert!(heard.len() > 5, "{heard:?}");
    assert_eq!(heard.concat(), answer.text);
    assert_eq!(answer.finish_reason, "stop");
    assert_eq!(play("mock", &asked, 1).await.0.unwrap(), answer);
}

#[tokio::test]
async fn a_script_fails_and_recovers() {
    let asked = request(&[(Role::User, "hello")]);
    let (failed, heard) = play("mock:script:flaky", &asked, 1).await;
    assert!(failed.unwrap_err().is_transient());
    assert!(!heard.is_empty(), "the half before the failure was streamed");
    assert!(play("mock:script:flaky", &asked, 2).await.0.is_ok());
    assert!(play("mock:script:fail", &asked, 9).await.0.is_err());
    assert_eq!(play("mock:script:cut", &asked, 1).await.0.unwrap_err(), TryError::Cut);
    assert!(matches!(
        play("mock:script:none", &asked, 1).await.0,
        Err(TryError::Protocol(_))
    ));
}

#[tokio::test]
async fn a_tool_call_is_followed_by_the_next_turn() {
    let (first, _) = play("mock:script:tool", &request(&[(Role::User, "sum it up")]), 1).await;
    let first = first.unwrap();
    assert_eq!(first.finish_reason, "tool_calls");
    assert_eq!(
        first.tool_calls[0]["function"],
        json!({"name": "summarize_channel", "arguments": "{}"})
    );
    let later = request(&[(Role::User, "sum it up"), (Role::Assistant, ""), (Role::Tool, "a lot")]);
    let (second, _) = play("mock:script:tool", &later, 1).await;
    assert!(second.unwrap().tool_calls.is_empty());
}

#[tokio::test]
async fn a_script_of_the_configuration_is_data() {
    let script: Script = serde_json::from_value(json!({"turns": [[
        {"text": "a"}, {"words": {"text": "b c"}}, {"wait_ms": 0}, {"reply": {}},
        {"tool_call": {"name": "t", "arguments": {"x": 1}}}, {"usage": {"input_tokens": 3, "output_tokens": 4}}
    ]]}))
    .unwrap();
    let mock = Mock::new(&BTreeMap::from([("mine".to_owned(), script)]), Duration::ZERO);
    let mut asked = request(&[(Role::User, "thanks")]);
    let mut heard = Heard::default();
    let model = "mock:script:mine";
    let answer = mock
        .attempt(
            Try {
                model,
                request: &asked,
                attempt: 1,
            },
            &mut heard,
        )
        .await
        .unwrap();
    assert!(answer.text.starts_with("ab cYou are welcome"), "{}", answer.text);
    assert_eq!(answer.tokens, Some(Tokens { input: 3, output: 4 }));
    assert!(mock.knows(model) && !mock.knows("mock:script:other"));
    asked.metadata.insert("mock_script".to_owned(), json!("mine"));
    let again = mock
        .attempt(
            Try {
                model: "mock",
                request: &asked,
                attempt: 1,
            },
            &mut heard,
        )
        .await
        .unwrap();
    assert_eq!(again, answer);
    assert!(serde_json::from_value::<Script>(json!({"turns": [[{"explode": 1}]]})).is_err());
}
