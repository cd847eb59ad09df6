//! Whose certificates are trusted, and what is said of one that is not.
//!
//! What the machine trusts, and the authorities in `network.ca_file` beside them: a company's proxy that looks into
//! everything, or a server of one's own.

use super::EgressError;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, ClientConfig};
use rustls_platform_verifier::Verifier;
use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The certificates of a PEM file; at least one.
pub fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, EgressError> {
    let place = file.display();
    let wrong = |what: String| EgressError::Unusable(format!("network.ca_file: {place} {what}"));
    let bytes = std::fs::read(file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(wrong("holds no certificate; it takes PEM, with -----BEGIN CERTIFICATE-----".into())),
        Err(error) => Err(wrong(format!("is no PEM: {error}"))),
    }
}

/// How TLS is spoken by what is not HTTP.
pub(super) fn config(authorities: &[CertificateDer<'static>]) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(default_provider());
    let verifier = Verifier::new_with_extra_roots(authorities.iter().cloned(), Arc::clone(&provider))?;
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// Why a connection failed, with its causes; what is wrong with a certificate in a sentence of its own.
pub fn explain(error: &(dyn Error + 'static)) -> String {
    let mut sentence = error.to_string();
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(told) = certificate(cause) {
            return told;
        }
        let words = cause.to_string();
        // That it was the client's is no news.
        if !sentence.contains(&words) && !words.starts_with("client error (") {
            sentence.push_str(": ");
            sentence.push_str(&words);
        }
        next = cause.source();
    }
    sentence
}

/// Whether a connection failed because the certificate was issued by nobody who is trusted here.
pub fn lacks_authority(error: &(dyn Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| (**error).source());
    let wrong = causes.find_map(invalid);
    matches!(wrong, Some(CertificateError::UnknownIssuer | CertificateError::BadSignature))
}

/// The certificate error that this error is.
fn invalid<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a CertificateError> {
    if let Some(wrapped) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        // Its `source` is that of what it wraps.
        return invalid(wrapped);
    }
    match error.downcast_ref::<rustls::Error>() {
        Some(rustls::Error::InvalidCertificate(wrong)) => Some(wrong),
        _ => None,
    }
}

/// What is wrong with a certificate, when that is what went wrong.
fn certificate(error: &(dyn Error + 'static)) -> Option<String> {
    let wrong = invalid(error)?;
    Some(match wrong {
        // The latter when it has the name of one that is trusted, and another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate was issued by nobody who is trusted here: by itself, or by an \
             authority of its own; if it is yours, or a proxy's on the way, put that authority's certificate into \
             network.ca_file"
                .into()
        }
        CertificateError::NotValidForName => "its certificate is for another name".into(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("its certificate is not for {}, but for {}", expected.to_str(), names(presented))
        }
        CertificateError::Expired => "its certificate has expired".into(),
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "its certificate has expired on {}; it is to be renewed there, unless the clock is wrong here",
            day(*not_after)
        ),
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "its certificate is valid from {} on; unless the clock is wrong here, it is to be waited for",
            day(*not_before)
        ),
        CertificateError::Revoked => "its certificate was revoked".into(),
        other => format!("its certificate is no good: {other}"),
    })
}

/// Names as people write them: rustls says `DnsName("example.org")`.
fn names(presented: &[String]) -> String {
    let plain = |name: &String| name.split('"').nth(1).unwrap_or(name).to_owned();
    match presented {
        [] => "no name at all".into(),
        names => names.iter().map(plain).collect::<Vec<_>>().join(", "),
    }
}

fn day(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    chrono::DateTime::from_timestamp(seconds, 0).map_or_else(|| "a day".into(), |at| at.format("%Y-%m-%d").to_string())
}
