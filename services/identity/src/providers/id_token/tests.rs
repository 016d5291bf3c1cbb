//! Tokens of all three kinds of key, and every way in which one may not hold.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_795_258_800;

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Signs as an issuer does.
enum Issuer {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Issuer {
    fn all() -> [Self; 3] {
        [
            Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
            Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
            Self::ed(),
        ]
    }

    fn ed() -> Self {
        Self::Ed(Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap())
    }

    fn alg(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Ec(_) => "ES256",
            Self::Ed(_) => "EdDSA",
        }
    }

    fn jwk(&self) -> Value {
        match self {
            Self::Rsa(pair) => {
                let public = pair.public_key();
                let n: Vec<u8> = public.modulus().big_endian_without_leading_zero().to_vec();
                let e: Vec<u8> = public.exponent().big_endian_without_leading_zero().to_vec();
                json!({"kty": "RSA", "kid": "k1", "use": "sig", "n": text(&n), "e": text(&e)})
            }
            Self::Ec(pair) => {
                let point = pair.public_key().as_ref().to_vec();
                json!({"kty": "EC", "kid": "k1", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])})
            }
            Self::Ed(pair) => {
                json!({"kty": "OKP", "kid": "k1", "crv": "Ed25519", "x": text(pair.public_key().as_ref())})
            }
        }
    }

    fn keys(&self) -> Keys {
        serde_json::from_value(json!({"keys": [self.jwk()]})).unwrap()
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!(
            "{}.{}",
            text(header.to_string().as_bytes()),
            text(claims.to_string().as_bytes())
        );
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature)
                    .unwrap();
                signature
            }
            Self::Ec(pair) => pair.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        format!("{signed}.{}", text(&signature))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": self.alg(), "kid": "k1"}), claims)
    }
}

fn claims() -> Value {
    json!({"iss": "https://id.example.org", "sub": "s-1", "aud": "mesh", "exp": NOW + 300, "iat": NOW, "nonce": "n",
        "email": "Ann@example.org", "email_verified": true, "name": "Ann"})
}

const EXPECTED: Expected<'static> = Expected {
    issuer: "https://id.example.org",
    client: "mesh",
    nonce: "n",
    now: NOW,
};

#[test]
fn tokens_of_all_three_kinds_of_key_are_read() {
    for issuer in Issuer::all() {
        let read = read(&issuer.token(&claims()), &issuer.keys(), &EXPECTED).unwrap();
        assert_eq!(read.sub, "s-1", "{}", issuer.alg());
        assert_eq!(read.verified_email().unwrap(), "ann@example.org");
    }
}

#[test]
fn a_token_with_another_word_or_of_another_key_is_refused() {
    for issuer in Issuer::all() {
        let token = issuer.token(&claims());
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (header, _) = signed.split_once('.').unwrap();
        let mut other = claims();
        other["sub"] = "s-2".into();
        let forged = format!("{header}.{}.{signature}", text(other.to_string().as_bytes()));
        let why = read(&forged, &issuer.keys(), &EXPECTED).unwrap_err();
        assert_eq!(why, "the ID token's signature is wrong");
    }
    let [rsa, ec, ed] = Issuer::all();
    assert!(read(&rsa.token(&claims()), &ec.keys(), &EXPECTED).is_err());
    assert!(read(&ed.token(&claims()), &rsa.keys(), &EXPECTED).is_err());
}

#[test]
fn no_other_algorithm_is_taken() {
    let issuer = Issuer::ed();
    for alg in ["none", "HS256", "HS512", "RS256", "ES256", "PS256", ""] {
        let token = issuer.sign(&json!({"alg": alg, "kid": "k1"}), &claims());
        assert!(read(&token, &issuer.keys(), &EXPECTED).is_err(), "{alg}");
    }
    let unsigned = format!(
        "{}.{}.",
        text(br#"{"alg":"none"}"#),
        text(claims().to_string().as_bytes())
    );
    assert!(read(&unsigned, &issuer.keys(), &EXPECTED).is_err());
    let critical = issuer.sign(&json!({"alg": "EdDSA", "kid": "k1", "crit": ["x"]}), &claims());
    assert!(read(&critical, &issuer.keys(), &EXPECTED).is_err());
    let unknown = issuer.sign(&json!({"alg": "EdDSA", "kid": "k2"}), &claims());
    assert!(read(&unknown, &issuer.keys(), &EXPECTED).is_err());
}

#[test]
fn what_a_token_says_must_be_of_this_sign_in() {
    let issuer = Issuer::ed();
    let of = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        read(&issuer.token(&claims), &issuer.keys(), &EXPECTED).map(|claims| claims.sub)
    };
    for (name, value) in [
        ("iss", json!("https://evil.example")),
        ("aud", json!("other")),
        ("aud", json!(["mesh", "other"])),
        ("azp", json!("other")),
        ("exp", json!(NOW - 61)),
        ("iat", json!(NOW + 61)),
        ("iat", json!(NOW - 3_601)),
        ("nonce", json!("m")),
        ("nonce", Value::Null),
        ("sub", json!("")),
        ("sub", json!("x".repeat(256))),
        ("exp", json!("soon")),
    ] {
        assert!(of(name, value.clone()).is_err(), "{name} {value}");
    }
    for (name, value) in [
        ("aud", json!(["mesh"])),
        ("azp", json!("mesh")),
        ("exp", json!(NOW - 59)),
    ] {
        assert!(of(name, value.clone()).is_ok(), "{name} {value}");
    }
}

#[test]
fn an_address_that_is_not_verified_is_none() {
    let issuer = Issuer::ed();
    for (flag, expected) in [
        (json!(true), true),
        (json!("true"), true),
        (json!(false), false),
        (json!("no"), false),
        (Value::Null, false),
    ] {
        let mut claims = claims();
        claims["email_verified"] = flag.clone();
        let read = read(&issuer.token(&claims), &issuer.keys(), &EXPECTED).unwrap();
        assert_eq!(read.verified_email().is_some(), expected, "{flag}");
    }
}
