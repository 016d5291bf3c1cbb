//! Names what differs between two inputs, for people.

use serde_json::Value;

/// Fields of the two objects that differ, such as "`temperature`, `prompt`".
pub(crate) fn fields(left: &Value, right: &Value) -> String {
    let (Value::Object(left), Value::Object(right)) = (left, right) else {
        return "its value".to_owned();
    };
    let mut names: Vec<String> = left
        .keys()
        .chain(right.keys().filter(|name| !left.contains_key(*name)))
        .filter(|name| left.get(*name) != right.get(*name))
        .map(|name| format!("`{name}`"))
        .collect();
    names.truncate(8);
    names.join(", ")
}
