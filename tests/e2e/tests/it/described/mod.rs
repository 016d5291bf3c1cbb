//! The API as it describes itself: every operation of `/api/v1/openapi.json`, and values that fit its schemas. What is
//! tested by it covers a new route without a thought.

mod draw;
mod values;

use reqwest::Method;
use serde_json::Value;

use crate::harness::Http;

pub(crate) use draw::Draw;
pub(crate) use values::Values;

pub(crate) struct Described(Value);

/// One method of one path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation<'a> {
    pub(crate) path: &'a str,
    pub(crate) method: &'a str,
    pub(crate) value: &'a Value,
}

impl Described {
    pub(crate) async fn read(http: &Http) -> Self {
        Self(http.get("/api/v1/openapi.json").await)
    }

    /// A schema that stands alone: what it refers to stands beside it.
    pub(crate) fn standalone(&self, schema: &Value) -> Value {
        let mut schema = schema.clone();
        schema["components"] = self.0["components"].clone();
        schema
    }

    pub(crate) fn operations(&self) -> Vec<Operation<'_>> {
        let paths = self.0["paths"].as_object().into_iter().flatten();
        let operations = paths.flat_map(|(path, item)| {
            let methods = item.as_object().into_iter().flatten();
            methods.map(move |(method, value)| Operation { path, method, value })
        });
        operations.filter(|one| one.value["operationId"].is_string()).collect()
    }

    /// What a schema, response or parameter says in the end.
    pub(crate) fn resolve<'a>(&'a self, mut value: &'a Value) -> &'a Value {
        while let Some(reference) = value["$ref"].as_str() {
            let pointer = reference.trim_start_matches('#');
            value = self
                .0
                .pointer(pointer)
                .unwrap_or_else(|| panic!("{reference} leads nowhere"));
        }
        value
    }
}

impl<'a> Operation<'a> {
    pub(crate) fn id(self) -> &'a str {
        self.value["operationId"].as_str().unwrap_or_default()
    }

    pub(crate) fn http_method(self) -> Method {
        self.method.to_uppercase().parse().expect("a method")
    }

    /// Its family, as scopes name it.
    pub(crate) fn tag(self) -> String {
        self.value["tags"][0].as_str().unwrap_or_default().replace(' ', "-")
    }

    /// Whether it declares who may use it at all, and that everybody may.
    pub(crate) fn is_public(self) -> bool {
        let declared = self.value["security"].as_array().filter(|list| !list.is_empty());
        let declared = declared.unwrap_or_else(|| panic!("{} does not say who may use it", self.id()));
        declared
            .iter()
            .any(|one| one.as_object().is_some_and(serde_json::Map::is_empty))
    }

    /// The names of who may use it: roles, `node`, `join`.
    pub(crate) fn open_to(self) -> Vec<&'a str> {
        let declared = self.value["security"].as_array().into_iter().flatten();
        let names = declared.flat_map(|one| one["credential"].as_array().into_iter().flatten());
        names.filter_map(Value::as_str).collect()
    }

    pub(crate) fn parameters(self, place: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let parameters = self.value["parameters"].as_array().into_iter().flatten();
        let here = parameters.filter(move |one| one["in"] == place);
        here.map(|one| (one["name"].as_str().unwrap_or_default(), one))
    }

    /// The schema of its JSON body, where it takes one.
    pub(crate) fn body(self) -> Option<&'a Value> {
        let schema = &self.value["requestBody"]["content"]["application/json"]["schema"];
        schema.is_object().then_some(schema)
    }
}
