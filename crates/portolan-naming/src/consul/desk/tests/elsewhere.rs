//! What other agents than the home have, and what they bring back.

use super::*;

#[test]
fn a_copy_elsewhere_is_removed_once_it_is_at_home() {
    let mut stage = registered();
    stage.read(6, vec![row("m", false, 6)]);
    assert_eq!(stage.asks(), "0:register");
    stage.read(7, vec![row("m", false, 6), row("n", false, 7)]);
    assert_eq!(stage.asks(), "1:let-go");
    assert_eq!(stage.asks(), "0:forget");
    stage.read(8, vec![row("n", false, 7)]);
    assert_eq!(stage.asks(), "");
    stage.now += FORGETS_AGAIN;
    stage.read(9, vec![Row { reachable: false, ..row("m", false, 9) }, row("n", false, 7)]);
    assert_eq!(stage.asks(), "0:forget", "it was told");
}

#[test]
fn what_an_agent_that_is_not_reached_had_is_taken_out_at_once() {
    let mut stage = registered();
    stage.read(6, vec![Row { reachable: false, ..row("m", false, 6) }, row("n", false, 5)]);
    assert_eq!(stage.asks(), "0:forget");
}

/// Registered at `n`, which is left for `m`.
fn moved() -> Stage {
    let mut stage = registered();
    stage.desk.unsettle();
    stage.desk.settle(Home { at: 1, node: "m".to_owned(), foreign: None });
    assert_eq!(stage.asks(), "1:register");
    stage.read(7, vec![row("n", false, 5), row("m", false, 7)]);
    assert_eq!(stage.asks(), "1:forget", "it is not waited for");
    stage.read(8, vec![row("m", false, 7)]);
    assert_eq!(stage.asks(), "");
    stage
}

#[test]
fn an_agent_that_was_left_is_told_as_soon_as_it_lives() {
    let mut stage = moved();
    stage.desk.alive(0, stage.now);
    assert_eq!(stage.asks(), "0:let-go");
    // What it has brought back is younger than what is at home, and shown.
    stage.read(9, vec![row("n", false, 9), row("m", false, 7)]);
    stage.now += FORGETS_AGAIN;
    assert_eq!(stage.asks(), "1:forget");
    stage.read(10, vec![row("m", false, 7)]);
    stage.desk.back(0, [], stage.now);
    stage.now += Duration::from_secs(2);
    assert_eq!(stage.asks(), "");
    assert!(stage.desk.strays.ids().next().is_none());
}

#[test]
fn what_an_agent_brings_back_is_not_taken_out_before_it_was_told() {
    let mut stage = moved();
    stage.desk.alive(0, stage.now);
    assert_eq!(stage.desk.letting_go(), [(said().id, 0)]);
    stage.read(9, vec![row("n", false, 9), row("m", false, 7)]);
    stage.now += FORGETS_AGAIN;
    assert_eq!(stage.asks(), "");
    let failed = || vec![Row { reachable: false, ..row("n", false, 10) }, row("m", false, 7)];
    stage.read(10, failed());
    assert_eq!(stage.asks(), "1:forget", "for long it would not answer");
    stage.read(11, vec![row("n", false, 11), row("m", false, 7)]);
    assert_eq!(stage.asks(), "");
    // But for good that is not waited for.
    stage.now += Duration::from_secs(5);
    assert_eq!([stage.asks(), stage.asks()], ["1:renew", "1:forget"]);
    stage.desk.has_let_go(&said().id, 0, Some(&Trouble::Unreachable("a".to_owned())), stage.now);
    assert_eq!(stage.asks(), "");
    stage.now += Duration::from_secs(1);
    assert_eq!(stage.asks(), "1:forget 0:let-go", "once more");
}

#[test]
fn what_is_not_held_need_not_be_let_go_of() {
    let mut stage = moved();
    stage.desk.unsettle();
    stage.desk.alive(0, stage.now);
    assert_eq!(stage.asks(), "", "it is nowhere else for certain");
    stage.desk.settle(Home { at: 1, node: "m".to_owned(), foreign: None });
    stage.desk.back(0, [], stage.now);
    assert_eq!(stage.asks(), "1:renew");
}

#[test]
fn nothing_is_registered_where_it_is_being_let_go_of() {
    let mut stage = moved();
    stage.desk.alive(0, stage.now);
    assert_eq!(stage.desk.letting_go(), [(said().id, 0)]);
    stage.desk.unsettle();
    stage.desk.settle(Home { at: 0, node: "n".to_owned(), foreign: None });
    assert_eq!(stage.asks(), "");
    stage.desk.has_let_go(&said().id, 0, None, stage.now);
    assert_eq!(stage.asks(), "0:register");
}

