//! The mock's scripts, played without a bus.

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

fn request(talk: Value) -> CompleteRequest {
    serde_json::from_value(json!({"model": "mock", "messages": talk})).unwrap()
}

fn user(text: &str) -> CompleteRequest {
    request(json!([{"role": "user", "content": text}]))
}

async fn play_by(
    mock: &Mock,
    model: &str,
    request: &CompleteRequest,
    attempt: u32,
) -> (Result<Answer, TryError>, Vec<String>) {
    let mut heard = Heard::default();
    let call = Try {
        model,
        request,
        attempt,
    };
    let result = mock.attempt(call, &mut heard).await;
    (result, heard.0)
}

async fn play(model: &str, request: &CompleteRequest, attempt: u32) -> (Result<Answer, TryError>, Vec<String>) {
    play_by(&Mock::new(&Config::default()), model, request, attempt).await
}

#[tokio::test]
async fn an_answer_streams_word_by_word_and_adds_up() {
    let asked = user("hello");
    let (result, heard) = play("mock", &asked, 1).await;
    let answer = result.unwrap();
    assert!(heard.len() > 5, "{heard:?}");
    assert_eq!(heard.concat(), answer.text);
    assert_eq!(answer.finish_reason, "stop");
    assert_eq!(play("mock", &asked, 1).await.0.unwrap(), answer);
    let (long, heard) = play("mock:script:long", &asked, 1).await;
    assert_eq!((heard.len(), heard.concat()), (2_000, long.unwrap().text));
    assert_eq!(play("mock:script:echo", &asked, 1).await.0.unwrap().text, "hello");
}

#[tokio::test]
async fn a_script_fails_and_recovers() {
    let asked = user("hello");
    let (failed, heard) = play("mock:script:flaky", &asked, 1).await;
    assert!(failed.unwrap_err().is_transient());
    assert_eq!(heard.len(), 2, "the half before the failure was streamed");
    assert!(play("mock:script:flaky", &asked, 2).await.0.is_ok());
    assert!(play("mock:script:fail", &asked, 9).await.0.is_err());
    assert_eq!(play("mock:script:cut", &asked, 1).await.0.unwrap_err(), TryError::Cut);
    assert!(matches!(
        play("mock:script:none", &asked, 1).await.0,
        Err(TryError::Protocol(_))
    ));
}

#[tokio::test]
async fn failures_are_counted_by_key_over_all_calls() {
    let mock = Mock::new(&Config::default());
    let mut asked = user("hello");
    asked.metadata.insert(
        SCRIPT_METADATA.to_owned(),
        json!([{"text": "fine", "fail": {"status": 500, "times": 3}}]),
    );
    for key in ["inv_1/1", "inv_1/2"] {
        asked.idempotency_key = Some(key.to_owned());
        let mut failed = 0;
        // Each repeat is a call of its own that begins at its first try.
        while play_by(&mock, "mock", &asked, 1).await.0.is_err() {
            failed += 1;
        }
        assert_eq!(failed, 3, "{key}");
    }
}

#[test]
fn counted_failures_are_bounded() {
    let mut failures = Failures::default();
    assert_eq!((failures.count("a".into()), failures.count("a".into())), (1, 2));
    for number in 0..COUNTED_KEYS_MAX {
        failures.count(number.to_string());
    }
    assert_eq!(failures.tries.len(), COUNTED_KEYS_MAX);
    assert_eq!(failures.count("a".into()), 1, "the oldest gave way");
}

