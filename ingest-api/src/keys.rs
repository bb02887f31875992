//! API keys: how they are made, and what is kept of them.

use tributary_backends::{
    tables::{ApiKey, Permission},
    world::World,
};

/// What every key starts with, so that people and secret scanners recognise one.
pub const PREFIX: &str = "em_sk_";

/// Characters after the prefix: 43 of base 62 carry 256 bits.
const SECRET_CHARS: usize = 43;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// What the operator says about a new key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// Workspace that it belongs to; see [`check_name`].
    pub workspace: String,
    /// For people.
    pub label: String,
    /// Source name stamped on its records; see [`check_name`].
    pub source: String,
    /// What it may do.
    pub permissions: Vec<Permission>,
    /// Requests per second, when it has a rate of its own (0: off).
    pub rate_limit: Option<u32>,
}

/// A workspace or source name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name: use 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit")]
pub struct InvalidName(pub String);

/// Checks the name of a workspace or source: 1–64 of `[A-Za-z0-9._-]`, the first a letter or digit.
///
/// # Errors
/// [`InvalidName`]. Both names become directories of the lake, so `..` or a slash must never get in.
pub fn check_name(name: &str) -> Result<(), InvalidName> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let good = (1..=64).contains(&name.len())
        && name.chars().all(allowed)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if good { Ok(()) } else { Err(InvalidName(name.to_owned())) }
}

/// Makes a key: the row to store with `Tables::create_key`, and the secret, which exists nowhere else and is to be
/// shown once. Check the names with [`check_name`] first.
pub fn mint(world: &dyn World, new: NewKey) -> (ApiKey, String) {
    let secret = secret(world);
    let mut id = [0u8; 8];
    world.fill_random(&mut id);
    let key = ApiKey {
        id: format!("key_{:016x}", u64::from_be_bytes(id)),
        hash: hash(&secret),
        workspace: new.workspace,
        label: new.label,
        source: new.source,
        permissions: new.permissions,
        rate_limit: new.rate_limit,
        created_at: world.now_micros(),
        last_used_at: None,
        revoked_at: None,
    };
    (key, secret)
}

/// BLAKE3 of the key text: what is stored and looked up.
pub fn hash(secret: &str) -> [u8; 32] {
    *blake3::hash(secret.as_bytes()).as_bytes()
}

fn secret(world: &dyn World) -> String {
    let mut text = String::with_capacity(PREFIX.len() + SECRET_CHARS);
    text.push_str(PREFIX);
    while text.len() < PREFIX.len() + SECRET_CHARS {
        let mut random = [0u8; 64];
        world.fill_random(&mut random);
        // Bytes from 248 on are thrown away: they would make the first letters of the alphabet likelier.
        let fair = random.iter().filter(|byte| **byte < 248).map(|byte| char::from(ALPHABET[usize::from(byte % 62)]));
        let missing = PREFIX.len() + SECRET_CHARS - text.len();
        text.extend(fair.take(missing));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_backends::world::SystemWorld;

    fn new_key() -> NewKey {
        NewKey {
            workspace: "default".into(),
            label: "first".into(),
            source: "api".into(),
            permissions: vec![Permission::Write],
            rate_limit: None,
        }
    }

    #[test]
    fn a_secret_has_more_than_128_bits_and_only_its_hash_is_kept() {
        let (key, secret) = mint(&SystemWorld, new_key());
        let body = secret.strip_prefix(PREFIX).expect("prefix");
        assert!(body.len() as f64 * 62f64.log2() > 250.0);
        assert!(body.bytes().all(|b| ALPHABET.contains(&b)));
        assert_eq!(key.hash, hash(&secret));
        assert!(!serde_json::to_string(&key).expect("json").contains(body));
    }

    #[test]
    fn two_keys_differ() {
        let (a, secret_a) = mint(&SystemWorld, new_key());
        let (b, secret_b) = mint(&SystemWorld, new_key());
        assert_ne!(secret_a, secret_b);
        assert_ne!(a.id, b.id);
    }

    #[test]
    fn names_that_would_leave_the_lake_are_refused() {
        for good in ["a", "default", "Team-7", "v1.2_x", &"n".repeat(64)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "../x", "a/b", "a b", "_x", ".hidden", "-x", "ä", "a=b", &"n".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
