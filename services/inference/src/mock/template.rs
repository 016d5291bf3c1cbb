//! What a script says, with the conversation put in. Pure.

use mesh_api::inference::{CompleteRequest, PromptMessage, Role};
use serde_json::{Map, Value, json};

use super::keywords;
use super::script::ToolCall;

/// The messages after the last one of a person.
pub(super) fn since_user(messages: &[PromptMessage]) -> &[PromptMessage] {
    let user = messages.iter().rposition(|message| message.role == Role::User);
    &messages[user.map_or(0, |at| at + 1)..]
}

/// What the last message of a person says.
fn last(messages: &[PromptMessage]) -> String {
    let user = messages.iter().rfind(|message| message.role == Role::User);
    user.map_or_else(String::new, |message| message.content.plain_text())
}

fn results(messages: &[PromptMessage]) -> Vec<String> {
    let tools = since_user(messages).iter().filter(|message| message.role == Role::Tool);
    tools.map(|message| message.content.plain_text()).collect()
}

/// Puts in what stands in `{{…}}`; what is unknown stays as it is, and what was put in is not read again.
pub(super) fn fill(template: &str, messages: &[PromptMessage]) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        match after.split_once("}}") {
            Some((name, after)) if let Some(value) = value(name.trim(), messages) => {
                filled.push_str(&value);
                rest = after;
            }
            _ => {
                filled.push_str("{{");
                rest = after;
            }
        }
    }
    filled + rest
}

fn value(name: &str, messages: &[PromptMessage]) -> Option<String> {
    match name {
        "last" => Some(last(messages)),
        "reply" => Some(keywords::reply(messages)),
        "tools" => Some(results(messages).join("\n")),
        _ => {
            let number: usize = name.strip_prefix("tool:")?.trim().parse().ok()?;
            Some(results(messages).into_iter().nth(number).unwrap_or_default())
        }
    }
}

/// The name and the arguments as a model writes them.
pub(super) fn call(tool: &ToolCall, messages: &[PromptMessage]) -> (String, String) {
    let arguments = match &tool.arguments {
        Value::Null => "{}".to_owned(),
        Value::String(text) => fill(text, messages),
        other => fill_all(other, messages).to_string(),
    };
    (tool.name.clone(), arguments)
}

fn fill_all(value: &Value, messages: &[PromptMessage]) -> Value {
    match value {
        Value::String(text) => Value::String(fill(text, messages)),
        Value::Array(items) => items.iter().map(|item| fill_all(item, messages)).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, field)| (name.clone(), fill_all(field, messages)))
            .collect(),
        other => other.clone(),
    }
}

/// A call of each tool that the request offers: names and arguments.
pub(super) fn offered(request: &CompleteRequest) -> impl Iterator<Item = (String, String)> {
    let said = last(&request.messages);
    let given: Option<Map<String, Value>> = serde_json::from_str(&said).ok();
    request.tools.iter().filter_map(move |tool| {
        let function = tool.get("function")?;
        let name = function.get("name")?.as_str()?;
        let arguments = match &given {
            Some(given) => match given.get(name) {
                Some(Value::Object(own)) => Value::Object(own.clone()),
                _ => Value::Object(given.clone()),
            },
            None => required(function.get("parameters").unwrap_or(&Value::Null), &said),
        };
        Some((name.to_owned(), arguments.to_string()))
    })
}

/// What is answered where the schema asks for JSON and the script has none: the least that it takes.
pub(super) fn of_schema(schema: &Value, messages: &[PromptMessage]) -> String {
    least(schema, &last(messages)).to_string()
}

/// The least that an object's schema takes; texts are what the person said.
fn required(schema: &Value, said: &str) -> Value {
    let names = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    let fields = names
        .filter_map(Value::as_str)
        .map(|name| (name.to_owned(), least(&schema["properties"][name], said)));
    Value::Object(fields.collect())
}

fn least(schema: &Value, said: &str) -> Value {
    match (
        schema.get("enum").and_then(|values| values.get(0)),
        schema["type"].as_str(),
    ) {
        (Some(first), _) => first.clone(),
        (None, Some("integer" | "number")) => json!(1),
        (None, Some("boolean")) => json!(false),
        (None, Some("array")) => json!([]),
        (None, Some("object")) => required(schema, said),
        (None, _) => json!(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk() -> Vec<PromptMessage> {
        vec![
            PromptMessage::new(Role::User, "before"),
            PromptMessage::new(Role::Tool, "old"),
            PromptMessage::new(Role::User, "say {{tools}}"),
            PromptMessage::new(Role::Assistant, ""),
            PromptMessage::new(Role::Tool, "one"),
            PromptMessage::new(Role::Tool, "two"),
        ]
    }

    #[test]
    fn a_template_is_filled_once_and_keeps_what_it_does_not_know() {
        let talk = talk();
        let filled = |template| fill(template, &talk);
        assert_eq!(filled("{{last}}!"), "say {{tools}}!");
        assert_eq!(filled("{{ tool:1 }}, {{tool:0}}, {{tool:7}}."), "two, one, .");
        assert_eq!(filled("{{tools}}"), "one\ntwo");
        assert_eq!(filled("{{what}} {{tool:x}} {{ {x} }}"), "{{what}} {{tool:x}} {{ {x} }}");
        assert_eq!(filled("open {{last"), "open {{last");
        assert_eq!(fill("{{last}}{{tools}}", &[]), "");
        let tool = |arguments| ToolCall {
            name: "t".to_owned(),
            arguments,
        };
        let written = |arguments| call(&tool(arguments), &talk).1;
        assert_eq!(written(json!({"a": ["{{tool:0}}", 1]})), r#"{"a":["one",1]}"#);
        assert_eq!(written(json!("{not json {{tool:0}}")), "{not json one");
        assert_eq!(written(Value::Null), "{}");
    }

    #[test]
    fn offered_tools_get_what_the_person_gave_or_what_they_require() {
        let request = |said: &str| -> CompleteRequest {
            let schema = json!({"type": "object", "required": ["city", "days", "unit", "near"], "properties": {
                "city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["c", "f"]},
                "near": {"type": "object", "required": ["sea"], "properties": {"sea": {"type": "boolean"}}}}});
            let tools = json!([
                {"type": "function", "function": {"name": "weather", "parameters": schema}},
                {"type": "function", "function": {"name": "now"}},
                {"type": "retrieval"}
            ]);
            serde_json::from_value(json!({
                "model": "mock", "messages": [{"role": "user", "content": said}], "tools": tools
            }))
            .unwrap()
        };
        let calls = |said: &str| -> Vec<(String, Value)> {
            offered(&request(said))
                .map(|(name, arguments)| (name, serde_json::from_str(&arguments).unwrap()))
                .collect()
        };
        let least = json!({"city": "Lviv", "days": 1, "unit": "c", "near": {"sea": false}});
        assert_eq!(calls("Lviv"), [("weather".into(), least), ("now".into(), json!({}))]);
        let schema = json!({"type": "object", "required": ["facts"], "properties": {"facts": {"type": "array"}}});
        assert_eq!(of_schema(&schema, &talk()), r#"{"facts":[]}"#);
        let given = calls(r#"{"city": "Kyiv", "now": {"zone": "UTC"}}"#);
        assert_eq!(given[0].1["city"], "Kyiv");
        assert_eq!(given[1].1, json!({"zone": "UTC"}));
    }
}
