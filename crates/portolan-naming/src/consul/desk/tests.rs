mod elsewhere;

use tokio::sync::oneshot;

use super::*;
use crate::fixture;
use portolan_model::{Guard, Health, Incarnation, Owner, Phase, Registration, Revision};

use super::super::form::Marks;
use super::super::job::Goal;
use super::super::row::Row;

/// A desk with a home on node `n`, and another agent on node `m`.
pub(super) struct Stage {
    pub(super) desk: Desk,
    pub(super) now: Instant,
}

type Reply = oneshot::Receiver<Result<Revision, RegistryError>>;

impl Stage {
    fn new() -> Self {
        let mut stage = Self::of("consul://a,b", "n");
        stage.desk.met(1, "m".to_owned());
        stage
    }

    /// Over our own HTTP API, where there is one book for all.
    fn of_portolan() -> Self {
        Self::of("portolan://a", "")
    }

    fn of(uri: &str, node: &str) -> Self {
        let config = Config::from_uri(uri.parse().unwrap()).unwrap();
        let mut desk = Desk::new(Arc::new(config));
        desk.settle(Home { at: 0, node: node.to_owned(), foreign: None });
        desk.book.fill(1);
        Self { desk, now: Instant::now() }
    }

    pub(super) fn write(&mut self, goal: Goal) -> Reply {
        let (job, reply) = Job::new(said().id, goal, self.now + Duration::from_secs(9));
        self.desk.accept(job);
        reply
    }

    /// What is asked now, by server.
    pub(super) fn asks(&mut self) -> String {
        self.asks_for(|| None)
    }

    /// What is asked now, and fails so.
    pub(super) fn asks_for(&mut self, trouble: impl Fn() -> Option<Trouble>) -> String {
        let acts = self.desk.acts(self.now, 16);
        let mut words: Vec<_> = acts.iter().flat_map(|act| &act.calls).map(word).collect();
        for act in acts {
            let failed = trouble().map(|trouble| (act.calls[0].0, act.calls[0].1.clone(), trouble));
            let done = Done { act, failed, index: Some(20) };
            self.desk.done(&done, self.now);
        }
        for (id, at) in self.desk.letting_go() {
            words.push(format!("{at}:let-go"));
            self.desk.has_let_go(&id, at, trouble().as_ref(), self.now);
        }
        words.join(" ")
    }

    pub(super) fn read(&mut self, index: u64, rows: Vec<Row>) {
        self.desk.take(&said().service, rows.into_iter().map(Arc::new).collect(), index, self.now);
    }
}

pub(super) fn said() -> Registration {
    fixture::instance("web", "a", 1).registration.clone()
}

pub(super) fn row(node: &str, draining: bool, index: u64) -> Row {
    Row {
        node: node.to_owned(),
        service_id: "a".to_owned(),
        registration: said(),
        phase: if draining { Phase::Draining } else { Phase::Adult },
        ours: true,
        alive: Some(Health::Passing),
        word: None,
        marks: Marks { draining, maintenance: false },
        reachable: true,
        unheard: Health::Passing,
        created: index,
        modified: index,
    }
}

/// A registration of this life, as an agent has it.
pub(super) fn held(id: InstanceId) -> Held {
    let Registration { owner, incarnation, .. } = said();
    Held { id, owner, incarnation }
}

fn word((at, call): &(At, Call)) -> String {
    let call = match call {
        Call::Register { .. } => "register",
        Call::Renew { .. } => "renew",
        Call::Say { .. } => "say",
        Call::Mark { marks: Marks { draining: true, .. }, .. } => "drain",
        Call::Mark { .. } => "undrain",
        Call::Drain { .. } => "drain-ours",
        Call::Deregister { .. } => "deregister",
        Call::Forget { .. } => "forget",
        Call::Look { .. } => "look",
    };
    format!("{at}:{call}")
}

pub(super) fn registered() -> Stage {
    let mut stage = Stage::new();
    let mut reply = stage.write(Goal::Register(Box::new(said())));
    assert_eq!(stage.asks(), "0:register");
    assert!(reply.try_recv().is_err(), "not seen yet");
    stage.read(5, vec![row("n", false, 5)]);
    assert_eq!(stage.asks(), "");
    assert_eq!(reply.try_recv().unwrap(), Ok(Revision(5)));
    stage
}

