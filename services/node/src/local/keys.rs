//! What opens the node's page: a local key in development mode; else what the node joined with, or any API key of its
//! owner. The mesh is asked whether they are still good, and believed for a short while.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_api::identity::PrincipalKind;
use mesh_runtime::{Context, Secret};
use mesh_types::{Clock, Code, Problem, Timestamp};

use super::sessions::{Hash, hash, random_secret};
use super::settings::{Access, Settings};
use crate::identity::write_synced;
use crate::models::Centre;

/// Below the node's state folder: this start's key, readable by its user alone.
const LOCAL_KEY_FILE: &str = "local-key";
/// Below the node's state folder: SHA-256 of what it joined with, in hexadecimal digits, and when the mesh last took it,
/// in milliseconds since 1970; 0 where it does not take it any more.
const JOINED_FILE: &str = "joined-with";
const API_KEY: &str = "mak_";
/// How long an answer of the mesh about a key is believed, so that a revoked one is out soon.
const BELIEVED: Duration = Duration::from_secs(10);
/// And how long, while the mesh cannot be asked.
const BELIEVED_ALONE: Duration = Duration::from_secs(3600);
/// The same for what the node joined with: a node that starts without a mesh shows its page.
const JOINED_BELIEVED_ALONE: Duration = Duration::from_secs(86_400);
/// What the mesh says of it is kept at most so often.
const JOINED_KEPT_EVERY: Duration = Duration::from_secs(600);
const KNOWN_MAX: usize = 64;
/// Keys that the mesh refuses, within [`REFUSALS_WINDOW`]; then it is not asked for a while.
const REFUSALS_MAX: usize = 10;
const REFUSALS_WINDOW: Duration = Duration::from_secs(60);
/// What the owner does where nothing else opens, such as after a day without a mesh or the end of a join token.
const OWNERS_KEY: &str = "use an API key of the node's owner: `mesh keys create` makes one";
/// Longer is no key.
const KEY_BYTES_MAX: usize = 512;

/// A key that opened, to be looked at again.
#[derive(Debug, Clone)]
pub(super) enum Key {
    /// Compared here.
    Own(Hash),
    /// Known to the mesh.
    OfMesh(Secret<String>),
}

/// What the node joined with, at this start or an earlier one.
#[derive(Debug, Clone, Copy)]
struct Joined {
    hash: Hash,
    /// When the mesh took it last; [`Timestamp::EPOCH`] where it does not any more.
    good_at: Timestamp,
}

pub(super) struct Keys {
    centre: Arc<dyn Centre>,
    /// In development mode.
    local: Option<Secret<String>>,
    joined: Mutex<Option<Joined>>,
    folder: PathBuf,
    known: Mutex<Known>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Known {
    /// When the mesh said yes, by the monotonic clock.
    good: HashMap<Hash, Duration>,
    refused: Vec<Duration>,
}

impl Keys {
    pub(super) async fn new(
        folder: &Path,
        settings: &dyn Settings,
        centre: Arc<dyn Centre>,
        context: &Context,
    ) -> Self {
        let (mut local, mut joined) = (None, None);
        match settings.access() {
            Access::Development => {
                let key = Secret::new(format!("mlk_{}", random_secret(context)));
                keep(folder, LOCAL_KEY_FILE, key.expose().clone()).await;
                local = Some(key);
            }
            // An API key is the mesh's to judge, also when it was what the node joined with: it may be revoked.
            Access::Owned {
                joined_with: Some(key), ..
            } if !key.expose().starts_with(API_KEY) => {
                let fresh = Joined {
                    hash: hash(key.expose()),
                    good_at: context.clock.now(),
                };
                keep(folder, JOINED_FILE, fresh.text()).await;
                joined = Some(fresh);
            }
            Access::Owned { .. } => joined = kept(folder).await,
        }
        Self {
            centre,
            local,
            joined: Mutex::new(joined),
            folder: folder.to_owned(),
            known: Mutex::default(),
            clock: Arc::clone(&context.clock),
        }
    }

    /// A link that signs in; none where nobody but the owner may. The key is behind the `#`, which no browser sends.
    pub(super) fn link(&self, address: SocketAddr) -> Option<String> {
        let key = self.local.as_ref()?;
        Some(format!("http://{address}/#key={}", key.expose()))
    }

    /// Whether it is one of this node's keys.
    ///
    /// # Errors
    /// It is none, or nobody can tell now.
    pub(super) async fn opens(&self, text: &str, settings: &dyn Settings) -> Result<Key, Problem> {
        if text.is_empty() || text.len() > KEY_BYTES_MAX {
            return Err(refused());
        }
        let hashed = hash(text);
        if self.is_own(&hashed) {
            return Ok(Key::Own(hashed));
        }
        match settings.access() {
            Access::Development => Err(refused().next(
                "use the link that the node printed at its start, or the key in `local-key` of its state folder",
            )),
            Access::Owned { .. } => {
                let key = Secret::new(text.to_owned());
                self.ask(&key, settings).await?;
                Ok(Key::OfMesh(key))
            }
        }
    }

