//! Places that tenants share: of what one process has of them, one tenant gets a part, so that another still finds one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_types::{Code, Tenant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Failure;

/// When somebody whose tenant has its share may come again, in seconds.
const AGAIN_SECONDS: u32 = 5;

type Held = Arc<Mutex<HashMap<Tenant, usize>>>;

/// Cheap to share by reference; one per kind of place and process.
#[derive(Debug)]
pub(crate) struct Shares {
    /// What a place is for, as its refusal says: "event streams".
    what: &'static str,
    places: Arc<Semaphore>,
    places_max: usize,
    share_max: usize,
    held: Held,
}

/// One place; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    tenant: Tenant,
    held: Held,
    _place: OwnedSemaphorePermit,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        if let Some(count) = held.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.tenant);
            }
        }
    }
}

impl Shares {
    /// Half of the places at most for one tenant. Where nobody signs in anybody may name any tenant: then a share would
    /// keep nobody off, and there is none.
    pub(crate) fn new(what: &'static str, places_max: usize, has_credentials: bool) -> Self {
        Self {
            what,
            places: Arc::new(Semaphore::new(places_max)),
            places_max,
            share_max: if has_credentials {
                places_max.div_ceil(2)
            } else {
                places_max
            },
            held: Held::default(),
        }
    }

    /// # Errors
    /// `RateLimited` where the tenant has its share, `Busy` where the process has no place left.
    pub(crate) fn take(&self, tenant: &Tenant) -> Result<Share, Failure> {
        let what = self.what;
        let mut held = lock(&self.held);
        let count = held.get(tenant).copied().unwrap_or_default();
        if count >= self.share_max && self.share_max < self.places_max {
            let detail = format!("{count} {what} of your tenant are open, which is its share of this gateway");
            let mut failure = Failure::new(Code::RateLimited, detail).next("end some of them, or come again later");
            failure.0.retry_after_seconds = Some(AGAIN_SECONDS);
            return Err(failure);
        }
        let busy = |_| Failure::new(Code::Busy, format!("too many {what} are open")).next("come again later");
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(busy)?;
        held.insert(tenant.clone(), count + 1);
        Ok(Share {
            tenant: tenant.clone(),
            held: Arc::clone(&self.held),
            _place: place,
        })
    }

    /// Places that are taken.
    pub(crate) fn taken(&self) -> usize {
        self.places_max.saturating_sub(self.places.available_permits())
    }

    /// Places that a tenant has.
    pub(crate) fn of(&self, tenant: &Tenant) -> usize {
        lock(&self.held).get(tenant).copied().unwrap_or_default()
    }
}

fn lock(held: &Held) -> MutexGuard<'_, HashMap<Tenant, usize>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> Tenant {
        name.parse().unwrap()
    }

    #[test]
    fn one_tenant_leaves_places_for_others() {
        let shares = Shares::new("event streams", 4, true);
        let (greedy, other) = (tenant("greedy"), tenant("other"));
        let mut held = vec![shares.take(&greedy).unwrap(), shares.take(&greedy).unwrap()];
        let Failure(refused) = shares.take(&greedy).unwrap_err();
        assert_eq!(
            (refused.status, refused.retry_after_seconds),
            (429, Some(AGAIN_SECONDS))
        );
        held.push(shares.take(&other).unwrap());
        held.push(shares.take(&other).unwrap());
        let Failure(refused) = shares.take(&tenant("third")).unwrap_err();
        assert!(refused.is(Code::Busy), "{refused}");
        assert_eq!((shares.taken(), shares.of(&greedy)), (4, 2));
        held.remove(0);
        shares.take(&greedy).unwrap();
        drop(held);
        assert_eq!((shares.taken(), shares.of(&greedy)), (0, 0));
        assert!(lock(&shares.held).is_empty(), "nobody is remembered who has nothing");
    }

    #[test]
    fn where_nobody_signs_in_the_process_is_one_tenants() {
        let shares = Shares::new("event streams", 2, false);
        let _held = [shares.take(&tenant("a")).unwrap(), shares.take(&tenant("a")).unwrap()];
        let Failure(refused) = shares.take(&tenant("a")).unwrap_err();
        assert!(refused.is(Code::Busy), "{refused}");
        // A single place cannot be shared.
        let single = Shares::new("event streams", 1, true);
        let _held = single.take(&tenant("a")).unwrap();
        assert!(single.take(&tenant("a")).unwrap_err().0.is(Code::Busy));
    }
}
