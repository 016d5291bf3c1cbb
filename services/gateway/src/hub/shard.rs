//! One shard's messages of JOURNAL, put together, purely: whole batches in their order, each once, whatever was lost,
//! repeated or reordered. What is missing is asked for by number.

/// Which messages of a pass this is one of, as its headers say (EXECUTION §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Batches that all messages of the pass together stand for.
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// From 1.
    pub(crate) number: u32,
    pub(crate) of: u32,
}

/// What a message brings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken<M> {
    /// Told before, or waiting for the others of its pass.
    Nothing,
    /// Messages that hold all records of the batches from [`Shard::next`] as it was to the one named.
    Batches(Vec<M>, u64),
    /// Something before it is missing: read the feed above `next - 1`.
    Behind,
}

#[derive(Debug)]
pub(crate) struct Shard<M> {
    /// The first batch that is not told.
    next: u64,
    /// The highest batch that was heard of.
    heard: u64,
    pass: Option<(Part, Vec<M>)>,
}

impl<M> Shard<M> {
    pub(crate) fn new(next: u64) -> Self {
        Self {
            next,
            heard: 0,
            pass: None,
        }
    }

    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Whether a batch was heard of that is not told.
    pub(crate) fn is_behind(&self) -> bool {
        self.heard >= self.next && self.pass.is_none()
    }

    /// Takes one message.
    pub(crate) fn take(&mut self, part: Part, message: M) -> Taken<M> {
        self.heard = self.heard.max(part.to);
        if part.to < self.next {
            return Taken::Nothing;
        }
        if part.from > self.next {
            self.pass = None;
            return Taken::Behind;
        }
        let mut pass = match self.pass.take() {
            Some((known, messages)) if follows(known, part) => (part, messages),
            // A repeat of what waits changes nothing.
            Some((known, messages)) if is_same_pass(known, part) && part.number <= known.number => {
                self.pass = Some((known, messages));
                return Taken::Nothing;
            }
            _ if part.number == 1 => (part, Vec::new()),
            _ => return Taken::Behind,
        };
        pass.1.push(message);
        if part.number < part.of {
            self.pass = Some(pass);
            return Taken::Nothing;
        }
        self.next = part.to + 1;
        Taken::Batches(pass.1, part.to)
    }

    /// The feed was read up to a batch: all that it stands for is told.
    pub(crate) fn read(&mut self, to: u64) {
        self.next = self.next.max(to + 1);
        if self.pass.as_ref().is_some_and(|(part, _)| part.to < self.next) {
            self.pass = None;
        }
    }

    /// Messages may have been lost: what waits is not waited for.
    pub(crate) fn lost(&mut self) {
        self.pass = None;
    }
}

fn is_same_pass(known: Part, part: Part) -> bool {
    (known.from, known.to, known.of) == (part.from, part.to, part.of)
}

fn follows(known: Part, part: Part) -> bool {
    is_same_pass(known, part) && part.number == known.number + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(from: u64, to: u64, number: u32, of: u32) -> Part {
        Part { from, to, number, of }
    }

    #[test]
    fn a_pass_is_told_when_all_of_it_is_there() {
        let mut shard = Shard::new(5);
        assert_eq!(shard.take(part(1, 4, 1, 1), 'a'), Taken::Nothing, "told before");
        assert_eq!(shard.take(part(5, 6, 1, 2), 'b'), Taken::Nothing);
        assert!(!shard.is_behind());
        assert_eq!(shard.take(part(5, 6, 1, 2), 'b'), Taken::Nothing, "a repeat");
        assert_eq!(shard.take(part(5, 6, 2, 2), 'c'), Taken::Batches(vec!['b', 'c'], 6));
        assert_eq!(shard.take(part(8, 8, 1, 1), 'e'), Taken::Behind);
        assert!(shard.is_behind());
        shard.read(8);
        assert_eq!((shard.next(), shard.is_behind()), (9, false));
        assert_eq!(shard.take(part(9, 9, 2, 2), 'g'), Taken::Behind, "its first is missing");
        shard.read(9);
        assert_eq!(
            shard.take(part(7, 10, 1, 1), 'h'),
            Taken::Batches(vec!['h'], 10),
            "repeats in part"
        );
    }

    /// Passes of some messages each, as a relay cuts batches 1 to n.
    fn passes() -> impl Strategy<Value = Vec<(Part, Vec<u64>)>> {
        prop::collection::vec((1_u64..4, 1_u32..4), 1..20).prop_map(|cuts| {
            let mut from = 1;
            let mut all = Vec::new();
            for (batches, of) in cuts {
                let to = from + batches - 1;
                for number in 1..=of {
                    // Every batch of the pass stands in one of its messages.
                    let mine = (from..=to).filter(|batch| batch % u64::from(of) == u64::from(number - 1));
                    all.push((part(from, to, number, of), mine.collect()));
                }
                from = to + 1;
            }
            all
        })
    }

    proptest! {
        /// Messages are lost, repeated and swapped; the feed is read where something is missing. Every batch is told once
        /// and in order.
        #[test]
        fn every_batch_is_told_once_and_in_order(messages in passes(), chances in prop::collection::vec(0_u8..10, 200)) {
            let last = messages.last().unwrap().0.to;
            let mut shard: Shard<Vec<u64>> = Shard::new(1);
            let mut told: Vec<u64> = Vec::new();
            let feed = |shard: &mut Shard<Vec<u64>>, told: &mut Vec<u64>, to: u64| {
                told.extend(shard.next()..=to);
                shard.read(to);
            };
            let mut order: Vec<usize> = Vec::new();
            for (place, chance) in (0..messages.len()).zip(&chances) {
                match chance {
                    0 => {}
                    1 => order.extend([place, place]),
                    2 if place > 0 => order.extend([place, place - 1]),
                    _ => order.push(place),
                }
            }
            for place in order {
                let (part, batches) = messages[place].clone();
                let from = shard.next();
                match shard.take(part, batches) {
                    Taken::Nothing => {}
                    Taken::Batches(all, to) => {
                        let mut all: Vec<u64> = all.into_iter().flatten().filter(|batch| *batch >= from).collect();
                        all.sort_unstable();
                        prop_assert_eq!(all.last().copied(), Some(to));
                        told.extend(all);
                    }
                    // Also when committed is more than was heard of.
                    Taken::Behind => feed(&mut shard, &mut told, part.to.max(from)),
                }
            }
            // The look at the end finds what nobody heard of.
            let next = shard.next();
            if next <= last {
                feed(&mut shard, &mut told, last);
            }
            prop_assert_eq!(told.clone(), (1..=told.last().copied().unwrap_or_default()).collect::<Vec<_>>());
            prop_assert!(told.last().is_some_and(|told| *told >= last));
        }
    }
}
