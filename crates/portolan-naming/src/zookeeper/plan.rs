//! From a wish and what is known to what to write; pure. A plan has no choice left, and is tried anew when what it was
//! made from is found to be out of date.

use std::collections::BTreeSet;

use portolan_model::{Guard, Instance, InstanceId, Limit, Phase, Registration, RegistryError, Revision};

use super::jobs::Past;
use super::layout::{BODY_LIMIT, Layout};
use super::table::{Intent, Node, Table};

/// What somebody wants.
#[derive(Debug, Clone)]
pub(super) enum Wish {
    /// This is the instance, whatever was there.
    Register(Registration),
    /// This is held and should be there, unless somebody else has taken its id over.
    Renew(Registration, Phase),
    /// It gets no new work.
    Drain(InstanceId, Guard),
    /// It goes.
    Deregister(InstanceId, Guard),
    /// Nodes of our session that nobody holds go.
    Discard(InstanceId),
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Plan {
    /// It is so already.
    Done(Revision),
    /// It cannot be.
    Refuse(RegistryError),
    /// No node is known; the instance is only shown for the time being. Its owner may have put it back just now, so these
    /// paths are to be looked at first, as they are now.
    Ask(BTreeSet<String>),
    /// There is no node. Show the instance no more.
    Believe,
    /// Hold it no longer: it is somebody else's.
    LetGo,
    /// Write this.
    Write(Deed),
}

/// One transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Deed {
    /// Nodes to delete, with the versions they must have.
    pub(super) delete: Vec<(String, i32)>,
    /// Whether to say that they go on purpose.
    pub(super) farewell: bool,
    /// What to write then.
    pub(super) put: Option<Put>,
    /// Directories that may be empty afterwards.
    pub(super) sweep: BTreeSet<String>,
}

/// One node to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Put {
    /// A new ephemeral one.
    Create(String, Vec<u8>),
    /// One that is there, in the version it must have.
    Change(String, Vec<u8>, i32),
}

/// What a plan is made from, beside the wish.
pub(super) struct Known<'a> {
    pub(super) table: &'a Table,
    pub(super) layout: &'a Layout,
    /// Sessions that were ours.
    pub(super) former: &'a BTreeSet<i64>,
    /// Milliseconds since 1970.
    pub(super) now_ms: u64,
}

impl Wish {
    /// The instance it is about.
    pub(super) fn id(&self) -> &InstanceId {
        match self {
            Self::Register(registration) | Self::Renew(registration, _) => &registration.id,
            Self::Drain(id, _) | Self::Deregister(id, _) | Self::Discard(id) => id,
        }
    }

    /// What will be missed on purpose while it runs.
    pub(super) fn intent(&self) -> Intent {
        match self {
            Self::Register(_) | Self::Renew(..) | Self::Drain(..) => Intent::Keep,
            Self::Deregister(..) | Self::Discard(_) => Intent::Remove,
        }
    }
}

impl Deed {
    /// All paths that are different afterwards.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        let put = self.put.iter().map(|put| match put {
            Put::Create(path, _) | Put::Change(path, ..) => path.as_str(),
        });
        self.delete.iter().map(|(path, _)| path.as_str()).chain(put)
    }
}

