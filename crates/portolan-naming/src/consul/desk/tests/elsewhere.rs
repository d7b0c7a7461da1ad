//! What other agents than the home have, and what they bring back.

use super::*;

#[test]
fn a_copy_elsewhere_is_removed_once_it_is_at_home() {
    let mut stage = registered();
    stage.read(6, vec![row("m", false, 6)]);
    assert_eq!(stage.asks(), "0:register");
    stage.read(7, vec![row("m", false, 6), row("n", false, 7)]);
    assert_eq!(stage.asks(), "0:forget");
    stage.read(8, vec![row("n", false, 7)]);
    assert_eq!(stage.asks(), "1:deregister");
    assert_eq!(stage.asks(), "");
    stage.now += FORGETS_AGAIN;
    stage.read(9, vec![Row { reachable: false, ..row("m", false, 9) }, row("n", false, 7)]);
    assert_eq!(stage.asks(), "0:forget");
    stage.read(10, vec![row("n", false, 7)]);
    assert_eq!(stage.asks(), "", "an agent that is away is not asked");
}

#[test]
fn an_agent_that_was_left_is_not_asked_until_it_is_back() {
    let mut stage = registered();
    stage.desk.unsettle();
    stage.desk.settle(Home { at: 1, node: "m".to_owned(), foreign: None });
    assert_eq!(stage.asks(), "1:register");
    let both = || vec![row("n", false, 5), row("m", false, 7)];
    stage.read(7, both());
    assert_eq!(stage.asks(), "1:forget");
    stage.desk.back(0, [held(said().id)]);
    // What it brings back is younger than what is at home, and shown.
    stage.read(9, vec![row("n", false, 9), row("m", false, 7)]);
    assert_eq!(stage.asks(), "", "more may come");
    stage.now += FORGETS_AGAIN;
    assert_eq!(stage.asks(), "1:forget");
    stage.read(10, vec![row("m", false, 7)]);
    assert_eq!(stage.asks(), "0:deregister");
}

#[test]
fn agents_that_take_their_time_hold_up_only_so_many() {
    let mut stage = Stage::new();
    let ids: Vec<_> = (10..30).map(|n| InstanceId::new(n.to_string()).unwrap()).collect();
    let of = |id: &InstanceId| Registration { id: id.clone(), ..said() };
    let at_home =
        |id: &InstanceId| Row { service_id: id.to_string(), registration: of(id), ..row("n", false, 5) };
    let mut rows: Vec<_> = ids.iter().map(at_home).collect();
    let deadline = stage.now + Duration::from_secs(9);
    let register = |id: &InstanceId| {
        let (job, reply) = Job::new(id.clone(), Goal::Register(of(id).into()), deadline);
        stage.desk.accept(job);
        reply
    };
    let _replies: Vec<_> = ids.iter().map(register).collect();
    let registered = stage.desk.acts(stage.now, 64);
    assert_eq!(registered.len(), 20);
    let done = |stage: &mut Stage, act| {
        stage.desk.done(&Done { act, failed: None, index: Some(20) }, stage.now);
    };
    registered.into_iter().for_each(|act| done(&mut stage, act));
    stage.read(5, rows.clone());
    assert_eq!(stage.asks(), "");

    stage.desk.back(1, ids.into_iter().map(held));
    let under_way = stage.desk.acts(stage.now, 16);
    assert_eq!(under_way.len(), ELSEWHERE);
    // There is room for what the home is asked.
    rows[19].registration.health = Health::Critical;
    rows[19].alive = Some(Health::Critical);
    stage.read(6, rows);
    assert_eq!(stage.desk.acts(stage.now, 8).len(), 1);
    let mut told = under_way.len();
    let mut under_way: VecDeque<_> = under_way.into();
    while let Some(act) = under_way.pop_front() {
        done(&mut stage, act);
        let more = stage.desk.acts(stage.now, 8);
        told += more.len();
        assert!(more.len() <= 1);
        under_way.extend(more);
    }
    assert_eq!(told, 19, "and one that is busy");
}

#[test]
fn what_is_only_forgotten_takes_room_for_one_request() {
    let mut stage = Stage::new();
    let ids: Vec<_> = (0..100).map(|n| InstanceId::new(n.to_string()).unwrap()).collect();
    let on = |node: &str, id: &InstanceId| Row {
        service_id: id.to_string(),
        registration: Registration { id: id.clone(), ..said() },
        ..row(node, false, 5)
    };
    let register = |id: &InstanceId| {
        let goal = Goal::Register(on("n", id).registration.into());
        let (job, reply) = Job::new(id.clone(), goal, stage.now + Duration::from_secs(9));
        stage.desk.accept(job);
        reply
    };
    let _replies: Vec<_> = ids.iter().map(register).collect();
    for act in stage.desk.acts(stage.now, 100) {
        stage.desk.done(&Done { act, failed: None, index: Some(4) }, stage.now);
    }
    stage.read(5, ids.iter().map(|id| on("n", id)).collect());
    assert_eq!(stage.asks(), "");
    stage.read(6, ids.iter().flat_map(|id| [on("n", id), on("m", id)]).collect());
    let forgotten = [1, 1].map(|room| {
        let acts = stage.desk.acts(stage.now, room);
        stage.now += FORGETS_AGAIN;
        acts.len()
    });
    assert_eq!(forgotten, [TOGETHER, 100 - TOGETHER]);
}
