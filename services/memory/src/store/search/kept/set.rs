//! The vectors of some owners as one snapshot saw them. Pure: what is read of them and what changed comes as arguments.

use std::sync::Arc;

use uuid::Uuid;

use super::halves::{raised, square};

/// Numbers of one block: a change copies the blocks that it touches, and nothing else.
const BLOCK_NUMBERS: usize = 32 * 1024;
/// What a set takes besides its rows, its key and its places in maps among it.
const SET_BYTES: usize = 1_024;

/// A vector as Postgres keeps it: the bits of half floats.
pub(super) type Halves = Vec<u16>;

/// What became of one memory's vector; `None`: it is none of the owners' any more.
pub(super) type News = (Uuid, Option<Halves>);

/// Vectors of one snapshot. A change makes a new set that shares what stayed.
#[derive(Debug, Clone)]
pub(super) struct Set {
    dimensions: usize,
    /// `pg_snapshot` of the statement that read it, or that told it is still the same.
    pub(super) snapshot: Arc<str>,
    /// The server and the tables that it was read from.
    pub(super) store: Arc<str>,
    /// All full but the last one; none is empty.
    blocks: Vec<Arc<Block>>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Block {
    pub(super) items: Vec<Uuid>,
    /// Of each vector its product with itself.
    pub(super) squares: Vec<f32>,
    /// One vector after the other, [`raised`].
    pub(super) halves: Vec<u16>,
}

impl Set {
    pub(super) fn new(dimensions: usize, snapshot: Arc<str>, store: Arc<str>) -> Self {
        Self {
            dimensions,
            snapshot,
            store,
            blocks: Vec::new(),
        }
    }

    pub(super) fn dimensions(&self) -> usize {
        self.dimensions
    }

    pub(super) fn blocks(&self) -> &[Arc<Block>] {
        &self.blocks
    }

    pub(super) fn len(&self) -> usize {
        let full = self.blocks.len().saturating_sub(1) * self.block_rows();
        full + self.blocks.last().map_or(0, |last| last.items.len())
    }

    /// What it takes of the budget.
    pub(super) fn bytes(&self) -> usize {
        let row = size_of::<Uuid>() + size_of::<f32>() + self.dimensions * size_of::<u16>();
        let rows: usize = self.blocks.iter().map(|block| block.items.capacity()).sum();
        SET_BYTES + self.blocks.len() * (size_of::<Block>() + 32) + rows * row
    }

    /// Adds a memory that is not in it. A vector of another length is left out: it would be of another table.
    pub(super) fn push(&mut self, item: Uuid, halves: &[u16]) {
        if halves.len() != self.dimensions {
            return;
        }
        let rows = self.block_rows();
        if self.blocks.last().is_none_or(|last| last.items.len() >= rows) {
            self.blocks.push(Arc::default());
        }
        if let Some(last) = self.blocks.last_mut() {
            Arc::make_mut(last).push(item, halves, rows);
        }
    }

    /// The set as it is after the changes that another snapshot brought.
    pub(super) fn changed(&self, news: &[News], snapshot: Arc<str>) -> Self {
        let mut set = self.clone();
        set.snapshot = snapshot;
        for (item, halves) in news {
            set.remove(*item);
            if let Some(halves) = halves {
                set.push(*item, halves);
            }
        }
        set
    }

    /// The same vectors, known to be all of a later snapshot.
    pub(super) fn renewed(&self, snapshot: Arc<str>) -> Self {
        let mut set = self.clone();
        set.snapshot = snapshot;
        set
    }

    /// The last row takes the place of the removed one.
    fn remove(&mut self, item: Uuid) {
        let place = |block: &Arc<Block>| block.items.iter().position(|held| *held == item);
        let Some((at, row)) = self
            .blocks
            .iter()
            .enumerate()
            .find_map(|(at, block)| Some((at, place(block)?)))
        else {
            return;
        };
        let Some(last) = self.blocks.last_mut() else { return };
        let Some((moved, square, halves)) = Arc::make_mut(last).pop(self.dimensions) else {
            return;
        };
        if last.items.is_empty() {
            self.blocks.pop();
        }
        if moved != item
            && let Some(block) = self.blocks.get_mut(at)
        {
            let block = Arc::make_mut(block);
            block.items[row] = moved;
            block.squares[row] = square;
            block.halves[row * self.dimensions..(row + 1) * self.dimensions].copy_from_slice(&halves);
        }
    }

