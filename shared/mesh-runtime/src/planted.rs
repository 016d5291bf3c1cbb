//! Known bugs, by name: the proof that `cargo xtask chaos` would find them. Compiled in with the feature `planted-bugs`
//! only; without it [`is_planted`] is `false` at compile time and setting `MESH_PLANTED_BUG` is an error.

/// A bug was asked for that this build does not have.
#[derive(Debug, thiserror::Error)]
#[error("MESH_PLANTED_BUG: this build has no bugs to show; build it with the feature `planted-bugs`")]
pub struct NoBugs;

#[cfg(feature = "planted-bugs")]
static PLANTED: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Shows the bug of that name from now on; the first call counts.
///
/// # Errors
/// When this build has none.
#[cfg(feature = "planted-bugs")]
pub fn plant(name: Option<&str>) -> Result<(), NoBugs> {
    if let Some(name) = name {
        // A second call would be another bug in the same run: the first one stands.
        let _ = PLANTED.set(name.to_owned());
    }
    Ok(())
}

/// Shows the bug of that name from now on; the first call counts.
///
/// # Errors
/// When this build has none.
#[cfg(not(feature = "planted-bugs"))]
pub const fn plant(name: Option<&str>) -> Result<(), NoBugs> {
    match name {
        Some(_) => Err(NoBugs),
        None => Ok(()),
    }
}

/// Whether this process shows the bug.
#[cfg(feature = "planted-bugs")]
pub fn is_planted(name: &str) -> bool {
    PLANTED.get().is_some_and(|planted| planted == name)
}

/// Whether this process shows the bug.
#[cfg(not(feature = "planted-bugs"))]
#[inline]
pub const fn is_planted(_name: &str) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_shows_a_bug_only_if_it_has_them() {
        assert!(!is_planted("ack_before_commit"));
        assert_eq!(plant(Some("ack_before_commit")).is_ok(), cfg!(feature = "planted-bugs"));
        assert_eq!(is_planted("ack_before_commit"), cfg!(feature = "planted-bugs"));
        assert!(!is_planted("another"));
        assert!(plant(None).is_ok());
    }
}
