//! Giving shards away, settled: to a process with less than its share, or to nobody at a shutdown; and asking for one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use mesh_runtime::fail_point;
use mesh_types::Subject;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::plan::plan_ask;
use super::{HandOver, Steward, TICK};
use crate::lane::command::Command;
use crate::shards::ShardId;
use crate::store::shards::{self, ShardRow};

const RELEASE_DEADLINE: Duration = Duration::from_secs(5);
/// What a settled shard waits for its relay, so that the next owner repeats little.
const RELAY_WAIT: Duration = Duration::from_millis(500);
const RELAY_POLL: Duration = Duration::from_millis(5);

impl Steward {
    /// With less than its share, asks the owner of most for one; in a task, as our beats must not wait for it.
    pub(super) fn ask_for_share(&self, rows: &[ShardRow]) {
        let Some(from) = plan_ask(&self.instance, rows) else {
            return;
        };
        let Ok(subject) = hand_over_subject(&from) else {
            return;
        };
        let asking = Arc::clone(&self.memory.asking);
        if asking.swap(true, Ordering::AcqRel) {
            return;
        }
        let (context, directory) = (self.context.clone(), Arc::clone(&self.directory));
        let request = crate::bus::HandOverRequest {
            to: self.instance.to_string(),
        };
        self.context.tasks.spawn("ask", async move {
            let caller = context.caller(mesh_types::Tenant::default());
            let asked = context
                .bus
                .call_at::<crate::bus::HandOverShard>(&subject, &caller, &request, RELEASE_DEADLINE);
            let answered = asked.await;
            asking.store(false, Ordering::Release);
            match answered {
                Ok(reply) if reply.done => directory.ring(),
                Ok(_) => {}
                Err(problem) => tracing::debug!(%problem, %from, "no shard was handed over"),
            }
        });
    }

    pub(super) async fn hand_one_over(&mut self, asked: HandOver) {
        let done = match self.memory.held.keys().copied().max() {
            Some(shard) => self.hand_over(vec![shard], &asked.to).await,
            None => false,
        };
        // Whoever asked may be gone; the table tells the next reader.
        let _ = asked.answer.send(done);
    }

    pub(super) async fn release_all(&mut self) {
        let shards: Vec<ShardId> = self.memory.held.keys().copied().collect();
        if !shards.is_empty() {
            self.hand_over(shards, "").await;
        }
    }

    /// Settles the shards, then writes the new owner under the next epoch. The other shards keep beating meanwhile.
    async fn hand_over(&mut self, mut shards: Vec<ShardId>, to: &str) -> bool {
        shards.sort_unstable();
        let mut epochs = Vec::with_capacity(shards.len());
        let mut settling = Vec::with_capacity(shards.len());
        for shard in &shards {
            epochs.push(self.memory.held.remove(shard).unwrap_or_default());
            self.directory.let_go(*shard);
            settling.push(self.release(*shard));
        }
        let ids: Vec<i16> = shards.iter().map(|shard| shard.cast_signed()).collect();
        let marks = Arc::clone(&self.marks);
        let settled = async move {
            let batches = join_all(settling).await;
            let relayed = async {
                for (shard, batch) in shards.iter().zip(&batches) {
                    let Ok(Some(batch)) = batch else { continue };
                    while marks.get(*shard) < *batch {
                        tokio::time::sleep(RELAY_POLL).await;
                    }
                }
            };
            // What is not relayed by then, the next owner relays.
            let _ = tokio::time::timeout(RELAY_WAIT, relayed).await;
            shards.iter().map(|shard| marks.get(*shard)).collect::<Vec<i64>>()
        };
        let Some(relayed) = self.beating(settled).await else {
            tracing::warn!(
                ?ids,
                "the lanes have not settled in time; whoever follows fences them out"
            );
            return false;
        };
        fail_point!(async "execution.hand_over.before");
        let handed = shards::hand_over(&self.pool, &ids, &epochs, &relayed, to).await;
        fail_point!(async "execution.hand_over.after");
        match handed {
            Ok(done) => done.len() == ids.len(),
            Err(error) => {
                tracing::warn!(%error, ?ids, "shards are not handed over; they will be taken over");
                false
            }
        }
    }

    /// Waits for at most [`RELEASE_DEADLINE`], and goes on beating.
    async fn beating<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let until = Instant::now() + RELEASE_DEADLINE;
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                () = tokio::time::sleep_until(until) => return None,
                () = tokio::time::sleep(TICK) => {}
            }
            if let Err(error) = self.beat().await {
                tracing::warn!(%error, "the beat is late");
            }
        }
    }

    /// Tells the lane to settle and forget; answers the last committed batch, or `None` if the lane does not hold it.
    pub(super) fn release(&self, shard: ShardId) -> oneshot::Receiver<Option<i64>> {
        let (settled, settles) = oneshot::channel();
        // Without its lane nothing is to be settled: the receiver hears that.
        let _ = self.lane(shard).send(Command::Release { shard, settled });
        settles
    }
}

fn hand_over_subject(instance: &str) -> Result<Subject, mesh_types::NameError> {
    Ok(Subject::Execution {
        instance: instance.parse()?,
        command: "hand-over".parse()?,
    })
}
