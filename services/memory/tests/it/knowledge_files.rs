//! Documents as files and by URL: HTML and PDF, addresses that may not be reached, bodies that are too large, bombs.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use mesh_types::Code;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::knowledge::{add, check_citation, ready, search, text_of};
use crate::pdf_file;
use crate::setup::Mesh;

/// A site on loopback; ends when dropped.
struct Site {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Site {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let router = Router::new().fallback(move |uri: Uri| async move { answer(uri.path(), address.port()) });
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, _tasks: tasks }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn answer(path: &str, port: u16) -> Response {
    let typed = |media: &'static str, body: Vec<u8>| ([(CONTENT_TYPE, media)], body).into_response();
    match path {
        "/docs/page" => typed("text/html; charset=windows-1251", {
            let mut page = b"<title>x</title><nav>menu</nav><h1>".to_vec();
            page.extend([0xd7, 0xe0, 0xe9]); // "Чай"
            page.extend(b"</h1><p>Green tea wants 75 degrees.</p><script>no()</script>");
            page
        }),
        "/raw/notes.md" => typed("text/plain", b"# Notes\n\nwritten down\n".to_vec()),
        "/hop" => (StatusCode::FOUND, [(LOCATION, "/raw/notes.md")]).into_response(),
        // Another address of this machine, which is not allowed.
        "/away" => (
            StatusCode::FOUND,
            [(LOCATION, format!("http://127.0.0.2:{port}/raw/notes.md"))],
        )
            .into_response(),
        "/metadata" => (
            StatusCode::FOUND,
            [(LOCATION, "http://169.254.169.254/latest/meta-data/")],
        )
            .into_response(),
        "/large" => {
            let piece = Ok::<_, std::io::Error>(vec![b'x'; 1024 * 1024]);
            let pieces = futures::stream::iter((0..10).map(move |_| {
                piece
                    .as_ref()
                    .map(Clone::clone)
                    .map_err(|_| std::io::Error::other("never"))
            }));
            ([(CONTENT_TYPE, "text/plain")], Body::from_stream(pieces)).into_response()
        }
        "/broken" => (StatusCode::SERVICE_UNAVAILABLE, "later").into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn open(networks: &[&str]) -> Mesh {
    let embedder = std::sync::Arc::new(memory::embed::HashEmbedder::new(mesh_runtime::Blocking::default()));
    let networks: Vec<String> = networks.iter().map(|network| (*network).to_owned()).collect();
    Mesh::start_with(embedder, |config| config.private_networks = networks).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_fetched_read_and_cited_with_its_url() {
    let (mesh, site) = (open(&["127.0.0.1"]).await, Site::start().await);
    let url = site.url("/docs/page");
    let added = add(&mesh, json!({"base": "web", "url": format!("{url}#part")}))
        .await
        .unwrap();
    assert_eq!((added.name.as_str(), added.media_type.as_str()), ("page", "text/html"));
    assert_eq!(added.url.as_deref(), Some(url.as_str()));
    ready(&mesh, added.id).await;
    let text = text_of(&mesh, added.id).await;
    assert_eq!(text.text, "Чай\n\nGreen tea wants 75 degrees.");
    let found = search(
        &mesh,
        "default",
        json!({"bases": ["web"], "query": "green tea degrees"}),
    )
    .await;
    assert_eq!(found.items[0].citation.url.as_deref(), Some(url.as_str()));
    assert_eq!(found.items[0].citation.headings, ["Чай"]);
    check_citation(&found.items[0], &text);
    let hopped = add(&mesh, json!({"base": "web", "url": site.url("/hop"), "name": "n.md"}))
        .await
        .unwrap();
    assert_eq!((hopped.media_type.as_str(), hopped.chunks), ("text/markdown", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_are_refused_also_after_a_redirect() {
    let site = Site::start().await;
    let closed = open(&[]).await;
    for url in [
        site.url("/docs/page"),
        site.url("/docs/page").replace("127.0.0.1", "localhost"),
    ] {
        let problem = add(&closed, json!({"base": "web", "url": url})).await.unwrap_err();
        assert!(
            problem.is(Code::FetchFailed) && problem.detail.contains("private"),
            "{problem:?}"
        );
        assert_eq!(problem.field.as_deref(), Some("url"));
        assert!(problem.next.is_some_and(|next| next.contains("public address")));
    }
    let mesh = open(&["127.0.0.1"]).await;
    for path in ["/away", "/metadata"] {
        let problem = add(&mesh, json!({"base": "web", "url": site.url(path)}))
            .await
            .unwrap_err();
        assert!(
            problem.is(Code::FetchFailed) && problem.detail.contains("private"),
            "{path}: {problem:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_too_large_and_answers_that_are_none_are_refused() {
    let (mesh, site) = (open(&["loopback"]).await, Site::start().await);
    for (path, why) in [("/large", "8388608 bytes"), ("/broken", "503"), ("/nowhere", "404")] {
        let problem = add(&mesh, json!({"base": "web", "url": site.url(path)}))
            .await
            .unwrap_err();
        assert!(
            problem.is(Code::FetchFailed) && problem.detail.contains(why),
            "{path}: {problem:?}"
        );
        assert!(problem.next.is_some());
    }
    let gone = site.url("/docs/page");
    drop(site);
    assert!(
        add(&mesh, json!({"base": "web", "url": gone}))
            .await
            .unwrap_err()
            .is(Code::FetchFailed)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pdf_is_found_with_its_page() {
    let mesh = Mesh::start().await;
    let first = pdf_file::text(
        "Machine manual",
        &["Switch it on with the green button.", "Wait for the light."],
    );
    let second = pdf_file::text("Cleaning", &["Descale the boiler every month with citric acid."]);
    let data = STANDARD.encode(pdf_file::pages(&[first, second], "", &[]));
    let added = add(&mesh, json!({"base": "house", "name": "manual.pdf", "data": data}))
        .await
        .unwrap();
    assert_eq!((added.media_type.as_str(), added.chunks), ("application/pdf", 2));
    ready(&mesh, added.id).await;
    let found = search(
        &mesh,
        "default",
        json!({"bases": ["house"], "query": "descale the boiler"}),
    )
    .await;
    assert_eq!(found.items[0].citation.headings, ["Cleaning", "page 2"]);
    check_citation(&found.items[0], &text_of(&mesh, added.id).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_in_a_pdf_is_refused_and_the_service_goes_on() {
    let mesh = Mesh::start().await;
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![0; 1024 * 1024];
    for _ in 0..512 {
        encoder.write_all(&zeros).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 1024 * 1024);
    let bomb = pdf_file::stream("/Filter /FlateDecode", &bomb);
    let data = STANDARD.encode(pdf_file::pages(&[bomb], "", &[]));
    let problem = add(&mesh, json!({"base": "house", "name": "bomb.pdf", "data": data}))
        .await
        .unwrap_err();
    assert!(
        problem.is(Code::DocumentUnreadable) && problem.detail.contains("unpack"),
        "{problem:?}"
    );
    add(&mesh, json!({"base": "house", "name": "a.txt", "text": "still here"}))
        .await
        .unwrap();
}
