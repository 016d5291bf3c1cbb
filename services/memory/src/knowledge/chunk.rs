//! Cuts a document on its structure into pieces that are embedded and cited. Pure.

use std::ops::Range;

use sha2::{Digest, Sha256};

use super::reading::{Kind, Reading};
use super::split::{self, weight};

/// Words that a piece is filled up to. The local model sees 256 word pieces, which English fills with some 190 words.
pub(crate) const WORDS_TARGET: usize = 180;
/// Words at most that are repeated, or moved, from the piece before.
pub(crate) const WORDS_CARRIED_MAX: usize = 30;
/// No piece has more.
#[cfg(test)]
pub(crate) const WORDS_MAX: usize = WORDS_TARGET + WORDS_CARRIED_MAX;
/// Headings of at most this level are never within a piece of what came before them.
const SECTION_LEVEL_MAX: u8 = 2;

/// A piece of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// From the document's title down; the page last, where there are pages.
    pub(crate) headings: Vec<String>,
    /// Of the text, in bytes.
    pub(crate) bytes: Range<usize>,
    /// Of the text, in characters.
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// SHA-256 of headings (without the page) and content: what stays the same keeps its vectors.
    pub(crate) hash: [u8; 32],
}

/// Of a heading up to the next one that counts, in parts that are not split without need.
#[derive(Debug, Clone)]
struct Part {
    bytes: Range<usize>,
    words: usize,
    /// Which block it is of, and how that one may be split.
    block: usize,
    role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Heading,
    /// A block that fits.
    Block,
    Sentence,
    Line,
}

/// Every character that is no space is in a piece; pieces are in the order of the text.
pub(crate) fn chunks(reading: &Reading) -> Vec<Chunk> {
    let mut cut = Vec::new();
    for section in sections(reading) {
        pack(section, &mut cut);
    }
    let mut headings = Headings::new(reading);
    let mut characters = Characters::new(&reading.text);
    cut.into_iter()
        .map(|piece| {
            let path = headings.at(piece.first_text);
            let hash = hash(&path, &reading.text[piece.bytes.clone()]);
            let page = reading.pages.partition_point(|page| *page <= piece.bytes.start);
            let page = (!reading.pages.is_empty()).then(|| format!("page {}", page.max(1)));
            Chunk {
                headings: path.into_iter().chain(page).collect(),
                start: characters.at(piece.bytes.start),
                end: characters.at(piece.bytes.end),
                bytes: piece.bytes,
                hash,
            }
        })
        .collect()
}

fn hash(headings: &[String], content: &str) -> [u8; 32] {
    let mut digest = Sha256::new();
    for heading in headings {
        digest.update(heading.as_bytes());
        // In no text that Postgres holds, so no two different paths are the same bytes.
        digest.update([0]);
    }
    digest.update([0]);
    digest.update(content.as_bytes());
    digest.finalize().into()
}

/// The parts between headings that count. A heading with nothing below it stays with what follows.
fn sections(reading: &Reading) -> Vec<Vec<Part>> {
    let mut sections: Vec<Vec<Part>> = vec![Vec::new()];
    let mut open_has_text = false;
    for (block, (range, kind)) in blocks(reading).into_iter().enumerate() {
        let is_section = matches!(kind, Kind::Heading { level, .. } if *level <= SECTION_LEVEL_MAX);
        if is_section && open_has_text {
            sections.push(Vec::new());
            open_has_text = false;
        }
        open_has_text |= !matches!(kind, Kind::Heading { .. });
        if let Some(open) = sections.last_mut() {
            open.extend(parts(&reading.text, block, range, kind));
        }
    }
    sections
}

/// What lies between marks, without the spaces around it.
fn blocks(reading: &Reading) -> Vec<(Range<usize>, &Kind)> {
    let (text, marks) = (&reading.text, &reading.marks);
    let first = marks.first().map_or(text.len(), |mark| mark.at);
    let mut blocks = vec![(split::trimmed(text, 0..first), &Kind::Paragraph)];
    for (index, mark) in marks.iter().enumerate() {
        let end = marks.get(index + 1).map_or(text.len(), |next| next.at);
        blocks.push((split::trimmed(text, mark.at..end), &mark.kind));
    }
    blocks.retain(|(range, _)| !range.is_empty());
    blocks
}

