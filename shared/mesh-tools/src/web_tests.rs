//! HTTP tools against real servers: what is sent, what is taken, and where nothing is ever sent.

use std::net::{IpAddr, Ipv4Addr};

use mesh_types::Code;
use serde_json::json;

use super::*;
use crate::test_support::{Script, Site, answer, http_get, http_tool, json as json_answer, toolbox};
use crate::{Toolbox, ToolsConfig};

#[tokio::test]
async fn arguments_are_posted_with_their_key() {
    let site = Site::new(|seen| match seen.path.as_str() {
        "/text" => answer(
            200,
            &[("content-type", "text/plain; charset=windows-1251")],
            vec![0xcf, 0xf0, 0xe8],
        ),
        "/nothing" => answer(204, &[], ""),
        _ => json_answer(201, r#"{"found": [1, 2.5], "big": 9007199254740993}"#),
    })
    .await;
    let toolbox = toolbox();
    let output = async |path: &str| {
        let call = http_tool(site.url(path), json!({"q": "при"}));
        toolbox.call(call, drop).await.unwrap().output
    };
    assert_eq!(
        output("/json").await,
        json!({"found": [1, 2.5], "big": 9_007_199_254_740_993_u64})
    );
    let seen = site.only();
    assert_eq!((seen.method.as_str(), seen.body.as_str()), ("POST", r#"{"q":"при"}"#));
    assert_eq!(seen.header("idempotency-key"), Some("inv_1/7"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(output("/text").await, json!("При"));
    assert_eq!(output("/nothing").await, json!(null));
}

#[tokio::test]
async fn an_error_says_whether_a_repeat_may_heal_it() {
    let site = Site::new(|seen| {
        let dated = [
            ("date", "Sat, 21 Nov 2026 10:00:00 GMT"),
            ("retry-after", "Sat, 21 Nov 2026 10:01:30 GMT"),
        ];
        match seen.path.as_str() {
            "/404" => answer(404, &[], "ж".repeat(2_000)),
            "/429" => answer(429, &[("retry-after", "7")], ""),
            "/503" => answer(503, &dated, "later"),
            "/304" => answer(304, &[("retry-after", "7")], ""),
            _ => answer(500, &[], "boom"),
        }
    })
    .await;
    let toolbox = toolbox();
    for (path, status, is_transient, retry_after) in [
        ("/404", 422, false, None),
        ("/304", 422, false, None),
        ("/429", 429, true, Some(7)),
        ("/503", 503, true, Some(90)),
        ("/500", 502, true, None),
    ] {
        let problem = toolbox
            .call(http_tool(site.url(path), json!({})), drop)
            .await
            .unwrap_err();
        assert!(problem.is(Code::ToolFailed), "{problem:?}");
        let said = (problem.status, problem.is_transient(), problem.retry_after_seconds);
        assert_eq!(said, (status, is_transient, retry_after), "{path}");
        assert!(problem.detail.contains(&path[1..]), "{problem:?}");
        assert_eq!(
            problem.detail.matches('ж').count(),
            if path == "/404" { 500 } else { 0 }
        );
    }
    let gone = site.url("/");
    drop(site);
    let problem = toolbox.call(http_tool(gone, json!({})), drop).await.unwrap_err();
    assert!(problem.is(Code::ToolFailed) && problem.is_transient(), "{problem:?}");
}

#[tokio::test]
async fn an_answer_is_bounded_in_size_depth_and_time() {
    let site = Site::new(|seen| match seen.path.as_str() {
        "/long" => json_answer(200, &format!("\"{}\"", "x".repeat(999))),
        "/fits" => json_answer(200, &format!("\"{}\"", "x".repeat(998))),
        "/deep" => json_answer(200, &format!("{}{}", "[".repeat(65), "]".repeat(65))),
        "/flat" => json_answer(200, &format!("{}{}", "[".repeat(64), "]".repeat(64))),
        "/html" => json_answer(200, "<html>"),
        _ => {
            let endless = futures::stream::pending::<Result<Vec<u8>, std::io::Error>>();
            answer(200, &[], axum::body::Body::from_stream(endless))
        }
    })
    .await;
    let toolbox = Toolbox::new(ToolsConfig {
        private_networks: vec!["loopback".into()],
        output_bytes_max: 1_000,
        ..ToolsConfig::default()
    });
    for path in ["/fits", "/flat"] {
        toolbox.call(http_tool(site.url(path), json!({})), drop).await.unwrap();
    }
    for (path, why) in [("/long", "1000 bytes"), ("/deep", "64 levels"), ("/html", "says JSON")] {
        let problem = toolbox
            .call(http_tool(site.url(path), json!({})), drop)
            .await
            .unwrap_err();
        assert!(problem.is(Code::ToolFailed) && !problem.is_transient(), "{problem:?}");
        assert!(problem.detail.contains(why), "{problem:?}");
    }
    let mut call = http_tool(site.url("/endless"), json!({}));
    call.timeout = Duration::from_millis(100);
    let problem = toolbox.call(call, drop).await.unwrap_err();
    assert!(
        problem.is(Code::Timeout) && problem.detail.contains("100ms"),
        "{problem:?}"
    );
}

#[tokio::test]
async fn a_redirect_keeps_the_rules_of_its_method_and_gives_arguments_to_its_own_origin_only() {
    let other = Site::new(|_| json_answer(200, r#""other""#)).await;
    let elsewhere = other.url("/other");
    let site = Site::new(move |seen| match seen.path.trim_start_matches('/').split_once('/') {
        Some((status, place)) => {
            let place = if place == "other" {
                elsewhere.clone()
            } else {
                format!("/{place}")
            };
            answer(status.parse().unwrap(), &[("location", &place)], "")
        }
        None if seen.path == "/loop" => answer(307, &[("location", "/loop")], ""),
        None => json_answer(200, r#""here""#),
    })
    .await;
    let toolbox = toolbox();
    let call = async |path: &str| toolbox.call(http_tool(site.url(path), json!({"a": 1})), drop).await;
    for (path, method, body) in [
        ("/307/end", "POST", r#"{"a":1}"#),
        ("/308/end", "POST", r#"{"a":1}"#),
        ("/301/end", "GET", ""),
        ("/302/end", "GET", ""),
        ("/303/end", "GET", ""),
    ] {
        assert_eq!(call(path).await.unwrap().output, json!("here"), "{path}");
        let last = site.seen().pop().unwrap();
        assert_eq!((last.method.as_str(), last.body.as_str()), (method, body), "{path}");
        assert_eq!(last.header("idempotency-key"), Some("inv_1/7"), "{path}");
    }
    for path in ["/307/other", "/308/other"] {
        let problem = call(path).await.unwrap_err();
        assert!(
            !problem.is_transient() && problem.detail.contains("not given"),
            "{problem:?}"
        );
    }
    assert!(other.seen().is_empty());
    assert_eq!(call("/303/other").await.unwrap().output, json!("other"));
    let last = other.only();
    assert_eq!((last.method.as_str(), last.header("idempotency-key")), ("GET", None));
    assert_eq!((last.body.as_str(), last.header("content-type")), ("", None));

    let before = site.seen().len();
    let problem = call("/loop").await.unwrap_err();
    assert!(problem.detail.contains("5 redirects"), "{problem:?}");
    assert_eq!(site.seen().len() - before, 6);
}

#[tokio::test]
async fn a_private_address_is_never_asked() {
    let site = Site::new(|_| json_answer(200, "1")).await;
    let port = site.address.port();
    let closed = Toolbox::new(ToolsConfig::default());
    for host in ["127.0.0.1", "localhost", "0x7f.1", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        let url = format!("http://{host}:{port}/");
        let problem = closed.call(http_tool(url, json!({})), drop).await.unwrap_err();
        assert!(
            problem.is(Code::ToolRefused) && !problem.is_transient(),
            "{host}: {problem:?}"
        );
        assert!(problem.next.unwrap().contains("private_networks"), "{host}");
    }
    assert!(site.seen().is_empty());
}

#[tokio::test]
async fn a_redirect_to_a_private_address_is_not_followed() {
    let site = Site::new(|seen| {
        let place = seen.path.trim_start_matches('/').to_owned();
        answer(303, &[("location", &place)], "")
    })
    .await;
    let toolbox = toolbox();
    for place in [
        "http://169.254.169.254/latest/",
        "http://10.0.0.1/",
        "http://[fd00::1]/",
        "file:///etc/passwd",
    ] {
        let call = http_tool(site.url(&format!("/{place}")), json!({}));
        let problem = toolbox.call(call, drop).await.unwrap_err();
        assert!(problem.is(Code::ToolRefused), "{place}: {problem:?}");
    }
}

/// The name leads to the permitted address when it is asked for first, and to a private one from then on. No question
/// is ever asked twice for one connection, so there is nothing to change in between.
#[tokio::test]
async fn an_answer_of_dns_that_changes_leads_nowhere() {
    let first = Site::new(|_| answer(200, &[("connection", "close")], "")).await;
    let port = first.address.port();
    let hidden = IpAddr::from([127, 0, 0, 2]);
    let second = Site::at((hidden, port).into(), |_| json_answer(200, r#""secret""#)).await;
    let guard = Guard::new(&["127.0.0.1".to_owned()]).unwrap();
    let (script, asked) = Script::new([IpAddr::from(Ipv4Addr::LOCALHOST), hidden]);
    let web = Web::with_lookup(guard, script).unwrap();
    let ask = || Ask {
        method: Method::GET,
        url: &*format!("http://rebind.example:{port}/").leak(),
        accept: "*/*",
        idempotency_key: None,
        body: None,
        hosts: None,
    };
    assert_eq!(web.send(ask()).await.unwrap().status(), 200);
    let problem = web.send(ask()).await.unwrap_err();
    assert!(problem.is(Code::ToolRefused), "{problem:?}");
    assert_eq!(*asked.lock().unwrap(), ["rebind.example", "rebind.example"]);
    assert_eq!((first.seen().len(), second.seen().len()), (1, 0));
}

#[tokio::test]
async fn a_redirect_is_resolved_afresh_and_checked_again() {
    let first = Site::new(|_| answer(302, &[("location", "/again"), ("connection", "close")], "")).await;
    let port = first.address.port();
    let hidden = IpAddr::from([127, 0, 0, 3]);
    let second = Site::at((hidden, port).into(), |_| json_answer(200, r#""secret""#)).await;
    let guard = Guard::new(&["127.0.0.1".to_owned()]).unwrap();
    let (script, _) = Script::new([IpAddr::from(Ipv4Addr::LOCALHOST), hidden]);
    let web = Web::with_lookup(guard, script).unwrap();
    let call = http_get(&["rebind.example"], &format!("http://rebind.example:{port}/"));
    let mesh_types::tool::Target::Tool(tool) = &call.target else {
        unreachable!("made above")
    };
    let problem = crate::http_tool::get(&web, tool, &call, 1_000).await.unwrap_err();
    assert!(problem.is(Code::ToolRefused), "{problem:?}");
    assert_eq!((first.seen().len(), second.seen().len()), (1, 0));
}

#[tokio::test]
async fn http_get_asks_listed_hosts_only() {
    let site = Site::new(|seen| match seen.path.as_str() {
        "/away" => answer(302, &[("location", "http://evil.example/")], ""),
        "/missing" => answer(404, &[("content-type", "text/html")], "<p>no"),
        _ => answer(200, &[("content-type", "text/plain")], "x".repeat(20)),
    })
    .await;
    let port = site.address.port();
    let (script, _) = Script::new([IpAddr::from(Ipv4Addr::LOCALHOST)]);
    let web = Web::with_lookup(Guard::new(&["loopback".to_owned()]).unwrap(), script).unwrap();
    let get = async |allow: &[&str], host: &str, path: &str| {
        let call = http_get(allow, &format!("http://{host}:{port}{path}"));
        let mesh_types::tool::Target::Tool(tool) = &call.target else {
            unreachable!("made above")
        };
        crate::http_tool::get(&web, tool, &call, 10).await
    };
    let listed = ["a.example", "*.b.example"];
    for host in ["a.example", "A.Example", "a.example.", "x.b.example", "x.y.b.example"] {
        let page = get(&listed, host, "/").await.unwrap().output;
        let expected = json!({"status": 200, "content_type": "text/plain", "text": "xxxxxxxxxx", "truncated": true});
        assert_eq!(page, expected, "{host}");
    }
    let page = get(&listed, "a.example", "/missing").await.unwrap().output;
    assert_eq!(
        page,
        json!({"status": 404, "content_type": "text/html", "text": "<p>no"})
    );
    let last = site.seen().pop().unwrap();
    assert_eq!((last.method.as_str(), last.header("idempotency-key")), ("GET", None));

    let asked = site.seen().len();
    for host in [
        "b.example",
        "xb.example",
        "x.a.example",
        "a.example.evil",
        "127.0.0.1",
        "a.example@evil.example",
    ] {
        let problem = get(&listed, host, "/").await.unwrap_err();
        assert!(
            problem.is(Code::ToolRefused) && problem.next.is_some(),
            "{host}: {problem:?}"
        );
    }
    assert!(get(&[], "a.example", "/").await.unwrap_err().is(Code::ToolRefused));
    assert_eq!(site.seen().len(), asked);
    let problem = get(&listed, "a.example", "/away").await.unwrap_err();
    assert!(problem.detail.contains("evil.example"), "{problem:?}");
}
