//! How much room is left where `mesh up` keeps its data, for `/metrics`. Servers that somebody else runs have watchers
//! of their own.

use std::path::PathBuf;

use mesh_runtime::{MetricName, Metrics};
use nix::sys::statvfs::statvfs;

pub(super) fn watch(metrics: &Metrics, home: PathBuf) {
    let metrics = metrics.for_service("mesh");
    metrics.observe(MetricName::DiskFree, move |told| {
        // Not the last reserve, which only the superuser gets.
        if let Some(bytes) = free(&home) {
            told.count(bytes, &[("volume", "home")]);
        }
    });
}

fn free(home: &std::path::Path) -> Option<u64> {
    let volume = statvfs(home).ok()?;
    Some(volume.blocks_available().saturating_mul(volume.fragment_size()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_room_and_one_that_is_not_there_says_nothing() {
        let here = std::env::temp_dir();
        assert!(free(&here).is_some_and(|bytes| bytes > 0));
        assert_eq!(free(&here.join("no such folder")), None);
        let metrics = Metrics::default();
        watch(&metrics, here);
        let text = metrics.render().unwrap();
        assert!(
            text.contains(r#"mesh_disk_free_bytes{mesh_service="mesh",volume="home"}"#),
            "{text}"
        );
    }
}
