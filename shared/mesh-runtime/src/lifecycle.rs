//! The life of a process: the first signal drains, the second or the deadline aborts.

use std::pin::pin;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub use crate::supervise::{Restart, SuperviseError, supervise};

/// Which request to stop arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Interrupt,
    Terminate,
}

/// How a process's body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<T> {
    /// By itself, or in time after it was told to stop.
    Ended(T),
    /// Dropped at the deadline, or at the second signal.
    Aborted(Abort),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    Deadline,
    SecondSignal,
}

/// SIGINT and SIGTERM as they come. Install before anything slow, so that no signal kills the process.
pub fn signals() -> std::io::Result<BoxStream<'static, Signal>> {
    let interrupt = signal(SignalKind::interrupt())?;
    let terminate = signal(SignalKind::terminate())?;
    let each = |kind, source| {
        futures::stream::unfold(source, move |mut source: tokio::signal::unix::Signal| async move {
            source.recv().await.map(|()| (kind, source))
        })
    };
    let both = futures::stream::select(
        each(Signal::Interrupt, interrupt).boxed(),
        each(Signal::Terminate, terminate).boxed(),
    );
    Ok(both.boxed())
}

/// Runs `body`. The first signal, or somebody else, cancels `shutdown`; from then on `body` has
/// `deadline` to end. Past it, or at a second signal, it is dropped.
pub async fn run_until_stopped<F: Future>(
    shutdown: CancellationToken,
    deadline: Duration,
    signals: impl Stream<Item = Signal> + Unpin,
    body: F,
) -> Outcome<F::Output> {
    let mut body = pin!(body);
    // A stream that ends says nothing more; it must not look like a signal.
    let mut signals = signals.chain(futures::stream::pending());
    tokio::select! {
        ended = &mut body => return Outcome::Ended(ended),
        () = shutdown.cancelled() => {}
        signal = signals.next() => {
            tracing::info!(?signal, deadline_ms = deadline.as_millis() as u64, "stopping; a second signal aborts");
            shutdown.cancel();
        }
    }
    tokio::select! {
        // Checked in order: what has ended in time is never called aborted.
        biased;
        ended = &mut body => Outcome::Ended(ended),
        _ = signals.next() => {
            tracing::warn!("a second signal: aborted without draining");
            Outcome::Aborted(Abort::SecondSignal)
        }
        () = tokio::time::sleep(deadline) => {
            tracing::warn!("not drained by the deadline: aborted");
            Outcome::Aborted(Abort::Deadline)
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn channel() -> (mpsc::UnboundedSender<Signal>, BoxStream<'static, Signal>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let stream = futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|signal| (signal, receiver))
        });
        (sender, stream.boxed())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_signal_drains() {
        let shutdown = CancellationToken::new();
        let (sender, signals) = channel();
        let told = shutdown.clone();
        let body = async move {
            told.cancelled().await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            "drained"
        };
        sender.send(Signal::Terminate).unwrap();
        let outcome = run_until_stopped(shutdown, DEADLINE, signals, body).await;
        assert_eq!(outcome, Outcome::Ended("drained"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_aborts_what_does_not_drain() {
        let (sender, signals) = channel();
        sender.send(Signal::Interrupt).unwrap();
        let started = Instant::now();
        let body = std::future::pending::<()>();
        let outcome = run_until_stopped(CancellationToken::new(), DEADLINE, signals, body).await;
        assert_eq!(outcome, Outcome::Aborted(Abort::Deadline));
        assert_eq!(started.elapsed(), DEADLINE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_aborts_at_once() {
        let shutdown = CancellationToken::new();
        let (sender, signals) = channel();
        let told = shutdown.clone();
        let again = async move {
            sender.send(Signal::Interrupt).unwrap();
            told.cancelled().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            sender.send(Signal::Interrupt).unwrap();
        };
        let started = Instant::now();
        let body = std::future::pending::<()>();
        let (outcome, ()) = tokio::join!(run_until_stopped(shutdown, DEADLINE, signals, body), again);
        assert_eq!(outcome, Outcome::Aborted(Abort::SecondSignal));
        assert_eq!(started.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_from_inside_has_the_same_deadline() {
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        let (_sender, signals) = channel();
        let body = std::future::pending::<()>();
        let outcome = run_until_stopped(shutdown, DEADLINE, signals, body).await;
        assert_eq!(outcome, Outcome::Aborted(Abort::Deadline));
    }

    #[tokio::test(start_paused = true)]
    async fn signals_that_end_are_no_signal() {
        let body = tokio::time::sleep(Duration::from_secs(60));
        let none = futures::stream::empty();
        let outcome = run_until_stopped(CancellationToken::new(), DEADLINE, none, body).await;
        assert_eq!(outcome, Outcome::Ended(()));
    }
}
