//! One loop over a durable consumer: pulls no more than it may work on, keeps what takes long
//! alive, settles by what the handler returns.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use mesh_types::{Code, Problem};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Bus, BusError, ConsumerSpec, Delivery, Puller, Settled};

/// A handler that panics on a message this many times makes it a dead letter.
pub const CONSUME_ATTEMPTS_MAX: u32 = 5;
const WAIT: Duration = Duration::from_secs(20);
const ERROR_PAUSE: Duration = Duration::from_millis(100);
const ERROR_PAUSE_MAX: Duration = Duration::from_secs(5);
const PANIC_PAUSE: Duration = Duration::from_secs(1);
/// A dead letter that could not be stored is tried again with its message.
const DEAD_LETTER_PAUSE: Duration = Duration::from_secs(5);

impl Bus {
    /// Handles a consumer's messages until `shutdown`, at most `max_in_flight` at a time (1: one
    /// after the other, in stream order), then finishes those it has begun. Outlives restarts of
    /// the server. A handler that panics is asked again, at last with a dead letter.
    ///
    /// # Errors
    /// When the consumer cannot be created at the start for another reason than that the server
    /// is not there yet.
    pub async fn consume<H, F>(
        &self,
        consumer: ConsumerSpec,
        shutdown: CancellationToken,
        handler: H,
    ) -> Result<(), BusError>
    where
        H: Fn(Delivery) -> F,
        F: Future<Output = Settled>,
    {
        let mut pause = ERROR_PAUSE;
        let mut puller = loop {
            let error = match self.pull(consumer.clone()).await {
                Ok(puller) => break puller,
                Err(error) if is_passing(&error) => error,
                Err(error) => return Err(error),
            };
            tracing::warn!(%error, durable = consumer.durable, "the consumer is not there yet");
            if shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return Ok(());
            }
            pause = (pause * 2).min(ERROR_PAUSE_MAX);
        };
        let mut running = FuturesUnordered::new();
        let mut trouble = Trouble::default();
        loop {
            let free = consumer.max_in_flight.saturating_sub(running.len());
            // What runs must go on while a pull waits or is in trouble, so both are dropped and
            // taken up again whenever something has run.
            let pulled = trouble.pull(&mut puller, free.min(consumer.batch));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(()) = running.next(), if !running.is_empty() => {}
                batch = pulled, if free > 0 => {
                    let work = batch.into_iter();
                    running.extend(work.map(|one| handle(&handler, one, consumer.ack_wait)));
                }
            }
        }
        while running.next().await.is_some() {}
        puller.close().await;
        Ok(())
    }
}

/// How a loop gets over a consumer that does not answer.
#[derive(Default)]
struct Trouble {
    failures: u32,
    /// Not before it is pulled again, after a repair.
    until: Option<Instant>,
}

impl Trouble {
    async fn pull(&mut self, puller: &mut Puller, max: usize) -> Vec<Delivery> {
        let pulled = if let Some(until) = self.until {
            tokio::time::sleep_until(until).await;
            match puller.repair().await {
                Ok(()) => puller.next_batch(max, WAIT).await,
                Err(error) => Err(error),
            }
        } else {
            puller.next_batch(max, WAIT).await
        };
        match pulled {
            Ok(batch) => {
                *self = Self::default();
                batch
            }
            Err(error) => {
                let pause = ERROR_PAUSE * 2_u32.pow(self.failures.min(8));
                tracing::warn!(%error, failures = self.failures, "a consumer does not deliver");
                self.failures += 1;
                self.until = Some(Instant::now() + pause.min(ERROR_PAUSE_MAX));
                Vec::new()
            }
        }
    }
}

/// JetStream may still be starting, or the topology not yet be applied.
fn is_passing(error: &BusError) -> bool {
    match error {
        BusError::Refused { code, .. } => matches!(code, 503 | 10_008 | 10_023 | 10_039 | 10_059),
        error => error.is_transient(),
    }
}

async fn handle<H, F>(handler: &H, delivery: Delivery, ack_wait: Duration)
where
    H: Fn(Delivery) -> F,
    F: Future<Output = Settled>,
{
    let handled = async { handler(delivery.clone()).await };
    let mut handled = pin!(AssertUnwindSafe(handled).catch_unwind());
    let settled = loop {
        match tokio::time::timeout(ack_wait / 3, &mut handled).await {
            Ok(Ok(settled)) => break settled,
            Ok(Err(panic)) => break after_panic(&delivery, panic.as_ref()),
            Err(_) => {
                if let Err(error) = delivery.in_progress().await {
                    tracing::warn!(%error, "a message in work may be delivered again");
                }
            }
        }
    };
    let is_dead = matches!(settled, Settled::Dead(_));
    let Err(error) = delivery.settle(settled).await else {
        return;
    };
    tracing::warn!(%error, subject = delivery.subject, "a message will be delivered again");
    if is_dead {
        // If this is lost too, the message comes again after the consumer's patience.
        let _ = delivery.settle(Settled::RetryIn(DEAD_LETTER_PAUSE)).await;
    }
}

fn after_panic(delivery: &Delivery, panic: &(dyn std::any::Any + Send)) -> Settled {
    let text = panic_text(panic);
    tracing::error!(
        panic = text,
        subject = delivery.subject,
        delivered = delivery.delivered,
        "a handler of a message panicked"
    );
    if delivery.delivered < CONSUME_ATTEMPTS_MAX {
        return Settled::RetryIn(PANIC_PAUSE * delivery.delivered);
    }
    let detail = format!("handling it failed {} times, at last with: {text}", delivery.delivered);
    Settled::Dead(Problem::new(Code::Internal, detail))
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text")
}