    fn block_rows(&self) -> usize {
        (BLOCK_NUMBERS / self.dimensions.max(1)).max(1)
    }
}

impl Block {
    fn push(&mut self, item: Uuid, halves: &[u16], rows_max: usize) {
        // All grow at once, and never beyond a block.
        if self.items.len() == self.items.capacity() {
            let more = self
                .items
                .len()
                .clamp(4, rows_max.max(4))
                .min(rows_max - self.items.len());
            self.items.reserve_exact(more);
            self.squares.reserve_exact(more);
            self.halves.reserve_exact(more * halves.len());
        }
        let halves = raised(halves);
        self.items.push(item);
        self.squares.push(square(&halves));
        self.halves.extend(halves);
    }

    fn pop(&mut self, dimensions: usize) -> Option<(Uuid, f32, Halves)> {
        let item = self.items.pop()?;
        let square = self.squares.pop()?;
        let halves = self.halves.split_off(self.halves.len().checked_sub(dimensions)?);
        Some((item, square, halves))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// So long that a block has few rows.
    const DIMENSIONS: usize = BLOCK_NUMBERS / 5;

    /// Of 64 and more, so that it is kept as it is.
    fn halves(number: u16) -> Halves {
        vec![0x5400 + number; DIMENSIONS]
    }

    fn content(set: &Set) -> BTreeMap<Uuid, u16> {
        let rows = set.blocks.iter().flat_map(|block| {
            assert!(!block.items.is_empty());
            assert_eq!(block.items.len(), block.squares.len());
            assert_eq!(block.items.len() * DIMENSIONS, block.halves.len());
            let vectors = block.halves.chunks_exact(DIMENSIONS);
            block.items.iter().zip(&block.squares).zip(vectors)
        });
        let mut content = BTreeMap::new();
        for ((item, own), vector) in rows {
            assert!(vector.iter().all(|half| *half == vector[0]));
            assert_eq!(own.to_bits(), square(vector).to_bits());
            assert!(content.insert(*item, vector[0] - 0x5400).is_none(), "one row each");
        }
        content
    }

    fn set() -> Set {
        Set::new(DIMENSIONS, "1:1:".into(), "here".into())
    }

    #[test]
    fn a_vector_of_another_length_is_left_out() {
        let mut set = set();
        set.push(Uuid::from_u128(1), &[1, 2, 3]);
        assert_eq!((set.len(), set.blocks.len()), (0, 0));
    }

    #[test]
    fn a_change_leaves_the_set_before_as_it_was() {
        let mut before = set();
        for number in 0..12 {
            before.push(Uuid::from_u128(number), &halves(1));
        }
        let news = [(Uuid::from_u128(0), None), (Uuid::from_u128(7), Some(halves(2)))];
        let after = before.changed(&news, "2:2:".into());
        assert_eq!((before.len(), after.len(), &*after.snapshot), (12, 11, "2:2:"));
        assert!(content(&before).values().all(|number| *number == 1));
        assert_eq!(content(&after).get(&Uuid::from_u128(7)), Some(&2));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_holds_what_a_map_would_hold(
            steps in prop::collection::vec(prop::collection::vec((0_u128..25, prop::option::of(0_u16..9)), 0..6), 0..25)
        ) {
            let mut set = set();
            let mut map = BTreeMap::new();
            for step in steps {
                let news: Vec<News> = step
                    .iter()
                    .map(|(item, number)| (Uuid::from_u128(*item), number.map(halves)))
                    .collect();
                set = set.changed(&news, "3:3:".into());
                for (item, number) in step {
                    let item = Uuid::from_u128(item);
                    match number {
                        Some(number) => map.insert(item, number),
                        None => map.remove(&item),
                    };
                }
                prop_assert_eq!(&content(&set), &map);
                prop_assert_eq!(set.len(), map.len());
                prop_assert!(set.bytes() >= SET_BYTES + map.len() * DIMENSIONS * 2);
            }
        }
    }
}
