//! Encryption to the cluster, with rustls: the stack that the object stores bring along in any case.

use crate::tables::TablesError;
use rustls::{
    CertificateError, ClientConfig, Error, RootCertStore,
    client::WebPkiServerVerifier,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// How connections are encrypted. The certificate of each node must name the node's IP address.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// PEM file with the certificates of the authorities that may have signed the nodes'. Default: the system's, or
    /// those of `SSL_CERT_FILE`.
    pub authority: Option<PathBuf>,
    /// PEM files with our own certificate and its key, where the cluster wants to know who comes.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// What the driver needs; reads the files.
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, TablesError> {
        let halted = |error: String| TablesError::Halted(format!("encryption to the CQL cluster: {error}"));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = Arc::new(self.roots().map_err(halted)?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
        let verifier = verifier.map_err(|error| halted(error.to_string()))?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| halted(error.to_string()))?
            .with_webpki_verifier(verifier);
        let Some((certificate, key)) = &self.identity else { return Ok(Arc::new(builder.with_no_client_auth())) };
        let chain = certificates(certificate).map_err(halted)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| halted(unreadable(key, &error)))?;
        builder.with_client_auth_cert(chain, key).map(Arc::new).map_err(|error| halted(error.to_string()))
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        match &self.authority {
            Some(file) => {
                for certificate in certificates(file)? {
                    roots.add(certificate).map_err(|error| unreadable(file, &error))?;
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
                if roots.is_empty() {
                    let why: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
                    return Err(format!("the system has no certificates of authorities: {}", why.join("; ")));
                }
            }
        }
        Ok(roots)
    }
}

/// At least one.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|error| unreadable(file, &error))?;
    if read.is_empty() { Err(format!("{} holds no certificate", file.display())) } else { Ok(read) }
}

fn unreadable(file: &Path, error: &dyn std::fmt::Display) -> String {
    format!("cannot use {}: {error}", file.display())
}

/// When the node refuses us.
pub(super) const SHOW_OURS: &str = "does the node want a certificate of ours, or is ours out of date?";

/// Whether a connection broke because the node refused us. It may do so after the handshake, and then the driver has
/// only words for it: those of rustls.
pub(super) fn is_refusal(words: &str) -> bool {
    words.contains("received fatal alert")
}

/// What an operator must mend before a connection can come about; `None` for what may pass.
pub(super) fn advice(error: &std::io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    let todo = match error {
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "renew the certificate of the node"
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "name the file with the certificate of who signed the node's"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the node's certificate must name its IP address",
        Error::InvalidCertificate(_) => "mend the certificate of the node",
        Error::AlertReceived(_) => SHOW_OURS,
        Error::InvalidMessage(_) => "is client encryption turned on at the node?",
        _ => return None,
    };
    Some(format!("{error}: {todo}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        let refused = |tls: &Tls| tls.config().unwrap_err().to_string();
        let tls = Tls { authority: Some(file.clone()), ..Tls::default() };
        assert!(refused(&tls).contains("ca.pem"));
        std::fs::write(&file, "no certificate").unwrap();
        assert!(refused(&tls).contains("ca.pem holds no certificate"), "{}", refused(&tls));
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(refused(&tls).contains("ca.pem"), "{}", refused(&tls));
    }

    #[test]
    fn what_an_operator_must_mend_is_told_from_what_may_pass() {
        let of = |error: Error| advice(&io::Error::new(io::ErrorKind::InvalidData, error));
        assert!(of(Error::InvalidCertificate(CertificateError::Expired)).unwrap().contains("renew"));
        assert!(of(Error::InvalidCertificate(CertificateError::UnknownIssuer)).unwrap().contains("who signed"));
        assert!(of(Error::InvalidCertificate(CertificateError::NotValidForName)).unwrap().contains("IP address"));
        assert_eq!(of(Error::HandshakeNotComplete), None);
        assert_eq!(advice(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
    }
}
