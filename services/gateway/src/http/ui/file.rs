//! One built file as an answer: its type, how long it may be kept, and the packed form that the client takes.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::bytes_of;

/// Best first. The build packs what is text; the rest is there as it is.
const PACKED: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];

/// `None`: there is no such file.
pub(super) fn answer(path: &str, headers: &HeaderMap, keep: HeaderValue) -> Option<Response> {
    let kind = kind_of(path)?;
    let accepted = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect::<Vec<_>>()
        .join(",");
    let packed = PACKED
        .into_iter()
        .filter(|(coding, _)| takes(&accepted, coding))
        .find_map(|(coding, ending)| Some((coding, bytes_of(&format!("{path}{ending}"))?)));
    let (coding, bytes) = match packed {
        Some((coding, bytes)) => (Some(coding), bytes),
        None => (None, bytes_of(path)?),
    };
    let mut response = (StatusCode::OK, bytes.into_owned()).into_response();
    let answer = response.headers_mut();
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.insert(header::CACHE_CONTROL, keep);
    answer.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Some(coding) = coding {
        answer.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    Some(response)
}

/// Types of what the build makes; anything else, such as a packed form by its own name, is not served.
fn kind_of(path: &str) -> Option<&'static str> {
    Some(match path.rsplit_once('.')?.1 {
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "woff2" => "font/woff2",
        "json" => "application/json",
        _ => return None,
    })
}

/// Whether `Accept-Encoding` has a coding and does not refuse it (`;q=0`).
pub(super) fn takes(accepted: &str, coding: &str) -> bool {
    accepted.split(',').any(|part| {
        let mut words = part.split(';').map(str::trim);
        let is_it = words.next().is_some_and(|name| name.eq_ignore_ascii_case(coding));
        let weight = words.find_map(|word| word.strip_prefix("q="));
        is_it && weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0))
    })
}
