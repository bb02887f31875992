//! The fast reader: serde straight into borrowed fields. It says only *whether* a record is good; what is wrong with a
//! bad one is found by [`super::thorough`].

use super::{
    Attachment, Nature, Participant, Pii, PiiEntity, Record, RecordType, check, date,
    shape::{ATTACHMENT_TYPES, NATURES, PARTICIPANT_TYPES, REDACTIONS, ROLES, SCHEMA_VERSION},
};
use crate::limits;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt, marker::PhantomData};

/// Reads a record that has no errors.
pub(super) fn read(text: &str) -> Result<Record<'_>, Rejected> {
    let Object(envelope) = serde_json::from_str(text).map_err(|error| Rejected(error.to_string()))?;
    normalise(envelope).ok_or_else(|| Rejected("a value out of its bounds".to_owned()))
}

/// The record has at least one error.
#[derive(Debug)]
pub(super) struct Rejected(pub(super) String);

/// A string, borrowed where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyText;
        impl<'de> Visitor<'de> for AnyText {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(AnyText)
    }
}

/// The entries of an object of strings, in the order of the text.
struct Entries<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyEntries;
        impl<'de> Visitor<'de> for AnyEntries {
            type Value = Entries<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some((key, value)) = map.next_entry::<Text<'de>, Text<'de>>()? {
                    entries.push((key.0, value.0));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(AnyEntries)
    }
}

/// An object. A derived struct alone would also take an array of its fields' values.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OnlyObject<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for OnlyObject<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(OnlyObject(PhantomData))
    }
}

/// A field that may be left out but must not be `null`.
struct Given<T>(Option<T>);

impl<T> Default for Given<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(|value| Self(Some(value)))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow, rename = "_type")]
    kind: Text<'a>,
    #[serde(borrow, rename = "_schema_version")]
    schema_version: Text<'a>,
    #[serde(borrow, rename = "_event_at")]
    event_at: Text<'a>,
    #[serde(borrow, rename = "_vendor_ids")]
    vendor_ids: Entries<'a>,
    #[serde(borrow, rename = "_product_id")]
    product_id: Text<'a>,
    #[serde(borrow, default, rename = "_project_id")]
    project_id: Given<Text<'a>>,
    #[serde(borrow, default, rename = "_project_ids")]
    project_ids: Given<Vec<Text<'a>>>,
    #[serde(borrow, default, rename = "_nature")]
    nature: Given<Text<'a>>,
    #[serde(borrow, default, rename = "_thread_id")]
    thread_id: Given<Text<'a>>,
    #[serde(borrow, default, rename = "_participants")]
    participants: Vec<Object<RawParticipant<'a>>>,
    #[serde(borrow, default, rename = "_attachments")]
    attachments: Vec<Object<RawAttachment<'a>>>,
    #[serde(borrow, default, rename = "_tags")]
    tags: Vec<Text<'a>>,
    #[serde(borrow, default, rename = "_pii")]
    pii: Given<Object<RawPii<'a>>>,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawParticipant<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    role: Text<'a>,
    #[serde(borrow, default)]
    name: Given<Text<'a>>,
    #[serde(borrow, default)]
    email: Given<Text<'a>>,
    #[serde(borrow, default, rename = "type")]
    kind: Given<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAttachment<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    filename: Given<Text<'a>>,
    #[serde(borrow, default)]
    size: Given<&'a RawValue>,
    #[serde(borrow, default)]
    mime_type: Given<Text<'a>>,
    #[serde(borrow, default)]
    sha1: Given<Text<'a>>,
    #[serde(borrow, default)]
    md5: Given<Text<'a>>,
    #[serde(borrow, default)]
    vendor_url: Given<Text<'a>>,
    #[serde(borrow, default)]
    upload_intent_id: Given<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPii<'a> {
    #[serde(default)]
    contains_email: Given<bool>,
    #[serde(default)]
    contains_phone: Given<bool>,
    #[serde(borrow, default)]
    sensitive_score: Given<&'a RawValue>,
    #[serde(borrow, default)]
    detected_entities: Vec<Object<RawEntity<'a>>>,
    #[serde(borrow, default)]
    redaction_status: Given<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntity<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    value: Given<Text<'a>>,
    #[serde(borrow, default)]
    confidence: Given<&'a RawValue>,
}

