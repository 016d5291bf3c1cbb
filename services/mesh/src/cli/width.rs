//! What fits in a line of the terminal.

/// At most `characters` of a text, beginning and end: ids of one minute differ at their ends.
pub(super) fn within(text: &str, characters: usize) -> String {
    let letters: Vec<char> = text.trim().chars().collect();
    if letters.len() <= characters {
        return letters.iter().collect();
    }
    let kept = characters.saturating_sub(1);
    let (head, tail) = (kept.div_ceil(2), kept / 2);
    let head: String = letters[..head].iter().collect();
    let tail: String = letters[letters.len() - tail..].iter().collect();
    format!("{head}…{tail}")
}

/// A list behind its name, in as many lines as `width` makes of it; the later ones are set in below the first. Of each
/// item: what is printed, and how many characters of it show.
pub(super) fn listed(name: &str, items: &[(String, usize)], width: Option<usize>) -> Vec<String> {
    const BETWEEN: &str = " · ";
    let (set_in, width) = (name.chars().count(), width.unwrap_or(usize::MAX));
    let mut lines: Vec<String> = Vec::new();
    let mut used = 0;
    for (text, shown) in items {
        match lines.last_mut() {
            Some(line) if used + BETWEEN.chars().count() + shown <= width => {
                line.push_str(BETWEEN);
                line.push_str(text);
                used += BETWEEN.chars().count() + shown;
            }
            before => {
                let start = if before.is_none() {
                    name.to_owned()
                } else {
                    " ".repeat(set_in)
                };
                lines.push(start + text);
                used = set_in + shown;
            }
        }
    }
    lines
}

/// A text in lines of at most `width` characters, broken between words, of which `lines_max` are kept.
pub(super) fn wrapped(text: &str, width: usize, lines_max: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    let mut used = 0;
    for word in text.split(|letter: char| letter.is_whitespace() || letter.is_control()) {
        let letters = word.chars().count();
        if letters == 0 {
            continue;
        }
        if used > 0 && used + 1 + letters > width {
            if lines.len() == lines_max {
                if let Some(last) = lines.last_mut() {
                    last.push('…');
                }
                return lines;
            }
            lines.push(String::new());
            used = 0;
        }
        if let Some(line) = lines.last_mut() {
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += letters;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_id_is_kept() {
        assert_eq!(within("nod_01ARZ3NDEKTSV4RRFFQ69G5FAV", 11), "nod_0…G5FAV");
        assert_eq!(within("kitchen", 7), "kitchen");
        assert_eq!(within("kitchen", 4), "ki…n");
    }

    #[test]
    fn a_list_goes_on_below_its_first_item() {
        let items = ["registry 1", "identity 1", "gateway 1"].map(|name| (name.to_owned(), name.len()));
        let lines = listed("Services   ", &items, Some(36));
        assert_eq!(lines, ["Services   registry 1 · identity 1", "           gateway 1"]);
        let whole = "Services   registry 1 · identity 1 · gateway 1";
        assert_eq!(listed("Services   ", &items, None), [whole]);
        // One that fits nowhere has a line of its own.
        assert_eq!(listed("Services   ", &items, Some(20)).len(), 3);
    }

    #[test]
    fn a_text_breaks_between_words_and_ends_with_a_mark_where_it_is_cut() {
        assert_eq!(wrapped("one two\nthree  four", 9, 5), ["one two", "three", "four"]);
        assert_eq!(wrapped("one two three four", 9, 2), ["one two", "three…"]);
        assert_eq!(wrapped("\u{1b}[31m", 9, 2), ["[31m"]);
    }
}
