//! Strict JSON at the edge: what would be read in two ways, or silently changed, is refused with its place.

use std::collections::HashSet;
use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::problem::{Code, Problem};

/// Deepest nesting taken, in levels; serde_json itself stops at 128.
pub const DEPTH_MAX: usize = 64;
/// Largest public body in bytes (CONTRACT, "Bad input").
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Parses a request body, an object, into `T`. Refuses duplicate keys, lone surrogates, NUL is kept, nesting over
/// [`DEPTH_MAX`], and numbers that would lose digits; the problem names the field.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if bytes.len() > BODY_BYTES_MAX {
        return Err(Problem::new(
            Code::BodyTooLarge,
            format!("the body has {} bytes, at most {BODY_BYTES_MAX} are taken", bytes.len()),
        ));
    }
    let value = parse_value(bytes)?;
    // serde would also take a list of the fields' values for an object.
    if !value.is_object() {
        return Err(Problem::new(Code::InvalidRequest, "the body must be a JSON object"));
    }
    from_value(value)
}

/// As [`parse`], without the limit on size and without a target type.
pub fn parse_value(bytes: &[u8]) -> Result<Value, Problem> {
    let text =
        std::str::from_utf8(bytes).map_err(|error| malformed(format!("not UTF-8 at byte {}", error.valid_up_to())))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict { depth: 0 }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| malformed(error.to_string()))?;
    Ok(value)
}

/// A checked value into its type; the problem names the path of the field.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let problem = Problem::new(Code::InvalidRequest, error.inner().to_string());
        if path == "." { problem } else { problem.field(path) }
    })
}

fn malformed(detail: String) -> Problem {
    Problem::new(Code::MalformedJson, detail).next("send one JSON value in UTF-8, each key once")
}

#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom(format!("nested deeper than {DEPTH_MAX} levels")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        // An integer beyond 64 bits arrives here already rounded: say so instead of keeping other digits.
        if value.fract() == 0.0 && value.abs() >= 9_223_372_036_854_775_808.0 {
            return Err(E::custom("a number beyond 64 bits; send it as a string"));
        }
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number that is not finite"))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut seen = HashSet::new();
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(inner)?;
            if !seen.insert(key.clone()) {
                let key: String = key.chars().take(64).collect();
                return Err(de::Error::custom(format!("the key `{key}` stands twice")));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse_value(text.as_bytes()).unwrap_err().detail
    }

    #[test]
    fn what_could_be_read_twice_is_refused() {
        assert!(refused(r#"{"a":1,"b":{"c":1,"c":2}}"#).contains("`c` stands twice"));
        assert!(refused(r#""\ud800""#).contains("hex escape"));
        assert!(refused("{} {}").contains("trailing"));
        assert!(refused("").contains("EOF"));
        assert!(refused("NaN").contains("expected"));
        assert!(refused("1e999").contains("range"));
        assert!(refused("123456789012345678901234567890").contains("64 bits"));
        assert!(parse_value(b"\xff").unwrap_err().detail.contains("UTF-8"));
    }

    #[test]
    fn nesting_is_taken_to_the_limit_and_no_deeper() {
        let nest = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse_value(nest(DEPTH_MAX).as_bytes()).is_ok());
        assert!(refused(&nest(DEPTH_MAX + 1)).contains("nested deeper"));
        assert!(!refused(&"[".repeat(1_000_000)).is_empty());
    }

    #[test]
    fn what_is_legal_is_kept() {
        let text = r#"{"n":9007199254740993,"neg":-5,"nul":"\u0000","f":0.5,"u":18446744073709551615}"#;
        let value = parse_value(text.as_bytes()).unwrap();
        assert_eq!(value["n"], 9_007_199_254_740_993_u64);
        assert_eq!(value["nul"], "\0");
    }

    #[test]
    fn the_field_is_named() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Outer {
            #[expect(dead_code, reason = "parsed only")]
            inner: Inner,
        }
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Inner {
            #[expect(dead_code, reason = "parsed only")]
            n: u8,
        }
        let problem = parse::<Outer>(br#"{"inner":{"n":"x"}}"#).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("inner.n"));
        let problem = parse::<Outer>(br#"{"inner":{"n":1,"m":2}}"#).unwrap_err();
        assert!(problem.detail.contains("unknown field `m`"), "{problem:?}");
        let problem = parse::<Outer>(br#"[{"n":1}]"#).unwrap_err();
        assert!(problem.detail.contains("must be a JSON object"), "{problem:?}");
    }
}
