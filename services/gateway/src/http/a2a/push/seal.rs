//! How a receiver is kept: sealed (AES-256-GCM), as the bucket's files and backups are read by more people than may know
//! where a tenant's pushes go and with which credentials.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use mesh_types::{Code, Problem};

/// The installation's key for receivers; `identity` keeps it.
pub(super) struct Sealer(RandomizedNonceKey);

impl Sealer {
    /// Of 256 bits as hexadecimal digits.
    ///
    /// # Errors
    /// It is no such key.
    pub(super) fn new(secret: &str) -> Result<Self, Problem> {
        let wrong = || Problem::new(Code::Internal, "the secret that receivers are sealed with is none");
        let bytes = hex::decode(secret).map_err(|_| wrong())?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| wrong())?;
        Ok(Self(key))
    }

    /// Seals for one place: it cannot be opened under another key of the bucket.
    ///
    /// # Errors
    /// The system gave no randomness.
    pub(super) fn seal(&self, place: &str, text: Vec<u8>) -> Result<String, Problem> {
        let mut sealed = text;
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(place.as_bytes()), &mut sealed)
            .map_err(|_| Problem::new(Code::Internal, "a receiver could not be sealed"))?;
        let whole = [nonce.as_ref().as_slice(), &sealed].concat();
        Ok(STANDARD_NO_PAD.encode(whole))
    }

    /// `None`: sealed for another place, with another key, or changed.
    pub(super) fn open(&self, place: &str, sealed: &str) -> Option<Vec<u8>> {
        let whole = STANDARD_NO_PAD.decode(sealed).ok()?;
        let (nonce, sealed) = whole.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = sealed.to_vec();
        let opened = self
            .0
            .open_in_place(nonce, Aad::from(place.as_bytes()), &mut text)
            .ok()?;
        Some(opened.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_key_in_its_place_only() {
        let sealer = Sealer::new(&"0a".repeat(32)).unwrap();
        let sealed = sealer.seal("t.i.one", b"a secret".to_vec()).unwrap();
        assert!(!sealed.contains("secret"));
        assert_eq!(sealer.open("t.i.one", &sealed).as_deref(), Some(&b"a secret"[..]));
        assert_ne!(
            sealer.seal("t.i.one", b"a secret".to_vec()).unwrap(),
            sealed,
            "another nonce"
        );
        assert_eq!(sealer.open("t.i.two", &sealed), None);
        assert_eq!(Sealer::new(&"0b".repeat(32)).unwrap().open("t.i.one", &sealed), None);
        let mut changed = STANDARD_NO_PAD.decode(&sealed).unwrap();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(sealer.open("t.i.one", &STANDARD_NO_PAD.encode(changed)), None);
        for wrong in ["", "x", "AAAA"] {
            assert_eq!(sealer.open("t.i.one", wrong), None);
            assert!(Sealer::new(wrong).is_err());
        }
    }
}
