//! Pages and files without a server.

use super::file::takes;
use super::*;

async fn body(response: Response) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn the_page_and_its_policy_share_a_nonce() {
    let index = br#"<head><meta name="style-nonce" content="" /></head>"#;
    let response = render(Some(index), "abc");
    let policy = response.headers()[header::CONTENT_SECURITY_POLICY]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(policy.contains("style-src 'self' 'nonce-abc';"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    assert_eq!(
        body(response).await,
        r#"<head><meta name="style-nonce" content="abc" /></head>"#
    );
}

#[tokio::test]
async fn without_a_build_the_page_says_how_to_make_one() {
    let text = body(render(None, "abc")).await;
    assert!(
        text.contains("npm run build") && text.contains(r#"<style nonce="abc">"#),
        "{text}"
    );
}

#[test]
fn a_coding_is_taken_by_name_and_refused_by_weight_zero() {
    assert!(takes("gzip, deflate, br", "br"));
    assert!(takes("GZIP;q=0.5", "gzip"));
    assert!(!takes("br;q=0, gzip", "br"));
    assert!(!takes("", "br"));
    assert!(!takes("brotli", "br"));
}

#[test]
fn the_built_index_has_the_place_of_the_nonce() {
    // Where nothing was built there is nothing to look at: the test with a server covers that page.
    let source = include_str!("../../../ui/index.html");
    assert!(source.contains(NONCE_PLACE));
}
