//! Ids, cursors and entries as they are written.

use super::*;

#[test]
fn ids_are_read_back() {
    let id: LetterId = "a/b/2/17".parse().unwrap();
    assert_eq!((id.topic.as_str(), id.partition, id.offset, id.to_string().as_str()), ("a/b", 2, 17, "a/b/2/17"));
    for bad in ["", "records", "records/1", "records/x/1", "records/-1/1", "records/1/y"] {
        assert!(bad.parse::<LetterId>().is_err(), "{bad}");
    }
    let cursor: Cursor = "7/0/-3".parse().unwrap();
    assert_eq!(cursor.to_string(), "7/0/-3");
    for bad in ["", "7", "7/0", "7/0/3/1", "x/0/3"] {
        assert!(bad.parse::<Cursor>().is_err(), "{bad}");
    }
}

/// A letter whose stage happens to be called so is no entry.
#[test]
fn only_what_is_signed_is_an_entry() {
    let letter = DeadLetter {
        topic: "records".to_owned(),
        partition: 0,
        offset: 0,
        stage: "replayed".to_owned(),
        reason: String::new(),
        at: 0,
        key: Vec::new(),
        payload: b"{}".to_vec(),
    };
    assert_eq!(Action::of(&letter), None);
    let action = Action { deed: Deed::Discarded, by: "é\"\u{1b}".into(), reason: "r".into(), at: 7, offset: None };
    assert_eq!(Action::of(&action.entry(&letter)), Some(action));
}
