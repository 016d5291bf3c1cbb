//! How long an answer is waited for, on a clock that stands still unless somebody waits.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::frames::Framing;
use crate::openai;

const WAITS: Waits = Waits {
    connect: Duration::from_secs(5),
    first_byte: Duration::from_secs(30),
    idle: Duration::from_secs(20),
    response_bytes_max: usize::MAX,
};

struct Nobody;

impl Chunks for Nobody {
    async fn send(&mut self, _chunk: Chunk) {}
}

fn event(delta: &serde_json::Value, finish_reason: Option<&str>) -> String {
    format!(
        "data: {}\n\n",
        json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})
    )
}

fn text(text: &str) -> String {
    event(&json!({"content": text}), None)
}

/// Reads these pieces, each after a pause in seconds; the connection stays open after the last one. Answers how many
/// seconds it took, too.
async fn read_slowly(pieces: Vec<(u64, String)>) -> (Result<Answer, TryError>, u64) {
    let begun = Instant::now();
    let bytes = futures::stream::iter(pieces).then(|(pause, piece)| async move {
        tokio::time::sleep(Duration::from_secs(pause)).await;
        Ok(Bytes::from(piece))
    });
    let bytes = bytes.chain(futures::stream::pending());
    let by = Instant::now() + WAITS.first_byte;
    let frames = Frames::new(Framing::Events);
    let result = read(bytes, frames, openai::Assembly::new(0), (&WAITS, by), &mut Nobody).await;
    (result, begun.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn pings_and_roles_are_no_token() {
    let (nothing, after) = read_slowly(vec![]).await;
    assert_eq!(
        (nothing.unwrap_err(), after),
        (TryError::Timeout("the provider sent nothing"), 30)
    );
    let role = event(&json!({"role": "assistant", "content": ""}), None);
    let mut pieces = vec![(1, role)];
    pieces.extend((0..60).map(|_| (1, ": ping\n\n".to_owned())));
    let (pinged, after) = read_slowly(pieces).await;
    assert_eq!(
        (pinged.unwrap_err(), after),
        (TryError::Timeout("the provider sent no token"), 30)
    );
}

#[tokio::test(start_paused = true)]
async fn tokens_keep_an_answer_alive_and_pings_do_not() {
    let mut pieces: Vec<(u64, String)> = (0..10).map(|_| (15, text("word "))).collect();
    pieces.push((15, event(&json!({"reasoning_content": "hm"}), None)));
    pieces.push((15, event(&json!({}), Some("stop"))));
    pieces.push((0, "data: [DONE]\n\n".to_owned()));
    let (answer, after) = read_slowly(pieces).await;
    assert_eq!((answer.unwrap().text.len(), after), (50, 180));
    let mut pieces = vec![(1, text("Wait"))];
    pieces.extend((0..60).map(|_| (1, ": ping\n\n".to_owned())));
    let (silent, after) = read_slowly(pieces).await;
    assert_eq!(
        (silent.unwrap_err(), after),
        (TryError::Timeout("the provider fell silent"), 21)
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_whole_waits_a_little_for_its_counts() {
    let end = event(&json!({}), Some("stop"));
    let usage = format!(
        "data: {}\n\n",
        json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 1}})
    );
    let (answer, after) = read_slowly(vec![(1, text("Hi")), (1, end.clone())]).await;
    assert_eq!((answer.unwrap().tokens, after), (None, 2 + LAST_WORDS.as_secs()));
    let (answer, _) = read_slowly(vec![(1, text("Hi")), (1, end), (3, usage)]).await;
    assert_eq!(answer.unwrap().tokens.unwrap().input, 7);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_comments_does_not_hide_the_time() {
    let flood = futures::stream::repeat(()).then(|()| async {
        tokio::time::advance(Duration::from_secs(1)).await;
        Ok(Bytes::from_static(b": ping\n"))
    });
    let by = Instant::now() + WAITS.first_byte;
    let frames = Frames::new(Framing::Events);
    let result = read(flood, frames, openai::Assembly::new(0), (&WAITS, by), &mut Nobody).await;
    assert_eq!(result.unwrap_err(), TryError::Timeout("the provider sent no token"));
}
