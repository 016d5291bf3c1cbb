//! Markdown: its source is the text, so that offsets lead to what the author wrote.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::super::reading::{Kind, Reading};

pub(super) fn read(text: String) -> Reading {
    let mut reading = Reading::default();
    let options = Options::ENABLE_TABLES | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    let mut depth = 0_usize;
    // Of an open heading: where it begins, and its words so far.
    let mut heading: Option<(usize, String)> = None;
    for (event, range) in Parser::new_ext(&text, options).into_offset_iter() {
        match event {
            Event::Start(tag) => {
                match (&tag, depth) {
                    (Tag::Heading { .. }, 0) => heading = Some((range.start, String::new())),
                    (Tag::CodeBlock(_) | Tag::Table(_), 0) => reading.mark(range.start, Kind::Whole),
                    (Tag::List(_), 0) => {}
                    // A list's points are paragraphs of their own.
                    (Tag::Item, 1) => reading.mark(range.start, Kind::Paragraph),
                    (_, 0) => reading.mark(range.start, Kind::Paragraph),
                    _ => {}
                }
                depth += 1;
            }
            Event::End(end) => {
                depth = depth.saturating_sub(1);
                if let (TagEnd::Heading(level), Some((at, title))) = (end, heading.take_if(|_| depth == 0)) {
                    reading.mark(at, Kind::heading(level as u8, &title));
                }
            }
            Event::Text(words) | Event::Code(words) => {
                if let Some((_, title)) = &mut heading {
                    title.push_str(&words);
                }
            }
            Event::SoftBreak | Event::HardBreak => {
                if let Some((_, title)) = &mut heading {
                    title.push(' ');
                }
            }
            Event::Rule => reading.mark(range.start, Kind::Paragraph),
            _ => {}
        }
    }
    reading.marks.sort_by_key(|mark| mark.at);
    reading.text = text;
    reading
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "---\ntitle: x\n---\n# The `mesh` *guide*\n\nFirst\nparagraph.\n\n- a\n- b\n  - c\n\n\
        Setext\n------\n\n```sh\n# no heading\n\nls\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> # quoted\n";

    #[test]
    fn headings_code_and_tables_are_seen() {
        let reading = read(SOURCE.to_owned());
        assert_eq!(reading.text, SOURCE);
        let seen: Vec<String> = reading
            .marks
            .iter()
            .map(|mark| {
                let line = SOURCE[mark.at..].lines().next().unwrap();
                match &mark.kind {
                    Kind::Heading { level, title } => format!("h{level} {title}"),
                    Kind::Paragraph => format!("p {line}"),
                    Kind::Whole => format!("w {line}"),
                }
            })
            .collect();
        assert_eq!(
            seen,
            [
                "p ---",
                "h1 The mesh guide",
                "p First",
                "p - a",
                "p - b",
                "h2 Setext",
                "w ```sh",
                "w | a | b |",
                "p > # quoted"
            ]
        );
    }
}
