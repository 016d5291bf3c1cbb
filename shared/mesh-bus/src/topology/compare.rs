//! What differs between what was declared and what a server holds, both in its own JSON. Only
//! declared fields count: newer servers add some.

use serde_json::{Map, Value};

/// One line per declared field that differs, such as `max_age is 0, declared 3600000000000`.
pub(super) fn differences(declared: &Value, found: &Value) -> Vec<String> {
    let empty = Map::new();
    let declared = declared.as_object().unwrap_or(&empty);
    declared
        .iter()
        .filter_map(|(field, wanted)| {
            let held = found.get(field).unwrap_or(&Value::Null);
            let is_same = held == wanted || (held.is_null() && is_left_out(field, wanted));
            (!is_same).then(|| format!("{field} is {held}, declared {wanted}"))
        })
        .collect()
}

/// Whether the server leaves such a value out of its answers.
fn is_left_out(field: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty() || (field == "persist_mode" && text == "default"),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_was_declared_counts() {
        let declared = json!({"max_age": 5, "sealed": false, "persist_mode": "default", "name": "X"});
        let found = json!({"max_age": 5, "name": "X", "metadata": {"_nats.ver": "2.15.1"}});
        assert!(differences(&declared, &found).is_empty());
        let found = json!({"max_age": 0, "name": "X", "sealed": true, "persist_mode": "async"});
        assert_eq!(
            differences(&declared, &found),
            [
                "max_age is 0, declared 5",
                "persist_mode is \"async\", declared \"default\"",
                "sealed is true, declared false",
            ]
        );
        let declared = json!({"persist_mode": "async"});
        assert_eq!(differences(&declared, &json!({})).len(), 1);
    }
}
