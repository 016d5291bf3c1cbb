//! Who has signed in at the page: cookies of this start, kept as hashes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mesh_runtime::Context;
use mesh_types::{Id, RequestId, Timestamp};
use sha2::{Digest, Sha256};

use super::keys::Key;

/// Then one signs in again.
pub(super) const LIFE: Duration = Duration::from_secs(12 * 3600);
/// The oldest gives way.
const SESSIONS_MAX: usize = 64;

pub(super) type Hash = [u8; 32];

/// A secret of 256 random bits, as 43 characters.
pub(super) fn random_secret(context: &Context) -> String {
    let mut hash = Sha256::new();
    // Each id brings 80 random bits.
    for _ in 0..4 {
        hash.update(context.ids.next::<RequestId>().as_u128().to_be_bytes());
    }
    URL_SAFE_NO_PAD.encode(hash.finalize())
}

/// What is compared in place of secrets: that two hashes begin alike says nothing of the secrets.
pub(super) fn hash(secret: &str) -> Hash {
    Sha256::digest(secret).into()
}

#[derive(Default)]
pub(super) struct Sessions(Mutex<VecDeque<Session>>);

struct Session {
    cookie: Hash,
    key: Key,
    until: Timestamp,
}

impl Sessions {
    /// Begins one; answers its cookie.
    pub(super) fn begin(&self, key: Key, context: &Context) -> String {
        let cookie = random_secret(context);
        let session = Session {
            cookie: hash(&cookie),
            key,
            until: context.clock.now().plus(LIFE),
        };
        let mut sessions = self.lock();
        while sessions.len() >= SESSIONS_MAX {
            sessions.pop_front();
        }
        sessions.push_back(session);
        cookie
    }

    /// The key that somebody signed in with, while that holds.
    pub(super) fn key_of(&self, cookie: &str, now: Timestamp) -> Option<Key> {
        let wanted = hash(cookie);
        let mut sessions = self.lock();
        sessions.retain(|session| session.until > now);
        let found = sessions.iter().find(|session| session.cookie == wanted)?;
        Some(found.key.clone())
    }

    pub(super) fn end(&self, cookie: &str) {
        let ended = hash(cookie);
        self.lock().retain(|session| session.cookie != ended);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
