//! `hash-384`: a deterministic local embedder by feature hashing. It knows no meaning, only shared words and parts of
//! words; that is enough to find "my favourite tea" again, in any language, without weights and without a network.
//!
//! The hashing trick with a signed hash is that of Weinberger, Dasgupta, Langford, Smola, Attenberg, "Feature Hashing
//! for Large Scale Multitask Learning", ICML 2009: each feature goes to one of 384 places by one hash and is added with
//! the sign of a second one, so that collisions cancel in expectation and scalar products stay unbiased. Features are
//! words, pairs of words, and the parts of words of 3 to 5 characters between boundary marks, as in Bojanowski, Grave,
//! Joulin, Mikolov, "Enriching Word Vectors with Subword Information", TACL 2017. Counts are damped by 1 + ln(count).

use std::collections::HashMap;

use futures::FutureExt;
use futures::future::BoxFuture;
use mesh_runtime::Blocking;

use super::{Dimensions, EmbedError, Embedder, Embedding, Model};

/// Numbers in a vector.
const DIMENSIONS: usize = Dimensions::D384.count();

/// Text that is hashed where it stands; more goes to the blocking pool. About a quarter of a millisecond.
const INLINE_BYTES_MAX: usize = 2 * 1024;

/// Features of one text; further ones are left out. Bounds time and memory for 32 KiB of hostile text.
const FEATURES_MAX: usize = 200_000;
/// A longer word is no word; only its start gives parts.
const WORD_CHARACTERS_MAX: usize = 64;
const PART_LENGTHS: std::ops::RangeInclusive<usize> = 3..=5;

const WORD_WEIGHT: f32 = 1.0;
const PAIR_WEIGHT: f32 = 0.5;
/// For all parts of one word together.
const PARTS_WEIGHT: f32 = 0.8;

/// Changes whenever a vector of the same text would change.
pub(crate) const MODEL: &str = "hash-384";

/// The embedder over [`vector`].
#[derive(Debug, Clone)]
pub struct HashEmbedder {
    blocking: Blocking,
    model: Model,
}

impl HashEmbedder {
    pub fn new(blocking: Blocking) -> Self {
        let model = Model {
            name: MODEL.into(),
            dimensions: Dimensions::D384,
        };
        Self { blocking, model }
    }
}

impl Embedder for HashEmbedder {
    fn model(&self) -> &Model {
        &self.model
    }

    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vec<Embedding>, EmbedError>> {
        async move {
            let bytes: usize = texts.iter().map(String::len).sum();
            let all = move || texts.iter().map(|text| vector(text)).collect();
            if bytes <= INLINE_BYTES_MAX {
                return Ok(all());
            }
            self.blocking
                .run(all)
                .await
                .map_err(|error| EmbedError::Unavailable(error.to_string()))
        }
        .boxed()
    }
}

/// The vector of a text. Pure; the same on every machine.
fn vector(text: &str) -> Embedding {
    let lower = text.to_lowercase();
    let mut features = Features::default();
    let mut previous: Option<&str> = None;
    for word in lower
        .split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        features.add(&[b"w:", word.as_bytes()], WORD_WEIGHT);
        if let Some(previous) = previous {
            features.add(&[b"p:", previous.as_bytes(), b" ", word.as_bytes()], PAIR_WEIGHT);
        }
        features.add_parts(word);
        previous = Some(word);
        if features.by_hash.len() >= FEATURES_MAX {
            break;
        }
    }
    features.into_embedding(&lower)
}

struct Feature {
    count: u32,
    weight: f32,
}

#[derive(Default)]
struct Features {
    by_hash: HashMap<u64, Feature>,
}

impl Features {
    fn add(&mut self, parts: &[&[u8]], weight: f32) {
        let feature = self.by_hash.entry(hash(parts)).or_insert(Feature { count: 0, weight });
        feature.count = feature.count.saturating_add(1);
    }

