//! How much one caller may ask: requests by credential, tenant and address, and how many are worked on at a time. What
//! is refused here was not begun; what was begun is never dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use mesh_types::{Code, Problem};
use tokio::sync::Semaphore;

use super::problem::Failure;
use crate::config::RateConfig;

/// draft-ietf-httpapi-ratelimit-headers-10, section 4.
pub(super) const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// The same, section 3.
pub(super) const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// Callers that are remembered; past it the one whose quota is nearest to full is forgotten.
const CALLERS_MAX: usize = 50_000;

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Counted {
    Credential(String),
    Tenant(String),
    /// Who shows no good credential.
    Address(String),
}

impl Counted {
    fn name(&self) -> &'static str {
        match self {
            Self::Credential(_) => "credential",
            Self::Tenant(_) => "tenant",
            Self::Address(_) => "address",
        }
    }
}

/// What is left of each quota after a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing(Vec<Left>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Left {
    name: &'static str,
    quota: u32,
    window: Duration,
    remaining: u32,
    /// Until the quota is whole again.
    full_in: Duration,
    /// Until one more request is taken; zero: now.
    next_in: Duration,
}

/// The generic cell rate algorithm (ITU-T I.371, virtual scheduling): of each caller only the moment is kept at which
/// its quota will be whole again. A quota may be used at once, and comes back evenly.
#[derive(Debug)]
pub(crate) struct Limits {
    config: RateConfig,
    full_at: Mutex<HashMap<Counted, Duration>>,
}

impl Limits {
    pub(crate) fn new(config: RateConfig) -> Self {
        Self {
            config,
            full_at: Mutex::default(),
        }
    }

    /// Counts one request for each; if one of them has none left, for none.
    ///
    /// # Errors
    /// `RateLimited` with the seconds to wait, beside the standing that the answer shows.
    pub(super) fn take(&self, who: &[Counted], now: Duration) -> Result<Standing, (Standing, Failure)> {
        let mut known = self.known();
        let after: Vec<Left> = who.iter().map(|one| self.left(one, known.get(one), now, 1)).collect();
        if let Some(spent) = after.iter().find(|left| !left.next_in.is_zero()) {
            let failure = refused(spent);
            let now_left = who.iter().map(|one| self.left(one, known.get(one), now, 0)).collect();
            return Err((Standing(now_left), failure));
        }
        for (one, left) in who.iter().zip(&after) {
            remember(&mut known, one, now + left.full_in, now);
        }
        Ok(Standing(after))
    }

    /// Whether the caller has nothing left, without counting anything.
    pub(super) fn is_spent(&self, who: &Counted, now: Duration) -> Option<(Standing, Failure)> {
        let known = self.known();
        let left = self.left(who, known.get(who), now, 1);
        let failure = (!left.next_in.is_zero()).then(|| refused(&left))?;
        Some((Standing(vec![self.left(who, known.get(who), now, 0)]), failure))
    }

    /// The quota of one caller after `cost` more requests; with a `next_in` they are too many.
    fn left(&self, who: &Counted, full_at: Option<&Duration>, now: Duration, cost: u32) -> Left {
        let window = Duration::from_secs(self.config.window_seconds.into());
        let quota = match who {
            Counted::Credential(_) => self.config.credential_requests,
            Counted::Tenant(_) => self.config.tenant_requests,
            Counted::Address(_) => self.config.address_requests,
        };
        let each = window / quota;
        let full_in = full_at.map_or(Duration::ZERO, |at| at.saturating_sub(now)) + each * cost;
        let free = window.saturating_sub(full_in);
        Left {
            name: who.name(),
            quota,
            window,
            remaining: u32::try_from(free.as_nanos() / each.as_nanos().max(1)).unwrap_or(u32::MAX),
            full_in,
            next_in: full_in.saturating_sub(window),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Counted, Duration>> {
        self.full_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remember(known: &mut HashMap<Counted, Duration>, who: &Counted, full_at: Duration, now: Duration) {
    if let Some(at) = known.get_mut(who) {
        *at = full_at;
        return;
    }
    if known.len() >= CALLERS_MAX {
        known.retain(|_, at| *at > now);
    }
    if known.len() >= CALLERS_MAX {
        let nearest = known.iter().min_by_key(|(_, at)| **at).map(|(who, _)| who.clone());
        nearest.map(|who| known.remove(&who));
    }
    known.insert(who.clone(), full_at);
}

fn refused(spent: &Left) -> Failure {
    let detail = format!(
        "the {} has had its {} requests of {} s",
        spent.name,
        spent.quota,
        spent.window.as_secs()
    );
    let mut problem = Problem::new(Code::RateLimited, detail).next("wait as long as Retry-After says, then go on");
    problem.retry_after_seconds = u32::try_from(whole_seconds(spent.next_in)).ok();
    Failure(problem)
}

/// Up, so that who waits that long has waited long enough.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

impl Standing {
    /// Both headers, each a list of what counts here.
    pub(super) fn show(&self, headers: &mut HeaderMap) {
        let list = |one: fn(&Left) -> String| self.0.iter().map(one).collect::<Vec<_>>().join(", ");
        let policy = list(|left| format!("\"{}\";q={};w={}", left.name, left.quota, left.window.as_secs()));
        let limit = list(|left| {
            format!(
                "\"{}\";r={};t={}",
                left.name,
                left.remaining,
                whole_seconds(left.full_in)
            )
        });
        for (name, text) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, limit)] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(name, value);
            }
        }
    }
}

