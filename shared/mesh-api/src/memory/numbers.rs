//! A vector on the wire: base64 of its numbers as little-endian 32-bit floats, or the numbers themselves. Both are read;
//! the first is written, since reading 1,536 decimal numbers takes longer than finding what is nearest to them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserializer, Serializer};

const NUMBER_BYTES: usize = size_of::<f32>();
/// The longest vector that any model makes is far below; a list that promises more is not believed.
const NUMBERS_EXPECTED_MAX: usize = 4_096;

pub(super) fn serialize<S: Serializer>(vector: &Option<Vec<f32>>, serializer: S) -> Result<S::Ok, S::Error> {
    match vector {
        None => serializer.serialize_none(),
        Some(numbers) => {
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            serializer.serialize_str(&BASE64.encode(bytes))
        }
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<f32>>, D::Error> {
    deserializer.deserialize_any(Numbers)
}

struct Numbers;

impl<'de> Visitor<'de> for Numbers {
    type Value = Option<Vec<f32>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers, or base64 of little-endian 32-bit floats")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        let bytes = BASE64
            .decode(text)
            .map_err(|error| E::custom(format!("the vector is no base64: {error}")))?;
        let (numbers, rest) = bytes.as_chunks::<NUMBER_BYTES>();
        if !rest.is_empty() {
            return Err(E::custom(format!(
                "the vector has {} bytes, which is not {NUMBER_BYTES} for each number",
                bytes.len()
            )));
        }
        Ok(Some(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let expected = list.size_hint().unwrap_or(0).min(NUMBERS_EXPECTED_MAX);
        let mut numbers = Vec::with_capacity(expected);
        while let Some(number) = list.next_element()? {
            numbers.push(number);
        }
        Ok(Some(numbers))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::QueryRequest;

    fn read(vector: &Value) -> Result<Option<Vec<f32>>, serde_json::Error> {
        let request: QueryRequest = serde_json::from_value(json!({"agent": "sofia", "vector": vector}))?;
        Ok(request.vector)
    }

    #[test]
    fn a_vector_is_read_as_numbers_and_as_bytes() {
        let numbers = vec![0.5, -1.25, 3.0e-8];
        assert_eq!(read(&json!(numbers)).unwrap(), Some(numbers.clone()));
        let mut request = QueryRequest::new("sofia".parse().unwrap(), "", 5);
        request.vector = Some(numbers);
        let text = serde_json::to_string(&request).unwrap();
        assert!(text.contains(r#""vector":"AAAAPwAAoL"#), "{text}");
        assert_eq!(serde_json::from_str::<QueryRequest>(&text).unwrap(), request);
        assert_eq!(read(&Value::Null).unwrap(), None);
        assert_eq!(read(&json!([])).unwrap(), Some(Vec::new()));
    }

    #[test]
    fn what_is_no_vector_is_refused_with_what_it_is() {
        for (vector, reason) in [
            (json!("AAA="), "2 bytes"),
            (json!("?"), "no base64"),
            (json!(7), "list of numbers"),
            (json!(["x"]), "f32"),
        ] {
            let error = read(&vector).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
