//! Seeded draws: the same seed gives the same run of numbers on every machine and version.

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator of its own for a purpose, so that more draws for one do not change another.
    pub(crate) fn of(seed: u64, purpose: &str) -> Self {
        // FNV-1a.
        let hash = purpose.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let mut draw = Self::new(seed ^ hash);
        draw.next();
        draw
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `low` up to and without `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low).max(1)
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.between(0, 100) < chance
    }

    /// One of the weighted things.
    pub(crate) fn weighted<T: Copy>(&mut self, of: &[(u64, T)]) -> Option<T> {
        let total = of.iter().map(|(weight, _)| weight).sum();
        let mut left = self.between(0, total);
        for (weight, thing) in of {
            if left < *weight {
                return Some(*thing);
            }
            left -= weight;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself_and_purposes_do_not_share_draws() {
        let run = |seed, purpose| {
            let mut draw = Draw::of(seed, purpose);
            (0..20).map(|_| draw.next()).collect::<Vec<_>>()
        };
        assert_eq!(run(7, "a"), run(7, "a"));
        assert_ne!(run(7, "a"), run(7, "b"));
        assert_ne!(run(7, "a"), run(8, "a"));
    }

    #[test]
    fn weights_are_kept_and_nothing_of_weight_zero_is_drawn() {
        let mut draw = Draw::new(1);
        let drawn: Vec<_> = (0..1_000)
            .filter_map(|_| draw.weighted(&[(9, 'a'), (0, 'b'), (1, 'c')]))
            .collect();
        let count = |of| drawn.iter().filter(|one| **one == of).count();
        assert_eq!((drawn.len(), count('b')), (1_000, 0));
        assert!((40..200).contains(&count('c')), "{}", count('c'));
    }
}
