//! The signed documents of the question and the answer, as nats-server writes and reads them: a header and claims in
//! base 64, signed with an ed25519 key of NATS's own encoding.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mesh_runtime::Secret;
use mesh_types::Timestamp;
use nkeys::{KeyPair, KeyPairType};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::permissions::Permissions;

const HEADER: &str = r#"{"typ":"JWT","alg":"ed25519-nkey"}"#;
/// Version of the claims.
const VERSION: u8 = 2;

/// Signs NATS users.
pub(crate) struct Issuer {
    key: KeyPair,
    account: String,
}

/// What the server asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// The server's id.
    pub(super) server: String,
    /// Number of the connection there.
    pub(super) client: u64,
    /// The key that stands for the connection; the answer is about it.
    pub(super) user_key: String,
    pub(super) user: String,
    /// Or a token, which is all that some clients send.
    pub(super) password: String,
    /// Where it comes from and what it calls itself, for the audit.
    pub(super) host: String,
    pub(super) name: String,
}

#[derive(Deserialize)]
struct Claims {
    nats: Question,
}

#[derive(Deserialize)]
struct Question {
    server_id: Server,
    user_nkey: String,
    client_info: Client,
    #[serde(default)]
    connect_opts: Connect,
}

#[derive(Deserialize)]
struct Server {
    id: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Client {
    id: u64,
    host: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Connect {
    user: String,
    pass: String,
    auth_token: String,
    name: String,
}

impl Asked {
    /// Reads a question. Its signature says nothing here: only the server and the mesh's own services may ask at that
    /// subject.
    pub(super) fn read(payload: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(payload).map_err(|_| "it is not text")?;
        let mut parts = text.split('.');
        let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err("it is no signed document, or an encrypted one (`xkey`)".into());
        };
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|error| error.to_string())?;
        // The cause may quote a password.
        let claims: Claims = serde_json::from_slice(&claims).map_err(|_| "its claims are not as expected")?;
        let Question {
            server_id,
            user_nkey,
            client_info,
            connect_opts,
        } = claims.nats;
        Ok(Self {
            server: server_id.id,
            client: client_info.id,
            user_key: user_nkey,
            user: connect_opts.user,
            password: match connect_opts.pass.is_empty() {
                true => connect_opts.auth_token,
                false => connect_opts.pass,
            },
            host: client_info.host,
            name: connect_opts.name,
        })
    }
}

impl Issuer {
    /// From the seed of an account key; the error says what is wrong with it.
    pub(crate) fn new(seed: &Secret<String>, account: &str) -> Result<Self, String> {
        let wrong = || "`nats_issuer_seed` must be the seed of an account key (SA…)".to_owned();
        let key = KeyPair::from_seed(seed.expose()).map_err(|_| wrong())?;
        if key.key_pair_type() != KeyPairType::Account {
            return Err(wrong());
        }
        Ok(Self {
            key,
            account: account.to_owned(),
        })
    }

    /// Lets the connection in as that user.
    pub(super) fn admit(
        &self,
        asked: &Asked,
        name: &str,
        permissions: &Permissions,
        now: Timestamp,
        lasts: Duration,
    ) -> Result<String, String> {
        let mut heard = json!({"allow": permissions.subscribe});
        if !permissions.unheard.is_empty() {
            heard["deny"] = json!(permissions.unheard);
        }
        let user = json!({
            "aud": self.account,
            "sub": asked.user_key,
            "name": name,
            "exp": seconds(now.plus(lasts)),
            "nats": {
                "pub": {"allow": permissions.publish},
                "sub": heard,
                "subs": permissions.subscriptions_max,
                "data": -1,
                "payload": permissions.message_bytes_max,
                "type": "user",
                "version": VERSION,
            },
        });
        let user = self.sign(user, now)?;
        self.respond(asked, json!({"jwt": user}), now)
    }

    /// Keeps the connection out; the reason is for the server's log.
    pub(super) fn refuse(&self, asked: &Asked, reason: &str, now: Timestamp) -> Result<String, String> {
        self.respond(asked, json!({"error": reason}), now)
    }

    fn respond(&self, asked: &Asked, mut body: Value, now: Timestamp) -> Result<String, String> {
        body["type"] = "authorization_response".into();
        body["version"] = VERSION.into();
        let claims = json!({"aud": asked.server, "sub": asked.user_key, "nats": body});
        self.sign(claims, now)
    }

