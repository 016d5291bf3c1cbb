//! HTML: the tokens of a page become text. There is no tree, so that nesting costs nothing; what is no content
//! (scripts, styles, navigation) is left out.

use std::cell::RefCell;
use std::time::Instant;

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts};

use super::super::reading::{Kind, Reading};
use super::Unreadable;

/// Bytes that an encoding is declared within (the HTML standard's prescan).
const PRESCAN_BYTES: usize = 1024;
/// Bytes between two looks at the clock.
const PIECE_BYTES: usize = 4 * 1024;
/// How far back it is looked for a line's end that is there already.
const SPACES_LOOKED_AT: usize = 32;
const LEFT_OUT: [&str; 12] = [
    "script", "style", "nav", "template", "svg", "iframe", "object", "noscript", "select", "button", "textarea", "math",
];
const BLOCKS: [&str; 26] = [
    "address",
    "article",
    "aside",
    "blockquote",
    "body",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "header",
    "hr",
    "html",
    "main",
    "ol",
    "p",
    "section",
    "summary",
    "ul",
    "caption",
    "center",
];

/// Fed in pieces, so that the time is watched: the tokenizer compares each attribute of a tag with all before it.
pub(super) fn read(page: &str, deadline: Instant) -> Result<Reading, Unreadable> {
    let tokenizer = Tokenizer::new(Sink::default(), TokenizerOpts::default());
    let queue = BufferQueue::default();
    let mut rest = page;
    while !rest.is_empty() {
        if Instant::now() >= deadline {
            return Err(Unreadable::new("reading it takes too long", "send its text"));
        }
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES));
        rest = after;
        queue.push_back(StrTendril::from_slice(piece));
        // A sink without script handles never interrupts it.
        while !queue.is_empty() {
            let _ = tokenizer.feed(&queue);
        }
    }
    tokenizer.end();
    Ok(tokenizer.sink.0.into_inner().finished())
}

/// What `<meta charset=…>` says, also in its older form `content="text/html; charset=…"`.
pub(super) fn declared_charset(bytes: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(PRESCAN_BYTES)]).to_ascii_lowercase();
    let meta = &head[head.find("<meta")?..];
    let after = meta[meta.find("charset")? + "charset".len()..].trim_start();
    let value = after.strip_prefix('=')?.trim_start().trim_start_matches(['"', '\'']);
    let label: String = value
        .chars()
        .take_while(|letter| letter.is_ascii_alphanumeric() || "-_:".contains(*letter))
        .collect();
    (!label.is_empty()).then_some(label)
}

#[derive(Default)]
struct Sink(RefCell<Page>);

impl TokenSink for Sink {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut page = self.0.borrow_mut();
        match token {
            Token::TagToken(tag) if tag.kind == TagKind::StartTag => return page.open(&tag),
            Token::TagToken(tag) => page.close(&tag.name),
            Token::CharacterTokens(text) => page.text(&text),
            _ => {}
        }
        TokenSinkResult::Continue
    }
}

#[derive(Default)]
struct Page {
    reading: Reading,
    /// The element that is left out, and how many of its name are open.
    skipped: Option<(String, usize)>,
    /// The heading that is open: its level, where it begins.
    heading: Option<(u8, usize)>,
    /// Open `pre` and `table` elements: what they hold is one part.
    pre: usize,
    table: usize,
    /// Cells of the table's row so far.
    cells: usize,
    /// What stands between the text so far and the next word.
    gap: Gap,
    /// The `title` that is open, and the one that was read.
    is_title: bool,
    title: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Gap {
    #[default]
    None,
    Space,
    Line,
    Paragraph,
}

impl Page {
    fn open(&mut self, tag: &Tag) -> TokenSinkResult<()> {
        let name: &str = &tag.name;
        if let Some((skipped, depth)) = &mut self.skipped {
            // Navigation that nobody closed ends where the content begins.
            if matches!(name, "main" | "article" | "body") && skipped == "nav" {
                self.skipped = None;
            } else {
                *depth += usize::from(name == skipped && !tag.self_closing);
            }
        } else if LEFT_OUT.contains(&name) && !tag.self_closing {
            self.skipped = Some((name.to_owned(), 1));
        }
        match name {
            "script" => return TokenSinkResult::RawData(RawKind::ScriptData),
            "style" | "iframe" | "noscript" | "noembed" | "noframes" | "xmp" => {
                return TokenSinkResult::RawData(RawKind::Rawtext);
            }
            "title" | "textarea" => {
                self.is_title = name == "title" && self.skipped.is_none() && self.title.is_empty();
                return TokenSinkResult::RawData(RawKind::Rcdata);
            }
            _ => {}
        }
        if self.skipped.is_none() {
            self.open_shown(name);
        }
        TokenSinkResult::Continue
    }