impl Known<'_> {
    pub(super) fn plan(&self, wish: &Wish, past: Past) -> Plan {
        match wish {
            Wish::Register(registration) => match self.table.shown(&registration.id) {
                Some(known) if is_stale(registration, known) => {
                    Plan::Refuse(RegistryError::StaleIncarnation { id: registration.id.clone() })
                }
                _ => self.put(registration, Phase::Adult),
            },
            Wish::Renew(registration, phase) => match self.table.winner(&registration.id) {
                Some((_, node)) if !self.is_ours(node) => Plan::LetGo,
                _ => self.put(registration, *phase),
            },
            Wish::Drain(id, guard) => self.guarded(id, guard, |known| self.drain(known)),
            Wish::Deregister(id, _) if past.tried && self.table.shown(id).is_none() => {
                Plan::Done(self.table.last())
            }
            Wish::Deregister(id, guard) => self.guarded(id, guard, |known| {
                let paths = self.table.claims(id).map(|(path, node)| (path.to_owned(), node.version));
                match self.remove(paths.collect()) {
                    Some(deed) => Plan::Write(deed),
                    None if past.asked => Plan::Believe,
                    None => Plan::Ask(self.layout.candidates(&known.registration).into_iter().collect()),
                }
            }),
            Wish::Discard(id) => {
                let ours = self.table.claims(id).filter(|(_, node)| node.session == self.table.session);
                let paths = ours.map(|(path, node)| (path.to_owned(), node.version)).collect();
                self.remove(paths).map_or(Plan::Done(self.table.last()), Plan::Write)
            }
        }
    }

    fn put(&self, registration: &Registration, phase: Phase) -> Plan {
        let id = &registration.id;
        let body = self.layout.body(registration, phase, self.now_ms);
        if body.len() > BODY_LIMIT {
            let (what, length, limit) = ("a node of ZooKeeper", body.len(), BODY_LIMIT);
            return Plan::Refuse(Limit::Text { what, length, limit }.into());
        }
        let candidates = self.layout.candidates(registration);
        let here =
            self.table.claims(id).find(|(path, _)| candidates.iter().any(|candidate| candidate == path));
        let usable =
            |path: &String| self.table.is_free(path) || self.left_by_another(path, registration).is_some();
        let Some(path) =
            here.map(|(path, _)| path.to_owned()).or_else(|| candidates.into_iter().find(usable))
        else {
            let endpoint = &registration.endpoint;
            let taken =
                format!("{endpoint} of {} is taken by too many other instances", registration.service);
            return Plan::Refuse(RegistryError::Unavailable(taken.into()));
        };
        let elsewhere = self.table.claims(id).filter(|(other, _)| *other != path);
        let mut deed = Deed {
            delete: elsewhere.map(|(path, node)| (path.to_owned(), node.version)).collect(),
            ..Deed::default()
        };
        deed.sweep = self.swept(&deed.delete);
        match here {
            Some((_, node)) if node.session == self.table.session => {
                let said = node.said.as_ref();
                let same = said.is_some_and(|said| said.registration == *registration && said.phase == phase);
                if same && deed.delete.is_empty() {
                    let shown = self.table.shown(id);
                    return Plan::Done(shown.map_or(self.table.last(), |instance| instance.modified));
                }
                deed.put = Some(Put::Change(path, body, node.version));
            }
            // It must end with our session, not with another's.
            Some((_, node)) => {
                deed.delete.push((path.clone(), node.version));
                deed.put = Some(Put::Create(path, body));
            }
            None => {
                let another = self.left_by_another(&path, registration);
                deed.delete.extend(another.map(|node| (path.clone(), node.version)));
                deed.put = Some(Put::Create(path, body));
            }
        }
        Plan::Write(deed)
    }

    /// The node at `path` if a program of another kind says the same instance there, like the registrator that we replace:
    /// its session may go on for a while. What was put there to stay is not touched.
    fn left_by_another(&self, path: &str, registration: &Registration) -> Option<&Node> {
        let node = self.table.node(path).filter(|node| node.session != 0)?;
        let said = node.said.as_ref().filter(|said| !said.ours)?;
        (said.registration.protocol == registration.protocol).then_some(node)
    }

    fn drain(&self, known: &Instance) -> Plan {
        if known.phase == Phase::Draining {
            return Plan::Done(known.modified);
        }
        let Some((path, node)) = self.table.winner(known.id()) else {
            let missing = format!("instance {:?} is missing in ZooKeeper for the time being", known.id());
            return Plan::Refuse(RegistryError::Unavailable(missing.into()));
        };
        let body = self.layout.body(&known.registration, Phase::Draining, self.now_ms);
        let put = Some(Put::Change(path.to_owned(), body, node.version));
        Plan::Write(Deed { put, ..Deed::default() })
    }

    fn remove(&self, delete: Vec<(String, i32)>) -> Option<Deed> {
        let sweep = self.swept(&delete);
        (!delete.is_empty()).then_some(Deed { delete, farewell: true, put: None, sweep })
    }

    fn guarded(&self, id: &InstanceId, guard: &Guard, then: impl FnOnce(&Instance) -> Plan) -> Plan {
        let Some(known) = self.table.shown(id) else {
            return Plan::Refuse(RegistryError::UnknownInstance(id.clone()));
        };
        let said = &known.registration;
        match guard {
            Guard::OwnedBy { owner, .. } if *owner != said.owner => {
                Plan::Refuse(RegistryError::NotOwner { id: id.clone(), owner: said.owner.clone() })
            }
            Guard::OwnedBy { incarnation, .. } if *incarnation < said.incarnation => {
                Plan::Refuse(RegistryError::StaleIncarnation { id: id.clone() })
            }
            Guard::OwnedBy { .. } | Guard::Anyone => then(known),
        }
    }

    fn is_ours(&self, node: &Node) -> bool {
        node.session == self.table.session || self.former.contains(&node.session)
    }

    fn swept(&self, delete: &[(String, i32)]) -> BTreeSet<String> {
        let alone = delete.iter().filter(|(path, _)| self.table.is_alone(path));
        alone.map(|(path, _)| super::layout::parent(path).to_owned()).collect()
    }
}

