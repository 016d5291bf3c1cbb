//! Lines by examples and by what holds for any flood: bounds are kept, and nobody waits for another's calls.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_types::Tenant;
use proptest::prelude::*;
use tokio::sync::oneshot;

use super::*;
use crate::config::Config;

const SECOND: Duration = Duration::from_secs(1);

fn place(tenant: &str, tokens: u64) -> Place {
    Place {
        provider: "openai".to_owned(),
        tenant: tenant.parse().unwrap(),
        tokens,
    }
}

fn config(provider: Rates, tenant: Rates) -> Config {
    let mut config = Config::default();
    let mut openai = config.all_providers()["openai"].clone();
    openai.concurrency = provider.concurrency;
    openai.requests_per_minute = provider.requests_per_minute;
    openai.tokens_per_minute = provider.tokens_per_minute;
    config.providers.insert("openai".to_owned(), openai);
    config.tenants.insert("*".to_owned(), tenant);
    config
}

/// A line with those who wait in it.
struct World {
    line: Line<Place>,
    waiting: Vec<(Tenant, oneshot::Receiver<Place>)>,
    now: Instant,
}

impl World {
    fn new(provider: Rates, tenant: Rates) -> Self {
        Self {
            line: Line::new(&config(provider, tenant)),
            waiting: Vec::new(),
            now: Instant::now(),
        }
    }

    fn join(&mut self, place: &Place) -> bool {
        let (sender, receiver) = oneshot::channel();
        let is_in = self.line.join(place, sender).unwrap().is_ok();
        if is_in {
            self.waiting.push((place.tenant.clone(), receiver));
        }
        is_in
    }

    /// Whose turn came, in the order in which they joined.
    fn advance(&mut self) -> (Vec<Place>, Option<Instant>) {
        let moves_at = self.line.advance("openai", self.now, |place| place, drop);
        let mut came = Vec::new();
        self.waiting.retain_mut(|(_, turn)| match turn.try_recv() {
            Ok(place) => {
                came.push(place);
                false
            }
            Err(_) => true,
        });
        (came, moves_at)
    }
}

fn at_once(calls: u32) -> Rates {
    Rates {
        concurrency: Some(calls),
        ..Rates::default()
    }
}

#[test]
fn tenants_take_turns_so_that_a_flood_waits_for_itself() {
    let mut world = World::new(at_once(1), Rates::default());
    (0..50).for_each(|_| assert!(world.join(&place("flood", 1))));
    let (mut held, _) = world.advance();
    assert!(world.join(&place("quiet", 1)));
    let mut order = Vec::new();
    for _ in 0..4 {
        for done in held.drain(..) {
            world.line.give_back(&done, Spent::Guess);
        }
        held = world.advance().0;
        assert_eq!(held.len(), 1);
        order.push(held[0].tenant.to_string());
    }
    assert!(order[..2].contains(&"quiet".to_owned()), "{order:?}");
}

#[test]
fn a_tenant_at_its_own_bound_holds_up_nobody() {
    let mut world = World::new(at_once(10), at_once(2));
    (0..5).for_each(|_| assert!(world.join(&place("flood", 1))));
    (0..2).for_each(|_| assert!(world.join(&place("quiet", 1))));
    let (came, moves_at) = world.advance();
    assert_eq!((came.len(), moves_at), (4, None), "only an end moves it");
    world.line.give_back(&place("flood", 1), Spent::Guess);
    let (came, _) = world.advance();
    assert_eq!(came, [place("flood", 1)]);
}

#[test]
fn a_full_line_takes_no_more_of_this_tenant_until_somebody_leaves() {
    let mut world = World::new(at_once(1), Rates::default());
    let mut changed = config(at_once(1), Rates::default());
    changed.limits.queue_max = 2;
    world.line = Line::new(&changed);
    assert!(world.join(&place("flood", 1)));
    world.advance();
    assert!(world.join(&place("flood", 1)) && world.join(&place("flood", 1)));
    assert!(!world.join(&place("flood", 1)));
    assert!(world.join(&place("quiet", 1)), "others have room of their own");
    world.waiting.remove(0);
    assert!(world.join(&place("flood", 1)), "who went away left a place");
}

#[test]
fn a_rate_lets_its_minute_pass_at_once_and_then_one_at_a_time() {
    let rates = Rates {
        requests_per_minute: Some(60),
        ..Rates::default()
    };
    let mut world = World::new(rates, Rates::default());
    (0..70).for_each(|_| assert!(world.join(&place("a", 1))));
    let (came, moves_at) = world.advance();
    assert_eq!(came.len(), 60);
    assert_eq!(moves_at, Some(world.now + SECOND));
    world.now += SECOND * 3;
    assert_eq!(world.advance().0.len(), 3);
}