    fn open_shown(&mut self, name: &str) {
        match name {
            "br" => self.gap = self.gap.max(Gap::Line),
            "li" => {
                self.part(Gap::Line, Kind::Paragraph);
                self.push("- ");
            }
            "pre" => {
                self.part(Gap::Paragraph, Kind::Whole);
                self.pre += 1;
            }
            "table" => {
                self.part(Gap::Paragraph, Kind::Whole);
                self.table += 1;
            }
            "tr" => {
                self.gap = self.gap.max(Gap::Line);
                self.cells = 0;
            }
            "td" | "th" => {
                if self.cells > 0 {
                    self.gap = Gap::None;
                    self.push(" | ");
                }
                self.cells += 1;
            }
            _ if heading_level(name).is_some() => {
                self.part(Gap::Paragraph, Kind::Paragraph);
                self.heading = heading_level(name).map(|level| (level, self.begin()));
            }
            _ if BLOCKS.contains(&name) => self.part(Gap::Paragraph, Kind::Paragraph),
            _ => {}
        }
    }

    fn close(&mut self, name: &str) {
        if name == "title" {
            self.is_title = false;
        }
        if let Some((skipped, depth)) = &mut self.skipped {
            *depth -= usize::from(name == skipped);
            if *depth == 0 {
                self.skipped = None;
            }
            return;
        }
        match name {
            "pre" => {
                self.pre = self.pre.saturating_sub(1);
                self.part(Gap::Paragraph, Kind::Paragraph);
            }
            "table" => {
                self.table = self.table.saturating_sub(1);
                self.part(Gap::Paragraph, Kind::Paragraph);
            }
            "tr" => self.gap = self.gap.max(Gap::Line),
            "li" => self.part(Gap::Line, Kind::Paragraph),
            _ if heading_level(name).is_some() => self.close_heading(),
            _ if BLOCKS.contains(&name) => self.part(Gap::Paragraph, Kind::Paragraph),
            _ => {}
        }
    }

    fn close_heading(&mut self) {
        if let Some((level, at)) = self.heading.take() {
            let title = self.reading.text.get(at..).unwrap_or_default().trim().to_owned();
            if !title.is_empty() {
                // What was marked within the heading belongs to it.
                while self.reading.marks.pop_if(|mark| mark.at >= at).is_some() {}
                self.reading.mark(at, Kind::heading(level, &title));
            }
        }
        self.part(Gap::Paragraph, Kind::Paragraph);
    }

    fn text(&mut self, text: &str) {
        if self.is_title {
            self.title.push_str(text);
        }
        if self.is_title || self.skipped.is_some() {
            return;
        }
        if self.pre > 0 && self.table == 0 {
            self.push(text);
            return;
        }
        for (index, word) in text.split(|letter: char| letter.is_ascii_whitespace()).enumerate() {
            if index > 0 {
                self.gap = self.gap.max(Gap::Space);
            }
            if !word.is_empty() {
                self.push(word);
            }
        }
    }

    /// A new part begins with the next word. Within a table all is one part.
    fn part(&mut self, gap: Gap, kind: Kind) {
        if self.table > 0 {
            self.gap = self.gap.max(Gap::Space);
            return;
        }
        self.gap = self.gap.max(gap);
        let at = self.begin();
        match self.reading.marks.last_mut() {
            Some(last) if last.at == at && !matches!(last.kind, Kind::Heading { .. }) => last.kind = kind,
            _ => self.reading.mark(at, kind),
        }
    }

    /// Where the text after the gap begins: the gap belongs to what came before.
    fn begin(&mut self) -> usize {
        self.fill_gap();
        self.reading.text.len()
    }

    fn fill_gap(&mut self) {
        let text = &mut self.reading.text;
        let wanted = match std::mem::take(&mut self.gap) {
            Gap::None => "",
            Gap::Space => " ",
            Gap::Line => "\n",
            Gap::Paragraph => "\n\n",
        };
        if text.is_empty() || wanted.is_empty() {
            return;
        }
        // Not further back: a hostile page that is all spaces would be looked through for each of its tags.
        let there = text.bytes().rev().take(SPACES_LOOKED_AT);
        let there: Vec<u8> = there.take_while(|byte| matches!(byte, b' ' | b'\n')).collect();
        let lines = there.iter().filter(|byte| **byte == b'\n').count();
        match wanted {
            " " if there.is_empty() => text.push(' '),
            "\n" if lines == 0 => text.push('\n'),
            "\n\n" if lines < 2 => text.push_str(&wanted[lines..]),
            _ => {}
        }
    }

    fn push(&mut self, text: &str) {
        self.fill_gap();
        self.reading.text.push_str(text);
    }

    /// A page without a heading of its own is under its title.
    fn finished(mut self) -> Reading {
        self.close_heading();
        let length = self.reading.text.trim_end().len();
        self.reading.text.truncate(length);
        self.reading.marks.retain(|mark| mark.at < length);
        let marks = &self.reading.marks;
        let has_top = marks
            .iter()
            .any(|mark| matches!(mark.kind, Kind::Heading { level: 1, .. }));
        if !has_top && !self.title.trim().is_empty() {
            let title = Kind::heading(1, &self.title);
            let top = [title, Kind::Paragraph].map(|kind| super::super::reading::Mark { at: 0, kind });
            self.reading.marks.splice(0..0, top);
        }
        self.reading
    }
}

fn heading_level(name: &str) -> Option<u8> {
    match name.as_bytes() {
        [b'h', level @ b'1'..=b'6'] => Some(level - b'0'),
        _ => None,
    }
}

#[cfg(test)]
#[path = "html_tests.rs"]
mod tests;
