//! Artifacts: an agent's spec as canonical JSON, and the hash of these bytes. Pure.

use std::fmt;
use std::str::FromStr;

use mesh_types::agent::AgentSpec;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// SHA-256; 64 hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Hash([u8; 32]);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no hash: 64 hexadecimal digits in lower case")]
pub(crate) struct HashError(String);

impl Hash {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    pub(crate) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Vec<u8>> for Hash {
    type Error = HashError;
    fn try_from(bytes: Vec<u8>) -> Result<Self, HashError> {
        <[u8; 32]>::try_from(bytes)
            .map(Self)
            .map_err(|bytes| HashError(hex::encode(bytes)))
    }
}

impl FromStr for Hash {
    type Err = HashError;
    fn from_str(text: &str) -> Result<Self, HashError> {
        let quoted = || HashError(text.chars().take(80).flat_map(char::escape_debug).collect());
        let bytes = hex::decode(text).map_err(|_| quoted())?;
        let hash = Self::try_from(bytes).map_err(|_| quoted())?;
        // One hash has one spelling.
        if hash.to_string() == text {
            Ok(hash)
        } else {
            Err(quoted())
        }
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is stored under its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Artifact {
    pub(crate) hash: Hash,
    pub(crate) json: String,
}

impl Artifact {
    pub(crate) fn of(spec: &AgentSpec) -> Result<Self, serde_json::Error> {
        let json = canonical_json(spec)?;
        Ok(Self {
            hash: Hash::of(json.as_bytes()),
            json,
        })
    }
}

/// JSON without spaces whose keys are sorted at every level: equal values have equal bytes, however they were written
/// down and whatever order serde_json's maps keep in this build.
pub(crate) fn canonical_json<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    let mut out = String::new();
    write_sorted(&serde_json::to_value(value)?, &mut out)?;
    Ok(out)
}

fn write_sorted(value: &Value, out: &mut String) -> Result<(), serde_json::Error> {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| key.as_str());
            out.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&serde_json::to_string(key)?);
                out.push(':');
                write_sorted(value, out)?;
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_sorted(item, out)?;
            }
            out.push(']');
        }
        scalar => out.push_str(&serde_json::to_string(scalar)?),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>()
                .prop_filter("finite", |f| f.is_finite())
                .prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn canonical_json_says_the_same_and_is_stable(value in json()) {
            let text = canonical_json(&value).unwrap();
            let back: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&back, &value);
            prop_assert_eq!(canonical_json(&back).unwrap(), text);
        }
    }

    #[test]
    fn the_order_of_keys_does_not_matter() {
        let spec = |tool: &str| -> AgentSpec { serde_json::from_str(&format!(r#"{{"tools":[{tool}]}}"#)).unwrap() };
        let one = spec(r#"{"parameters":{"b":1,"a":{"d":2,"c":3}},"name":"x","kind":"http"}"#);
        let two = spec(r#"{"kind":"http","name":"x","parameters":{"a":{"c":3,"d":2},"b":1}}"#);
        assert_eq!(Artifact::of(&one).unwrap(), Artifact::of(&two).unwrap());
        assert!(
            Artifact::of(&one)
                .unwrap()
                .json
                .contains(r#""parameters":{"a":{"c":3,"d":2},"b":1}"#)
        );
    }

    /// Invocations stay pinned to hashes: bytes of the same spec must never change from build to build unnoticed.
    #[test]
    fn the_default_spec_keeps_its_hash() {
        let artifact = Artifact::of(&AgentSpec::default()).unwrap();
        insta::assert_snapshot!(format!("{}\n{}", artifact.hash, artifact.json));
    }

    #[test]
    fn a_hash_has_one_spelling() {
        let hash = Hash::of(b"x");
        assert_eq!(hash.to_string().parse::<Hash>().unwrap(), hash);
        assert!(hash.to_string().to_uppercase().parse::<Hash>().is_err());
        assert!("../../etc".parse::<Hash>().is_err());
        assert!("ab".parse::<Hash>().is_err());
    }
}
