//! Timers in memory: bounded by what is open, not by what ever was.

use std::sync::Arc;
use std::time::Duration;

use mesh_types::Timestamp;

use super::harness::meta;
use crate::core::{Meta, OpenRow};
use crate::lane::memory::{Memory, Open};

fn open(n: u128, deadline_at: Timestamp) -> Open {
    let meta = Meta {
        deadline_at: Some(deadline_at),
        ..meta(n, 0)
    };
    Open::new(Arc::new(meta), OpenRow::queued())
}

#[test]
fn far_deadlines_of_ended_invocations_are_not_kept() {
    let mut memory = Memory::default();
    let far = Timestamp::from_millis(9_999_999_999_999);
    for n in 1..=20_000 {
        memory.insert(open(n, far));
        if n > 10 {
            assert!(memory.remove(meta(n, 0).id).is_some());
        }
        assert!(memory.timers() <= 2_000, "{}", memory.timers());
    }
    let mut expired = memory.fire_timers(far, Duration::ZERO);
    expired.sort_unstable();
    let wanted: Vec<_> = (1..=10).map(|n| meta(n, 0).id).collect();
    assert_eq!(expired, wanted, "those that are open keep theirs");
}

#[test]
fn who_is_woken_later_expires_later() {
    let mut memory = Memory::default();
    let at = Timestamp::from_millis;
    memory.insert(open(1, at(5)));
    assert_eq!(memory.fire_timers(at(4), Duration::ZERO), []);
    assert_eq!(memory.fire_timers(at(5), Duration::ZERO).len(), 1);
    assert_eq!(memory.fire_timers(at(6), Duration::ZERO), [], "a timer fires once");
    memory.wake(meta(1, 0).id, at(7));
    assert_eq!(memory.next_timer(), Some(at(7)));
    assert_eq!(memory.fire_timers(at(7), Duration::ZERO).len(), 1);
}
