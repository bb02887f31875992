//! Consumer groups inside one process: who reads which partition. Pure: told who comes and goes, it says who has to give
//! up what and who gets it.
//!
//! Partitions move one at a time and never have two owners: the old owner is told, finishes, and drops its
//! [`Release`](crate::log::Release); only then is its lease fenced and the partition given to the next one.

use crate::log::Topic;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{Notify, watch};

/// A group's name and the topic that it reads.
pub type GroupKey = (String, Topic);

/// The right to read one partition for a group.
#[derive(Debug)]
pub struct Lease {
    /// Which partition.
    pub partition: u32,
    /// Grows with every assignment of the process.
    pub number: u64,
    fenced: watch::Sender<bool>,
}

impl Lease {
    /// Whether the partition has another owner now, and tells when.
    pub fn fenced(&self) -> watch::Receiver<bool> {
        self.fenced.subscribe()
    }
}

/// Something that a member has to be told.
#[derive(Debug)]
pub enum Event {
    /// It has a partition.
    Assigned(Arc<Lease>),
    /// It has to give one up.
    Revoked(Arc<Lease>),
}

/// All groups of the process.
#[derive(Debug, Default)]
pub struct Groups(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    groups: HashMap<GroupKey, Group>,
    members: u64,
    leases: u64,
}

#[derive(Debug)]
struct Group {
    members: Vec<Slot>,
    holdings: Vec<Option<Holding>>,
}

#[derive(Debug)]
struct Slot {
    id: u64,
    events: VecDeque<Event>,
    wake: Arc<Notify>,
}

#[derive(Debug)]
struct Holding {
    member: u64,
    lease: Arc<Lease>,
    revoked: bool,
}

impl Groups {
    /// Adds a member to a group that reads `partitions` partitions; its id, and what wakes it.
    pub fn join(&self, key: &GroupKey, partitions: u32) -> (u64, Arc<Notify>) {
        let mut state = self.lock();
        state.members += 1;
        let (id, wake) = (state.members, Arc::new(Notify::new()));
        let group = state
            .groups
            .entry(key.clone())
            .or_insert_with(|| Group { members: Vec::new(), holdings: (0..partitions).map(|_| None).collect() });
        group.members.push(Slot { id, events: VecDeque::new(), wake: wake.clone() });
        state.rebalance(key);
        (id, wake)
    }

    /// Takes a member out; its leases are fenced and its partitions go to the others.
    pub fn leave(&self, key: &GroupKey, id: u64) {
        let mut state = self.lock();
        let Some(group) = state.groups.get_mut(key) else { return };
        group.members.retain(|slot| slot.id != id);
        for holding in &mut group.holdings {
            if let Some(gone) = holding.take_if(|holding| holding.member == id) {
                gone.lease.fenced.send_replace(true);
            }
        }
        if group.members.is_empty() {
            state.groups.remove(key);
        } else {
            state.rebalance(key);
        }
    }

    /// The next thing to tell a member.
    pub fn event(&self, key: &GroupKey, id: u64) -> Option<Event> {
        let mut state = self.lock();
        let slot = state.groups.get_mut(key)?.members.iter_mut().find(|slot| slot.id == id)?;
        slot.events.pop_front()
    }

    /// Gives a revoked partition free; nothing when its owner has left already.
    pub fn release(&self, key: &GroupKey, lease: &Arc<Lease>) {
        let mut state = self.lock();
        let Some(group) = state.groups.get_mut(key) else { return };
        let holding = &mut group.holdings[lease.partition as usize];
        if holding.take_if(|holding| Arc::ptr_eq(&holding.lease, lease)).is_some() {
            lease.fenced.send_replace(true);
            state.rebalance(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes from members that have too much, gives what is free to those that have too little.
    fn rebalance(&mut self, key: &GroupKey) {
        let Self { groups, leases, .. } = self;
        let Some(group) = groups.get_mut(key) else { return };
        let ids: Vec<u64> = group.members.iter().map(|slot| slot.id).collect();
        let owners: Vec<Option<usize>> = group
            .holdings
            .iter()
            .map(|holding| ids.iter().position(|id| holding.as_ref().is_some_and(|h| h.member == *id)))
            .collect();
        for (partition, owner) in divide(&owners, ids.len()).into_iter().enumerate() {
            let slot = &mut group.members[owner];
            match &mut group.holdings[partition] {
                free @ None => {
                    *leases += 1;
                    let fenced = watch::Sender::new(false);
                    let lease = Arc::new(Lease { partition: partition as u32, number: *leases, fenced });
                    *free = Some(Holding { member: slot.id, lease: lease.clone(), revoked: false });
                    slot.tell(Event::Assigned(lease));
                }
                Some(holding) if holding.member != slot.id && !holding.revoked => {
                    holding.revoked = true;
                    let (member, lease) = (holding.member, holding.lease.clone());
                    if let Some(slot) = group.members.iter_mut().find(|slot| slot.id == member) {
                        slot.tell(Event::Revoked(lease));
                    }
                }
                Some(_) => {}
            }
        }
    }
}

impl Slot {
    fn tell(&mut self, event: Event) {
        self.events.push_back(event);
        self.wake.notify_one();
    }
}

/// Divides partitions evenly among `members`, moving as few as possible: the member that shall have each, given the
/// one that has it now.
fn divide(owners: &[Option<usize>], members: usize) -> Vec<usize> {
    if members == 0 {
        return Vec::new();
    }
    let mut has = vec![0usize; members];
    owners.iter().flatten().for_each(|owner| has[*owner] += 1);
    // The larger shares stay with those that have most.
    let mut order: Vec<usize> = (0..members).collect();
    order.sort_by_key(|member| std::cmp::Reverse(has[*member]));
    let mut room = vec![owners.len() / members; members];
    order.iter().take(owners.len() % members).for_each(|member| room[*member] += 1);

    let mut keep = |owner: &Option<usize>| {
        let owner = (*owner)?;
        room[owner] = room[owner].checked_sub(1)?;
        Some(owner)
    };
    let mut shall: Vec<Option<usize>> = owners.iter().map(&mut keep).collect();
    let mut next = 0;
    for owner in shall.iter_mut().filter(|owner| owner.is_none()) {
        while room[next] == 0 {
            next += 1;
        }
        room[next] -= 1;
        *owner = Some(next);
    }
    shall.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shares_differ_by_at_most_one_and_no_one_within_its_share_loses(
            (members, owners) in (1usize..9).prop_flat_map(|members| {
                (Just(members), prop::collection::vec(prop::option::of(0..members), 0..20))
            })
        ) {
            let shall = divide(&owners, members);
            prop_assert_eq!(shall.len(), owners.len());
            let count = |of: usize| shall.iter().filter(|member| **member == of).count();
            let (least, most) = (owners.len() / members, owners.len().div_ceil(members));
            for member in 0..members {
                prop_assert!((least..=most).contains(&count(member)));
                let had = owners.iter().filter(|owner| **owner == Some(member)).count();
                let kept = (0..owners.len()).filter(|&p| owners[p] == Some(member) && shall[p] == member).count();
                prop_assert!(kept >= had.min(least), "member {} had {} and keeps {}", member, had, kept);
            }
        }
    }
}
