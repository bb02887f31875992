//! Records → batches. Pure: the same records in the same order give the same batches, which is what lets a killed
//! run go on with the batches that it had planned.
//!
//! **Order.** The last version of a record wins, so two versions must reach the log in the order of the input. Within
//! a batch they do. Between batches: a record whose identity is in another batch that is still being filled *seals*
//! that batch first. So of two batches with a common identity, the one with the earlier version has the lower number,
//! and [`super::window::Window`] sends them one after the other.

use super::route::Route;
use std::collections::{HashMap, VecDeque};
use tributary_schemas::{identity::Identity, limits};

/// What a batch may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// Records.
    pub records: usize,
    /// Bytes of the request's body.
    pub bytes: usize,
    /// Attachments.
    pub attachments: usize,
    /// Bytes in all batches being filled together: many types and products must not need much memory.
    pub open_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            records: limits::MAX_BATCH_RECORDS,
            bytes: limits::MAX_BODY_BYTES,
            attachments: limits::MAX_BATCH_ATTACHMENTS,
            open_bytes: 32 * 1024 * 1024,
        }
    }
}

/// Where a record comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Which input, from 0.
    pub input: usize,
    /// Line or ordinal in it, from 1.
    pub at: u64,
}

/// A record in a batch's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its bytes.
    pub range: std::ops::Range<usize>,
    /// Where it comes from.
    pub origin: Origin,
}

/// A record that cannot be sent at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsendable {
    /// Its text on one line; none when it is too long to be kept.
    pub text: Option<Vec<u8>>,
    /// Where it comes from.
    pub origin: Origin,
    /// `INVALID_JSON` or `TOO_LARGE`.
    pub code: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

/// A request to be made, or only unsendable records when there are no slots.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Number in the plan, from 0.
    pub number: u64,
    /// Records, separated by newlines.
    pub text: Vec<u8>,
    /// The records in `text`.
    pub slots: Vec<Slot>,
    /// Records laid out over several lines, which NDJSON cannot carry byte for byte.
    pub multiline: bool,
    /// Identities of the valid records.
    pub identities: Vec<Identity>,
    /// Records met before this batch was sealed that cannot be sent.
    pub unsendable: Vec<Unsendable>,
    attachments: usize,
}

impl Batch {
    /// A record's text.
    pub fn record(&self, slot: &Slot) -> &[u8] {
        &self.text[slot.range.clone()]
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Group {
    kind: Option<String>,
    product: Option<String>,
    multiline: bool,
}

impl Group {
    /// True when a record that tells only so much may ride along.
    fn takes(&self, route: &Route, multiline: bool) -> bool {
        let fits = |part: &Option<String>, own: &Option<String>| part.is_none() || part == own;
        self.multiline == multiline && fits(&route.kind, &self.kind) && fits(&route.product, &self.product)
    }
}

/// Fills batches.
#[derive(Debug)]
pub struct Planner {
    limits: Limits,
    open: HashMap<Group, (u64, Batch)>,
    /// Which open batch holds an identity, by the number under which it was opened.
    holders: HashMap<Identity, u64>,
    last: Option<Group>,
    opened: u64,
    open_bytes: usize,
    sealed: VecDeque<Batch>,
    next_number: u64,
    unsendable: Vec<Unsendable>,
}

impl Planner {
    /// Nothing planned.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            open: HashMap::new(),
            holders: HashMap::new(),
            last: None,
            opened: 0,
            open_bytes: 0,
            sealed: VecDeque::new(),
            next_number: 0,
            unsendable: Vec::new(),
        }
    }

    /// Adds the input's next record.
    pub fn add(&mut self, text: &[u8], route: Route, origin: Origin) {
        if text.len() + 2 > self.limits.bytes {
            return self.refuse(Unsendable::too_large(origin, self.limits.bytes));
        }
        let multiline = text.contains(&b'\n');
        let group = self.group_for(&route, multiline);
        self.seal_other_holder(&route, &group);
        if self.open.get(&group).is_some_and(|(_, batch)| !self.has_room(batch, text.len(), route.attachments)) {
            self.seal(&group);
        }
        self.put(text, &route, origin, &group);
        self.last = Some(group);
        if self.open_bytes > self.limits.open_bytes {
            self.seal_largest();
        }
    }

