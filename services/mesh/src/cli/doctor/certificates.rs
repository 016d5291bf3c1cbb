//! What `mesh doctor` thinks of the certificates that a server shows: how long they are good, and whether this machine
//! believes them. Speaks to nobody.

use std::time::Duration;

use mesh_types::Timestamp;
use tokio_rustls::rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{CertificateError, Error, RootCertStore};

use super::Finding;

const CHECK: &str = "certificate";
/// A certificate that renews itself does so a month before its end.
const WARNING_DAYS: u64 = 21;
const DAY_SECONDS: u64 = 86_400;
/// 9999-12-31T23:59:59Z, which is written where there is no end (RFC 5280, 4.1.2.5).
const NO_END_SECONDS: u64 = 253_402_300_799;

/// What the clients of that server look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Dates, name and who signed it.
    All,
    /// Whatever is shown is taken, or somebody else's list of signers counts.
    Dates,
}

/// In seconds since 1970.
struct Validity {
    from: u64,
    until: u64,
}

/// `server`: for people, such as `NATS db.example.org:4222`. `chain`: as the server sent it, its own one first.
pub(super) fn judge(
    server: &str,
    name: &ServerName<'_>,
    chain: &[CertificateDer<'_>],
    trust: (Trust, &RootCertStore),
    now: Timestamp,
) -> Vec<Finding> {
    let seconds = now.as_millis() / 1_000;
    let Some((own, others)) = chain.split_first() else {
        return vec![Finding::wrong(
            CHECK,
            format!("{server} shows none"),
            "configure one there",
        )];
    };
    let mut findings = vec![match dates(server, chain, seconds) {
        Ok(finding) => finding,
        Err(error) => {
            let found = format!("{server}: {error}");
            return vec![Finding::wrong(CHECK, found, "install one that clients can read")];
        }
    }];
    let (Trust::All, roots) = trust else {
        return findings;
    };
    match verify(own, others, name, roots, seconds) {
        Ok(()) => {}
        // The dates are told already.
        Err(Error::InvalidCertificate(error)) if is_about_dates(&error) => {}
        // A signer of the same name with another key is somebody else.
        Err(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            findings.push(Finding::warning(
                CHECK,
                format!("{server}: this machine does not know who signed it"),
                "add the signer to this machine's certificates (SSL_CERT_FILE); the server must send its whole chain",
            ));
        }
        Err(error) => findings.push(Finding::wrong(
            CHECK,
            format!("{server}: {error}"),
            "install one that is for this name, or use the name that it is for",
        )),
    }
    findings
}

/// Of the one that ends first: a chain is as good as its weakest part.
fn dates(server: &str, chain: &[CertificateDer<'_>], now: u64) -> Result<Finding, Error> {
    let (mut from, mut until, mut whose) = (0, NO_END_SECONDS, "");
    for (place, certificate) in chain.iter().enumerate() {
        let validity = validity(certificate)?;
        from = from.max(validity.from);
        if validity.until < until {
            until = validity.until;
            whose = if place == 0 { "" } else { "that of its signer " };
        }
    }
    let (start, end) = (day(from), day(until));
    Ok(if until < now {
        let found = format!(
            "{server}: {whose}expired on {end}, {} days ago",
            (now - until) / DAY_SECONDS
        );
        Finding::wrong(CHECK, found, "renew it there: clients refuse the server until then")
    } else if from > now {
        let found = format!("{server}: not good before {start}");
        Finding::wrong(
            CHECK,
            found,
            "set this machine's clock, or install one that is good already",
        )
    } else if until - now < WARNING_DAYS * DAY_SECONDS {
        let found = format!(
            "{server}: {whose}good for {} more days, until {end}",
            (until - now) / DAY_SECONDS
        );
        let next = "renew it there; if that should happen by itself, look why it does not";
        Finding::warning(CHECK, found, next)
    } else {
        Finding::ok(CHECK, format!("{server}: {whose}good until {end}"))
    })
}

/// The verifier tells the dates: they are the first that it looks at, so at the beginning and at the end of time it says
/// which ones it found.
fn validity(certificate: &CertificateDer<'_>) -> Result<Validity, Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    let nobody = RootCertStore::empty();
    let at = |seconds| {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &nobody, &[], time(seconds), algorithms)
    };
    let from = match at(0) {
        Err(Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) => not_before.as_secs(),
        _ => 0,
    };
    let until = match at(NO_END_SECONDS) {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => not_after.as_secs(),
        _ => NO_END_SECONDS,
    };
    Ok(Validity { from, until })
}

fn verify(
    own: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    name: &ServerName<'_>,
    roots: &RootCertStore,
    now: u64,
) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(own)?;
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    verify_server_name(&parsed, name)?;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, others, time(now), algorithms)
}

const fn is_about_dates(error: &CertificateError) -> bool {
    matches!(
        error,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    )
}

fn time(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// `2027-01-01`.
fn day(seconds: u64) -> String {
    let at = Timestamp::EPOCH.plus(Duration::from_secs(seconds)).to_string();
    at.split('T').next().unwrap_or_default().to_owned()
}
