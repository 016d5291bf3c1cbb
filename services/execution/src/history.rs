//! Whether the database is as new as what JOURNAL has seen of it (EXECUTION.md §4). After a restore or an asynchronous
//! failover it is older: committed work is missing, so nothing is served until an operator says so.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use mesh_bus::{Bus, BusError, StreamName};
use mesh_types::{Code, Problem, Subject};
use sqlx::PgPool;

use crate::relay::{FEED, Marks, TO_BATCH};
use crate::shards::ShardId;
use crate::store::shards::{self, ShardRow};

/// The steward beats meanwhile for nobody: far below the silence after which shards are taken over.
const MARK_DEADLINE: Duration = Duration::from_secs(1);

pub(crate) struct History {
    pub(crate) bus: Bus,
    pub(crate) pool: PgPool,
    pub(crate) marks: Arc<Marks>,
    /// An operator has said that the older database is meant.
    pub(crate) accepts_older: bool,
}

#[derive(Debug)]
pub(crate) enum Verdict {
    /// Serve, and mark what is relayed with this feed id.
    Serve(Arc<str>),
    /// JOURNAL is not to be asked now: look again.
    Unknown(String),
    WentBack(Problem),
}

impl History {
    /// Judges the shards that are about to be taken.
    pub(crate) async fn judge(&self, rows: &[ShardRow]) -> Result<Verdict, sqlx::Error> {
        let feed_id = shards::feed_id(&self.pool).await?;
        let asked = join_all(rows.iter().map(|row| self.seen(row.id.cast_unsigned(), &feed_id)));
        let marks = match tokio::time::timeout(MARK_DEADLINE, asked).await {
            Ok(marks) => marks,
            Err(_) => return Ok(Verdict::Unknown("no answer in time".into())),
        };
        let mut suspects = Vec::new();
        for (row, mark) in rows.iter().zip(marks) {
            match mark {
                Ok(mark) if mark > row.batch => suspects.push((row.id, mark)),
                Ok(_) => {}
                Err(error) => return Ok(Verdict::Unknown(error.to_string())),
            }
        }
        if suspects.is_empty() {
            return Ok(Verdict::Serve(feed_id.into()));
        }
        // The rows were read before the marks: whoever is not as silent as it seemed has committed in between.
        let ids: Vec<i16> = suspects.iter().map(|(id, _)| *id).collect();
        let fresh = shards::some(&self.pool, &ids).await?;
        let behind = suspects.iter().find_map(|(id, mark)| {
            let row = fresh.iter().find(|row| row.id == *id)?;
            (row.batch < *mark).then_some((*id, row.batch, *mark))
        });
        let Some((shard, batch, mark)) = behind else {
            return Ok(Verdict::Serve(feed_id.into()));
        };
        let found = format!("shard {shard} is at batch {batch}, but batch {mark} of it was committed and relayed");
        if self.accepts_older {
            let feed_id = shards::new_feed(&self.pool, &feed_id).await?;
            tracing::warn!(%found, %feed_id, "an older database is accepted, as execution.accept_older_database says; a new feed starts");
            return Ok(Verdict::Serve(feed_id.into()));
        }
        Ok(Verdict::WentBack(went_back(&found)))
    }

    /// Highest batch of the shard that JOURNAL, or this very process, has seen of this feed; 0 for none.
    async fn seen(&self, shard: ShardId, feed_id: &str) -> Result<i64, BusError> {
        let message = self
            .bus
            .last_message(StreamName::Journal, &Subject::JournalMark { shard })
            .await?;
        let marked = message
            .filter(|message| message.headers.get(FEED) == Some(feed_id))
            .and_then(|message| message.headers.get(TO_BATCH)?.parse().ok())
            .unwrap_or(0);
        Ok(self.marks.get(shard).max(marked))
    }
}

fn went_back(found: &str) -> Problem {
    Problem::new(
        Code::DatabaseWentBack,
        format!("the database went back in time: {found}"),
    )
    .next(
        "restore the newest backup or standby; to go on with this database, start with \
         MESH_EXECUTION__ACCEPT_OLDER_DATABASE=true once",
    )
}
