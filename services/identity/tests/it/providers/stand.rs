//! A provider on this machine: OpenID Connect with discovery, codes, proof keys and signed tokens; and one in the shape of
//! GitHub. It is as strict as the standards are, and wrong where a test says so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use identity::{Allow, Provider, ProviderKind};
use mesh_api::Role;
use mesh_types::{Clock, SystemClock};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const CLIENT: &str = "mesh";
const SECRET: &str = "s3cr:t of the mesh";

/// What it may get wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    Nonce,
    Audience,
    Issuer,
    Expired,
    Unsigned,
    ForeignKey,
    /// It hands out no token at all.
    Refuses,
}

impl Wrong {
    pub(crate) const ALL: [Self; 7] = [
        Self::Nonce,
        Self::Audience,
        Self::Issuer,
        Self::Expired,
        Self::Unsigned,
        Self::ForeignKey,
        Self::Refuses,
    ];
}

struct Inner {
    address: String,
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
    key: &'static str,
    wrong: Option<Wrong>,
    person: Value,
    github: (Value, Value),
    /// What was asked for, by code.
    codes: HashMap<String, HashMap<String, String>>,
}

#[derive(Clone)]
pub(crate) struct Stand {
    inner: Arc<Mutex<Inner>>,
    /// Ends with the last of its clones.
    _serving: Arc<Serving>,
}

struct Serving(tokio::task::JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Shared = State<Arc<Mutex<Inner>>>;

impl Stand {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Mutex::new(Inner {
            address,
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            ed: Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap(),
            key: "rsa",
            wrong: None,
            person: json!({"sub": "s-1", "email": "Ann.B@example.org", "email_verified": true, "name": "Ann"}),
            github: (
                json!({"id": 7, "login": "OctoCat", "name": "Octo"}),
                json!([{"email": "Octo@example.net", "primary": true, "verified": true}]),
            ),
            codes: HashMap::new(),
        }));
        let router = axum::Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/authorize", get(authorize))
            .route("/login/oauth/authorize", get(authorize))
            .route("/token", post(token))
            .route("/jwks", get(jwks))
            .route("/login/oauth/access_token", post(github_token))
            .route("/user", get(github_user))
            .route("/user/emails", get(github_emails))
            .with_state(Arc::clone(&inner));
        #[expect(
            clippy::disallowed_methods,
            reason = "a server of the test's own, aborted at its end"
        )]
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            inner,
            _serving: Arc::new(Serving(serving)),
        }
    }

    pub(crate) fn oidc(&self) -> Provider {
        let address = self.inner.lock().unwrap().address.clone();
        let allow = Allow {
            domain: "example.org".into(),
            role: Role::Developer,
            ..Allow::default()
        };
        provider("corp", ProviderKind::Oidc, &address, vec![allow])
    }

    pub(crate) fn github(&self) -> Provider {
        let address = self.inner.lock().unwrap().address.clone();
        let by = |user: &str| Allow {
            user: user.into(),
            role: Role::Operator,
            ..Allow::default()
        };
        let allow = vec![by("octocat"), by("octo@example.net")];
        provider("octo", ProviderKind::Github, &address, allow)
    }

    pub(crate) fn sign_with(&self, key: &'static str) {
        self.inner.lock().unwrap().key = key;
    }

    pub(crate) fn be_wrong(&self, wrong: Option<Wrong>) {
        self.inner.lock().unwrap().wrong = wrong;
    }

    pub(crate) fn person(&self, person: Value) {
        self.inner.lock().unwrap().person = person;
    }

    pub(crate) fn github_user(&self, user: Value, emails: Value) {
        self.inner.lock().unwrap().github = (user, emails);
    }

    /// A person says yes there; the code and the state that the browser comes back with.
    pub(crate) async fn consent(&self, location: &str) -> (String, String) {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let response = client.get(location).send().await.unwrap();
        assert_eq!(response.status(), 302, "{location}");
        let back = response.headers()["location"].to_str().unwrap();
        let back = url::Url::parse(back).unwrap();
        let get = |name: &str| {
            let found = back.query_pairs().find(|(own, _)| own == name);
            found.unwrap().1.into_owned()
        };
        assert_eq!(back.host_str(), Some("127.0.0.1"));
        assert!(back.path().starts_with("/api/v1/auth/providers/") && back.path().ends_with("/callback"));
        (get("code"), get("state"))
    }
}

fn provider(id: &str, kind: ProviderKind, address: &str, allow: Vec<Allow>) -> Provider {
    Provider {
        id: id.into(),
        kind,
        issuer: address.into(),
        api: address.into(),
        client_id: CLIENT.into(),
        client_secret: SECRET.into(),
        allow,
        ..Provider::default()
    }
}

async fn discovery(State(inner): Shared) -> Json<Value> {
    let at = inner.lock().unwrap().address.clone();
    Json(
        json!({"issuer": at, "authorization_endpoint": format!("{at}/authorize"),
        "token_endpoint": format!("{at}/token"), "jwks_uri": format!("{at}/jwks")}),
    )
}

