//! Which shards to take, and whom to ask for one. Pure but for what was seen of others.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::shards::ShardId;
use crate::store::shards::ShardRow;

/// (epoch, batch, beat) unchanged for so long by our own clock: the owner is gone.
const SILENCE: Duration = Duration::from_secs(3);

/// Shards to take now: free ones, those of an earlier start of our own name, and silent ones. Pure but for `seen`.
pub(crate) fn plan_takeovers(
    instance: &str,
    rows: &[ShardRow],
    held: &BTreeMap<ShardId, i64>,
    seen: &mut HashMap<ShardId, (ShardRow, Duration)>,
    now: Duration,
) -> Vec<ShardRow> {
    rows.iter()
        .filter(|row| !held.contains_key(&row.id.cast_unsigned()))
        .filter(|row| {
            if row.owner.is_empty() || row.owner == instance {
                return true;
            }
            let (last, since) = seen
                .entry(row.id.cast_unsigned())
                .or_insert_with(|| ((*row).clone(), now));
            if (last.epoch, last.batch, last.beat) != (row.epoch, row.batch, row.beat) {
                (*last, *since) = ((*row).clone(), now);
            }
            now.saturating_sub(*since) >= SILENCE
        })
        .cloned()
        .collect()
}

/// Whom to ask for a shard, if we hold less than our share.
pub(crate) fn plan_ask(instance: &str, rows: &[ShardRow]) -> Option<String> {
    let mut counts: HashMap<&str, usize> = HashMap::from([(instance, 0)]);
    for row in rows.iter().filter(|row| !row.owner.is_empty()) {
        *counts.entry(row.owner.as_str()).or_default() += 1;
    }
    let share = rows.len() / counts.len();
    let (most, count) = counts.iter().max_by_key(|(name, count)| (**count, **name))?;
    (counts[instance] < share && *count > share && *most != instance).then(|| (*most).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(owners: &[&str]) -> Vec<ShardRow> {
        owners
            .iter()
            .enumerate()
            .map(|(id, owner)| ShardRow {
                id: i16::try_from(id).unwrap(),
                owner: (*owner).to_owned(),
                epoch: 1,
                batch: 1,
                beat: 1,
                relayed_batch: 0,
            })
            .collect()
    }

    #[test]
    fn a_silent_owner_is_taken_over_and_a_beating_one_is_not() {
        let mut seen = HashMap::new();
        let mut table = rows(&["", "me", "dead", "alive"]);
        let at = Duration::from_secs;
        let ids = |rows: Vec<ShardRow>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(
            ids(plan_takeovers("me", &table, &BTreeMap::new(), &mut seen, at(0))),
            [0, 1]
        );
        table[3].beat += 1;
        assert_eq!(
            ids(plan_takeovers("me", &table, &BTreeMap::new(), &mut seen, at(2))),
            [0, 1]
        );
        assert_eq!(
            ids(plan_takeovers("me", &table, &BTreeMap::new(), &mut seen, at(3))),
            [0, 1, 2]
        );
        let held = BTreeMap::from([(0, 2), (1, 2), (2, 2)]);
        assert_eq!(
            ids(plan_takeovers("me", &table, &held, &mut seen, at(5))),
            [3],
            "it fell silent at 2"
        );
    }

    #[test]
    fn shares_even_out_and_then_rest() {
        assert_eq!(plan_ask("b", &rows(&["a", "a", "a", "a"])), Some("a".into()));
        assert_eq!(plan_ask("b", &rows(&["a", "a", "b", "b"])), None);
        assert_eq!(plan_ask("c", &rows(&["a", "a", "b", "b"])), Some("b".into()));
        assert_eq!(plan_ask("a", &rows(&["a", "a", "a", "a"])), None);
    }
}