#[test]
fn what_seems_done_is_proven_first() {
    // Somebody else has drained it, and that was not read yet.
    let mut stage = registered();
    let mut reply = stage.write(Goal::Register(Box::new(said())));
    assert_eq!(stage.asks(), "0:look");
    assert_eq!(stage.asks(), "");
    assert!(reply.try_recv().is_err(), "the catalog is at 20, and 5 was read");
    stage.read(20, vec![row("n", true, 18)]);
    assert_eq!(stage.asks(), "0:undrain");
    stage.read(21, vec![row("n", false, 21)]);
    assert_eq!(stage.asks(), "");
    assert_eq!(reply.try_recv().unwrap(), Ok(Revision(21)));
}

#[test]
fn what_is_proven_is_done() {
    let mut stage = registered();
    let mut reply = stage.write(Goal::Register(Box::new(said())));
    assert_eq!(stage.asks(), "0:look");
    stage.read(20, vec![row("n", false, 5)]);
    assert_eq!(stage.asks(), "");
    assert_eq!(reply.try_recv().unwrap(), Ok(Revision(5)));
}

#[test]
fn an_instance_asked_for_by_name_is_proof_and_ends_a_write() {
    let read = |stage: &mut Stage, index, rows: Vec<Row>| {
        let rows = rows.into_iter().map(Arc::new).collect();
        stage.desk.take_of(&said().service, &[said().id].into(), rows, index, stage.now);
    };
    let mut stage = registered();
    let mut reply = stage.write(Goal::Register(said().into()));
    assert_eq!(stage.asks(), "0:look");
    assert!(stage.desk.awaits(&said().id));
    read(&mut stage, 19, vec![row("n", false, 10)]);
    stage.asks();
    assert!(reply.try_recv().is_err(), "what was read is older than the answer");
    read(&mut stage, 20, vec![row("n", false, 10)]);
    stage.asks();
    assert_eq!(reply.try_recv().unwrap(), Ok(Revision(5)));
    assert!(!stage.desk.awaits(&said().id));
    assert_eq!(stage.desk.newest(&said().service), Some(20));

    let mut reply = stage.write(Goal::Deregister(Guard::Anyone));
    assert_eq!(stage.asks(), "0:deregister");
    read(&mut stage, 21, vec![]);
    stage.asks();
    assert_eq!(reply.try_recv().unwrap(), Ok(Revision(6)));
}

#[test]
fn what_is_looked_for_is_what_a_caller_waits_for() {
    let mut stage = registered();
    let act = |call| Act { id: said().id, calls: vec![(0, call)] };
    let registration = act(Call::Register { registration: Box::new(said()), replace: true });
    assert_eq!(stage.desk.looks_for(&registration), None, "it is read sooner or later");
    let _reply = stage.write(Goal::Register(said().into()));
    assert_eq!(stage.desk.looks_for(&registration), Some(&said().service));
    let theirs = Row { service_id: "theirs".to_owned(), ours: false, ..row("m", false, 7) };
    stage.read(7, vec![row("n", false, 5), theirs]);
    assert_eq!(stage.desk.looks_for(&registration), None, "by this name Consul knows not all of it");
}

#[test]
fn a_proof_of_a_history_that_is_over_is_asked_for_again() {
    let mut stage = registered();
    let mut reply = stage.write(Goal::Register(Box::new(said())));
    assert_eq!(stage.asks(), "0:look");
    stage.desk.history_is_over();
    assert_eq!(stage.asks(), "0:look");
    stage.read(20, vec![row("n", false, 5)]);
    assert_eq!(stage.asks(), "");
    assert_eq!(reply.try_recv().unwrap(), Ok(Revision(5)));
}

#[test]
fn a_drain_by_somebody_else_holds() {
    let mut stage = registered();
    stage.read(6, vec![row("n", true, 6)]);
    assert_eq!(stage.asks(), "");
    // Its agent has lost it.
    stage.read(7, vec![]);
    assert_eq!(stage.asks(), "0:register 0:drain");
}

#[test]
fn an_agent_that_no_leader_answers_gets_signs_of_life_only() {
    let mut stage = registered();
    stage.desk.hold(true);
    let mut reply = stage.write(Goal::Deregister(Guard::Anyone));
    assert_eq!(stage.asks(), "");
    stage.desk.hold(false);
    assert_eq!(stage.asks(), "0:deregister", "at once");
    stage.read(6, vec![]);
    stage.asks();
    assert!(reply.try_recv().unwrap().is_ok());
    let mut stage = registered();
    stage.desk.hold(true);
    stage.now += Duration::from_secs(5);
    assert_eq!(stage.asks(), "0:renew");
    // It is gone from the catalog: not told before there is somebody to hand it to.
    stage.read(7, vec![]);
    assert_eq!(stage.asks(), "");
    stage.desk.hold(false);
    assert_eq!(stage.asks(), "0:register");
}

