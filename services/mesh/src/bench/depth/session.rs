//! One session, many senders: the order of acceptance is the order of the starts, one at a time.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use mesh_api::execution::InvokeRequest;
use mesh_store::IdExt as _;
use uuid::Uuid;

use super::messages::{saying, send_all};
use super::report::{Bar, Measure};
use super::store::{self, Event, EventKind};
use crate::bench::agent;
use crate::bench::calls;
use crate::bench::place::Place;
use crate::bench::progress::Progress;

const SENDERS: u64 = 10;
const SESSION: &str = "bench";
const STEPS: u32 = 3;

pub(super) async fn measure(place: &Place, count: u64, progress: &Progress) -> anyhow::Result<Measure> {
    progress.phase(&format!("{count} messages from {SENDERS} senders into one session"));
    let target = agent::publish(&place.bus, STEPS).await?;
    let started = Instant::now();
    let ids = send_all(place, &target, SENDERS, count, |number| InvokeRequest {
        session: Some(SESSION.to_owned()),
        ..saying(&format!("message {number}"))
    })
    .await?;
    let accepted = started.elapsed();
    let ids: Vec<Uuid> = ids.into_iter().map(|id| id.to_uuid()).collect();
    let done = calls::caught_up(place, &target, |_| async {
        Ok(crate::bench::store::completed(&place.lanes, &ids).await? == ids.len() as u64)
    });
    let took = done.await? - started;
    let events = store::events(&place.lanes, &ids).await?;
    let order = Order::of(&events);
    Ok(Measure::new("session")
        .figure("senders", SENDERS as f64)
        .figure("accepted_seconds", accepted.as_secs_f64())
        .figure("seconds", took.as_secs_f64())
        .figure("per_second", count as f64 / took.as_secs_f64())
        .barred("messages", order.accepted as f64, Bar::Exactly(count as f64))
        .barred("completed", order.ended as f64, Bar::Exactly(count as f64))
        .barred("out_of_order", order.out_of_order as f64, Bar::Exactly(0.0))
        .barred("at_once_max", order.at_once_max as f64, Bar::Exactly(1.0)))
}

/// What the committed order of a session's events says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Order {
    accepted: usize,
    ended: usize,
    /// Starts that were not the turn of that message.
    out_of_order: usize,
    at_once_max: usize,
}

impl Order {
    fn of(events: &[Event]) -> Self {
        let mut order = Self::default();
        let (mut places, mut started, mut running) = (HashMap::new(), HashSet::new(), HashSet::new());
        for event in events {
            match event.kind {
                EventKind::Accepted => {
                    places.insert(event.id, places.len());
                }
                EventKind::Claimed => {
                    running.insert(event.id);
                    order.at_once_max = order.at_once_max.max(running.len());
                    let turn = started.len();
                    if started.insert(event.id) && places.get(&event.id) != Some(&turn) {
                        order.out_of_order += 1;
                    }
                }
                EventKind::Ended => {
                    running.remove(&event.id);
                    order.ended += 1;
                }
            }
        }
        order.accepted = places.len();
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EventKind::{Accepted, Claimed, Ended};

    fn order(events: &[(EventKind, u128)]) -> Order {
        let event = |&(kind, id)| Event {
            kind,
            id: Uuid::from_u128(id),
        };
        Order::of(&events.iter().map(event).collect::<Vec<_>>())
    }

    #[test]
    fn one_after_the_other_is_in_order() {
        let found = order(&[
            (Accepted, 1),
            (Claimed, 1),
            (Accepted, 2),
            (Ended, 1),
            (Claimed, 2),
            // A second claim, of a lost worker, is no second start.
            (Claimed, 2),
            (Ended, 2),
        ]);
        let expected = Order {
            accepted: 2,
            ended: 2,
            out_of_order: 0,
            at_once_max: 1,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn two_at_once_and_a_start_out_of_turn_are_found() {
        let found = order(&[(Accepted, 1), (Accepted, 2), (Claimed, 2), (Claimed, 1), (Ended, 1)]);
        assert_eq!((found.out_of_order, found.at_once_max, found.ended), (2, 2, 1));
    }
}
