//! Partition values as directories, the Hive way, and a file's name in them.

use tributary_schemas::columns::PARTITION_COLUMNS;
use uuid::Uuid;

/// Path of a new file below the table's root: `source=<s>/type=<t>/<lane>-<uuid>.parquet`.
pub(super) fn file_path(values: &[String], lane: u32, id: Uuid) -> String {
    let mut path = String::with_capacity(120);
    for (column, value) in PARTITION_COLUMNS.iter().zip(values) {
        path.push_str(column);
        path.push('=');
        escape_into(value, &mut path);
        path.push('/');
    }
    path.push_str(&format!("{lane}-{id}.parquet"));
    path
}

/// Lane and UUID in a file's name, and its partition values; `None` when Tributary would not have named it so.
pub(super) fn parse_file_path(path: &str) -> Option<(u32, Uuid, Vec<String>)> {
    let mut parts = path.split('/');
    let mut values = Vec::with_capacity(PARTITION_COLUMNS.len());
    for column in PARTITION_COLUMNS {
        let value = parts.next()?.strip_prefix(column)?.strip_prefix('=')?;
        values.push(unescape(value)?);
    }
    let (lane, id) = parts.next()?.strip_suffix(".parquet")?.split_once('-')?;
    let named = (lane.parse().ok()?, id.parse().ok()?, values);
    parts.next().is_none().then_some(named)
}

/// Hive keeps letters, digits, `_`, `-` and `.`; everything else becomes `%XX`, and an empty value its default name.
fn escape_into(value: &str, path: &mut String) {
    if value.is_empty() {
        path.push_str("__HIVE_DEFAULT_PARTITION__");
    }
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.') {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
}

fn unescape(text: &str) -> Option<String> {
    if text == "__HIVE_DEFAULT_PARTITION__" {
        return Some(String::new());
    }
    percent_decode(text)
}

/// A path as the Delta log writes it: percent-encoded once more, so that `%` in a name survives a URL.
pub(super) fn to_log_path(path: &str) -> String {
    path.replace('%', "%25")
}

/// The reverse; `None` when it is not UTF-8.
pub(super) fn from_log_path(path: &str) -> Option<String> {
    percent_decode(path)
}

fn percent_decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let hex = std::str::from_utf8(bytes.get(at + 1..at + 3)?).ok()?;
            decoded.push(u8::from_str_radix(hex, 16).ok()?);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_is_hive_style() {
        let path = file_path(&["crm".into(), "email".into()], 3, Uuid::nil());
        assert_eq!(path, "source=crm/type=email/3-00000000-0000-0000-0000-000000000000.parquet");
    }

    #[test]
    fn other_names_are_not_ours() {
        for path in [
            "part-0000.parquet",
            "source=a/type=b/x-1.parquet",
            "source=a/type=b/c/3-00000000-0000-0000-0000-000000000000.parquet",
        ] {
            assert_eq!(parse_file_path(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_value_survives_the_path(source in ".*", lane: u32, id: u128) {
            let id = Uuid::from_u128(id);
            let values = vec![source, "email".to_owned()];
            let path = file_path(&values, lane, id);
            prop_assert!(!path.contains("//"));
            prop_assert_eq!(from_log_path(&to_log_path(&path)), Some(path.clone()));
            prop_assert_eq!(parse_file_path(&path), Some((lane, id, values)));
        }
    }
}