/// Places for requests that are worked on; who finds none is told to come again.
#[derive(Debug, Clone)]
pub(super) struct Places(Arc<Semaphore>);

impl Places {
    pub(super) fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count)))
    }
}

/// Around a family of routes: a place for each request until it is answered.
pub(super) async fn place(State(Places(places)): State<Places>, request: Request, next: Next) -> Response {
    let Ok(_place) = places.try_acquire() else {
        let failure = Failure::new(
            Code::Busy,
            "as many requests are worked on as this gateway takes at a time",
        );
        return failure.next("send it again after Retry-After").into_response();
    };
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_000);

    fn limits() -> Limits {
        Limits::new(RateConfig {
            credential_requests: 4,
            tenant_requests: 6,
            address_requests: 2,
            window_seconds: 8,
        })
    }

    fn key(name: &str) -> [Counted; 2] {
        [Counted::Credential(name.into()), Counted::Tenant("default".into())]
    }

    fn after(seconds: f64) -> Duration {
        START + Duration::from_secs_f64(seconds)
    }

    fn shown(standing: &Standing) -> (String, String) {
        let mut headers = HeaderMap::new();
        standing.show(&mut headers);
        let text = |name| headers[name].to_str().unwrap().to_owned();
        (text(&RATE_LIMIT_POLICY), text(&RATE_LIMIT))
    }

    #[test]
    fn a_quota_may_be_used_at_once_and_comes_back_evenly() {
        let limits = limits();
        for left in (0..4).rev() {
            let standing = limits.take(&key("a"), START).unwrap();
            assert_eq!(standing.0[0].remaining, left);
        }
        let (standing, Failure(problem)) = limits.take(&key("a"), START).unwrap_err();
        assert_eq!((problem.status, problem.retry_after_seconds), (429, Some(2)));
        assert_eq!(standing.0[0].remaining, 0);
        assert!(limits.take(&key("a"), after(1.9)).is_err(), "one comes back each 2 s");
        assert!(limits.take(&key("a"), after(2.0)).is_ok());
        assert!(limits.take(&key("a"), after(2.1)).is_err(), "one, not more");
        assert_eq!(limits.take(&key("a"), after(100.0)).unwrap().0[0].remaining, 3);
    }

    #[test]
    fn a_tenant_is_counted_over_its_credentials_and_others_are_not() {
        let limits = limits();
        for name in ["a", "b", "c"] {
            limits.take(&key(name), START).unwrap();
            limits.take(&key(name), START).unwrap();
        }
        let (_, Failure(problem)) = limits.take(&key("a"), START).unwrap_err();
        assert!(problem.detail.contains("tenant"), "{problem:?}");
        let other = [Counted::Credential("a".into()), Counted::Tenant("other".into())];
        assert_eq!(
            limits.take(&other, START).unwrap().0[0].remaining,
            1,
            "a refused request costs nothing"
        );
    }

    #[test]
    fn what_is_left_stands_in_the_headers_of_the_draft() {
        let limits = limits();
        let (policy, limit) = shown(&limits.take(&key("a"), START).unwrap());
        assert_eq!(policy, r#""credential";q=4;w=8, "tenant";q=6;w=8"#);
        assert_eq!(limit, r#""credential";r=3;t=2, "tenant";r=5;t=2"#);
    }

    #[test]
    fn looking_costs_nothing() {
        let (limits, home) = (limits(), Counted::Address("127.0.0.1".into()));
        assert_eq!(limits.is_spent(&home, START), None);
        for _ in 0..2 {
            limits.take(std::slice::from_ref(&home), START).unwrap();
        }
        let (standing, failure) = limits.is_spent(&home, START).unwrap();
        assert_eq!((standing.0[0].remaining, failure.0.status), (0, 429));
        assert_eq!(limits.is_spent(&home, after(4.0)), None);
    }

    #[test]
    fn so_many_callers_are_remembered_and_not_more() {
        let limits = limits();
        let stranger = |number: usize| [Counted::Address(number.to_string())];
        for number in 0..CALLERS_MAX {
            limits.take(&stranger(number), START).unwrap();
        }
        limits.take(&stranger(0), START).unwrap();
        limits.take(&stranger(CALLERS_MAX), START).unwrap();
        assert_eq!(limits.known().len(), CALLERS_MAX);
        assert!(
            limits.take(&stranger(0), START).is_err(),
            "who asks much is not forgotten first"
        );
        limits.take(&stranger(CALLERS_MAX + 1), after(100.0)).unwrap();
        assert_eq!(
            limits.known().len(),
            1,
            "who has all of its quota need not be remembered"
        );
    }
}
