//! Splits text where it hurts least: between lines, sentences, words. Pure.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

/// A longer word counts as several: URLs and keys are many word pieces to a model.
const WORD_LETTERS_MAX: usize = 12;

/// Words of a text as they fill a piece. Letters of scripts that write without spaces count one each.
pub(crate) fn weight(text: &str) -> usize {
    text.split_whitespace().map(word_weight).sum()
}

fn word_weight(word: &str) -> usize {
    let wide = word.chars().filter(|letter| is_unspaced(*letter)).count();
    let narrow = word.chars().count() - wide;
    wide + narrow.div_ceil(WORD_LETTERS_MAX)
}

/// Thai to Khmer, CJK and the supplementary ideographs.
fn is_unspaced(letter: char) -> bool {
    matches!(letter, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        | '\u{2e80}'..='\u{a4cf}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// The range without the spaces at its ends.
pub(crate) fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let start = range.start + (part.len() - part.trim_start().len());
    start..start + part.trim().len()
}

pub(crate) fn lines(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let mut at = range.start;
    let cut = text[range].split_inclusive('\n').map(|line| {
        let start = at;
        at += line.len();
        start..at
    });
    shown(text, cut)
}

/// By the rules of Unicode (UAX 29).
pub(crate) fn sentences(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let start = range.start;
    let cut = text[range]
        .split_sentence_bound_indices()
        .map(|(at, sentence)| start + at..start + at + sentence.len());
    shown(text, cut)
}

/// The range itself where it has at most `words_max`, else parts of it that have, between words where words fit.
pub(crate) fn fitting(text: &str, range: Range<usize>, words_max: usize) -> Vec<Range<usize>> {
    if weight(&text[range.clone()]) <= words_max {
        return vec![range];
    }
    let mut cut: Vec<Range<usize>> = Vec::new();
    let mut words_open = 0;
    for word in words(text, range) {
        for part in letters(text, word, words_max) {
            let words = word_weight(&text[part.clone()]);
            match cut.last_mut() {
                Some(open) if words_open + words <= words_max => {
                    open.end = part.end;
                    words_open += words;
                }
                _ => {
                    cut.push(part);
                    words_open = words;
                }
            }
        }
    }
    cut
}

fn words(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let mut at = range.start;
    let cut = text[range].split_inclusive(char::is_whitespace).map(|word| {
        let start = at;
        at += word.len();
        start..at
    });
    shown(text, cut)
}

/// A word that is longer than a whole piece, in parts.
fn letters(text: &str, word: Range<usize>, words_max: usize) -> Vec<Range<usize>> {
    if word_weight(&text[word.clone()]) <= words_max {
        return vec![word];
    }
    let mut cut = Vec::new();
    let mut open = word.start..word.start;
    for (count, letter) in text[word].chars().enumerate() {
        // A letter counts one at most, so that this many always fit.
        if count > 0 && count % words_max == 0 {
            let end = open.end;
            cut.push(std::mem::replace(&mut open, end..end));
        }
        open.end += letter.len_utf8();
    }
    cut.push(open);
    cut
}

/// Trimmed, without what is blank.
fn shown(text: &str, ranges: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    ranges
        .map(|range| trimmed(text, range))
        .filter(|range| !range.is_empty())
        .collect()
}
