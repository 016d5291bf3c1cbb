//! One message to a URL that a stranger gave, for others than tools: the same guard, no redirects, nothing read back.

use std::time::Duration;

use mesh_types::{Code, Problem};

use crate::failure;
use crate::guard::Guard;
use crate::web::{self, Web};

/// Posts a body once. Public addresses, and those of `private_networks`, as in [`crate::ToolsConfig`].
///
/// # Errors
/// `ToolRefused` where it may not be reached, `Timeout` after `limit`, and `ToolFailed` for an answer that is not 2xx.
pub async fn post(
    url: &str,
    private_networks: &[String],
    headers: &[(&'static str, String)],
    body: Vec<u8>,
    limit: Duration,
) -> Result<(), Problem> {
    let web = web_for(private_networks)?;
    let mut request = web.client_for(url)?.post(url).body(body);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let asked = async {
        let response = request.send().await.map_err(failure::of_request)?;
        web::successful(response).await.map(drop)
    };
    match tokio::time::timeout(limit, asked).await {
        Ok(posted) => posted,
        Err(_) => Err(Problem::new(Code::Timeout, "no answer in time")),
    }
}

/// Refuses what [`post`] could never reach: what is no URL of http or https, and addresses that are private.
///
/// # Errors
/// `ToolRefused`.
pub fn check_url(url: &str, private_networks: &[String]) -> Result<(), Problem> {
    web_for(private_networks)?.client_for(url).map(drop)
}

fn web_for(private_networks: &[String]) -> Result<Web, Problem> {
    let guard = Guard::new(private_networks).map_err(|error| Problem::new(Code::Internal, error))?;
    Web::new(guard).map_err(|error| Problem::new(Code::Internal, failure::said(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_reached_only_where_they_are_allowed() {
        for url in [
            "http://127.0.0.1/x",
            "http://[::1]/",
            "http://169.254.169.254/",
            "file:///etc/passwd",
            "x",
        ] {
            assert!(check_url(url, &[]).unwrap_err().is(Code::ToolRefused), "{url}");
        }
        assert!(check_url("https://a.example/x", &[]).is_ok());
        assert!(check_url("http://127.0.0.1/x", &["loopback".to_owned()]).is_ok());
    }
}
