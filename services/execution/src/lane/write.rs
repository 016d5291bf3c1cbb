//! Commits a batch and finds out what became of it: written, lost, refused, or sent again until it is known.

use std::time::Duration;

use sqlx::PgConnection;

use super::Lane;
use super::plan::Planned;
use crate::shards::ShardId;
use crate::store::columns::Columns;
use crate::store::feed;
use crate::store::shards::{self, ShardRow};
use crate::store::write::{Fence, write};

/// A statement without an answer for so long is unknown: its connection is dropped and it is sent again.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(12);
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(20);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// What became of a group of decisions.
#[derive(Debug)]
pub(super) enum Written {
    /// Committed, but for the shards that were not ours any more.
    Done { lost: Vec<ShardId> },
    /// The database refuses a value or a key of it, and would again: nothing was written.
    Refused(sqlx::Error),
    /// The lane is stopped before the outcome is known.
    Stopped,
}

/// How an error of the statement is taken.
enum Failure {
    Refused,
    /// Surely not committed: send it again.
    Aborted,
    /// May be committed: send it again, and look.
    Unknown,
}

impl Lane {
    pub(super) async fn commit(&mut self, planned: Vec<Planned>) {
        // Groups still to write, the next one last: a refused group is split until the culprit stands alone.
        let mut groups = vec![planned];
        while let Some(mut group) = groups.pop() {
            // A shard may have been lost by the group before.
            group = self.drop_lost(group);
            if group.is_empty() {
                continue;
            }
            match self.write_group(&group).await {
                Written::Done { lost } => self.apply(group, &lost),
                Written::Refused(error) if group.len() == 1 => self.refuse(group, &error),
                Written::Refused(_) => {
                    let second = group.split_off(group.len() / 2);
                    groups.push(second);
                    groups.push(group);
                }
                Written::Stopped => return,
            }
        }
    }

    async fn write_group(&mut self, group: &[Planned]) -> Written {
        let mut columns = Columns::default();
        for planned in group {
            columns.push(&planned.decision);
        }
        let fences = self.fences(group);
        let at = self.context.clock.now().to_chrono();
        let mut unknown = false;
        let mut pause = RETRY_PAUSE_MIN;
        loop {
            match self.send(&fences, &columns, at).await {
                Ok(standing) => match self.missing(&fences, &standing, unknown).await {
                    Ok(lost) => return Written::Done { lost },
                    Err(error) => tracing::warn!(%error, "shards cannot be read; asking again"),
                },
                Err((Failure::Refused, error)) => return Written::Refused(error),
                Err((Failure::Aborted, error)) => {
                    tracing::warn!(%error, "a batch was aborted; sending it again")
                }
                Err((Failure::Unknown, error)) => {
                    unknown = true;
                    tracing::warn!(%error, "the outcome of a batch is unknown; sending it again");
                }
            }
            self.connection = None;
            tokio::select! {
                () = self.context.stop.cancelled() => return Written::Stopped,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_PAUSE_MAX),
            }
        }
    }

    fn fences(&self, group: &[Planned]) -> Vec<Fence> {
        let mut fences: Vec<Fence> = Vec::new();
        for planned in group {
            let shard = planned.decision.meta.shard;
            let place = fences
                .iter()
                .position(|fence| fence.shard == shard.cast_signed())
                .unwrap_or_else(|| {
                    let owned = self.shards.get(&shard).copied().unwrap_or_default();
                    fences.push(Fence {
                        shard: shard.cast_signed(),
                        epoch: owned.epoch,
                        batch: owned.batch,
                        relayed: self.context.relayed.get(shard),
                        feed: Vec::new(),
                    });
                    fences.len() - 1
                });
            for record in &planned.decision.records {
                feed::pack(&mut fences[place].feed, planned.decision.id(), record.seq);
            }
        }
        // One order in every process: no two batches wait for each other's shards.
        fences.sort_by_key(|fence| fence.shard);
        fences
    }

    async fn send(
        &mut self,
        fences: &[Fence],
        columns: &Columns,
        at: chrono::DateTime<chrono::Utc>,
    ) -> Result<Vec<i16>, (Failure, sqlx::Error)> {
        // No connection: surely nothing was sent.
        let connection = self.connection().await.map_err(|error| (Failure::Aborted, error))?;
        match tokio::time::timeout(STATEMENT_DEADLINE, write(connection, fences, columns, at)).await {
            Ok(Ok(standing)) => Ok(standing),
            Ok(Err(error)) => Err((failure(&error), error)),
            Err(_) => Err((Failure::Unknown, sqlx::Error::PoolTimedOut)),
        }
    }

    /// The shards that are lost. One that was not returned is done if an earlier try of this very batch wrote it.
    async fn missing(
        &mut self,
        fences: &[Fence],
        standing: &[i16],
        unknown: bool,
    ) -> Result<Vec<ShardId>, sqlx::Error> {
        let missing: Vec<&Fence> = fences.iter().filter(|fence| !standing.contains(&fence.shard)).collect();
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<i16> = missing.iter().map(|fence| fence.shard).collect();
        let rows = in_time(shards::some(self.connection().await?, &ids)).await?;
        Ok(missing
            .into_iter()
            .filter(|fence| !(unknown && rows.iter().any(|row| is_written(fence, row))))
            .map(|fence| fence.shard.cast_unsigned())
            .collect())
    }

    /// The lane's own connection, outside of the pool: nobody else's work is ever on it.
    pub(super) async fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        if self.connection.is_none() {
            self.connection = Some(self.context.pool.acquire().await?.detach());
        }
        self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)
    }

    /// Splits off what belongs to shards that are gone; its callers hear that it moved.
    fn drop_lost(&mut self, group: Vec<Planned>) -> Vec<Planned> {
        let (kept, gone): (Vec<_>, Vec<_>) = group
            .into_iter()
            .partition(|planned| self.shards.contains_key(&planned.decision.meta.shard));
        for planned in gone {
            super::apply::answer_moved(planned.then);
        }
        kept
    }
}

/// A read on the lane's connection; without an answer the connection is to be dropped.
pub(super) async fn in_time<T>(read: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    tokio::time::timeout(STATEMENT_DEADLINE, read)
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// Our own batch, committed by a try whose answer was lost.
fn is_written(fence: &Fence, row: &ShardRow) -> bool {
    row.id == fence.shard && row.epoch == fence.epoch && row.batch == fence.batch + 1
}

fn failure(error: &sqlx::Error) -> Failure {
    match error {
        _ if is_data_error(error) => Failure::Refused,
        // The server answered, so the statement, its own transaction, was rolled back. Class 57 may come
        // with a connection that is cut while it commits.
        sqlx::Error::Database(database) => match database.code() {
            Some(code) if !code.starts_with("57") && !code.starts_with("08") => Failure::Aborted,
            _ => Failure::Unknown,
        },
        // Ours, before anything was sent.
        sqlx::Error::Encode(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => Failure::Aborted,
        _ => Failure::Unknown,
    }
}

/// Data exceptions (class 22) and violated constraints (class 23): the same statement would fail again.
pub(super) fn is_data_error(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(database) => database
            .code()
            .is_some_and(|code| code.starts_with("22") || code.starts_with("23")),
        _ => false,
    }
}