    fn sign(&self, mut claims: Value, now: Timestamp) -> Result<String, String> {
        claims["iss"] = self.key.public_key().into();
        claims["iat"] = seconds(now).into();
        // By its content, as the format asks.
        claims["jti"] = URL_SAFE_NO_PAD.encode(Sha256::digest(claims.to_string())).into();
        let header = URL_SAFE_NO_PAD.encode(HEADER);
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.key.sign(signed.as_bytes()).map_err(|error| error.to_string())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

fn seconds(at: Timestamp) -> u64 {
    at.as_millis() / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_258_800_000);

    fn issuer() -> (Issuer, KeyPair) {
        let key = KeyPair::new_account();
        let seed = Secret::new(key.seed().unwrap());
        (Issuer::new(&seed, "$G").unwrap(), key)
    }

    fn asked() -> Asked {
        Asked {
            server: "NSERVER".into(),
            client: 7,
            user_key: "UKEY".into(),
            user: "kitchen".into(),
            password: "mns_x".into(),
            host: "127.0.0.1".into(),
            name: "mesh-node".into(),
        }
    }

    /// The claims of a document that this key signed.
    fn claims(document: &str, key: &KeyPair) -> Value {
        let (signed, signature) = document.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        key.verify(signed.as_bytes(), &signature).unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(header).unwrap(), HEADER.as_bytes());
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
    }

    #[test]
    fn an_admitted_user_has_its_rights_and_an_end() {
        let (issuer, key) = issuer();
        let permissions = Permissions {
            publish: vec!["a.b".into()],
            subscribe: vec!["c.>".into()],
            unheard: vec!["c.d".into()],
            subscriptions_max: 9,
            message_bytes_max: 100,
        };
        let answer = issuer
            .admit(&asked(), "kitchen", &permissions, NOW, Duration::from_secs(60))
            .unwrap();
        let answer = claims(&answer, &key);
        assert_eq!((&answer["aud"], &answer["sub"]), (&json!("NSERVER"), &json!("UKEY")));
        assert_eq!(answer["iss"], key.public_key());
        let user = claims(answer["nats"]["jwt"].as_str().unwrap(), &key);
        assert_eq!((&user["aud"], &user["name"]), (&json!("$G"), &json!("kitchen")));
        assert_eq!(user["exp"], NOW.as_millis() / 1_000 + 60);
        assert_eq!(user["nats"]["pub"], json!({"allow": ["a.b"]}));
        assert_eq!(user["nats"]["sub"], json!({"allow": ["c.>"], "deny": ["c.d"]}));
        assert!(user["nats"].get("resp").is_none(), "{user}");
    }

    #[test]
    fn a_refusal_says_why_and_carries_no_user() {
        let (issuer, key) = issuer();
        let answer = claims(&issuer.refuse(&asked(), "revoked", NOW).unwrap(), &key);
        assert_eq!(answer["nats"]["error"], "revoked");
        assert!(answer["nats"].get("jwt").is_none());
    }

    #[test]
    fn a_question_is_read_and_anything_else_is_not() {
        let body = json!({"iss": "NSERVER", "nats": {"server_id": {"id": "NSERVER", "name": "x"}, "user_nkey": "UKEY",
            "client_info": {"id": 7, "host": "127.0.0.1", "kind": "Client"},
            "connect_opts": {"user": "kitchen", "pass": "mns_x", "name": "mesh-node", "lang": "rust"}}});
        let document = format!("e30.{}.e30", URL_SAFE_NO_PAD.encode(body.to_string()));
        assert_eq!(Asked::read(document.as_bytes()).unwrap(), asked());
        let token = json!({"nats": {"server_id": {"id": "N"}, "user_nkey": "U", "client_info": {},
            "connect_opts": {"auth_token": "mak_x"}}});
        let document = format!("e30.{}.e30", URL_SAFE_NO_PAD.encode(token.to_string()));
        let asked_by_token = Asked::read(document.as_bytes()).unwrap();
        assert_eq!(
            (asked_by_token.user.as_str(), asked_by_token.password.as_str()),
            ("", "mak_x")
        );
        for wrong in ["", "a.b", "a.!!.c", "e30.e30.e30", "a.b.c.d"] {
            assert!(Asked::read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_a_seed_of_an_account_signs_users() {
        let user = Secret::new(KeyPair::new_user().seed().unwrap());
        assert!(Issuer::new(&user, "$G").is_err());
        let Err(error) = Issuer::new(&Secret::from("SAHUNTER2"), "$G") else {
            panic!("a seed of nonsense was taken")
        };
        assert!(!error.contains("HUNTER2"));
    }
}
