//! Documents: read, cut into pieces on their structure, compared with the version before, searched with citations.

mod chunk;
mod diff;
mod ingest;
mod read;
mod reading;
mod request;
mod search;
mod split;

pub(crate) use diff::{Diff, diff};
pub(crate) use ingest::{Piece, Prepared, Source, prepare, source};
pub(crate) use request::Asked;
pub(crate) use search::search;

/// The owner of the vectors of a collection's pieces.
pub(crate) fn owner(base: &str) -> String {
    format!("k:{base}")
}
