//! The web UI's pages and files, whether it was built or not.

use reqwest::StatusCode;

use crate::support::Edge;

#[tokio::test]
async fn pages_have_a_strict_policy_with_a_nonce_of_their_own() {
    let edge = Edge::start().await;
    let mut nonces = Vec::new();
    for path in ["/", "/sign-in", "/t/default", "/t/default/invocations/inv_1?tab=raw"] {
        let response = edge.get(path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let policy = response.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        let (_, rest) = policy.split_once("'nonce-").unwrap();
        let nonce = rest.split_once('\'').unwrap().0.to_owned();
        let text = response.text().await.unwrap();
        assert!(text.contains(&nonce), "{path}: {text}");
        nonces.push(nonce);
    }
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), 4);
}

#[tokio::test]
async fn what_belongs_to_the_api_never_gets_a_page() {
    let edge = Edge::start().await;
    for path in [
        "/api/v1/nothing",
        "/v1/nothing",
        "/a2a/nothing/more",
        "/mcp/nothing/more",
        "/nothing",
        "/assets/absent.js",
        "/assets/../../Cargo.toml",
        "/assets/..%2f..%2fCargo.toml",
        "/tt",
    ] {
        let answer = edge.get(path).send().await.unwrap();
        assert!(answer.status().is_client_error(), "{path}: {}", answer.status());
        // Each protocol has errors of its own form; all are JSON.
        let kind = answer.headers()["content-type"].to_str().unwrap();
        assert!(kind.ends_with("json"), "{path}: {kind}");
    }
}

#[tokio::test]
async fn built_files_are_kept_for_ever_and_come_packed() {
    let edge = Edge::start().await;
    let page = edge.get("/").send().await.unwrap().text().await.unwrap();
    let Some(script) = page
        .split('"')
        .find(|word| word.starts_with("/assets/") && word.ends_with(".js"))
    else {
        assert!(page.contains("npm run build"), "{page}");
        return;
    };
    let get = |coding: &'static str| edge.get(script).header("accept-encoding", coding).send();
    let plain = get("identity").await.unwrap();
    assert_eq!(plain.headers()["cache-control"], "public, max-age=31536000, immutable");
    assert!(
        plain.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/javascript")
    );
    let whole = plain.bytes().await.unwrap().len();
    for coding in ["gzip", "br"] {
        let packed = get(coding).await.unwrap();
        assert_eq!(packed.headers()["content-encoding"], coding);
        let size = packed.bytes().await.unwrap().len();
        assert!(size * 2 < whole, "{coding}: {size} of {whole}");
    }
}