    /// Notes a record that cannot be sent; it goes with the next batch that is sealed.
    pub fn refuse(&mut self, record: Unsendable) {
        self.unsendable.push(record);
    }

    /// The next batch that is ready to be sent.
    pub fn take(&mut self) -> Option<Batch> {
        self.sealed.pop_front()
    }

    /// No more records for now: seals every batch, in the order in which they were opened.
    pub fn flush(&mut self) {
        let mut groups: Vec<(u64, Group)> =
            self.open.iter().map(|(group, (opened, _))| (*opened, group.clone())).collect();
        groups.sort_by_key(|(opened, _)| *opened);
        for (_, group) in groups {
            self.seal(&group);
        }
        if !self.unsendable.is_empty() {
            self.push(Batch::default());
        }
    }

    /// The group of a record. One that does not tell its type or product rides along with its neighbour.
    fn group_for(&self, route: &Route, multiline: bool) -> Group {
        let partial = route.kind.is_none() || route.product.is_none();
        match &self.last {
            Some(last) if partial && last.takes(route, multiline) => last.clone(),
            _ => Group { kind: route.kind.clone(), product: route.product.clone(), multiline },
        }
    }

    fn has_room(&self, batch: &Batch, bytes: usize, attachments: usize) -> bool {
        // Two more than the records and what separates them: the brackets of an array.
        batch.slots.len() < self.limits.records
            && batch.text.len() + bytes + 3 <= self.limits.bytes
            && batch.attachments + attachments <= self.limits.attachments
    }

    fn seal_other_holder(&mut self, route: &Route, group: &Group) {
        let Some(holder) = route.identity.and_then(|identity| self.holders.get(&identity)) else { return };
        let other = self.open.iter().find(|(_, (opened, _))| opened == holder).map(|(group, _)| group.clone());
        if let Some(other) = other.filter(|other| other != group) {
            self.seal(&other);
        }
    }

    fn put(&mut self, text: &[u8], route: &Route, origin: Origin, group: &Group) {
        let (opened, batch) = self.open.entry(group.clone()).or_insert_with(|| {
            self.opened += 1;
            (self.opened, Batch { multiline: group.multiline, ..Batch::default() })
        });
        if !batch.slots.is_empty() {
            batch.text.push(b'\n');
        }
        let start = batch.text.len();
        batch.text.extend_from_slice(text);
        batch.slots.push(Slot { range: start..batch.text.len(), origin });
        batch.attachments += route.attachments;
        self.open_bytes += text.len() + 1;
        if let Some(identity) = route.identity {
            batch.identities.push(identity);
            self.holders.insert(identity, *opened);
        }
    }

    fn seal_largest(&mut self) {
        let largest = self.open.iter().max_by_key(|(_, (opened, batch))| (batch.text.len(), u64::MAX - opened));
        if let Some(group) = largest.map(|(group, _)| group.clone()) {
            self.seal(&group);
        }
    }

    fn seal(&mut self, group: &Group) {
        let Some((opened, batch)) = self.open.remove(group) else { return };
        self.open_bytes -= batch.text.len() + 1;
        for identity in &batch.identities {
            if self.holders.get(identity) == Some(&opened) {
                self.holders.remove(identity);
            }
        }
        self.push(batch);
    }

    fn push(&mut self, mut batch: Batch) {
        batch.number = self.next_number;
        batch.unsendable = std::mem::take(&mut self.unsendable);
        self.next_number += 1;
        self.sealed.push_back(batch);
    }
}

impl Unsendable {
    /// A record that does not fit into a request.
    pub fn too_large(origin: Origin, limit: usize) -> Self {
        let reason = format!("the record does not fit into a request of {limit} bytes; its text is not repeated here");
        Self { text: None, origin, code: "TOO_LARGE", reason }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
