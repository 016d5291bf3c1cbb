//! What the handlers of the service share.

use std::sync::Arc;

use mesh_runtime::Context;
use mesh_types::{EventId, Id};

use crate::cache::Cache;
use crate::calls::Calls;
use crate::config::Config;
use crate::governor::Governor;
use crate::providers::Providers;
use crate::usage::Publisher;

pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) context: Context,
    pub(crate) providers: Providers,
    pub(crate) calls: Arc<Calls>,
    pub(crate) governor: Governor,
    pub(crate) usage: Publisher,
    pub(crate) cache: Cache,
}

impl State {
    /// Randomness for pauses.
    pub(crate) fn seed(&self) -> u64 {
        let id: EventId = self.context.ids.next();
        // The low 80 bits of an id are random.
        u64::try_from(id.as_u128() & u128::from(u64::MAX)).unwrap_or_default()
    }
}
