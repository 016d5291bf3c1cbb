//! A connection's cursor: its place among all pushes, and its place in each invocation that it follows.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mesh_types::{Code, InvocationId, Problem};

use crate::feed;
use crate::hub::Position;

/// Between the parts; none of them holds it.
const PART: char = '~';
/// Longest text that is looked at.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// On the wire `position[~invocation:cursor]…`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct LiveCursor {
    pub(super) position: Option<Position>,
    pub(super) inside: BTreeMap<InvocationId, feed::Cursor>,
}

impl LiveCursor {
    pub(super) fn read(text: &str, invocations_max: usize) -> Result<Self, Problem> {
        let refused = || {
            Problem::new(Code::InvalidRequest, "that is no cursor of live pushes")
                .field("after")
                .next("send the cursor of the last push that you have, or none to begin now")
        };
        if text.len() > TEXT_BYTES_MAX {
            return Err(refused());
        }
        let mut parts = text.split(PART);
        let position = parts.next().unwrap_or_default().parse()?;
        let mut inside = BTreeMap::new();
        for part in parts {
            let (id, cursor) = part.split_once(':').ok_or_else(refused)?;
            inside.insert(id.parse().map_err(|_| refused())?, cursor.parse()?);
            if inside.len() > invocations_max {
                return Err(refused());
            }
        }
        Ok(Self {
            position: Some(position),
            inside,
        })
    }

    /// What stands behind the position.
    pub(super) fn suffix(&self) -> String {
        let mut text = String::new();
        for (id, cursor) in &self.inside {
            let _ = write!(text, "{PART}{id}:{cursor}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use mesh_types::Id;

    use super::*;

    #[test]
    fn a_cursor_is_its_text() {
        let position = Position::start();
        let mut cursor = LiveCursor {
            position: Some(position.clone()),
            inside: BTreeMap::new(),
        };
        for number in 1..4 {
            let at = "3-1.1.1.1.0.7".parse().unwrap();
            cursor.inside.insert(InvocationId::from_u128(number), at);
        }
        let text = format!("{position}{}", cursor.suffix());
        assert_eq!(LiveCursor::read(&text, 3).unwrap(), cursor);
        assert!(LiveCursor::read(&text, 2).is_err(), "more than may be followed");
        for wrong in [
            "",
            "x",
            "~",
            &format!("{position}~"),
            &format!("{position}~inv_1:3"),
            &"~".repeat(70_000),
        ] {
            assert!(LiveCursor::read(wrong, 9).is_err(), "{wrong}");
        }
    }
}
