//! From words at places to lines, paragraphs and headings: what people see as one is one. Pure.

use std::collections::BTreeMap;

use crate::knowledge::reading::{Kind, Reading};

/// Gaps between words, and between lines of one paragraph, as shares of the letters' size.
const WORD_GAP: f64 = 0.15;
const SAME_LINE: f64 = 0.4;
const LINES_GAP_MAX: f64 = 1.75;
/// Letters that are so much larger than the body's are a heading's, when they are few words.
const HEADING_RATIO: f64 = 1.15;
const HEADING_WORDS_MAX: usize = 16;
/// Levels of headings that sizes tell apart.
const LEVELS_MAX: usize = 3;

/// Words as they were shown: where, and how large (in the page's units).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shown {
    pub(super) text: String,
    pub(super) start: (f64, f64),
    pub(super) end: (f64, f64),
    pub(super) size: f64,
}

#[derive(Debug, Default)]
pub(super) struct Layout {
    lines: Vec<Line>,
    /// How many lines came before each page.
    pages: Vec<usize>,
    bytes: usize,
}

#[derive(Debug)]
struct Line {
    text: String,
    page: usize,
    size: f64,
    baseline: f64,
    end: f64,
}

impl Layout {
    pub(super) fn begin_page(&mut self) {
        self.pages.push(self.lines.len());
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn show(&mut self, shown: &Shown) {
        let text = plain(&shown.text);
        if text.is_empty() || !shown.size.is_finite() || shown.size <= 0.0 {
            return;
        }
        self.bytes += text.len() + 1;
        let page = self.pages.len();
        if let Some(line) = self.lines.last_mut().filter(|line| line.page == page) {
            let size = line.size.max(shown.size);
            if (line.baseline - shown.start.1).abs() < SAME_LINE * size {
                let gap = shown.start.0 - line.end;
                // A step back is another column, or a line that was put together out of order.
                let is_apart = gap > WORD_GAP * size || gap < -size;
                if is_apart && !line.text.ends_with(' ') && !text.starts_with(' ') {
                    line.text.push(' ');
                }
                line.text.push_str(&text);
                line.end = shown.end.0;
                if !text.trim().is_empty() {
                    line.size = line.size.max(shown.size);
                }
                return;
            }
        }
        if !text.trim().is_empty() {
            self.lines.push(Line {
                text,
                page,
                size: shown.size,
                baseline: shown.start.1,
                end: shown.end.0,
            });
        }
    }

    pub(super) fn finished(self) -> Reading {
        let sizes = Sizes::of(&self.lines);
        let mut reading = Reading::default();
        let mut pages = self.pages.iter().copied().peekable();
        let mut before: Option<(&Line, Option<u8>)> = None;
        for (index, line) in self.lines.iter().enumerate() {
            let level = sizes.level(line);
            let goes_on = before.is_some_and(|(last, last_level)| last_level == level && goes_on(last, line));
            if !reading.text.is_empty() {
                reading.text.push_str(if goes_on { "\n" } else { "\n\n" });
            }
            let at = reading.text.len();
            while pages.next_if(|first| *first <= index).is_some() {
                reading.pages.push(at);
            }
            reading.text.push_str(line.text.trim());
            match (level, goes_on, reading.marks.last_mut()) {
                // A heading of several lines is one.
                (Some(level), true, Some(mark)) => {
                    if let Kind::Heading { title, .. } = &mark.kind {
                        mark.kind = Kind::heading(level, &format!("{title} {}", line.text));
                    }
                }
                (Some(level), ..) => reading.mark(at, Kind::heading(level, &line.text)),
                (None, false, _) => reading.mark(at, Kind::Paragraph),
                (None, true, _) => {}
            }
            before = Some((line, level));
        }
        reading
    }
}

/// Letters as people type them: ligatures apart, or words with them are never found; no soft hyphens, no controls.
fn plain(shown: &str) -> String {
    let mut text = String::with_capacity(shown.len());
    for letter in shown.chars() {
        match letter {
            '\u{ad}' => {}
            '\u{fb00}' => text.push_str("ff"),
            '\u{fb01}' => text.push_str("fi"),
            '\u{fb02}' => text.push_str("fl"),
            '\u{fb03}' => text.push_str("ffi"),
            '\u{fb04}' => text.push_str("ffl"),
            '\u{fb05}' | '\u{fb06}' => text.push_str("st"),
            letter if letter.is_control() => text.push(' '),
            letter => text.push(letter),
        }
    }
    text
}

fn goes_on(last: &Line, line: &Line) -> bool {
    let down = last.baseline - line.baseline;
    let size = last.size.max(line.size);
    let is_same_size = (last.size - line.size).abs() < 0.1 * size;
    // A paragraph goes on over a page's end; nobody can tell.
    last.page == line.page && is_same_size && down > 0.0 && down < LINES_GAP_MAX * size
}

/// Which sizes are headings'.
struct Sizes {
    /// Tenths of a unit, largest first.
    headings: Vec<u64>,
}

impl Sizes {
    fn of(lines: &[Line]) -> Self {
        let mut letters: BTreeMap<u64, usize> = BTreeMap::new();
        for line in lines {
            *letters.entry(tenths(line.size)).or_default() += line.text.chars().count();
        }
        let body = letters
            .iter()
            .max_by_key(|(_, count)| **count)
            .map_or(0, |(size, _)| *size);
        let is_heading = |size: &u64| *size as f64 >= body as f64 * HEADING_RATIO;
        let mut headings: Vec<u64> = lines
            .iter()
            .filter(|line| has_few_words(line))
            .map(|line| tenths(line.size))
            .filter(is_heading)
            .collect();
        headings.sort_unstable_by(|a, b| b.cmp(a));
        headings.dedup();
        Self { headings }
    }

