//! The chain itself. Pure.
//!
//! `hash(n) = SHA-256(hash(n-1) ‖ field ‖ field …)` with the fields seq, id, tenant, at (microseconds), actor, action,
//! subject, outcome, reason, before, after, request_id in this order, each as the length of its UTF-8 text (8 bytes, big
//! endian) and the text; a missing request id is the empty text. Before the first fact of a tenant stand 32 zero bytes.
//! So anybody can compute it from the listed facts with any SHA-256.

use sha2::{Digest, Sha256};

pub(crate) type Hash = [u8; 32];

/// Before the first fact.
pub(crate) const ORIGIN: Hash = [0; 32];

/// A fact as it is stored: what the hash covers, word for word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) tenant: String,
    pub(crate) at_micros: i64,
    pub(crate) actor: String,
    pub(crate) action: String,
    pub(crate) subject: String,
    pub(crate) outcome: String,
    pub(crate) reason: String,
    pub(crate) before: String,
    pub(crate) after: String,
    pub(crate) request_id: Option<String>,
}

/// A fact with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chained {
    pub(crate) seq: i64,
    pub(crate) hash: Vec<u8>,
    pub(crate) row: Row,
}

pub(crate) fn hash(before: &Hash, seq: i64, row: &Row) -> Hash {
    let mut digest = Sha256::new();
    digest.update(before);
    let (seq, at) = (seq.to_string(), row.at_micros.to_string());
    let fields = [
        seq.as_str(),
        &row.id,
        &row.tenant,
        &at,
        &row.actor,
        &row.action,
        &row.subject,
        &row.outcome,
        &row.reason,
        &row.before,
        &row.after,
        row.request_id.as_deref().unwrap_or_default(),
    ];
    for field in fields {
        digest.update((field.len() as u64).to_be_bytes());
        digest.update(field);
    }
    digest.finalize().into()
}

/// Where a chain breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Break {
    pub(crate) seq: i64,
    pub(crate) id: Option<String>,
    pub(crate) why: &'static str,
}

/// Walks a chain from its base.
#[derive(Debug, Clone)]
pub(crate) struct Walk {
    pub(crate) seq: i64,
    pub(crate) hash: Hash,
    pub(crate) checked: u64,
    /// A place somebody wrote down, and whether the chain passes through it; `None` until it is reached.
    noted: Option<(i64, Hash)>,
    passed: Option<bool>,
}

impl Walk {
    pub(crate) fn from(seq: i64, hash: Hash, noted: Option<(i64, Hash)>) -> Self {
        let mut walk = Self {
            seq,
            hash,
            checked: 0,
            noted,
            passed: None,
        };
        walk.look();
        walk
    }

    fn look(&mut self) {
        if let Some((_, hash)) = self.noted.filter(|(seq, _)| *seq == self.seq) {
            self.passed = Some(hash == self.hash);
        }
    }

    /// The next fact in order of `seq`.
    pub(crate) fn step(&mut self, fact: &Chained) -> Result<(), Break> {
        let broken = |seq, id, why| Err(Break { seq, id, why });
        if fact.seq != self.seq + 1 {
            return broken(self.seq + 1, None, "a fact is missing");
        }
        let computed = hash(&self.hash, fact.seq, &fact.row);
        if fact.hash != computed {
            let why = "the fact, or the hash before it, was changed after it was chained";
            return broken(fact.seq, Some(fact.row.id.clone()), why);
        }
        (self.seq, self.hash) = (fact.seq, computed);
        self.checked += 1;
        self.look();
        if self.passed == Some(false) {
            let why = "the chain has another hash here than the one that was noted: it was written anew";
            return broken(fact.seq, Some(fact.row.id.clone()), why);
        }
        Ok(())
    }

    /// At the end: the head that the chain says it has, and the noted place.
    pub(crate) fn end(&self, head: (i64, &[u8])) -> Result<(), Break> {
        let broken = |seq, why| Err(Break { seq, id: None, why });
        if head.0 != self.seq {
            return broken(self.seq + 1, "facts at the end are missing");
        }
        if head.1 != self.hash {
            return broken(self.seq, "the head is another one than the facts give");
        }
        match (self.noted, self.passed) {
            (Some((seq, _)), None) => broken(seq, "the chain does not reach the noted place, or was pruned past it"),
            (Some((seq, _)), Some(false)) => broken(seq, "the noted hash is another one"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: i64) -> Row {
        Row {
            id: format!("evt_{n}"),
            tenant: "default".into(),
            at_micros: n,
            actor: "user:ann".into(),
            action: "agent.updated".into(),
            subject: "sofia".into(),
            outcome: "done".into(),
            reason: String::new(),
            before: "null".into(),
            after: format!("{{\"n\":{n}}}"),
            request_id: None,
        }
    }

    fn chain(count: i64) -> Vec<Chained> {
        let mut before = ORIGIN;
        (1..=count)
            .map(|seq| {
                before = hash(&before, seq, &row(seq));
                Chained {
                    seq,
                    hash: before.to_vec(),
                    row: row(seq),
                }
            })
            .collect()
    }

    fn verify(facts: &[Chained], head: (i64, &[u8]), noted: Option<(i64, Hash)>) -> Result<u64, Break> {
        let mut walk = Walk::from(0, ORIGIN, noted);
        for fact in facts {
            walk.step(fact)?;
        }
        walk.end(head)?;
        Ok(walk.checked)
    }

    #[test]
    fn an_untouched_chain_holds_and_every_touch_shows() {
        let facts = chain(5);
        let head = facts[4].hash.clone();
        let head = (5, head.as_slice());
        assert_eq!(verify(&facts, head, None), Ok(5));
        let touches: [fn(&mut Vec<Chained>); 8] = [
            |facts| facts[2].row.actor = "user:bob".into(),
            |facts| facts[2].row.after = "null".into(),
            |facts| facts[2].row.at_micros += 1,
            |facts| facts[2].row.request_id = Some("req_1".into()),
            |facts| drop(facts.remove(2)),
            |facts| drop(facts.pop()),
            |facts| facts.swap(1, 2),
            |facts| facts[2].hash[0] ^= 1,
        ];
        for touch in touches {
            let mut touched = facts.clone();
            touch(&mut touched);
            assert!(verify(&touched, head, None).is_err());
        }
    }

    #[test]
    fn a_field_cannot_lend_text_to_the_next_one() {
        let (mut one, mut other) = (row(1), row(1));
        (one.actor, one.action) = ("ab".into(), "c".into());
        (other.actor, other.action) = ("a".into(), "bc".into());
        assert_ne!(hash(&ORIGIN, 1, &one), hash(&ORIGIN, 1, &other));
    }

    #[test]
    fn a_chain_that_was_written_anew_is_told_by_a_noted_head() {
        let old = chain(3);
        let noted = (3, <Hash>::try_from(old[2].hash.as_slice()).unwrap());
        assert_eq!(verify(&chain(5), (5, &chain(5)[4].hash), Some(noted)), Ok(5));
        let mut anew = Vec::new();
        let mut before = ORIGIN;
        for seq in 1..=4 {
            let mut forged = row(seq);
            forged.actor = "user:nobody".into();
            before = hash(&before, seq, &forged);
            anew.push(Chained {
                seq,
                hash: before.to_vec(),
                row: forged,
            });
        }
        assert_eq!(verify(&anew, (4, &before), None), Ok(4));
        assert_eq!(verify(&anew, (4, &before), Some(noted)).unwrap_err().seq, 3);
        let short = &chain(2);
        assert!(verify(short, (2, &short[1].hash), Some(noted)).is_err());
    }
}
