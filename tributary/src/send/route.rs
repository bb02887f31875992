//! What `send` has to know of a record to put it into the right batch, at the right place in the order.

use serde_json::value::RawValue;
use std::{borrow::Cow, collections::HashMap};
use tributary_schemas::{identity::Identity, record};

/// A record, as far as batches go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// `_type` in lower case; none when the record does not tell.
    pub kind: Option<String>,
    /// `_product_id`; none when the record does not tell.
    pub product: Option<String>,
    /// None when the record is not valid: it will be rejected, so its order does not matter.
    pub identity: Option<Identity>,
    /// Attachments it names.
    pub attachments: usize,
}

impl Route {
    /// Reads a record with the code that the server reads it with. Of an invalid one, whatever can be read.
    pub fn of(text: &[u8]) -> Self {
        match record::parse(text) {
            Ok(record) => Self {
                kind: Some(record.kind.as_str().to_owned()),
                product: Some(record.product_id.as_ref().to_owned()),
                identity: Some(Identity::of(&record)),
                attachments: record.attachments.len(),
            },
            Err(_) => Self::guessed(text),
        }
    }

    fn guessed(text: &[u8]) -> Self {
        let fields: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(text).unwrap_or_default();
        let text_of = |name: &str| serde_json::from_str::<String>(fields.get(name)?.get()).ok();
        let attachments = fields.get("_attachments").map_or(0, |list| {
            serde_json::from_str::<Vec<serde::de::IgnoredAny>>(list.get()).map_or(0, |list| list.len())
        });
        Self {
            kind: text_of("_type").map(|kind| kind.to_lowercase()),
            product: text_of("_product_id"),
            identity: None,
            attachments,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_record_tells_what_it_can() {
        let route = Route::of(br#"{"_type":"MESSAGE","_product_id":7,"_attachments":[{},{}],"x":[1]}"#);
        assert_eq!(route, Route { kind: Some("message".into()), product: None, identity: None, attachments: 2 });
        let nothing = Route { kind: None, product: None, identity: None, attachments: 0 };
        for text in [&b"{\"_type\":"[..], b"\xff", b"", b"[]", b"17"] {
            assert_eq!(Route::of(text), nothing);
        }
    }

    #[test]
    fn letter_case_and_the_order_of_vendor_ids_make_no_other_record() {
        let one = br#"{"_type":"Message","_schema_version":"1.0.0","_event_at":"2020-01-01T00:00:00.4Z","_vendor_ids":{"a":"1","b":"2"},"_product_id":"p","_project_id":"q","data":{}}"#;
        let other = br#"{"_type":"message","_schema_version":"1.0.0","_event_at":"2020-01-01T00:00:00Z","_vendor_ids":{"b":"2","a":"1"},"_product_id":"p2","_project_id":"q","data":{"x":1}}"#;
        let (one, other) = (Route::of(one), Route::of(other));
        assert_eq!(one.identity, other.identity);
        assert!(one.identity.is_some());
        assert_eq!((one.kind, other.kind), (Some("message".into()), Some("message".into())));
        assert_ne!(one.product, other.product);
    }
}
