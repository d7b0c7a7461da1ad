//! In which order and how far sights of keys may be told; pure.
//!
//! Events say where to look, and a look shows how a key is by then, which may be later than the event. So one look may
//! show a later transaction's change of one key without an earlier one's of another, whose event had not come yet. What
//! is known to be complete is what the look *before* had reached, and all of this look if no event has come since: sights
//! from beyond that wait.

use std::sync::Arc;

use portolan_model::{Entry, Key, KeyChange, Revision};

/// How a key was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sight {
    Here(Arc<Entry>),
    /// It was gone by this transaction.
    Gone(Revision),
}

impl Sight {
    pub(super) fn at(&self) -> Revision {
        match self {
            Self::Here(entry) => entry.revision,
            Self::Gone(at) => *at,
        }
    }

    pub(super) fn into_entry(self) -> Option<Arc<Entry>> {
        match self {
            Self::Here(entry) => Some(entry),
            Self::Gone(_) => None,
        }
    }
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Cut {
    /// What the last look had reached.
    reached: Revision,
    waiting: Vec<(Key, Sight)>,
}

impl Cut {
    /// After a first reading that has reached `newest`.
    pub(super) fn after(newest: Revision) -> Self {
        Self { reached: newest, waiting: Vec::new() }
    }

    /// A look has shown `sights` and reached `newest`; `behind`: events have come since it began. Returns what may be told,
    /// and up to where nothing is missing then.
    pub(super) fn fold(
        &mut self,
        sights: Vec<(Key, Sight)>,
        newest: Revision,
        behind: bool,
        known: impl Fn(&Key) -> Option<Arc<Entry>>,
    ) -> (Vec<KeyChange>, Revision) {
        let complete = if behind { self.reached } else { newest.max(self.reached) };
        self.reached = newest.max(self.reached);
        for (key, sight) in sights {
            let sight = match sight {
                Sight::Here(entry) => Sight::Here(entry),
                // Somebody else's removal does not raise the root's version, and still is later than all seen before.
                Sight::Gone(at) => {
                    let before = self.waiting.iter().filter(|(other, _)| *other == key).map(|(_, s)| s.at());
                    let before = before.chain(known(&key).map(|known| known.revision)).max();
                    Sight::Gone(at.max(before.unwrap_or_default()))
                }
            };
            self.waiting.push((key, sight));
        }
        self.waiting.sort_by_key(|(_, sight)| sight.at());
        let beyond = self.waiting.partition_point(|(_, sight)| sight.at() <= complete);
        let told = self.waiting.drain(..beyond);
        let changes = told.filter_map(|(key, sight)| match sight {
            Sight::Here(entry) => {
                let news = known(&key).is_none_or(|known| known.revision < entry.revision);
                news.then_some(KeyChange::Upsert(entry))
            }
            // Whether it is known or waited before this, or neither, which then says nothing.
            Sight::Gone(revision) => Some(KeyChange::Remove { key, revision }),
        });
        (changes.collect(), complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(name: &str, at: u64) -> (Key, Sight) {
        let key = Key::new(name).unwrap();
        (key.clone(), Sight::Here(Arc::new(Entry { key, value: [].into(), revision: Revision(at) })))
    }

    fn gone(name: &str, at: u64) -> (Key, Sight) {
        (Key::new(name).unwrap(), Sight::Gone(Revision(at)))
    }

    #[track_caller]
    fn check(cut: &mut Cut, sights: Vec<(Key, Sight)>, newest: u64, behind: bool, expect: &str) {
        let known = |key: &Key| here(key.as_str(), 1).1.into_entry();
        let (changes, complete) = cut.fold(sights, Revision(newest), behind, known);
        let told: Vec<_> = changes
            .iter()
            .map(|change| match change {
                KeyChange::Upsert(entry) => format!("{}@{}", entry.key, entry.revision),
                KeyChange::Remove { key, revision } => format!("-{key}@{revision}"),
                KeyChange::Reset(_) => "reset".to_owned(),
            })
            .collect();
        assert_eq!(format!("{} to {complete}", told.join(" ")), expect);
    }

    #[test]
    fn nothing_is_told_before_what_came_before_it() {
        let mut cut = Cut::after(Revision(5));
        check(&mut cut, vec![here("a", 7), here("b", 6)], 7, false, "b@6 a@7 to 7");
        // While we looked at a, c was changed before it, and d after it.
        check(&mut cut, vec![here("a", 9)], 9, true, " to 7");
        check(&mut cut, vec![here("c", 8), here("d", 11)], 11, true, "c@8 a@9 to 9");
        check(&mut cut, vec![gone("a", 12)], 12, false, "d@11 -a@12 to 12");
        check(&mut cut, vec![here("new", 14)], 14, true, " to 12");
        check(&mut cut, vec![gone("new", 15)], 15, false, "new@14 -new@15 to 15");
    }

    #[test]
    fn what_is_known_is_not_told() {
        check(&mut Cut::after(Revision(0)), vec![here("a", 1)], 3, false, " to 3");
    }

    #[test]
    fn somebody_else_s_removal_is_later_than_what_was_seen() {
        let mut cut = Cut::after(Revision(3));
        check(&mut cut, vec![gone("a", 0)], 3, false, "-a@1 to 3");
        check(&mut cut, vec![here("a", 5)], 5, true, " to 3");
        check(&mut cut, vec![gone("a", 4)], 5, false, "a@5 -a@5 to 5");
    }
}
