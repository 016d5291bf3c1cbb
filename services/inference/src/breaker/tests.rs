//! The breaker by examples, and by what holds for any history.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn rules() -> BreakerRules {
    BreakerRules {
        failures: 3,
        open_ms: 1_000,
        open_max_ms: 5_000,
        ..BreakerRules::default()
    }
}

fn fail(breaker: &mut Breaker, now: Instant) {
    let pass = breaker.admit(now).unwrap();
    breaker.settle(pass, Outcome::Failed, now);
}

#[test]
fn failures_in_a_row_open_it_and_a_good_probe_closes_it() {
    let (mut breaker, now) = (Breaker::new(rules()), Instant::now());
    fail(&mut breaker, now);
    fail(&mut breaker, now);
    let pass = breaker.admit(now).unwrap();
    breaker.settle(pass, Outcome::Alive, now);
    (0..3).for_each(|_| fail(&mut breaker, now));
    let closure = breaker.admit(now).unwrap_err();
    assert_eq!((closure.until, closure.why), (now + SECOND, Why::Failing));
    let later = now + SECOND;
    let probe = breaker.admit(later).unwrap();
    assert_eq!(breaker.admit(later).unwrap_err().why, Why::Probed);
    assert_eq!(breaker.state(later), State::HalfOpen);
    breaker.settle(probe, Outcome::Alive, later);
    assert!(breaker.admit(later).is_ok() && breaker.admit(later).is_ok());
}

#[test]
fn each_failed_probe_doubles_the_rest_up_to_its_bound() {
    let (mut breaker, mut now) = (Breaker::new(rules()), Instant::now());
    (0..3).for_each(|_| fail(&mut breaker, now));
    for seconds in [1, 2, 4, 5, 5] {
        let until = breaker.look(now).unwrap_err().until;
        assert_eq!(until, now + SECOND * seconds);
        now = until;
        fail(&mut breaker, now);
    }
}

#[test]
fn a_high_share_of_failures_opens_it_without_three_in_a_row() {
    let rules = BreakerRules {
        tries_min: 10,
        failures_percent: 50,
        ..rules()
    };
    let (mut breaker, now) = (Breaker::new(rules), Instant::now());
    for number in 0..10 {
        assert!(breaker.look(now).is_ok(), "{number}");
        let pass = breaker.admit(now).unwrap();
        let outcome = [Outcome::Alive, Outcome::Failed][number % 2];
        breaker.settle(pass, outcome, now);
    }
    assert_eq!(breaker.look(now).unwrap_err().why, Why::Failing);
}

#[test]
fn a_pause_asked_for_is_kept_exactly() {
    let (mut breaker, now) = (Breaker::new(rules()), Instant::now());
    let (first, second) = (breaker.admit(now).unwrap(), breaker.admit(now).unwrap());
    breaker.settle(first, Outcome::Resting(SECOND * 7), now);
    breaker.settle(second, Outcome::Resting(SECOND), now);
    let closure = breaker.look(now + SECOND * 6).unwrap_err();
    assert_eq!((closure.until, closure.why), (now + SECOND * 7, Why::Asked));
    assert!(breaker.look(now + SECOND * 7).is_ok());
    let pass = breaker.admit(now + SECOND * 7).unwrap();
    breaker.settle(pass, Outcome::Resting(Duration::MAX), now + SECOND * 7);
    assert!(
        breaker.look(now + SECOND * 3_607).is_ok(),
        "no provider stops us for ever"
    );
}

#[test]
fn a_lost_probe_leaves_room_for_the_next() {
    let (mut breaker, now) = (Breaker::new(rules()), Instant::now());
    (0..3).for_each(|_| fail(&mut breaker, now));
    let later = now + SECOND;
    let probe = breaker.admit(later).unwrap();
    breaker.settle(probe, Outcome::Unknown, later);
    let next = breaker.admit(later).unwrap();
    breaker.settle(probe, Outcome::Alive, later);
    assert!(breaker.admit(later).is_err(), "what came before says nothing");
    breaker.settle(next, Outcome::Alive, later);
    assert!(breaker.admit(later).is_ok());
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Alive),
        Just(Outcome::Failed),
        (0..20_000_u64).prop_map(|ms| Outcome::Resting(Duration::from_millis(ms))),
        Just(Outcome::Unknown),
    ]
}

#[derive(Debug, Clone)]
enum Act {
    Wait(u64),
    Ask,
    Settle(usize, Outcome),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        (0..3_000_u64).prop_map(Act::Wait),
        Just(Act::Ask),
        (any::<usize>(), outcomes()).prop_map(|(which, outcome)| Act::Settle(which, outcome)),
    ];
    proptest::collection::vec(act, 0..200)
}

proptest! {
    /// Whatever happens: it says a time in the future when it is closed, keeps to it, lets at most one probe pass while
    /// it is not closed, and lets something pass once all is settled and the time has come.
    #[test]
    fn it_keeps_its_word_and_always_comes_back(acts in acts()) {
        let mut breaker = Breaker::new(rules());
        let mut now = Instant::now();
        let mut open: Vec<Pass> = Vec::new();
        for act in acts {
            match act {
                Act::Wait(ms) => now += Duration::from_millis(ms),
                Act::Ask => match breaker.admit(now) {
                    Ok(pass) => {
                        let is_probe = !matches!(breaker.circuit, Circuit::Closed);
                        prop_assert!(!is_probe || !open.contains(&pass), "two probes at once");
                        open.push(pass);
                    }
                    Err(closure) => {
                        prop_assert!(closure.until > now);
                        let longest = Duration::from_millis(breaker.rules.open_max_ms.max(20_000));
                        prop_assert!(closure.until <= now + longest);
                    }
                },
                Act::Settle(which, outcome) if !open.is_empty() => {
                    let pass = open.swap_remove(which % open.len());
                    breaker.settle(pass, outcome, now);
                    if let Outcome::Resting(wish) = outcome && wish > Duration::ZERO {
                        prop_assert!(breaker.look(now + wish.saturating_sub(Duration::from_millis(1))).is_err());
                    }
                }
                Act::Settle(..) => {}
            }
        }
        open.drain(..).for_each(|pass| breaker.settle(pass, Outcome::Unknown, now));
        now += SECOND * 25;
        prop_assert!(breaker.admit(now).is_ok());
    }
}
