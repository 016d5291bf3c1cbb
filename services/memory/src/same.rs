//! When two contents say the same: a canonical form, its hash, and the key of a memory's owner. Pure.

use mesh_api::memory::{MemoryType, Scope};
use mesh_types::AgentName;
use sha2::{Digest, Sha256};

/// Quotes and brackets around a word say nothing of their own.
const AROUND: [char; 16] = [
    '"', '\'', '(', ')', '[', ']', '«', '»', '“', '”', '„', '‘', '’', '`', '‚', '‹',
];
/// Signs at the end of a word that do not change what is said; a question mark does.
const AFTER: [char; 6] = ['.', ',', ';', ':', '!', '…'];

/// SHA-256 of the canonical form. Contents that differ in any number, name, negation or other word differ here: a
/// store that is taken for a repeat loses its text, so likeness of vectors decides nothing (two order numbers, or two
/// days of the week, are as near as a typing error is). Procedures are compared verbatim, where case and line breaks
/// count.
pub(crate) fn content_hash(kind: MemoryType, content: &str) -> [u8; 32] {
    let same = match kind {
        MemoryType::Procedural => content.trim().to_owned(),
        MemoryType::Episodic | MemoryType::Semantic | MemoryType::Working => canonical(content),
    };
    Sha256::digest(same).into()
}

/// Lower case, spaces joined, without the article `the`, quotes and brackets around words, and stops after them.
fn canonical(content: &str) -> String {
    let lower = content.to_lowercase().replace(['\u{2019}', '\u{02bc}'], "'");
    let words: Vec<&str> = lower.split_whitespace().map(bare).collect();
    let told: Vec<&str> = words.iter().copied().filter(|word| *word != "the").collect();
    if told.is_empty() {
        words.join(" ")
    } else {
        told.join(" ")
    }
}

/// Around digits brackets mean something (`(5)` is −5 in accounts), and so does what stands before them (`.5`, `-5`).
fn bare(word: &str) -> &str {
    if word.contains(|c: char| c.is_numeric()) {
        return word.trim_end_matches(AFTER);
    }
    let inside = word.trim_end_matches(|c| AFTER.contains(&c) || AROUND.contains(&c));
    let inside = inside.trim_start_matches(AROUND);
    if inside.contains(char::is_alphabetic) {
        inside
    } else {
        word
    }
}

/// The column `owner` of a memory, as the database generates it. `None`: the scope names nobody.
pub(crate) fn owner(scope: Scope, agent: &AgentName, session: Option<&str>, user: Option<&str>) -> Option<String> {
    match scope {
        Scope::Tenant => Some("t".to_owned()),
        Scope::Agent => Some(format!("a:{agent}")),
        Scope::Session => session.map(|session| format!("s:{agent}:{session}")),
        Scope::User => user.map(|user| format!("u:{user}")),
    }
}

/// A lock of the database for what the parts name; two different things may share one, which only costs a wait.
pub(crate) fn lock_key(parts: &[&[u8]]) -> i64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    i64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn same(one: &str, other: &str) -> bool {
        let hash = |text| content_hash(MemoryType::Semantic, text);
        hash(one) == hash(other)
    }

    #[test]
    fn what_differs_in_dress_only_is_the_same() {
        for (one, other) in [
            (
                "Anna's favourite tea is jasmine",
                "anna’s  favourite tea is \"jasmine\"!",
            ),
            ("The user prefers dark mode.", "user prefers the dark mode"),
            ("Кава закінчилася у вівторок", " КАВА закінчилася\nу вівторок… "),
            ("Order 1234 was shipped.", "order 1234 was shipped"),
            ("(see the office)", "see office"),
            ("!!!", " !!! "),
        ] {
            assert!(same(one, other), "{one} / {other}");
        }
    }

    #[test]
    fn what_says_something_else_is_not() {
        for (one, other) in [
            ("Order 1234 was shipped", "Order 1235 was shipped"),
            ("It costs 3.5", "It costs 35"),
            ("It costs 5", "It costs -5"),
            ("It costs .5", "It costs 5"),
            ("It costs (5)", "It costs 5"),
            ("It grew 10", "It grew 10%"),
            ("Anna likes tea", "Anna does not like tea"),
            ("Anna likes tea", "Anna likes tea?"),
            ("Anna likes Bohdan", "Bohdan likes Anna"),
            (
                "The meeting with the whole team is on Monday",
                "The meeting with the whole team is on Tuesday",
            ),
            ("Анна любить чай", "Анна не любить чай"),
            ("a > b", "a < b"),
            ("it works in c++", "it works in c"),
            ("plan a", "plan"),
            ("🍵", "☕"),
            ("!!!", "..."),
        ] {
            assert!(!same(one, other), "{one} / {other}");
        }
    }

    #[test]
    fn of_procedures_each_letter_counts() {
        let hash = |text| content_hash(MemoryType::Procedural, text);
        assert_eq!(hash("run `make`\n"), hash("run `make`"));
        assert_ne!(hash("set X = 1"), hash("set x = 1"));
        assert_ne!(hash("if a:\n  b\nc"), hash("if a:\n  b\n  c"));
    }

    #[test]
    fn locks_tell_their_parts_apart() {
        assert_ne!(lock_key(&[b"ab", b"c"]), lock_key(&[b"a", b"bc"]));
    }

    proptest! {
        /// Each number of a text survives, whatever stands around it.
        #[test]
        fn two_numbers_never_become_one(before in "[a-zа-я .,!]{0,20}", one in 0_u64.., other in 0_u64.., after in "[ .,!?][a-zа-я .,!?]{0,20}") {
            let text = |number: u64| format!("{before} {number}{after}");
            prop_assert_eq!(same(&text(one), &text(other)), one == other);
        }

        /// Case, space and full stops never tell two texts apart.
        #[test]
        fn dress_never_matters(words in prop::collection::vec("[a-z]{1,8}|[0-9]{1,4}", 1..12)) {
            let plain = words.join(" ");
            let dressed = format!("\t{}.\n", words.join("  ").to_uppercase());
            prop_assert!(same(&plain, &dressed));
        }

        /// A word more, or another word, is something else.
        #[test]
        fn another_word_always_matters(words in prop::collection::vec("[b-s]{2,8}", 1..12), at in 0_usize..12, word in "[u-z]{3,8}") {
            let mut changed = words.clone();
            let at = at % words.len();
            changed[at] = word.clone();
            prop_assert!(!same(&words.join(" "), &changed.join(" ")));
            let mut longer = words.clone();
            longer.insert(at, word);
            prop_assert!(!same(&words.join(" "), &longer.join(" ")));
        }

        #[test]
        fn any_text_has_a_canonical_form_that_is_its_own(text in any::<String>()) {
            let once = canonical(&text);
            prop_assert!(text.trim().is_empty() || !once.is_empty());
        }
    }
}
