//! The statistics of PostgreSQL, as far as any role may read them: nothing is granted for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_runtime::metrics::Told;
use mesh_runtime::{Context, MetricName};
use sqlx::PgPool;

use super::{EVERY, Said};
use crate::store::statistics::{self, OfDatabase, OfSchema};

const DEADLINE: Duration = Duration::from_secs(5);
/// Sizes are read from the file system: once in so many looks.
const SIZES_EVERY: u32 = 4;

#[derive(Default)]
struct Seen {
    /// `None`: not looked at yet.
    up: Option<bool>,
    database: Option<OfDatabase>,
    dead: Vec<OfSchema>,
    sizes: Vec<OfSchema>,
}

pub(super) async fn watch(context: Context, pool: PgPool) {
    let seen: Arc<Mutex<Seen>> = Arc::default();
    observe(&context, &seen);
    let mut said = Said::default();
    let mut looks = 0_u32;
    loop {
        let with_sizes = looks.is_multiple_of(SIZES_EVERY);
        let looked = tokio::select! {
            () = context.shutdown.cancelled() => return,
            looked = tokio::time::timeout(DEADLINE, look(&pool, with_sizes)) => looked,
        };
        let error = {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let error = match looked {
                Ok(Ok(found)) => {
                    let sizes = std::mem::take(&mut seen.sizes);
                    *seen = found;
                    if !with_sizes {
                        seen.sizes = sizes;
                    }
                    None
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("no answer within {} s", DEADLINE.as_secs())),
            };
            if error.is_some() {
                // What it was before says nothing of now.
                *seen = Seen {
                    up: Some(false),
                    ..Seen::default()
                };
            }
            error
        };
        // After a failure the sizes are read again at once.
        looks = if error.is_some() { 0 } else { looks.wrapping_add(1) };
        said.say("PostgreSQL", error);
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn look(pool: &PgPool, with_sizes: bool) -> Result<Seen, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let sizes = if with_sizes {
        statistics::sizes(&mut connection).await?
    } else {
        Vec::new()
    };
    Ok(Seen {
        up: Some(true),
        database: Some(statistics::database(&mut connection).await?),
        dead: statistics::dead_tuples(&mut connection).await?,
        sizes,
    })
}

fn observe(context: &Context, seen: &Arc<Mutex<Seen>>) {
    let read = |name: MetricName, read: fn(&Seen, &mut Told<'_>)| {
        let seen = Arc::downgrade(seen);
        context.metrics.observe(name, move |told| {
            if let Some(seen) = seen.upgrade() {
                read(&seen.lock().unwrap_or_else(PoisonError::into_inner), told);
            }
        });
    };
    read(MetricName::PostgresUp, |seen, told| {
        seen.up.into_iter().for_each(|up| told.tell(i64::from(up), &[]));
    });
    read(MetricName::PostgresConnections, |seen, told| {
        of(seen, told, |of| of.connections)
    });
    read(MetricName::PostgresConnectionsMax, |seen, told| {
        of(seen, told, |of| of.connections_max)
    });
    read(MetricName::PostgresDeadlocks, |seen, told| {
        of(seen, told, |of| of.deadlocks)
    });
    read(MetricName::PostgresTransactions, |seen, told| {
        if let Some(of) = &seen.database {
            told.tell(of.committed, &[("outcome", "committed")]);
            told.tell(of.rolled_back, &[("outcome", "rolled_back")]);
        }
    });
    read(MetricName::PostgresCacheHits, |seen, told| {
        if let Some(of) = &seen.database {
            told.tell(of.blocks_cached, &[("from", "cache")]);
            told.tell(of.blocks_read, &[("from", "disk")]);
        }
    });
    read(MetricName::PostgresDeadTuples, |seen, told| {
        schemas(&seen.dead, told);
    });
    read(MetricName::PostgresSize, |seen, told| {
        schemas(&seen.sizes, told);
        if let Some(of) = &seen.database {
            told.tell(of.bytes, &[("schema", "all")]);
        }
    });
}

fn of(seen: &Seen, told: &mut Told<'_>, figure: fn(&OfDatabase) -> i64) {
    if let Some(of) = &seen.database {
        told.tell(figure(of), &[]);
    }
}

fn schemas(figures: &[OfSchema], told: &mut Told<'_>) {
    for one in figures {
        told.tell(one.count, &[("schema", &one.schema)]);
    }
}
