//! What the handlers of the service share.

use mesh_runtime::Context;

use crate::config::Config;
use crate::providers::Providers;

pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) context: Context,
    pub(crate) providers: Providers,
}
