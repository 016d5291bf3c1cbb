//! Answers that must follow a JSON Schema: the one place here that knows the crate behind it, which changes often.
//! References to other documents are not followed.

use jsonschema::Validator;
use mesh_api::inference::{CompleteRequest, PromptMessage, Role};
use mesh_models::Answer;
use mesh_types::{Code, Problem};
use serde_json::Value;

/// Mistakes named at once, so that a model can mend them all in one turn.
const MISTAKES_MAX: usize = 5;
/// Longest text of one mistake, in bytes: it may hold the value itself.
const MISTAKE_BYTES_MAX: usize = 300;

/// The schema that an answer must follow, compiled.
#[derive(Debug)]
pub(crate) struct Schema(Validator);

impl Schema {
    /// `None`: any text will do.
    ///
    /// # Errors
    /// The schema is none.
    pub(crate) fn of(request: &CompleteRequest) -> Result<Option<Self>, Problem> {
        let Some(schema) = &request.response_schema else {
            return Ok(None);
        };
        let validator = jsonschema::validator_for(schema).map_err(|error| {
            let detail = format!("this is no JSON Schema: {}", cut(error.to_string()));
            Problem::new(Code::InvalidRequest, detail).field("response_schema")
        })?;
        Ok(Some(Self(validator)))
    }

    /// What is wrong with an answer, in words for the model. Calls of tools are on the way to an answer, and none.
    pub(crate) fn check(&self, answer: &Answer) -> Result<(), String> {
        if !answer.tool_calls.is_empty() {
            return Ok(());
        }
        let value: Value =
            serde_json::from_str(&answer.text).map_err(|error| format!("it is not JSON alone: {error}"))?;
        let mistakes = self.0.iter_errors(&value).take(MISTAKES_MAX).map(|error| {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { "/" } else { &place };
            cut(format!("{place}: {error}"))
        });
        let mistakes: Vec<String> = mistakes.collect();
        if mistakes.is_empty() {
            return Ok(());
        }
        Err(mistakes.join("; "))
    }
}

/// The request once more, with the answer that was wrong and what was wrong with it. An idempotent provider must not
/// take it for the same one.
pub(crate) fn corrected(request: &CompleteRequest, answer: &Answer, mistakes: &str) -> CompleteRequest {
    let mut again = request.clone();
    if !answer.text.is_empty() {
        again
            .messages
            .push(PromptMessage::new(Role::Assistant, answer.text.clone()));
    }
    let wish = format!(
        "Your answer does not follow the JSON Schema that was asked for: {mistakes}. Answer again with nothing but JSON \
         that follows it, without a code fence."
    );
    again.messages.push(PromptMessage::new(Role::User, wish));
    again.idempotency_key = again.idempotency_key.map(|key| format!("{key}/corrected"));
    again
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MISTAKE_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(schema: &Value) -> CompleteRequest {
        serde_json::from_value(json!({"model": "m", "messages": [{"role": "user", "content": "x"}],
            "response_schema": schema, "idempotency_key": "inv/1"}))
        .unwrap()
    }

    fn answer(text: &str) -> Answer {
        Answer {
            text: text.to_owned(),
            ..Answer::default()
        }
    }

    #[test]
    fn an_answer_is_json_that_follows_the_schema_and_nothing_else() {
        let asked = request(&json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}));
        let schema = Schema::of(&asked).unwrap().unwrap();
        assert_eq!(schema.check(&answer(" {\"n\": 1}\n")), Ok(()));
        for (text, told) in [
            ("{\"n\": \"one\"}", "/n: "),
            ("{}", "\"n\""),
            ("Sure! {\"n\": 1}", "not JSON"),
            ("```json\n{\"n\": 1}\n```", "not JSON"),
            ("", "not JSON"),
        ] {
            let mistakes = schema.check(&answer(text)).unwrap_err();
            assert!(mistakes.contains(told), "{text}: {mistakes}");
        }
        let calls = Answer {
            tool_calls: vec![json!({"id": "1"})],
            ..Answer::default()
        };
        assert_eq!(schema.check(&calls), Ok(()));
    }

    #[test]
    fn what_is_no_schema_is_refused_by_field() {
        for schema in [
            json!({"type": "whatever"}),
            json!({"$ref": "http://127.0.0.1:1/schema.json"}),
        ] {
            let problem = Schema::of(&request(&schema)).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some("response_schema"), "{problem:?}");
        }
    }

    #[test]
    fn the_next_try_is_told_what_was_wrong() {
        let asked = request(&json!({"type": "object"}));
        let again = corrected(&asked, &answer("no"), "it is not JSON");
        assert_eq!(again.messages.len(), 3);
        assert_eq!(again.messages[1].role, Role::Assistant);
        assert!(again.messages[2].content.plain_text().contains("it is not JSON"));
        assert_eq!(again.idempotency_key.as_deref(), Some("inv/1/corrected"));
        let silent = corrected(&asked, &answer(""), "x");
        assert_eq!(silent.messages.len(), 2, "an empty turn is one that providers refuse");
    }
}
