use super::*;
use crate::desired::tests::container;

const TERM: EventKind = EventKind::Killed(Signal(15));
const HUP: EventKind = EventKind::Killed(Signal(1));
const QUIT: EventKind = EventKind::Killed(Signal(3));
const INT: EventKind = EventKind::Killed(Signal(2));
const MARGINS: Margins = Margins { stop: Duration::from_secs(300), signal: Duration::from_secs(5) };

/// One container `web` (stop timeout 10 s) in a world that is told and read step by step.
struct Script {
    world: World,
    id: ContainerId,
}

impl Script {
    /// Listed and read as running since 100.
    fn running() -> Self {
        let id = container("web").id;
        let mut script = Self { world: World::new(MARGINS), id: id.clone() };
        script.world.listed(vec![id]);
        script.read(100);
        script
    }

    fn event(&mut self, kind: EventKind, at: u64, now: u64) {
        self.aged(kind, at, now, 0);
    }

    fn aged(&mut self, kind: EventKind, at: u64, now: u64, age: u64) {
        let event =
            Event { container: self.id.clone(), kind, at: EngineTime(at), age: Duration::from_secs(age) };
        self.world.witness(&event, Duration::from_secs(now));
    }

    #[track_caller]
    fn begin(&mut self) {
        assert_eq!(self.world.begin_read(true).as_ref(), Some(&self.id));
    }

    #[track_caller]
    fn read(&mut self, started: u64) {
        self.begin();
        self.world.read(&self.id, Some(container("web").started(started)), Duration::ZERO);
    }

    #[track_caller]
    fn nothing_to_read(&mut self) {
        assert_eq!(self.world.begin_read(true), None);
    }

    #[track_caller]
    fn is(&self, expect: Option<(Standing, u64)>) {
        let sight = self.world.sight();
        let got = sight.seen.first().map(|seen| (seen.standing, seen.container.life.started_at.0));
        assert_eq!(got, expect);
    }
}

#[test]
fn a_stop_is_known_before_it_can_be_read() {
    let mut script = Script::running();
    script.is(Some((Standing::Serving, 100)));
    script.event(TERM, 110, 1);
    script.nothing_to_read();
    script.is(Some((Standing::Stopping, 100)));
    script.event(EventKind::Died(None), 120, 2);
    script.is(Some((Standing::Stopped, 100)));
    script.begin();
    let mut ended = container("web").started(100);
    ended.life.running = false;
    let id = script.id.clone();
    script.world.read(&id, Some(ended), Duration::ZERO);
    script.is(Some((Standing::Stopped, 100)));
    // A restart of the same container.
    script.event(EventKind::Started, 130, 3);
    script.read(125);
    script.is(Some((Standing::Serving, 125)));
    assert_eq!(script.world.next_due(), None);
}

#[test]
fn other_signals_mean_nothing() {
    let mut script = Script::running();
    script.event(HUP, 110, 1);
    script.event(QUIT, 110, 1);
    script.is(Some((Standing::Serving, 100)));
    // Unless it is the container's stop signal.
    script.event(EventKind::Changed, 110, 1);
    script.begin();
    let id = script.id.clone();
    script.world.read(
        &id,
        Some(Container { stop_signal: Signal(1), ..container("web").started(100) }),
        Duration::ZERO,
    );
    script.event(HUP, 111, 1);
    script.is(Some((Standing::Stopping, 100)));
}

#[test]
fn who_ignores_the_signal_serves_again_after_a_read() {
    let mut script = Script::running();
    script.event(INT, 110, 1);
    // A read within the time it has says nothing about it.
    script.event(EventKind::Changed, 111, 2);
    script.read(100);
    script.is(Some((Standing::Stopping, 100)));
    assert_eq!(script.world.next_due(), Some(Duration::from_secs(1 + 10 + 5)));
    script.world.overdue(Duration::from_secs(15));
    script.nothing_to_read();
    script.world.overdue(Duration::from_secs(16));
    script.is(Some((Standing::Stopping, 100)));
    assert_eq!(script.world.next_due(), None);
    script.read(100);
    script.is(Some((Standing::Serving, 100)));
}

#[test]
fn a_stop_told_again_counts_from_when_it_was() {
    let mut script = Script::running();
    script.aged(INT, 110, 20, 12);
    assert_eq!(script.world.next_due(), Some(Duration::from_secs(8 + 15)));
}

#[test]
fn a_stop_told_again_long_after_it_was_ignored_is_no_stop() {
    let mut script = Script::running();
    script.aged(INT, 110, 20, 15);
    script.is(Some((Standing::Serving, 100)));
    // Told of a container that is not known yet: its first read ends the doubt.
    let mut script = Script::running();
    script.world = World::new(MARGINS);
    script.aged(INT, 110, 20, 15);
    assert_eq!(script.world.next_due(), None, "nobody knows yet how long it may take");
    script.begin();
    let id = script.id.clone();
    script.world.read(&id, Some(container("web").started(100)), Duration::from_secs(20));
    script.is(Some((Standing::Serving, 100)));
}

#[test]
fn a_stop_may_take_longer_than_the_container_says() {
    let mut script = Script::running();
    script.event(TERM, 110, 1);
    // What else it is sent meanwhile, and ignores, changes nothing about that.
    script.event(INT, 111, 2);
    assert_eq!(script.world.next_due(), Some(Duration::from_secs(2 + 10 + 5)));
    script.world.overdue(Duration::from_secs(17));
    script.read(100);
    script.is(Some((Standing::Stopping, 100)));
    assert_eq!(script.world.next_due(), Some(Duration::from_secs(1 + 10 + 300)));
    script.world.overdue(Duration::from_secs(311));
    script.read(100);
    script.is(Some((Standing::Serving, 100)));
}

