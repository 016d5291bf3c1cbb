//! Where `mesh doctor` looks at certificates: every server that is configured and speaks TLS, asked as its clients ask it.

mod hello;

use std::collections::BTreeSet;
use std::str::FromStr;

use futures::future::join_all;
use mesh_servers::HomeState;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

use super::certificates::{self, Trust};
use super::{Finding, PROBE_TIMEOUT};
use crate::cli::Session;
use crate::cli::session::blocking;
use crate::output::now;
use crate::services::Configs;

const NATS_PORT: u16 = 4222;

/// A server that may speak TLS.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Peer {
    /// For people.
    what: String,
    host: String,
    port: u16,
    road: Road,
    /// Its clients refuse it without.
    is_demanded: bool,
    /// Its clients look at name and signer, too.
    is_verified: bool,
}

/// How TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Road {
    /// At once: https, wss.
    AtOnce,
    /// After the server's INFO, where that offers it.
    Nats,
    /// After a question of the client.
    Postgres,
}

/// Nothing where nobody speaks TLS.
pub(super) async fn look(session: &Session, configs: Option<&Configs>, state: Option<&HomeState>) -> Vec<Finding> {
    let peers = peers(session, configs, state);
    let shown = join_all(peers.iter().map(chain_of)).await;
    if !shown.iter().any(|shown| matches!(shown, Ok(Some(_)))) {
        // Then nobody's word is needed.
        return all(&peers, shown, &RootCertStore::empty());
    }
    let known = blocking(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Ok::<_, std::convert::Infallible>(roots)
    });
    all(&peers, shown, &known.await.unwrap_or_else(|_| RootCertStore::empty()))
}

type Shown = Result<Option<Vec<CertificateDer<'static>>>, hello::Error>;

fn all(peers: &[Peer], shown: Vec<Shown>, roots: &RootCertStore) -> Vec<Finding> {
    let pairs = peers.iter().zip(shown);
    pairs.flat_map(|(peer, shown)| findings(peer, shown, roots)).collect()
}

fn findings(peer: &Peer, shown: Shown, roots: &RootCertStore) -> Vec<Finding> {
    let server = format!("{} {}:{}", peer.what, peer.host, peer.port);
    let one = |found: String, next: &str| vec![Finding::wrong("certificate", found, next)];
    match shown {
        Ok(Some(chain)) => {
            let trust = if peer.is_verified { Trust::All } else { Trust::Dates };
            match ServerName::try_from(peer.host.clone()) {
                Ok(name) => certificates::judge(&server, &name, &chain, (trust, roots), now()),
                Err(_) => one(
                    format!("{server}: no certificate can be for this name"),
                    "name the server otherwise",
                ),
            }
        }
        Ok(None) if peer.is_demanded => one(
            format!("{server}: it speaks no TLS, and its address asks for it"),
            "configure TLS there, or change the address",
        ),
        Ok(None) => Vec::new(),
        // What does not answer is told of by its own check, where there is one.
        Err(hello::Error::Unreachable(_)) if peer.road != Road::AtOnce => Vec::new(),
        Err(hello::Error::Unreachable(error)) => {
            let next = "start it, or correct its address; its certificate could not be looked at";
            vec![Finding::warning("certificate", format!("{server}: {error}"), next)]
        }
        Err(hello::Error::NoTls(error)) => one(
            format!("{server}: no TLS connection: {error}"),
            "look at the server's log; clients get no further either",
        ),
    }
}

async fn chain_of(peer: &Peer) -> Shown {
    let asked = hello::chain(peer);
    match tokio::time::timeout(PROBE_TIMEOUT, asked).await {
        Ok(shown) => shown,
        Err(_) => Err(hello::Error::Unreachable("it does not answer".into())),
    }
}

/// Each server once, however many name it.
fn peers(session: &Session, configs: Option<&Configs>, state: Option<&HomeState>) -> Vec<Peer> {
    let environment = &session.environment;
    let mut peers = Vec::new();
    let named = session.named_url().or(environment.url.as_deref());
    peers.extend(named.and_then(|url| web("mesh", url)));
    if let Some(identity) = configs.map(|configs| &configs.identity) {
        peers.extend(web("mesh", &identity.public_url));
        let providers = identity.providers.iter();
        peers.extend(providers.filter_map(|one| web(&format!("sign-in by {}", one.id), &one.issuer)));
        peers.extend(nats(&identity.nats_url));
    }
    peers.extend(
        environment
            .otlp_endpoint
            .as_deref()
            .and_then(|url| web("collector", url)),
    );
    let bus = environment
        .nats_url
        .as_deref()
        .or(state.map(|state| state.nats.as_str()));
    peers.extend(nats(bus.unwrap_or_default()));
    let database = environment.database_url.as_ref().map(|url| url.expose().as_str());
    peers.extend(postgres(
        database
            .or(state.map(|state| state.database.as_str()))
            .unwrap_or_default(),
    ));
    let mut seen = BTreeSet::new();
    peers.retain(|peer| seen.insert((peer.host.clone(), peer.port)));
    peers
}

fn web(what: &str, url: &str) -> Option<Peer> {
    let url = reqwest::Url::parse(url).ok()?;
    matches!(url.scheme(), "https" | "wss").then_some(())?;
    Some(Peer {
        what: what.to_owned(),
        host: host_of(&url)?,
        port: url.port_or_known_default()?,
        road: Road::AtOnce,
        is_demanded: true,
        is_verified: true,
    })
}

fn host_of(url: &reqwest::Url) -> Option<String> {
    Some(url.host_str()?.trim_matches(['[', ']']).to_owned())
}

/// Of each server of a list.
fn nats(urls: &str) -> Vec<Peer> {
    let each = urls.split(',').map(str::trim).filter(|url| !url.is_empty());
    each.filter_map(nats_server).collect()
}

fn nats_server(address: &str) -> Option<Peer> {
    const WHAT: &str = "NATS";
    let with_scheme = match address.contains("://") {
        true => address.to_owned(),
        false => format!("nats://{address}"),
    };
    let url = reqwest::Url::parse(&with_scheme).ok()?;
    match url.scheme() {
        "wss" => web(WHAT, &with_scheme),
        scheme @ ("nats" | "tls") => Some(Peer {
            what: WHAT.to_owned(),
            host: host_of(&url)?,
            port: url.port().unwrap_or(NATS_PORT),
            road: Road::Nats,
            is_demanded: scheme == "tls",
            is_verified: true,
        }),
        _ => None,
    }
}

/// Nothing for a socket, or where TLS is turned off.
fn postgres(url: &str) -> Option<Peer> {
    let options = PgConnectOptions::from_str(url).ok().filter(|_| !url.is_empty())?;
    let host = options.get_host().trim_matches(['[', ']']).to_owned();
    let mode = options.get_ssl_mode();
    let is_local = options.get_socket().is_some() || host.starts_with('/');
    if is_local || matches!(mode, PgSslMode::Disable) {
        return None;
    }
    Some(Peer {
        what: "PostgreSQL".to_owned(),
        host,
        port: options.get_port(),
        road: Road::Postgres,
        is_demanded: !matches!(mode, PgSslMode::Allow | PgSslMode::Prefer),
        // A list of signers in the address counts alone.
        is_verified: matches!(mode, PgSslMode::VerifyFull) && !url.contains("sslrootcert"),
    })
}

#[cfg(test)]
mod tests;
