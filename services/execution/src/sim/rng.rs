//! The only source of randomness of a run: SplitMix64 (Steele, Lea, Flood 2014), seeded once.

use std::time::Duration;

#[derive(Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`; 0 for a bound of 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    /// True so many times of a thousand.
    pub(super) fn chance(&mut self, permille: u64) -> bool {
        self.below(1_000) < permille
    }

    /// At least `from` and below `to`, in milliseconds.
    pub(super) fn millis(&mut self, from: u64, to: u64) -> Duration {
        // Microseconds, so that few things happen at the same instant.
        let micros = from * 1_000 + self.below((to.saturating_sub(from)) * 1_000);
        Duration::from_micros(micros)
    }
}
