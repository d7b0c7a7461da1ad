//! Instances whose key is gone, and whether to believe it; pure.
//!
//! The store does not say why a key is gone. If the lease it had is still alive, somebody deleted the key on purpose: that is
//! believed at once. If the lease is gone too, its registrant died, or lost the store for too long and is about to
//! register again: so the instance is kept for a grace time. The store is asked once per lease, however many instances hung on it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use portolan_model::InstanceId;

use super::LeaseId;
use super::book::Gone;

/// How many leases may be asked about at once.
const ASKED_AT_ONCE: usize = 32;

/// See the module's head. `now` is the time since any fixed moment.
#[derive(Debug)]
pub(crate) struct Doubts {
    grace: Duration,
    questions: BTreeMap<LeaseId, Question>,
    kept: BTreeMap<InstanceId, Duration>,
}

#[derive(Debug, Default)]
struct Question {
    asked: bool,
    about: BTreeSet<InstanceId>,
    /// Gone after the lease was asked about, so the answer does not count for them.
    after: BTreeSet<InstanceId>,
}

impl Doubts {
    pub(crate) fn new(grace: Duration) -> Self {
        Self { grace, questions: BTreeMap::new(), kept: BTreeMap::new() }
    }

    /// An instance that had a lease is gone.
    pub(crate) fn raise(&mut self, gone: Gone) {
        let question = self.questions.entry(gone.lease).or_default();
        if question.asked {
            question.after.insert(gone.id)
        } else {
            question.about.insert(gone.id)
        };
    }

    /// Leases to ask about now.
    pub(crate) fn ask(&mut self) -> Vec<LeaseId> {
        let asked = self.questions.values().filter(|question| question.asked).count();
        let waiting = self.questions.iter_mut().filter(|(_, question)| !question.asked);
        let now = waiting.take(ASKED_AT_ONCE.saturating_sub(asked));
        now.map(|(lease, question)| {
            question.asked = true;
            *lease
        })
        .collect()
    }

    /// Whether `lease` is alive. Returns those that were deleted on purpose.
    pub(crate) fn answered(&mut self, lease: LeaseId, alive: bool, now: Duration) -> BTreeSet<InstanceId> {
        let Some(Question { asked: _, about, after }) = self.questions.remove(&lease) else {
            return BTreeSet::new();
        };
        if !after.is_empty() {
            self.questions.insert(lease, Question { about: after, ..Question::default() });
        }
        if alive {
            return about;
        }
        self.kept.extend(about.into_iter().map(|id| (id, now + self.grace)));
        BTreeSet::new()
    }

    /// The question about `lease` is to be asked again.
    pub(crate) fn unanswered(&mut self, lease: LeaseId) {
        self.questions.get_mut(&lease).into_iter().for_each(Question::unanswered);
    }

    /// Nobody answers any more: all questions are to be asked again.
    pub(crate) fn all_unanswered(&mut self) {
        self.questions.values_mut().for_each(Question::unanswered);
    }

    /// The store was away, and whoever is to return could not: the grace time starts again.
    pub(crate) fn renew(&mut self, now: Duration) {
        self.kept.values_mut().for_each(|until| *until = now + self.grace);
    }

    /// It is there, or known to be gone.
    pub(crate) fn settled(&mut self, id: &InstanceId) {
        self.kept.remove(id);
        for question in self.questions.values_mut() {
            question.about.remove(id);
            question.after.remove(id);
        }
    }

    /// Those whose grace time has passed.
    pub(crate) fn expired(&mut self, now: Duration) -> Vec<InstanceId> {
        let expired: Vec<_> =
            self.kept.iter().filter(|(_, until)| **until <= now).map(|(id, _)| id.clone()).collect();
        for id in &expired {
            self.kept.remove(id);
        }
        expired
    }

    /// How many are kept although their lease is gone.
    pub(crate) fn kept(&self) -> usize {
        self.kept.len()
    }
}

impl Question {
    fn unanswered(&mut self) {
        self.asked = false;
        self.about.append(&mut self.after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn id(text: &str) -> InstanceId {
        InstanceId::new(text).unwrap()
    }

    fn doubts(ids: &[&str]) -> Doubts {
        let mut doubts = Doubts::new(3 * S);
        ids.iter().for_each(|text| doubts.raise(Gone { id: id(text), lease: 7 }));
        assert_eq!(doubts.ask(), [7]);
        assert!(doubts.ask().is_empty(), "one question per lease");
        doubts
    }

    #[test]
    fn deleted_on_purpose() {
        let mut doubts = doubts(&["a", "b"]);
        assert_eq!(doubts.answered(7, true, S), [id("a"), id("b")].into());
        assert_eq!((doubts.kept(), doubts.expired(99 * S)), (0, vec![]));
    }

    #[test]
    fn gone_with_the_lease() {
        let mut doubts = doubts(&["a", "b"]);
        assert!(doubts.answered(7, false, S).is_empty());
        doubts.settled(&id("b"));
        assert_eq!(doubts.expired(3 * S), []);
        doubts.renew(3 * S);
        assert_eq!(doubts.expired(4 * S), []);
        assert_eq!(doubts.expired(6 * S), [id("a")]);
        assert_eq!(doubts.kept(), 0);
    }

    #[test]
    fn an_answer_counts_for_what_was_gone_before_the_question() {
        let mut doubts = doubts(&["a"]);
        doubts.raise(Gone { id: id("b"), lease: 7 });
        assert_eq!(doubts.answered(7, true, S), [id("a")].into());
        assert_eq!(doubts.ask(), [7]);
        doubts.unanswered(7);
        assert_eq!(doubts.ask(), [7], "asked again");
        doubts.all_unanswered();
        assert_eq!(doubts.ask(), [7], "and again");
        assert_eq!(doubts.answered(7, true, S), [id("b")].into());
    }
}
