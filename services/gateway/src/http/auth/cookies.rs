//! The cookies of sign-in (RFC 6265bis): what they hold, where a browser sends them, and how one is read. No script reads
//! them, and no other site's page makes a browser send the one that matters.

use axum::http::{HeaderMap, HeaderValue, header};
use mesh_api::identity::SignedIn;

/// The refresh token, for the routes of sign-in only.
pub(super) const REFRESH: &str = "mesh_refresh";
/// Binds a sign-in elsewhere to the browser that began it.
pub(super) const BINDING: &str = "mesh_sign_in";
const REFRESH_PATH: &str = "/api/v1/auth";
const BINDING_PATH: &str = "/api/v1/auth/providers";
/// As long as `identity` waits for somebody to come back.
const BINDING_SECONDS: u64 = 600;
const BYTES_MAX: usize = 256;

pub(super) fn refresh(signed_in: &SignedIn) -> HeaderValue {
    let seconds = signed_in.refresh_expires_in;
    value(REFRESH, &signed_in.refresh_token, REFRESH_PATH, "Strict", seconds)
}

/// `Lax`: the other provider's page sends the browser back here.
pub(super) fn binding(text: &str) -> HeaderValue {
    value(BINDING, text, BINDING_PATH, "Lax", BINDING_SECONDS)
}

/// Takes the cookie away.
pub(super) fn none(name: &'static str) -> HeaderValue {
    if name == REFRESH {
        value(name, "", REFRESH_PATH, "Strict", 0)
    } else {
        value(name, "", BINDING_PATH, "Lax", 0)
    }
}

fn value(name: &str, text: &str, path: &str, same_site: &str, seconds: u64) -> HeaderValue {
    let cookie = format!("{name}={text}; HttpOnly; Secure; SameSite={same_site}; Path={path}; Max-Age={seconds}");
    let mut value = HeaderValue::from_str(&cookie).expect("tokens are of base 64 for URLs");
    value.set_sensitive(true);
    value
}

/// The one cookie of that name; where there are two, somebody else has set one of them.
pub(super) fn get(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok());
    let pairs = lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let mut found = pairs.filter(|(own, _)| *own == name).map(|(_, value)| value);
    let value = found
        .next()
        .filter(|value| !value.is_empty() && value.len() <= BYTES_MAX)?;
    found.next().is_none().then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, line.parse().unwrap());
        }
        get(&headers, REFRESH)
    }

    #[test]
    fn a_cookie_is_found_among_others_and_once_only() {
        assert_eq!(read(&["a=b; mesh_refresh=mrt_1; c=d"]).as_deref(), Some("mrt_1"));
        assert_eq!(read(&["a=b", "mesh_refresh=mrt_1"]).as_deref(), Some("mrt_1"));
        assert_eq!(read(&["mesh_refresh=mrt_1; mesh_refresh=mrt_2"]), None);
        for none in [
            "",
            "mesh_refresh=",
            "xmesh_refresh=a",
            "mesh_refresh",
            &format!("mesh_refresh={}", "x".repeat(999)),
        ] {
            assert_eq!(read(&[none]), None, "{none}");
        }
    }

    #[test]
    fn no_script_and_no_other_site_gets_them() {
        for (cookie, site, path) in [
            (
                value(REFRESH, "mrt_1", REFRESH_PATH, "Strict", 9),
                "Strict",
                "/api/v1/auth;",
            ),
            (binding("b"), "Lax", "/api/v1/auth/providers;"),
            (none(REFRESH), "Strict", "/api/v1/auth;"),
        ] {
            let text = cookie.to_str().unwrap();
            assert!(
                text.contains("; HttpOnly; Secure; SameSite=") && text.contains(site),
                "{text}"
            );
            assert!(
                text.contains(&format!("Path={path}")) && !text.contains("Domain"),
                "{text}"
            );
        }
        assert!(none(BINDING).to_str().unwrap().ends_with("Max-Age=0"));
    }
}
