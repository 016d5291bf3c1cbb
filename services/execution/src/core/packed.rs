//! JSON that is kept long and looked at seldom: as its text, not as a tree. A tree of one small object takes over
//! 600 bytes, its text some dozens; 100,000 invocations may wait in memory.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Packed(Box<RawValue>);

impl Packed {
    pub(crate) fn value(&self) -> Value {
        // It was made from a value, or parsed as one.
        serde_json::from_str(self.0.get()).unwrap_or_default()
    }

    /// Bytes of its text.
    pub(crate) fn len(&self) -> usize {
        self.0.get().len()
    }
}

impl From<&Value> for Packed {
    fn from(value: &Value) -> Self {
        // Trees with text keys always serialise.
        Self(to_raw_value(value).unwrap_or_default())
    }
}

impl From<Value> for Packed {
    fn from(value: Value) -> Self {
        Self::from(&value)
    }
}

impl Default for Packed {
    fn default() -> Self {
        Self::from(&Value::Null)
    }
}

impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let value = serde_json::json!({"text": "nul \0 ї", "n": 1.234_567_890_123_456_7e-5, "deep": [{"a": null}]});
        let packed = Packed::from(&value);
        assert_eq!(packed.value(), value);
        let again: Packed = serde_json::from_slice(&serde_json::to_vec(&packed).unwrap()).unwrap();
        assert_eq!(again, packed);
        assert_eq!(Packed::default().value(), Value::Null);
    }
}