    fn add_parts(&mut self, word: &str) {
        let marked: Vec<char> = std::iter::once('<')
            .chain(word.chars().take(WORD_CHARACTERS_MAX))
            .chain(std::iter::once('>'))
            .collect();
        let total: usize = PART_LENGTHS
            .map(|length| (marked.len() + 1).saturating_sub(length))
            .sum();
        if total == 0 {
            return;
        }
        let weight = PARTS_WEIGHT / (total as f32).sqrt();
        let mut buffer = String::with_capacity(PART_LENGTHS.end() * 4);
        for part in PART_LENGTHS.flat_map(|length| marked.windows(length)) {
            buffer.clear();
            buffer.extend(part);
            self.add(&[b"c:", buffer.as_bytes()], weight);
        }
    }

    fn into_embedding(self, text: &str) -> Embedding {
        // Sums in one order: the order of a hash map would change the last bits from run to run.
        let mut features: Vec<(u64, Feature)> = self.by_hash.into_iter().collect();
        features.sort_unstable_by_key(|(hash, _)| *hash);
        let mut sums = [0_f64; DIMENSIONS];
        for (hash, feature) in features {
            let value = f64::from(feature.weight) * (1.0 + f64::from(feature.count).ln());
            let (place, sign) = place_and_sign(hash);
            sums[place] += sign * value;
        }
        let length = sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
        if length < 1e-9 {
            // No letter and no digit, or all cancelled: still a vector, so that the text is found by itself.
            let (place, _) = place_and_sign(hash(&[b"t:", text.as_bytes()]));
            sums[place] = 1.0;
            return Embedding(sums.map(|sum| sum as f32).to_vec());
        }
        Embedding(sums.map(|sum| (sum / length) as f32).to_vec())
    }
}

/// Two independent hashes in the sense of the paper: place from the low bits, sign from the highest.
fn place_and_sign(hash: u64) -> (usize, f64) {
    let place = usize::try_from(hash % DIMENSIONS as u64).expect("below 384");
    (place, if hash >> 63 == 0 { 1.0 } else { -1.0 })
}

/// FNV-1a over the parts, then the 64-bit finalizer of MurmurHash3, because FNV's high bits are poor for short input.
fn hash(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cosine(a: &str, b: &str) -> f32 {
        let (a, b) = (vector(a), vector(b));
        a.0.iter().zip(&b.0).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn what_shares_words_is_nearer() {
        let memory = "My favourite tea is jasmine";
        let query = "what tea is my favourite?";
        assert!(cosine(memory, query) > 0.4, "{}", cosine(memory, query));
        assert!(cosine(memory, query) > 2.0 * cosine("The server restarts at midnight", query));
        assert!(cosine("Люблю каву зранку", "яку каву ти любиш") > cosine("Потяг спізнився", "яку каву ти любиш"));
        assert!((cosine(memory, "MY FAVOURITE TEA IS JASMINE!") - 1.0).abs() < 1e-5);
    }

    #[test]
    fn forms_of_one_word_are_near_each_other() {
        assert!(cosine("invocation", "invocations") > 0.3);
        assert!(cosine("invocation", "zebra").abs() < 0.25);
    }

    /// Stored vectors outlive builds: another value here needs another model name.
    #[test]
    fn a_vector_never_changes_under_its_model_name() {
        assert_eq!(hash(&[b"w:", b"tea"]), hash(&[b"w:tea"]));
        let Embedding(values) = vector("Tea for two, чай на двох");
        let sum: f32 = values
            .iter()
            .enumerate()
            .map(|(place, value)| value * (place as f32 + 1.0))
            .sum();
        assert!((sum - GOLDEN_SUM).abs() < 1e-2, "{sum}");
    }
    const GOLDEN_SUM: f32 = 212.867_34;

    #[test]
    fn a_long_hostile_text_is_quick_enough() {
        let text: String = (0..32 * 1024_u32)
            .map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 27) as u8 % 26))
            .collect();
        let spaced = text
            .as_bytes()
            .chunks(3)
            .map(|chunk| String::from_utf8_lossy(chunk))
            .collect::<Vec<_>>()
            .join(" ");
        assert!(vector(&text).0.iter().all(|value| value.is_finite()));
        assert!(vector(&spaced).0.iter().all(|value| value.is_finite()));
    }

    proptest! {
        #[test]
        fn every_text_has_a_vector_of_length_one(text in "\\PC{0,200}") {
            let length: f32 = vector(&text).0.iter().map(|value| value * value).sum();
            prop_assert!((length - 1.0).abs() < 1e-3, "{length}");
        }
    }
}
