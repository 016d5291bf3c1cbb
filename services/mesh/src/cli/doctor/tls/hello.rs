//! The beginning of a TLS connection, up to where the server has shown its certificates: nothing is said after it, so
//! whatever is shown is taken, and judged elsewhere.

use std::sync::Arc;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme};

use super::{Peer, Road};

/// `SSLRequest`: its length and its code (https://www.postgresql.org/docs/current/protocol-message-formats.html).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// Of nats-server's INFO, which is some kilobytes in a large cluster.
const INFO_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug)]
pub(super) enum Error {
    /// Nobody is there, or is what it should be.
    Unreachable(String),
    /// Somebody is there, and TLS does not come about.
    NoTls(String),
}

/// The part of INFO that matters here.
#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    tls_required: bool,
    #[serde(default)]
    tls_available: bool,
}

/// As the server shows it, its own certificate first; `None` where it speaks no TLS.
pub(super) async fn chain(peer: &Peer) -> Result<Option<Vec<CertificateDer<'static>>>, Error> {
    let unreachable = |error: std::io::Error| Error::Unreachable(error.to_string());
    let mut stream = TcpStream::connect((peer.host.as_str(), peer.port))
        .await
        .map_err(unreachable)?;
    let is_offered = match peer.road {
        Road::AtOnce => true,
        Road::Nats => nats_offers(&mut stream).await.map_err(unreachable)?,
        Road::Postgres => postgres_offers(&mut stream).await.map_err(unreachable)?,
    };
    if !is_offered {
        return Ok(None);
    }
    let no_tls = |error: &dyn std::fmt::Display| Error::NoTls(error.to_string());
    let name = ServerName::try_from(peer.host.clone()).map_err(|error| no_tls(&error))?;
    let connector = TlsConnector::from(Arc::new(takes_everything().map_err(|error| no_tls(&error))?));
    let connected = connector.connect(name, stream).await.map_err(|error| no_tls(&error))?;
    let shown = connected.get_ref().1.peer_certificates().unwrap_or_default();
    Ok(Some(shown.iter().map(|one| one.clone().into_owned()).collect()))
}

async fn nats_offers(stream: &mut TcpStream) -> std::io::Result<bool> {
    let mut line = String::new();
    // Nothing is lost in the buffer: after INFO the server waits for us.
    BufReader::new(stream.take(INFO_BYTES_MAX)).read_line(&mut line).await?;
    let info = line.strip_prefix("INFO ").map(str::trim);
    let info: Option<Info> = info.and_then(|info| serde_json::from_str(info).ok());
    let info = info.ok_or_else(|| std::io::Error::other("it is no nats-server"))?;
    Ok(info.tls_required || info.tls_available)
}

async fn postgres_offers(stream: &mut TcpStream) -> std::io::Result<bool> {
    stream.write_all(&SSL_REQUEST).await?;
    match stream.read_u8().await? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        _ => Err(std::io::Error::other("it is no PostgreSQL")),
    }
}

fn takes_everything() -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Looks(provider)));
    Ok(builder.with_no_client_auth())
}

/// Takes every chain; that the server has the key to it is checked.
#[derive(Debug)]
struct Looks(Arc<CryptoProvider>);

impl ServerCertVerifier for Looks {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
