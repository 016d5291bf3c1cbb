//! What the wires of all providers need of a conversation in the mesh's shape. Pure.

use std::collections::{HashMap, HashSet};

use mesh_api::inference::{CompleteRequest, FunctionCall, Role};
use serde_json::{Map, Value};

/// Turns of the model before this one: a call without an id of its provider gets one that no earlier turn has.
pub(crate) fn turns(request: &CompleteRequest) -> usize {
    let is_answer = |role: Role| role == Role::Assistant;
    request
        .messages
        .iter()
        .filter(|message| is_answer(message.role))
        .count()
}

/// With what a server may leave out: results are told apart by the id, and arguments are JSON.
pub(crate) fn whole_call(turn: usize, index: usize, mut call: FunctionCall) -> FunctionCall {
    if call.id.is_empty() {
        call.id = format!("call_{turn}_{index}");
    }
    if call.arguments.trim().is_empty() {
        call.arguments = "{}".to_owned();
    }
    call
}

/// The arguments as the object that some wires demand. Models write text that is none: then it is told as it is.
pub(crate) fn arguments_object(arguments: &str) -> Value {
    let text = arguments.trim();
    if text.is_empty() {
        return Value::Object(Map::new());
    }
    match serde_json::from_str(text) {
        Ok(object @ Value::Object(_)) => object,
        _ => serde_json::json!({"arguments": arguments}),
    }
}

/// An image within a block of OpenAI's kind `image_url`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Image<'a> {
    /// `data:<media type>;base64,<data>`
    Data {
        media_type: &'a str,
        base64: &'a str,
    },
    Url(&'a str),
}

impl<'a> Image<'a> {
    /// `None`: the block has no URL.
    pub(crate) fn of(block: &'a Value) -> Option<Self> {
        let url = block.get("image_url")?;
        let url = url.get("url").unwrap_or(url).as_str()?;
        let Some(data) = url.strip_prefix("data:") else {
            return Some(Self::Url(url));
        };
        let (media_type, base64) = data.split_once(";base64,")?;
        // `image/png;charset=…` has parameters that nobody reads.
        let media_type = media_type.split(';').next().unwrap_or_default();
        Some(Self::Data { media_type, base64 })
    }
}

/// Ids of tool calls as a strict wire takes them: letters, digits, `_` and `-`, none twice in a conversation.
#[derive(Debug, Default)]
pub(crate) struct CallIds {
    /// What the latest call of an id is called on the wire.
    latest: HashMap<String, String>,
    taken: HashSet<String>,
}

/// Longest id that is sent.
const ID_LENGTH_MAX: usize = 64;

impl CallIds {
    /// The id of a new call; its own if it can be.
    pub(crate) fn begin(&mut self, id: &str) -> String {
        let is_good = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
        let plain: String = id
            .chars()
            .take(ID_LENGTH_MAX)
            .map(|character| if is_good(character) { character } else { '_' })
            .collect();
        let base = if plain.is_empty() { "call".to_owned() } else { plain };
        let mut sent = base.clone();
        let mut times = 1;
        while !self.taken.insert(sent.clone()) {
            times += 1;
            sent = format!("{base}_{times}");
        }
        self.latest.insert(id.to_owned(), sent.clone());
        sent
    }

    /// The id under which the result of a call goes; `None`: no such call was made.
    pub(crate) fn result(&self, id: &str) -> Option<&str> {
        self.latest.get(id).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_are_kept_where_they_can_be_and_never_meet() {
        let mut ids = CallIds::default();
        assert_eq!(ids.begin("toolu_01A-b"), "toolu_01A-b");
        assert_eq!(ids.begin("call_0"), "call_0");
        assert_eq!(ids.begin("call_0"), "call_0_2");
        assert_eq!(ids.result("call_0"), Some("call_0_2"));
        assert_eq!(ids.begin("functions.f:0"), "functions_f_0");
        assert_eq!(ids.result("functions.f:0"), Some("functions_f_0"));
        assert_eq!(ids.begin(""), "call");
        assert_eq!(ids.result("none"), None);
    }

    #[test]
    fn arguments_are_an_object_whatever_the_model_wrote() {
        assert_eq!(arguments_object(""), json!({}));
        assert_eq!(arguments_object(r#"{"a":1}"#), json!({"a": 1}));
        assert_eq!(arguments_object("[1]"), json!({"arguments": "[1]"}));
        assert_eq!(arguments_object("{\"a\":"), json!({"arguments": "{\"a\":"}));
    }

    #[test]
    fn images_come_as_data_or_by_url() {
        let block = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
        let data = block("data:image/png;base64,iVBO");
        let read = Image::Data {
            media_type: "image/png",
            base64: "iVBO",
        };
        assert_eq!(Image::of(&data), Some(read));
        assert_eq!(
            Image::of(&block("https://x.example/a.png")),
            Some(Image::Url("https://x.example/a.png"))
        );
        assert_eq!(Image::of(&block("data:image/png,plain")), None);
        assert_eq!(Image::of(&json!({"type": "image_url"})), None);
    }
}
