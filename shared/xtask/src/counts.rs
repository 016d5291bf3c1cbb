//! How many tests passed and failed, read from what cargo test and cargo-nextest print.

use std::ops::AddAssign;

/// Passed and failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl Counts {
    /// What a summary line says: `test result: ok. 3 passed; 0 failed; …` of cargo test, or
    /// `Summary [ 1.2s] 5 tests run: 4 passed, 1 failed, 0 skipped` of nextest.
    pub(crate) fn of_line(line: &str) -> Option<Self> {
        let line = line.trim_start();
        let numbers = match line.strip_prefix("test result: ") {
            Some(rest) => rest,
            None => line.strip_prefix("Summary [")?.split_once("run:")?.1,
        };
        Some(Self {
            passed: number_before(numbers, "passed"),
            failed: number_before(numbers, "failed") + number_before(numbers, "timed"),
        })
    }
}

fn number_before(text: &str, word: &str) -> u64 {
    let words: Vec<&str> = text
        .split([' ', ';', ',', '.'])
        .filter(|word| !word.is_empty())
        .collect();
    words
        .windows(2)
        .find(|pair| pair[1] == word)
        .and_then(|pair| pair[0].parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_summaries_are_read() {
        let cases = [
            (
                "test result: ok. 42 passed; 0 failed; 1 ignored; 0 measured",
                Some((42, 0)),
            ),
            ("test result: FAILED. 18 passed; 2 failed; 0 ignored", Some((18, 2))),
            (
                "     Summary [   9.2s] 20 tests run: 17 passed (1 slow), 2 failed, 1 timed out",
                Some((17, 3)),
            ),
            ("     Summary [   0.1s] 3 tests run: 3 passed, 0 skipped", Some((3, 0))),
            ("test a_test_that_passed ... ok", None),
        ];
        for (line, wanted) in cases {
            let wanted = wanted.map(|(passed, failed)| Counts { passed, failed });
            assert_eq!(Counts::of_line(line), wanted, "{line}");
        }
    }
}
