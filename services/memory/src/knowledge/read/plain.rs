//! Plain text: paragraphs between blank lines.

use super::super::reading::{Kind, Reading};

pub(super) fn read(text: String) -> Reading {
    let mut reading = Reading::default();
    let mut is_after_blank = true;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let is_blank = line.trim().is_empty();
        if !is_blank && is_after_blank {
            reading.mark(at, Kind::Paragraph);
        }
        is_after_blank = is_blank;
        at += line.len();
    }
    reading.text = text;
    reading
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_begin_after_blank_lines() {
        let reading = read("\none\ntwo\n \n\nthree".to_owned());
        let places: Vec<_> = reading.marks.iter().map(|mark| mark.at).collect();
        assert_eq!(places, [1, 12]);
    }
}
