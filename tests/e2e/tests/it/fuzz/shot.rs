//! One request of the fuzzer: drawn from an operation's description, then perhaps harmed in one place.

use reqwest::Method;
use serde_json::{Value, json};

use super::harm;
use crate::described::{Described, Draw, Operation, Values};

/// Longest delay that a drawn invocation may ask for: a later one of its session would wait for it.
const DELAY_MS_MAX: u64 = 50;

#[derive(Debug, Clone)]
pub(super) struct Shot {
    pub(super) method: Method,
    /// With the query.
    pub(super) path: String,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Option<Vec<u8>>,
}

impl Shot {
    pub(super) fn draw(api: &Described, operation: Operation<'_>, known: &[String], draw: &mut Draw) -> Self {
        let mut shot = Self {
            method: operation.http_method(),
            path: path(api, operation, known, draw),
            headers: headers(operation, draw),
            body: None,
        };
        if let Some(schema) = operation.body() {
            let mut body = Values::drawn(api, draw, known).of(schema);
            if draw.percent(35) {
                harm::value(&mut body, draw);
            }
            hurry(&mut body);
            shot.body = Some(harm::text(body.to_string(), draw));
            shot.headers
                .push(("content-type".into(), harm::media_type(draw).into()));
        } else if draw.percent(10) {
            shot.body = Some(harm::text(json!({"unasked": true}).to_string(), draw));
            shot.headers.push(("content-type".into(), "application/json".into()));
        }
        shot
    }

    /// As a person would write it down.
    pub(super) fn told(&self) -> String {
        let headers: Vec<String> = self
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", cut(value)))
            .collect();
        let body = self.body.as_deref().map(cut).unwrap_or_default();
        format!(
            "{} {} [{}] {body}",
            self.method,
            cut(self.path.as_bytes()),
            headers.join(", ")
        )
    }
}

fn cut(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(300).collect()
}

fn path(api: &Described, operation: Operation<'_>, known: &[String], draw: &mut Draw) -> String {
    let mut path = operation.path.to_owned();
    for (name, parameter) in operation.parameters("path") {
        let value = if draw.percent(75) {
            plain(&Values::drawn(api, draw, known).of(&parameter["schema"]))
        } else {
            draw.one(&harm::NAMES).to_string()
        };
        let value = if value.is_empty() {
            "%20".to_owned()
        } else {
            escaped(&value)
        };
        path = path.replace(&format!("{{{name}}}"), &value);
    }
    let mut query = Vec::new();
    for (name, parameter) in operation.parameters("query") {
        if !draw.percent(30) {
            continue;
        }
        let value = match name {
            "wait" => draw.one(&["0", "1", "301", "-1", "soon"]).to_string(),
            _ if draw.percent(70) => plain(&Values::drawn(api, draw, known).of(&parameter["schema"])),
            _ => draw.one(&harm::NAMES).to_string(),
        };
        query.push(format!("{name}={}", escaped(&value)));
    }
    if draw.percent(6) {
        query.push(
            draw.one(&["unasked=1", "limit=1&limit=2", "%zz", "a=%ff", "=", "&&&", "limit"])
                .to_string(),
        );
    }
    if query.is_empty() {
        path
    } else {
        format!("{path}?{}", query.join("&"))
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Percent-encoded as a client's library would, but for what is encoded already.
fn escaped(text: &str) -> String {
    let text: String = text.chars().take(3_000).collect();
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~:%".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    // One or two dots, also encoded, are a step in the path: the client would fold the segment away and ask another
    // route than the described one.
    match escaped.to_ascii_lowercase().replace("%2e", ".").as_str() {
        "." | ".." => format!("{escaped}.x"),
        _ => escaped,
    }
}

fn headers(operation: Operation<'_>, draw: &mut Draw) -> Vec<(String, Vec<u8>)> {
    let mut all = vec![("Mesh-Tenant".to_owned(), b"fuzz".to_vec())];
    for (name, _) in operation.parameters("header") {
        if name != "Mesh-Tenant" && draw.percent(30) {
            let value = draw.one(&["a-key", "\"1\"", "*", "W/\"x\", \"y\"", "0", "", "inv_1", "ünïcode"]);
            all.push((name.to_owned(), value.as_bytes().to_vec()));
        }
    }
    if draw.percent(8) {
        let (name, value) = draw.one(&harm::HEADERS);
        all.push(((*name).to_owned(), value.to_vec()));
    }
    all
}

/// No drawn invocation waits for long.
fn hurry(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(delay) = fields.get_mut("delay_ms")
                && delay.as_u64().is_some_and(|delay| delay > DELAY_MS_MAX)
            {
                *delay = json!(DELAY_MS_MAX);
            }
            fields.values_mut().for_each(hurry);
        }
        Value::Array(items) => items.iter_mut().for_each(hurry),
        _ => {}
    }
}
