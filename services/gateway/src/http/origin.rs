//! Which pages may open a stream here. A browser sends its page's origin with every WebSocket and lets the page read all
//! that comes, whatever CORS says; so it must be this server's own page, or one that is named.

use axum::http::{HeaderMap, header};
use mesh_types::Code;

use super::extract::header_text;
use super::problem::Failure;
use crate::state::App;

/// # Errors
/// `Forbidden` for a page of another origin than this server's or one in `gateway.cors_origins`.
pub(super) fn check(app: &App, headers: &HeaderMap) -> Result<(), Failure> {
    let origin = header_text(headers, header::ORIGIN.as_str())?;
    let host = header_text(headers, header::HOST.as_str())?;
    let is_welcome = match origin {
        Some(origin) => is_welcome(origin, host, &app.cors_origins),
        // Such as the address of an image, which a browser asks for without an origin.
        None => !is_of_another_page(header_text(headers, FETCH_SITE)?),
    };
    if is_welcome {
        return Ok(());
    }
    Err(Failure::new(
        Code::Forbidden,
        "another page would speak to a node through this browser",
    )
    .next("name its origin in gateway.cors_origins (CORS_ORIGINS)"))
}

/// What a browser says of the page that a request came from.
const FETCH_SITE: &str = "sec-fetch-site";

fn is_of_another_page(fetch_site: Option<&str>) -> bool {
    matches!(fetch_site, Some("cross-site" | "same-site"))
}

fn is_welcome(origin: &str, host: Option<&str>, named: &[String]) -> bool {
    if named.iter().any(|one| one == origin) {
        return true;
    }
    let authority = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    authority.is_some() && authority == host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_page_and_named_ones_are_welcome() {
        let named = ["https://ui.example".to_owned()];
        let of = |origin| is_welcome(origin, Some("localhost:8000"), &named);
        for origin in ["http://localhost:8000", "https://localhost:8000", "https://ui.example"] {
            assert!(of(origin), "{origin}");
        }
        for origin in [
            "null",
            "",
            "http://localhost",
            "http://localhost:8001",
            "http://evil.localhost:8000",
            "http://ui.example",
            "https://ui.example.evil",
            "ftp://localhost:8000",
            "localhost:8000",
        ] {
            assert!(!of(origin), "{origin}");
        }
        assert!(!is_welcome("http://localhost:8000", None, &named));
    }
}
