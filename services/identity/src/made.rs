//! What an installation makes once, for whoever starts its nats-server.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mesh_runtime::Secret;
use nkeys::{KeyPair, KeyPairType};

use crate::state::random;

/// 256 unpredictable bits as text without characters that a URL or a configuration would mind.
pub fn random_password() -> Secret<String> {
    Secret::new(URL_SAFE_NO_PAD.encode(random()))
}

/// Seed (`SA…`) of a new key that NATS users are signed with: `identity.nats_issuer_seed`.
pub fn nats_issuer_seed() -> Secret<String> {
    let key = KeyPair::new_from_raw(KeyPairType::Account, random()).expect("32 bytes are a key");
    Secret::new(key.seed().expect("a key made of its seed has it"))
}

/// The public key (`A…`) of a seed, which nats-server is told as the `issuer` of its `auth_callout`.
///
/// # Errors
/// When it is no seed of an account key.
pub fn nats_issuer_key(seed: &Secret<String>) -> Result<String, String> {
    let wrong = |_| "that is no seed of an account key (SA…)".to_owned();
    KeyPair::from_seed(seed.expose())
        .map(|key| key.public_key())
        .map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_one_key_and_is_new_each_time() {
        let seed = nats_issuer_seed();
        assert!(seed.expose().starts_with("SA"));
        let key = nats_issuer_key(&seed).unwrap();
        assert!(key.starts_with('A') && nats_issuer_key(&seed) == Ok(key.clone()));
        assert_ne!(nats_issuer_key(&nats_issuer_seed()), Ok(key));
        assert!(nats_issuer_key(&"nonsense".into()).is_err());
        assert_ne!(random_password(), random_password());
    }
}