/// As many instances at home as there are ids.
fn registered_as(ids: &[InstanceId]) -> Stage {
    let mut stage = Stage::new();
    let register = |id: &InstanceId| {
        let goal = Goal::Register(on("n", id).registration.into());
        let (job, reply) = Job::new(id.clone(), goal, stage.now + Duration::from_secs(9));
        stage.desk.accept(job);
        reply
    };
    let _replies: Vec<_> = ids.iter().map(register).collect();
    for act in stage.desk.acts(stage.now, ids.len()) {
        stage.desk.done(&Done { act, failed: None, index: Some(4) }, stage.now);
    }
    stage.read(5, ids.iter().map(|id| on("n", id)).collect());
    assert_eq!(stage.asks(), "");
    stage
}

fn on(node: &str, id: &InstanceId) -> Row {
    let registration = Registration { id: id.clone(), ..said() };
    Row { service_id: id.to_string(), registration, ..row(node, false, 5) }
}

fn ids(many: u32) -> Vec<InstanceId> {
    (100..100 + many).map(|n| InstanceId::new(n.to_string()).unwrap()).collect()
}

#[test]
fn agents_are_told_of_so_many_at_a_time() {
    let mut stage = registered_as(&ids(100));
    stage.desk.back(1, ids(100).into_iter().map(held), stage.now);
    let mut told = stage.desk.letting_go();
    assert_eq!(told.len(), 64);
    let mut all = 64;
    while let Some((id, at)) = told.pop() {
        stage.desk.has_let_go(&id, at, None, stage.now);
        let more = stage.desk.letting_go();
        assert!(more.len() <= 1);
        all += more.len();
        told.extend(more);
    }
    assert_eq!(all, 100);
}

#[test]
fn what_an_agent_has_is_taken_out_once_it_answers() {
    let mut stage = registered_as(&ids(20));
    stage.desk.back(1, ids(20).into_iter().map(held), stage.now);
    stage.read(6, ids(20).iter().flat_map(|id| [on("n", id), on("m", id)]).collect());
    let told = stage.desk.letting_go();
    let mut forgotten = |(id, at): &(InstanceId, At)| {
        stage.desk.has_let_go(id, *at, None, stage.now);
        stage.now += FORGETS_AGAIN;
        let acts = stage.desk.acts(stage.now, 16);
        assert!(acts.iter().all(Act::forgets));
        acts.len()
    };
    let forgotten: Vec<_> = told[..8].iter().map(&mut forgotten).collect();
    assert_eq!(forgotten, [1, 1, 1, 1, 1, 1, 1, 13], "the last tells that it answers");
}

#[test]
fn agents_that_take_their_time_hold_up_only_so_many() {
    let mut stage = Stage::new();
    let all = ids(20);
    let rows = || all.iter().map(|id| Row { ours: false, ..on("m", id) }).collect();
    stage.read(5, rows());
    let deregister = |id: &InstanceId| {
        let goal = Goal::Deregister(Guard::Anyone);
        let (job, reply) = Job::new(id.clone(), goal, stage.now + Duration::from_secs(9));
        stage.desk.accept(job);
        reply
    };
    let _replies: Vec<_> = all.iter().map(deregister).collect();
    let under_way = stage.desk.acts(stage.now, 16);
    assert_eq!(under_way.len(), ELSEWHERE);
    // There is room for what the home is asked.
    let _reply = stage.write(Goal::Register(said().into()));
    assert_eq!(stage.desk.acts(stage.now, 8).len(), 1);
    let mut told = BTreeSet::new();
    let mut under_way: VecDeque<_> = under_way.into();
    while let Some(act) = under_way.pop_front() {
        told.insert(act.id.clone());
        stage.desk.done(&Done { act, failed: None, index: Some(20) }, stage.now);
        let more = stage.desk.acts(stage.now, 8);
        assert!(more.len() <= 1);
        under_way.extend(more);
    }
    assert_eq!(told.len(), 20);
}

#[test]
fn what_is_only_forgotten_takes_room_for_one_request() {
    let mut stage = registered_as(&ids(100));
    let lost = |id: &InstanceId| Row { reachable: false, ..on("m", id) };
    stage.read(6, ids(100).iter().flat_map(|id| [on("n", id), lost(id)]).collect());
    let forgotten = [1, 1].map(|room| {
        let acts = stage.desk.acts(stage.now, room);
        stage.now += FORGETS_AGAIN;
        acts.len()
    });
    assert_eq!(forgotten, [TOGETHER, 100 - TOGETHER]);
}
