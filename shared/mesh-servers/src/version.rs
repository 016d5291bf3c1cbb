//! Versions as programs print them.

use std::fmt;

/// Major, minor, patch; what is missing counts as 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub patch: u32,
}

impl Version {
    /// The version of that triple.
    #[must_use]
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// The first version found in a line such as `nats-server: v2.15.1` or
    /// `postgres (PostgreSQL) 18.4`; `18beta1` reads as 18.0.0.
    #[must_use]
    pub fn find(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(Self::parse_word)
    }

    fn parse_word(word: &str) -> Option<Self> {
        let word = word.strip_prefix('v').unwrap_or(word);
        if !word.starts_with(|letter: char| letter.is_ascii_digit()) {
            return None;
        }
        let mut parts = word.split('.').map(|part| {
            let digits = part.split(|letter: char| !letter.is_ascii_digit()).next();
            digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
        });
        Some(Self::new(
            parts.next()?,
            parts.next().unwrap_or(0),
            parts.next().unwrap_or(0),
        ))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_print() {
        let cases = [
            ("nats-server: v2.15.1", Version::new(2, 15, 1)),
            ("postgres (PostgreSQL) 18.4 (Debian 18.4-1)", Version::new(18, 4, 0)),
            ("postgres (PostgreSQL) 19beta1", Version::new(19, 0, 0)),
            ("v2.16.0-RC.3", Version::new(2, 16, 0)),
        ];
        for (text, wanted) in cases {
            assert_eq!(Version::find(text), Some(wanted), "{text}");
        }
        assert_eq!(Version::find("command not found"), None);
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(Version::new(2, 9, 10) < Version::new(2, 15, 1));
    }
}
