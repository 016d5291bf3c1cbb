//! What goes wrong with requests: wrong types, bounds, names and bytes.

use serde_json::{Value, json};

use crate::described::Draw;

/// Names and numbers that are none, as they stand in paths and queries.
pub(super) const NAMES: [&str; 18] = [
    "a.b",
    "*",
    ">",
    "a b",
    "%00",
    "%2e%2e",
    "..",
    "%ff%fe",
    "нет",
    "agent:sofia",
    "inv_",
    "inv_00000000000000000000000000",
    "mem_ZZZZZZZZZZZZZZZZZZZZZZZZZZ",
    "-1",
    "0",
    "99999999999999999999",
    "1e3",
    "x",
];

/// Odd, and yet allowed by HTTP.
pub(super) const HEADERS: [(&str, &[u8]); 16] = [
    ("Mesh-Tenant", b"other"),
    ("Mesh-Tenant", b"a.b"),
    ("Mesh-Tenant", b"\xff\xfe"),
    ("X-Request-Id", b"<script>"),
    ("X-Request-Id", b"req_01ARZ3NDEKTSV4RRFFQ69G5FAV"),
    ("Accept", b"image/png"),
    ("Accept-Encoding", b"gzip, br;q=0.5, *;q=0"),
    ("Content-Encoding", b"gzip"),
    ("Range", b"bytes=0-1"),
    ("If-None-Match", b"*"),
    ("If-Modified-Since", b"yesterday"),
    ("Origin", b"http://elsewhere.example"),
    ("Authorization", b"Bearer nobody"),
    ("Cookie", b"mesh_refresh=nobody; a=\xff"),
    ("X-Forwarded-For", b"1.2.3.4, unknown"),
    ("traceparent", b"00-zz-zz-zz"),
];

/// Harms one place of a body.
pub(super) fn value(at: &mut Value, draw: &mut Draw) {
    let goes_on = draw.percent(60);
    match at {
        Value::Object(fields) if goes_on && !fields.is_empty() => {
            let place = draw.below(fields.len());
            if let Some(inner) = fields.values_mut().nth(place) {
                value(inner, draw);
            }
        }
        Value::Array(items) if goes_on && !items.is_empty() => {
            let place = draw.below(items.len());
            value(&mut items[place], draw);
        }
        Value::Object(fields) if draw.percent(50) => {
            let first = fields.keys().next().cloned();
            match first.filter(|_| draw.percent(50)) {
                Some(name) => drop(fields.remove(&name)),
                None => drop(fields.insert("not_a_field".into(), json!(1))),
            }
        }
        _ => *at = wrong(draw),
    }
}

fn wrong(draw: &mut Draw) -> Value {
    let all = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1.5),
        json!(18_446_744_073_709_551_615_u64),
        json!(i64::MIN),
        json!(1e300),
        json!(""),
        json!("nul\u{0}"),
        json!("a.b *>"),
        json!("x".repeat(5_000)),
        json!("\u{1F469}\u{200D}\u{1F52C}".repeat(50)),
        json!([]),
        json!({}),
        json!([[[[[[[[1]]]]]]]]),
        json!({"a": {"a": {"a": {"a": {}}}}}),
        json!(vec![0; 2_000]),
        json!("2026-13-45T99:99:99Z"),
        json!("inv_01ARZ3NDEKTSV4RRFFQ69G5FAV"),
    ];
    draw.one(&all).clone()
}

/// The text as it is, or as no parser should take it.
pub(super) fn text(body: String, draw: &mut Draw) -> Vec<u8> {
    if !draw.percent(12) {
        return body.into_bytes();
    }
    let half = body.len() / 2;
    let half = (0..=half).rev().find(|at| body.is_char_boundary(*at)).unwrap_or(0);
    match draw.below(12) {
        0 => body[..half].into(),
        1 => Vec::new(),
        2 => b"[]".to_vec(),
        3 => b"null".to_vec(),
        4 => format!("{body} {{}}").into_bytes(),
        5 => [b"\xef\xbb\xbf".as_slice(), body.as_bytes()].concat(),
        6 => [body.as_bytes(), b"\xff\xfe"].concat(),
        7 => body.replacen('{', r#"{"k":1,"k":2,"#, 1).into_bytes(),
        8 => format!("{}{}", "[".repeat(5_000), "]".repeat(5_000)).into_bytes(),
        9 => body.replacen(':', ":\"\\ud800\",\"y\":", 1).into_bytes(),
        10 => format!("{{\"payload\":\"{}\"}}", "x".repeat(1_100_000)).into_bytes(),
        _ => body.replacen('1', "1e999", 1).into_bytes(),
    }
}

pub(super) fn media_type(draw: &mut Draw) -> &'static str {
    if !draw.percent(6) {
        return "application/json";
    }
    draw.one::<&str>(&[
        "text/plain",
        "application/json; charset=utf-16",
        "application/x-www-form-urlencoded",
        "json",
        "*/*",
    ])
}
