//! Certificates made for these tests, shown by real TLS servers and a real nats-server.

use std::path::Path;
use std::sync::Arc;

use chrono::{Datelike, TimeDelta};
use mesh_servers::{NatsOptions, NatsServer, NatsTool, Quiet, ScratchDir};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::super::Verdict;
use super::*;

const HERE: &str = "127.0.0.1";

/// Somebody who signs.
struct Signer {
    params: CertificateParams,
    key: KeyPair,
    own: CertificateDer<'static>,
}

/// What a server shows, and the key to it.
struct Made {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

/// Good from so many days from now until so many days from now.
fn params(name: &str, days: (i64, i64)) -> CertificateParams {
    let date = |days| {
        let at = now().to_chrono() + TimeDelta::days(days);
        date_time_ymd(
            at.year(),
            u8::try_from(at.month()).unwrap(),
            u8::try_from(at.day()).unwrap(),
        )
    };
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date(days.0), date(days.1));
    params
}

fn signing(name: &str, days: (i64, i64)) -> CertificateParams {
    let mut params = params(name, days);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

impl Signer {
    fn root() -> Self {
        let (params, key) = (signing("root.example", (-400, 4_000)), KeyPair::generate().unwrap());
        let own = params.self_signed(&key).unwrap().der().clone();
        Self { params, key, own }
    }

    fn sign(&self, params: &CertificateParams, key: &KeyPair) -> CertificateDer<'static> {
        let issuer = Issuer::from_params(&self.params, &self.key);
        params.signed_by(key, &issuer).unwrap().der().clone()
    }

    fn another(&self, days: (i64, i64)) -> Self {
        let (params, key) = (signing("between.example", days), KeyPair::generate().unwrap());
        let own = self.sign(&params, &key);
        Self { params, key, own }
    }

    fn server(&self, name: &str, days: (i64, i64)) -> Made {
        let key = KeyPair::generate().unwrap();
        let chain = vec![self.sign(&params(name, days), &key)];
        Made { chain, key }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.own.clone()).unwrap();
        roots
    }
}

fn peer(port: u16, road: Road) -> Peer {
    Peer {
        what: "server".into(),
        host: HERE.into(),
        port,
        road,
        is_demanded: true,
        is_verified: true,
    }
}

fn acceptor(made: Made) -> TlsAcceptor {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.key.serialize_der()));
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth();
    TlsAcceptor::from(Arc::new(builder.with_single_cert(made.chain, key).unwrap()))
}

/// What is found at a server that shows this to one client.
async fn found(made: Made, roots: &RootCertStore) -> Vec<(Verdict, String)> {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let peer = peer(listener.local_addr().unwrap().port(), Road::AtOnce);
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        // Whether the client stays for the end of it is its own choice.
        drop(acceptor(made).accept(stream).await);
    };
    let ((), shown) = tokio::join!(serve, chain_of(&peer));
    told(findings(&peer, shown, roots))
}

fn told(findings: Vec<Finding>) -> Vec<(Verdict, String)> {
    findings.into_iter().map(|one| (one.verdict, one.found)).collect()
}

#[track_caller]
fn is_one(found: &[(Verdict, String)], verdict: Verdict, words: &str) {
    assert!(
        matches!(found, [(was, text)] if *was == verdict && text.contains(words)),
        "{found:?}"
    );
}

#[tokio::test]
async fn how_long_a_certificate_is_good_is_told_of_a_real_server() {
    let root = Signer::root();
    for (days, verdict, words) in [
        ((-400, -3), Verdict::Wrong, "expired on"),
        ((3, 300), Verdict::Wrong, "not good before"),
        ((-30, 10), Verdict::Warning, "more days, until"),
        ((-30, 300), Verdict::Ok, "good until"),
    ] {
        let found = found(root.server(HERE, days), &root.roots()).await;
        is_one(&found, verdict, words);
    }
}

#[tokio::test]
async fn the_signer_that_ends_first_counts() {
    let root = Signer::root();
    for (days, verdict) in [((-400, -3), Verdict::Wrong), ((-30, 10), Verdict::Warning)] {
        let between = root.another(days);
        let mut made = between.server(HERE, (-30, 300));
        made.chain.push(between.own.clone());
        let found = found(made, &root.roots()).await;
        is_one(&found, verdict, "that of its signer");
    }
}

#[tokio::test]
async fn a_stranger_and_a_wrong_name_are_told_beside_the_dates() {
    let root = Signer::root();
    let strange = found(root.server(HERE, (-30, 300)), &Signer::root().roots()).await;
    assert_eq!(strange[0].0, Verdict::Ok, "{strange:?}");
    is_one(&strange[1..], Verdict::Warning, "does not know who signed it");
    let misnamed = found(root.server("elsewhere.example", (-30, 300)), &root.roots()).await;
    assert_eq!(misnamed[0].0, Verdict::Ok, "{misnamed:?}");
    is_one(&misnamed[1..], Verdict::Wrong, "not valid for name");
}

