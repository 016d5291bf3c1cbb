//! Results of at_most_once steps in synced files, from before they are sent until they are answered: what has happened
//! once must not be forgotten by a crash.

use std::path::{Path, PathBuf};

use mesh_api::journal::Fact;
use mesh_api::node::Ticket;
use serde::{Deserialize, Serialize};

use crate::identity::write_synced;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeptResult {
    pub(crate) ticket: Ticket,
    pub(crate) after_seq: u32,
    pub(crate) fact: Fact,
}

/// A file of its own for each result.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    folder: PathBuf,
}

impl Kept {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Durable when it returns; answers its place.
    pub(crate) async fn keep(&self, result: KeptResult) -> std::io::Result<PathBuf> {
        let step = match &result.fact {
            Fact::Done(done) => done.step,
            _ => 0,
        };
        let name = format!("{}.{}.{step}.json", result.ticket.invocation, result.ticket.epoch);
        let folder = self.folder.clone();
        let kept = tokio::task::spawn_blocking(move || {
            write_synced(&folder, &name, &serde_json::to_vec(&result)?)?;
            Ok(folder.join(name))
        });
        kept.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
    }

    /// It is answered.
    pub(crate) async fn forget(place: &Path) {
        if let Err(error) = tokio::fs::remove_file(place).await {
            tracing::warn!(%error, file = %place.display(), "an answered result stays; it is sent again at the next start");
        }
    }

    /// What an earlier start did not get answered.
    pub(crate) async fn all(&self) -> Vec<(PathBuf, KeptResult)> {
        let folder = self.folder.clone();
        let read = tokio::task::spawn_blocking(move || read_all(&folder));
        read.await.unwrap_or_default()
    }
}

fn read_all(folder: &Path) -> Vec<(PathBuf, KeptResult)> {
    let files = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let mut all = Vec::new();
    for path in files.filter(|path| path.extension().is_some_and(|end| end == "json")) {
        let read = std::fs::read(&path).map_err(|error| error.to_string());
        match read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string())) {
            Ok(result) => all.push((path, result)),
            Err(error) => tracing::error!(error, file = %path.display(), "a kept result cannot be read"),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use mesh_api::journal::Released;
    use mesh_types::{Id, InvocationId, Tenant};

    use super::*;

    #[tokio::test]
    async fn a_result_is_there_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::new(folder.path().to_owned());
        let result = KeptResult {
            ticket: Ticket {
                tenant: Tenant::default(),
                agent: "a".parse().unwrap(),
                invocation: InvocationId::from_u128(5),
                shard: 1,
                epoch: 2,
                issued_at: mesh_types::Timestamp::EPOCH,
                signature: "ab".into(),
            },
            after_seq: 9,
            fact: Fact::Released(Released {
                reason: "paused".into(),
            }),
        };
        let place = kept.keep(result.clone()).await.unwrap();
        std::fs::write(folder.path().join("torn.json"), "{").unwrap();
        std::fs::write(folder.path().join("half.json.new"), "{").unwrap();
        assert_eq!(kept.all().await, [(place.clone(), result)]);
        Kept::forget(&place).await;
        assert!(kept.all().await.is_empty());
    }
}
