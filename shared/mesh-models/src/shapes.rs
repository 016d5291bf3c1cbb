//! Streams in the shapes that the real APIs document and send, byte by byte, from `tests/shapes`: each gives the same
//! answer however its bytes are cut on the way.

use bytes::Bytes;
use mesh_api::inference::{Chunk, CompleteRequest};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::answer::{Answer, Chunks, Tokens, TryError};
use crate::frames::{Frames, Framing};
use crate::{Waits, anthropic, ollama, openai, read};

#[derive(Debug, Clone, Copy)]
enum Wire {
    OpenAi,
    Anthropic,
    /// With the schema of the answer.
    Structured(&'static str),
    Ollama,
}

/// A file, and what it comes to.
struct Shape {
    name: &'static str,
    wire: Wire,
    body: &'static [u8],
    expected: Expected,
}

enum Expected {
    Answer {
        text: &'static str,
        /// Id, name, arguments.
        calls: &'static [(&'static str, &'static str, &'static str)],
        finish_reason: &'static str,
        /// Input, output, cached, written into the cache.
        tokens: Option<[u64; 4]>,
    },
    Status(u16, &'static str),
    Cut,
}

macro_rules! shape {
    ($wire:expr, $name:literal, $expected:expr) => {
        Shape {
            name: $name,
            wire: $wire,
            body: include_bytes!(concat!("../tests/shapes/", $name)),
            expected: $expected,
        }
    };
}

const fn said(text: &'static str, finish_reason: &'static str, tokens: [u64; 4]) -> Expected {
    Expected::Answer {
        text,
        calls: &[],
        finish_reason,
        tokens: Some(tokens),
    }
}

const fn called(
    text: &'static str,
    calls: &'static [(&'static str, &'static str, &'static str)],
    finish_reason: &'static str,
    tokens: [u64; 4],
) -> Expected {
    Expected::Answer {
        text,
        calls,
        finish_reason,
        tokens: Some(tokens),
    }
}

const fn uncounted(text: &'static str) -> Expected {
    Expected::Answer {
        text,
        calls: &[],
        finish_reason: "stop",
        tokens: None,
    }
}

fn of_openai() -> Vec<Shape> {
    use Wire::OpenAi as W;
    let interleaved = &[
        ("call_Dx1", "weather", "{\"city\":\"Львів\"}"),
        ("call_Ey2", "time", "{\"zone\":\"EET\"}"),
    ];
    vec![
        shape!(
            W,
            "openai/text.sse",
            said("Добрий день, 👋", "stop", [1_200, 9, 1_024, 0])
        ),
        shape!(
            W,
            "openai/tools_interleaved.sse",
            called("", interleaved, "tool_calls", [88, 41, 0, 0])
        ),
        shape!(W, "openai/crlf_comments.sse", said("One two", "stop", [7, 2, 3, 2])),
        shape!(W, "openai/no_done.sse", uncounted("All said.")),
        shape!(
            W,
            "openai/deepseek_reasoner.sse",
            said("Hello!", "stop", [70, 12, 64, 0])
        ),
        shape!(W, "openai/azure_empty_choices.sse", said("Hi", "stop", [5, 1, 0, 0])),
        shape!(
            W,
            "openai/vllm_tool.sse",
            called("", &[("chatcmpl-tool-9f", "now", "{}")], "tool_calls", [150, 10, 0, 0])
        ),
        shape!(W, "openai/llamacpp.sse", said("Так.", "stop", [11, 2, 0, 0])),
        shape!(
            W,
            "openai/message_beside_delta.sse",
            said("One two", "stop", [4, 2, 0, 0])
        ),
        shape!(W, "openai/refusal.sse", uncounted("I can't help with that.")),
        shape!(
            W,
            "openai/error_in_stream.sse",
            Expected::Status(500, "Provider disconnected unexpectedly")
        ),
        shape!(
            W,
            "openai/rate_limit_in_stream.sse",
            Expected::Status(429, "Rate limit reached")
        ),
        shape!(W, "openai/cut_in_event.sse", Expected::Cut),
    ]
}

