//! Every secret of an installation by name: made when it is first asked for, the same ever after.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mesh_servers::write_private;

use crate::failure::advised;

pub(super) struct Vault {
    path: PathBuf,
    values: BTreeMap<String, String>,
    is_changed: bool,
}

impl Vault {
    /// What was made before; empty at the first start.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let values = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|_| {
                let text = anyhow::anyhow!("{} is not readable as this program's", path.display());
                advised(
                    text,
                    "restore it from a backup; without it, databases and streams refuse their services",
                )
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        Ok(Self {
            path: path.to_owned(),
            values,
            is_changed: false,
        })
    }

    /// 256 unpredictable bits as letters that need no escape anywhere.
    pub(super) fn password(&mut self, name: &str) -> String {
        self.made(name, || identity::random_password().expose().clone())
    }

    pub(super) fn made(&mut self, name: &str, make: impl FnOnce() -> String) -> String {
        if let Some(value) = self.values.get(name) {
            return value.clone();
        }
        let value = make();
        self.values.insert(name.to_owned(), value.clone());
        self.is_changed = true;
        value
    }

    /// Whether there was something to save.
    pub(super) fn save(&mut self) -> anyhow::Result<bool> {
        if !self.is_changed {
            return Ok(false);
        }
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        write_private(&self.path, &serde_json::to_vec_pretty(&self.values)?)?;
        self.is_changed = false;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/vault.json");
        let mut vault = Vault::open(&path).unwrap();
        let made = vault.password("postgres");
        assert_ne!(made, vault.password("grafana"));
        assert!(vault.save().unwrap() && !vault.save().unwrap());
        let mut again = Vault::open(&path).unwrap();
        assert_eq!(again.password("postgres"), made);
        assert!(!again.save().unwrap());
    }

    #[test]
    fn a_vault_that_is_none_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault.json");
        std::fs::write(&path, "[]").unwrap();
        assert!(Vault::open(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"[]");
    }
}
