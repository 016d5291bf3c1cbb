//! Pieces cover the text, cut it where it says, and stay within their bound.

use proptest::prelude::*;

use super::super::read::{MediaType, read};
use super::*;

fn pieces(media: MediaType, text: &str) -> (Reading, Vec<Chunk>) {
    let reading = read(media, text.as_bytes(), None).unwrap();
    let chunks = chunks(&reading);
    (reading, chunks)
}

fn sentence(number: usize) -> String {
    format!("Sentence number {number} says something about tea, water and time. ")
}

#[test]
fn sections_are_not_mixed_and_know_their_headings() {
    let text = "# Guide\n\n## Tea\n\nGreen tea.\n\n### Water\n\nSoft.\n\n## Coffee\n\nBlack.\n";
    let (reading, chunks) = pieces(MediaType::Markdown, text);
    let seen: Vec<_> = chunks
        .iter()
        .map(|chunk| (chunk.headings.join(" > "), &reading.text[chunk.bytes.clone()]))
        .collect();
    assert_eq!(
        seen,
        [
            (
                "Guide > Tea".to_owned(),
                "# Guide\n\n## Tea\n\nGreen tea.\n\n### Water\n\nSoft."
            ),
            ("Guide > Coffee".to_owned(), "## Coffee\n\nBlack.")
        ]
    );
}

#[test]
fn a_long_paragraph_is_split_between_sentences_with_one_repeated() {
    let text: String = (0..60).map(sentence).collect();
    let (reading, chunks) = pieces(MediaType::Text, &text);
    assert!(chunks.len() >= 3);
    for pair in chunks.windows(2) {
        let shared = &reading.text[pair[1].bytes.start..pair[0].bytes.end];
        assert!(
            shared.starts_with("Sentence") && shared.ends_with("time."),
            "{shared:?}"
        );
        assert_eq!(shared.matches("Sentence").count(), 1);
    }
}

#[test]
fn paragraphs_that_fit_are_whole_and_nothing_is_repeated() {
    let paragraph: String = (0..12).map(sentence).collect();
    let text = [paragraph.trim(); 5].join("\n\n");
    let (_, chunks) = pieces(MediaType::Text, &text);
    assert_eq!(chunks.len(), 5);
    assert!(chunks.windows(2).all(|pair| pair[0].end < pair[1].start));
}

#[test]
fn code_is_kept_whole_and_a_heading_stays_with_its_text() {
    let code = (0..20)
        .map(|line| format!("let value_{line} = call(one, two);\n"))
        .collect::<String>();
    let filler: String = (0..14).map(sentence).collect();
    let text = format!("{filler}\n\n### Code\n\n```rust\n{code}```\n");
    let (reading, chunks) = pieces(MediaType::Markdown, &text);
    assert_eq!(chunks.len(), 2);
    let last = &reading.text[chunks[1].bytes.clone()];
    assert!(last.starts_with("### Code") && last.ends_with("```"), "{last}");
    assert_eq!(chunks[1].headings, ["Code"]);
}

#[test]
fn offsets_count_characters() {
    let (reading, chunks) = pieces(
        MediaType::Markdown,
        "Їжак 🦔\n\n# Чай\n\nЗелений чай.\n\n# Кава\n\nМіцна.",
    );
    let letters: Vec<char> = reading.text.chars().collect();
    let cut: Vec<String> = chunks
        .iter()
        .map(|chunk| letters[chunk.start as usize..chunk.end as usize].iter().collect())
        .collect();
    assert_eq!(cut, ["Їжак 🦔", "# Чай\n\nЗелений чай.", "# Кава\n\nМіцна."]);
}

#[test]
fn a_piece_is_the_same_under_the_same_headings_only() {
    let hashes = |text: &str| {
        pieces(MediaType::Markdown, text)
            .1
            .iter()
            .map(|chunk| chunk.hash)
            .collect::<Vec<_>>()
    };
    let before = hashes("# A\n\none\n\n# B\n\ntwo\n");
    let moved = hashes("new\n\n# A\n\none\n\n# C\n\ntwo\n");
    assert_eq!(before[0], moved[1]);
    assert_ne!(before[1], moved[2]);
}

#[test]
fn long_words_and_scripts_without_spaces_are_bounded() {
    for text in ["x".repeat(20_000), "茶道是一种".repeat(500), "a\u{301}".repeat(9_000)] {
        let (reading, chunks) = pieces(MediaType::Text, &text);
        assert!(chunks.len() > 5);
        assert!(
            chunks
                .iter()
                .all(|chunk| weight(&reading.text[chunk.bytes.clone()]) <= WORDS_MAX)
        );
    }
}

fn check(media: MediaType, text: &str) -> Result<(), TestCaseError> {
    let Ok(reading) = read(media, text.as_bytes(), None) else {
        return Ok(());
    };
    let chunks = chunks(&reading);
    let letters: Vec<char> = reading.text.chars().collect();
    let mut is_covered = vec![false; letters.len()];
    let mut start = 0;
    for chunk in &chunks {
        let content = &reading.text[chunk.bytes.clone()];
        let cut: String = letters[chunk.start as usize..chunk.end as usize].iter().collect();
        prop_assert_eq!(&cut, content);
        prop_assert_eq!(content, content.trim());
        prop_assert!(!content.is_empty() && weight(content) <= WORDS_MAX);
        prop_assert!(chunk.start >= start, "in order");
        start = chunk.start;
        is_covered[chunk.start as usize..chunk.end as usize].fill(true);
    }
    for (place, letter) in letters.iter().enumerate() {
        prop_assert!(
            is_covered[place] || letter.is_whitespace(),
            "{letter:?} at {place} is in no piece"
        );
    }
    Ok(())
}

const LINES: &str = "((# |## |### |#### |- |    |```|\\| a \\| b \\||> |---)?(([a-zа-яії]{1,14}|茶|\\.|[A-Z]|x{60}) ?){0,60}\n{1,2}){0,25}";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn pieces_of_markdown_cover_it(text in LINES) {
        check(MediaType::Markdown, &text)?;
    }

    #[test]
    fn pieces_of_text_cover_it(text in LINES) {
        check(MediaType::Text, &text)?;
    }

    #[test]
    fn pieces_of_any_characters_cover_them(text in "\\PC{0,400}") {
        check(MediaType::Markdown, &text)?;
        check(MediaType::Html, &text)?;
    }
}
