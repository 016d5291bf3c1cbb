//! Which pieces of a document stay when it gets a new version. Pure.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// What to do with the pieces of the version before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diff<Id> {
    /// Of each new piece, in order: the old one that it is, if one is the same.
    pub(crate) taken: Vec<Option<Id>>,
    /// Old pieces that are in the new version no more.
    pub(crate) gone: Vec<Id>,
}

/// Pairs equal hashes, in their order where there are several.
pub(crate) fn diff<Id: Copy, H: Eq + Hash>(old: Vec<(Id, H)>, new: &[H]) -> Diff<Id> {
    let mut by_hash: HashMap<&H, VecDeque<Id>> = HashMap::new();
    for (id, hash) in &old {
        by_hash.entry(hash).or_default().push_back(*id);
    }
    let mut take = |hash| by_hash.get_mut(hash).and_then(VecDeque::pop_front);
    let taken = new.iter().map(&mut take).collect();
    // What is left over, in the old order.
    let gone = old
        .iter()
        .rev()
        .filter_map(|(_, hash)| by_hash.get_mut(hash).and_then(VecDeque::pop_back))
        .collect();
    Diff { taken, gone }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_changed_is_new() {
        let diff = diff(vec![(1, "a"), (2, "b"), (3, "a"), (4, "c")], &["x", "a", "c", "a", "a"]);
        assert_eq!(diff.taken, [None, Some(1), Some(4), Some(3), None]);
        assert_eq!(diff.gone, [2]);
    }

    proptest! {
        #[test]
        fn each_old_piece_is_taken_once_or_gone(old in proptest::collection::vec(0_u8..6, 0..20),
                                                new in proptest::collection::vec(0_u8..6, 0..20)) {
            let numbered: Vec<(usize, u8)> = old.iter().copied().enumerate().collect();
            let diff = diff(numbered, &new);
            let taken: Vec<usize> = diff.taken.iter().flatten().copied().collect();
            let all: HashSet<usize> = taken.iter().chain(&diff.gone).copied().collect();
            prop_assert_eq!(all.len(), old.len());
            prop_assert_eq!(taken.len() + diff.gone.len(), old.len());
            for (place, id) in diff.taken.iter().enumerate() {
                match id {
                    Some(id) => prop_assert_eq!(old[*id], new[place]),
                    None => {
                        let before = old.iter().filter(|hash| **hash == new[place]).count();
                        let wanted = new[..=place].iter().filter(|hash| **hash == new[place]).count();
                        prop_assert!(wanted > before);
                    }
                }
            }
        }
    }
}
