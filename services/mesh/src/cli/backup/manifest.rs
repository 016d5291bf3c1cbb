//! What an archive says of itself: written last, read first. A reader of a later version must understand every format.

use std::collections::BTreeMap;

use mesh_types::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Of the archive's layout; a larger one was written by a newer mesh.
pub(super) const FORMAT: u32 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u32,
    /// Version of the program that wrote it.
    pub(super) mesh: String,
    /// When the copying began: all that was accepted before is in it.
    pub(super) created_at: Timestamp,
    pub(super) database: Database,
    pub(super) streams: Vec<Stream>,
    pub(super) nats_server: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Database {
    pub(super) server: String,
    /// Number of the last migration.
    pub(super) schema: i64,
    pub(super) tables: Vec<Table>,
    pub(super) sequences: Vec<Sequence>,
    /// Beginnings of the weeks that have a partition of their own, in milliseconds since 1970.
    pub(super) weeks: Vec<i64>,
    /// Batch up to which each shard had told JOURNAL and DEAD_LETTERS of its work before the streams were copied.
    pub(super) relayed: BTreeMap<i16, i64>,
}

/// Rows in the text form of COPY, each part packed with gzip.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Table {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) columns: Vec<String>,
    pub(super) rows: u64,
    pub(super) parts: Vec<Part>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Sequence {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) last_value: i64,
    pub(super) is_called: bool,
}

/// A stream as JetStream copies it out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Stream {
    pub(super) name: String,
    pub(super) config: Value,
    pub(super) state: Value,
    pub(super) parts: Vec<Part>,
}

/// One file of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) path: String,
    pub(super) bytes: u64,
    /// In hexadecimal.
    pub(super) sha256: String,
}

impl Table {
    /// `schema.name`, for people.
    pub(super) fn label(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

impl Stream {
    pub(super) fn messages(&self) -> u64 {
        self.state["messages"].as_u64().unwrap_or(0)
    }
}

impl Manifest {
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        let tables = self.database.tables.iter().flat_map(|table| &table.parts);
        tables.chain(self.streams.iter().flat_map(|stream| &stream.parts))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.parts().map(|part| part.bytes).sum()
    }

    /// Rows of one table; 0 where the archive's schema has none of that name.
    pub(super) fn rows(&self, label: &str) -> u64 {
        let found = self.database.tables.iter().find(|table| table.label() == label);
        found.map_or(0, |table| table.rows)
    }

    pub(super) fn messages(&self) -> BTreeMap<&str, u64> {
        let each = self.streams.iter();
        each.map(|stream| (stream.name.as_str(), stream.messages())).collect()
    }
}
