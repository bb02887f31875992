//! What a single value must be. Both readers of a record, the fast and the thorough one, ask here.

/// True when `text` has at most `max` Unicode code points.
pub(super) fn within(text: &str, max: usize) -> bool {
    // A code point takes at least one byte, so most texts need no counting.
    text.len() <= max || text.chars().nth(max).is_none()
}

/// The member of `names` that `text` is.
pub(super) fn one_of(names: &'static [&'static str], text: &str) -> Option<&'static str> {
    names.iter().find(|name| **name == text).copied()
}

/// A JSON number's text as an integer from 0 to 2^63−1, written without fraction or exponent.
pub(super) fn size(json: &str) -> Option<i64> {
    json.parse().ok().filter(|size| *size >= 0)
}

/// A JSON number's text as a number from 0 to 1.
pub(super) fn ratio(json: &str) -> Option<f64> {
    let first = json.as_bytes().first()?;
    if !(first.is_ascii_digit() || *first == b'-') {
        return None;
    }
    // Adding 0 makes -0 a plain 0.
    json.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio)).map(|ratio| ratio + 0.0)
}

/// An e-mail address as mail systems take them: `local@domain`, the local part of letters, digits, the signs
/// `!#$%&'*+-/=?^_{|}~.` and the back-tick, or a quoted string; the domain of dot-separated labels that neither start
/// nor end with a hyphen, or an address literal in brackets. International letters are welcome in both. Dots may stand
/// anywhere in the local part, because such addresses exist.
pub(super) fn email(text: &str) -> bool {
    text.rsplit_once('@').is_some_and(|(local, domain)| local_part(local) && domain_part(domain))
}

fn local_part(local: &str) -> bool {
    if let Some(quoted) = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        let mut escaped = false;
        let plain = quoted.chars().all(|c| {
            let ok = !c.is_control() && (escaped || c != '"');
            escaped = !escaped && c == '\\';
            ok
        });
        return plain && !escaped && local.len() >= 2;
    }
    let sign = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c) || international(c);
    !local.is_empty() && local.chars().all(sign)
}

fn domain_part(domain: &str) -> bool {
    if let Some(literal) = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return !literal.is_empty() && literal.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-".contains(&b));
    }
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '-' || international(c);
    domain.split('.').all(|label| {
        (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-') && label.chars().all(letter)
    })
}

fn international(c: char) -> bool {
    !c.is_ascii() && !c.is_control() && !c.is_whitespace()
}

/// A URI as in RFC 3986: a scheme, a colon, and only the characters of a URI after it; `http` and `https` with a host.
pub(super) fn uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let mut letters = scheme.bytes();
    let scheme_ok = letters.next().is_some_and(|b| b.is_ascii_alphabetic())
        && letters.all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    scheme_ok && uri_characters(rest) && (!web || host(rest).is_some_and(|host| !host.is_empty()))
}

/// Only characters of a URI: unreserved, reserved, `%` with two hex digits; one `#`; brackets only in the authority.
fn uri_characters(rest: &str) -> bool {
    let mut bytes = rest.bytes();
    while let Some(byte) = bytes.next() {
        let ok = match byte {
            b'%' => [bytes.next(), bytes.next()].iter().all(|hex| hex.is_some_and(|b| b.is_ascii_hexdigit())),
            _ => byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=".contains(&byte),
        };
        if !ok {
            return false;
        }
    }
    let after_authority = match authority(rest) {
        Some(authority) => &rest[2 + authority.len()..],
        None => rest,
    };
    !after_authority.contains(['[', ']']) && rest.matches('#').count() <= 1
}

fn authority(rest: &str) -> Option<&str> {
    let after = rest.strip_prefix("//")?;
    Some(&after[..after.find(['/', '?', '#']).unwrap_or(after.len())])
}

/// The host of an authority, with brackets when it has them.
fn host(rest: &str) -> Option<&str> {
    let authority = authority(rest)?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if host.starts_with('[') {
        return host.find(']').map(|end| &host[..=end]);
    }
    Some(host.split_once(':').map_or(host, |(host, _)| host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_code_points() {
        assert!(within("äöü", 3));
        assert!(!within("äöü", 2));
        assert!(within("", 0));
        assert!(within("👩‍👩‍👧", 5));
        assert!(!within("👩‍👩‍👧", 4));
    }

    #[test]
    fn sizes() {
        for (json, expected) in [("0", Some(0)), ("-0", Some(0)), ("9223372036854775807", Some(i64::MAX))] {
            assert_eq!(size(json), expected, "{json}");
        }
        for json in ["-1", "9223372036854775808", "1.0", "1e3", "true", "\"1\"", "null", "1e400"] {
            assert_eq!(size(json), None, "{json}");
        }
    }

    #[test]
    fn ratios() {
        for (json, expected) in
            [("0", 0.0f64), ("1", 1.0), ("0.25", 0.25), ("1e-400", 0.0), ("10e-1", 1.0), ("-0", 0.0)]
        {
            assert_eq!(ratio(json).map(f64::to_bits), Some(expected.to_bits()), "{json}");
        }
        for json in ["-0.1", "1.0000001", "1e400", "null", "true", "\"0.5\"", "[]", "nan", "inf"] {
            assert_eq!(ratio(json), None, "{json}");
        }
    }

    #[test]
    fn email_addresses() {
        for text in [
            "a@b",
            "tim.smith+tag@example.co.uk",
            "a..b@docomo.ne.jp",
            "o'hara@example.org",
            "\"john doe\"@example.org",
            "\"a\\\"b\"@example.org",
            "root@[127.0.0.1]",
            "用户@例子.广告",
            "jürgen@bücher.example",
        ] {
            assert!(email(text), "{text}");
        }
        for text in [
            "",
            "@",
            "a@",
            "@b",
            "a b@c.d",
            "a@b c",
            "a@b..c",
            "a@-b.c",
            "a@b-.c",
            "a@.b",
            "a@b.",
            "plain",
            "Tim <tim@example.org>",
            "a@b@c",
            "\"@example.org",
            "\"a\"b\"@example.org",
            "\"a\\\"@example.org",
            "a\n@b.c",
            "a@[]",
        ] {
            assert!(!email(text), "{text}");
        }
    }

    #[test]
    fn uris() {
        for text in [
            "https://example.org",
            "HTTP://example.org:8080/a%20b?c=d&e=[]".trim_end_matches("[]"),
            "https://user:pw@[::1]:80/p#f",
            "mailto:a@b.c",
            "urn:isbn:0451450523",
            "s3://bucket/key",
            "data:,x",
            "file:///etc/hosts",
        ] {
            assert!(uri(text), "{text}");
        }
        for text in [
            "",
            "example.org/a",
            "/a/b",
            "//host/a",
            ":a",
            "1a:b",
            "https:",
            "https://",
            "https:///path",
            "https://user@/x",
            "http://:80/",
            "https://a b",
            "https://a/%zz",
            "https://a/%2",
            "https://a/<x>",
            "https://a/b#c#d",
            "https://a/[b]",
            "https://ä.example",
            "ht tp://a",
            "https://a/\\b",
        ] {
            assert!(!uri(text), "{text}");
        }
    }
}
