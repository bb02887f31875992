//! When certificates expire. Whether one is to be trusted is decided by those who use it, and they do not tell the rest.

use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::fmt;
use x509_cert::{Certificate, der::Decode};

/// Why a file does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// It has no `BEGIN CERTIFICATE`.
    Empty,
    /// What follows one is none, and why.
    Damaged(String),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it holds no certificate"),
            Self::Damaged(why) => write!(f, "it holds a certificate that cannot be read: {why}"),
        }
    }
}

/// When the first of the certificates in a PEM file expires, in seconds since the Unix epoch.
///
/// # Errors
/// There is none, or one cannot be read.
pub fn first_expiry(pem: &[u8]) -> Result<u64, Unreadable> {
    let mut first = None;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let expiry = expiry(&certificate.map_err(|error| Unreadable::Damaged(error.to_string()))?)?;
        first = Some(first.map_or(expiry, |first: u64| first.min(expiry)));
    }
    first.ok_or(Unreadable::Empty)
}

fn expiry(der: &[u8]) -> Result<u64, Unreadable> {
    let certificate = Certificate::from_der(der).map_err(|error| Unreadable::Damaged(error.to_string()))?;
    Ok(certificate.tbs_certificate().validity().not_after.to_unix_duration().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `openssl ca -selfsign … -startdate 20260101000000Z`, once with `-enddate 20280229235959Z` and once with
    /// `-enddate 99991231235959Z`, which does not fit into a year of two digits.
    const UNTIL_2028: &str = include_str!("certificate_2028.pem");
    const UNTIL_9999: &str = include_str!("certificate_9999.pem");

    #[test]
    fn the_first_to_expire_is_told() {
        assert_eq!(first_expiry(UNTIL_2028.as_bytes()), Ok(1_835_481_599));
        assert_eq!(first_expiry(UNTIL_9999.as_bytes()), Ok(253_402_300_799));
        assert_eq!(first_expiry([UNTIL_9999, "what it is for\n", UNTIL_2028].concat().as_bytes()), Ok(1_835_481_599));
    }

    #[test]
    fn what_is_no_certificate_is_told() {
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for none in ["", "a note\n", key] {
            assert_eq!(first_expiry(none.as_bytes()), Err(Unreadable::Empty), "{none}");
        }
        let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for damaged in [&UNTIL_2028[..200], &[UNTIL_2028, empty].concat()] {
            assert!(matches!(first_expiry(damaged.as_bytes()), Err(Unreadable::Damaged(_))), "{damaged}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in 0usize..400, byte in any::<u8>(), cut in 0usize..400) {
            let certificate = CertificateDer::from_pem_slice(UNTIL_2028.as_bytes()).expect("PEM");
            let mut bytes = certificate.to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _any = expiry(&bytes);
            let _any = expiry(&bytes[..cut.min(bytes.len())]);
        }
    }
}