#[tokio::test]
async fn offered_tools_are_called_once_and_their_results_are_the_answer() {
    let tools = json!([{"type": "function", "function": {"name": "now"}},
                       {"type": "function", "function": {"name": "lookup"}}]);
    let talk = json!([{"role": "user", "content": "{\"city\": \"Lviv\"}"}]);
    let mut asked = request(talk.clone());
    asked.tools = serde_json::from_value(tools).unwrap();
    let first = play("mock:script:tools", &asked, 1).await.0.unwrap();
    assert_eq!(first.finish_reason, "tool_calls");
    let calls: Vec<FunctionCall> = first.tool_calls.iter().filter_map(FunctionCall::parse).collect();
    assert_eq!(calls.len(), 2);
    assert_eq!((calls[1].name.as_str(), calls[1].id.as_str()), ("lookup", "call_0_1"));
    assert_eq!(calls[1].arguments, r#"{"city":"Lviv"}"#);
    assert_eq!(
        play("mock:script:tools", &asked, 2).await.0.unwrap(),
        first,
        "a repeat says the same"
    );

    let answered = json!([talk[0], {"role": "assistant", "content": "", "tool_calls": first.tool_calls},
        {"role": "tool", "tool_call_id": "call_0_0", "content": "noon"},
        {"role": "tool", "tool_call_id": "call_0_1", "content": "in the west"}]);
    asked.messages = serde_json::from_value(answered).unwrap();
    let second = play("mock:script:tools", &asked, 1).await.0.unwrap();
    assert!(second.tool_calls.is_empty());
    assert_eq!(second.text, "noon\nin the west");
    let again = play("mock:script:loop", &asked, 1).await.0.unwrap();
    let again = FunctionCall::parse(&again.tool_calls[0]).unwrap();
    assert_eq!((again.name.as_str(), again.id.as_str()), ("now", "call_1_0"));

    let none = play("mock:script:loop", &user("x"), 1).await.0.unwrap();
    assert_eq!((none.text.as_str(), none.finish_reason.as_str()), (NO_TOOLS, "stop"));
}

#[tokio::test]
async fn a_script_of_the_configuration_is_data_and_takes_turns() {
    let script: Script = serde_json::from_value(json!([
        {"text": "b c", "tokens": ["d\n", "{{last}}"], "tool_calls": [{"name": "t", "arguments": {"x": "{{last}}"}}],
         "usage": {"input_tokens": 3, "output_tokens": 4}},
        {"text": "got {{tool:0}}", "finish_reason": "length"}
    ]))
    .unwrap();
    let mut config = Config::default();
    config.mock_scripts.insert("mine".to_owned(), script);
    let mock = Mock::new(&config);
    let model = "mock:script:mine";
    let mut asked = user("thanks");
    let (answer, heard) = play_by(&mock, model, &asked, 1).await;
    let answer = answer.unwrap();
    assert_eq!(heard, ["b ", "c", "d\n", "thanks"]);
    assert_eq!(
        answer.tokens,
        Some(Tokens {
            input: 3,
            output: 4,
            ..Tokens::default()
        })
    );
    assert_eq!(
        FunctionCall::parse(&answer.tool_calls[0]).unwrap().arguments,
        r#"{"x":"thanks"}"#
    );
    asked.metadata.insert(SCRIPT_METADATA.to_owned(), json!("mine"));
    assert_eq!(play_by(&mock, "mock", &asked, 1).await.0.unwrap(), answer);

    let mut later = request(json!([
        {"role": "user", "content": "before"}, {"role": "assistant", "content": "an answer"},
        {"role": "user", "content": "thanks"}, {"role": "assistant", "content": ""},
        {"role": "tool", "content": "it"}
    ]));
    let last = play_by(&mock, model, &later, 1).await.0.unwrap();
    assert_eq!((last.text.as_str(), last.finish_reason.as_str()), ("got it", "length"));
    later.messages.push(later.messages[3].clone());
    assert_eq!(
        play_by(&mock, model, &later, 1).await.0.unwrap().text,
        "got it",
        "the last turn goes on"
    );
}

#[test]
fn a_script_of_the_request_serves_names_that_nobody_knows() {
    let mock = Mock::new(&Config::default());
    let mut asked = user("x");
    assert!(mock.script("mock:script:own", &asked).unwrap_err().contains("own"));
    let own = json!([{"text": "own"}]);
    asked.metadata.insert(SCRIPT_METADATA.to_owned(), own.clone());
    let played = |model: &str| serde_json::to_value(mock.script(model, &asked).unwrap()).unwrap()[0]["text"].clone();
    assert_eq!(
        (played("mock:script:own"), played("mock")),
        (json!("own"), json!("own"))
    );
    assert_eq!(played("mock:script:echo"), json!("{{last}}"));
    asked
        .metadata
        .insert(SCRIPT_METADATA.to_owned(), json!([{"explode": 1}]));
    assert!(mock.script("mock", &asked).unwrap_err().contains("explode"));
}

#[tokio::test(start_paused = true)]
async fn a_stalled_script_tries_the_patience_with_providers() {
    let config = Config::default();
    let started = tokio::time::Instant::now();
    let (stalled, heard) = play("mock:script:stall", &user("x"), 1).await;
    assert_eq!(heard.concat(), "Wait for");
    assert!(matches!(stalled.unwrap_err(), TryError::Timeout(_)));
    assert_eq!(started.elapsed(), config.limits.idle_timeout());
    let started = tokio::time::Instant::now();
    let (slow, heard) = play("mock:script:slow", &user("x"), 1).await;
    assert_eq!((heard.len(), slow.unwrap().finish_reason.as_str()), (50, "stop"));
    assert_eq!(started.elapsed(), Duration::from_secs(5));
}
