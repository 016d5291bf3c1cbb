//! What the handlers of the service share.

use std::sync::Arc;

use mesh_runtime::Context;

use crate::calls::Calls;
use crate::config::Config;
use crate::providers::Providers;

pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) context: Context,
    pub(crate) providers: Providers,
    pub(crate) calls: Arc<Calls>,
}
