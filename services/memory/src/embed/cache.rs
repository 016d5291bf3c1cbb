//! Vectors of texts that were embedded a while ago, by the hash of the text; the longest unused go first.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::Embedding;

/// What an entry takes besides its numbers: its key twice, places in two maps.
const ENTRY_BYTES: usize = 200;

/// One model's vectors, bounded by the bytes they take. Bound 0: none are kept.
#[derive(Debug)]
pub(crate) struct Cache {
    bytes_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    by_text: HashMap<Key, (u64, Embedding)>,
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
}

/// SHA-256 of the text.
pub(crate) type Key = [u8; 32];

impl Cache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            kept: Mutex::default(),
        }
    }

    pub(crate) fn key(text: &str) -> Key {
        Sha256::digest(text).into()
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Embedding> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept {
            by_text, by_use, uses, ..
        } = &mut *kept;
        let (used, embedding) = by_text.get_mut(key)?;
        by_use.remove(used);
        *uses += 1;
        *used = *uses;
        by_use.insert(*uses, *key);
        Some(embedding.clone())
    }

    pub(crate) fn put(&self, key: Key, embedding: &Embedding) {
        let bytes = bytes_of(embedding);
        if bytes > self.bytes_max {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(&key);
        while kept.bytes + bytes > self.bytes_max {
            let Some(oldest) = kept.by_use.values().next().copied() else {
                break;
            };
            kept.remove(&oldest);
        }
        kept.uses += 1;
        let used = kept.uses;
        kept.bytes += bytes;
        kept.by_use.insert(used, key);
        kept.by_text.insert(key, (used, embedding.clone()));
    }
}

impl Kept {
    fn remove(&mut self, key: &Key) {
        if let Some((used, embedding)) = self.by_text.remove(key) {
            self.by_use.remove(&used);
            self.bytes -= bytes_of(&embedding);
        }
    }
}

fn bytes_of(embedding: &Embedding) -> usize {
    embedding.0.len() * size_of::<f32>() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(number: f32) -> Embedding {
        Embedding(vec![number; 100])
    }

    #[test]
    fn the_longest_unused_goes_first() {
        let cache = Cache::new(3 * 600);
        let keys = ["a", "b", "c", "d"].map(Cache::key);
        for (key, number) in keys.iter().zip([1.0, 2.0, 3.0]) {
            cache.put(*key, &one(number));
        }
        assert_eq!(cache.get(&keys[0]), Some(one(1.0)));
        cache.put(keys[3], &one(4.0));
        assert_eq!(cache.get(&keys[1]), None);
        assert_eq!(
            (cache.get(&keys[0]), cache.get(&keys[3])),
            (Some(one(1.0)), Some(one(4.0)))
        );
        let none = Cache::new(0);
        none.put(keys[0], &one(1.0));
        assert_eq!(none.get(&keys[0]), None);
    }

    proptest! {
        #[test]
        fn it_never_holds_more_than_its_bound(puts in prop::collection::vec((0_u8..20, 1_usize..400), 1..200)) {
            let cache = Cache::new(5_000);
            for (text, length) in puts {
                let key = Cache::key(&text.to_string());
                cache.put(key, &Embedding(vec![0.5; length]));
                let kept = cache.kept.lock().unwrap();
                let bytes: usize = kept.by_text.values().map(|(_, embedding)| bytes_of(embedding)).sum();
                prop_assert!(bytes <= 5_000);
                prop_assert_eq!(bytes, kept.bytes);
                prop_assert_eq!(kept.by_text.len(), kept.by_use.len());
            }
        }
    }
}
