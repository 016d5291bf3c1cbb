//! What every service stands on: configuration, telemetry, life cycle, loops, health, problems over HTTP.
//! No SQL and no NATS here: the bus comes in as a value, probes of databases as closures.

pub mod blocking;
pub mod config;
pub mod context;
pub mod doorbell;
pub mod failpoint;
pub mod health;
pub mod lifecycle;
pub mod loops;
pub mod metrics;
pub mod ops;
pub mod planted;
pub mod problem;
mod road_figures;
pub mod roads;
pub mod supervise;
pub mod tasks;
pub mod telemetry;
pub mod tickets;

pub use blocking::{Blocking, BlockingError};
pub use config::{ConfigError, DatabaseConfig, Loader, Secret, Validate};
pub use context::Context;
pub use doorbell::{Doorbell, Rung};
pub use health::{Health, HealthReport, Probe};
pub use loops::{LoopStatus, Loops, PassReport, run_loop};
pub use metrics::{MetricName, Metrics};
pub use problem::ProblemResponse;
pub use roads::{Roads, claim_over};
pub use supervise::{Restart, supervise};
pub use tasks::Tasks;
pub use tickets::{TicketSigner, TicketVerifier};