#[test]
fn a_signal_is_judged_once_the_container_is_read() {
    #[track_caller]
    fn check(stop_signal: u8, expect: Standing) {
        let mut script = Script::running();
        script.world = World::new(MARGINS);
        script.aged(HUP, 110, 120, 90);
        script.aged(QUIT, 111, 120, 80);
        script.begin();
        let web = Container { stop_signal: Signal(stop_signal), ..container("web").started(100) };
        let id = script.id.clone();
        script.world.read(&id, Some(web), Duration::from_secs(120));
        script.is(Some((expect, 100)));
    }
    check(1, Standing::Stopping);
    check(3, Standing::Stopping);
    check(15, Standing::Serving);
}

#[test]
fn a_doubted_stop_told_again_stays_doubted() {
    let mut script = Script::running();
    script.event(INT, 110, 1);
    script.world.overdue(Duration::from_secs(16));
    script.event(INT, 110, 2);
    script.read(100);
    script.is(Some((Standing::Serving, 100)));
}

#[test]
fn late_events_of_an_old_life_do_not_touch_the_new() {
    let mut script = Script::running();
    script.event(EventKind::Started, 205, 1);
    script.read(200);
    script.event(TERM, 150, 2);
    script.event(EventKind::Died(None), 160, 2);
    script.is(Some((Standing::Serving, 200)));
    // The kill is doubted by the end of that life, so it cannot come back to haunt.
    script.read(200);
    assert_eq!(script.world.next_due(), None);
}

#[test]
fn a_read_that_was_overtaken_is_not_the_truth() {
    let mut script = Script::running();
    script.event(EventKind::Changed, 110, 1);
    script.begin();
    script.event(EventKind::Died(None), 120, 2);
    let id = script.id.clone();
    script.world.read(&id, Some(container("web").started(100)), Duration::ZERO);
    script.is(Some((Standing::Stopped, 100)));
    // Overtaken and not found: it may be there again.
    script.begin();
    script.event(EventKind::Started, 130, 3);
    script.world.read(&id, None, Duration::ZERO);
    script.read(125);
    script.is(Some((Standing::Serving, 125)));
}

#[test]
fn a_clock_that_steps_back_heals_by_reading() {
    let mut script = Script::running();
    script.event(TERM, 110, 1);
    script.event(EventKind::Died(None), 111, 2);
    script.event(EventKind::Started, 55, 3);
    script.read(50);
    script.is(Some((Standing::Serving, 50)));
}

#[test]
fn what_is_gone_is_forgotten() {
    let mut script = Script::running();
    let id = script.id.clone();
    script.event(EventKind::Changed, 110, 1);
    script.begin();
    script.world.read(&id, None, Duration::ZERO);
    script.is(None);
    assert!(script.world.sight().whole);
    // An event of a container that nobody has seen: until it is read, something is missing.
    script.event(HUP, 111, 1);
    assert!(!script.world.sight().whole);
    script.begin();
    script.world.read(&id, None, Duration::ZERO);
    assert!(script.world.sight().whole);
}

#[test]
fn a_listing_that_missed_a_start_does_not_remove() {
    let mut script = Script::running();
    script.world.listed(vec![]);
    script.is(Some((Standing::Serving, 100)));
    script.read(100);
    script.is(Some((Standing::Serving, 100)));
    // One that was read as ended is let go.
    script.event(EventKind::Died(None), 110, 1);
    script.begin();
    let mut ended = container("web").started(100);
    ended.life.running = false;
    let id = script.id.clone();
    script.world.read(&id, Some(ended), Duration::ZERO);
    script.world.listed(vec![]);
    script.is(None);
    script.nothing_to_read();
}

#[test]
fn the_engine_gone_is_no_end_and_a_failed_read_is_repeated() {
    let mut script = Script::running();
    script.event(TERM, 110, 1);
    script.event(EventKind::Changed, 110, 1);
    script.begin();
    script.world.interrupted();
    script.is(Some((Standing::Stopping, 100)));
    assert!(!script.world.sight().whole);
    let id = script.id.clone();
    script.world.listed(vec![id.clone()]);
    script.begin();
    script.world.unread(&id);
    script.nothing_to_read();
    assert!(script.world.sight().unreadable.is_empty(), "it may be the engine that goes");
    script.world.retry();
    script.begin();
    script.world.unread(&id);
    assert_eq!(script.world.sight().unreadable, [id]);
    script.world.retry();
    script.read(100);
    assert!(script.world.sight().whole && script.world.sight().unreadable.is_empty());
}

#[test]
fn an_event_jumps_the_routine() {
    let mut world = World::new(MARGINS);
    world.listed(["a", "b", "c"].map(ContainerId::new).into());
    let event = Event {
        container: ContainerId::new("c"),
        kind: EventKind::Changed,
        at: EngineTime(1),
        age: Duration::ZERO,
    };
    world.witness(&event, Duration::ZERO);
    world.witness(&event, Duration::ZERO);
    let next = |world: &mut World, idle| world.begin_read(idle).map(|id| id.as_str().to_owned());
    assert_eq!(next(&mut world, false).as_deref(), Some("c"));
    assert_eq!(next(&mut world, false), None);
    let rest: Vec<_> = std::iter::from_fn(|| next(&mut world, true)).collect();
    assert_eq!(rest, ["a", "b"], "each is begun once");
}

#[test]
fn news_is_told_once() {
    let mut script = Script::running();
    assert!(script.world.news().is_some());
    assert!(script.world.news().is_none());
    script.event(EventKind::Changed, 110, 1);
    script.read(100);
    assert!(script.world.news().is_none(), "it is as it was");
    script.event(TERM, 110, 1);
    assert!(script.world.news().is_some());
}
