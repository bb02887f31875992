//! When certificates expire. Of the whole of X.509 that is all that is wanted, so it is read here, in a few steps through the
//! DER of each certificate; whether one is to be trusted is decided by those who use it.

use std::fmt;
use tributary_schemas::record::days_since_epoch;

/// Why a file does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// It has no `BEGIN CERTIFICATE`.
    Empty,
    /// What follows one is none.
    Damaged,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it holds no certificate",
            Self::Damaged => "it holds a certificate that cannot be read",
        })
    }
}

/// When the first of the certificates in a PEM file expires, in seconds since the Unix epoch.
///
/// # Errors
/// There is none, or one cannot be read.
pub fn first_expiry(pem: &str) -> Result<i64, Unreadable> {
    let blocks = pem.split("-----BEGIN CERTIFICATE-----").skip(1);
    let expiries = blocks.map(|block| {
        let (text, _) = block.split_once("-----END CERTIFICATE-----")?;
        expiry(&decoded(text)?)
    });
    let first = expiries.collect::<Option<Vec<_>>>().ok_or(Unreadable::Damaged)?.into_iter().min();
    first.ok_or(Unreadable::Empty)
}

/// Base64 over any number of lines.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let digits = text.bytes().filter(|letter| !letter.is_ascii_whitespace() && *letter != b'=');
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0u32, 0);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6 | u32::from(value)) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    Some(bytes)
}

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// Of the version, which the first certificates do not have.
const VERSION: u8 = 0xa0;

/// `notAfter`, of `Certificate { tbsCertificate { [version], serialNumber, signature, issuer, validity { notBefore, notAfter }…`.
fn expiry(certificate: &[u8]) -> Option<i64> {
    let (_, certificate, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (_, mut rest, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (first, _, behind) = element(rest)?;
    if first == VERSION {
        rest = behind;
    }
    for _serial_signature_issuer in 0..3 {
        rest = element(rest)?.2;
    }
    let (_, validity, _) = element(rest).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (_, _, rest) = element(validity)?;
    let (tag, text, _) = element(rest)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// Tag and content of the first element, and what is behind it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        // So many bytes of length, of which four are more than any certificate needs.
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, behind) = rest.split_at_checked(length)?;
    Some((tag, content, behind))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`, as RFC 5280 has it.
fn time(tag: u8, text: &str) -> Option<i64> {
    let (year, rest) = match tag {
        UTC_TIME => {
            let year = text.get(..2)?.parse::<i64>().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, text.get(2..)?)
        }
        GENERALIZED_TIME => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    let rest = rest.strip_suffix('Z').filter(|rest| rest.len() == 10 && rest.bytes().all(|b| b.is_ascii_digit()))?;
    let two = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let (month, day) = (two(0)?, two(2)?);
    let seconds = two(4)? * 3_600 + two(6)? * 60 + two(8)?;
    (1..=12).contains(&month).then(|| days_since_epoch(year, month, day) * 86_400 + seconds)
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
        assert_eq!(first_expiry(UNTIL_2028), Ok(1_835_481_599));
        assert_eq!(first_expiry(UNTIL_9999), Ok(253_402_300_799));
        assert_eq!(first_expiry(&[UNTIL_9999, "a key\n", UNTIL_2028].concat()), Ok(1_835_481_599));
    }

    #[test]
    fn what_is_no_certificate_is_told() {
        assert_eq!(first_expiry("-----BEGIN PRIVATE KEY-----"), Err(Unreadable::Empty));
        assert_eq!(first_expiry(&UNTIL_2028[..200]), Err(Unreadable::Damaged));
        let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(first_expiry(&[UNTIL_2028, empty].concat()), Err(Unreadable::Damaged));
    }

    #[test]
    fn years_of_two_digits_are_those_from_1950_on() {
        assert_eq!(time(UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(time(UTC_TIME, "500101000000Z"), Some(-631_152_000));
        assert_eq!(time(GENERALIZED_TIME, "19700101000000Z"), Some(0));
        assert_eq!(time(UTC_TIME, "7001010000Z"), None);
        assert_eq!(time(UTC_TIME, "701301000000Z"), None);
    }

    #[test]
    fn days_are_consecutive() {
        let mut next = days_since_epoch(1899, 12, 31) + 1;
        for year in 1900..2500 {
            let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
            for (month, length) in (1..).zip([31, 28 + i64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) {
                for day in 1..=length {
                    assert_eq!(days_since_epoch(year, month, day), next, "{year}-{month}-{day}");
                    next += 1;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in 0usize..400, byte in any::<u8>(), cut in 0usize..400) {
            let text = UNTIL_2028.split("-----").nth(2).expect("its text");
            let mut bytes = decoded(text).expect("Base64");
            let at = at % bytes.len();
            bytes[at] = byte;
            let _any = expiry(&bytes);
            let _any = expiry(&bytes[..cut.min(bytes.len())]);
        }
    }
}