fn nats_server_with(folder: &Path, tls: &str) -> NatsServer {
    let options = NatsOptions {
        extra_config: tls.to_owned(),
        ..NatsOptions::new(folder.join("nats"))
    };
    NatsServer::start(&NatsTool::resolve(&mut Quiet).unwrap(), options).expect("nats-server starts")
}

#[tokio::test]
async fn a_nats_server_is_asked_after_its_greeting() {
    let folder = ScratchDir::new().unwrap();
    let root = Signer::root();
    let key = KeyPair::generate().unwrap();
    let signed = params(HERE, (-30, 10)).signed_by(&key, &Issuer::from_params(&root.params, &root.key));
    let (certificate, secret) = (folder.path().join("certificate.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, signed.unwrap().pem()).unwrap();
    std::fs::write(&secret, key.serialize_pem()).unwrap();
    let tls = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\" }}",
        certificate.display(),
        secret.display()
    );
    for (tls, verdict, words) in [
        (tls.as_str(), Verdict::Warning, "more days, until"),
        ("", Verdict::Wrong, "speaks no TLS"),
    ] {
        let nats = nats_server_with(folder.path(), tls);
        let peer = Peer {
            is_demanded: true,
            ..nats_server(&nats.url().replace("tls://", "nats://")).unwrap()
        };
        is_one(
            &told(findings(&peer, chain_of(&peer).await, &root.roots())),
            verdict,
            words,
        );
    }
}

#[tokio::test]
async fn postgres_is_asked_whether_it_speaks_tls() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let root = Signer::root();
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = |rest: &str| format!("postgres://mesh@{HERE}:{port}/mesh{rest}");
    for (answer, rest, expected) in [
        (b'S', "?sslmode=verify-full", Some((Verdict::Wrong, "expired on"))),
        (b'N', "?sslmode=require", Some((Verdict::Wrong, "speaks no TLS"))),
        (b'N', "", None),
    ] {
        let peer = postgres(&url(rest)).unwrap();
        let acceptor = acceptor(root.server(HERE, (-400, -3)));
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 8];
            stream.read_exact(&mut asked).await.unwrap();
            assert_eq!(asked[4..], 80_877_103_u32.to_be_bytes());
            stream.write_all(&[answer]).await.unwrap();
            if answer == b'S' {
                drop(acceptor.accept(stream).await);
            }
        };
        let ((), shown) = tokio::join!(serve, chain_of(&peer));
        let found = told(findings(&peer, shown, &root.roots()));
        match expected {
            Some((verdict, words)) => is_one(&found, verdict, words),
            None => assert!(found.is_empty(), "{found:?}"),
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_where_nothing_else_tells_it() {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let roots = RootCertStore::empty();
    let told = async |peer: Peer| told(findings(&peer, chain_of(&peer).await, &roots));
    let web = told(peer(port, Road::AtOnce)).await;
    assert!(matches!(&web[..], [(Verdict::Warning, _)]), "{web:?}");
    assert!(told(peer(port, Road::Nats)).await.is_empty());
    assert!(told(peer(port, Road::Postgres)).await.is_empty());
}

#[test]
fn addresses_say_who_is_asked_and_how() {
    let places = |peers: Vec<Peer>| {
        let place = |peer: Peer| (peer.host, peer.port, peer.road, peer.is_demanded);
        peers.into_iter().map(place).collect::<Vec<_>>()
    };
    assert_eq!(
        places(nats(
            "tls://u:p@a.example, nats://b.example:5, wss://c.example/nats, ws://d.example"
        )),
        [
            ("a.example".into(), 4222, Road::Nats, true),
            ("b.example".into(), 5, Road::Nats, false),
            ("c.example".into(), 443, Road::AtOnce, true),
        ]
    );
    assert_eq!(places(nats("127.0.0.1:4222")), [(HERE.into(), 4222, Road::Nats, false)]);
    assert!(nats("").is_empty());
    assert!(web("mesh", "http://mesh.example.org").is_none() && web("mesh", "").is_none());
    assert_eq!(web("mesh", "https://[::1]:8443/x").unwrap().host, "::1");
    assert!(postgres("").is_none() && postgres("postgres://u@h/d?sslmode=disable").is_none());
    assert!(!postgres("postgres://u@h/d?sslmode=require").unwrap().is_verified);
    assert!(postgres("postgres://u@h/d?sslmode=verify-full").unwrap().is_verified);
}