async fn authorize(State(inner): Shared, Query(asked): Query<HashMap<String, String>>) -> Response {
    if asked["client_id"] != CLIENT || asked["code_challenge_method"] != "S256" || asked["state"].len() < 32 {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let mut inner = inner.lock().unwrap();
    let code = format!("code-{}", inner.codes.len());
    let back = format!("{}?code={code}&state={}&iss=x", asked["redirect_uri"], asked["state"]);
    inner.codes.insert(code, asked);
    (StatusCode::FOUND, [(header::LOCATION, back)]).into_response()
}

/// What was asked for with that code, which is good once and for whoever has its proof.
fn redeem(inner: &mut Inner, form: &HashMap<String, String>) -> Option<HashMap<String, String>> {
    let asked = inner.codes.remove(form.get("code")?)?;
    let proof = URL_SAFE_NO_PAD.encode(Sha256::digest(form.get("code_verifier")?));
    let is_same = asked["code_challenge"] == proof && Some(&asked["redirect_uri"]) == form.get("redirect_uri");
    is_same.then_some(asked)
}

async fn token(State(inner): Shared, headers: HeaderMap, Form(form): Form<HashMap<String, String>>) -> Response {
    let mut inner = inner.lock().unwrap();
    // `s3cr:t of the mesh` as a form writes it (RFC 6749, section 2.3.1).
    let basic = format!("Basic {}", STANDARD.encode("mesh:s3cr%3At+of+the+mesh"));
    let is_ours = headers.get("authorization").is_some_and(|value| *value == basic);
    let asked = redeem(&mut inner, &form);
    let (Some(asked), true, false) = (asked, is_ours, inner.wrong == Some(Wrong::Refuses)) else {
        return (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_grant"}))).into_response();
    };
    let id_token = inner.id_token(&asked["nonce"]);
    Json(json!({"access_token": "a", "token_type": "Bearer", "id_token": id_token})).into_response()
}

impl Inner {
    fn id_token(&self, nonce: &str) -> String {
        let now = SystemClock::default().now().as_millis() / 1_000;
        let mut claims = json!({"iss": self.address, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": nonce});
        for (name, value) in self.person.as_object().unwrap() {
            claims[name] = value.clone();
        }
        match self.wrong {
            Some(Wrong::Nonce) => claims["nonce"] = "another".into(),
            Some(Wrong::Audience) => claims["aud"] = "another".into(),
            Some(Wrong::Issuer) => claims["iss"] = "https://evil.example".into(),
            Some(Wrong::Expired) => claims["exp"] = (now - 3_000).into(),
            _ => {}
        }
        let alg = match (self.wrong, self.key) {
            (Some(Wrong::Unsigned), _) => "none",
            (_, "ec") => "ES256",
            (_, "ed") => "EdDSA",
            _ => "RS256",
        };
        let header = json!({"alg": alg, "kid": self.key, "typ": "JWT"}).to_string();
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.signature(signed.as_bytes())))
    }

    fn signature(&self, signed: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let foreign = RsaKeyPair::generate(KeySize::Rsa2048);
        let rsa = |pair: &RsaKeyPair| {
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(&RSA_PKCS1_SHA256, &random, signed, &mut signature).unwrap();
            signature
        };
        match (self.wrong, self.key) {
            (Some(Wrong::Unsigned), _) => Vec::new(),
            (Some(Wrong::ForeignKey), _) => rsa(&foreign.unwrap()),
            (_, "ec") => self.ec.sign(&random, signed).unwrap().as_ref().to_vec(),
            (_, "ed") => self.ed.sign(signed).as_ref().to_vec(),
            _ => rsa(&self.rsa),
        }
    }
}

async fn jwks(State(inner): Shared) -> Json<Value> {
    let inner = inner.lock().unwrap();
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let public = inner.rsa.public_key();
    let n = public.modulus().big_endian_without_leading_zero().to_vec();
    let e = public.exponent().big_endian_without_leading_zero().to_vec();
    let point = inner.ec.public_key().as_ref().to_vec();
    Json(json!({"keys": [
        {"kty": "RSA", "kid": "rsa", "use": "sig", "alg": "RS256", "n": text(&n), "e": text(&e)},
        {"kty": "EC", "kid": "ec", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])},
        {"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": text(inner.ed.public_key().as_ref())}]}))
}

async fn github_token(State(inner): Shared, Form(form): Form<HashMap<String, String>>) -> Json<Value> {
    let mut inner = inner.lock().unwrap();
    let is_ours = form["client_id"] == CLIENT && form["client_secret"] == SECRET;
    match redeem(&mut inner, &form).filter(|_| is_ours) {
        Some(_) => Json(json!({"access_token": "gho_1", "token_type": "bearer", "scope": "read:user,user:email"})),
        // GitHub says so with a 200.
        None => Json(json!({"error": "bad_verification_code"})),
    }
}

fn is_signed_in(headers: &HeaderMap) -> bool {
    headers
        .get("authorization")
        .is_some_and(|value| value == "Bearer gho_1")
        && headers.contains_key("user-agent")
}

async fn github_user(State(inner): Shared, headers: HeaderMap) -> Response {
    if !is_signed_in(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    Json(inner.lock().unwrap().github.0.clone()).into_response()
}

async fn github_emails(State(inner): Shared, headers: HeaderMap) -> Response {
    if !is_signed_in(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    Json(inner.lock().unwrap().github.1.clone()).into_response()
}
