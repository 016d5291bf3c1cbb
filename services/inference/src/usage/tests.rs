//! Which events are the same.

use std::sync::Arc;

use mesh_types::{SystemClock, Tenant};

use super::*;

fn fact(attempt: u32) -> ModelUse {
    ModelUse {
        invocation: None,
        step: None,
        attempt,
        agent: None,
        provider: "openai".into(),
        model: "gpt-4".into(),
        purpose: "chat".into(),
        input_tokens: 1,
        cached_tokens: 0,
        output_tokens: 1,
        cost_usd: 0.0,
    }
}

fn id(tenant: &str, key: Option<&str>, fact: &ModelUse, random: u128) -> EventId {
    id_of(tenant, key, [0; 32], fact, random)
}

fn id_of(tenant: &str, key: Option<&str>, asked: [u8; 32], fact: &ModelUse, random: u128) -> EventId {
    let ids = IdSource::new(Arc::new(SystemClock::default()), Arc::new(move || random));
    let caller = Caller::service("execution", tenant.parse::<Tenant>().unwrap());
    let account = Account {
        caller: &caller,
        idempotency_key: key,
        asked: Some(asked),
        agent: None,
        purpose: Purpose::Chat,
    };
    event_id(&account, fact, &ids)
}

#[test]
fn a_try_of_a_step_has_one_id_and_no_other_try_has_it() {
    let key = Some("inv_01ARZ3NDEKTSV4RRFFQ69G5FAV/3");
    let first = id("a", key, &fact(1), 1);
    assert_eq!(first, id("a", key, &fact(1), 2));
    let mut fallback = fact(1);
    fallback.model = "gpt-5".into();
    for other in [
        id("b", key, &fact(1), 1),
        id("a", Some("inv_01ARZ3NDEKTSV4RRFFQ69G5FAV/4"), &fact(1), 1),
        id("a", key, &fact(2), 1),
        id_of("a", key, [1; 32], &fact(1), 1),
        id("a", key, &fallback, 1),
        id("a", Some("inv_01ARZ3NDEKTSV4RRFFQ69G5FAV/31"), &fact(1), 1),
    ] {
        assert_ne!(first, other);
    }
    assert_ne!(
        id("a", None, &fact(1), 1),
        id("a", None, &fact(1), 2),
        "each is a call of its own"
    );
    assert_eq!(first.to_string().parse(), Ok(first), "it is an id like others");
}

#[test]
fn only_keys_of_steps_name_an_invocation() {
    let invocation: InvocationId = "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    assert_eq!(of_key(Some(&format!("{invocation}/12"))), Some((invocation, 12)));
    for key in [
        None,
        Some("node:kitchen/1"),
        Some("inv_1/2"),
        Some("inv_01ARZ3NDEKTSV4RRFFQ69G5FAV/x"),
    ] {
        assert_eq!(of_key(key), None, "{key:?}");
    }
}

#[test]
fn money_is_counted_in_millionths() {
    assert_eq!((micros(0.25), micros(0.0), micros(1e-7)), (250_000, 0, 0));
}
