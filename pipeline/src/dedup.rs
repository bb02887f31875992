//! Which records of a chunk become rows, and what each of them counts as. Pure.
//!
//! Every record is compared with its direct predecessor of the same identity, be it in the same chunk or in the lake:
//!
//! * no predecessor: **landed**;
//! * the same digest: **unchanged**;
//! * another digest: **overwritten**.
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
    /// Place of the last record that changed the row; `None` while the lake's row stands.
    changed_by: Option<u32>,
}

/// Resolves records in offset order against what the lake holds.
pub fn resolve(records: &[Seen], existing: &IdentityMap<Location>) -> Resolution {
    let mut latest: IdentityMap<Latest> = IdentityMap::with_capacity_and_hasher(records.len(), Default::default());
    let mut outcomes = Outcomes::default();
    for (place, record) in (0u32..).zip(records) {
        match latest.entry(record.identity) {
            Entry::Occupied(mut before) => {
                if before.get().digest == record.digest {
                    outcomes.unchanged += 1;
                } else {
                    outcomes.overwritten += 1;
                    before.insert(Latest { digest: record.digest, changed_by: Some(place) });
                }
            }
            Entry::Vacant(first) => match existing.get(&record.identity) {
                None => {
                    outcomes.landed += 1;
                    first.insert(Latest { digest: record.digest, changed_by: Some(place) });
                }
                Some(row) if row.digest == record.digest => {
                    outcomes.unchanged += 1;
                    first.insert(Latest { digest: record.digest, changed_by: None });
                }
                Some(_) => {
                    outcomes.overwritten += 1;
                    first.insert(Latest { digest: record.digest, changed_by: Some(place) });
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
        Seen { identity: Identity([identity; 16]), digest }
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
                rows.insert(record.identity, at((start + place as usize) as i64, record.digest));
            }
            start = end;
        }
        (rows, totals, replaced)
    }

    proptest! {
        #[test]
        fn the_cut_into_chunks_changes_nothing(
            records in prop::collection::vec((0u8..6, 0i64..3), 0..120),
            sizes in prop::collection::vec(1usize..40, 1..8),
        ) {
            let records: Vec<_> = records.into_iter().map(|(identity, digest)| seen(identity, digest)).collect();
            let (rows, totals, replaced) = in_chunks(&records, &sizes);
            let (rows_one_by_one, totals_one_by_one, _) = in_chunks(&records, &[1]);
            prop_assert_eq!(&rows, &rows_one_by_one);
            prop_assert_eq!(totals, totals_one_by_one);
            prop_assert_eq!(rows.len() as u64, totals.landed);
            prop_assert!(replaced as u64 <= totals.overwritten);
            // The model: the last record of each identity, whatever came before.
            for record in &records {
                let last = records.iter().rev().find(|other| other.identity == record.identity).unwrap();
                prop_assert_eq!(rows[&record.identity].digest, last.digest);
            }
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
}
