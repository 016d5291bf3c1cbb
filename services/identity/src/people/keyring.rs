//! The keys that sign access tokens: the installation's, in the database, with an overlap when one follows another.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_types::{Code, EventId, Id, Problem, Timestamp};

use super::access::{Claims, Signer, Unverified};
use crate::state::{State, failed, random};
use crate::store::signing_keys::{self as store, Stored};

/// How long a key signs.
const SIGNS: Duration = Duration::from_secs(30 * 86_400);
/// How long it is believed afterwards: longer than any token lives.
const OVERLAP: Duration = Duration::from_secs(2 * 3_600);
/// Keys that are remembered; two are in use.
const KNOWN_MAX: usize = 8;

/// The longest that an access token may live.
pub(crate) const ACCESS_MAX: Duration = Duration::from_secs(3_600);
const _: () = assert!(ACCESS_MAX.as_secs() < OVERLAP.as_secs());

#[derive(Clone)]
struct Known {
    signer: Arc<Signer>,
    signs_until: Timestamp,
    good_until: Timestamp,
}

/// Keys that this process has read.
#[derive(Default)]
pub(crate) struct Keyring {
    known: Mutex<Vec<Known>>,
}

impl Keyring {
    /// # Errors
    /// `Unavailable` while the database cannot be asked for a key.
    pub(crate) async fn sign(&self, state: &State, claims: &Claims) -> Result<String, Problem> {
        let now = state.context.clock.now();
        let ours = self.find(|known| known.signs_until > now);
        let signer = match ours {
            Some(signer) => signer,
            None => self.current(state, now).await?,
        };
        Ok(signer.sign(claims))
    }

    /// The claims of a good token; the inner error says why it is none.
    pub(crate) async fn read(
        &self,
        state: &State,
        token: &Unverified<'_>,
    ) -> Result<Result<Claims, &'static str>, Problem> {
        let now = state.context.clock.now();
        let known = self.find(|known| known.signer.kid == token.kid && known.good_until > now);
        let signer = match known {
            Some(signer) => Some(signer),
            None => {
                let mut tx = state.begin_for_all().await?;
                let stored = store::get(&mut *tx, &token.kid).await.map_err(failed(READING))?;
                match stored.filter(|stored| stored.good_until > now) {
                    Some(stored) => Some(self.remember(&stored)?),
                    None => None,
                }
            }
        };
        Ok(signer.map_or(Err("not signed here"), |signer| {
            signer.read(token, now.as_millis() / 1_000)
        }))
    }

    /// The key that signs now; made when there is none. Two processes may make one each: both are good.
    async fn current(&self, state: &State, now: Timestamp) -> Result<Arc<Signer>, Problem> {
        let mut tx = state.begin_for_all().await?;
        if let Some(stored) = store::current(&mut *tx, now).await.map_err(failed(READING))? {
            return self.remember(&stored);
        }
        let stored = Stored {
            id: state.context.ids.next::<EventId>().ulid().to_string(),
            seed: random().to_vec(),
            signs_until: now.plus(SIGNS),
            good_until: now.plus(SIGNS + OVERLAP),
        };
        let doing = "keeping a key of access tokens";
        store::insert(&mut tx, &stored, now).await.map_err(failed(doing))?;
        tx.commit().await.map_err(failed(doing))?;
        tracing::info!(kid = stored.id, "access tokens are signed with a new key");
        self.remember(&stored)
    }

    fn find(&self, wanted: impl Fn(&Known) -> bool) -> Option<Arc<Signer>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .find(|known| wanted(known))
            .map(|known| Arc::clone(&known.signer))
    }

    fn remember(&self, stored: &Stored) -> Result<Arc<Signer>, Problem> {
        let signer = Signer::new(&stored.id, &stored.seed);
        let signer = Arc::new(signer.ok_or_else(|| Problem::new(Code::Internal, "a key of access tokens is none"))?);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.push(Known {
            signer: Arc::clone(&signer),
            signs_until: stored.signs_until,
            good_until: stored.good_until,
        });
        Ok(signer)
    }
}

const READING: &str = "reading the keys of access tokens";
