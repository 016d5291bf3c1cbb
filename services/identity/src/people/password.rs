//! Passwords: what is taken, how one is hashed and checked. Slow on purpose: runs on the blocking pool only.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use mesh_types::{Code, Problem};

use crate::credential::is_same;

/// Memory in KiB, passes and lanes: the first choice of the OWASP Password Storage Cheat Sheet for argon2id (19 MiB, 2, 1).
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Most that a stored hash may ask for, so that a row from elsewhere cannot take the machine.
const MEMORY_KIB_MAX: u32 = 262_144;
const PASSES_MAX: u32 = 10;
const LANES_MAX: u32 = 4;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
/// NIST SP 800-63B asks for length instead of rules about characters.
const CHARS_MIN: usize = 12;
const CHARS_MAX: usize = 256;

/// Whether this may become a password.
///
/// # Errors
/// `InvalidRequest`, which does not repeat it.
pub(crate) fn check(password: &str, login: &str) -> Result<(), Problem> {
    let refuse = |detail: String| Err(Problem::new(Code::InvalidRequest, detail).field("password"));
    if !(CHARS_MIN..=CHARS_MAX).contains(&password.chars().count()) {
        return refuse(format!("a password has {CHARS_MIN} to {CHARS_MAX} characters"));
    }
    let mut chars = password.chars();
    let first = chars.next();
    if chars.all(|one| Some(one) == first)
        || password.to_lowercase() == login.repeat(password.len() / login.len().max(1))
    {
        return refuse("one that nobody would guess first: not the login, not one character".into());
    }
    Ok(())
}

/// As it is kept: `$argon2id$v=19$m=…,t=…,p=…$salt$hash`, as the reference implementation writes it.
pub(crate) fn hash(password: &str, random: [u8; 32]) -> Result<String, Problem> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(HASH_BYTES)).map_err(|_| unusable())?;
    let salt = &random[..SALT_BYTES];
    let hash = derive(password, salt, params)?;
    Ok(format!(
        "$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${}${}",
        STANDARD_NO_PAD.encode(salt),
        STANDARD_NO_PAD.encode(hash)
    ))
}

/// Whether it is the one that was hashed. Without a stored one it takes as long, and it is not.
pub(crate) fn verify(password: &str, stored: Option<&str>) -> Result<bool, Problem> {
    // Who has no password is somebody whose hash nothing gives.
    let (params, salt, known) = match stored {
        Some(text) => parse(text).ok_or_else(unusable)?,
        None => {
            let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(HASH_BYTES)).map_err(|_| unusable())?;
            (params, vec![0; SALT_BYTES], Vec::new())
        }
    };
    let given = derive(password, &salt, params)?;
    Ok(is_same(&known, &given))
}

fn derive(password: &str, salt: &[u8], params: Params) -> Result<[u8; HASH_BYTES], Problem> {
    let mut out = [0; HASH_BYTES];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), salt, &mut out)
        .map_err(|_| unusable())?;
    Ok(out)
}

fn parse(text: &str) -> Option<(Params, Vec<u8>, Vec<u8>)> {
    let rest = text.strip_prefix("$argon2id$v=19$")?;
    let (costs, rest) = rest.split_once('$')?;
    let (salt, hash) = rest.split_once('$')?;
    let cost = |part: Option<&str>, name: &str, most: u32| -> Option<u32> {
        let value = part?.strip_prefix(name)?.parse().ok()?;
        (value <= most).then_some(value)
    };
    let mut costs = costs.split(',');
    let memory = cost(costs.next(), "m=", MEMORY_KIB_MAX)?;
    let passes = cost(costs.next(), "t=", PASSES_MAX)?;
    let lanes = cost(costs.next(), "p=", LANES_MAX)?;
    let hash = STANDARD_NO_PAD
        .decode(hash)
        .ok()
        .filter(|hash| hash.len() == HASH_BYTES)?;
    let params = Params::new(memory, passes, lanes, Some(HASH_BYTES)).ok()?;
    Some((params, STANDARD_NO_PAD.decode(salt).ok()?, hash))
}

fn unusable() -> Problem {
    Problem::new(Code::Internal, "a stored password cannot be used")
}

/// 144 random bits as a password that can be read out.
pub(crate) fn made(random: [u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(&random[..18])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_told_from_any_other_and_its_hash_is_salted() {
        let stored = hash("correct horse battery", [7; 32]).unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(verify("correct horse battery", Some(&stored)).unwrap());
        assert!(!verify("correct horse batterz", Some(&stored)).unwrap());
        assert!(!verify("", Some(&stored)).unwrap() && !verify("correct horse battery", None).unwrap());
        assert_ne!(hash("correct horse battery", [8; 32]).unwrap(), stored);
    }

    #[test]
    fn a_hash_of_the_reference_implementation_is_read() {
        // A vector of its own test suite.
        let stored = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        assert!(verify("password", Some(stored)).unwrap());
        assert!(!verify("passwore", Some(stored)).unwrap());
    }

    #[test]
    fn a_hash_that_would_take_the_machine_is_none() {
        let of = |costs: &str| parse(&format!("$argon2id$v=19${costs}$c29tZXNhbHQ${}", "A".repeat(43)));
        assert!(of("m=64,t=1,p=1").is_some());
        for costs in [
            "m=4000000,t=1,p=1",
            "m=64,t=1000,p=1",
            "m=64,t=1,p=99",
            "m=64,t=1",
            "t=1,m=64,p=1",
            "",
        ] {
            assert!(of(costs).is_none(), "{costs}");
        }
        for text in ["", "$argon2i$v=19$m=64,t=1,p=1$c29tZXNhbHQ$AAAA", "plain"] {
            assert!(parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_password_is_long_and_not_the_first_guess() {
        let good = |password: &str| check(password, "ann").is_ok();
        assert!(good("correct horse") && good("пароль-довгий") && good(&made([3; 32])));
        for wrong in ["", "short", "aaaaaaaaaaaaaaaa", "annannannann", &"x1".repeat(129)] {
            assert!(!good(wrong), "{wrong}");
        }
    }
}