#[test]
fn nothing_is_forgotten_that_could_not_be_asked_yet() {
    // Given up while no leader answers.
    let mut stage = Stage::new();
    let mut reply = stage.write(Goal::Register(Box::new(said())));
    assert_eq!(stage.asks(), "0:register");
    stage.desk.hold(true);
    stage.now += Duration::from_secs(10);
    assert_eq!(stage.asks(), "");
    assert!(reply.try_recv().unwrap().is_err());
    stage.desk.hold(false);
    assert_eq!(stage.asks(), "0:deregister");
    // Taken over meanwhile, by a younger life elsewhere.
    let mut stage = registered();
    stage.desk.hold(true);
    let mut theirs = row("m", false, 6);
    theirs.registration.incarnation = Incarnation(9);
    stage.read(6, vec![row("n", false, 5), theirs]);
    assert_eq!(stage.asks(), "");
    stage.desk.hold(false);
    assert_eq!(stage.asks(), "0:deregister");
}

#[test]
fn what_an_agent_brings_back_is_removed_there() {
    let mut stage = registered();
    stage.desk.settle(Home { at: 1, node: "m".to_owned(), foreign: None });
    assert_eq!(stage.asks(), "1:register");
    stage.desk.back(0, [said().id, InstanceId::new("somebody-else's").unwrap()].map(held), stage.now);
    assert_eq!(stage.asks(), "", "it has to be at its new home first");
    stage.read(7, vec![row("m", false, 7)]);
    assert_eq!(stage.asks(), "0:let-go");
    assert_eq!(stage.asks(), "", "once");
}

#[test]
fn who_says_goodbye_says_it_where_it_was_before_too() {
    let mut stage = registered();
    stage.desk.settle(Home { at: 1, node: "m".to_owned(), foreign: None });
    stage.desk.back(0, [held(said().id)], stage.now);
    assert_eq!(goodbyes(stage), ["1:deregister", "0:deregister"]);
    // One that was left may be back, whether or not there is another since.
    let mut stage = registered();
    stage.desk.unsettle();
    assert_eq!(goodbyes(stage), ["0:deregister"]);
    let mut stage = registered();
    stage.desk.unsettle();
    stage.desk.settle(Home { at: 1, node: "m".to_owned(), foreign: None });
    assert_eq!(goodbyes(stage), ["1:deregister", "0:deregister"]);
}

fn goodbyes(mut stage: Stage) -> Vec<String> {
    stage.desk.farewell().iter().flat_map(|act| &act.calls).map(word).collect()
}

#[test]
fn a_write_that_fails_leaves_nothing() {
    #[track_caller]
    fn check(mut stage: Stage, goal: Goal, asks: &str, then: &str) {
        let mut reply = stage.write(goal);
        assert_eq!(stage.asks(), asks);
        stage.now += Duration::from_secs(10);
        let after = stage.asks();
        assert!(matches!(reply.try_recv().unwrap(), Err(RegistryError::Unavailable(_))));
        assert_eq!(after, then);
    }
    check(Stage::new(), Goal::Register(Box::new(said())), "0:register", "0:deregister");
    // Somebody else's instance stays.
    let mut theirs = Stage::new();
    theirs.read(5, vec![row("n", false, 5)]);
    check(theirs, Goal::Drain(Guard::Anyone), "0:drain", "");
    let mut theirs = Stage::new();
    theirs.read(5, vec![row("n", false, 5)]);
    check(theirs, Goal::Deregister(Guard::Anyone), "0:deregister", "");
    check(registered(), Goal::Deregister(Guard::Anyone), "0:deregister", "0:renew");
}

/// A registration that was sent and given up.
fn given_up(mut stage: Stage) -> Stage {
    let mut reply = stage.write(Goal::Register(Box::new(said())));
    assert_eq!(stage.asks(), "0:register");
    stage.desk.unsettle();
    stage.now += Duration::from_secs(10);
    assert_eq!(stage.asks(), "");
    assert!(matches!(reply.try_recv().unwrap(), Err(RegistryError::Unavailable(_))));
    stage
}

