//! The outbox: no fact without its change, no change without its fact, published at least once.

use std::sync::Mutex;

use mesh_store::{Outbox, Pending, RelayReport, Role, tenant_tx};
use mesh_testkit::{TestDatabase, deliver_twice};
use mesh_types::event::{Event, Fact};
use mesh_types::{EventId, Id as _, Tenant, Timestamp};
use sqlx::PgPool;

use crate::pool_as;

const DAY_MS: i64 = 24 * 3600 * 1000;

fn event(tenant: &Tenant, number: u128) -> Event {
    Event {
        request_id: None,
        change: None,
        id: EventId::from_u128(number),
        tenant: tenant.clone(),
        at: Timestamp::from_millis(1_000),
        actor: "user:ann".into(),
        fact: Fact::AgentCreated {
            agent: "sofia".parse().unwrap(),
        },
    }
}

async fn append(pool: &PgPool, event: &Event) {
    let mut tx = tenant_tx(pool, &event.tenant).await.unwrap();
    Outbox::REGISTRY.append(&mut tx, event).await.unwrap();
    tx.commit().await.unwrap();
}

/// Publishes into a list; `refuse` fails.
async fn relay(pool: &PgPool, refuse: Option<EventId>, seen: &Mutex<Vec<EventId>>) -> RelayReport {
    let publish = |pending: Pending| async move {
        assert_eq!(serde_json::from_str::<Event>(&pending.body).unwrap(), pending.event);
        if Some(pending.event.id) == refuse {
            return Err("no stream".to_owned());
        }
        seen.lock().unwrap().push(pending.event.id);
        Ok(())
    };
    let now = Timestamp::from_millis(2_000);
    Outbox::REGISTRY
        .relay(pool, now, &mut Some(now), publish)
        .await
        .unwrap()
}

#[tokio::test]
async fn facts_of_all_tenants_are_published_in_their_order_and_once() {
    let database = TestDatabase::create().await;
    let pool = pool_as(&database, Role::Registry).await;
    let (alpha, beta): (Tenant, Tenant) = ("alpha".parse().unwrap(), "beta".parse().unwrap());
    for (tenant, number) in [(&alpha, 3), (&beta, 1), (&alpha, 2)] {
        append(&pool, &event(tenant, number)).await;
    }
    let seen = Mutex::default();
    let (first, second) = deliver_twice((), |()| relay(&pool, None, &seen)).await;
    assert_eq!((first.published, first.failed, first.more), (3, 0, false));
    assert_eq!(second, RelayReport::default());
    assert_eq!(*seen.lock().unwrap(), [3, 1, 2].map(EventId::from_u128));
}

#[tokio::test]
async fn what_fails_waits_and_holds_up_nothing_else() {
    let database = TestDatabase::create().await;
    let pool = pool_as(&database, Role::Registry).await;
    for number in 1..=3 {
        append(&pool, &event(&Tenant::default(), number)).await;
    }
    let seen = Mutex::default();
    let report = relay(&pool, Some(EventId::from_u128(2)), &seen).await;
    assert_eq!((report.published, report.failed), (2, 1));
    assert_eq!(report.error.as_deref(), Some("no stream"));
    let report = relay(&pool, None, &seen).await;
    assert_eq!(report.published, 1);
    assert_eq!(*seen.lock().unwrap(), [1, 3, 2].map(EventId::from_u128));
}

#[tokio::test]
async fn a_change_that_is_rolled_back_leaves_no_fact() {
    let database = TestDatabase::create().await;
    let pool = pool_as(&database, Role::Registry).await;
    let tenant = Tenant::default();
    let mut tx = tenant_tx(&pool, &tenant).await.unwrap();
    Outbox::REGISTRY.append(&mut tx, &event(&tenant, 1)).await.unwrap();
    drop(tx);
    assert_eq!(relay(&pool, None, &Mutex::default()).await.published, 0);
}

#[tokio::test]
async fn a_backlog_is_relayed_pass_by_pass() {
    let database = TestDatabase::create().await;
    let pool = pool_as(&database, Role::Registry).await;
    let tenant = Tenant::default();
    let mut tx = tenant_tx(&pool, &tenant).await.unwrap();
    for number in 1..=300 {
        Outbox::REGISTRY.append(&mut tx, &event(&tenant, number)).await.unwrap();
    }
    tx.commit().await.unwrap();
    let seen = Mutex::default();
    let (first, second) = deliver_twice((), |()| relay(&pool, None, &seen)).await;
    assert_eq!((first.published, first.more), (256, true));
    assert_eq!((second.published, second.more), (44, false));
    assert_eq!(
        *seen.lock().unwrap(),
        (1..=300).map(EventId::from_u128).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_published_fact_goes_after_its_time_and_an_unpublished_one_never() {
    let database = TestDatabase::create().await;
    let pool = pool_as(&database, Role::Registry).await;
    let tenant = Tenant::default();
    append(&pool, &event(&tenant, 1)).await;
    relay(&pool, None, &Mutex::default()).await;
    append(&pool, &event(&tenant, 2)).await;
    let left = || async {
        let mut tx = tenant_tx(&pool, &tenant).await.unwrap();
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM registry.event")
            .fetch_one(&mut *tx)
            .await
            .unwrap()
    };
    let fail = |_: Pending| async { Err("away".to_owned()) };
    for (days, wanted) in [(29, 2), (31, 1), (400, 1)] {
        let now = Timestamp::from_millis(days * DAY_MS);
        Outbox::REGISTRY.relay(&pool, now, &mut None, fail).await.unwrap();
        assert_eq!(left().await, wanted, "after {days} days");
    }
}
