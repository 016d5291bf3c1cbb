//! `mesh knowledge add`: files and URLs into a base, with progress until they are found by their meaning.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use mesh_api::knowledge::{AddDocument, Document, DocumentState};
use mesh_types::{Code, Problem, Token};
use serde_json::json;
use tokio::time::Instant;

use super::percent;
use crate::client::Client;
use crate::failure::{Usage, advised};
use crate::output::{Output, shortened};

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// Collection of documents; it comes into being with its first one
    base: Token,
    /// Files (text, Markdown, HTML, PDF) and addresses of pages
    #[arg(required = true, value_name = "FILE|URL")]
    sources: Vec<String>,
    /// Name in the base [default: the file's, or the last part of the address]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What it is, such as text/markdown [default: by its ending]
    #[arg(long = "type", value_name = "MEDIA_TYPE")]
    media_type: Option<String>,
    /// Do not wait until it is embedded
    #[arg(long)]
    no_wait: bool,
}

pub(super) const EXAMPLES: &str = "Examples:
  mesh knowledge add handbook leave.md travel.pdf
  mesh knowledge add handbook https://example.com/guide.html --name guide
  mesh knowledge add handbook notes --type text/markdown --no-wait

The same bytes again change nothing; of changed ones only the changed pieces are embedded again.";

const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Without any piece more embedded in this time, nobody is kept waiting: the mesh goes on by itself.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn run(args: AddArgs, client: &Client, output: Output) -> anyhow::Result<()> {
    if args.sources.len() > 1 && (args.name.is_some() || args.media_type.is_some()) {
        return Err(Usage("--name and --type are of one document: add them one by one".into()).into());
    }
    let mut done = Vec::new();
    for source in &args.sources {
        let added = send(source, &args, client).await?;
        let document = if args.no_wait {
            added
        } else {
            until_ready(added, client, output).await?
        };
        if output.is_table() {
            output.line(&told(&document))?;
        }
        done.push(document);
    }
    if output.is_table() {
        Ok(())
    } else {
        output.show(&json!({ "items": done }), || Ok(()))
    }
}

fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

async fn send(source: &str, args: &AddArgs, client: &Client) -> anyhow::Result<Document> {
    let path = format!("/api/v1/knowledge/{}/documents", args.base);
    if is_url(source) {
        let request = AddDocument {
            base: None,
            name: args.name.clone(),
            media_type: args.media_type.clone(),
            text: None,
            data: None,
            url: Some(source.to_owned()),
        };
        return client.post(&path, &request).await;
    }
    let file = Path::new(source);
    let bytes = tokio::fs::read(file).await.map_err(|error| {
        advised(
            anyhow::anyhow!("cannot read {source}: {error}"),
            "name a file, or an address with http:// or https://",
        )
    })?;
    let of_file = || file.file_name().map(|name| name.to_string_lossy().into_owned());
    let media_type = match &args.media_type {
        Some(media_type) => media_type.clone(),
        None => media_type_of(file, &bytes).ok_or_else(|| unknown(source))?.to_owned(),
    };
    let name = [("name", args.name.clone().or_else(of_file))];
    let sent = client.post_bytes(&path, &name, &media_type, bytes).await;
    sent.map_err(|error| too_large(error, source))
}

/// What a document that is too large for a request can be done about, which the mesh cannot know.
fn too_large(error: anyhow::Error, source: &str) -> anyhow::Error {
    match error.downcast_ref::<Problem>() {
        Some(problem) if problem.is(Code::BodyTooLarge) => {
            let error = anyhow::anyhow!("{source}: {}", problem.detail);
            advised(
                error,
                "add it by an address that the mesh can fetch (up to 8 MiB), or in several files",
            )
        }
        _ => error,
    }
}

/// By its ending, else by what its bytes begin with; text without an ending is plain text.
fn media_type_of(file: &Path, bytes: &[u8]) -> Option<&'static str> {
    let ending = file
        .extension()
        .map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    match ending.as_deref() {
        Some("md" | "markdown") => Some("text/markdown"),
        Some("html" | "htm" | "xhtml") => Some("text/html"),
        Some("pdf") => Some("application/pdf"),
        Some("txt" | "text") => Some("text/plain"),
        _ if bytes.starts_with(b"%PDF-") => Some("application/pdf"),
        _ => std::str::from_utf8(bytes).ok().map(|_| "text/plain"),
    }
}

fn unknown(source: &str) -> anyhow::Error {
    let error = anyhow::anyhow!("{source} is neither text nor a PDF");
    advised(
        error,
        "say what it is: --type text/plain, text/markdown, text/html or application/pdf",
    )
}

/// The document once it is embedded; sooner when that does not get on.
async fn until_ready(added: Document, client: &Client, output: Output) -> anyhow::Result<Document> {
    let path = format!("/api/v1/knowledge/documents/{}", added.id);
    let bar = std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::new(100);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {bar:24} {percent} % ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_message(shortened(&added.name, 40));
        bar
    });
    let mut document = added;
    let mut moved_at = Instant::now();
    while document.state == DocumentState::Embedding {
        if let Some(bar) = &bar {
            bar.set_position(percent(&document));
        }
        if moved_at.elapsed() > PATIENCE {
            output.note("embedding does not get on; it is found by its words meanwhile: mesh memories status says why");
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        let now: Document = client.get(&path, &[]).await?;
        if (now.version, now.embedded) != (document.version, document.embedded) {
            moved_at = Instant::now();
        }
        document = now;
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(document)
}

fn told(document: &Document) -> String {
    let Document {
        id,
        name,
        version,
        chunks,
        kept,
        ..
    } = document;
    let state = match document.state {
        DocumentState::Ready => "ready".to_owned(),
        DocumentState::Embedding => format!("{} % embedded", percent(document)),
    };
    let kept = if *kept > 0 {
        format!(", {kept} of them kept")
    } else {
        String::new()
    };
    format!(
        "{id}  {}  version {version}, {chunks} pieces{kept}, {state}",
        shortened(name, 80)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_told_by_the_ending_else_by_the_bytes() {
        let of = |name: &str, bytes: &[u8]| media_type_of(Path::new(name), bytes);
        assert_eq!(of("a.MD", b"x"), Some("text/markdown"));
        assert_eq!(of("a.htm", b"x"), Some("text/html"));
        assert_eq!(of("scan", b"%PDF-1.7"), Some("application/pdf"));
        assert_eq!(of("README", "текст".as_bytes()), Some("text/plain"));
        assert_eq!(of("photo.jpg", &[0xff, 0xd8, 0xff]), None);
    }
}
