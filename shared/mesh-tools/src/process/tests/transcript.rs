//! Reading of lines that arrive in any pieces.

use serde_json::json;

use crate::process::drivers::Driver;
use crate::process::transcript::Transcript;

const LINES: &str = concat!(
    "{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"2026_1\"}\r\n",
    "\n",
    "{\"type\":\"text\",\"text\":\"Привіт, \"}\n",
    "{\"type\":\"text\",\"text\":\"світе 🌍\\n\"}\n",
    "[1,2]\n",
    "{\"type\":\"new_kind\",\"text\":\"not for us\"}\n",
    "{\"type\":\"result\",\"exit_code\":0,\"text\":\"Привіт, світе 🌍\",\"tokens\":{\"input\":-1,\"output\":3}}",
);

/// Everything that comes of reading the lines in pieces of `size` bytes.
fn read(size: usize) -> (Vec<String>, serde_json::Value, (u64, u64, f64)) {
    let mut pieces = Vec::new();
    let mut on_text = |piece| pieces.push(piece);
    let mut transcript = Transcript::new(Driver::named("hermes-agent").unwrap(), 1000, &mut on_text);
    for bytes in LINES.as_bytes().chunks(size) {
        transcript.take(bytes).unwrap();
    }
    transcript.finish().unwrap();
    assert!(transcript.is_done() && transcript.failure().is_none());
    let usage = transcript.usage();
    let output = transcript.output().unwrap();
    (pieces, output, usage)
}

#[test]
fn lines_and_characters_may_be_cut_anywhere() {
    let whole = read(usize::MAX);
    assert_eq!(whole.0, ["Привіт, ", "світе 🌍\n"]);
    assert_eq!(whole.1, json!({"text": "Привіт, світе 🌍\n", "session": "2026_1"}));
    assert_eq!(whole.2, (0, 3, 0.0));
    for size in 1..=LINES.len() {
        assert_eq!(read(size), whole, "in pieces of {size} bytes");
    }
}

#[test]
fn an_answer_that_was_not_streamed_is_handed_on_at_the_end() {
    let mut pieces = Vec::new();
    let mut on_text = |piece| pieces.push(piece);
    let mut transcript = Transcript::new(Driver::named("claude-code").unwrap(), 1000, &mut on_text);
    transcript
        .take(b"{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"all at once\"}\n")
        .unwrap();
    assert_eq!(transcript.output().unwrap(), json!({"text": "all at once"}));
    assert_eq!(pieces, ["all at once"]);
}

#[test]
fn whole_messages_count_where_no_deltas_come() {
    let mut pieces = Vec::new();
    let mut on_text = |piece| pieces.push(piece);
    let mut transcript = Transcript::new(Driver::named("claude-code").unwrap(), 1000, &mut on_text);
    transcript
        .take(b"{\"type\":\"assistant\",\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"one\"},{\"type\":\"x\"}]}}\n")
        .unwrap();
    transcript
        .take(b"{\"type\":\"result\",\"subtype\":\"success\",\"result\":\"one\"}\n")
        .unwrap();
    assert_eq!(transcript.output().unwrap(), json!({"text": "one"}));
    assert_eq!(pieces, ["one"]);
}