    /// Whether a key that opened before still does.
    ///
    /// # Errors
    /// As [`Keys::opens`].
    pub(super) async fn still_opens(&self, key: &Key, settings: &dyn Settings) -> Result<(), Problem> {
        match key {
            Key::Own(hash) if self.is_own(hash) => Ok(()),
            Key::Own(_) => Err(refused()),
            Key::OfMesh(key) => self.ask(key, settings).await,
        }
    }

    fn is_own(&self, hashed: &Hash) -> bool {
        self.local.as_ref().is_some_and(|key| hash(key.expose()) == *hashed)
    }

    async fn ask(&self, key: &Secret<String>, settings: &dyn Settings) -> Result<(), Problem> {
        let hashed = hash(key.expose());
        let now = self.clock.monotonic();
        let age = self.lock().good.get(&hashed).map(|at| now.saturating_sub(*at));
        if age.is_some_and(|age| age < BELIEVED) {
            return Ok(());
        }
        let joined = self.joined().filter(|joined| joined.hash == hashed);
        let joined_age = joined
            .filter(|joined| joined.good_at > Timestamp::EPOCH)
            .map(|joined| self.clock.now().since(joined.good_at));
        if age.is_none() && joined_age.is_none() {
            self.may_ask(now)?;
        }
        let verdict = match self.centre.verify(key).await {
            Ok(principal) => match settings.access() {
                // Whose it is was the mesh's word when it let the node in.
                Access::Owned { .. } if principal.kind == PrincipalKind::JoinToken && joined.is_some() => Ok(()),
                Access::Owned { owner, tenant, .. }
                    if principal.kind == PrincipalKind::Key
                        && principal.owner == owner
                        && principal.tenant == tenant =>
                {
                    Ok(())
                }
                _ => Err(refused().next(OWNERS_KEY)),
            },
            Err(problem) if problem.is(Code::Unauthorized) || problem.is(Code::Forbidden) => {
                Err(refused().next(OWNERS_KEY))
            }
            Err(_) if age.is_some_and(|age| age < BELIEVED_ALONE) => return Ok(()),
            Err(_) if joined_age.is_some_and(|age| age < JOINED_BELIEVED_ALONE) => return Ok(()),
            Err(problem) => {
                let detail = format!("the mesh cannot be asked about that key: {}", problem.detail);
                return Err(Problem::new(Code::Unavailable, detail).next("try again when the mesh answers"));
            }
        };
        self.note(hashed, now, verdict.is_ok());
        if let Some(joined) = joined {
            self.note_joined(joined, verdict.is_ok()).await;
        }
        verdict
    }

    fn note(&self, hashed: Hash, now: Duration, is_good: bool) {
        let mut known = self.lock();
        if !is_good {
            known.good.remove(&hashed);
            known.refused.push(now);
            return;
        }
        if known.good.len() >= KNOWN_MAX {
            known.good.clear();
        }
        known.good.insert(hashed, now);
    }

    /// What the mesh says of what the node joined with counts over a start.
    async fn note_joined(&self, joined: Joined, is_good: bool) {
        let good_at = if is_good { self.clock.now() } else { Timestamp::EPOCH };
        let is_known = joined.good_at == good_at || is_good && good_at.since(joined.good_at) < JOINED_KEPT_EVERY;
        if is_known {
            return;
        }
        let joined = Joined { good_at, ..joined };
        *self.joined.lock().unwrap_or_else(PoisonError::into_inner) = Some(joined);
        keep(&self.folder, JOINED_FILE, joined.text()).await;
    }

    fn joined(&self) -> Option<Joined> {
        *self.joined.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever tries keys is not passed on to the mesh for ever.
    fn may_ask(&self, now: Duration) -> Result<(), Problem> {
        let mut known = self.lock();
        known.refused.retain(|at| now.saturating_sub(*at) < REFUSALS_WINDOW);
        let Some(oldest) = known.refused.first().filter(|_| known.refused.len() >= REFUSALS_MAX) else {
            return Ok(());
        };
        let left = REFUSALS_WINDOW.saturating_sub(now.saturating_sub(*oldest));
        let mut problem = Problem::new(Code::TooManyAttempts, "too many keys were refused here");
        problem.retry_after_seconds = u32::try_from(left.as_secs() + 1).ok();
        Err(problem)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Joined {
    /// As the file has it.
    fn text(&self) -> String {
        format!("{} {}", hex::encode(self.hash), self.good_at.as_millis())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let hash = hex::decode(words.next()?).ok()?.try_into().ok()?;
        let millis = words.next().and_then(|millis| millis.parse().ok());
        Some(Self {
            hash,
            // An earlier version wrote none: the mesh is asked first.
            good_at: millis.map_or(Timestamp::EPOCH, Timestamp::from_millis),
        })
    }
}

pub(super) fn refused() -> Problem {
    Problem::new(Code::Unauthorized, "that is no key of this node")
}

async fn keep(folder: &Path, name: &'static str, text: String) {
    let folder = folder.to_owned();
    let written = tokio::task::spawn_blocking(move || write_synced(&folder, name, text.as_bytes()));
    let written = written.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    if let Err(error) = written {
        tracing::warn!(%error, file = name, "a key of the node's page is not kept");
    }
}

async fn kept(folder: &Path) -> Option<Joined> {
    let text = tokio::fs::read_to_string(folder.join(JOINED_FILE)).await.ok()?;
    Joined::parse(&text)
}
