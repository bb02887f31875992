//! What is wrong is logged once, not a million times.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// What was said is not said again for this long.
const SILENCE: Duration = Duration::from_secs(60);
/// Subjects that are remembered; with more of them all are forgotten, and said again.
const SUBJECTS: usize = 1_000;

/// What was said lately, by what it was about.
#[derive(Debug, Default)]
pub struct Said(Mutex<HashMap<String, Lately>>);

#[derive(Debug)]
struct Lately {
    again_at: Instant,
    unsaid: u64,
}

impl Said {
    /// How often `subject` was left unsaid since it was last said; `None` when it is to stay unsaid now too.
    pub fn may_say(&self, subject: &str) -> Option<u64> {
        self.may_say_at(subject, Instant::now())
    }

    fn may_say_at(&self, subject: &str, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lately) = said.get_mut(subject) {
            if now < lately.again_at {
                lately.unsaid += 1;
                return None;
            }
            lately.again_at = now + SILENCE;
            return Some(std::mem::take(&mut lately.unsaid));
        }
        if said.len() >= SUBJECTS {
            said.clear();
        }
        said.insert(subject.to_owned(), Lately { again_at: now + SILENCE, unsaid: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_said_once_a_minute_with_how_often_it_was_not() {
        let (said, start) = (Said::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(said.may_say_at("a", at(0)), Some(0));
        assert_eq!(said.may_say_at("a", at(1)), None);
        assert_eq!(said.may_say_at("a", at(59)), None);
        assert_eq!(said.may_say_at("b", at(59)), Some(0));
        assert_eq!(said.may_say_at("a", at(60)), Some(2));
        assert_eq!(said.may_say_at("a", at(61)), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let said = Said::default();
        for n in 0..10 * SUBJECTS {
            said.may_say(&n.to_string());
        }
        assert!(said.0.lock().unwrap().len() <= SUBJECTS);
    }
}