fn is_stale(registration: &Registration, known: &Instance) -> bool {
    let said = &known.registration;
    said.owner == registration.owner && said.incarnation > registration.incarnation
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::layout::{Format, Said};
    use super::super::table::{Found, Sighting};
    use super::*;
    use crate::fixture::instance;
    use portolan_model::{Incarnation, Owner};

    const OURS: i64 = 1;
    const FORMER: i64 = 2;
    const OTHER: i64 = 3;

    fn registration(id: &str, port: u16) -> Registration {
        let mut registration = instance("web", id, 0).registration.clone();
        registration.endpoint.port = port;
        registration
    }

    /// `a` in our session at port 80, `b` in a former one of ours, `c` in another's, `d` at `a`'s endpoint; others wrote
    /// one that ends with their session, and one that stays.
    fn table() -> Table {
        let mut table = Table::new(Duration::ZERO, Duration::ZERO);
        table.session = OURS;
        let rows = [
            ("a", "80", OURS),
            ("b", "81", FORMER),
            ("c", "82", OTHER),
            ("d", "080", OTHER),
            ("web/127.0.0.1:83", "83", OTHER),
            ("web/127.0.0.1:84", "84", 0),
        ];
        let sightings = rows.iter().map(|(id, port, session)| {
            let said = Said {
                registration: registration(id, port.parse().unwrap()),
                phase: Phase::Adult,
                ours: !id.contains('/'),
            };
            let node = Node { said: Some(said), version: 4, session: *session, created: 1, modified: 1 };
            Sighting { path: format!("/web/127.0.0.1:{port}"), found: Found::Here(node) }
        });
        table.fold(sightings.collect(), |_| Intent::None, Duration::ZERO);
        table
    }

    #[track_caller]
    fn check(wish: &Wish, expect: &str) {
        check_after(&table(), wish, Past::default(), expect);
    }

    #[track_caller]
    fn check_after(table: &Table, wish: &Wish, past: Past, expect: &str) {
        let former = [FORMER].into();
        let layout = Layout { base: String::new(), format: Format::Registrator };
        let known = Known { table, layout: &layout, former: &former, now_ms: 0 };
        let got = match known.plan(wish, past) {
            Plan::Done(_) => "done".to_owned(),
            Plan::Refuse(error) => error.to_string(),
            Plan::Ask(paths) => format!("ask {}, {} in all", paths.first().unwrap(), paths.len()),
            Plan::Believe => "believe".to_owned(),
            Plan::LetGo => "let go".to_owned(),
            Plan::Write(deed) => {
                let farewell = if deed.farewell { "farewell " } else { "" };
                let delete: String = deed.delete.iter().map(|(p, v)| format!("delete {p}@{v} ")).collect();
                let put = deed.put.map(|put| match put {
                    Put::Create(path, _) => format!("create {path} "),
                    Put::Change(path, _, version) => format!("change {path}@{version} "),
                });
                let sweep: String = deed.sweep.iter().map(|path| format!("sweep {path} ")).collect();
                format!("{farewell}{delete}{}{sweep}", put.unwrap_or_default()).trim().to_owned()
            }
        };
        assert_eq!(got, expect, "{wish:?}");
    }

    #[test]
    fn registering() {
        let register = |id: &str, port| Wish::Register(registration(id, port));
        check(&register("a", 80), "done");
        check(&register("a", 90), "delete /web/127.0.0.1:80@4 create /web/127.0.0.1:90");
        check(&register("e", 90), "create /web/127.0.0.1:90");
        check(&register("e", 80), "create /web/127.0.0.1:0080");
        check(&register("d", 80), "delete /web/127.0.0.1:080@4 create /web/127.0.0.1:080");
        check(&register("e", 83), "delete /web/127.0.0.1:83@4 create /web/127.0.0.1:83");
        check(&register("e", 84), "create /web/127.0.0.1:084");
        check(&register("c", 82), "delete /web/127.0.0.1:82@4 create /web/127.0.0.1:82");
        let mut heavier = registration("a", 80);
        heavier.weight = portolan_model::Weight(9);
        check(&Wish::Register(heavier), "change /web/127.0.0.1:80@4");
    }

    #[test]
    fn renewing() {
        let renew = |id: &str, port| Wish::Renew(registration(id, port), Phase::Adult);
        check(&renew("a", 80), "done");
        check(&renew("b", 81), "delete /web/127.0.0.1:81@4 create /web/127.0.0.1:81");
        check(&renew("c", 82), "let go");
        check(&renew("e", 90), "create /web/127.0.0.1:90");
    }

    #[test]
    fn draining_and_removing() {
        let id = |text: &str| InstanceId::new(text).unwrap();
        let by =
            |owner: &str| Guard::OwnedBy { owner: Owner::new(owner).unwrap(), incarnation: Incarnation(0) };
        check(&Wish::Drain(id("c"), Guard::Anyone), "change /web/127.0.0.1:82@4");
        check(&Wish::Drain(id("x"), Guard::Anyone), "unknown instance id \"x\"");
        check(&Wish::Deregister(id("c"), by("test")), "farewell delete /web/127.0.0.1:82@4");
        check(&Wish::Deregister(id("c"), by("else")), "instance \"c\" belongs to \"test\"");
        check(&Wish::Deregister(id("x"), Guard::Anyone), "unknown instance id \"x\"");
        check(&Wish::Discard(id("a")), "farewell delete /web/127.0.0.1:80@4");
        check(&Wish::Discard(id("c")), "done");

        // Its session has ended, and it is kept for a while. Its owner may be back before we hear of it.
        let mut table = Table::new(Duration::from_secs(3), Duration::ZERO);
        let said = Said { registration: registration("c", 82), phase: Phase::Adult, ours: true };
        let node = Node { said: Some(said), version: 4, session: OTHER, created: 1, modified: 1 };
        for found in [Found::Here(node), Found::Gone { at: 2, farewell: false }] {
            let sighting = Sighting { path: "/web/127.0.0.1:82".to_owned(), found };
            table.fold(vec![sighting], |_| Intent::None, Duration::ZERO);
        }
        let gone = Wish::Deregister(id("c"), Guard::Anyone);
        let asked = Past { asked: true, ..Past::default() };
        check_after(&table, &gone, Past::default(), "ask /web/127.0.0.1:0000000082, 9 in all");
        check_after(&table, &gone, asked, "believe");
    }
}
