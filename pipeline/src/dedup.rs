//! Which records of a chunk become rows, and what each of them counts as. Pure.
//!
//! Every record is compared with its direct predecessor of the same identity, be it in the same chunk or in the lake:
//!
//! * no predecessor: **landed**;
//! * the same digest: **unchanged**;
//! * another digest: **overwritten**.
//!
//! A record that comes *again*, from a dead letter, is no newer than it was at first: when what is there has a greater
//! version, it is **unchanged** too. All others are newer than whatever came before them.
//!
//! The row of an identity is its last record that was not *unchanged*, so `_version` is the offset at which the row
//! last changed. Both rules look at nothing but the order of the records, therefore the final table and the totals
//! are the same however the log is cut into chunks. In particular v1 → v2 → v1 counts two overwrites and is written
//! with the offset of the last v1, even when v1 was in the lake already and the chunk holds all the rest.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasherDefault, Hasher},
    ops::AddAssign,
};
use tributary_backends::tables::Location;
use tributary_schemas::identity::Identity;

/// One record, as far as deduplication sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Who.
    pub identity: Identity,
    /// Content hash.
    pub digest: i64,
    /// Its offset; of a record that comes again, the offset that it had at first.
    pub version: i64,
    /// Whether it comes again.
    pub again: bool,
}

impl Seen {
    /// Whether a row of this digest and version stays as it is.
    fn leaves(&self, digest: i64, version: i64) -> bool {
        self.digest == digest || (self.again && self.version < version)
    }
}

/// How many records ended in which outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// First row of an identity.
    pub landed: u64,
    /// Replaced another version.
    pub overwritten: u64,
    /// Identical to the version before it.
    pub unchanged: u64,
    /// Could not be processed and went to `dead-letters`.
    pub dead_lettered: u64,
    /// Of all these, those that came again: dead letters that were replayed.
    pub again: u64,
}

impl Outcomes {
    /// Records in all.
    pub fn total(&self) -> u64 {
        self.landed + self.overwritten + self.unchanged + self.dead_lettered
    }
}

impl AddAssign for Outcomes {
    fn add_assign(&mut self, other: Self) {
        self.landed += other.landed;
        self.overwritten += other.overwritten;
        self.unchanged += other.unchanged;
        self.dead_lettered += other.dead_lettered;
        self.again += other.again;
    }
}

/// What a chunk does to one table.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// Records that become rows, as places in the input, ascending.
    pub keep: Vec<u32>,
    /// Rows that they replace.
    pub replaced: Vec<Location>,
    /// What each record of the input counts as.
    pub outcomes: Outcomes,
}

/// A map keyed by identities. They are cryptographic hashes already, so their first half serves as the hash: no
/// sender can aim at a bucket.
pub type IdentityMap<V> = HashMap<Identity, V, BuildHasherDefault<FirstHalf>>;

/// Takes the first 8 bytes that it is given.
#[derive(Debug, Default, Clone, Copy)]
pub struct FirstHalf(u64);

impl Hasher for FirstHalf {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _length: usize) {
        // The length prefix of the array says nothing.
    }
}

struct Latest {
    digest: i64,
    version: i64,
    /// Place of the last record that changed the row; `None` while the lake's row stands.
    changed_by: Option<u32>,
}