/// Checks every bound; `None` at the first that does not hold.
fn normalise(raw: Envelope<'_>) -> Option<Record<'_>> {
    let project_ids = match (raw.project_id.0, raw.project_ids.0) {
        (Some(one), None) => vec![bounded(one, limits::MAX_ID_CHARS)?],
        (None, Some(all)) if !all.is_empty() => texts(all, usize::MAX, limits::MAX_ID_CHARS)?,
        _ => return None,
    };
    let within = raw.schema_version.0 == SCHEMA_VERSION
        && raw.participants.len() <= limits::MAX_PARTICIPANTS
        && raw.attachments.len() <= limits::MAX_ATTACHMENTS
        && raw.data.get().starts_with('{');
    within.then_some(())?;
    Some(Record {
        kind: RecordType::from_name(&raw.kind.0)?,
        event_at: date::seconds(&raw.event_at.0).ok()?,
        vendor_ids: sorted(raw.vendor_ids.0)?,
        product_id: bounded(raw.product_id, limits::MAX_ID_CHARS)?,
        project_ids,
        nature: match raw.nature.0 {
            Some(nature) => Nature::from_name(check::one_of(NATURES, &nature.0)?),
            None => Nature::Evidence,
        },
        thread_id: optional(raw.thread_id, limits::MAX_THREAD_ID_CHARS)?,
        participants: raw.participants.into_iter().map(participant).collect::<Option<_>>()?,
        attachments: raw.attachments.into_iter().map(attachment).collect::<Option<_>>()?,
        tags: texts(raw.tags, limits::MAX_TAGS, limits::MAX_TAG_CHARS)?,
        pii: match raw.pii.0 {
            Some(raw) => Some(pii(raw)?),
            None => None,
        },
        data: raw.data,
    })
}

fn participant(Object(raw): Object<RawParticipant<'_>>) -> Option<Participant<'_>> {
    let email = optional(raw.email, limits::MAX_EMAIL_CHARS)?;
    email.as_ref().is_none_or(|text| check::email(text)).then_some(())?;
    Some(Participant {
        id: bounded(raw.id, limits::MAX_PARTICIPANT_CHARS)?,
        role: check::one_of(ROLES, &raw.role.0)?,
        name: optional(raw.name, limits::MAX_PARTICIPANT_CHARS)?,
        email,
        kind: optional_of(PARTICIPANT_TYPES, raw.kind)?,
    })
}

fn attachment(Object(raw): Object<RawAttachment<'_>>) -> Option<Attachment<'_>> {
    let vendor_url = optional(raw.vendor_url, limits::MAX_URL_CHARS)?;
    vendor_url.as_ref().is_none_or(|text| check::uri(text)).then_some(())?;
    Some(Attachment {
        kind: check::one_of(ATTACHMENT_TYPES, &raw.kind.0)?,
        filename: optional(raw.filename, limits::MAX_FILENAME_CHARS)?,
        size: match raw.size.0 {
            Some(number) => Some(check::size(number.get())?),
            None => None,
        },
        mime_type: optional(raw.mime_type, limits::MAX_ATTACHMENT_CHARS)?,
        sha1: optional(raw.sha1, limits::MAX_DIGEST_CHARS)?,
        md5: optional(raw.md5, limits::MAX_DIGEST_CHARS)?,
        vendor_url,
        upload_intent_id: optional(raw.upload_intent_id, limits::MAX_ATTACHMENT_CHARS)?,
    })
}

fn pii(Object(raw): Object<RawPii<'_>>) -> Option<Pii<'_>> {
    Some(Pii {
        contains_email: raw.contains_email.0,
        contains_phone: raw.contains_phone.0,
        sensitive_score: ratio(raw.sensitive_score)?,
        detected_entities: raw.detected_entities.into_iter().map(entity).collect::<Option<_>>()?,
        redaction_status: optional_of(REDACTIONS, raw.redaction_status)?,
    })
}

fn entity(Object(raw): Object<RawEntity<'_>>) -> Option<PiiEntity<'_>> {
    Some(PiiEntity {
        kind: bounded(raw.kind, limits::MAX_TAG_CHARS)?,
        value: optional(raw.value, limits::MAX_ENTITY_VALUE_CHARS)?,
        confidence: ratio(raw.confidence)?,
    })
}

fn bounded(text: Text<'_>, max: usize) -> Option<Cow<'_, str>> {
    check::within(&text.0, max).then_some(text.0)
}

// In these three the outer `None` is "bad", the inner one "left out".
#[expect(clippy::option_option, reason = "bad and left out are different answers")]
fn optional(text: Given<Text<'_>>, max: usize) -> Option<Option<Cow<'_, str>>> {
    text.0.map_or(Some(None), |text| bounded(text, max).map(Some))
}

#[expect(clippy::option_option, reason = "bad and left out are different answers")]
fn optional_of(names: &'static [&'static str], text: Given<Text<'_>>) -> Option<Option<&'static str>> {
    text.0.map_or(Some(None), |text| check::one_of(names, &text.0).map(Some))
}

#[expect(clippy::option_option, reason = "bad and left out are different answers")]
fn ratio(number: Given<&RawValue>) -> Option<Option<f64>> {
    number.0.map_or(Some(None), |number| check::ratio(number.get()).map(Some))
}

fn texts(texts: Vec<Text<'_>>, max: usize, chars: usize) -> Option<Vec<Cow<'_, str>>> {
    (texts.len() <= max).then_some(())?;
    texts.into_iter().map(|text| bounded(text, chars)).collect()
}

fn sorted<'a>(mut entries: Vec<(Cow<'a, str>, Cow<'a, str>)>) -> Option<Vec<(Cow<'a, str>, Cow<'a, str>)>> {
    entries.sort_unstable();
    let distinct = entries.windows(2).all(|pair| pair[0].0 != pair[1].0);
    (distinct && !entries.is_empty()).then_some(entries)
}