fn of_anthropic() -> Vec<Shape> {
    use Wire::{Anthropic as W, Structured};
    let tools = &[
        (
            "toolu_01T1x1fJ34qAmk2tNTrN7Up6",
            "get_weather",
            "{\"location\": \"Львів\"}",
        ),
        ("toolu_02", "now", "{}"),
    ];
    let half = &[("toolu_1", "write", "{\"text\":\"lo")];
    vec![
        shape!(
            W,
            "anthropic/text.sse",
            said("Hello! Як справи?", "stop", [25, 15, 0, 0])
        ),
        shape!(
            W,
            "anthropic/tools.sse",
            called("Okay, let me check both:", tools, "tool_calls", [472, 89, 0, 0])
        ),
        shape!(
            W,
            "anthropic/cache.sse",
            said("Cached.", "stop", [100_209, 393, 100_000, 188])
        ),
        shape!(W, "anthropic/thinking.sse", said("12,231", "stop", [30, 60, 0, 0])),
        shape!(W, "anthropic/server_tool.sse", said("Rain.", "stop", [10, 20, 0, 0])),
        shape!(
            W,
            "anthropic/max_tokens_in_call.sse",
            called("", half, "length", [25, 8, 0, 0])
        ),
        shape!(W, "anthropic/refusal.sse", said("I", "content_filter", [25, 4, 0, 0])),
        shape!(
            Structured(r#"{"type":"object"}"#),
            "anthropic/structured.sse",
            said("{\"city\":\"Київ\"}", "stop", [300, 30, 0, 0])
        ),
        shape!(
            Structured(r#"{"type":"array"}"#),
            "anthropic/structured_list.sse",
            said("[\"a\",\"b\"]", "stop", [300, 30, 0, 0])
        ),
        shape!(W, "anthropic/overloaded.sse", Expected::Status(529, "Overloaded")),
        shape!(W, "anthropic/cut.sse", Expected::Cut),
    ]
}

fn of_ollama() -> Vec<Shape> {
    use Wire::Ollama as W;
    let tools = &[
        ("call_1_0", "get_weather", "{\"city\":\"Львів\"}"),
        ("call_x7", "now", "{}"),
    ];
    vec![
        shape!(W, "ollama/chat.ndjson", said("Добрий день", "stop", [26, 282, 0, 0])),
        shape!(
            W,
            "ollama/tools.ndjson",
            called("", tools, "tool_calls", [26, 282, 0, 0])
        ),
        shape!(W, "ollama/thinking.ndjson", said("Yes.", "stop", [26, 282, 0, 0])),
        shape!(W, "ollama/generate.ndjson", said("there was", "length", [4, 2, 0, 0])),
        shape!(W, "ollama/crlf_empty_lines.ndjson", said("ab", "stop", [26, 282, 0, 0])),
        shape!(W, "ollama/error_in_stream.ndjson", Expected::Status(500, "CUDA error")),
        shape!(W, "ollama/load.ndjson", Expected::Status(503, "loaded or unloaded")),
        shape!(W, "ollama/cut.ndjson", Expected::Cut),
    ]
}

fn shapes() -> Vec<Shape> {
    of_openai()
        .into_iter()
        .chain(of_anthropic())
        .chain(of_ollama())
        .collect()
}

#[derive(Default)]
struct Told {
    text: String,
    counted: Option<Tokens>,
}

impl Chunks for Told {
    async fn send(&mut self, chunk: Chunk) {
        if let Chunk::Text(text) = chunk {
            self.text.push_str(&text);
        }
    }

    fn counted(&mut self, tokens: Tokens) {
        self.counted = Some(tokens);
    }
}

/// A turn after one of the model's.
fn request(schema: Option<&str>) -> CompleteRequest {
    serde_json::from_value(json!({
        "model": "m",
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        "response_schema": schema.map(|schema| serde_json::from_str::<Value>(schema).unwrap()),
    }))
    .unwrap()
}

async fn read_pieces(wire: Wire, pieces: Vec<&[u8]>) -> (Result<Answer, TryError>, Told) {
    let mut told = Told::default();
    let waits = Waits {
        connect: std::time::Duration::from_secs(60),
        first_byte: std::time::Duration::from_secs(60),
        idle: std::time::Duration::from_secs(60),
        response_bytes_max: usize::MAX,
    };
    let by = Instant::now() + waits.first_byte;
    let pace = (&waits, by);
    let bytes = futures::stream::iter(pieces.into_iter().map(|piece| Ok(Bytes::copy_from_slice(piece))));
    let (events, lines) = (Frames::new(Framing::Events), Frames::new(Framing::Lines));
    let result = match wire {
        Wire::OpenAi => read::read(bytes, events, openai::Assembly::new(1), pace, &mut told).await,
        Wire::Anthropic => {
            let assembly = anthropic::Assembly::new(&request(None));
            read::read(bytes, events, assembly, pace, &mut told).await
        }
        Wire::Structured(schema) => {
            let assembly = anthropic::Assembly::new(&request(Some(schema)));
            read::read(bytes, events, assembly, pace, &mut told).await
        }
        Wire::Ollama => read::read(bytes, lines, ollama::Assembly::new(1), pace, &mut told).await,
    };
    (result, told)
}

fn check(shape: &Shape, result: &Result<Answer, TryError>, told: &Told) {
    let name = shape.name;
    match (&shape.expected, result) {
        (
            Expected::Answer {
                text,
                calls,
                finish_reason,
                tokens,
            },
            Ok(answer),
        ) => {
            assert_eq!(
                (&answer.text, &told.text),
                (&(*text).to_owned(), &answer.text),
                "{name}"
            );
            assert_eq!(answer.finish_reason, *finish_reason, "{name}");
            let tokens = tokens.map(|[input, output, cached, cache_written]| Tokens {
                input,
                output,
                cached,
                cache_written,
            });
            assert_eq!((answer.tokens, told.counted), (tokens, tokens), "{name}");
            let calls: Vec<Value> = calls
                .iter()
                .map(|(id, name, arguments)| {
                    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
                })
                .collect();
            assert_eq!(answer.tool_calls, calls, "{name}");
        }
        (Expected::Status(status, part), Err(error)) => {
            assert!(
                matches!(error, TryError::Status { status: told, .. } if told == status),
                "{name}: {error}"
            );
            assert!(error.to_string().contains(part), "{name}: {error}");
        }
        (Expected::Cut, Err(TryError::Cut)) => {}
        (_, other) => panic!("{name}: {other:?}"),
    }
}

#[tokio::test]
async fn each_shape_comes_to_its_answer() {
    for shape in shapes() {
        let (result, told) = read_pieces(shape.wire, vec![shape.body]).await;
        check(&shape, &result, &told);
        let (result, told) = read_pieces(shape.wire, shape.body.chunks(1).collect()).await;
        check(&shape, &result, &told);
    }
}

/// What was counted before a stream broke is known: somebody pays for it.
#[tokio::test]
async fn a_broken_stream_has_told_what_it_took() {
    let overloaded = of_anthropic()
        .into_iter()
        .find(|shape| shape.name == "anthropic/overloaded.sse");
    let (result, told) = read_pieces(Wire::Anthropic, vec![overloaded.unwrap().body]).await;
    result.unwrap_err();
    assert_eq!(told.counted.unwrap().input, 25);
}

#[test]
fn a_shape_cut_anywhere_is_the_same() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let shapes = shapes();
    let places = proptest::collection::vec(any::<prop::sample::Index>(), 0..12);
    let strategy = (0..shapes.len(), places);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(1_500));
    let ran = runner.run(&strategy, |(number, places)| {
        let shape = &shapes[number];
        let mut cuts: Vec<usize> = places.iter().map(|place| place.index(shape.body.len())).collect();
        cuts.extend([0, shape.body.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| &shape.body[cut[0]..cut[1]]).collect();
        let (result, told) = runtime.block_on(read_pieces(shape.wire, pieces));
        check(shape, &result, &told);
        Ok(())
    });
    ran.unwrap();
}

/// However a stream is cut short, it is an error or the whole answer: never a part of it taken for all.
#[test]
fn no_part_is_taken_for_the_whole() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    for shape in shapes() {
        let whole = runtime.block_on(read_pieces(shape.wire, vec![shape.body])).0;
        for end in 0..shape.body.len() {
            let part = runtime.block_on(read_pieces(shape.wire, vec![&shape.body[..end]])).0;
            if let Ok(part) = part {
                let whole = whole.as_ref().unwrap();
                let known = (&part.text, &part.tool_calls, &part.finish_reason);
                assert_eq!(
                    known,
                    (&whole.text, &whole.tool_calls, &whole.finish_reason),
                    "{}",
                    shape.name
                );
            }
        }
    }
}