#[test]
fn what_nobody_holds_is_removed_until_it_is_gone() {
    let mut stage = given_up(Stage::new());
    let home = || Home { at: 0, node: "n".to_owned(), foreign: None };
    stage.desk.settle(home());
    assert_eq!(stage.asks_for(|| Some(Trouble::Unreachable("a".to_owned()))), "0:deregister", "once it can");
    stage.now += Duration::from_secs(2);
    let busy = || Some(Trouble::Refused { status: 503, text: String::new() });
    assert_eq!(stage.asks_for(busy), "0:deregister", "it has failed");
    stage.now += Duration::from_secs(3);
    let unknown = || Some(Trouble::Refused { status: 404, text: String::new() });
    assert_eq!(stage.asks_for(unknown), "0:deregister");
    stage.now += Duration::from_secs(9);
    assert_eq!(stage.asks(), "", "nobody knows it");
    // Not what somebody else has put in its place.
    let mut stage = given_up(Stage::new());
    let mut theirs = row("n", false, 6);
    theirs.registration.owner = Owner::new("other").unwrap();
    stage.read(6, vec![theirs]);
    stage.desk.settle(home());
    assert_eq!(stage.asks(), "");
}

#[test]
fn what_portolan_did_although_it_failed_is_removed_once_it_is_seen() {
    let home = || Home { at: 0, node: String::new(), foreign: None };
    let mut stage = given_up(Stage::of_portolan());
    stage.desk.settle(home());
    assert_eq!(stage.asks(), "");
    stage.read(6, vec![row("", false, 6)]);
    assert_eq!(stage.asks(), "0:deregister");
    assert_eq!(stage.asks(), "", "once");
    // What is not there after a long time will not come.
    let mut stage = given_up(Stage::of_portolan());
    stage.desk.settle(home());
    stage.now += Duration::from_secs(3600);
    assert_eq!(stage.asks(), "");
    stage.read(6, vec![row("", false, 6)]);
    assert_eq!(stage.asks(), "");
    // What was there before stays, though this handle did not renew it; and what is somebody else's.
    let mut stage = Stage::of_portolan();
    let mut before = row("", false, 5);
    before.registration.tags = ["before".to_owned()].into();
    stage.read(5, vec![before]);
    let mut stage = given_up(stage);
    stage.desk.settle(home());
    stage.read(6, vec![row("", false, 6)]);
    assert_eq!(stage.asks(), "");
    let mut stage = given_up(Stage::of_portolan());
    stage.desk.settle(home());
    let mut theirs = row("", false, 6);
    theirs.registration.incarnation = Incarnation(9);
    stage.read(6, vec![theirs]);
    assert_eq!(stage.asks(), "");
    // Registered again: it is wanted.
    let mut stage = given_up(Stage::of_portolan());
    stage.desk.settle(home());
    let mut reply = stage.write(Goal::Register(Box::new(said())));
    assert_eq!(stage.asks(), "0:register");
    stage.read(6, vec![row("", false, 6)]);
    assert_eq!(stage.asks(), "");
    assert_eq!(reply.try_recv().unwrap(), Ok(Revision(6)));
}

#[test]
fn a_registration_whose_caller_has_left_is_taken_back() {
    for (mut stage, node) in [(Stage::new(), "n"), (Stage::of_portolan(), "")] {
        let reply = stage.write(Goal::Register(Box::new(said())));
        assert_eq!(stage.asks(), "0:register");
        drop(reply);
        stage.read(5, vec![row(node, false, 5)]);
        assert_eq!(stage.asks(), "0:deregister");
        stage.read(6, vec![]);
        stage.now += Duration::from_secs(30);
        assert_eq!(stage.asks(), "", "nobody wants it");
    }
    // What was registered before is kept, as it was said last.
    let mut stage = registered();
    let mut said = said();
    said.tags = ["new".to_owned()].into();
    let reply = stage.write(Goal::Register(Box::new(said.clone())));
    assert_eq!(stage.asks(), "0:register");
    stage.now += Duration::from_secs(6);
    drop(reply);
    let now = Row { registration: said, ..row("n", false, 7) };
    stage.read(7, vec![now]);
    assert_eq!(stage.asks(), "0:renew");
}

#[test]
fn writes_are_counted() {
    let mut stage = Stage::new();
    let replies: Vec<_> = (0..3).map(|_| stage.write(Goal::Register(Box::new(said())))).collect();
    assert_eq!(stage.desk.waiting(), 3);
    stage.asks();
    stage.read(5, vec![row("n", false, 5)]);
    stage.asks();
    stage.read(20, vec![row("n", false, 5)]);
    stage.asks();
    stage.asks();
    assert_eq!(stage.desk.waiting(), 0);
    replies.into_iter().for_each(|mut reply| assert!(reply.try_recv().unwrap().is_ok()));
}