#[test]
fn tokens_are_guessed_before_and_counted_after() {
    let rates = Rates {
        tokens_per_minute: Some(600),
        ..Rates::default()
    };
    let mut world = World::new(rates, Rates::default());
    world.join(&place("a", 600));
    let (came, _) = world.advance();
    assert_eq!(came.len(), 1);
    world.join(&place("a", 100));
    let (none, moves_at) = world.advance();
    assert!(none.is_empty());
    assert_eq!(moves_at, Some(world.now + SECOND * 10));
    world.line.give_back(&came[0], Spent::Tokens(50));
    assert_eq!(world.advance().0.len(), 1, "550 of the guess came back");
    world.join(&place("a", 100_000));
    world.now += SECOND * 60;
    assert_eq!(world.advance().0.len(), 1, "more than fits passes when all is there");
    world.join(&place("a", 1));
    assert!(world.advance().0.is_empty(), "and the debt is paid off first");
}

#[test]
fn a_call_that_was_never_made_takes_nothing() {
    let rates = Rates {
        requests_per_minute: Some(1),
        tokens_per_minute: Some(100),
        ..Rates::default()
    };
    let mut world = World::new(rates, Rates::default());
    for _ in 0..3 {
        world.join(&place("a", 100));
        let (came, _) = world.advance();
        assert_eq!(came.len(), 1);
        world.line.give_back(&came[0], Spent::Nothing);
    }
}

#[test]
fn without_bounds_of_its_own_a_tenant_leaves_room_for_others() {
    let config = Config {
        concurrency: 4,
        ..Config::default()
    };
    let mut line: Line<Place> = Line::new(&config);
    let mut turns: Vec<_> = (0..4)
        .map(|_| {
            let (sender, turn) = oneshot::channel();
            line.join(&place("flood", 1), sender).unwrap().unwrap();
            turn
        })
        .collect();
    line.advance("openai", Instant::now(), |place| place, drop);
    let came = turns.iter_mut().filter_map(|turn| turn.try_recv().ok()).count();
    assert_eq!(came, 2);
}

#[test]
fn a_great_call_is_not_overtaken_for_ever_by_small_ones() {
    let rates = Rates {
        tokens_per_minute: Some(600),
        ..Rates::default()
    };
    let mut world = World::new(rates, Rates::default());
    world.join(&place("small", 600));
    world.advance();
    world.join(&place("great", 300));
    for second in 0..30 {
        world.now += SECOND;
        world.join(&place("small", 10));
        let (came, _) = world.advance();
        assert_eq!(
            came.iter().any(|place| place.tokens == 300),
            second == 29,
            "{second}: {came:?}"
        );
    }
}

#[derive(Debug, Clone)]
enum Act {
    Join(u8, u16),
    End(usize),
    Leave(usize),
    Wait(u16),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (0..4_u8, 0..400_u16).prop_map(|(tenant, tokens)| Act::Join(tenant, tokens)),
        3 => any::<usize>().prop_map(Act::End),
        1 => any::<usize>().prop_map(Act::Leave),
        2 => (0..5_000_u16).prop_map(Act::Wait),
    ];
    proptest::collection::vec(act, 0..150)
}

proptest! {
    /// Never more at once than either bound, never more requests than a bucket and its inflow; and when time passes and
    /// calls end, everyone's turn comes.
    #[test]
    fn bounds_hold_and_everyone_gets_a_turn(acts in acts(), provider_max in 1..5_u32, tenant_max in 1..4_u32) {
        let rates = |concurrency| Rates {
            concurrency: Some(concurrency),
            requests_per_minute: Some(30),
            tokens_per_minute: Some(1_000),
        };
        let mut world = World::new(rates(provider_max), Rates { requests_per_minute: None, ..rates(tenant_max) });
        let began = world.now;
        let (mut held, mut granted): (Vec<Place>, u64) = (Vec::new(), 0);
        for act in acts {
            match act {
                Act::Join(tenant, tokens) => {
                    world.join(&place(&format!("t{tenant}"), tokens.into()));
                }
                Act::End(which) if !held.is_empty() => {
                    let done = held.swap_remove(which % held.len());
                    world.line.give_back(&done, Spent::Tokens(done.tokens / 2));
                }
                Act::Leave(which) if !world.waiting.is_empty() => {
                    let which = which % world.waiting.len();
                    world.waiting.swap_remove(which);
                }
                Act::Wait(ms) => world.now += Duration::from_millis(ms.into()),
                Act::End(_) | Act::Leave(_) => {}
            }
            let (came, _) = world.advance();
            granted += came.len() as u64;
            held.extend(came);
            prop_assert!(held.len() <= provider_max as usize);
            let mut by_tenant: BTreeMap<&str, u32> = BTreeMap::new();
            held.iter().for_each(|place| *by_tenant.entry(place.tenant.as_str()).or_default() += 1);
            prop_assert!(by_tenant.values().all(|calls| *calls <= tenant_max));
            let inflow = 30.0 + (world.now - began).as_secs_f64() / 2.0;
            prop_assert!(granted as f64 <= inflow + 1e-6);
        }
        for _ in 0..1_000 {
            held.drain(..).for_each(|done| world.line.give_back(&done, Spent::Guess));
            world.now += SECOND * 60;
            held = world.advance().0;
        }
        prop_assert!(world.waiting.is_empty(), "somebody waits for ever");
    }
}
