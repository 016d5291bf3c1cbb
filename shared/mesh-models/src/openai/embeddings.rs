//! The wire of `/embeddings`. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::answer::TryError;
use crate::vectors::{Texts, Vectors};

pub(super) fn body(asked: Texts<'_>) -> Result<Vec<u8>, TryError> {
    #[derive(Serialize)]
    struct Body<'a> {
        model: &'a str,
        input: &'a [String],
        /// What every server gives; those that give base64 all the same are understood too.
        encoding_format: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        dimensions: Option<u32>,
    }
    let body = Body {
        model: asked.model,
        input: asked.texts,
        encoding_format: "float",
        dimensions: asked.dimensions,
    };
    serde_json::to_vec(&body).map_err(|error| TryError::Unsupported(format!("it has no JSON form: {error}")))
}

#[derive(Deserialize)]
pub(super) struct Answer {
    data: Vec<Item>,
    #[serde(default)]
    usage: Option<UsageWire>,
}

#[derive(Deserialize)]
struct Item {
    /// Which text it is of; some servers give none, and the texts' order.
    #[serde(default)]
    index: Option<usize>,
    embedding: Numbers,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Numbers {
    Floats(Vec<f32>),
    /// Little-endian `f32`s in base64.
    Base64(String),
}

#[derive(Deserialize)]
struct UsageWire {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    total_tokens: Option<u64>,
}

impl Answer {
    pub(super) fn vectors(self, asked: Texts<'_>) -> Result<Vectors, TryError> {
        let input_tokens = self.usage.and_then(|usage| usage.prompt_tokens.or(usage.total_tokens));
        Vectors::check_count(asked, self.data.len())?;
        let mut vectors = vec![Vec::new(); self.data.len()];
        for (place, item) in self.data.into_iter().enumerate() {
            let index = item.index.unwrap_or(place);
            let slot = vectors.get_mut(index).filter(|slot| slot.is_empty());
            let slot = slot.ok_or_else(|| TryError::Protocol(format!("vector {index} is one too many")))?;
            *slot = numbers(item.embedding)?;
        }
        Vectors::checked(asked, vectors, input_tokens)
    }
}

fn numbers(numbers: Numbers) -> Result<Vec<f32>, TryError> {
    let text = match numbers {
        Numbers::Floats(floats) => return Ok(floats),
        Numbers::Base64(text) => text,
    };
    let wrong = || TryError::Protocol("a vector is neither numbers nor base64 of such".to_owned());
    let bytes = STANDARD.decode(text).map_err(|_| wrong())?;
    let (floats, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(wrong());
    }
    Ok(floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(answer: Value, texts: usize) -> Result<Vectors, TryError> {
        let texts: Vec<String> = (0..texts).map(|number| number.to_string()).collect();
        let asked = Texts {
            model: "m",
            texts: &texts,
            dimensions: None,
        };
        serde_json::from_value::<Answer>(answer).unwrap().vectors(asked)
    }

    #[test]
    fn vectors_come_in_the_order_of_their_texts() {
        let answer = json!({"object": "list", "model": "m", "usage": {"prompt_tokens": 5, "total_tokens": 5},
            "data": [{"object": "embedding", "index": 1, "embedding": [0.0, 1.0]},
                     {"object": "embedding", "index": 0, "embedding": [1.0, 0.0]}]});
        let read_back = read(answer, 2).unwrap();
        assert_eq!(read_back.vectors, [[1.0, 0.0], [0.0, 1.0]]);
        assert_eq!(read_back.input_tokens, Some(5));
        let unnumbered = json!({"data": [{"embedding": [1.0]}, {"embedding": [2.0]}]});
        assert_eq!(read(unnumbered, 2).unwrap().vectors, [[1.0], [2.0]]);
    }

    #[test]
    fn base64_is_understood() {
        let bytes: Vec<u8> = [0.25_f32, -1.5]
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        let answer = json!({"data": [{"index": 0, "embedding": STANDARD.encode(bytes)}]});
        assert_eq!(read(answer, 1).unwrap().vectors, [[0.25, -1.5]]);
    }

    #[test]
    fn what_is_no_vector_of_each_text_is_an_error() {
        for (answer, texts) in [
            (json!({"data": []}), 1),
            (
                json!({"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]}),
                2,
            ),
            (json!({"data": [{"index": 7, "embedding": [1.0]}]}), 1),
            (json!({"data": [{"index": 0, "embedding": "abc"}]}), 1),
            (json!({"data": [{"index": 0, "embedding": "AAAAAAA="}]}), 1),
        ] {
            assert!(
                matches!(read(answer.clone(), texts), Err(TryError::Protocol(_))),
                "{answer}"
            );
        }
    }
}
