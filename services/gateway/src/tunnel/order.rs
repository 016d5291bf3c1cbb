//! The order of frames of one direction: each number once, none left out. Pure.

/// Where a frame stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Next,
    /// It was taken before.
    Repeated,
    /// Frames before it are missing.
    Gap,
}

/// Counts from 1.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    last: u64,
}

impl Sequence {
    /// Takes a frame if it is the next one.
    pub(crate) fn take(&mut self, seq: u64) -> Place {
        match seq.cmp(&self.last.saturating_add(1)) {
            std::cmp::Ordering::Less => Place::Repeated,
            std::cmp::Ordering::Greater => Place::Gap,
            std::cmp::Ordering::Equal => {
                self.last = seq;
                Place::Next
            }
        }
    }

    /// The number of the next frame that is sent.
    pub(crate) fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_taken_once_and_in_order() {
        let mut sequence = Sequence::default();
        let places = [1, 2, 2, 1, 4, 3, 0, 4, u64::MAX].map(|seq| sequence.take(seq));
        use Place::{Gap, Next, Repeated};
        assert_eq!(places, [Next, Next, Repeated, Repeated, Gap, Next, Repeated, Next, Gap]);
    }
}
