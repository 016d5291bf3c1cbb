//! Artifacts that this node has, by their hash, in files of its state folder. What does not match its hash is not there.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use mesh_types::agent::AgentSpec;
use mesh_types::{Code, Problem};
use sha2::{Digest, Sha256};

use crate::identity::{create_private, create_private_folder};

/// Artifacts that are kept, those in use not counted.
const KEPT_MAX: usize = 256;

#[derive(Debug, Clone)]
pub(crate) struct Artifacts {
    folder: PathBuf,
}

impl Artifacts {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// `None` where it is not here, or is damaged.
    pub(crate) async fn get(&self, hash: &str) -> Option<Arc<AgentSpec>> {
        let path = self.path(hash)?;
        let bytes = tokio::fs::read(path).await.ok()?;
        parse(hash, &bytes).ok()
    }

    /// Checks it and keeps it; that it cannot be kept is only logged.
    ///
    /// # Errors
    /// The bytes are not those of the hash, or no agent.
    pub(crate) async fn put(&self, hash: &str, bytes: String, used: Vec<String>) -> Result<Arc<AgentSpec>, Problem> {
        let spec = parse(hash, bytes.as_bytes())?;
        if let Some(path) = self.path(hash) {
            let folder = self.folder.clone();
            let kept = tokio::task::spawn_blocking(move || keep(&folder, &path, bytes.as_bytes(), &used)).await;
            if let Err(error) = kept.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
                tracing::warn!(%error, hash, "an artifact is not kept; it is fetched again at the next start");
            }
        }
        Ok(spec)
    }

    /// `None` for what is no hash: nothing from outside names a file.
    fn path(&self, hash: &str) -> Option<PathBuf> {
        let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash.then(|| self.folder.join(format!("{hash}.json")))
    }
}

fn parse(hash: &str, bytes: &[u8]) -> Result<Arc<AgentSpec>, Problem> {
    let broken = |why: String| Problem::new(Code::Internal, format!("artifact {hash}: {why}"));
    let found = hex::encode(Sha256::digest(bytes));
    if found != hash {
        return Err(broken(format!("its bytes are those of {found}")));
    }
    let spec: AgentSpec = serde_json::from_slice(bytes).map_err(|error| broken(error.to_string()))?;
    Ok(Arc::new(spec))
}

fn keep(folder: &Path, path: &Path, bytes: &[u8], used: &[String]) -> std::io::Result<()> {
    create_private_folder(folder)?;
    let temporary = path.with_extension("new");
    // Not synced: what a power cut leaves of it does not match its hash.
    create_private(&temporary)?.write_all(bytes)?;
    std::fs::rename(temporary, path)?;
    let mut spare: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        let is_used = path
            .file_stem()
            .is_some_and(|stem| used.iter().any(|hash| stem.to_string_lossy() == *hash));
        if !is_used {
            let at = entry.metadata().and_then(|known| known.modified());
            spare.push((at.unwrap_or(SystemTime::UNIX_EPOCH), path));
        }
    }
    spare.sort_unstable();
    let over = spare.len().saturating_sub(KEPT_MAX);
    spare
        .iter()
        .take(over)
        .try_for_each(|(_, path)| std::fs::remove_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(name: &str) -> (String, String) {
        let spec = AgentSpec {
            instructions: name.to_owned(),
            ..AgentSpec::default()
        };
        let bytes = serde_json::to_string(&spec).unwrap();
        (hex::encode(Sha256::digest(&bytes)), bytes)
    }

    #[tokio::test]
    async fn only_what_matches_its_hash_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::new(folder.path().join("artifacts"));
        let (hash, bytes) = artifact("one");
        assert!(artifacts.get(&hash).await.is_none());
        let wrong = artifacts.put(&hash, bytes.replace("one", "two"), Vec::new()).await;
        assert!(wrong.is_err());
        let spec = artifacts.put(&hash, bytes, Vec::new()).await.unwrap();
        assert_eq!(artifacts.get(&hash).await.unwrap(), spec);
        let file = folder.path().join("artifacts").join(format!("{hash}.json"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        std::fs::write(file, "{").unwrap();
        assert!(artifacts.get(&hash).await.is_none());
        assert!(artifacts.get("../../etc/passwd").await.is_none());
    }

    #[tokio::test]
    async fn old_ones_go_and_those_in_use_stay() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::new(folder.path().to_owned());
        let (first, bytes) = artifact("first");
        artifacts.put(&first, bytes, Vec::new()).await.unwrap();
        for number in 0..KEPT_MAX + 10 {
            let (hash, bytes) = artifact(&number.to_string());
            artifacts.put(&hash, bytes, vec![first.clone()]).await.unwrap();
        }
        assert!(artifacts.get(&first).await.is_some());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), KEPT_MAX + 1);
    }
}