fn parts(text: &str, block: usize, range: Range<usize>, kind: &Kind) -> Vec<Part> {
    let words = weight(&text[range.clone()]);
    if words <= WORDS_TARGET {
        let role = match kind {
            Kind::Heading { .. } => Role::Heading,
            Kind::Paragraph | Kind::Whole => Role::Block,
        };
        return vec![Part {
            bytes: range,
            words,
            block,
            role,
        }];
    }
    let (ranges, role) = match kind {
        Kind::Whole => (split::lines(text, range), Role::Line),
        Kind::Heading { .. } | Kind::Paragraph => (split::sentences(text, range), Role::Sentence),
    };
    let fitting = ranges
        .into_iter()
        .flat_map(|range| split::fitting(text, range, WORDS_TARGET));
    fitting
        .map(|bytes| Part {
            words: weight(&text[bytes.clone()]),
            bytes,
            block,
            role,
        })
        .collect()
}

/// A piece without what is counted.
struct Piece {
    bytes: Range<usize>,
    /// Where its own text begins, after the headings that it opens with.
    first_text: usize,
}

fn pack(parts: Vec<Part>, pieces: &mut Vec<Piece>) {
    let mut open: Vec<Part> = Vec::new();
    for part in parts {
        let words: usize = open.iter().map(|part| part.words).sum();
        let is_full = words + part.words > WORDS_TARGET;
        let opens_part = part.role == Role::Heading
            && words >= WORDS_TARGET / 2
            && open.last().is_some_and(|last| last.role != Role::Heading);
        if !open.is_empty() && (is_full || opens_part) {
            let carried = carried(&mut open, &part);
            close(&open, pieces);
            open = carried;
        }
        open.push(part);
    }
    close(&open, pieces);
}

/// What the next piece begins with: the headings that would end this one (they leave it), or its last sentence when
/// `next` goes on with the same paragraph.
fn carried(open: &mut Vec<Part>, next: &Part) -> Vec<Part> {
    let kept = open
        .iter()
        .rposition(|part| part.role != Role::Heading)
        .map_or(0, |last| last + 1);
    let headings: usize = open[kept..].iter().map(|part| part.words).sum();
    if kept > 0 && kept < open.len() && headings <= WORDS_CARRIED_MAX {
        return open.split_off(kept);
    }
    match open.last() {
        Some(last)
            if open.len() > 1
                && last.role == Role::Sentence
                && next.block == last.block
                && last.words <= WORDS_CARRIED_MAX =>
        {
            vec![last.clone()]
        }
        _ => Vec::new(),
    }
}

fn close(parts: &[Part], pieces: &mut Vec<Piece>) {
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else {
        return;
    };
    let text = parts.iter().find(|part| part.role != Role::Heading).unwrap_or(last);
    pieces.push(Piece {
        bytes: first.bytes.start..last.bytes.end,
        first_text: text.bytes.start,
    });
}

/// The path of headings at places that are asked for in order.
struct Headings<'a> {
    reading: &'a Reading,
    next: usize,
    path: Vec<(u8, &'a str)>,
}

impl<'a> Headings<'a> {
    fn new(reading: &'a Reading) -> Self {
        Self {
            reading,
            next: 0,
            path: Vec::new(),
        }
    }

    fn at(&mut self, place: usize) -> Vec<String> {
        while let Some(mark) = self.reading.marks.get(self.next).filter(|mark| mark.at <= place) {
            if let Kind::Heading { level, title } = &mark.kind {
                self.path.retain(|(above, _)| above < level);
                if !title.is_empty() {
                    self.path.push((*level, title));
                }
            }
            self.next += 1;
        }
        self.path.iter().map(|(_, title)| (*title).to_owned()).collect()
    }
}

/// Bytes to characters; overlaps step back by a sentence only, so counting from the last place is cheap.
struct Characters<'a> {
    text: &'a str,
    byte: usize,
    character: usize,
}

impl<'a> Characters<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            byte: 0,
            character: 0,
        }
    }

    fn at(&mut self, byte: usize) -> u32 {
        let count = |range: Range<usize>| self.text[range].chars().count();
        self.character = if byte >= self.byte {
            self.character + count(self.byte..byte)
        } else {
            self.character - count(byte..self.byte)
        };
        self.byte = byte;
        u32::try_from(self.character).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
#[path = "chunk_tests.rs"]
mod tests;