/// Resolves records in offset order against what the lake holds.
pub fn resolve(records: &[Seen], existing: &IdentityMap<Location>) -> Resolution {
    let mut latest: IdentityMap<Latest> = IdentityMap::with_capacity_and_hasher(records.len(), Default::default());
    let mut outcomes = Outcomes::default();
    for (place, record) in (0u32..).zip(records) {
        outcomes.again += u64::from(record.again);
        let this = Latest { digest: record.digest, version: record.version, changed_by: Some(place) };
        match latest.entry(record.identity) {
            Entry::Occupied(before) if record.leaves(before.get().digest, before.get().version) => {
                outcomes.unchanged += 1;
            }
            Entry::Occupied(mut before) => {
                outcomes.overwritten += 1;
                before.insert(this);
            }
            Entry::Vacant(first) => match existing.get(&record.identity) {
                None => {
                    outcomes.landed += 1;
                    first.insert(this);
                }
                Some(row) if record.leaves(row.digest, row.version) => {
                    outcomes.unchanged += 1;
                    first.insert(Latest { digest: row.digest, version: row.version, changed_by: None });
                }
                Some(_) => {
                    outcomes.overwritten += 1;
                    first.insert(this);
                }
            },
        }
    }
    let mut keep: Vec<u32> = latest.values().filter_map(|row| row.changed_by).collect();
    keep.sort_unstable();
    let identity_at = |place: &u32| records.get(*place as usize).map(|record| record.identity);
    let replaced =
        keep.iter().filter_map(identity_at).filter_map(|identity| existing.get(&identity)).copied().collect();
    Resolution { keep, replaced, outcomes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn seen(identity: u8, digest: i64) -> Seen {
        Seen { identity: Identity([identity; 16]), digest, version: 10, again: false }
    }

    fn at(version: i64, digest: i64) -> Location {
        Location { file: Uuid::nil(), row: 0, version, digest, table_version: 0 }
    }

    /// Takes the records in chunks of the given sizes; returns the rows (identity → version, digest) and the totals.
    fn in_chunks(records: &[Seen], sizes: &[usize]) -> (IdentityMap<Location>, Outcomes, usize) {
        let (mut rows, mut totals, mut replaced) = (IdentityMap::default(), Outcomes::default(), 0);
        let (mut start, mut sizes) = (0, sizes.iter().copied().cycle());
        while start < records.len() {
            let end = (start + sizes.next().unwrap().max(1)).min(records.len());
            let chunk = &records[start..end];
            let resolution = resolve(chunk, &rows);
            assert_eq!(resolution.outcomes.total(), chunk.len() as u64);
            totals += resolution.outcomes;
            replaced += resolution.replaced.len();
            for place in resolution.keep {
                let record = chunk[place as usize];
                rows.insert(record.identity, at(record.version, record.digest));
            }
            start = end;
        }
        (rows, totals, replaced)
    }

    proptest! {
        #[test]
        fn the_cut_into_chunks_changes_nothing(
            records in prop::collection::vec((0u8..6, 0i64..3, prop::option::weighted(0.2, 0i64..120)), 0..120),
            sizes in prop::collection::vec(1usize..40, 1..8),
        ) {
            let record = |(offset, (identity, digest, first)): (i64, (u8, i64, Option<i64>))| {
                let first = first.filter(|first| *first < offset);
                Seen { version: first.unwrap_or(offset), again: first.is_some(), ..seen(identity, digest) }
            };
            let records: Vec<_> = (0..).zip(records).map(record).collect();
            let (rows, totals, replaced) = in_chunks(&records, &sizes);
            let (rows_one_by_one, totals_one_by_one, _) = in_chunks(&records, &[1]);
            prop_assert_eq!(&rows, &rows_one_by_one);
            prop_assert_eq!(totals, totals_one_by_one);
            prop_assert_eq!(rows.len() as u64, totals.landed);
            prop_assert!(replaced as u64 <= totals.overwritten);
            // The model: of each identity the last record that is not older than the row that it meets.
            let mut model = HashMap::new();
            for record in &records {
                let (digest, version) = model.entry(record.identity).or_insert((record.digest, record.version));
                if *digest != record.digest && !(record.again && record.version < *version) {
                    (*digest, *version) = (record.digest, record.version);
                }
            }
            let rows: HashMap<_, _> = rows.into_iter().map(|(who, row)| (who, (row.digest, row.version))).collect();
            prop_assert_eq!(rows, model);
        }
    }

    #[test]
    fn there_and_back_again_is_two_overwrites_and_one_row() {
        let existing = IdentityMap::from_iter([(Identity([7; 16]), at(3, 1))]);
        let resolution = resolve(&[seen(7, 2), seen(7, 1)], &existing);
        assert_eq!(resolution.keep, [1]);
        assert_eq!(resolution.replaced, [at(3, 1)]);
        assert_eq!(resolution.outcomes, Outcomes { overwritten: 2, ..Outcomes::default() });
    }

    #[test]
    fn an_identical_record_is_written_nowhere() {
        let existing = IdentityMap::from_iter([(Identity([7; 16]), at(3, 1))]);
        let resolution = resolve(&[seen(7, 1), seen(8, 1), seen(8, 1)], &existing);
        assert_eq!(resolution.keep, [1]);
        assert_eq!(resolution.replaced, []);
        assert_eq!(resolution.outcomes, Outcomes { landed: 1, unchanged: 2, ..Outcomes::default() });
    }

    #[test]
    fn what_comes_again_is_no_newer_than_it_was() {
        let again = |digest, version| Seen { version, again: true, ..seen(7, digest) };
        let existing = IdentityMap::from_iter([(Identity([7; 16]), at(3, 1))]);
        let older = resolve(&[again(2, 2)], &existing);
        assert_eq!((older.keep, older.outcomes.unchanged), (vec![], 1));
        let newer = resolve(&[again(2, 4)], &existing);
        assert_eq!((newer.keep, newer.outcomes.overwritten), (vec![0], 1));
        // Behind a newer one in the same chunk, and two that come again in the wrong order.
        let chunk = resolve(&[seen(7, 3), again(2, 4), seen(8, 1)], &existing);
        assert_eq!((chunk.keep, chunk.outcomes.unchanged), (vec![0, 2], 1));
        let turned = resolve(&[again(5, 6), again(4, 5)], &IdentityMap::default());
        assert_eq!((turned.keep, turned.outcomes.unchanged), (vec![0], 1));
        assert_eq!((turned.outcomes.again, turned.outcomes.total()), (2, 2));
    }
}
