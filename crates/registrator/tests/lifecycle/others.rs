//! What others do: an engine and a registry that go and come back, registrators beside this one, a crowd.

use super::*;

/// The same host twice: who is told the same says the same, and who is told otherwise does not fight for ever.
#[tokio::test(start_paused = true)]
async fn two_of_the_same_name_do_not_fight() {
    let first = Running::with_web().await;
    let second = run(&first.engine, &first.registry, config());
    second.reaches(State::Running).await;
    pass(PERIOD * 4).await;
    assert_eq!(first.registry.calls(), ["register H:web:80"], "taken over once");
    first.engine.die("web");
    first.holds(&[]).await;
    second.stop().await;
    first.registry.calls();

    let other_port = Config { ip: "10.0.0.9".parse().unwrap(), ..config() };
    let second = run(&first.engine, &first.registry, other_port);
    first.engine.start(container("web"));
    pass(PERIOD * 20).await;
    let calls = first.registry.calls();
    assert!(calls.len() < 12, "{calls:?}");
    let complaints = [&first, &second].map(|running| running.report().detail);
    let says = |text: &String| text.contains("another registrator:H says otherwise each time");
    assert!(complaints.iter().any(says), "{complaints:?}");
    first.stop().await;
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_engine_goes_and_comes_back() {
    let running = Running::with_web().await;
    running.engine.away(true);
    running.reaches(State::Degraded).await;
    running.engine.die("web");
    running.engine.start(container("shop"));
    pass(Duration::from_secs(600)).await;
    assert!(running.registry.calls().is_empty(), "no knowledge is not absence");
    running.engine.away(false);
    assert!(running.holds(&["H:shop:80 passing adult"]).await <= Duration::from_secs(6));
    running.reaches(State::Running).await;
    // It comes back without having been gone: the stream alone broke.
    running.engine.away(true);
    running.engine.away(false);
    running.engine.start(container("web"));
    running.holds(&["H:shop:80 passing adult", "H:web:80 passing adult"]).await;
    assert_eq!(running.engine.connections(), 3);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_the_engine_was_out_of_sight_is_found_out() {
    let running = Running::with_web().await;
    running.engine.away(true);
    running.engine.kill("web", 15);
    running.engine.away(false);
    running.holds(&["H:web:80 passing draining"]).await;
    running.stop().await;
    // Nor does the next run take it for one that serves.
    let (engine, registry) = (FakeEngine::default(), Recorder::default());
    engine.start(container("web"));
    engine.kill("web", 15);
    let running = run(&engine, &registry, config());
    running.reaches(State::Running).await;
    pass(Duration::from_secs(5)).await;
    assert!(registry.calls().is_empty());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_was_ignored_before_the_start_takes_nothing_out() {
    let (engine, registry) = (FakeEngine::default(), Recorder::default());
    engine.start(container("web"));
    engine.killed("web", 2, Duration::from_secs(90));
    let running = run(&engine, &registry, config());
    assert!(running.holds(&["H:web:80 passing adult"]).await <= AT_ONCE);
    pass(PERIOD * 4).await;
    assert_eq!(registry.calls(), ["register H:web:80"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_went_back_before_the_start_costs_nothing() {
    let (engine, registry) = (FakeEngine::default(), Recorder::default());
    (0..10).for_each(|_| _ = engine.tick());
    engine.start(container("web"));
    let before = run(&engine, &registry, config());
    before.holds(&["H:web:80 passing adult"]).await;
    before.stop().await;
    registry.calls();
    let engine = FakeEngine::default();
    engine.start(container("web"));
    let running = run(&engine, &registry, config());
    running.reaches(State::Running).await;
    pass(Duration::from_secs(1)).await;
    assert_eq!(registry.calls(), ["deregister H:web:80", "register H:web:80"]);
    running.holds(&["H:web:80 passing adult"]).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_registry_fails_and_comes_back() {
    let running = Running::with_web().await;
    running.registry.down.store(true, SeqCst);
    running.engine.start(container("shop"));
    running.engine.die("web");
    running.reaches(State::Degraded).await;
    assert_eq!(running.report().detail, "cannot write to the registry: out of order; 1 instances registered");
    pass(Duration::from_secs(60)).await;
    running.registry.down.store(false, SeqCst);
    assert!(running.holds(&["H:shop:80 passing adult"]).await <= Duration::from_secs(5));
    running.reaches(State::Running).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_address_that_nobody_said_is_looked_up_again() {
    let engine = FakeEngine::default();
    engine.start(container("web"));
    // An address is a name that resolves to itself, without anybody who would have to be asked.
    let named = |name: &str| Config { own_name: Some(name.to_owned()), ..config() };
    let hosts = async |running: &Running| -> Vec<String> {
        let instances = running.registry.instances().await;
        instances.iter().map(|instance| instance.endpoint().host.to_string()).collect()
    };
    let unknown = run(&engine, &Recorder::default(), named("127.0.1.1"));
    unknown.reaches(State::Degraded).await;
    pass(PERIOD * 2).await;
    assert_eq!(hosts(&unknown).await, ["127.0.0.1"]);
    let detail = unknown.report().detail;
    assert!(detail.contains("\"127.0.1.1\"") && detail.ends_with("say -ip"), "{detail}");
    unknown.stop().await;

    let found = run(&engine, &Recorder::default(), named("192.0.2.7"));
    found.reaches(State::Degraded).await;
    pass(PERIOD).await;
    found.reaches(State::Running).await;
    assert_eq!(hosts(&found).await, ["192.0.2.7"]);
    found.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_registrators_do_not_fight() {
    let first = Running::with_web().await;
    let same_ids = Config { owner: Owner::new("second").unwrap(), ..config() };
    let second = run(&first.engine, &first.registry, same_ids);
    second.reaches(State::Degraded).await;
    pass(PERIOD * 3).await;
    assert!(first.registry.calls().is_empty());
    assert_eq!(
        second.report().detail,
        "0 instances registered; 1 not as asked, first: leave H:web:80: it belongs to registrator:H"
    );
    let other_ids = Config::new("I").unwrap();
    let third = run(&first.engine, &first.registry, other_ids);
    third.holds(&["H:web:80 passing adult", "I:web:80 passing adult"]).await;
    // Each removes its own; the second, released, has nothing to say of what has ended.
    first.engine.die("web");
    first.holds(&[]).await;
    let mut calls = first.registry.calls();
    calls.sort();
    assert_eq!(calls, ["deregister H:web:80", "deregister I:web:80", "register I:web:80"]);
    second.reaches(State::Running).await;
    for running in [first, second, third] {
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_taken_id_is_left_and_taken_back_when_released() {
    let running = Running::with_web().await;
    let mut taken = running.registry.instances().await[0].registration.clone();
    taken.owner = Owner::new("operator").unwrap();
    let id = taken.id.clone();
    running.registry.inner.register(taken).await.unwrap();
    running.reaches(State::Degraded).await;
    pass(PERIOD * 2).await;
    running.engine.kill("web", 15);
    pass(PERIOD).await;
    assert!(running.registry.calls().is_empty());
    running.engine.start(container("web"));
    running.registry.inner.deregister(id, Guard::Anyone).await.unwrap();
    pass(AT_ONCE * 2).await;
    assert_eq!(running.registry.calls(), ["register H:web:80"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_removed_behind_its_back_comes_back_at_once() {
    let running = Running::with_web().await;
    let id = InstanceId::new("H:web:80").unwrap();
    running.registry.inner.deregister(id, Guard::Anyone).await.unwrap();
    assert!(running.holds(&["H:web:80 passing adult"]).await <= AT_ONCE);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_slow_read_delays_nobody() {
    let running = Running::with_web().await;
    let _held = running.engine.hold("web");
    running.engine.change("web", |c| c.life.started_at = EngineTime(1));
    running.engine.start(container("shop"));
    assert!(running.holds(&["H:shop:80 passing adult", "H:web:80 passing adult"]).await <= AT_ONCE);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn many_at_once() {
    let running = Running::start().await;
    let names: Vec<String> = (0..300).map(|n| format!("c{n:03}")).collect();
    names.iter().for_each(|name| running.engine.start(container(name)));
    let expect: Vec<String> = names.iter().map(|name| format!("H:{name}:80 passing adult")).collect();
    running.holds(&expect.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(running.registry.calls().len(), 300, "each once");
    running.stop().await;
}
