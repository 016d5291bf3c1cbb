//! The governor with tasks that wait, in paused time.

use std::collections::BTreeMap;

use mesh_types::SystemClock;

use super::*;
use crate::config::{ProviderConfig, Rates};

const MINUTE: Duration = Duration::from_secs(60);

fn governor(change: impl FnOnce(&mut Config, &mut ProviderConfig)) -> Governor {
    let mut config = Config::default();
    config.breaker.failures = 2;
    let mut openai = config.all_providers()["openai"].clone();
    change(&mut config, &mut openai);
    config.providers = BTreeMap::from([("openai".to_owned(), openai)]);
    Governor::new(&config, Arc::new(SystemClock::default()), &Metrics::default())
}

async fn admit(governor: &Governor, tenant: &str, patience: Duration) -> Result<Permit, Refused> {
    let deadline = Instant::now() + patience;
    governor.admit("openai", &tenant.parse().unwrap(), 10, deadline).await
}

fn status(retry_after: Option<Duration>) -> TryError {
    TryError::Status {
        status: 429,
        message: String::new(),
        retry_after,
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_gets_the_place_of_who_ends() {
    let governor = governor(|_, openai| openai.concurrency = Some(1));
    let first = admit(&governor, "a", MINUTE).await.unwrap();
    let began = Instant::now();
    let (second, ()) = tokio::join!(admit(&governor, "b", MINUTE), async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        first.settle(Ok(()), Some(5));
    });
    assert!(second.is_ok());
    assert_eq!(began.elapsed(), Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_he_may() {
    let governor = governor(|config, openai| {
        openai.concurrency = Some(1);
        config.limits.queue_wait_ms = 20_000;
    });
    let _held = admit(&governor, "a", MINUTE).await.unwrap();
    for (patience, waited) in [(5, 5), (60, 20)] {
        let began = Instant::now();
        let refused = admit(&governor, "a", Duration::from_secs(patience))
            .await
            .err()
            .unwrap();
        assert!(matches!(refused, Refused::Busy { .. }), "{refused:?}");
        assert_eq!(began.elapsed(), Duration::from_secs(waited));
        let problem = Problem::from(refused);
        assert!(problem.is(Code::ModelBusy) && problem.status == 429, "{problem:?}");
        assert!(problem.retry_after_seconds.is_some_and(|seconds| seconds >= 1));
    }
}

#[tokio::test(start_paused = true)]
async fn time_alone_moves_the_line_and_a_wait_that_cannot_help_is_not_begun() {
    let governor = governor(|_, openai| openai.requests_per_minute = Some(6));
    let asking = async {
        for _ in 0..6 {
            admit(&governor, "a", MINUTE).await.unwrap();
        }
        let began = Instant::now();
        let refused = admit(&governor, "a", Duration::from_secs(9)).await.err().unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO, "ten seconds to the next one are known");
        assert_eq!(refused.wait(Instant::now()), Duration::from_secs(10));
        admit(&governor, "a", Duration::from_secs(11)).await.unwrap();
        began.elapsed()
    };
    tokio::select! {
        waited = asking => assert!(waited >= Duration::from_secs(10) && waited < Duration::from_secs(11), "{waited:?}"),
        () = governor.keep_time() => unreachable!("it keeps time for ever"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_was_asked_for_is_kept_and_shown() {
    let governor = governor(|_, _| ());
    let permit = admit(&governor, "a", MINUTE).await.unwrap();
    permit.settle(Err(&status(Some(Duration::from_secs(30)))), None);
    let refused = admit(&governor, "b", MINUTE).await.err().unwrap();
    assert_eq!(refused.wait(Instant::now()), Duration::from_secs(30));
    let shown = governor.availability("openai").unwrap_err();
    assert!(shown.starts_with("provider-resting until 20"), "{shown}");
    assert!(governor.availability("anthropic").is_ok(), "others are not meant");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(governor.availability("openai").is_ok());
    assert!(admit(&governor, "b", MINUTE).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn failures_open_the_circuit_also_for_those_in_the_line() {
    let governor = governor(|_, openai| openai.concurrency = Some(2));
    let held = [
        admit(&governor, "a", MINUTE).await.unwrap(),
        admit(&governor, "a", MINUTE).await.unwrap(),
    ];
    let failing = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        held.into_iter()
            .for_each(|permit| permit.settle(Err(&TryError::Cut), None));
    };
    let (waited, ()) = tokio::join!(admit(&governor, "a", MINUTE), failing);
    // The first of the two ends moves the line: who passes then came before the circuit opened.
    let waits = [waited, admit(&governor, "a", MINUTE).await];
    assert!(matches!(waits[1], Err(Refused::Resting { why: Why::Failing, .. })));
    tokio::time::sleep(Duration::from_secs(5)).await;
    drop(waits);
    let probe = admit(&governor, "a", MINUTE).await.unwrap();
    let second = admit(&governor, "a", MINUTE).await.err().unwrap();
    assert!(
        matches!(second, Refused::Resting { why: Why::Probed, .. }),
        "{second:?}"
    );
    probe.settle(Ok(()), None);
    assert!(admit(&governor, "a", MINUTE).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_while_waiting_takes_nothing() {
    let governor = governor(|config, openai| {
        openai.concurrency = Some(1);
        let rates = Rates {
            concurrency: Some(1),
            ..Rates::default()
        };
        config.tenants.insert("*".to_owned(), rates);
    });
    let held = admit(&governor, "a", MINUTE).await.unwrap();
    let impatient = tokio::time::timeout(Duration::from_secs(1), admit(&governor, "a", MINUTE)).await;
    assert!(impatient.is_err());
    drop(held);
    for _ in 0..3 {
        let permit = admit(&governor, "a", MINUTE).await.unwrap();
        assert!(matches!(
            admit(&governor, "a", Duration::from_millis(10)).await,
            Err(Refused::Busy { .. })
        ));
        drop(permit);
    }
}

#[test]
fn a_refused_request_says_that_its_provider_is_there() {
    let refused = TryError::Status {
        status: 401,
        message: String::new(),
        retry_after: Some(Duration::from_secs(9)),
    };
    assert_eq!(outcome(Err(&refused)), Outcome::Alive);
    assert_eq!(outcome(Err(&status(None))), Outcome::Failed);
    assert_eq!(outcome(Err(&TryError::Timeout("x"))), Outcome::Failed);
    assert_eq!(outcome(Err(&TryError::TooLarge(1))), Outcome::Unknown);
    assert_eq!(outcome(Ok(())), Outcome::Alive);
}
