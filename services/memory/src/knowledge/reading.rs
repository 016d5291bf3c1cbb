//! A document as it was read: plain text, and where its parts begin. Offsets are bytes of the text here; what leaves
//! the service counts characters.

/// Longest heading that a piece of the document repeats, in characters.
const TITLE_CHARACTERS_MAX: usize = 200;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) text: String,
    /// Sorted by place; a part ends where the next one begins, so that no text is outside of all of them.
    pub(crate) marks: Vec<Mark>,
    /// Where each page begins, of media that have pages.
    pub(crate) pages: Vec<usize>,
}

/// Where a part begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) at: usize,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Levels 1 to 6. The title may say more than the text at that place.
    Heading { level: u8, title: String },
    /// May be split between sentences.
    Paragraph,
    /// Code or a table: kept whole where it fits, else split between lines.
    Whole,
}

impl Kind {
    pub(crate) fn heading(level: u8, title: &str) -> Self {
        let words = title.split_whitespace().collect::<Vec<_>>().join(" ");
        Self::Heading {
            level: level.clamp(1, 6),
            title: words.chars().take(TITLE_CHARACTERS_MAX).collect(),
        }
    }
}

impl Reading {
    pub(crate) fn mark(&mut self, at: usize, kind: Kind) {
        self.marks.push(Mark { at, kind });
    }

    pub(crate) fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }
}
