//! JSON Schema of tools' arguments and results: the one place that knows the crate behind it, which changes often.
//! References to other documents are not followed.

use jsonschema::Validator;
use serde_json::Value;

/// Mistakes named at once, so that a model can mend them all in one turn.
const MISTAKES_MAX: usize = 5;
/// Longest text of one mistake, in bytes: it may hold the value itself.
const MISTAKE_BYTES_MAX: usize = 512;

/// A schema, compiled.
pub(crate) struct Schema(Result<Validator, String>);

impl Schema {
    pub(crate) fn new(schema: &Value) -> Self {
        Self(jsonschema::validator_for(schema).map_err(|error| cut(error.to_string())))
    }

    /// What is wrong with the value, or with the schema itself, in words.
    pub(crate) fn check(&self, value: &Value) -> Result<(), String> {
        let validator = self
            .0
            .as_ref()
            .map_err(|error| format!("its declared schema is not valid: {error}"))?;
        let mistakes: Vec<String> = validator
            .iter_errors(value)
            .take(MISTAKES_MAX)
            .map(|error| {
                let place = error.instance_path().to_string();
                let place = if place.is_empty() { "/" } else { &place };
                cut(format!("{place}: {error}"))
            })
            .collect();
        if mistakes.is_empty() {
            return Ok(());
        }
        Err(mistakes.join("; "))
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MISTAKE_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn mistakes_are_named_by_their_place() {
        let schema =
            Schema::new(&json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["q"]}));
        assert!(schema.check(&json!({"n": 1, "q": 2})).is_ok());
        let mistakes = schema.check(&json!({"n": "x"})).unwrap_err();
        assert!(mistakes.contains("/n: ") && mistakes.contains("\"q\""), "{mistakes}");
    }

    #[test]
    fn a_schema_that_is_none_or_refers_elsewhere_lets_nothing_pass() {
        for schema in [
            json!({"type": "whatever"}),
            json!({"$ref": "http://127.0.0.1:1/schema.json"}),
        ] {
            let refused = Schema::new(&schema).check(&json!({})).unwrap_err();
            assert!(refused.contains("schema is not valid"), "{refused}");
        }
    }

    #[test]
    fn a_long_value_is_not_repeated_in_full() {
        let schema = Schema::new(&json!({"type": "object"}));
        assert!(schema.check(&json!("é".repeat(10_000))).unwrap_err().len() < 600);
    }
}
