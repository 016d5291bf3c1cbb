//! Whose turn it is to be told, where more wait than there are places: tenants in turn, and of each the one that waits
//! longest. Pure.

use mesh_types::{Tenant, Timestamp};

/// One that could be told now.
pub(super) struct Waiting<T> {
    pub(super) tenant: Tenant,
    /// Since when.
    pub(super) since: Timestamp,
    pub(super) what: T,
}

/// In order of turns. `held` says how many places a tenant has already: they count as turns that it had.
pub(super) fn in_turn<T>(mut waiting: Vec<Waiting<T>>, held: impl Fn(&Tenant) -> usize) -> Vec<Waiting<T>> {
    waiting.sort_by(|left, right| (&left.tenant, left.since).cmp(&(&right.tenant, right.since)));
    let mut ranked = Vec::with_capacity(waiting.len());
    let mut before: Option<(Tenant, usize)> = None;
    for one in waiting {
        let rank = match &before {
            Some((tenant, rank)) if *tenant == one.tenant => rank + 1,
            _ => held(&one.tenant),
        };
        before = Some((one.tenant.clone(), rank));
        ranked.push((rank, one));
    }
    ranked.sort_by_key(|(rank, one)| (*rank, one.since));
    ranked.into_iter().map(|(_, one)| one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_take_turns_and_who_waits_longest_comes_first() {
        let one = |tenant: &str, since, what| Waiting {
            tenant: tenant.parse().unwrap(),
            since: Timestamp::from_millis(since),
            what,
        };
        let waiting = || {
            vec![
                one("greedy", 3, "g3"),
                one("greedy", 1, "g1"),
                one("greedy", 2, "g2"),
                one("late", 9, "l9"),
                one("other", 5, "o5"),
                one("other", 4, "o4"),
            ]
        };
        let order = |held: fn(&Tenant) -> usize| -> String {
            let order = in_turn(waiting(), held);
            order.iter().map(|one| one.what).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(order(|_| 0), "g1 o4 l9 g2 o5 g3");
        assert_eq!(
            order(|tenant| if tenant.as_str() == "greedy" { 2 } else { 0 }),
            "o4 l9 o5 g1 g2 g3"
        );
    }
}
