//! From a request to the pieces of a document: fetched if need be, read and cut off the runtime's threads.

use std::time::Duration;

use mesh_api::memory::BaseName;
use mesh_types::{Code, Problem};
use sha2::{Digest, Sha256};

use super::chunk;
use super::read::{self, MediaType, Unreadable};
use super::request::{Asked, Comes};
use crate::state::State;

/// Bytes of a document that is fetched or comes over the bus; over HTTP a body's bound is less.
const BYTES_MAX: usize = 8 * 1024 * 1024;
const CHUNKS_MAX: usize = 5_000;
/// The endpoint answers within 30 s, and reading may take a half of them.
const FETCH_MAX: Duration = Duration::from_secs(12);

/// The bytes of a document, and what they are.
pub(crate) struct Source {
    pub(crate) base: BaseName,
    pub(crate) name: String,
    pub(crate) media: MediaType,
    pub(crate) url: Option<String>,
    pub(crate) sha256: [u8; 32],
    pub(crate) bytes: Vec<u8>,
    charset: Option<String>,
    /// Of the request, for errors.
    field: &'static str,
}

/// A document that was read.
pub(crate) struct Prepared {
    pub(crate) body: String,
    pub(crate) pieces: Vec<Piece>,
}

pub(crate) struct Piece {
    pub(crate) headings: Vec<String>,
    pub(crate) content: String,
    pub(crate) hash: [u8; 32],
    /// Characters of the body.
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// Fetches what is to be fetched, and tells what the bytes are.
pub(crate) async fn source(state: &State, asked: Asked) -> Result<Source, Problem> {
    let field = asked.comes.field();
    let (bytes, said, url) = match asked.comes {
        Comes::Text(text) => (text.into_bytes(), Some("; charset=utf-8".to_owned()), None),
        Comes::Data(bytes) => (bytes, None, None),
        Comes::Url(url) => {
            let networks = &state.config.private_networks;
            let fetched = mesh_tools::fetch(url.as_str(), networks, BYTES_MAX, FETCH_MAX)
                .await
                .map_err(|problem| problem.field(field))?;
            (fetched.bytes, Some(fetched.content_type), Some(url.to_string()))
        }
    };
    if bytes.len() > BYTES_MAX {
        return Err(Problem::new(
            Code::InvalidRequest,
            format!("{} bytes, at most {BYTES_MAX} are taken", bytes.len()),
        )
        .field(field)
        .next("split it into several documents"));
    }
    let (declared, parameters) = asked.media.unzip();
    let answered = said.as_deref().and_then(MediaType::declared);
    // Servers call all they do not know plain text.
    let exact = answered.filter(|media| *media != MediaType::Text);
    let media = declared
        .or(exact)
        .or_else(|| MediaType::of_name(&asked.name))
        .or(answered)
        .unwrap_or_else(|| MediaType::sniffed(&bytes));
    let charset = parameters.as_deref().and_then(read::charset_of);
    Ok(Source {
        base: asked.base,
        name: asked.name,
        media,
        url,
        sha256: Sha256::digest(&bytes).into(),
        bytes,
        charset: charset.or_else(|| said.as_deref().and_then(read::charset_of)),
        field,
    })
}

/// Reads and cuts; the bytes are let go.
pub(crate) async fn prepare(state: &State, source: &mut Source) -> Result<Prepared, Problem> {
    let (media, charset) = (source.media, source.charset.clone());
    let bytes = std::mem::take(&mut source.bytes);
    let read = state
        .context
        .blocking
        .run(move || cut(media, &bytes, charset.as_deref()))
        .await;
    let read = read.unwrap_or_else(|error| {
        tracing::warn!(%error, "a document could not be read");
        Err(Unreadable::new(
            "reading it failed",
            "save it again with another program, or send its text",
        ))
    });
    read.map_err(|unreadable| {
        let what = source.media.as_str();
        Problem::new(
            Code::DocumentUnreadable,
            format!("`{}` cannot be read as {what}: {}", source.name, unreadable.why),
        )
        .field(source.field)
        .next(unreadable.next)
    })
}

fn cut(media: MediaType, bytes: &[u8], charset: Option<&str>) -> Result<Prepared, Unreadable> {
    let reading = read::read(media, bytes, charset)?;
    let chunks = chunk::chunks(&reading);
    if chunks.len() > CHUNKS_MAX {
        return Err(Unreadable::new(
            format!("it is cut into {} pieces, at most {CHUNKS_MAX} are kept", chunks.len()),
            "split it into several documents",
        ));
    }
    let pieces = chunks.into_iter().map(|chunk| Piece {
        content: reading.text[chunk.bytes].to_owned(),
        headings: chunk.headings,
        hash: chunk.hash,
        start: chunk.start,
        end: chunk.end,
    });
    Ok(Prepared {
        pieces: pieces.collect(),
        body: reading.text,
    })
}
