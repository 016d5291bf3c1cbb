//! Keeps one server of this machine running: a thread starts it, starts it again when it dies, and stops it at the end.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mesh_servers::{NatsServer, Postgres, ServersError};
use tokio::sync::oneshot;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Pause before the first restart; it doubles up to the most.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long the end waits for a server that runs, and for one that is still being fetched or started: the next start
/// stops what stayed.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
const START_PATIENCE: Duration = Duration::from_secs(5);
const END_POLL: Duration = Duration::from_millis(5);
/// A run this long is forgiven what was before it.
const STEADY: Duration = Duration::from_secs(60);

/// What a keeper can do with its server.
pub(super) trait Kept: Send + 'static {
    const NAME: &'static str;
    /// How it ended, if it has.
    fn ended(&mut self) -> Option<String>;
    fn restart(&mut self) -> Result<(), ServersError>;
    fn stop(&mut self) -> Result<(), ServersError>;
}

macro_rules! kept {
    ($server:ty, $name:literal) => {
        impl Kept for $server {
            const NAME: &'static str = $name;

            fn ended(&mut self) -> Option<String> {
                self.exit()
            }

            fn restart(&mut self) -> Result<(), ServersError> {
                Self::restart(self)
            }

            fn stop(&mut self) -> Result<(), ServersError> {
                Self::stop(self)
            }
        }
    };
}

kept!(Postgres, "PostgreSQL");
kept!(NatsServer, "nats-server");

/// A running server's keeper. Dropping it stops the server and waits for that.
#[derive(Debug)]
pub(super) struct Keeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    is_started: bool,
}

impl Keeper {
    /// Starts a server by `start` on a thread of its own and answers what `facts` reads from it.
    pub(super) async fn start<S, T>(
        start: impl FnOnce() -> Result<S, ServersError> + Send + 'static,
        facts: impl FnOnce(&S) -> T + Send + 'static,
    ) -> anyhow::Result<(Self, T)>
    where
        S: Kept,
        T: Send + 'static,
    {
        let (stop, stopped) = channel();
        let (started, answer) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name(format!("keep {}", S::NAME))
            .spawn(move || {
                let mut server = match start() {
                    Ok(server) => server,
                    // Who asked may be gone; there is nothing to stop.
                    Err(error) => return drop(started.send(Err(error))),
                };
                let facts = facts(&server);
                // If nobody listens any more the channel of the stop is closed, too.
                let _ = started.send(Ok(facts));
                keep(&mut server, &stopped);
            })?;
        let mut keeper = Self {
            stop: Some(stop),
            thread: Some(thread),
            is_started: false,
        };
        let facts = answer.await??;
        keeper.is_started = true;
        Ok((keeper, facts))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        let Some(thread) = self.thread.take() else {
            return;
        };
        let patience = if self.is_started { STOP_PATIENCE } else { START_PATIENCE };
        let deadline = Instant::now() + patience;
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(END_POLL);
        }
        if thread.is_finished() && thread.join().is_err() {
            tracing::error!("the keeper of a server panicked");
        }
    }
}

fn keep<S: Kept>(server: &mut S, stopped: &Receiver<()>) {
    let mut since = Instant::now();
    let mut pause = PAUSE_MIN;
    let mut wait = LOOK_EVERY;
    while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        wait = LOOK_EVERY;
        let Some(ended) = server.ended() else {
            continue;
        };
        if since.elapsed() >= STEADY {
            pause = PAUSE_MIN;
        }
        tracing::error!(
            server = S::NAME,
            ended,
            restart_in_ms = pause.as_millis() as u64,
            "a server ended; it is restarted"
        );
        if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            break;
        }
        pause = (pause * 2).min(PAUSE_MAX);
        since = Instant::now();
        match server.restart() {
            Ok(()) => tracing::warn!(server = S::NAME, "the server runs again"),
            Err(error) => {
                tracing::error!(server = S::NAME, %error, "the server could not be restarted");
                wait = pause;
            }
        }
    }
    if let Err(error) = server.stop() {
        tracing::error!(server = S::NAME, %error, "the server could not be stopped");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Fake(Arc<Mutex<Log>>);

    #[derive(Default)]
    struct Log {
        is_dead: bool,
        restarts: u32,
        stops: u32,
    }

    impl Kept for Fake {
        const NAME: &'static str = "fake";

        fn ended(&mut self) -> Option<String> {
            self.0.lock().unwrap().is_dead.then(|| "killed".to_owned())
        }

        fn restart(&mut self) -> Result<(), ServersError> {
            let mut log = self.0.lock().unwrap();
            log.restarts += 1;
            log.is_dead = false;
            Ok(())
        }

        fn stop(&mut self) -> Result<(), ServersError> {
            self.0.lock().unwrap().stops += 1;
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_server_that_dies_is_restarted_and_stopped_at_the_end() {
        let fake = Fake::default();
        let given = fake.clone();
        let (keeper, facts) = Keeper::start(move || Ok(given), |_| 7).await.unwrap();
        assert_eq!(facts, 7);
        fake.0.lock().unwrap().is_dead = true;
        let deadline = Instant::now() + Duration::from_secs(10);
        while fake.0.lock().unwrap().restarts == 0 {
            assert!(Instant::now() < deadline, "it was not restarted");
            std::thread::yield_now();
        }
        drop(keeper);
        assert_eq!(fake.0.lock().unwrap().stops, 1);
    }

    #[tokio::test]
    async fn a_server_that_does_not_start_is_an_error() {
        let start = || {
            Err(ServersError::WillNotStop {
                pid: 1,
                what: "x".to_owned(),
            })
        };
        assert!(Keeper::start::<Fake, ()>(start, |_| ()).await.is_err());
    }
}
