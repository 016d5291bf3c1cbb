//! The local embedder's weights: there before the services start, if memory's configuration has a use for them.

use std::path::PathBuf;

use mesh_servers::{EmbedderWeights, ServersError};

use super::progress::Report;

/// Their folder, fetched if need be; `None` where another embedder is configured, or where they cannot be had: a mesh
/// without them finds memories by words, and that is no reason not to start.
pub(super) async fn provide(config: &memory::Config, report: Report) -> Option<PathBuf> {
    if !config.wants_weights() {
        return None;
    }
    let mut progress = report.clone();
    let resolved = crate::cli::blocking(move || EmbedderWeights::resolve(&mut progress).map(|weights| weights.folder));
    resolved.await.inspect_err(|error| tell(error, &report)).ok()
}

/// As [`provide`], for a start that goes to the background afterwards.
pub(super) fn fetch(config: &memory::Config, report: &mut Report) {
    if config.wants_weights() {
        let resolved: Result<EmbedderWeights, ServersError> = EmbedderWeights::resolve(report);
        if let Err(error) = resolved {
            tell(&error.into(), report);
        }
    }
}

fn tell(error: &anyhow::Error, report: &Report) {
    report.say(&format!(
        "memories are found by their words only, until a later start gets the local embedder: {error:#}"
    ));
}