    fn level(&self, line: &Line) -> Option<u8> {
        if !has_few_words(line) {
            return None;
        }
        // Searched by halves: a hostile file has as many sizes as lines.
        let size = tenths(line.size);
        let place = self.headings.binary_search_by(|known| size.cmp(known)).ok()?;
        u8::try_from(place.min(LEVELS_MAX - 1) + 1).ok()
    }
}

fn has_few_words(line: &Line) -> bool {
    line.text.chars().any(char::is_alphabetic) && line.text.split_whitespace().count() <= HEADING_WORDS_MAX
}

fn tenths(size: f64) -> u64 {
    (size * 10.0).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(layout: &mut Layout, text: &str, x: f64, y: f64, size: f64) {
        let width = text.chars().count() as f64 * size * 0.5;
        layout.show(&Shown {
            text: text.into(),
            start: (x, y),
            end: (x + width, y),
            size,
        });
    }

    #[test]
    fn places_become_words_lines_and_paragraphs() {
        let mut layout = Layout::default();
        layout.begin_page();
        show(&mut layout, "Big", 10.0, 700.0, 20.0);
        show(&mut layout, "title", 45.0, 700.0, 20.0);
        show(&mut layout, "Wor", 10.0, 660.0, 10.0);
        show(&mut layout, "ds\u{7}o\u{fb03}", 25.0, 660.0, 10.0);
        show(&mut layout, "the first", 10.0, 648.0, 10.0);
        show(&mut layout, "and the second paragraph", 10.0, 620.0, 10.0);
        layout.begin_page();
        layout.begin_page();
        show(&mut layout, "third page", 10.0, 700.0, 10.0);
        let reading = layout.finished();
        assert_eq!(
            reading.text,
            "Big title\n\nWords offi\nthe first\n\nand the second paragraph\n\nthird page"
        );
        assert_eq!(reading.marks[0].kind, Kind::heading(1, "Big title"));
        assert_eq!(reading.marks.len(), 4);
        assert_eq!(reading.pages, [0, 59, 59]);
    }
}
